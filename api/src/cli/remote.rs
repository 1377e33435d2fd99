//! What commands ask: a running server, or a store without one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::opened_store::{OpenedStore, StoreArgs};

/// Where a server is asked if nothing else is said.
const DEFAULT_URL: &str = "http://127.0.0.1:7070";
/// The variable that says otherwise. Unlike a flag it does not exclude flags that name a store.
const URL_VARIABLE: &str = "TIDELAKE_URL";
/// How long a server may be away before a command gives up.
const PATIENCE: Duration = Duration::from_secs(600);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Characters of an answer that an error quotes.
const QUOTED_CHARS: usize = 2000;
/// Longest answer to a write that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Which server and database.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// Address of the server [env: TIDELAKE_URL] [default: http://127.0.0.1:7070]
    #[arg(long)]
    url: Option<String>,
    /// Token, if the server asks for one; better given as the variable
    #[arg(long, env = "TIDELAKE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Database
    #[arg(long, default_value = "default")]
    pub database: String,
}

/// A server, or a store that is read without one.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("place").args(["url", "store", "data_dir"]))]
pub struct SourceArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// A server, or what stands for one.
#[derive(Debug, Clone)]
pub struct Remote {
    http: Client,
    url: String,
    token: Option<String>,
    database: String,
    /// Answers instead of a server.
    opened: Option<Arc<OpenedStore>>,
    /// How long it may be away.
    patience: Duration,
}

/// A line that a server refused.
#[derive(Debug, Clone, Deserialize)]
pub struct RefusedLine {
    /// Its number in the body, from 1; 0 if it is not known.
    #[serde(default)]
    pub line_number: u64,
    /// What is wrong.
    #[serde(default)]
    pub error_message: String,
    /// Its beginning.
    #[serde(default)]
    pub original_line: String,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    data: Vec<RefusedLine>,
}

impl Remote {
    /// Connects when something is sent.
    pub fn new(args: &RemoteArgs) -> anyhow::Result<Self> {
        let given = args
            .url
            .clone()
            .or_else(|| std::env::var(URL_VARIABLE).ok());
        let url = given.unwrap_or_else(|| DEFAULT_URL.to_owned());
        url::Url::parse(&url).with_context(|| format!("invalid --url {url:?}"))?;
        let http = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .context("cannot make a client")?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            token: args.token.clone(),
            database: args.database.clone(),
            opened: None,
            patience: PATIENCE,
        })
    }

    /// The same of a store, if one is named.
    pub fn of(source: &SourceArgs) -> anyhow::Result<Self> {
        let SourceArgs { remote, store } = source;
        if !store.is_named() {
            return Self::new(remote);
        }
        Ok(Self {
            opened: Some(Arc::new(OpenedStore::new(store)?)),
            // Its own token and its own name count.
            ..Self::new(&RemoteArgs {
                url: Some("http://localhost".to_owned()),
                token: None,
                database: remote.database.clone(),
            })?
        })
    }

    /// The same for interactive use: a request that fails is not tried again.
    pub fn impatient(self) -> Self {
        Self {
            patience: Duration::ZERO,
            ..self
        }
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Means another database from now on.
    pub fn set_database(&mut self, name: &str) {
        name.clone_into(&mut self.database);
    }

    /// The answer to a form.
    pub async fn form(&self, path: &str, fields: &[(&str, String)]) -> anyhow::Result<String> {
        let response = self
            .send(|| self.request(path, &[]).form(fields), &|_| ())
            .await?;
        self.whole(response).await
    }

    /// The answer to a request that only reads.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let response = self.send(|| self.begin(Method::GET, path), &|_| ()).await?;
        self.whole(response).await
    }

    /// The database that is meant.
    pub fn database(&self) -> &str {
        &self.database
    }

    fn request(&self, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        self.begin(Method::POST, path).query(query)
    }

    fn begin(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url);
        let request = self
            .http
            .request(method, url)
            .header("x-scope-orgid", &self.database);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Writes a body, and again as long as the server says that it may succeed later. Gives the
    /// lines that were refused.
    pub async fn write(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: Vec<u8>,
        on_wait: &dyn Fn(&str),
    ) -> anyhow::Result<Vec<RefusedLine>> {
        // Remote write is snappy.
        let (encoding, body) = match content_type {
            "application/x-protobuf" => ("snappy", snap::raw::Encoder::new().compress_vec(&body)?),
            _ => (
                "zstd",
                zstd::encode_all(&body[..], 1).context("cannot compress")?,
            ),
        };
        let body = bytes::Bytes::from(body);
        let request = || {
            self.request(path, query)
                .header(CONTENT_TYPE, content_type)
                .header(CONTENT_ENCODING, encoding)
                .body(body.clone())
        };
        let response = self.send(request, on_wait).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Vec::new());
        }
        let text = text_of(response).await;
        let refusal = serde_json::from_str::<Refusal>(&text);
        match refusal {
            Ok(refusal) if status == StatusCode::BAD_REQUEST && !refusal.data.is_empty() => {
                Ok(refusal.data)
            }
            // Remote write has no lines; the rest of the body is kept.
            _ if status == StatusCode::BAD_REQUEST && encoding == "snappy" => {
                Ok(vec![RefusedLine {
                    line_number: 0,
                    error_message: text.chars().take(QUOTED_CHARS).collect(),
                    original_line: String::new(),
                }])
            }
            _ => Err(self.refused(status, &text)),
        }
    }

    /// Asks for an answer that is read as it comes.
    pub async fn query(
        &self,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Response> {
        let request = || {
            let request = self.request(path, query).body(body.clone());
            let add = |request: RequestBuilder, (name, value): &(&str, &str)| {
                request.header(*name, *value)
            };
            headers.iter().fold(request, add)
        };
        let response = self.send(request, &|_| ()).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(status, &text_of(response).await));
        }
        Ok(response)
    }

    /// A whole answer that is no refusal.
    async fn whole(&self, response: Response) -> anyhow::Result<String> {
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(status, &text_of(response).await));
        }
        response.text().await.context("the answer broke off")
    }

    fn refused(&self, status: StatusCode, text: &str) -> anyhow::Error {
        let message = serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|answer| Some(answer.get("error")?.as_str()?.to_owned()));
        let message = message.unwrap_or_else(|| text.trim().to_owned());
        let message: String = message.chars().take(QUOTED_CHARS).collect();
        match (&self.opened, status) {
            (Some(_), StatusCode::FORBIDDEN) => anyhow::anyhow!(
                "a store is only read without a server: to change it, start one and name it with \
                 --url ({message})"
            ),
            (Some(_), _) => anyhow::anyhow!("{message}"),
            (None, _) => anyhow::anyhow!("the server answers {status}: {message}"),
        }
    }

    /// Sends until there is an answer that is not "later".
    async fn send(
        &self,
        request: impl Fn() -> RequestBuilder,
        on_wait: &dyn Fn(&str),
    ) -> anyhow::Result<Response> {
        if let Some(opened) = &self.opened {
            return opened.answer(request().build()?).await;
        }
        let until = Instant::now() + self.patience;
        let mut wait = FIRST_WAIT;
        loop {
            let (reason, asked) = match request().send().await {
                Ok(response) if is_later(response.status()) => {
                    let asked = response.headers().get(RETRY_AFTER);
                    let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
                    let text = text_of(response).await;
                    (text, asked.map(Duration::from_secs))
                }
                Ok(response) => return Ok(response),
                Err(error) if error.is_builder() => return Err(error.into()),
                Err(error) => (format!("{:#}", anyhow::Error::from(error)), None),
            };
            let pause = asked.unwrap_or(wait).min(LONGEST_WAIT);
            if Instant::now() + pause > until {
                let url = &self.url;
                match self.patience.as_secs() / 60 {
                    0 => bail!("{url} does not answer: {reason}"),
                    minutes => bail!("{url} did not take it for {minutes} minutes: {reason}"),
                }
            }
            on_wait(&reason);
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

fn is_later(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// The beginning of an answer.
async fn text_of(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

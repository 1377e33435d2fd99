//! A store without a server, asked as a server is: the requests of commands go to the handlers of
//! HTTP in this process, over a view of the store that changes nothing on it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderValue, Request};
use clap::Args;
use reqwest::Response;
use tidelake_catalog::model::{Permissions, Scope};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::config::{Config, ConfigArgs, StoreLocation};
use crate::http::app::App;
use crate::http::router::router;
use crate::node::view::{self, View};
use crate::service::tokens::{Secret, TokenRequest, create};

/// A view that is older is opened anew for the next request.
const MAX_AGE: Duration = Duration::from_secs(10);
/// The name of the token that requests show; refusals quote it.
const READER: &str = "of a command that only reads a store";

/// A store to read without a server.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Read this store without a server: s3://bucket/prefix or a folder; changes nothing on it
    #[arg(long, conflicts_with = "data_dir")]
    store: Option<String>,
    /// Read the store in this folder without a server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Endpoint of a store of S3 that is not Amazon's
    #[arg(long, env = "TIDELAKE_S3_ENDPOINT", value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Allow an endpoint without TLS
    #[arg(
        long,
        env = "TIDELAKE_S3_ALLOW_HTTP",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    s3_allow_http: Option<bool>,
    /// Read segments only, and no write-ahead logs: what was not flushed yet is left out
    #[arg(long)]
    flushed: bool,
}

impl StoreArgs {
    /// Whether a store is named.
    pub fn is_named(&self) -> bool {
        self.store.is_some() || self.data_dir.is_some()
    }

    /// Whether write-ahead logs are read.
    pub fn with_logs(&self) -> bool {
        !self.flushed
    }

    /// The settings of what reads it.
    pub fn config(&self) -> anyhow::Result<Config> {
        let args = ConfigArgs {
            store: self.store.clone(),
            data_dir: self.data_dir.clone(),
            s3_endpoint: self.s3_endpoint.clone(),
            s3_allow_http: self.s3_allow_http,
            roles: Some("query".to_owned()),
            node: Some("reader".to_owned()),
            // What is allowed hangs on a token.
            auth: Some(true),
            // That of a server has one owner.
            cache_bytes: Some(0),
            ..ConfigArgs::default()
        };
        let config = args.resolve()?;
        if config.store_location()? == StoreLocation::Memory {
            anyhow::bail!("what a server has in memory, only that server can read: use --url");
        }
        Ok(config)
    }
}

/// A store that is opened when something is asked of it.
#[derive(Debug)]
pub struct OpenedStore {
    config: Config,
    with_logs: bool,
    state: Mutex<Option<State>>,
}

#[derive(Clone)]
struct State {
    opened: Instant,
    router: Router,
    token: HeaderValue,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl OpenedStore {
    /// Reads nothing yet.
    pub fn new(args: &StoreArgs) -> anyhow::Result<Self> {
        Ok(Self {
            config: args.config()?,
            with_logs: args.with_logs(),
            state: Mutex::default(),
        })
    }

    /// The answer to a request.
    pub async fn answer(&self, request: reqwest::Request) -> anyhow::Result<Response> {
        let State { router, token, .. } = self.state().await?;
        let request = Request::<reqwest::Body>::try_from(request)?;
        let mut request = request.map(Body::new);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        headers.insert(AUTHORIZATION, token);
        let response = router.oneshot(request).await?;
        Ok(response
            .map(|body| reqwest::Body::wrap_stream(body.into_data_stream()))
            .into())
    }

    /// What answers: opened lately, so that a prompt shows what comes.
    async fn state(&self) -> anyhow::Result<State> {
        let mut state = self.state.lock().await;
        if let Some(state) = state.as_ref()
            && state.opened.elapsed() < MAX_AGE
        {
            return Ok(state.clone());
        }
        let place = self.config.store_location()?;
        let opened = self.open().await;
        let opened = opened.with_context(|| format!("cannot read the store {place}"))?;
        Ok(state.insert(opened).clone())
    }

    async fn open(&self) -> anyhow::Result<State> {
        let opened = Instant::now();
        let app = App::new(self.config.clone());
        let view = view::open(&self.config, &app.service.memory, self.with_logs).await;
        let View { backend, left_out } = view?;
        if left_out > 0 {
            // Nothing is lost with it.
            let _ = writeln!(
                std::io::stderr(),
                "warning: up to {left_out} objects of write-ahead logs are left out, as --flushed \
                 says: rows that are in no segment yet are missing"
            );
        }
        let secret = Secret::random()?;
        let request = TokenRequest {
            name: READER.to_owned(),
            scopes: ["*", "_*"]
                .map(|databases| Scope {
                    databases: databases.into(),
                    permissions: Permissions::READ,
                })
                .to_vec(),
            expires_ms: None,
            replaced: true,
        };
        // Like all that is put from here on, it is in memory only.
        create(backend.catalog(), request, &secret).await?;
        app.service.attach(backend);
        let mut token = HeaderValue::from_str(&format!("Bearer {}", secret.reveal()))?;
        token.set_sensitive(true);
        Ok(State {
            opened,
            router: router(app),
            token,
        })
    }
}

#[cfg(test)]
mod tests;

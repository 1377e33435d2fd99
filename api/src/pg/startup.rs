//! The beginning of a connection: TLS or not, authentication, and the database.

use std::sync::Arc;

use ring::hmac;
use tidelake_catalog::model::Permissions;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Door;
use super::cancel::Registered;
use super::error::{PgError, code};
use super::frontend::{First, Message};
use super::link::{Ended, Link, MAX_STARTUP_BYTES};
use super::scram::{self, Binding, Exchange};
use super::settings::Settings;
use crate::http::tls;
use crate::service::context::{Principal, RequestContext};
use crate::service::database::check_name;

/// Kinds of authentication messages.
const OK: i32 = 0;
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

const DEFAULT_DATABASE: &str = "default";
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client secured its connection with.
#[derive(Debug, Default)]
pub struct Security {
    binding: Option<Binding>,
    /// The name in the client's certificate, if it showed one that was checked.
    name: Option<Arc<str>>,
}

/// A session that may begin.
#[derive(Debug)]
pub struct Started {
    pub context: RequestContext,
    pub user: String,
    pub database: Arc<str>,
    pub settings: Settings,
    pub registered: Registered,
}

/// A stream that may be secured.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Secures a connection if the client asks for it. `None` if no session follows.
pub async fn secure(
    door: &Door,
    stream: TcpStream,
) -> Result<Option<(Link<Box<dyn Stream>>, Security, First)>, Ended> {
    let mut byte = [0; 1];
    let direct = stream.peek(&mut byte).await? > 0 && byte == [TLS_HANDSHAKE];
    if direct {
        return handshake(door, stream, true).await.map(Some);
    }
    let mut link = door.link(stream);
    let mut asked_for_tls = false;
    loop {
        let first = First::decode(link.first().await?);
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                link.close(Some(&error)).await;
                return Ok(None);
            }
        };
        match first {
            First::Tls if door.tls.is_some() && !asked_for_tls => {
                link.out.0.push(b'S');
                link.flush().await?;
                return match link.into_bare() {
                    Ok(stream) => handshake(door, stream, false).await.map(Some),
                    Err(_) => Err(Ended::Closed),
                };
            }
            First::Tls | First::Gss => {
                // A client asks for each once.
                if matches!(first, First::Tls) && std::mem::replace(&mut asked_for_tls, true) {
                    return Err(Ended::Closed);
                }
                link.out.0.push(b'N');
                link.flush().await?;
            }
            First::Cancel { pid, key } => {
                door.cancels.cancel(pid, key);
                return Ok(None);
            }
            First::Startup { .. } if door.tls.is_some() => {
                let error = PgError::fatal(
                    code::UNAUTHENTICATED,
                    "this server takes connections with TLS only",
                )
                .with_hint("Connect with sslmode=require or better.");
                link.close(Some(&error)).await;
                return Ok(None);
            }
            First::Startup { .. } => {
                return Ok(Some((link.boxed(), Security::default(), first)));
            }
        }
    }
}

async fn handshake(
    door: &Door,
    stream: TcpStream,
    is_direct: bool,
) -> Result<(Link<Box<dyn Stream>>, Security, First), Ended> {
    let tls = door.tls.as_ref().ok_or(Ended::Closed)?;
    let (acceptor, certificate) = tls.postgres();
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    // Without a protocol it may be meant for another server (RFC 7301).
    if is_direct && session.alpn_protocol() != Some(tls::POSTGRES_ALPN) {
        return Err(Ended::Closed);
    }
    let own = session
        .peer_certificates()
        .and_then(|certificates| certificates.first());
    let security = Security {
        binding: scram::binding(&certificate),
        name: own.and_then(tls::name_of),
    };
    let mut link = door.link(Box::new(stream) as Box<dyn Stream>);
    let first = match First::decode(link.first().await?) {
        Ok(First::Cancel { pid, key }) => {
            door.cancels.cancel(pid, key);
            return Err(Ended::Closed);
        }
        Ok(first @ First::Startup { .. }) => first,
        Ok(_) => return Err(Ended::Closed),
        Err(error) => {
            link.close(Some(&error)).await;
            return Err(Ended::Closed);
        }
    };
    Ok((link, security, first))
}

/// Authenticates a client and finds its database.
pub async fn begin<S: Stream>(
    door: &Door,
    link: &mut Link<S>,
    security: &Security,
    parameters: Vec<(String, String)>,
    is_newer: bool,
) -> Result<Started, Ended> {
    let mut parameters = parameters;
    let mut take = |name: &str| {
        let at = parameters.iter().position(|(known, _)| known == name)?;
        Some(parameters.swap_remove(at).1)
    };
    let user = take("user").filter(|user| !user.is_empty());
    let Some(user) = user else {
        return Err(PgError::fatal(code::UNAUTHENTICATED, "no user name was given").into());
    };
    let database = take("database").filter(|name| !name.is_empty());
    let options = take("options");
    if take("replication")
        .is_some_and(|value| !["false", "off", "no", "0"].contains(&value.as_str()))
    {
        return Err(PgError::fatal(code::UNSUPPORTED, "replication is not supported").into());
    }
    let unknown: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    if is_newer || !unknown.is_empty() {
        link.out.negotiate_version(&unknown);
    }

    let mut settings = Settings::default();
    let fatal = |error: PgError| error.ending();
    let given = parameters
        .iter()
        .filter(|(name, _)| !name.starts_with("_pq_."));
    for (name, value) in given {
        settings.begin(name, value).map_err(fatal)?;
    }
    for (name, value) in options.iter().flat_map(|options| flags(options)) {
        settings.begin(&name, &value).map_err(fatal)?;
    }

    let principal = authenticate(door, link, security, &user).await?;
    let context = RequestContext::new(principal);
    let database = find_database(door, &context, database, &user).map_err(fatal)?;
    settings.fix("session_authorization", &user);
    settings.fix("database", &database);

    let registered = door.cancels.register()?;
    link.out.authentication(OK, b"");
    for (name, value) in settings.reported() {
        link.out.parameter_status(name, value);
    }
    link.out.key_data(registered.pid, registered.key);
    Ok(Started {
        context,
        user,
        database,
        settings,
        registered,
    })
}

/// Settings that are given as flags: `-c name=value` or `--name=value`.
fn flags(options: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let pair = match word.as_str() {
            "-c" => words.next(),
            _ => word
                .strip_prefix("--")
                .or_else(|| word.strip_prefix("-c"))
                .map(str::to_owned),
        };
        if let Some((name, value)) = pair.as_deref().and_then(|pair| pair.split_once('=')) {
            found.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    found
}

/// Words between spaces; a backslash takes the next character as it is.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The database of a session, which must be there. Without any right to it, a client does not learn
/// whether it is.
fn find_database(
    door: &Door,
    context: &RequestContext,
    asked: Option<String>,
    user: &str,
) -> Result<Arc<str>, PgError> {
    let mut name = asked.unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
    let exists = |name: &str| Ok::<_, PgError>(door.app.service.has_database(name)?);
    // Clients that are told no database ask for one of the user's name.
    if name == user && !exists(&name)? {
        name = DEFAULT_DATABASE.to_owned();
    }
    let missing = |name: &str| {
        let shown: String = name.chars().take(80).collect();
        PgError::new(
            code::NO_DATABASE,
            format!("database {shown:?} does not exist"),
        )
    };
    check_name(&name).map_err(|_| missing(&name))?;
    let any = Permissions::READ | Permissions::WRITE | Permissions::DELETE;
    if !context.may(&name, any) {
        return Err(PgError::new(
            code::FORBIDDEN,
            format!("permission denied for database {name:?}"),
        ));
    }
    // The first rows make the default one.
    match name == DEFAULT_DATABASE || exists(&name)? {
        true => Ok(name.into()),
        false => Err(missing(&name)),
    }
}

async fn authenticate<S: Stream>(
    door: &Door,
    link: &mut Link<S>,
    security: &Security,
    user: &str,
) -> Result<Principal, Ended> {
    let service = &door.app.service;
    if !service.config.auth {
        // So that clients learn early that the server starts.
        service
            .backend()
            .map_err(|error| PgError::from(error).ending())?;
        return Ok(Principal::Anyone);
    }
    if security.name.as_deref() == Some(user) {
        let principal = service.authenticate_name(user);
        return Ok(principal.map_err(|error| PgError::from(error).ending())?);
    }
    let wrong = || {
        PgError::fatal(
            code::WRONG_PASSWORD,
            format!(
                "authentication failed for {user:?}: the user is the name of a token, the \
                 password its secret"
            ),
        )
    };
    let token = service
        .token_named(user)
        .map_err(|error| PgError::from(error).ending())?;
    let verifier = match &token {
        Some(token) => token.scram.clone(),
        None => scram::no_verifier(&door.mock_key, user, ITERATIONS),
    };

    let binding = security.binding.as_ref();
    let mut offered = Vec::new();
    if binding.is_some() {
        offered.extend_from_slice(scram::PLUS.as_bytes());
        offered.push(0);
    }
    offered.extend_from_slice(scram::PLAIN.as_bytes());
    offered.extend_from_slice(&[0, 0]);
    link.out.authentication(SASL, &offered);
    link.flush().await?;
    let first = password(link).await?;
    let (mechanism, first) = initial_response(&first)?;
    let is_bound = mechanism == scram::PLUS;
    if !is_bound && mechanism != scram::PLAIN || is_bound && binding.is_none() {
        return Err(PgError::fatal(
            code::PROTOCOL_VIOLATION,
            "the client chose a mechanism that was not offered",
        )
        .into());
    }
    let exchange = Exchange::begin(first, verifier, &scram::nonce()?, binding, is_bound)?;
    link.out
        .authentication(SASL_CONTINUE, exchange.answer.as_bytes());
    link.flush().await?;
    let last = password(link).await?;
    let answer = exchange.finish(&last)?;
    let (Some(answer), Some(token)) = (answer, token) else {
        return Err(wrong().into());
    };
    let principal = service
        .still_valid(&Principal::Holder(token))
        .map_err(|_| wrong())?;
    link.out.authentication(SASL_FINAL, answer.as_bytes());
    Ok(principal)
}

/// Rounds that a client is told for a name that is not known, as for the others.
const ITERATIONS: u32 = 4096;

async fn password<S: Stream>(link: &mut Link<S>) -> Result<bytes::Bytes, Ended> {
    let (tag, body) = link.message(MAX_STARTUP_BYTES).await?;
    match Message::decode(tag, body)? {
        Message::Password(body) => Ok(body),
        Message::Terminate => Err(Ended::Closed),
        _ => Err(PgError::fatal(code::PROTOCOL_VIOLATION, "expected a step of SASL").into()),
    }
}

/// The mechanism that a client chose, and its first message.
fn initial_response(body: &[u8]) -> Result<(&str, &[u8]), PgError> {
    let malformed = || PgError::fatal(code::PROTOCOL_VIOLATION, "malformed SASL response");
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .ok_or_else(malformed)?;
    let (mechanism, rest) = body.split_at(end);
    let mechanism = std::str::from_utf8(mechanism).map_err(|_| malformed())?;
    // The length of the message, which is what is left.
    let message = rest.get(5..).ok_or_else(malformed)?;
    Ok((mechanism, message))
}

/// A key for the answers to names that no token has.
pub fn mock_key() -> Result<hmac::Key, ring::error::Unspecified> {
    hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let found = flags(r"-c search_path=a\ b --statement-timeout=5s -cTimeZone=UTC -x");
        let expected = [
            ("search_path", "a b"),
            ("statement_timeout", "5s"),
            ("TimeZone", "UTC"),
        ];
        let expected: Vec<(String, String)> = expected
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        assert_eq!(found, expected);
    }

    #[test]
    fn sasl_responses() {
        let (mechanism, message) = initial_response(b"SCRAM-SHA-256\0\0\0\0\x03n,,").unwrap();
        assert_eq!((mechanism, message), ("SCRAM-SHA-256", &b"n,,"[..]));
        for bad in [&b""[..], b"SCRAM", b"SCRAM\0", b"\xff\0\0\0\0\0"] {
            assert!(initial_response(bad).is_err());
        }
    }
}

//! PostgreSQL's protocol, version 3, on a port of its own.
//!
//! In the order in which a connection meets them:
//!
//! 1. this module: the port, within the limits of all connections;
//! 2. `startup`: TLS, authentication (`scram`), and the database;
//! 3. `link`, `frontend`, `backend`: messages in and out, within limits of bytes and time;
//! 4. `session`: what the client prepares, runs and sets. `lexer` cuts its text into statements,
//!    `command` tells those about the session from those that the engine answers, and `settings`
//!    are those of the session;
//! 5. `params`: parameters to values; `running`, `rows`, `copy`: rows to bytes as they come;
//! 6. `cancel`: requests to end what another connection runs; `error`: codes to SQLSTATEs.
//!
//! What never happens here: a statement changes a setting of the server or of another session,
//! reads or writes a file, or runs without a place among the queries.

mod backend;
mod cancel;
mod command;
mod copy;
mod error;
mod frontend;
mod lexer;
mod link;
mod params;
mod rows;
mod running;
mod scram;
mod session;
mod settings;
mod startup;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ring::hmac;
use tidelake_catalog::panics;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::cancel::Cancels;
use self::command::Command;
use self::error::{PgError, code};
use self::frontend::{First, Message};
use self::link::{Ended, Link};
use self::rows::Format;
use self::scram::Exchange;
use self::session::Session;
use self::settings::Settings;
use crate::http::app::App;
use crate::http::connections::Limits;
use crate::http::tls::Tls;
use crate::node::backend::TYPES;

/// A listener that cannot accept, for want of files as a rule, is asked again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest time in which a connection that is turned away takes its answer.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// What all connections share.
pub struct Door {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    cancels: Arc<Cancels>,
    /// Makes the answers to names that no token has.
    mock_key: hmac::Key,
}

impl Door {
    /// A door to the service.
    pub fn new(app: Arc<App>, tls: Option<Arc<Tls>>, limits: Limits) -> anyhow::Result<Arc<Self>> {
        let mock_key = startup::mock_key();
        Ok(Arc::new(Self {
            app,
            tls,
            limits,
            cancels: Arc::default(),
            mock_key: mock_key
                .ok()
                .context("the system gives no random numbers")?,
        }))
    }

    fn link<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Link<S> {
        Link::new(stream, self.limits.write, &self.app.service.memory)
    }
}

/// Accepts connections until it is stopped. Sessions end when their statements have.
pub async fn serve(door: Arc<Door>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = until_stopped(&mut stopped) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = door.app.connections.enter(peer.ip(), &door.limits);
        let (door, stopped) = (Arc::clone(&door), stopped.clone());
        tokio::spawn(async move {
            // A panic is logged where it happens; the connection ends.
            let _ = match place {
                Some(_) => panics::caught(serve_one(door, stream, stopped)).await,
                None => panics::caught(turn_away(door, stream)).await,
            };
            drop(place);
        });
    }
}

/// Waits for the stop.
async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop, too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Tells a client that there is no room, in answer to its first message. With TLS the client could
/// not read it, so that the connection only ends.
async fn turn_away(door: Arc<Door>, stream: TcpStream) {
    if door.tls.is_some() {
        return;
    }
    let answer = async {
        let mut link = door.link(stream);
        // It asks for TLS and for GSSAPI once each.
        for _ in 0..3 {
            match First::decode(link.first().await?)? {
                First::Tls | First::Gss => {
                    link.out.0.push(b'N');
                    link.flush().await?;
                }
                First::Cancel { pid, key } => {
                    door.cancels.cancel(pid, key);
                    break;
                }
                First::Startup { .. } => {
                    let error = PgError::fatal(
                        code::TOO_MANY_CONNECTIONS,
                        "too many connections are open; see max_connections",
                    );
                    link.close(Some(&error)).await;
                    break;
                }
            }
        }
        Ok::<_, Ended>(())
    };
    // In time or not, the connection ends.
    let _ = tokio::time::timeout(REFUSAL_TIME, answer).await;
}

async fn serve_one(door: Arc<Door>, stream: TcpStream, stopped: watch::Receiver<bool>) {
    // Answers are small and must not wait for more bytes to fill a packet.
    let _ = stream.set_nodelay(true);
    let start = async {
        let Some((mut link, security, first)) = startup::secure(&door, stream).await? else {
            return Ok::<_, Ended>(None);
        };
        let First::Startup {
            is_newer,
            parameters,
        } = first
        else {
            return Ok(None);
        };
        match startup::begin(&door, &mut link, &security, parameters, is_newer).await {
            Ok(started) => Ok(Some((link, started))),
            Err(Ended::Told(error)) => {
                link.close(Some(&error.ending())).await;
                Ok(None)
            }
            Err(ended) => Err(ended),
        }
    };
    // A client that does not begin gets no more time than the head of a request.
    match tokio::time::timeout(door.limits.head, start).await {
        Ok(Ok(Some((link, started)))) => {
            Box::pin(Session::new(door, started).run(link, stopped)).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(ended)) => tracing::debug!(?ended, "a connection ended before it began"),
        Err(_) => tracing::debug!("a connection took too long to begin"),
    }
}

/// Reads bytes in all ways in which a client's are read, for fuzzing: as messages, statements,
/// parameters and steps of SCRAM.
pub fn read_any(bytes: &[u8]) {
    let body = bytes::Bytes::copy_from_slice(bytes);
    let _ = First::decode(body.clone());
    let Some((tag, rest)) = bytes.split_first() else {
        return;
    };
    let _ = Message::decode(*tag, body.slice(1..));
    if let Ok(text) = std::str::from_utf8(rest) {
        for range in lexer::statements(text) {
            let _ = Command::parse(text.get(range).unwrap_or_default());
        }
    }
    let zone = Settings::default().zone();
    for of in TYPES.iter().flat_map(|of| [of.oid, of.array_oid]) {
        for format in [Format::Text, Format::Binary] {
            let _ = params::value(of, format, Some(&body), zone);
        }
    }
    let _ = scram::binding(bytes);
    let verifier = scram::no_verifier(&hmac::Key::new(hmac::HMAC_SHA256, b""), "", 1);
    if let Ok(exchange) = Exchange::begin(rest, verifier, "", None, false) {
        let _ = exchange.finish(rest);
    }
}

#[cfg(test)]
mod tests;

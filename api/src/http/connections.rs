//! Connections: accepted within limits, served as HTTP/1.1 or HTTP/2, and ended where nothing
//! happens.
//!
//! A connection waits for a request (`idle_timeout_ms`), receives its head (`head_timeout_ms` from
//! the first byte on) and then belongs to the request, whose body has to make progress
//! (`body_timeout_ms`) and whose answer has to be taken (`write_timeout_ms`).

mod body;
mod io;

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;

use self::body::{Counted, Progressing};
use self::io::TimedReads;
use crate::http::tls::{self, Tls};
use crate::http::write_timeout::TimedWrites;
use crate::node::figures::Figure;

/// A listener that cannot accept, for want of files as a rule, is asked again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// So long a connection that is turned away may take its answer.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// At a stop, connections without a request are looked for so often.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 62\r\n\r\n\
    {\"error\":\"too many connections are open; see max_connections\"}";

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a request begins.
    pub idle: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// In which a body grows.
    pub body: Duration,
    /// In which a client takes something of its answer.
    pub write: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// The same of one address.
    pub per_peer: usize,
}

/// The connections that are open.
#[derive(Debug, Default)]
pub struct Connections {
    peers: Mutex<HashMap<IpAddr, usize>>,
    open: AtomicUsize,
    refused: AtomicU64,
    closed: Notify,
}

impl Connections {
    /// What is to be seen of them.
    pub fn figures(self: &Arc<Self>) -> Vec<Figure> {
        let (open, refused) = (Arc::clone(self), Arc::clone(self));
        vec![
            Figure {
                name: "connections",
                help: "Connections that are open",
                is_counter: false,
                read: Box::new(move || open.open() as f64),
            },
            Figure {
                name: "connections_refused",
                help: "Connections that were closed at once, because too many were open",
                is_counter: true,
                read: Box::new(move || refused.refused.load(Ordering::Relaxed) as f64),
            },
        ]
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Option<Place> {
        let mut peers = self.peers.lock();
        let of_peer = peers.get(&peer).copied().unwrap_or_default();
        if self.open() >= limits.connections || of_peer >= limits.per_peer {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        peers.insert(peer, of_peer + 1);
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            connections: Arc::clone(self),
            peer,
        })
    }

    async fn until_none(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// A connection among those that are open.
pub(crate) struct Place {
    connections: Arc<Connections>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.connections.peers.lock();
        match peers.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(peers.remove(&self.peer)),
        }
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        drop(peers);
        self.connections.closed.notify_waiters();
    }
}

/// What is known of the other end of a connection, with each of its requests.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The name in its certificate, if it showed one that was checked.
    pub name: Option<Arc<str>>,
}

/// What happens on a connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests whose answers are not sent.
    running: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    is_http2: AtomicBool,
}

/// Accepts connections until it is stopped, and returns when all have ended. Those without a
/// request end at once then.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: Limits,
    connections: Arc<Connections>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = until(&mut stopped) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match connections.enter(peer.ip(), &limits) {
            Some(place) => {
                let secured = tls.clone();
                let served = serve_one(stream, secured, router.clone(), limits, stopped.clone());
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            // Without a handshake no client could read a refusal.
            None if tls.is_some() => drop(stream),
            None => drop(tokio::spawn(turn_away(stream))),
        }
    }
    drop(listener);
    connections.until_none().await;
}

/// Waits for the stop.
async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop, too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn turn_away(mut stream: TcpStream) {
    let answer = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    // In time or not, the connection ends.
    let _ = tokio::time::timeout(REFUSAL_TIME, answer).await;
}

async fn serve_one(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: Limits,
    stopped: watch::Receiver<bool>,
) {
    // Acknowledgements are small and must not wait for more bytes to fill a packet.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve_requests(stream, Peer::default(), router, limits, stopped).await;
    };
    // A handshake takes as long as the head of a request may.
    let secured = tokio::time::timeout(limits.head, tls.acceptor().accept(stream));
    match secured.await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let own = certificates.and_then(|certificates| certificates.first());
            let peer = Peer {
                name: own.and_then(tls::name_of),
            };
            // The state of a secured connection is large.
            Box::pin(serve_requests(stream, peer, router, limits, stopped)).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake has failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve_requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let activity = Arc::new(Activity::default());
    let writes = TimedWrites::new(stream, limits.write);
    let io = TimedReads::new(writes, Arc::clone(&activity), limits.idle, limits.head);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None);
    builder.http2().timer(TokioTimer::new());
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: Request<Incoming>| {
            let running = Running::new(&activity, request.version());
            let mut request = request.map(|body| Body::new(Progressing::new(body, limits.body)));
            request.extensions_mut().insert(peer.clone());
            let answer = router.clone().oneshot(request);
            async move {
                let answer = answer.await?;
                Ok::<_, std::convert::Infallible>(answer.map(|body| Counted::new(body, running)))
            }
        })
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = tokio::time::sleep(DRAIN_LOOK) => {
                        if activity.running.load(Ordering::Relaxed) == 0 {
                            break Ok(());
                        }
                    }
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection has ended");
    }
}

/// A request from when its head was received until its answer is sent.
pub(crate) struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>, version: Version) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        activity.requests.fetch_add(1, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            activity.is_http2.store(true, Ordering::Relaxed);
        }
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

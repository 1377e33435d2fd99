//! The composition root: opens the store, puts the parts together, serves, and stops.
//!
//! The port is bound first, so that health checks are answered while the catalog and the
//! write-ahead log are still being read. At the end nothing is left half done: running requests
//! finish (for a bounded time), the buffer is flushed, and what could not be flushed is in the
//! write-ahead log anyway. A process whose node was taken over does none of that: it only says so
//! and ends, because everything on the store belongs to its successor. Nor does one whose
//! write-ahead log ended by a defect: what its memory holds is not to be trusted, and the next
//! start reads the log instead.
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidelake_catalog::background::supervised;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::Config;
use crate::http::app::App;
use crate::http::connections::{self, Limits};
use crate::http::router::router;
use crate::http::tls::Tls;
use crate::node::backend::{Backend, OpenError, WalState};
use crate::node::memory;
use crate::pg;
use crate::service::first_token;

/// The process ended because a newer one owns the node.
const EXIT_FENCED: u8 = 3;
/// The write-ahead log ended by a defect; the next start replays it.
const EXIT_LOG_ENDED: u8 = 4;
/// A second signal ends the process at once, as a shell reports an interrupted program.
const EXIT_IMPATIENT: u8 = 130;
/// So long requests are still answered, all writes with 503, before a process ends that cannot go
/// on: clients that are only cut off do not know what became of their writes.
const LAST_ANSWERS: Duration = Duration::from_millis(300);
/// How long a process that was adopted waits until its log is in segments.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Runs the server until a signal or a takeover; returns the exit code. `give_back` has the
/// allocator return at once what was freed.
pub async fn serve(config: Config, give_back: fn()) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener
        .local_addr()
        .context("cannot find out the address that is listened on")?;
    check_exposure(address, &config)?;
    let pg_listener = bind_pg(&config).await?;
    let app = App::new(config);
    let memory_bytes = memory::memory_bytes(&app.service.config);
    memory::watch(memory_bytes, Arc::clone(&app.service.memory), give_back)
        .context("cannot start the thread that watches memory")?;
    let tls = Tls::open(&app.service.config)?;
    let (stop, mut http) = start_http(listener, tls.clone(), app.clone())?;
    tracing::info!(%address, "listening");
    if let Some(listener) = pg_listener {
        start_pg(listener, tls, &app, stop.subscribe())?;
    }

    tokio::select! {
        opened = open(&app, address) => app.service.attach(opened?),
        () = signals.next() => {
            tracing::info!("stopped before it was ready");
            return Ok(0);
        }
    }
    watch_for_takeover(&app);
    follow_tokens(&app);
    let monitor = monitor_itself(&app);
    tracing::info!("ready");
    greet(address, &app.service.config);

    tokio::select! {
        () = signals.next() => {}
        reason = app.service.until_fenced() => {
            return tokio::select! {
                code = make_way(&app, &reason) => Ok(code),
                () = signals.next() => Ok(EXIT_FENCED),
            };
        }
        () = log_ended(&app) => return Ok(leave_to_restart().await),
        ended = &mut http => bail!("the HTTP server ended by itself: {ended:?}"),
    }
    monitor.abort();
    tokio::select! {
        code = shut_down(&app, stop, http) => code,
        () = signals.next() => Ok(EXIT_IMPATIENT),
    }
}

/// The ingester also notices a takeover when nobody writes.
fn watch_for_takeover(app: &Arc<App>) {
    if let Ok(backend) = app.service.backend() {
        let (service, cluster) = (Arc::clone(app), Arc::clone(backend.cluster()));
        tokio::spawn(async move { service.service.fence(cluster.until_fenced().await) });
        if let Some(ingester) = backend.ingester.clone() {
            let app = Arc::clone(app);
            tokio::spawn(async move { app.service.fence(ingester.fenced().await) });
        }
    }
}

/// Tokens may be revoked by other processes.
fn follow_tokens(app: &Arc<App>) {
    if app.service.config.auth {
        let app = Arc::clone(app);
        tokio::spawn(async move { app.service.follow_tokens().await });
    }
}

/// The server's own metrics become samples, until the stop.
fn monitor_itself(app: &Arc<App>) -> JoinHandle<()> {
    let app = Arc::clone(app);
    tokio::spawn(supervised("self-monitoring", move || {
        let app = Arc::clone(&app);
        async move { app.service.monitor_itself().await }
    }))
}

fn start_http(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    app: Arc<App>,
) -> anyhow::Result<(watch::Sender<bool>, JoinHandle<()>)> {
    let (stop, stopped) = watch::channel(false);
    let limits = connection_limits(&app.service.config)?;
    let connections = Arc::clone(&app.connections);
    if let Some(tls) = tls.clone() {
        tokio::spawn(async move { tls.follow().await });
    }
    let serve = connections::serve(listener, tls, router(app), limits, connections, stopped);
    Ok((stop, tokio::spawn(serve)))
}

/// Where PostgreSQL's protocol is spoken if nothing else is said.
const DEFAULT_PG_LISTEN: &str = "127.0.0.1:5433";

/// Binds the port of PostgreSQL's protocol. The usual one may be taken by another server, which is
/// no reason not to start.
async fn bind_pg(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let asked = config.pg_listen.as_deref();
    let place = asked.unwrap_or(DEFAULT_PG_LISTEN);
    if place.is_empty() {
        return Ok(None);
    }
    match TcpListener::bind(place).await {
        Ok(listener) => {
            check_exposure(listener.local_addr()?, config)?;
            Ok(Some(listener))
        }
        Err(error) if asked.is_none() => {
            tracing::warn!(
                %error,
                place,
                "PostgreSQL's protocol is not spoken: its port cannot be had; see pg_listen"
            );
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {place} (pg_listen)")),
    }
}

fn start_pg(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    app: &Arc<App>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let limits = connection_limits(&app.service.config)?;
    let door = pg::Door::new(Arc::clone(app), tls, limits)?;
    tokio::spawn(pg::serve(door, listener, stopped));
    tracing::info!(%address, "listening for PostgreSQL's protocol");
    Ok(())
}

/// Files that are kept for the store, the log and the caches.
const OTHER_FILES: u64 = 512;

/// What connections may take. As many files may be open as the system lets the process have.
fn connection_limits(config: &Config) -> anyhow::Result<Limits> {
    let files = getrlimit(Resource::Nofile);
    let most = files.maximum.or(files.current);
    let raised = Rlimit {
        current: most,
        maximum: files.maximum,
    };
    // Without it there is what there was.
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => files.current,
    };
    let room = files.map_or(MOST_CONNECTIONS, |files| {
        files
            .saturating_sub(OTHER_FILES)
            .max(files / 2)
            .min(MOST_CONNECTIONS)
    });
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if let Some(wanted) = config.max_connections.filter(|wanted| *wanted > room) {
        bail!(
            "max_connections is {wanted}, but the limit of open files leaves {room}; raise that \
             (ulimit -n) or lower max_connections"
        );
    }
    let connections = config.max_connections.unwrap_or(room);
    let ms = Duration::from_millis;
    Ok(Limits {
        idle: ms(config.idle_timeout_ms),
        head: ms(config.head_timeout_ms),
        body: ms(config.body_timeout_ms),
        write: ms(config.write_timeout_ms),
        connections,
        per_peer: config
            .max_connections_per_peer
            .unwrap_or((connections / 2).max(1)),
    })
}

/// Connections whatever the system allows: each has buffers of some kilobytes.
const MOST_CONNECTIONS: u64 = 20_000;

/// Without tokens, only programs of this machine may reach the server, unless its operator says so.
fn check_exposure(address: SocketAddr, config: &Config) -> anyhow::Result<()> {
    if address.ip().is_loopback() || config.insecure_no_auth {
        return Ok(());
    }
    if config.auth {
        if config.tls_cert.is_none() {
            tracing::warn!(%address, "tokens and data are sent in clear text; see tls_cert");
        }
        return Ok(());
    }
    bail!(
        "{address} can be reached by other machines, which may read, change and \
         delete everything; say --auth and have clients show tokens, or --insecure-no-auth"
    )
}

/// Opens the storage; a store that does not answer is asked again, for it may start later than we
/// do.
async fn open(app: &App, listens: SocketAddr) -> anyhow::Result<Backend> {
    let config = &app.service.config;
    let give_up = Instant::now() + Duration::from_millis(config.startup_timeout_ms);
    let mut pause = FIRST_RETRY;
    let address = advertised(config, listens);
    loop {
        let opened = async {
            let joined = Backend::join(config, &address).await?;
            app.service.join(Arc::clone(&joined.cluster));
            Backend::open(config, &app.service.memory, joined).await
        };
        match opened.await {
            Ok(backend) => {
                if config.auth {
                    first_token::ensure(backend.catalog(), &config.admin_token_path()).await?;
                }
                return Ok(backend);
            }
            Err(OpenError::Fatal(reason)) => bail!(reason),
            Err(OpenError::Transient(reason)) if Instant::now() >= give_up => {
                bail!(
                    "the store did not answer for {} ms: {reason}",
                    config.startup_timeout_ms
                )
            }
            Err(OpenError::Transient(reason)) => {
                tracing::warn!(
                    reason,
                    retry_in_ms = pause.as_millis() as u64,
                    "the store cannot be used yet"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// Where other processes reach this one.
fn advertised(config: &Config, listens: SocketAddr) -> String {
    let address = config.advertise.clone().unwrap_or_else(|| {
        if listens.ip().is_unspecified() {
            // Right for the processes of this machine.
            return format!("127.0.0.1:{}", listens.port());
        }
        listens.to_string()
    });
    match config.tls_cert.is_some() && !address.contains("://") {
        true => format!("https://{address}"),
        false => address,
    }
}

async fn shut_down(
    app: &App,
    stop: watch::Sender<bool>,
    http: JoinHandle<()>,
) -> anyhow::Result<u8> {
    tracing::info!("stopping");
    app.service.running.stop_tails();
    app.service.write_uses().await;
    if let Ok(backend) = app.service.backend() {
        backend.cluster().set_leaving();
        // Others may ask for rows until they are in segments.
        if let Some(ingester) = &backend.ingester {
            ingester.shutdown().await.context(
                "could not flush; all acknowledged points are in the write-ahead log and come \
                 back at the next start",
            )?;
        }
        if backend
            .ingester
            .as_ref()
            .is_some_and(|own| own.has_open_log())
        {
            tracing::warn!(
                "the store did not say whether it has the last object of the write-ahead log: the                  node does not leave, so that others read its log"
            );
        } else if let Err(error) = backend.catalog().leave().await {
            tracing::warn!(%error, "others will notice late that this node has left");
        }
    }
    tracing::info!("no new connections, running requests may finish");
    stop.send_replace(true);
    let patience = Duration::from_millis(app.service.config.shutdown_timeout_ms);
    if tokio::time::timeout(patience, http).await.is_err() {
        tracing::warn!(
            "some requests did not finish in {} ms and are broken off",
            patience.as_millis()
        );
    }
    tracing::info!("stopped");
    Ok(0)
}

/// Returns when the write-ahead log has ended without being closed, which is a defect. Writes are
/// answered 503 from then on.
async fn log_ended(app: &App) {
    let Ok(backend) = app.service.backend() else {
        return std::future::pending().await;
    };
    let Some(ingester) = &backend.ingester else {
        return std::future::pending().await;
    };
    let mut state = ingester.watch_log_state();
    let closed = state.wait_for(|state| matches!(state, WalState::Closed));
    if closed.await.is_err() {
        tracing::error!("the write path is gone");
    }
}

async fn leave_to_restart() -> u8 {
    tracing::error!("the write-ahead log ended by a defect; the process ends");
    let _ = writeln!(
        std::io::stderr(),
        "tidelake: the write-ahead log ended by a defect (see the panic in the log). Nothing more \
         is acknowledged; this process ends without a flush. What was acknowledged is in the \
         write-ahead log: start it again."
    );
    tokio::time::sleep(LAST_ANSWERS).await;
    EXIT_LOG_ENDED
}

/// A process that others took for dead begins anew when they have put its log into segments; one
/// whose node another process has ends.
async fn make_way(app: &App, reason: &str) -> u8 {
    let is_free = match app.service.cluster() {
        Ok(cluster) => cluster.until_adopted(ADOPTION_PATIENCE).await,
        Err(_) => false,
    };
    if is_free {
        tracing::warn!(
            "others took this process for dead and have put its log into segments; it begins anew"
        );
        tokio::time::sleep(LAST_ANSWERS).await;
        let error = begin_anew();
        tracing::error!(%error, "the process cannot begin anew, so it ends");
    }
    leave_to_successor(reason).await
}

/// Runs the program in place of itself. Returns only if that fails.
fn begin_anew() -> std::io::Error {
    use std::os::unix::process::CommandExt;
    match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .exec(),
        Err(error) => error,
    }
}

async fn leave_to_successor(reason: &str) -> u8 {
    let _ = writeln!(
        std::io::stderr(),
        "tidelake: {reason}. Another process took over this node; this one ends and touches \
         nothing."
    );
    tokio::time::sleep(LAST_ANSWERS).await;
    EXIT_FENCED
}

/// Says where everything is, and what to try.
fn greet(address: SocketAddr, config: &Config) {
    let store = config
        .store_location()
        .map_or_else(|e| e.to_string(), |s| s.to_string());
    // Nobody may be listening to stdout, which is no reason to stop.
    let _ = std::io::stdout().write_all(greeting(address, &store, config).as_bytes());
}

fn greeting(address: SocketAddr, store: &str, config: &Config) -> String {
    let host = match address {
        a if a.ip().is_unspecified() => format!("127.0.0.1:{}", a.port()),
        a => a.to_string(),
    };
    let scheme = match config.tls_cert {
        Some(_) => "https",
        None => "http",
    };
    let file = config.admin_token_path();
    let file = std::path::absolute(&file).unwrap_or(file);
    let (tokens, token) = match config.auth {
        true => (
            format!(
                "The first token, which allows everything, is in {}\n",
                file.display()
            ),
            format!(" -H \"Authorization: Bearer $(cat '{}')\"", file.display()),
        ),
        false => (String::new(), String::new()),
    };
    let url = format!("{scheme}://{host}");
    format!(
        "Tidelake {version} listens on {url}\n\
         The data are in {store}\n\
         {tokens}\
         Try:\n\
         \x20 curl -i{token} '{url}/api/v2/write?bucket=default' --data-binary 'cpu,host=a usage=0.5'\n\
         \x20 curl{token} -G '{url}/api/v3/query_sql' -d db=default -d format=pretty --data-urlencode 'q=SELECT * FROM cpu'\n\
         \x20 curl{token} '{url}/api/v1/query?query=cpu_usage'\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next Ctrl-C or SIGTERM.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_log_ends_the_process() {
        let app = App::new(Config::default());
        app.service.attach(Backend::in_memory().await);
        let mut ended = Box::pin(log_ended(&app));
        assert!(futures::poll!(&mut ended).is_pending());
        let backend = app.service.backend().unwrap();
        backend.ingester().unwrap().shutdown().await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .unwrap();
    }

    #[test]
    fn the_greeting_can_be_pasted() {
        let address = "0.0.0.0:7070".parse().unwrap();
        let text = greeting(address, "/srv/data", &Config::default());
        assert!(text.contains("http://127.0.0.1:7070/api/v2/write?bucket=default"));
        assert!(text.contains("The data are in /srv/data"));
        assert_eq!(text.matches("curl").count(), 3);
        assert!(!text.contains("token"));
        let config = Config {
            auth: true,
            tls_cert: Some("c".into()),
            admin_token_file: Some("/run/token".into()),
            ..Config::default()
        };
        let text = greeting(address, "/srv/data", &config);
        let token =
            "-H \"Authorization: Bearer $(cat '/run/token')\" 'https://127.0.0.1:7070/api/v1";
        assert!(text.contains(token), "{text}");
    }
}

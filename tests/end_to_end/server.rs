//! Server processes and the stores they run on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Environment variable with a server's arguments, between unit separators.
pub const ARGUMENTS: &str = "TIDELAKE_TEST_SERVER";

/// A slow machine needs seconds to start a process; this is for those that never come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server keeps its data, and a folder for what the test needs besides.
pub struct Place {
    folder: TempDir,
    store: Vec<String>,
    /// Whether the data outlive the process.
    pub durable: bool,
}

impl Place {
    pub fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = vec!["--data-dir".to_owned(), folder.path().join("db").to_string_lossy().into_owned()];
        Self { folder, store, durable: true }
    }

    pub fn memory() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: vec!["--store".to_owned(), "memory:".to_owned()], durable: false }
    }

    /// An S3 server's bucket with a prefix of its own, if one is there.
    pub fn s3() -> Option<Self> {
        let (Ok(endpoint), Ok(bucket)) = (std::env::var("TIDELAKE_TEST_S3_ENDPOINT"), std::env::var("TIDELAKE_TEST_S3_BUCKET")) else {
            eprintln!("skipped: S3 server not found (TIDELAKE_TEST_S3_ENDPOINT, TIDELAKE_TEST_S3_BUCKET)");
            return None;
        };
        let prefix = format!("s3://{bucket}/test-{:016x}", rand::random::<u64>());
        let store = ["--store", &prefix, "--s3-endpoint", &endpoint, "--s3-allow-http", "true"].map(str::to_owned).to_vec();
        Some(Self { folder: tempfile::tempdir().unwrap(), store, durable: true })
    }

    /// Every kind of store there is.
    pub fn all() -> Vec<Self> {
        [Self::folder(), Self::memory()].into_iter().chain(Self::s3()).collect()
    }

    /// The data of a folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("db")
    }
}

/// A running server; killed when it is dropped.
pub struct Server {
    child: Child,
    pub url: String,
    log: PathBuf,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(place: &Place) -> Self {
        Self::start_with(place, &[]).await
    }

    pub async fn start_with(place: &Place, more: &[&str]) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let mut arguments = vec!["serve".to_owned(), "--listen".to_owned(), listen.clone()];
        arguments.extend(place.store.iter().cloned());
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        let log = place.folder.path().join(format!("{port}.log"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(ARGUMENTS, arguments.join("\u{1f}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { child, url: format!("http://{listen}"), log };
        let began = Instant::now();
        while !reqwest::get(format!("{}/ready", server.url)).await.is_ok_and(|r| r.status().is_success()) {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "not ready ({ended:?}): {}", server.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C; how it ended.
    pub async fn interrupt(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.ended().await
    }

    /// Waits for a server that should end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// All files below a folder, with their paths from it.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

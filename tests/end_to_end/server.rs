//! Servers as processes of their own.
//!
//! The test binary starts itself with the one test `server_process` selected and the command line
//! in a variable, so that `cargo test` needs no other binary to be built first.
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::place::Place;

/// Holds the command line of a server, one argument per line.
const ARGUMENTS: &str = "TIDELAKE_TEST_ARGUMENTS";
/// Longest time for a start, a stop or an exit. On a busy machine they take a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command line that this process was started for, if it was started as a server.
pub fn arguments() -> Option<Vec<OsString>> {
    let lines = std::env::var(ARGUMENTS).ok()?;
    Some(
        std::iter::once("tidelake")
            .chain(lines.lines())
            .map(OsString::from)
            .collect(),
    )
}

fn command(arguments: &[String], log: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this binary"));
    command.args(["--exact", "server_process", "--nocapture"]);
    command.env(ARGUMENTS, arguments.join("\n"));
    // Tests count rows, objects and commits; the one of self-monitoring turns it on.
    command.env("TIDELAKE_SELF_MONITORING_INTERVAL_MS", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(File::create(log).expect("a file for the log"));
    command
}

/// A server process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: NamedTempFile,
    client: Client,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(place: &Place) -> Self {
        Self::start_with(place, &[]).await
    }

    /// The same with more flags.
    pub async fn start_with(place: &Place, flags: &[&str]) -> Self {
        let (child, log) = spawn(place, flags);
        // From here on a panic kills the process.
        let mut server = Self {
            child,
            log,
            client: Client::new(String::new()),
        };
        let stdout = server.child.stdout.take().expect("stdout is piped");
        let url = match tokio::time::timeout(PATIENCE, greeting(stdout)).await {
            Ok(Ok(url)) => url,
            Ok(Err(_)) => panic!("the server ended before it was ready:\n{}", server.log()),
            Err(_) => panic!(
                "the server was not ready in {PATIENCE:?}:\n{}",
                server.log()
            ),
        };
        server.client = Client::new(url);
        server.client.get("/ready", &[]).await.expect(200);
        server
    }

    /// Sends requests to this server; may outlive it.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("the log is there")
    }

    /// SIGKILL: nothing can be done about it.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process that can be killed");
        self.child.wait().expect("its status");
    }

    /// Sends a signal by its name, such as `INT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status()
            .expect("the program kill");
        assert!(sent.success(), "signal {name} could not be sent");
    }

    /// Waits for the process to end by itself; returns its exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status.code();
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the server did not end in {PATIENCE:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ctrl-C, and a clean end.
    pub async fn stop(&mut self) {
        self.signal("INT");
        assert_eq!(self.exit_code().await, Some(0), "{}", self.log());
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
    }
}

fn spawn(place: &Place, flags: &[&str]) -> (Child, NamedTempFile) {
    let mut arguments = place.flags();
    arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let log = NamedTempFile::new().expect("a file for the log");
    let child = command(&arguments, log.path())
        .spawn()
        .expect("this binary starts");
    (child, log)
}

/// Starts a server and kills it after so long, most likely while it reads the catalog or the
/// write-ahead log.
pub async fn start_and_kill(place: &Place, after: Duration) {
    let (mut child, _log) = spawn(place, &[]);
    tokio::time::sleep(after).await;
    child.kill().expect("a process that can be killed");
    child.wait().expect("its status");
}

/// The URL in the greeting that a server prints when it is ready; an error if its output ends
/// before.
fn greeting(stdout: ChildStdout) -> oneshot::Receiver<String> {
    let (found, url) = oneshot::channel();
    // Reads to the end, so that the server never waits for a full pipe.
    std::thread::spawn(move || {
        let mut found = Some(found);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some((_, url)) = line.split_once("listens on ")
                && let Some(found) = found.take()
            {
                let _ = found.send(url.trim().to_owned());
            }
        }
    });
    url
}

/// The standard output of a command that ends by itself, such as `catalog dump`.
pub fn run(words: &[&str], place: &Place) -> String {
    let (code, out) = finish(words, place);
    assert_eq!(code, Some(0), "{words:?}: {out}");
    out
}

/// Exit code and standard output of such a command; what it logged follows.
pub fn finish(words: &[&str], place: &Place) -> (Option<i32>, String) {
    let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    arguments.extend(place.flags());
    finish_command(&arguments)
}

/// The same of a command that asks a running server.
pub fn finish_client(words: &[&str]) -> (Option<i32>, String) {
    let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    finish_command(&arguments)
}

fn finish_command(arguments: &[String]) -> (Option<i32>, String) {
    let log = NamedTempFile::new().expect("a file for the log");
    let mut child = command(arguments, log.path())
        .spawn()
        .expect("this binary starts");
    let mut out = String::new();
    child
        .stdout
        .take()
        .expect("stdout is piped")
        .read_to_string(&mut out)
        .expect("its output is text");
    let status = child.wait().expect("its status");
    if !status.success() {
        out.push_str(&std::fs::read_to_string(log.path()).unwrap_or_default());
    }
    (status.code(), out)
}

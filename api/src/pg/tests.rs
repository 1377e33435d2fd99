//! Sessions as clients see them, message by message, over rows in memory.

use std::sync::Arc;
use std::time::Duration;

use tidelake_catalog::model::{Permissions, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::*;
use crate::config::Config;
use crate::node::backend::{Backend, ContentEncoding, Precision, Protocol, WriteRequest};
use crate::service::context::{Principal, RequestContext};
use crate::service::slots::Language;
use crate::service::tokens::TokenRequest;

const WRITE_TIMEOUT: Duration = Duration::from_millis(200);

struct Server {
    door: Arc<Door>,
    stop: watch::Sender<bool>,
}

impl Server {
    async fn new(config: Config) -> Self {
        let app = App::new(config);
        app.service.attach(Backend::in_memory().await);
        let lines: String = (0..1000)
            .map(|n| format!("cpu,host=h{n} v={n}i {n}\n"))
            .collect();
        for database in ["default", "other"] {
            let request = WriteRequest {
                database: database.to_owned(),
                protocol: Protocol::LineProtocol {
                    precision: Precision::Nanosecond,
                },
                encoding: ContentEncoding::Identity,
                accept_partial: false,
                body: lines.clone().into(),
            };
            app.service.backend().unwrap().write(request).await.unwrap();
        }
        let second = Duration::from_secs(1);
        let limits = Limits {
            idle: 60 * second,
            head: second,
            body: second,
            write: WRITE_TIMEOUT,
            connections: 10,
            per_peer: 10,
        };
        Self {
            door: Door::new(app, None, limits).unwrap(),
            stop: watch::channel(false).0,
        }
    }

    /// A session with a context.
    async fn client_of(&self, context: RequestContext) -> Client {
        let (io, client) = tokio::io::duplex(1 << 16);
        let started = startup::Started {
            user: context.principal().name().to_owned(),
            context,
            database: "default".into(),
            settings: Settings::default(),
            registered: self.door.cancels.register().unwrap(),
        };
        let session = Session::new(Arc::clone(&self.door), started);
        tokio::spawn(session.run(self.door.link(io), self.stop.subscribe()));
        let mut client = Client(client);
        assert_eq!(client.until_ready().await, "I");
        client
    }

    async fn client(&self) -> Client {
        self.client_of(RequestContext::new(Principal::Anyone)).await
    }

    /// A token and what it may do.
    async fn token(&self, name: &str, databases: &str, permissions: Permissions) -> RequestContext {
        let server = RequestContext::new(Principal::Anyone).server().unwrap();
        let request = TokenRequest {
            name: name.to_owned(),
            scopes: vec![Scope {
                databases: databases.into(),
                permissions,
            }],
            expires_ms: None,
            replaced: false,
        };
        let made = self
            .door
            .app
            .service
            .create_token(&server, request)
            .await
            .unwrap();
        RequestContext::new(Principal::Holder(made.0))
    }
}

/// The other end of a session.
struct Client(DuplexStream);

/// What is told of a message in these tests.
fn told(tag: u8, body: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', " ");
    let field = |kind: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        fields
            .find(|field| field.first() == Some(&kind))
            .map(|field| text(&field[1..]))
    };
    match tag {
        b'Z' => text(body),
        b'C' => text(body).trim().to_owned(),
        b'E' => format!("E{}", field(b'C').unwrap_or_default()),
        b'D' => {
            let (mut cells, mut rest) = (Vec::new(), &body[2..]);
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let length = i32::from_be_bytes(*length);
                let (cell, after) = after.split_at(usize::try_from(length).unwrap_or(0));
                cells.push(if length < 0 {
                    "-".to_owned()
                } else {
                    text(cell)
                });
                rest = after;
            }
            format!("({})", cells.join(","))
        }
        tag => char::from(tag).to_string(),
    }
}

impl Client {
    async fn send(&mut self, tag: u8, body: &[u8]) {
        self.0.write_u8(tag).await.unwrap();
        self.0.write_i32(4 + body.len() as i32).await.unwrap();
        self.0.write_all(body).await.unwrap();
    }

    async fn message(&mut self) -> (u8, Vec<u8>) {
        let tag = self.0.read_u8().await.unwrap();
        let mut body = vec![0; self.0.read_i32().await.unwrap() as usize - 4];
        self.0.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    /// What comes until the session is ready.
    async fn until_ready(&mut self) -> String {
        let mut all = Vec::new();
        loop {
            let (tag, body) = self.message().await;
            all.push(told(tag, &body));
            if tag == b'Z' {
                return all.join(" ");
            }
        }
    }

    async fn query(&mut self, sql: &str) -> String {
        self.send(b'Q', format!("{sql}\0").as_bytes()).await;
        self.until_ready().await
    }

    async fn parse(&mut self, name: &str, sql: &str) {
        self.send(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
            .await;
    }

    async fn bind(&mut self, portal: &str, statement: &str, values: &[&str]) {
        let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
        body.extend_from_slice(&(values.len() as i16).to_be_bytes());
        for value in values {
            body.extend_from_slice(&(value.len() as i32).to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&[0, 0]);
        self.send(b'B', &body).await;
    }

    async fn execute(&mut self, portal: &str, rows: i32) {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend_from_slice(&rows.to_be_bytes());
        self.send(b'E', &body).await;
    }

    async fn sync(&mut self) -> String {
        self.send(b'S', b"").await;
        self.until_ready().await
    }
}

#[tokio::test]
async fn statements_are_answered_in_their_order() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    assert_eq!(
        client.query("SELECT 1; SELECT 'a', NULL").await,
        "T (1) SELECT 1 T (a,-) SELECT 1 I"
    );
    assert_eq!(client.query(" -- ping").await, "I I");
    assert_eq!(
        client.query("SELECT 1; SELEC 2; SELECT 3").await,
        "T (1) SELECT 1 E42601 I"
    );
    assert_eq!(
        client.query("BEGIN; SELECT 1").await,
        "BEGIN T (1) SELECT 1 T"
    );
    assert_eq!(client.query("SELECT nothing FROM cpu").await, "E42703 E");
    assert_eq!(client.query("SELECT 1").await, "E25P02 E");
    assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
    assert_eq!(client.query("SELECT * FROM nothing").await, "E42P01 I");
    assert_eq!(
        client.query("SELECT v FROM cpu WHERE v / 0 = 1").await,
        "E22000 I"
    );
    assert_eq!(
        client.query("COPY (SELECT 1) TO STDOUT").await,
        "H d c COPY 1 I"
    );
    assert_eq!(
        client
            .query("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;")
            .await,
        "T () SELECT 1 CLOSE CURSOR ALL UNLISTEN RESET I"
    );
}

#[tokio::test]
async fn portals_give_rows_as_they_are_asked_for() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    client
        .parse("s", "SELECT v FROM cpu WHERE v < $1 ORDER BY v")
        .await;
    client.send(b'D', b"Ss\0").await;
    client.bind("p", "s", &["3"]).await;
    client.execute("p", 2).await;
    client.execute("p", 2).await;
    client.execute("p", 2).await;
    assert_eq!(
        client.sync().await,
        "1 t T 2 (0) (1) s (2) SELECT 1 SELECT 0 I"
    );
    // The end of what was no transaction has ended the portal.
    client.execute("p", 2).await;
    assert_eq!(client.sync().await, "E34000 I");
    client.bind("", "s", &["x"]).await;
    client.execute("", 0).await;
    client.parse("void", "SELECT 1").await;
    assert_eq!(client.sync().await, "E22P02 I");
    client.bind("", "void", &[]).await;
    assert_eq!(client.sync().await, "E26000 I");
    client.bind("", "s", &[]).await;
    assert_eq!(client.sync().await, "E08P01 I");
    client.parse("s", "SELECT 1").await;
    assert_eq!(client.sync().await, "E42P05 I");
    client.send(b'C', b"Ss\0").await;
    client.parse("s", "SELECT 1; SELECT 2").await;
    assert_eq!(client.sync().await, "3 E42601 I");
    client.parse("", "SHOW server_encoding;").await;
    client.bind("", "", &[]).await;
    client.execute("", 0).await;
    assert_eq!(client.sync().await, "1 2 (UTF8) SHOW I");
    client.parse("", " ; -- nothing").await;
    client.bind("", "", &[]).await;
    client.send(b'D', b"P\0").await;
    client.execute("", 0).await;
    assert_eq!(client.sync().await, "1 2 n I I");
}

#[tokio::test]
async fn cursors_are_of_a_transaction_and_lose_queries_that_are_left() {
    let server = Server::new(Config::default()).await;
    let slots = Arc::clone(&server.door.app.service.slots);
    let mut client = server.client().await;
    let declare = "DECLARE c CURSOR FOR SELECT v FROM cpu ORDER BY v";
    assert_eq!(client.query(declare).await, "E25P01 I");
    client.query("BEGIN").await;
    assert_eq!(client.query(declare).await, "DECLARE CURSOR T");
    assert_eq!(client.query("FETCH 2 FROM c").await, "T (0) (1) FETCH 2 T");
    assert_eq!(
        client.query("MOVE 5 FROM c; FETCH c").await,
        "MOVE 5 T (7) FETCH 1 T"
    );
    assert_eq!(slots.running(), 1);
    assert_eq!(client.query("CLOSE c").await, "CLOSE CURSOR T");
    assert_eq!(slots.running(), 0);
    client.query(declare).await;
    tokio::time::sleep(3 * WRITE_TIMEOUT).await;
    assert_eq!(slots.running(), 0);
    assert_eq!(client.query("FETCH c").await, "E57014 E");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    // Few may be open at a time.
    client.query("BEGIN").await;
    for n in 0..4 {
        let sql = format!("DECLARE c{n} CURSOR FOR SELECT v FROM cpu");
        assert_eq!(client.query(&sql).await, "DECLARE CURSOR T");
    }
    assert_eq!(
        client
            .query("DECLARE c4 CURSOR FOR SELECT v FROM cpu")
            .await,
        "E53400 E"
    );
    assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
    assert_eq!(slots.running(), 0);
}

#[tokio::test]
async fn what_a_session_keeps_has_a_limit() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    // Each has a type for each of its parameters.
    for n in 0..5 {
        client.parse(&format!("s{n}"), "SELECT $65535").await;
        client.send(b'D', format!("Ss{n}\0").as_bytes()).await;
    }
    let answer = client.sync().await;
    assert!(answer.ends_with("E54000 I"), "{answer}");
    assert_eq!(client.query("DEALLOCATE ALL").await, "DEALLOCATE ALL I");
    // What a statement answers is forgotten for others.
    let wide = vec!["1"; 300].join(",");
    for n in 0..60 {
        client
            .parse(&format!("s{n}"), &format!("SELECT {wide}"))
            .await;
        client.send(b'D', format!("Ss{n}\0").as_bytes()).await;
    }
    let answer = client.sync().await;
    assert_eq!(answer, format!("{}I", "1 t T ".repeat(60)));
    // A portal keeps its statement.
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    for n in 0..20 {
        client.parse("long", &long).await;
        client.bind(&format!("p{n}"), "long", &[]).await;
        client.send(b'C', b"Slong\0").await;
    }
    let answer = client.sync().await;
    assert!(answer.ends_with("E54000 I"), "{answer}");
}

#[tokio::test]
async fn memory_of_statements_is_counted_once_and_given_back() {
    let server = Server::new(Config::default()).await;
    let memory = Arc::clone(&server.door.app.service.memory);
    let before = memory.used();
    let mut client = server.client().await;
    client.query("BEGIN").await;
    let long = format!("SELECT '{}'", "x".repeat(100_000));
    for name in ["a", "b"] {
        client.parse(name, &long).await;
    }
    client.send(b'C', b"Sa\0").await;
    assert_eq!(client.sync().await, "1 1 3 T");
    let held = memory.used() - before;
    assert!((100_000..150_000).contains(&held), "{held}");
    client.send(b'C', b"Sb\0").await;
    assert_eq!(client.sync().await, "3 T");
    assert_eq!(memory.used(), before);
}

#[tokio::test]
async fn a_failed_transaction_gives_no_more_rows() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    client.query("BEGIN").await;
    client.parse("s", "SELECT v FROM cpu ORDER BY v").await;
    client.bind("p", "s", &[]).await;
    client.execute("p", 1).await;
    assert_eq!(client.sync().await, "1 2 (0) s T");
    assert_eq!(client.query("SELECT nothing FROM cpu").await, "E42703 E");
    client.execute("p", 1).await;
    assert_eq!(client.sync().await, "E25P02 E");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
}

#[tokio::test]
async fn a_table_is_a_statement() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    assert_eq!(
        client.query("TABLE cpu ORDER BY v LIMIT 1").await,
        "T (h0,1970-01-01 00:00:00,0) SELECT 1 I"
    );
    assert_eq!(
        client.query("COPY (table cpu) TO STDOUT").await,
        format!("H {}c COPY 1000 I", "d ".repeat(1000))
    );
}

/// The places of errors, as characters of the whole text.
#[tokio::test]
async fn errors_have_places() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    for (sql, expected) in [
        ("SELECT 1; SELECT 'é', v +* FROM cpu", Some("26")),
        ("SELECT v,\n nothing FROM cpu", Some("12")),
        ("SELECT 1 WHERE \"no thing\" = 2", Some("16")),
        ("COPY (SELECT v +* FROM cpu) TO STDOUT", Some("17")),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT v +* FROM cpu",
            Some("42"),
        ),
        ("SELECT * FROM nothing", None),
    ] {
        client.send(b'Q', format!("{sql}\0").as_bytes()).await;
        let place = loop {
            let (tag, body) = client.message().await;
            if tag == b'E' {
                let mut fields = body.split(|byte| *byte == 0);
                let place = fields.find(|field| field.first() == Some(&b'P'));
                break place.map(|place| String::from_utf8(place[1..].to_vec()).unwrap());
            }
        };
        assert_eq!(place.as_deref(), expected, "{sql}");
        client.until_ready().await;
    }
}

/// Whatever a statement is, it has a right, a place and a deadline.
const READING: [&str; 6] = [
    "SELECT count(*) FROM cpu",
    "EXPLAIN ANALYZE SELECT count(*) FROM cpu",
    "COPY cpu TO STDOUT",
    "COPY (SELECT v FROM cpu) TO STDOUT",
    "DECLARE c CURSOR WITH HOLD FOR SELECT v FROM cpu",
    "SELECT relname FROM pg_class",
];
const CHANGING: [&str; 5] = [
    "DELETE FROM cpu",
    "DROP TABLE cpu",
    "DROP DATABASE default",
    "ALTER TABLE cpu SET (retention = '1d')",
    "ALTER DATABASE default SET (retention = '1d')",
];

#[tokio::test]
async fn rights_are_those_of_the_token() {
    let config = Config {
        auth: true,
        ..Config::default()
    };
    let server = Server::new(config).await;
    let context = server.token("elsewhere", "other", Permissions::ADMIN).await;
    let mut client = server.client_of(context).await;
    for sql in READING.into_iter().chain(CHANGING) {
        assert_eq!(client.query(sql).await, "E42501 I", "{sql}");
        client.parse("", sql).await;
        client.send(b'D', b"S\0").await;
        client.bind("", "", &[]).await;
        client.execute("", 0).await;
        let answer = client.sync().await;
        assert!(answer.ends_with("E42501 I"), "{sql}: {answer}");
    }
    let mut reader = server
        .client_of(server.token("r", "default", Permissions::READ).await)
        .await;
    for sql in CHANGING {
        assert_eq!(reader.query(sql).await, "E42501 I", "{sql}");
    }
    assert_eq!(
        reader.query("SELECT count(*) FROM cpu").await,
        "T (1000) SELECT 1 I"
    );
    assert_eq!(
        reader.query("SELECT count(*) FROM other.public.cpu").await,
        "E42P01 I"
    );
    assert_eq!(
        reader.query("SELECT datname FROM pg_database").await,
        "T (default) SELECT 1 I"
    );
    // A token that is revoked ends its connections at their next statement.
    let admin = RequestContext::new(Principal::Anyone).server().unwrap();
    server
        .door
        .app
        .service
        .revoke_token(&admin, "r")
        .await
        .unwrap();
    reader.send(b'Q', b"SELECT 1\0").await;
    let (tag, body) = reader.message().await;
    assert_eq!(told(tag, &body), "E28000");
    assert!(reader.0.read_u8().await.is_err());
}

#[tokio::test]
async fn every_statement_needs_a_place_and_ends_in_time() {
    let config = Config {
        max_concurrent_queries: 1,
        query_queue_ms: 20,
        ..Config::default()
    };
    let server = Server::new(config).await;
    let mut client = server.client().await;
    let slots = Arc::clone(&server.door.app.service.slots);
    let held = slots.enter(Language::Sql).await.unwrap();
    for sql in READING {
        assert_eq!(client.query(sql).await, "E57P03 I", "{sql}");
        client.parse("", sql).await;
        client.bind("", "", &[]).await;
        client.execute("", 0).await;
        assert_eq!(client.sync().await, "1 2 E57P03 I", "{sql}");
    }
    // To be described is to be planned.
    client.parse("", "SELECT v FROM cpu WHERE v > $1").await;
    client.send(b'D', b"S\0").await;
    assert_eq!(client.sync().await, "1 E57P03 I");
    drop(held);
    let long = "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b";
    client.query("SET statement_timeout = '50ms'").await;
    assert_eq!(client.query(long).await, "E57014 I");
    assert_eq!(client.query("RESET statement_timeout").await, "RESET I");
    // What computes notices it where it next pauses.
    while slots.running() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.query("SELECT 1").await, "T (1) SELECT 1 I");
    // A request to cancel.
    client.send(b'Q', format!("{long}\0").as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The number and the secret are known to the session only: ask all.
    for (pid, key) in server.door.cancels.all() {
        server.door.cancels.cancel(pid, key);
    }
    assert_eq!(client.until_ready().await, "E57014 I");
}

#[tokio::test]
async fn settings_are_those_of_one_session() {
    let server = Server::new(Config::default()).await;
    let (mut one, mut other) = (server.client().await, server.client().await);
    assert_eq!(one.query("SET TimeZone = 'Asia/Tokyo'").await, "S SET I");
    let shown = "SHOW timezone; SELECT '2026-01-01 00:00:00Z'::timestamptz";
    assert_eq!(
        one.query(shown).await,
        "T (Asia/Tokyo) SHOW T (2026-01-01 09:00:00+09) SELECT 1 I"
    );
    assert_eq!(
        other.query(shown).await,
        "T (UTC) SHOW T (2026-01-01 00:00:00+00) SELECT 1 I"
    );
    assert_eq!(
        one.query("SELECT set_config('work_mem', '1MB', false)")
            .await,
        "T (1MB) SELECT 1 I"
    );
    assert_eq!(one.query("SHOW work_mem").await, "T (1MB) SHOW I");
    assert_eq!(other.query("SHOW work_mem").await, "T (4MB) SHOW I");
    assert_eq!(
        one.query("SET search_path = metrics; SELECT v FROM cpu")
            .await,
        "SET E42P01 I"
    );
    for sql in [
        "SET datafusion.execution.batch_size = 1",
        "SET query_timeout_ms = 1",
        "SET server_version = '99'",
        "ALTER SYSTEM SET x = 1",
        "SET ROLE other",
        "SELECT set_config('server_version', '99', false)",
    ] {
        let answer = one.query(sql).await;
        // What has a dot is kept for the client and does nothing.
        assert!(
            answer.starts_with('E') || sql.contains('.') && answer == "SET I",
            "{sql}: {answer}"
        );
    }
    assert_eq!(
        one.query("DISCARD ALL; SHOW timezone").await,
        "S DISCARD ALL T (UTC) SHOW I"
    );
}

#[tokio::test]
async fn no_file_can_be_named() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    for sql in [
        "COPY cpu TO '/tmp/x'",
        "COPY cpu TO PROGRAM 'sh'",
        "COPY cpu FROM '/etc/passwd'",
        "COPY cpu FROM STDIN",
        "COPY (COPY cpu TO '/tmp/x') TO STDOUT",
        "COPY (CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd') TO STDOUT",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "DECLARE c CURSOR WITH HOLD FOR COPY cpu TO '/tmp/x'",
        "EXPLAIN COPY cpu TO '/tmp/x'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "LOAD '/tmp/x.so'",
        "INSERT INTO cpu VALUES (1)",
        "CREATE TABLE x (a int)",
        "DO $$ BEGIN END $$",
    ] {
        let answer = client.query(sql).await;
        assert!(
            answer.starts_with('E') && answer.ends_with(" I"),
            "{sql}: {answer}"
        );
        assert!(!answer.starts_with("EXX"), "{sql}: {answer}");
    }
}

#[tokio::test]
async fn a_stop_ends_idle_sessions() {
    let server = Server::new(Config::default()).await;
    let mut client = server.client().await;
    server.stop.send_replace(true);
    let (tag, body) = client.message().await;
    assert_eq!(told(tag, &body), "E57P01");
}

//! Who may do what: every path of the router with every kind of token. A path without a row fails.
use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Response, Version};
use tidelake_catalog::model::{Permissions, Scope};
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::http::error;
use crate::node::backend::Backend;
use crate::service::tokens::{Secret, TokenRequest, create};

/// What a path wants of the database `a`, or of the server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Needs {
    /// Nothing, not even a token.
    Nothing,
    /// A token, whatever it allows.
    Token,
    Read,
    Write,
    Delete,
    /// To administer the database.
    Admin,
    /// The metrics of the server.
    Internal,
    /// Everything in all databases.
    Server,
    /// What only processes of the same store have; no token is enough.
    Secret,
}

/// Tokens by what they allow.
const TOKENS: [(&str, &str, Permissions); 7] = [
    ("read", "a", Permissions::READ),
    ("write", "a", Permissions::WRITE),
    ("delete", "a", Permissions::DELETE),
    ("admin", "a", Permissions::ADMIN),
    ("other", "b*", Permissions::ADMIN),
    ("internal", "_internal", Permissions::READ),
    ("server", "*", Permissions::ADMIN),
];

impl Needs {
    fn is_met_by(self, token: &str) -> bool {
        match self {
            Needs::Nothing | Needs::Token => true,
            Needs::Read => ["read", "admin", "server"].contains(&token),
            Needs::Write => ["write", "admin", "server"].contains(&token),
            Needs::Delete => ["delete", "admin", "server"].contains(&token),
            Needs::Admin => ["admin", "server"].contains(&token),
            Needs::Internal => ["internal", "server"].contains(&token),
            Needs::Server => token == "server",
            Needs::Secret => false,
        }
    }
}

/// Method, path as the router has it, what stands after it, a body, and what is needed.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Needs,
);

/// Paths below a database.
const OF_A_DATABASE: [Row; 40] = [
    ("GET", "/api/v1/status/limits", "", "", Needs::Server),
    ("GET", "/api/v1/query", "?query=up", "", Needs::Read),
    ("POST", "/api/v1/query", "?query=up", "", Needs::Read),
    (
        "GET",
        "/api/v1/query_range",
        "?query=up&start=0&end=1&step=1",
        "",
        Needs::Read,
    ),
    ("GET", "/api/v1/explain", "?query=up", "", Needs::Read),
    ("GET", "/api/v1/labels", "", "", Needs::Read),
    ("GET", "/api/v1/label/{name}/values", "", "", Needs::Read),
    ("GET", "/api/v1/series", "?match[]=up", "", Needs::Read),
    ("GET", "/api/v1/metadata", "", "", Needs::Read),
    (
        "GET",
        "/api/v1/query_exemplars",
        "?query=up",
        "",
        Needs::Read,
    ),
    ("POST", "/api/v1/read", "", "", Needs::Read),
    ("GET", "/api/v1/format_query", "?query=up", "", Needs::Token),
    ("GET", "/api/v1/parse_query", "?query=up", "", Needs::Token),
    ("GET", "/api/v1/status/buildinfo", "", "", Needs::Token),
    ("GET", "/api/v1/status/config", "", "", Needs::Server),
    ("GET", "/api/v1/status/flags", "", "", Needs::Server),
    ("GET", "/api/v1/status/runtimeinfo", "", "", Needs::Read),
    ("GET", "/api/v1/status/tsdb", "", "", Needs::Read),
    ("GET", "/api/v1/status/segments", "", "", Needs::Read),
    ("GET", "/api/v1/tail", "", "", Needs::Read),
    ("GET", "/api/v1/rules", "", "", Needs::Read),
    ("GET", "/api/v1/alerts", "", "", Needs::Token),
    ("GET", "/api/v1/alertmanagers", "", "", Needs::Token),
    ("GET", "/api/v1/scrape_pools", "", "", Needs::Token),
    ("GET", "/api/v1/targets", "", "", Needs::Token),
    ("GET", "/api/v1/targets/metadata", "", "", Needs::Token),
    ("GET", "/api/v1/notifications", "", "", Needs::Token),
    ("GET", "/api/v1/write", "", "", Needs::Write),
    ("POST", "/api/v1/write", "", "", Needs::Write),
    ("POST", "/api/v1/import/prometheus", "", "x 1", Needs::Write),
    ("PUT", "/metrics/job/{*group}", "", "x 1\n", Needs::Write),
    ("POST", "/metrics/job/{*group}", "", "x 1\n", Needs::Write),
    ("DELETE", "/metrics/job/{*group}", "", "", Needs::Write),
    (
        "POST",
        "/metrics/job@base64/{*group}",
        "",
        "x 1\n",
        Needs::Write,
    ),
    ("POST", "/api/v1/import/collectd", "", "", Needs::Write),
    ("POST", "/v1/metrics", "", "", Needs::Write),
    ("POST", "/api/v1/otlp/v1/metrics", "", "", Needs::Write),
    (
        "POST",
        "/api/v1/admin/tsdb/delete_series",
        "?match[]=up",
        "",
        Needs::Delete,
    ),
    (
        "PUT",
        "/api/v1/admin/tsdb/delete_series",
        "?match[]=up",
        "",
        Needs::Delete,
    ),
    (
        "POST",
        "/api/v1/admin/tsdb/clean_tombstones",
        "",
        "",
        Needs::Server,
    ),
];

const INTERVAL: &str = r#"{"start": "2026-01-01T00:00:00Z", "stop": "2026-01-02T00:00:00Z"}"#;
const TABLE: &str = r#"{"db": "a", "table": "t2", "tags": ["x"], "fields": []}"#;

const FLIGHT: &str = "/arrow.flight.protocol.FlightService/";

/// A field of a message of protobuf; messages of rows are text.
fn field(number: u8, content: &str) -> String {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128);
    format!("{}{}{content}", (number << 3 | 2) as char, length as char)
}

/// Methods of gRPC, with a message each.
fn of_grpc() -> Vec<Row> {
    let any = |name: &str, content: &str| {
        let url = format!("type.googleapis.com/arrow.flight.protocol.sql.{name}");
        field(1, &url) + &field(2, content)
    };
    let cmd = |command: &str| format!("\x08\x02{}", field(2, command));
    let action = |kind: &str, command: &str| field(1, kind) + &field(2, command);
    let query = field(1, "SELECT 1");
    let delete = field(1, "DELETE FROM t WHERE time < '1970'");
    let drop = field(1, "DROP TABLE nothing");
    let table_types = any("CommandGetTableTypes", "");
    let tables = any("CommandGetTables", "");
    let (update, select) = ("CommandStatementUpdate", "CommandStatementQuery");
    let prepare = any("ActionCreatePreparedStatementRequest", &query);
    let rows = [
        ("Handshake", String::new(), Needs::Token),
        ("ListFlights", String::new(), Needs::Token),
        ("GetFlightInfo", cmd(&table_types), Needs::Token),
        ("GetFlightInfo", cmd(&any(select, &query)), Needs::Read),
        ("PollFlightInfo", String::new(), Needs::Token),
        ("GetSchema", cmd(&any(select, &query)), Needs::Read),
        (
            "DoGet",
            field(1, r#"{"sql_query": "SELECT 1"}"#),
            Needs::Read,
        ),
        ("DoGet", field(1, &table_types), Needs::Token),
        ("DoGet", field(1, &tables), Needs::Read),
        // Of another database than the metadata say.
        (
            "DoGet",
            field(1, r#"{"database": "a", "sql_query": "SELECT 1"}"#),
            Needs::Read,
        ),
        (
            "DoPut",
            field(1, &cmd(&any(update, &delete))),
            Needs::Delete,
        ),
        ("DoPut", field(1, &cmd(&any(update, &drop))), Needs::Admin),
        ("DoExchange", String::new(), Needs::Token),
        (
            "DoAction",
            action("CreatePreparedStatement", &prepare),
            Needs::Read,
        ),
        (
            "DoAction",
            action("ClosePreparedStatement", ""),
            Needs::Token,
        ),
        ("ListActions", String::new(), Needs::Token),
    ];
    let row = |(method, message, needs): (&str, String, Needs)| -> Row {
        let path = format!("{FLIGHT}{method}").leak();
        ("gRPC", path, "", message.leak(), needs)
    };
    let otlp = (
        "gRPC",
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        "",
        "",
        Needs::Write,
    );
    rows.into_iter().map(row).chain([otlp]).collect()
}

const OTHERS: [Row; 75] = [
    ("GET", "/query", "?db=a&q=SHOW+SERIES", "", Needs::Read),
    ("GET", "/query", "?q=SHOW+DATABASES", "", Needs::Token),
    ("POST", "/query", "?db=a&q=DELETE+FROM+t", "", Needs::Delete),
    (
        "POST",
        "/query",
        "?q=CREATE+RETENTION+POLICY+p+ON+a+DURATION+1d+REPLICATION+1",
        "",
        Needs::Admin,
    ),
    ("gRPC", "/nothing.Service/Method", "", "", Needs::Token),
    ("GET", "/api/v3/configure/limits", "", "", Needs::Server),
    ("PUT", "/api/v3/configure/limits", "", "{}", Needs::Server),
    ("GET", "/health", "", "", Needs::Nothing),
    ("GET", "/ready", "", "", Needs::Nothing),
    ("GET", "/-/healthy", "", "", Needs::Nothing),
    ("GET", "/-/ready", "", "", Needs::Nothing),
    ("GET", "/ping", "", "", Needs::Nothing),
    ("POST", "/write", "?db=a", "t x=1 1", Needs::Write),
    (
        "POST",
        "/api/v2/write",
        "?bucket=a",
        "t x=1 1",
        Needs::Write,
    ),
    ("POST", "/api/v3/write_lp", "?db=a", "t x=1 1", Needs::Write),
    (
        "POST",
        "/api/v2/delete",
        "?bucket=a",
        INTERVAL,
        Needs::Delete,
    ),
    (
        "GET",
        "/api/v3/query_influxql",
        "?db=a&q=SHOW+SERIES",
        "",
        Needs::Read,
    ),
    (
        "POST",
        "/api/v3/query_influxql",
        "",
        r#"{"db": "a", "q": "SELECT * FROM t"}"#,
        Needs::Read,
    ),
    (
        "GET",
        "/api/v3/query_influxql",
        "?q=SHOW+DATABASES",
        "",
        Needs::Token,
    ),
    (
        "GET",
        "/api/v3/query_sql",
        "?db=a&q=SELECT+1",
        "",
        Needs::Read,
    ),
    (
        "POST",
        "/api/v3/query_sql",
        "",
        r#"{"db": "a", "q": "SELECT 1"}"#,
        Needs::Read,
    ),
    (
        "POST",
        "/api/v3/query_sql",
        "",
        r#"{"db": "a", "q": "DELETE FROM t WHERE time < '1970-01-01'"}"#,
        Needs::Delete,
    ),
    (
        "POST",
        "/api/v3/query_sql",
        "",
        r#"{"db": "a", "q": "DROP TABLE nothing"}"#,
        Needs::Admin,
    ),
    (
        "POST",
        "/api/v3/query_sql",
        "",
        r#"{"db": "b", "q": "DROP DATABASE a2"}"#,
        Needs::Server,
    ),
    (
        "POST",
        "/api/v3/query_sql",
        "",
        r#"{"db": "a", "q": "ALTER TABLE t SET (retention = '1d')"}"#,
        Needs::Admin,
    ),
    (
        "GET",
        "/api/v3/configure/database",
        "?format=json",
        "",
        Needs::Token,
    ),
    (
        "POST",
        "/api/v3/configure/database",
        "",
        r#"{"db": "a"}"#,
        Needs::Admin,
    ),
    (
        "PUT",
        "/api/v3/configure/database",
        "",
        r#"{"db": "a"}"#,
        Needs::Admin,
    ),
    (
        "DELETE",
        "/api/v3/configure/database",
        "?db=a&hard_delete_at=never",
        "",
        Needs::Admin,
    ),
    (
        "GET",
        "/api/v3/configure/table",
        "?db=a&format=json",
        "",
        Needs::Read,
    ),
    ("POST", "/api/v3/configure/table", "", TABLE, Needs::Admin),
    (
        "PUT",
        "/api/v3/configure/table",
        "",
        r#"{"db": "a", "table": "t"}"#,
        Needs::Admin,
    ),
    (
        "DELETE",
        "/api/v3/configure/table",
        "?db=a&table=none",
        "",
        Needs::Admin,
    ),
    (
        "DELETE",
        "/api/v3/configure/table",
        "?db=a&table=none&data_only=true",
        "",
        Needs::Delete,
    ),
    ("GET", "/api/v3/configure/token", "", "", Needs::Server),
    (
        "DELETE",
        "/api/v3/configure/token",
        "?token_name=none",
        "",
        Needs::Server,
    ),
    (
        "POST",
        "/api/v3/configure/token/admin",
        "",
        "",
        Needs::Server,
    ),
    (
        "POST",
        "/api/v3/configure/token/admin/regenerate",
        "",
        "",
        Needs::Server,
    ),
    (
        "POST",
        "/api/v3/configure/token/named_admin",
        "",
        "{}",
        Needs::Server,
    ),
    (
        "POST",
        "/api/v3/enterprise/configure/token",
        "",
        "{}",
        Needs::Server,
    ),
    ("GET", "/api/v2/orgs", "", "", Needs::Token),
    ("GET", "/api/v2/buckets", "", "", Needs::Token),
    (
        "POST",
        "/api/v2/buckets",
        "",
        r#"{"name": "a"}"#,
        Needs::Admin,
    ),
    // Of what may not be known nothing is found.
    ("GET", "/api/v2/buckets/{id}", "", "", Needs::Token),
    ("PATCH", "/api/v2/buckets/{id}", "", "{}", Needs::Token),
    ("DELETE", "/api/v2/buckets/{id}", "", "", Needs::Token),
    ("GET", "/api/v2/buckets", "?name=b", "", Needs::Token),
    ("GET", "/admin/queries", "", "", Needs::Server),
    ("DELETE", "/admin/queries", "?id=0", "", Needs::Server),
    ("GET", "/admin/queries/ended", "", "", Needs::Server),
    ("POST", "/admin/flush", "", "", Needs::Server),
    ("POST", "/admin/compact", "", "", Needs::Server),
    ("GET", "/api/v1/status/cluster", "", "", Needs::Server),
    ("POST", "/admin/adopt", "?node=x", "", Needs::Server),
    ("POST", "/internal/v1/record", "", "{}", Needs::Secret),
    ("POST", "/internal/v1/hello", "", "null", Needs::Secret),
    (
        "POST",
        "/internal/v1/seen",
        "",
        "{\"sequence\": 0}",
        Needs::Secret,
    ),
    ("POST", "/internal/v1/recent", "", "{}", Needs::Secret),
    ("POST", "/internal/v1/flush", "", "null", Needs::Secret),
    ("POST", "/internal/v1/part", "", "", Needs::Secret),
    ("GET", "/metrics", "", "", Needs::Internal),
    ("GET", "/api/openapi.json", "", "", Needs::Token),
    // A name of another database, said in another way.
    ("GET", "/api/v1/query", "?query=up&db=b", "", Needs::Token),
    (
        "GET",
        "/api/v3/query_sql",
        "?db=%61&q=SELECT+1",
        "",
        Needs::Read,
    ),
    ("POST", "/write", "?db=a&db=b", "t x=1 1", Needs::Write),
    ("GET", "/db/{database}/api/v1/labels", "", "", Needs::Read),
    ("GET", "/", "", "", Needs::Nothing),
    ("GET", "/ui/page.js", "", "", Needs::Nothing),
    ("GET", "/ui/editor.js", "", "", Needs::Nothing),
    ("GET", "/ui/worker.js", "", "", Needs::Nothing),
    ("GET", "/ui/style.css", "", "", Needs::Nothing),
    ("GET", "/ui/icon.svg", "", "", Needs::Nothing),
    ("GET", "/ui/licences.txt", "", "", Needs::Nothing),
    ("GET", "/ui/nothing", "", "", Needs::Token),
    ("GET", "/nothing", "", "", Needs::Token),
];

/// The paths of a router, as it describes itself.
pub(super) fn paths() -> BTreeSet<String> {
    let text = format!("{:?}", routes());
    let quoted = text.split('"').skip(1).step_by(2);
    quoted
        .filter(|text| text.starts_with('/') && !text.contains("__private__"))
        .map(str::to_owned)
        .collect()
}

struct Server {
    app: Arc<App>,
    secrets: Vec<(&'static str, String)>,
}

impl Server {
    async fn start() -> Self {
        let app = App::new(Config {
            auth: true,
            ..Config::default()
        });
        app.service.attach(Backend::in_memory().await);
        let catalog = app.service.backend().unwrap().catalog();
        for name in ["a", "a2", "b", "default"] {
            catalog.create_database(name).await.unwrap();
        }
        let mut secrets = vec![("wrong", "tide_wrong".to_owned())];
        let all = TOKENS
            .into_iter()
            .map(|(name, databases, permissions)| (name, databases, permissions, None));
        let ended = [
            ("expired", "*", Permissions::ADMIN, Some(1)),
            ("revoked", "*", Permissions::ADMIN, None),
        ];
        for (name, databases, permissions, expires_ms) in all.chain(ended) {
            let secret = Secret::random().unwrap();
            let request = TokenRequest {
                name: name.to_owned(),
                scopes: vec![Scope {
                    databases: databases.into(),
                    permissions,
                }],
                expires_ms,
                replaced: false,
            };
            create(catalog, request, &secret).await.unwrap();
            secrets.push((name, secret.reveal().to_owned()));
        }
        catalog.revoke_token("revoked").await.unwrap();
        Self { app, secrets }
    }

    async fn send(&self, row: Row, secret: Option<&str>) -> Response<Body> {
        let (method, path, rest, body, _) = row;
        let path = path
            .replace("{database}", "a")
            .replace("{name}", "job")
            .replace("{*group}", "am9i");
        let mut request = Request::builder()
            .uri(format!("{path}{rest}"))
            .header("host", "tsdb.example.com")
            .header("x-scope-orgid", "a");
        let mut body = body.as_bytes().to_vec();
        if method == "gRPC" {
            let length = u32::try_from(body.len()).unwrap();
            body = [&[0], &length.to_be_bytes()[..], &body].concat();
            request = request
                .method("POST")
                .version(Version::HTTP_2)
                .header("content-type", "application/grpc")
                .header("database", "a");
        } else {
            request = request.method(method);
        }
        if let Some(secret) = secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let request = request.body(Body::from(body)).unwrap();
        router(Arc::clone(&self.app))
            .oneshot(request)
            .await
            .unwrap()
    }

    async fn check(&self, row: Row) {
        let needs = row.4;
        let status = status_of(&self.send(row, None).await);
        assert_eq!(
            status == 401,
            needs != Needs::Nothing,
            "{row:?} without a token: {status}"
        );
        for (name, secret) in &self.secrets {
            let response = self.send(row, Some(secret)).await;
            let status = status_of(&response);
            let expected = match *name {
                _ if needs == Needs::Nothing => None,
                _ if needs == Needs::Secret => Some(401),
                "wrong" | "expired" | "revoked" => Some(401),
                token if needs.is_met_by(token) => None,
                _ => Some(403),
            };
            match expected {
                Some(expected) => assert_eq!(status, expected, "{row:?} with {name}"),
                None => assert!(
                    ![401, 403].contains(&status),
                    "{row:?} with {name}: {status}"
                ),
            }
            assert_eq!(
                response.headers().contains_key("www-authenticate"),
                status == 401 && row.0 != "gRPC"
            );
        }
    }
}

/// The status of HTTP, or what means the same in gRPC.
fn status_of(response: &Response<Body>) -> u16 {
    let failed = response.extensions().get::<tonic::Status>();
    let status = failed.map_or(response.status(), error::http_equivalent);
    status.as_u16()
}

fn rows() -> impl Iterator<Item = Row> {
    OF_A_DATABASE.into_iter().chain(of_grpc()).chain(OTHERS)
}

#[tokio::test]
async fn every_path_asks_for_what_its_row_says() {
    let server = Server::start().await;
    for row in rows() {
        // The default database is another one.
        let row = match row {
            ("GET", "/api/v1/query", "?query=up&db=b", body, _) => {
                ("GET", "/api/v1/query", "?query=up&db=b", body, Needs::Read)
            }
            row => row,
        };
        server.check(row).await;
    }
}

#[tokio::test]
async fn paths_below_a_database_mean_that_one() {
    let server = Server::start().await;
    for (method, path, rest, body, needs) in OF_A_DATABASE {
        let below: &'static str = format!("/db/{{database}}{path}").leak();
        server.check((method, below, rest, body, needs)).await;
    }
}

#[test]
fn every_path_has_a_row() {
    let paths = paths();
    assert!(paths.len() > 60, "{paths:?}");
    for path in paths {
        let of_a_database = path.strip_prefix("/db/{database}");
        let path = of_a_database.unwrap_or(&path);
        assert!(rows().any(|row| row.1 == path), "{path} has no row");
    }
}

#[tokio::test]
async fn a_refusal_does_not_say_whether_there_is_a_database() {
    let server = Server::start().await;
    let (_, secret) = server
        .secrets
        .iter()
        .find(|(name, _)| *name == "read")
        .unwrap();
    let mut answers = BTreeSet::new();
    for database in ["b", "c"] {
        for row in [
            ("GET", "/api/v3/configure/table", "?db=DB", "", Needs::Read),
            (
                "GET",
                "/api/v3/query_sql",
                "?db=DB&q=SELECT+1",
                "",
                Needs::Read,
            ),
            (
                "DELETE",
                "/api/v3/configure/database",
                "?db=DB",
                "",
                Needs::Admin,
            ),
            (
                "POST",
                "/api/v2/delete",
                "?bucket=DB",
                INTERVAL,
                Needs::Delete,
            ),
        ] {
            let rest: &'static str = row.2.replace("DB", database).leak();
            let response = server
                .send((row.0, row.1, rest, row.3, row.4), Some(secret))
                .await;
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 10_000)
                .await
                .unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            answers.insert((
                row.1,
                status,
                text.replace(&format!("\\\"{database}\\\""), "DB"),
            ));
        }
    }
    // Of tables neither.
    let catalog = server.app.service.backend().unwrap().catalog();
    let table = tidelake_catalog::TableColumns {
        table: "secret".to_owned(),
        kind: tidelake_catalog::model::TableKind::Wide,
        columns: Vec::new(),
    };
    catalog.ensure_columns("b", &[table]).await.unwrap();
    let mut refusals = BTreeSet::new();
    for rest in [
        "?db=b&table=secret",
        "?db=b&table=none",
        "?db=b&table=__metrics__",
    ] {
        let row = ("DELETE", "/api/v3/configure/table", rest, "", Needs::Admin);
        let response = server.send(row, Some(secret)).await;
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        refusals.insert(body);
    }
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert!(answers.iter().all(|(_, status, _)| *status == 403));
}

#[tokio::test]
async fn lists_have_neither_secrets_nor_what_is_of_others() {
    let server = Server::start().await;
    let body = async |row: Row, token: &str| {
        let (_, secret) = server
            .secrets
            .iter()
            .find(|(name, _)| *name == token)
            .unwrap();
        let response = server.send(row, Some(secret)).await;
        assert_eq!(response.status().as_u16(), 200);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    };
    let list = ("GET", "/api/v3/configure/token", "", "", Needs::Server);
    let tokens = body(list, "server").await;
    assert!(tokens.contains("\"name\":\"read\""), "{tokens}");
    for (_, secret) in &server.secrets {
        assert!(!tokens.contains(secret.as_str()));
    }
    for word in ["hash", "salt", "scram", "stored_key", "\"token\""] {
        assert!(!tokens.contains(word), "{word}: {tokens}");
    }
    let databases = (
        "GET",
        "/api/v3/configure/database",
        "?format=csv",
        "",
        Needs::Token,
    );
    let of_read = body(databases, "read").await;
    assert_eq!(of_read.lines().skip(1).count(), 1, "{of_read}");
    assert_eq!(body(databases, "server").await.lines().skip(1).count(), 4);
    let config = body(
        ("GET", "/api/v1/status/config", "", "", Needs::Server),
        "server",
    )
    .await;
    assert!(!config.contains("tide_"), "{config}");
}

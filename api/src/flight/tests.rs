//! Calls of a client against the whole router, without a connection.
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandPreparedStatementQuery, CommandStatementQuery,
    CommandStatementUpdate, ProstMessageExt,
};
use axum::body::Body;
use axum::http::Uri;
use futures::TryStreamExt;
use tidelake_catalog::model::{Permissions, Scope};
use tonic::Code as GrpcCode;
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::http::router::router;
use crate::node::backend::Backend;
use crate::service::slots::Outcome;
use crate::service::tokens::{Secret, TokenRequest, create};

/// A server, and the metadata that its client sends.
struct Server {
    app: Arc<App>,
    metadata: Vec<(&'static str, String)>,
}

impl Server {
    async fn start(config: Config) -> Self {
        let app = App::new(config);
        app.service.attach(Backend::in_memory().await);
        if !app.service.config.auth {
            let catalog = app.service.backend().unwrap().catalog();
            catalog.create_database("default").await.unwrap();
        }
        Self {
            app,
            metadata: Vec::new(),
        }
    }

    /// With a table `t` of the tag `k` and the field `x`.
    async fn with_rows() -> Self {
        let server = Self::start(Config::default()).await;
        server.write("t,k=a x=1i 1\nt,k=b x=2i 2").await;
        server
    }

    async fn write(&self, lines: &'static str) {
        let request = axum::http::Request::post("/api/v2/write?bucket=default")
            .header("host", "localhost")
            .body(Body::from(lines))
            .unwrap();
        let response = router(Arc::clone(&self.app))
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), 204);
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    fn client(&self) -> FlightServiceClient<Router> {
        let origin = Uri::from_static("http://localhost");
        FlightServiceClient::with_origin(router(Arc::clone(&self.app)), origin)
    }

    fn sql_client(&self) -> FlightSqlServiceClient<Router> {
        FlightSqlServiceClient::new_from_inner(self.client())
    }

    async fn info(&self, command: &impl ProstMessageExt) -> Result<FlightInfo, Status> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let request = self.request(descriptor);
        Ok(self.client().get_flight_info(request).await?.into_inner())
    }

    async fn rows(&self, ticket: impl Into<Bytes>) -> Result<RecordBatch, Status> {
        let request = self.request(Ticket::new(ticket));
        let answer = self.client().do_get(request).await?;
        let messages = answer.into_inner().map_err(Into::into);
        let mut stream = FlightRecordBatchStream::new_from_flight_data(messages);
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            batches.push(batch.map_err(not_decoded)?);
        }
        let schema = stream.schema().expect("a schema comes first");
        Ok(concat_batches(schema, &batches).unwrap())
    }

    async fn query(&self, sql: &str) -> Result<RecordBatch, Status> {
        let info = self.info(&statement(sql)).await?;
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        self.rows(ticket.ticket).await
    }

    async fn update(&self, sql: &str) -> Result<(), Status> {
        let update = CommandStatementUpdate {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(update.as_any().encode_to_vec());
        let data = FlightData::new().with_descriptor(descriptor);
        let request = self.request(stream::iter([data]));
        let answer = self.client().do_put(request).await?;
        answer.into_inner().try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Waits until no query has a place.
    async fn until_idle(&self) {
        while self.app.service.slots.running() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How queries have ended, in their numbers.
    fn ended(&self, outcome: Outcome) -> u64 {
        let ended = self.app.service.slots.ended();
        ended
            .filter(|(_, how, _)| *how == outcome)
            .map(|(_, _, n)| n)
            .sum()
    }
}

fn not_decoded(error: arrow_flight::error::FlightError) -> Status {
    match error {
        arrow_flight::error::FlightError::Tonic(status) => *status,
        other => panic!("{other}"),
    }
}

fn statement(sql: &str) -> CommandStatementQuery {
    CommandStatementQuery {
        query: sql.to_owned(),
        transaction_id: None,
    }
}

#[track_caller]
fn refused<T>(answer: Result<T, Status>, code: GrpcCode, words: &str) -> Status {
    let Err(status) = answer else {
        panic!("nothing was refused: {words}");
    };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{}", status.message());
    status
}

#[tokio::test]
async fn an_answer_has_the_schema_that_was_told() {
    let server = Server::with_rows().await;
    for (sql, rows) in [
        ("SELECT * FROM t ORDER BY time", 2),
        ("SELECT k, sum(x) AS x, count(*) FROM t GROUP BY k", 2),
        ("SELECT * FROM iox.t", 2),
        ("SELECT 1 UNION ALL SELECT 1.5", 2),
        (
            "SELECT time, now() AS n, arrow_cast(k, 'LargeUtf8') AS l FROM t WHERE false",
            0,
        ),
        ("EXPLAIN SELECT * FROM t", 2),
        ("SHOW TABLES", 8),
    ] {
        let info = server.info(&statement(sql)).await.unwrap();
        assert_eq!(info.endpoint.len(), 1);
        assert!(info.endpoint[0].location.is_empty());
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let told = info.try_decode_schema().unwrap();
        let batch = server.rows(ticket.ticket).await.unwrap();
        assert_eq!(batch.schema().as_ref(), &told, "{sql}");
        assert_eq!(batch.num_rows(), rows, "{sql}");
        let descriptor = FlightDescriptor::new_cmd(statement(sql).as_any().encode_to_vec());
        let schema = server.client().get_schema(descriptor).await.unwrap();
        let schema = Schema::try_from(&schema.into_inner()).unwrap();
        assert_eq!(schema, told, "{sql}");
    }
}

#[tokio::test]
async fn a_prepared_statement_takes_parameters() {
    let server = Server::with_rows().await;
    let mut client = server.sql_client();
    let one = |name: &str, column: ArrayRef| RecordBatch::try_from_iter([(name, column)]).unwrap();
    let text = || Arc::new(StringArray::from(vec!["b"])) as ArrayRef;
    for (sql, name) in [
        ("SELECT x FROM t WHERE k = ?", ""),
        ("SELECT x FROM t WHERE k = $1", "0"),
        ("SELECT x FROM t WHERE k = $key", "key"),
        ("SELECT x FROM t WHERE k = $key", "$key"),
    ] {
        let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
        let parameters = prepared.parameter_schema().unwrap();
        assert_eq!(parameters.field(0).data_type(), &DataType::Utf8, "{sql}");
        assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "x");
        prepared.set_parameters(one(name, text())).unwrap();
        let info = prepared.execute().await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let batch = server.rows(ticket.ticket).await.unwrap();
        assert_eq!(
            batch.column(0).as_primitive::<Int64Type>().values(),
            &[2],
            "{sql}"
        );
        prepared.close().await.unwrap();
    }
    let mut two = client.prepare("SELECT ?".to_owned(), None).await.unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    two.set_parameters(one("", column)).unwrap();
    let error = two.execute().await.unwrap_err().to_string();
    assert!(error.contains("2 rows of parameters were bound"), "{error}");
    let missing = client
        .prepare("SELECT ?".to_owned(), None)
        .await
        .unwrap()
        .execute()
        .await;
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("$1 has no value"), "{error}");
    let mut delete = client
        .prepare(
            "DELETE FROM t WHERE k = $1 AND time < '1980-01-01'".to_owned(),
            None,
        )
        .await
        .unwrap();
    assert!(delete.dataset_schema().unwrap().fields().is_empty());
    delete.set_parameters(one("", text())).unwrap();
    assert_eq!(delete.execute_update().await.unwrap(), -1);
    assert_eq!(server.query("SELECT * FROM t").await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn values_of_parameters_keep_their_bits() {
    let floats = [f64::NAN, f64::INFINITY, -0.0, 5e-324, f64::MAX];
    for float in floats {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![float]));
        let batch = RecordBatch::try_from_iter([("", column)]).unwrap();
        let server = Server::start(Config::default()).await;
        let text = server.app.service.read_sql("SELECT $1").unwrap();
        let bound = prepared::bound(Statement::new("default", "SELECT $1"), &text, &[batch]);
        let handle = bound.unwrap().handle().unwrap();
        let read = Statement::decode(&handle).unwrap();
        let Some(statement::Value::Float(value)) = read.parameters[0].value else {
            panic!("{read:?}");
        };
        assert_eq!(value.to_bits(), float.to_bits());
    }
}

#[tokio::test]
async fn what_changes_something_is_an_update_and_nothing_else() {
    let server = Server::with_rows().await;
    let delete = "DELETE FROM t WHERE k = 'a' AND time < '1980-01-01'";
    refused(
        server.query(delete).await,
        GrpcCode::InvalidArgument,
        "as an update",
    );
    let ticket = Statement::new("default", delete).ticket().unwrap();
    refused(
        server.rows(ticket).await,
        GrpcCode::InvalidArgument,
        "as an update",
    );
    let json = format!(r#"{{"database": "default", "sql_query": "{delete}"}}"#);
    refused(
        server.rows(json).await,
        GrpcCode::InvalidArgument,
        "as an update",
    );
    assert_eq!(server.query("SELECT * FROM t").await.unwrap().num_rows(), 2);
    server.update(delete).await.unwrap();
    assert_eq!(server.query("SELECT * FROM t").await.unwrap().num_rows(), 1);
    for sql in ["SELECT 1", "INSERT INTO t VALUES (1)"] {
        refused(
            server.update(sql).await,
            GrpcCode::InvalidArgument,
            "is no update",
        );
    }
}

#[tokio::test]
async fn no_statement_reaches_files_or_settings() {
    let server = Server::with_rows().await;
    for (sql, code) in [
        (
            "CREATE EXTERNAL TABLE f STORED AS CSV LOCATION '/etc/passwd'",
            GrpcCode::InvalidArgument,
        ),
        ("COPY (SELECT 1) TO '/tmp/f.csv'", GrpcCode::InvalidArgument),
        ("COPY t FROM '/etc/passwd'", GrpcCode::InvalidArgument),
        ("SELECT * FROM '/etc/passwd'", GrpcCode::NotFound),
        ("SELECT * FROM \"/etc/passwd\"", GrpcCode::NotFound),
        ("SELECT * FROM read_csv('/etc/passwd')", GrpcCode::NotFound),
        ("SELECT * FROM other.public.t", GrpcCode::NotFound),
        (
            "SET datafusion.execution.batch_size = 1",
            GrpcCode::InvalidArgument,
        ),
        ("SELECT 1; SELECT 2", GrpcCode::InvalidArgument),
        ("PREPARE p AS SELECT 1", GrpcCode::InvalidArgument),
        (
            "CREATE FUNCTION f() RETURNS INT RETURN 1",
            GrpcCode::InvalidArgument,
        ),
    ] {
        refused(server.query(sql).await, code, "");
        let ticket = Statement::new("default", sql).ticket().unwrap();
        refused(server.rows(ticket).await, code, "");
        let json = serde_json::json!({ "database": "default", "sql_query": sql });
        refused(server.rows(json.to_string()).await, code, "");
        let update = server.update(sql).await;
        assert!(update.is_err(), "{sql}");
        let prepared = server.sql_client().prepare(sql.to_owned(), None).await;
        assert!(prepared.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_token_reads_its_database_whatever_names_another() {
    let mut server = Server::start(Config {
        auth: true,
        ..Config::default()
    })
    .await;
    let catalog = server.app.service.backend().unwrap().catalog();
    for name in ["a", "b"] {
        catalog.create_database(name).await.unwrap();
    }
    let secret = Secret::random().unwrap();
    let scope = Scope {
        databases: "a".into(),
        permissions: Permissions::READ,
    };
    let token = TokenRequest {
        name: "reader".to_owned(),
        scopes: vec![scope],
        expires_ms: None,
        replaced: false,
    };
    create(catalog, token, &secret).await.unwrap();
    let bearer = format!("Bearer {}", secret.reveal());
    server.metadata = vec![("authorization", bearer), ("database", "a".to_owned())];
    assert_eq!(server.query("SELECT 1").await.unwrap().num_rows(), 1);
    let forbidden = GrpcCode::PermissionDenied;
    let of_b = Statement::new("b", "SELECT 1");
    refused(
        server.rows(of_b.ticket().unwrap()).await,
        forbidden,
        "\"b\"",
    );
    let query = CommandPreparedStatementQuery {
        prepared_statement_handle: of_b.handle().unwrap(),
    };
    refused(server.info(&query).await, forbidden, "\"b\"");
    let json = r#"{"database": "b", "sql_query": "SELECT 1"}"#;
    refused(server.rows(json).await, forbidden, "\"b\"");
    let tables = CommandGetTables {
        catalog: Some("b".to_owned()),
        ..CommandGetTables::default()
    };
    refused(
        server.rows(tables.as_any().encode_to_vec()).await,
        forbidden,
        "\"b\"",
    );
    refused(
        server
            .update("DELETE FROM t WHERE time < '1980-01-01'")
            .await,
        forbidden,
        "delete",
    );
    refused(server.update("DROP DATABASE b").await, forbidden, "\"b\"");
    let schemas = CommandGetDbSchemas::default().as_any().encode_to_vec();
    let batch = server.rows(schemas).await.unwrap();
    assert!(
        batch
            .column(0)
            .as_string::<i32>()
            .iter()
            .all(|name| name == Some("a"))
    );
    for name in ["database", "bucket-name", "iox-namespace-name", "bucket"] {
        server.metadata[1] = (name, "b".to_owned());
        refused(server.query("SELECT 1").await, forbidden, "\"b\"");
    }
    server.metadata[1] = ("database", "no|name".to_owned());
    refused(
        server.query("SELECT 1").await,
        GrpcCode::InvalidArgument,
        "database name",
    );
}

/// Rows until their reader has enough.
const ENDLESS: &str = "SELECT value AS x FROM generate_series(1, 1000000000000)";

#[tokio::test]
async fn a_slot_is_held_until_the_client_leaves() {
    let server = Server::start(Config {
        max_concurrent_queries: 1,
        query_queue_ms: 10,
        ..Config::default()
    })
    .await;
    let ticket = Ticket::new(Statement::new("default", ENDLESS).ticket().unwrap());
    let answer = server.client().do_get(ticket).await.unwrap();
    let mut messages = answer.into_inner();
    for _ in 0..5 {
        assert!(messages.message().await.unwrap().is_some());
    }
    let busy = refused(
        server.query("SELECT 1").await,
        GrpcCode::Unavailable,
        "max_concurrent",
    );
    assert!(!busy.details().is_empty(), "when to come again");
    drop(messages);
    server.until_idle().await;
    assert_eq!(server.ended(Outcome::Cancelled), 1);
    assert!(server.query("SELECT 1").await.is_ok());
}

#[tokio::test]
async fn a_client_that_waits_no_longer_ends_its_query() {
    let server = Server::start(Config::default()).await;
    let sql = format!("SELECT max(x) FROM ({ENDLESS})");
    let mut request = Request::new(Ticket::new(
        Statement::new("default", &sql).ticket().unwrap(),
    ));
    request.set_timeout(Duration::from_millis(100));
    let answer = server.client().do_get(request).await;
    refused(answer, GrpcCode::DeadlineExceeded, "client");
    server.until_idle().await;
    // Also while the answer comes.
    let mut request = Request::new(Ticket::new(
        Statement::new("default", ENDLESS).ticket().unwrap(),
    ));
    request.set_timeout(Duration::from_millis(300));
    let answer = server.client().do_get(request).await.unwrap();
    let ended: Result<Vec<_>, _> = answer.into_inner().try_collect().await;
    refused(ended, GrpcCode::DeadlineExceeded, "client waits");
}

#[tokio::test]
async fn a_failure_in_the_middle_is_the_last_word() {
    let server = Server::start(Config::default()).await;
    let sql = "SELECT 1 / (500000 - value) AS x FROM generate_series(1, 1000000)";
    let ticket = Ticket::new(Statement::new("default", sql).ticket().unwrap());
    let answer = server.client().do_get(ticket).await.unwrap();
    let mut messages = answer.into_inner();
    let mut count = 0;
    let error = loop {
        match messages.message().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("half an answer looks like a whole one"),
            Err(error) => break error,
        }
    };
    assert!(count > 1, "it came in the middle");
    refused::<()>(Err(error), GrpcCode::InvalidArgument, "Divide by zero");
    server.until_idle().await;
    assert_eq!(server.ended(Outcome::Failed), 1);
}

#[tokio::test]
async fn tables_come_with_their_columns() {
    let server = Server::with_rows().await;
    let many: String = (0..450).map(|i| format!("many{i},k=a x=1 1\n")).collect();
    server.write(many.leak()).await;
    let tables = async |asked: CommandGetTables| {
        let info = server.info(&asked).await.unwrap();
        let batch = server.rows(asked.as_any().encode_to_vec()).await.unwrap();
        assert_eq!(batch.schema().as_ref(), &info.try_decode_schema().unwrap());
        batch
    };
    let all = tables(CommandGetTables {
        db_schema_filter_pattern: Some("pub%".to_owned()),
        table_types: vec!["TABLE".to_owned()],
        include_schema: true,
        ..CommandGetTables::default()
    })
    .await;
    assert_eq!(all.num_rows(), 451);
    let names = all.column(2).as_string::<i32>();
    let at = names.iter().position(|name| name == Some("t")).unwrap();
    let bytes = all.column(4).as_binary::<i32>().value(at).to_vec();
    let schema = Schema::try_from(IpcMessage(bytes.into())).unwrap();
    let told = server.info(&statement("SELECT * FROM t")).await.unwrap();
    assert_eq!(schema, told.try_decode_schema().unwrap());
    let one = tables(CommandGetTables {
        table_name_filter_pattern: Some("many44_".to_owned()),
        ..CommandGetTables::default()
    })
    .await;
    assert_eq!(one.num_rows(), 10);
    let views = tables(CommandGetTables {
        table_types: vec!["VIEW".to_owned()],
        ..CommandGetTables::default()
    })
    .await;
    assert!(views.num_rows() > 3);
    let none = tables(CommandGetTables {
        catalog: Some(String::new()),
        ..CommandGetTables::default()
    })
    .await;
    assert_eq!(none.num_rows(), 0);
    let injected = tables(CommandGetTables {
        table_name_filter_pattern: Some("' OR true --".to_owned()),
        ..CommandGetTables::default()
    })
    .await;
    assert_eq!(injected.num_rows(), 0);
}

#[tokio::test]
async fn what_describes_the_server_has_the_schema_that_was_told() {
    use arrow_flight::sql::{
        CommandGetCatalogs, CommandGetCrossReference, CommandGetExportedKeys,
        CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
        CommandGetXdbcTypeInfo,
    };
    async fn check(server: &Server, command: impl ProstMessageExt, rows: usize) {
        let info = server.info(&command).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let batch = server.rows(ticket.ticket).await.unwrap();
        assert_eq!(batch.schema().as_ref(), &info.try_decode_schema().unwrap());
        assert_eq!(batch.num_rows(), rows, "{batch:?}");
    }
    let server = Server::with_rows().await;
    check(&server, CommandGetCatalogs::default(), 1).await;
    check(&server, CommandGetDbSchemas::default(), 3).await;
    check(&server, CommandGetTableTypes::default(), 2).await;
    check(&server, CommandGetXdbcTypeInfo::default(), 6).await;
    check(
        &server,
        CommandGetSqlInfo {
            info: vec![0, 0, 1, 99_999],
        },
        2,
    )
    .await;
    check(
        &server,
        CommandGetSqlInfo {
            info: vec![0; 1_000_000],
        },
        1,
    )
    .await;
    check(&server, CommandGetPrimaryKeys::default(), 0).await;
    check(&server, CommandGetExportedKeys::default(), 0).await;
    check(&server, CommandGetImportedKeys::default(), 0).await;
    check(&server, CommandGetCrossReference::default(), 0).await;
}

#[tokio::test]
async fn what_is_not_supported_says_so() {
    let server = Server::with_rows().await;
    let unimplemented = GrpcCode::Unimplemented;
    let mut client = server.client();
    refused(
        client.list_flights(Criteria::default()).await,
        unimplemented,
        "CommandGetTables",
    );
    let exchange = client.do_exchange(stream::iter([FlightData::new()])).await;
    refused(exchange, unimplemented, "DoGet");
    let poll = client.poll_flight_info(FlightDescriptor::default()).await;
    refused(poll, unimplemented, "GetFlightInfo");
    for kind in ["BeginTransaction", "CancelQuery", "nothing"] {
        let action = client.do_action(Action::new(kind, "")).await;
        refused(action, unimplemented, kind);
    }
    let transaction = CommandStatementQuery {
        query: "SELECT 1".to_owned(),
        transaction_id: Some(Bytes::from_static(b"x")),
    };
    refused(
        server.info(&transaction).await,
        unimplemented,
        "transaction",
    );
    let invalid = GrpcCode::InvalidArgument;
    let influxql = r#"{"database": "default", "sql_query": "SHOW", "query_type": "influxql"}"#;
    refused(server.rows(influxql).await, invalid, "error parsing query");
    let two = r#"{"sql_query": "SHOW DATABASES; SHOW DATABASES", "query_type": "influxql"}"#;
    refused(server.rows(two).await, invalid, "2 statements");
    let change = r#"{"sql_query": "DROP DATABASE x", "query_type": "influxql"}"#;
    refused(server.rows(change).await, invalid, "changes something");
    let flux = r#"{"database": "default", "sql_query": "x", "query_type": "flux"}"#;
    refused(server.rows(flux).await, invalid, "\"flux\"");
    refused(server.rows("{}").await, invalid, "a ticket must be JSON");
    refused(server.rows("").await, unimplemented, "no ticket");
    refused(
        server.rows(&b"\xff\xff\xff"[..]).await,
        invalid,
        "no command",
    );
    let path = FlightDescriptor::new_path(vec!["t".to_owned()]);
    refused(
        client.get_flight_info(path).await,
        unimplemented,
        "no query",
    );
    refused(client.do_put(stream::empty()).await, invalid, "no command");
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    refused(server.query(&long).await, invalid, "are allowed");
}

#[tokio::test]
async fn tickets_in_json_have_parameters() {
    let server = Server::with_rows().await;
    let json = r#"{"database": "default", "sql_query": "SELECT x FROM t WHERE k = $k AND x > $x",
        "query_type": "sql", "params": {"k": "b", "x": 1}, "new": true}"#;
    // Clients send it without leading white space.
    let batch = server.rows(json).await.unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[2]);
    let list = r#"{"sql_query": "SELECT $k", "params": {"k": []}}"#;
    refused(server.rows(list).await, GrpcCode::InvalidArgument, "$k");
}

#[tokio::test]
async fn a_handshake_gives_the_token_back() {
    let server = Server::start(Config::default()).await;
    let secret = server
        .sql_client()
        .handshake("anyone", "secret")
        .await
        .unwrap();
    assert_eq!(secret, "secret");
    let message = arrow_flight::BasicAuth {
        username: "anyone".to_owned(),
        password: "tide_wrong".to_owned(),
    };
    let request = HandshakeRequest {
        protocol_version: 0,
        payload: message.encode_to_vec().into(),
    };
    let answer = server
        .client()
        .handshake(stream::iter([request.clone()]))
        .await
        .unwrap();
    let bearer = answer.metadata().get("authorization").unwrap();
    assert_eq!(bearer, "Bearer tide_wrong");
    let guarded = Server::start(Config {
        auth: true,
        ..Config::default()
    })
    .await;
    let answer = guarded.client().handshake(stream::iter([request])).await;
    refused(answer, GrpcCode::Unauthenticated, "token");
}

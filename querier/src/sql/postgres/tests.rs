//! Statements as clients of PostgreSQL send them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use futures::TryStreamExt;

use super::*;
use crate::sql::tests::{engine, run, texts};
use crate::sql::{SqlEngine, SqlError};

fn session() -> Arc<PgSession> {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned(), "");
    Arc::new(PgSession {
        user: "ann".to_owned(),
        pid: 7,
        version: "PostgreSQL 16.0".to_owned(),
        databases: vec!["other".to_owned()],
        settings: vec![
            setting("database", "default"),
            setting("search_path", "\"$user\", public"),
            setting("server_version_num", "160000"),
        ],
        schema: "public".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
    })
}

/// The names of the columns and the rows of an answer.
async fn answer(
    engine: &SqlEngine,
    sql: &str,
    values: Vec<PgValue>,
) -> Result<(Vec<String>, Vec<String>), SqlError> {
    let text = engine
        .read(sql)?
        .in_postgres(session(), PgParams::Values(values));
    let answer = engine.query("default", text, HashMap::new(), None).await?;
    let schema = answer.stream.schema();
    let names = schema
        .fields()
        .iter()
        .map(|field| shown_name(field.name()).to_owned())
        .collect();
    let batches: Vec<_> = answer.stream.try_collect().await.map_err(SqlError::from)?;
    Ok((names, texts(&batches)))
}

#[track_caller]
fn check_with(sql: &str, values: Vec<PgValue>, expected: &[&str]) {
    let found = run(answer(&engine(), sql, values));
    assert_eq!(
        found.unwrap_or_else(|error| panic!("{sql}: {error}")).1,
        expected,
        "{sql}"
    );
}

#[track_caller]
fn check(sql: &str, expected: &[&str]) {
    check_with(sql, Vec::new(), expected);
}

#[track_caller]
fn check_names(sql: &str, expected: &[&str]) {
    let found = run(answer(&engine(), sql, Vec::new()));
    assert_eq!(
        found.unwrap_or_else(|error| panic!("{sql}: {error}")).0,
        expected,
        "{sql}"
    );
}

#[track_caller]
fn error(sql: &str) -> SqlError {
    match run(answer(&engine(), sql, Vec::new())) {
        Err(error) => error,
        Ok(found) => panic!("{sql}: {found:?}"),
    }
}

#[test]
fn tables_are_found_and_described() {
    check(
        "SELECT c.relname FROM pg_catalog.pg_class c \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r','p','v') AND n.nspname <> 'pg_catalog' \
         AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1",
        &["Mixed Case", "cpu"],
    );
    check(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE nspname = 'metrics' AND NOT pg_table_is_visible(c.oid) ORDER BY relname",
        &["cpu", "http_requests_total"],
    );
    check(
        "SELECT c.relname FROM pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(cpu)$' \
         COLLATE pg_catalog.default AND pg_table_is_visible(c.oid)",
        &["cpu"],
    );
    check(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
         (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d \
          WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef) \
         FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = 'cpu'::regclass AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attnum LIMIT 5",
        &[
            "host|text|false|NULL",
            "region|text|false|NULL",
            "hostName|text|false|NULL",
            "time|timestamp without time zone|true|NULL",
            "usage|double precision|false|NULL",
        ],
    );
    check(
        "SELECT column_name, data_type FROM information_schema.columns \
         WHERE table_name = 'cpu' AND table_schema = 'public' AND column_name IN ('big', 'up') \
         ORDER BY ordinal_position",
        &["up|boolean", "big|numeric"],
    );
    check(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        &["2"],
    );
    check("SELECT typname FROM pg_type WHERE oid = 1016", &["_int8"]);
    check(
        "SELECT 'pg_class'::regclass, '1259'::oid = 'pg_class'::regclass",
        &["1259|true"],
    );
    check(
        "SELECT 23::regtype::text, 'bigint'::regtype",
        &["integer|20"],
    );
    check(
        "SELECT datname FROM pg_database ORDER BY 1",
        &["default", "other"],
    );
    check("SELECT rolname FROM pg_roles", &["ann"]);
    check(
        "SELECT setting FROM pg_settings WHERE name = 'database'",
        &["default"],
    );
}

#[test]
fn numbers_of_tables_stay() {
    let of = |engine: &SqlEngine| {
        let sql = "SELECT oid FROM pg_class WHERE relname = 'cpu' ORDER BY oid";
        run(answer(engine, sql, Vec::new())).unwrap().1
    };
    let first = of(&engine());
    assert_eq!(first, of(&engine()));
    assert_eq!(first.len(), 2);
}

#[test]
fn what_has_no_rows_needs_no_expressions() {
    let nothing = [
        "SELECT pol.polname, CASE WHEN pol.polroles = '{0}' THEN NULL ELSE array_to_string(\
         array(select rolname from pg_roles where oid = any (pol.polroles) order by 1), ',') END \
         FROM pg_catalog.pg_policy pol WHERE pol.polrelid = '16384' ORDER BY 1",
        "SELECT pubname, NULL, NULL FROM pg_publication p JOIN pg_class c ON true \
         UNION SELECT pubname, no_such_function(p.x), prattrs[s] FROM pg_publication_rel p \
         ORDER BY 1",
        "SELECT result.a, (result.keys).n FROM (SELECT ct.relname AS a, \
         information_schema._pg_expandarray(i.indkey) AS keys FROM pg_class ct JOIN pg_index i \
         ON ct.oid = i.indrelid) result WHERE result.a = 'x' ORDER BY (result.keys).n",
        "SELECT con.conname, pos.n FROM pg_constraint con, generate_series(1, 32) pos(n)",
        "SELECT * FROM pg_extension WHERE extname = 'timescaledb'",
    ];
    for sql in nothing {
        check(sql, &[]);
    }
    check("SELECT count(*) FROM pg_index", &["0"]);
    check(
        "SELECT relname, d.description FROM pg_class c LEFT JOIN pg_description d \
           ON d.objoid = c.oid WHERE c.oid = 1259",
        &["pg_class|NULL"],
    );
    check_names(
        "SELECT a.x, upper(a.y), 1, a.z AS w FROM pg_policy a",
        &["x", "upper", "?column?", "w"],
    );
}

#[test]
fn an_array_of_a_query_has_its_rows_in_their_order() {
    check(
        "SELECT ARRAY(SELECT column1 FROM (VALUES (2), (3), (1)) ORDER BY column1 DESC)",
        &["[3, 2, 1]"],
    );
    check(
        "SELECT array_length(ARRAY(SELECT DISTINCT column1 FROM (VALUES (2), (2), (1))), 1)",
        &["2"],
    );
    check(
        "SELECT array_length(ARRAY(SELECT column1 FROM (VALUES (2), (2), (1)) \
         GROUP BY column1), 1)",
        &["2"],
    );
    check(
        "SELECT array_length(ARRAY(SELECT column1 FROM (VALUES (2), (3), (1)) LIMIT 2), 1)",
        &["2"],
    );
    check(
        "SELECT array_length(ARRAY(SELECT 1 UNION ALL SELECT 2), 1)",
        &["2"],
    );
    let limited = "SELECT ARRAY(SELECT column1 FROM (VALUES (2), (1)) ORDER BY 1 LIMIT 1)";
    assert!(error(limited).to_string().contains("ARRAY(SELECT"));
}

#[test]
fn tables_without_rows_have_aggregates() {
    check("SELECT coalesce(max(indnatts), 0) FROM pg_index", &["0"]);
    check(
        "SELECT (SELECT coalesce(string_agg(rolname, ','), '') FROM pg_roles)",
        &["ann"],
    );
}

#[test]
fn settings_are_named_by_columns() {
    // psql's \dconfig
    check(
        "SELECT s.name AS \"Parameter\", pg_catalog.current_setting(s.name) AS \"Value\"\n\
         FROM pg_catalog.pg_settings s\n\
         WHERE s.source <> 'default' AND\n s.setting IS DISTINCT FROM s.boot_val\nORDER BY 1;",
        &[
            "database|default",
            "search_path|\"$user\", public",
            "server_version_num|160000",
        ],
    );
    check(
        "SELECT s.name, pg_catalog.current_setting(s.name), s.vartype, s.context, \
         pg_catalog.array_to_string(p.paracl, E'\\n') FROM pg_catalog.pg_settings s\n \
         LEFT JOIN pg_catalog.pg_parameter_acl p\n \
         ON pg_catalog.lower(s.name) = p.parname\n\
         WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.~) '^(search_path)$' \
         COLLATE pg_catalog.default ORDER BY 1",
        &["search_path|\"$user\", public|string|user|NULL"],
    );
}

#[test]
fn what_grafana_asks() {
    check(
        "SELECT current_setting('server_version_num')::int/100 AS version",
        &["1600"],
    );
    check(
        "SELECT quote_ident(table_name) FROM information_schema.tables WHERE \
         quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE \
         trim(s[i]) END FROM generate_series(array_lower(string_to_array(\
         current_setting('search_path'), ','), 1), array_upper(string_to_array(\
         current_setting('search_path'), ','), 1)) AS i, \
         string_to_array(current_setting('search_path'), ',') s) ORDER BY 1",
        &["\"Mixed Case\"", "cpu"],
    );
    check(
        "SELECT column_name FROM information_schema.columns WHERE \
         CASE WHEN array_length(parse_ident('public.cpu'), 1) = 2 \
         THEN quote_ident(table_schema) = (parse_ident('public.cpu'))[1] \
         AND quote_ident(table_name) = (parse_ident('public.cpu'))[2] ELSE false END \
         AND column_name = 'usage'",
        &["usage"],
    );
    check(
        "SELECT floor(extract(epoch from time)/60)*60 AS t, max(usage) FROM cpu \
         WHERE time BETWEEN '2026-11-22T00:00:00Z' AND '2026-11-22T00:01:30Z' AND host = 'a' \
         GROUP BY 1 ORDER BY 1",
        &["1795305600.0|0.0", "1795305660.0|1.0"],
    );
}

#[test]
fn what_asyncpg_asks() {
    let oids = PgValue::Array([1016, 25].map(PgValue::Integer).into());
    check_with(
        "WITH RECURSIVE typeinfo_tree(oid, depth) AS (SELECT oid, 0 FROM pg_type WHERE \
         oid = any($1::oid[]) UNION ALL SELECT oid, depth + 1 FROM pg_type, typeinfo_tree) \
         SELECT DISTINCT * FROM typeinfo_tree ORDER BY depth DESC",
        vec![oids],
        &[
            "20|pg_catalog|int8|62|0|0|NULL|NULL|NULL|NULL|1|NULL|NULL|NULL",
            "1016|pg_catalog|_int8|62|0|20|2c|NULL|NULL|NULL|0|NULL|bigint|NULL",
            "25|pg_catalog|text|62|0|0|NULL|NULL|NULL|NULL|0|NULL|NULL|NULL",
        ],
    );
}

#[test]
fn what_is_told_of_the_session() {
    check(
        "SELECT current_user, session_user, current_database(), current_schema(), pg_backend_pid()",
        &["ann|ann|default|public|7"],
    );
    check("SELECT version()", &["PostgreSQL 16.0"]);
    check("SELECT (current_schemas(false))[1]", &["public"]);
    check("SELECT current_setting('nothing', true) IS NULL", &["true"]);
    assert!(
        error("SELECT current_setting('nothing')")
            .to_string()
            .contains("nothing")
    );
    check(
        "SELECT '2025-07-01 12:00:00'::timestamptz = '2025-07-01T10:00:00Z'::timestamptz",
        &["true"],
    );
    check("SELECT pg_advisory_unlock_all()", &[""]);
}

#[test]
fn parameters_are_values() {
    let text = |text: &str| PgValue::Text(text.into());
    check_with(
        "SELECT count(*) FROM cpu WHERE host = $1 AND usage > $2",
        vec![text("a"), PgValue::Integer(1)],
        &["3"],
    );
    check_with(
        "SELECT count(*) FROM cpu WHERE host = $1",
        vec![text("' OR ''='")],
        &["0"],
    );
    check_with(
        "SELECT count(*) FROM cpu WHERE time >= $1 AND host = 'a'",
        vec![PgValue::Timestamp("2026-11-22 00:03:00".into())],
        &["2"],
    );
    check_with(
        "SELECT $1, $2, $1",
        vec![text("x"), PgValue::Float(-0.0)],
        &["x|-0.0|x"],
    );
    check_with(
        "SELECT count(*) FROM cpu WHERE host = ANY($1)",
        vec![PgValue::Array(vec![text("a"), text("c")])],
        &["11"],
    );
    check_with(
        "SELECT usage FROM cpu ORDER BY usage LIMIT $1",
        vec![PgValue::Integer(1)],
        &["-1.0"],
    );
    check_with(
        "SELECT count(*) FROM cpu WHERE big = $1",
        vec![PgValue::Decimal(u64::MAX.to_string())],
        &["6"],
    );
    check_with("SELECT $1::bigint + 1", vec![text("41")], &["42"]);
    check_with("SELECT $1 IS NULL", vec![PgValue::Null], &["true"]);
    let missing = run(answer(&engine(), "SELECT $2", vec![PgValue::Null])).unwrap_err();
    assert!(
        missing.to_string().contains("1 parameters were given"),
        "{missing}"
    );
}

#[test]
fn parameters_do_not_multiply() {
    let sql = format!(
        "SELECT count(*) FROM cpu WHERE host IN ({}$1)",
        "$1, ".repeat(1000)
    );
    let values = vec![PgValue::Text("x".repeat(1 << 20))];
    let error = run(answer(&engine(), &sql, values)).unwrap_err();
    assert!(error.to_string().contains("at all places"), "{error}");
}

#[test]
fn a_statement_with_parameters_keeps_its_plan() {
    let engine = engine();
    for host in ["a", "b", "c"] {
        let values = vec![
            PgValue::Text(host.into()),
            PgValue::Timestamp("2026-11-22 00:01:00".into()),
        ];
        let sql = "SELECT count(*) FROM cpu WHERE host = $1 AND time >= $2";
        run(answer(&engine, sql, values)).unwrap();
    }
    let shapes = format!("{:?}", engine.postgres_shapes);
    assert!(shapes.starts_with("Shapes(1 of 1"), "{shapes}");
    assert_eq!(format!("{:?}", engine.shapes), "Shapes(0 of 0, 0 ready)");
}

#[test]
fn statements_are_described() {
    let describe = |sql: &str, types: Vec<Option<DataType>>| {
        let engine = engine();
        let text = engine.read(sql).unwrap();
        let text = text.in_postgres(session(), PgParams::Types(types));
        run(engine.describe("default", text)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let found = describe(
        "SELECT time, usage, max(big) FROM cpu WHERE time > $1 AND usage < $2 AND host = $3 \
         GROUP BY 1, 2 LIMIT $4",
        Vec::new(),
    );
    let columns: Vec<_> = found
        .columns
        .fields()
        .iter()
        .map(|f| f.data_type().clone())
        .collect();
    assert_eq!(columns, [time.clone(), DataType::Float64, DataType::UInt64]);
    let parameters: Vec<_> = found.parameters.into_iter().map(Option::unwrap).collect();
    assert_eq!(parameters[..2], [time, DataType::Float64]);
    assert!(parameters[2].is_string(), "{parameters:?}");
    assert_eq!(parameters[3], DataType::Int64);
    let found = describe(
        "SELECT $1 + 1, $2",
        vec![Some(DataType::Int64), Some(DataType::Utf8)],
    );
    let columns: Vec<_> = found
        .columns
        .fields()
        .iter()
        .map(|f| f.data_type().clone())
        .collect();
    assert!(
        columns[0] == DataType::Int64 && columns[1].is_string(),
        "{columns:?}"
    );
    assert!(found.parameters.is_empty());
    let found = describe("SELECT $1", Vec::new());
    assert_eq!(found.parameters, [None]);
}

#[test]
fn columns_are_called_as_in_postgresql() {
    check_names(
        "SELECT count(*), max(usage), max(count), usage + 1, 1, 'x', host, time::bigint, \
         1::int, upper(host) AS u FROM cpu GROUP BY usage, host, time",
        &[
            "count", "max", "max", "?column?", "?column?", "?column?", "host", "time", "int4", "u",
        ],
    );
    check("SELECT '', '', NULL, NULL", &["||NULL|NULL"]);
    check_names("SELECT 1 UNION SELECT 2", &["?column?"]);
    check(
        "SELECT max(usage) FROM cpu GROUP BY host ORDER BY max(usage) LIMIT 1",
        &["4.0"],
    );
    check_names("SELECT * FROM (SELECT count(*) FROM cpu) x", &["count(*)"]);
}

#[test]
fn only_this_door_knows_the_catalog() {
    let plain = |sql: &str| {
        let engine = engine();
        run(async {
            let text = engine.read(sql)?;
            engine
                .query("default", text, HashMap::new(), None)
                .await
                .map(drop)
        })
    };
    for sql in [
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM pg_class",
        "SELECT pg_backend_pid()",
        "SELECT quote_ident('a')",
        "SELECT 'a'::regclass",
    ] {
        assert!(plain(sql).is_err(), "{sql}");
    }
    for sql in [
        "SELECT * FROM pg_catalog.pg_nothing",
        "SELECT * FROM pg_authid",
        "SELECT * FROM nothing",
    ] {
        assert!(matches!(error(sql), SqlError::NotFound(_)), "{sql}");
    }
    assert!(matches!(
        error("SELECT nothing FROM cpu"),
        SqlError::UnknownColumn(_)
    ));
    assert!(matches!(error("SELEC 1"), SqlError::Syntax(_)));
    // No files, no other databases, no settings.
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM other.public.disk",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY cpu TO '/tmp/x'",
        "SET datafusion.execution.batch_size = 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
    ] {
        let _ = error(sql);
    }
}

#[test]
fn deep_statements_stay_bounded() {
    let deep = format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200));
    assert!(error(&deep).to_string().contains("too"));
    let casts = format!("SELECT 1{}", "::oid".repeat(200));
    let _ = error(&casts);
    let collate = format!("SELECT 'a'{}", " COLLATE \"C\"".repeat(5000));
    let _ = run(answer(&engine(), &collate, Vec::new()));
    let nested = format!(
        "SELECT * FROM {}pg_index{}",
        "(SELECT * FROM ".repeat(20),
        ") x".repeat(20)
    );
    let _ = run(answer(&engine(), &nested, Vec::new()));
}

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use tidelake_catalog::{Catalog, Registration, Roles, S3Settings, Store};
use tidelake_ingest::wal::{ContentEncoding, Precision, Protocol};
use tidelake_ingest::{IngestOptions, Ingester, WriteRequest};

use crate::cli::remote::{Remote, SourceArgs};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    source: SourceArgs,
}

fn remote(folder: &Path, flags: &[&str]) -> Remote {
    let folder = folder.to_str().unwrap();
    let line = [&["test", "--data-dir", folder], flags].concat();
    Remote::of(&Line::parse_from(line).source)
        .unwrap()
        .impatient()
}

/// The part of a server that takes writes.
async fn ingester(folder: &Path, node: &str) -> Arc<Ingester> {
    let store = Store::open(folder.to_str().unwrap(), &S3Settings::default()).unwrap();
    let registration = Registration {
        address: "127.0.0.1:1".to_owned(),
        roles: Roles::INGEST,
    };
    let catalog = Catalog::open(store, node, registration).await.unwrap();
    Ingester::start(Arc::new(catalog), IngestOptions::default())
        .await
        .unwrap()
}

async fn write(ingester: &Ingester, lines: &str) {
    let request = WriteRequest {
        database: "default".to_owned(),
        protocol: Protocol::LineProtocol {
            precision: Precision::Millisecond,
        },
        encoding: ContentEncoding::Identity,
        accept_partial: false,
        body: lines.to_owned().into(),
    };
    ingester.write(request).await.unwrap();
}

async fn sql(remote: &Remote, sql: &str) -> anyhow::Result<String> {
    let body = serde_json::json!({ "db": remote.database(), "q": sql, "format": "csv" });
    let headers = [("content-type", "application/json")];
    let path = "/api/v3/query_sql";
    let answer = remote
        .query(path, &[], &headers, serde_json::to_vec(&body)?)
        .await?;
    Ok(answer.text().await?.replace('\r', ""))
}

/// All files below a folder and what is in them.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(
                    path.to_string_lossy().into_owned(),
                    std::fs::read(&path).unwrap(),
                )),
            }
        }
    }
    found
}

const ROWS: &str = "SELECT host, v FROM t ORDER BY host";

#[tokio::test(flavor = "multi_thread")]
async fn a_store_answers_with_what_servers_have_acknowledged_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let first = ingester(folder.path(), "a").await;
    write(&first, "t,host=flushed v=1 1\nt,host=overwritten v=1 1").await;
    first.flush().await.unwrap();
    write(&first, "t,host=logged v=2 1\nt,host=overwritten v=5 1").await;
    let second = ingester(folder.path(), "b").await;
    write(&second, "t,host=other v=3 1").await;

    let before = files(folder.path());
    let whole = remote(folder.path(), &[]);
    let expected = "host,v\nflushed,1.0\nlogged,2.0\nother,3.0\noverwritten,5.0\n";
    assert_eq!(sql(&whole, ROWS).await.unwrap(), expected);
    let form = [
        ("query", "t_v{host=\"logged\"}".to_owned()),
        ("time", "1".to_owned()),
    ];
    let answer = whole.form("/api/v1/query", &form).await.unwrap();
    assert!(answer.contains(r#""value":[1,"2"]"#), "{answer}");
    let flushed = remote(folder.path(), &["--flushed"]);
    assert_eq!(
        sql(&flushed, ROWS).await.unwrap(),
        "host,v\nflushed,1.0\noverwritten,1.0\n"
    );
    for change in [
        "DROP TABLE t",
        "DELETE FROM t WHERE host = 'logged'",
        "DROP DATABASE \"default\"",
    ] {
        let refusal = sql(&whole, change).await.unwrap_err().to_string();
        assert!(refusal.contains("--url"), "{change}: {refusal}");
    }
    assert_eq!(sql(&whole, ROWS).await.unwrap(), expected);
    assert!(files(folder.path()) == before, "the store has changed");

    // The servers go on; the next opening sees what they write.
    write(&first, "t,host=z v=9 1").await;
    first.flush().await.unwrap();
    write(&second, "t,host=zz v=9 1").await;
    let again = sql(&remote(folder.path(), &[]), ROWS).await.unwrap();
    assert_eq!(again, format!("{expected}z,9.0\nzz,9.0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_store_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = format!("{:#}", sql(&remote(&missing, &[]), ROWS).await.unwrap_err());
    assert!(error.contains("missing"), "{error}");
    assert!(!missing.exists());
    let empty = sql(&remote(folder.path(), &[]), "SELECT 1 AS one").await;
    assert!(empty.unwrap_err().to_string().contains("default"));
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_server_and_a_store_exclude_each_other() {
    let check = |flags: &[&str], is_fine: bool| {
        let line = [&["test"], flags].concat();
        assert_eq!(Line::try_parse_from(line).is_ok(), is_fine, "{flags:?}");
    };
    check(&["--url", "http://h", "--store", "s3://b"], false);
    check(&["--url", "http://h", "--data-dir", "d"], false);
    check(&["--store", "s3://b", "--data-dir", "d"], false);
    check(&["--store", "s3://b", "--flushed"], true);
    check(&["--url", "http://h"], true);
    let line = Line::parse_from(["test", "--store", "memory:"]);
    assert!(Remote::of(&line.source).is_err());
}

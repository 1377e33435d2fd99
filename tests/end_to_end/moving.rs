//! `tidelake import` and `tidelake export`: what leaves one server by any format is the same in
//! another, to the last bit; bad lines stop an import and name themselves; an import goes on where
//! it stopped.
use std::path::Path;

use serde_json::Value;

use crate::client::Client;
use crate::place::Place;
use crate::protobuf::Message;
use crate::server::{Server, finish_client};

/// Runs a command against a server. It waits on a thread of its own.
async fn tidelake(client: &Client, words: &[&str]) -> (Option<i32>, String) {
    let url = format!("http://{}", client.address());
    let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    all.extend(["--url".to_owned(), url]);
    let run = move || {
        let words: Vec<&str> = all.iter().map(String::as_str).collect();
        finish_client(&words)
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

async fn done(client: &Client, words: &[&str]) -> String {
    let (code, out) = tidelake(client, words).await;
    assert_eq!(code, Some(0), "{words:?}: {out}");
    out
}

/// Values that are easily lost.
const BITS: [u64; 12] = [
    0,
    0x8000_0000_0000_0000,
    1,
    0x000f_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0001,
    0x7ff0_0000_0000_0002,
    0xfff8_0000_0000_0000,
    0x3fb9_9999_9999_999a,
    0x43e0_0000_0000_0000,
];

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a plain path").to_owned()
}

#[tokio::test]
async fn series_are_the_same_elsewhere() {
    let mut server = Server::start(&Place::folder()).await;
    let client = server.client();
    let samples: Vec<(i64, f64)> = BITS
        .iter()
        .enumerate()
        .map(|(at, bits)| (-3_000 + 1_001 * at as i64, f64::from_bits(*bits)))
        .collect();
    let many: Vec<(i64, f64)> = (0..5_000)
        .map(|at| (at * 15_000, at as f64 / 7.0))
        .collect();
    let message = Message::default()
        .series(&[("__name__", "hard"), ("l", "q\"b\\n\nn é,={}")], &samples)
        .series(&[("__name__", "my.metric"), ("a.b", "#x")], &samples)
        .series(&[("__name__", "many")], &many);
    client.write_samples(&message).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (path(folder.path(), "one.om"), path(folder.path(), "two.om"));
    let export = ["export", "--match", "{__name__=~\".+\"}", "-o"];
    done(&client, &[&export[..], &[&one]].concat()).await;
    let text = std::fs::read_to_string(&one).expect("a file");
    assert_eq!(text.lines().count(), 2 * BITS.len() + 5_000 + 1);
    assert!(
        text.contains("hard{l=\"q\\\"b\\\\n\\nn é,={}\"} 0.0 -3\n"),
        "{text}"
    );
    assert!(text.contains("NaN(0x7ff0000000000002)"));

    let small = ["--batch-bytes", "4096", "--database", "other"];
    let said = done(&client, &[&["import", &one][..], &small].concat()).await;
    assert!(
        said.contains(&format!("{} lines", text.lines().count())),
        "{said}"
    );
    let other = [&export[..], &[&two, "--database", "other"]].concat();
    done(&client, &other).await;
    assert_eq!(std::fs::read_to_string(&two).expect("a file"), text);

    let portable = path(folder.path(), "portable.om");
    let times = ["--portable", "--start", "0", "--end", "5.1"];
    done(
        &client,
        &[&["export", "--match", "hard", "-o", &portable][..], &times].concat(),
    )
    .await;
    let text = std::fs::read_to_string(&portable).expect("a file");
    let values: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split("} ").nth(1))
        .collect();
    // The stale marker between the last two is left out.
    assert_eq!(
        values,
        [
            "2.225073858507201e-308 0.003",
            "1.7976931348623157e308 1.004",
            "+Inf 2.005",
            "-Inf 3.006",
            "NaN 4.007"
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn rows_are_the_same_elsewhere() {
    let mut server = Server::start(&Place::folder()).await;
    let client = server.client();
    let lines = "t,host=a\\ b\\,c,x=é f=-0,i=-9223372036854775808i,u=18446744073709551615u,b=true,s=\"q\\\"b\\\\\n#\" -1\n\
                 t f=5e-324,s=\"\" 1700000000000000001\n\
                 t,host=c\\=d f=1.7976931348623157e308,b=false 1700000000000000002\n\
                 \"odd\\ t\",host=a v=1i 5\n";
    client.write_lines(lines).await;
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str| path(folder.path(), name);
    let rows = async |database: &str, table: &str| -> Vec<Value> {
        let sql = format!("SELECT *, CAST(time AS BIGINT) AS ns FROM \"{table}\" ORDER BY time");
        let query = [("db", database), ("format", "json"), ("q", &*sql)];
        let reply = client.get("/api/v3/query_sql", &query).await.expect(200);
        reply.json().as_array().expect("rows").clone()
    };
    let want = rows("default", "t").await;
    assert_eq!(want.len(), 3);
    done(&client, &["export", "--table", "t", "-o", &of("t.lp")]).await;
    let text = std::fs::read_to_string(of("t.lp")).expect("a file");
    assert!(text.contains("f=-0.0"), "{text}");
    done(&client, &["import", &of("t.lp"), "--database", "lines"]).await;
    assert_eq!(rows("lines", "t").await, want);

    done(&client, &["export", "--table", "t", "-o", &of("t.parquet")]).await;
    let import = [
        "import",
        &of("t.parquet"),
        "--database",
        "parquet",
        "--table",
        "t",
    ];
    done(&client, &[&import[..], &["--tags", "host,x"]].concat()).await;
    assert_eq!(rows("parquet", "t").await, want);

    done(&client, &["export", "--table", "t", "-o", &of("t.csv")]).await;
    let import = [
        "import",
        &of("t.csv"),
        "--database",
        "csv",
        "--table",
        "t",
        "--tags",
        "host,x",
    ];
    let types = ["--types", "i=integer,u=unsigned,b=boolean,s=string"];
    done(&client, &[&import[..], &types].concat()).await;
    let mut csv = rows("csv", "t").await;
    // Of CSV an empty text is an empty cell.
    csv[1]["s"] = Value::from("");
    assert_eq!(csv, want);

    let query = "SELECT time, host, i + 1 AS j FROM t WHERE host IS NOT NULL AND i IS NOT NULL";
    let export = [
        "export",
        "--query",
        query,
        "--table",
        "new",
        "--format",
        "line-protocol",
    ];
    let (code, out) = tidelake(&client, &[&export[..], &["--tags", "host"]].concat()).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("new,host=a\\ b\\,c j=-9223372036854775807i -1\n"),
        "{out}"
    );

    let (code, out) = tidelake(&client, &["export", "--table", "none", "--format", "csv"]).await;
    assert_eq!(code, Some(1), "{out}");
    let copy = [("db", "default"), ("q", "COPY t TO '/tmp/x.csv'")];
    let reply = client.get("/api/v3/query_sql", &copy).await.expect(400);
    assert!(reply.text().contains("tidelake export"), "{}", reply.text());
    server.stop().await;
}

#[tokio::test]
async fn bad_lines_stop_an_import_that_goes_on_behind_good_batches() {
    let mut server = Server::start(&Place::folder()).await;
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "x.txt");
    let mut text: String = (0..1000)
        .map(|at| format!("x{{n=\"{at}\"}} 1 {at}\n"))
        .collect();
    text.push_str("x broken\nx{n=\"last\"} 1 5\n");
    std::fs::write(&file, &text).expect("a file");
    let import = [
        "import",
        &file,
        "--format",
        "prometheus",
        "--batch-bytes",
        "4096",
    ];
    let (code, out) = tidelake(&client, &import).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("line 1001: invalid value \"broken\""), "{out}");
    assert!(out.contains("x broken"), "{out}");
    // How far it came is beside the input.
    let state = std::fs::read_to_string(format!("{file}.tidelake-import")).expect("a state");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    let line = state["position"]["line"].as_u64().expect("a line");
    assert!((800..1001).contains(&line), "{state}");
    let (code, out) = tidelake(&client, &[&import[..], &["--skip-bad"]].concat()).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("1002 lines, ") && out.contains("1 bad ones left out"),
        "{out}"
    );
    assert!(!Path::new(&format!("{file}.tidelake-import")).exists());
    let found = client.promql("count(last_over_time(x[10s]))", "5").await;
    assert_eq!(found[0]["value"][1], "1001");
    // What it is has to be said.
    let unknown = path(folder.path(), "y.bin");
    std::fs::write(&unknown, "a b c").expect("a file");
    let (code, out) = tidelake(&client, &["import", &unknown]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("--format"), "{out}");
    server.stop().await;
}

//! kill -9 at random moments: what was acknowledged is there, once, by every way out, and nothing else is.
//!
//! `TIDELAKE_TEST_SEED` repeats a run as far as threads allow; `TIDELAKE_CRASH_ROUNDS` makes it longer.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidelake_catalog::catalog::CatalogOptions;
use tidelake_catalog::{Catalog, S3Settings, Store};

use crate::server::{Place, Server};

const WRITERS: i64 = 4;
/// Points of a batch: all of them or none.
const BATCH: i64 = 20;
/// Where a writer's points begin, in milliseconds; they are a millisecond apart.
const BEGIN: i64 = 1_790_000_000_000;

#[derive(Debug, Default)]
struct Writer {
    /// The next batch.
    next: AtomicI64,
}

/// Which points there are: (writer, number) -> how often.
type Seen = BTreeMap<(i64, i64), u32>;

/// Writes batches until the server is gone; those acknowledged are told. Odd writers use remote write.
async fn write(url: String, id: i64, writer: Arc<Writer>, acknowledged: tokio::sync::mpsc::UnboundedSender<(i64, i64)>) {
    let client = reqwest::Client::new();
    loop {
        let batch = writer.next.fetch_add(1, Ordering::Relaxed);
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let name = id.to_string();
        let request = if id % 2 == 1 {
            let samples: Vec<_> = numbers.clone().map(|n| (n as f64, BEGIN + n)).collect();
            let body = crate::remote_write::body(&[("__name__", "crash_n"), ("writer", &name)], &samples);
            let request = client.post(format!("{url}/api/v1/write")).header("content-type", "application/x-protobuf");
            request.header("content-encoding", "snappy").body(body)
        } else {
            let lines: String = numbers.clone().map(|n| format!("crash,writer={id} n={n}i {}\n", (BEGIN + n) * 1_000_000)).collect();
            client.post(format!("{url}/api/v2/write?bucket=default")).body(lines)
        };
        match request.send().await {
            Ok(answer) if answer.status().is_success() => numbers.for_each(|n| acknowledged.send((id, n)).unwrap()),
            Ok(answer) if answer.status() == 503 => {}
            Ok(answer) => panic!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()),
            Err(_) => return,
        }
    }
}

fn judge(way: &str, seed: u64, acknowledged: &HashMap<(i64, i64), ()>, sent: &[Arc<Writer>], seen: &Seen) {
    let lost: Vec<_> = acknowledged.keys().filter(|key| !seen.contains_key(key)).take(5).collect();
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count != 1).take(5).collect();
    let was_sent = |writer: i64, n: i64| sent.get(writer as usize).is_some_and(|w| n / BATCH < w.next.load(Ordering::Relaxed));
    let alien: Vec<_> = seen.keys().filter(|(writer, n)| !was_sent(*writer, *n)).take(5).collect();
    let half: Vec<_> = batches(seen).into_iter().filter(|(_, count)| *count != BATCH).take(5).collect();
    assert!(
        lost.is_empty() && doubled.is_empty() && alien.is_empty() && half.is_empty(),
        "{way}, seed {seed}: lost {lost:?}, doubled {doubled:?}, alien {alien:?}, half there {half:?}"
    );
}

/// Points that are there of each batch of which any is.
fn batches(seen: &Seen) -> BTreeMap<(i64, i64), i64> {
    let mut batches = BTreeMap::new();
    for (writer, n) in seen.keys() {
        *batches.entry((*writer, n / BATCH)).or_insert(0) += 1;
    }
    batches
}

async fn by_sql(server: &Server) -> Seen {
    let mut seen = Seen::new();
    let lines = "SELECT CAST(writer AS BIGINT) AS w, n, CAST(time AS BIGINT) AS t FROM crash";
    let metrics =
        "SELECT CAST(writer AS BIGINT) AS w, CAST(value AS BIGINT) AS n, CAST(time AS BIGINT) * 1000000 AS t FROM metrics.crash_n";
    for query in [lines, metrics] {
        for row in server.rows(query).await {
            let n = row["n"].as_i64().unwrap();
            assert_eq!(row["t"].as_i64(), Some((BEGIN + n) * 1_000_000), "{row}");
            *seen.entry((row["w"].as_i64().unwrap(), n)).or_insert(0) += 1;
        }
    }
    seen
}

async fn by_promql(server: &Server) -> Seen {
    let mut seen = Seen::new();
    for series in server.promql("crash_n[1d]", BEGIN / 1000 + 3600).await.as_array().unwrap() {
        let writer: i64 = series["metric"]["writer"].as_str().unwrap().parse().unwrap();
        for value in series["values"].as_array().unwrap() {
            *seen.entry((writer, value[1].as_str().unwrap().parse().unwrap())).or_insert(0) += 1;
        }
    }
    seen
}

/// The rows of the files that the catalog names.
async fn by_files(place: &Place) -> Seen {
    let folder = place.path();
    let store = Store::open(&folder.to_string_lossy(), &S3Settings::default()).unwrap();
    let catalog = Catalog::load(store, CatalogOptions::default()).await.unwrap();
    let snapshot = catalog.snapshot();
    let mut seen = Seen::new();
    for segment in snapshot.segments() {
        let is_wide = &*segment.table == "crash";
        let index = rows(&folder.join(segment.index_key()));
        let mut writer_of = HashMap::new();
        for batch in &index {
            let ids = cast(batch.column_by_name("series_id").unwrap(), &DataType::Int64).unwrap();
            let labels = batch.column_by_name("labels").unwrap().as_map();
            for row in 0..batch.num_rows() {
                let pairs = labels.value(row);
                let (names, values) = (pairs.column(0).as_string::<i32>(), pairs.column(1).as_string::<i32>());
                let at = (0..names.len()).find(|&at| names.value(at) == "writer").unwrap_or_else(|| panic!("{pairs:?}"));
                let value = values.value(at).parse::<i64>().unwrap_or_else(|error| panic!("{error}: {pairs:?}"));
                writer_of.insert(ids.as_primitive::<Int64Type>().value(row), value);
            }
        }
        for batch in rows(&folder.join(segment.data_key())) {
            let column = |name: &str| cast(batch.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
            let n = column(if is_wide { "n" } else { "value" });
            let writer = if is_wide {
                cast(&cast(batch.column_by_name("writer").unwrap(), &DataType::Utf8).unwrap(), &DataType::Int64).unwrap()
            } else {
                column("series_id")
            };
            for row in 0..batch.num_rows() {
                let writer = writer.as_primitive::<Int64Type>().value(row);
                let writer = if is_wide { writer } else { writer_of[&writer] };
                *seen.entry((writer, n.as_primitive::<Int64Type>().value(row))).or_insert(0) += 1;
            }
        }
    }
    seen
}

fn rows(path: &std::path::Path) -> Vec<arrow::record_batch::RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("TIDELAKE_TEST_SEED").unwrap_or_else(rand::random);
    let rounds = number("TIDELAKE_CRASH_ROUNDS").unwrap_or(5);
    eprintln!("TIDELAKE_TEST_SEED={seed}");
    for place in [Some(Place::folder()), Place::s3()].into_iter().flatten() {
        let mut random = StdRng::seed_from_u64(seed);
        let writers: Vec<Arc<Writer>> = (0..WRITERS).map(|_| Arc::default()).collect();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut acknowledged = HashMap::new();
        for _ in 0..rounds {
            // Some rounds flush by themselves, and merge.
            let interval = random.random_range(20..2000).to_string();
            let server = Server::start_with(&place, &["--flush-interval-ms", &interval]).await;
            let url = server.url.clone();
            let tasks: Vec<_> =
                (0..WRITERS).map(|id| tokio::spawn(write(url.clone(), id, Arc::clone(&writers[id as usize]), tell.clone()))).collect();
            tokio::time::sleep(Duration::from_millis(random.random_range(50..700))).await;
            server.kill();
            for task in tasks {
                task.await.unwrap();
            }
            while let Ok(key) = told.try_recv() {
                acknowledged.insert(key, ());
            }
        }
        assert!(acknowledged.len() > 100, "only {} points were acknowledged", acknowledged.len());
        let server = Server::start(&place).await;
        judge("SQL", seed, &acknowledged, &writers, &by_sql(&server).await);
        judge("PromQL", seed, &acknowledged, &writers, &by_promql(&server).await);
        server.flush().await;
        server.compact().await;
        judge("SQL after merging", seed, &acknowledged, &writers, &by_sql(&server).await);
        judge("PromQL after merging", seed, &acknowledged, &writers, &by_promql(&server).await);
        assert_eq!(server.interrupt().await.code(), Some(0));
        if place.path().exists() {
            judge("the files", seed, &acknowledged, &writers, &by_files(&place).await);
        }
    }
}

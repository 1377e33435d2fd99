//! What the write path does besides writing: it puts writes off, and cleans up after processes that
//! died.

use bytes::Bytes;
use tidelake_catalog::Store;
use tidelake_catalog::keys;
use tidelake_catalog::model::{Limits, METRICS_TABLE};

use futures::future::join_all;

use super::*;
use crate::wal::frame::{self, ObjectHeader, ObjectKind};
use crate::wal::{ContentEncoding, OtlpFormat, Precision, Protocol};

const PROTOCOL: Protocol = Protocol::LineProtocol {
    precision: Precision::Nanosecond,
};

fn request() -> WriteRequest {
    let body = Bytes::from_static(b"cpu,host=a usage=1 1");
    WriteRequest {
        database: "d".to_owned(),
        protocol: PROTOCOL,
        encoding: ContentEncoding::Identity,
        accept_partial: true,
        body,
    }
}

#[tokio::test]
async fn writes_that_are_put_off_get_503_and_flushes_go_on() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let ingester = Ingester::start(Arc::clone(&catalog), IngestOptions::default())
        .await
        .unwrap();
    ingester.write(request()).await.unwrap();
    ingester.put_off_writes(Some("too much waits".to_owned()));
    let error = ingester.write(request()).await.unwrap_err();
    assert_eq!(
        error,
        IngestError::Unavailable {
            reason: "too much waits".to_owned(),
            retry_after_s: PUT_OFF_RETRY_S
        }
    );
    assert_eq!(ingester.counters().deferred.load(Ordering::Relaxed), 1);
    ingester.flush().await.unwrap();
    assert_eq!(catalog.snapshot().segments().count(), 1);
    ingester.put_off_writes(None);
    ingester.write(request()).await.unwrap();
}

#[tokio::test]
async fn large_rows_leave_room_for_small_requests() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let options = IngestOptions {
        buffer_bytes: 4 << 20,
        ..IngestOptions::default()
    };
    let ingester = Ingester::start(catalog, options).await.unwrap();
    let lines = |count: usize| WriteRequest {
        body: (0..count)
            .map(|time| format!("m v={time} {time}\n"))
            .collect::<String>()
            .into(),
        ..request()
    };
    // Each takes two megabytes, and three of the four are for large rows.
    ingester.write(lines(100_000)).await.unwrap();
    let error = ingester.write(lines(100_000)).await.unwrap_err();
    assert!(
        matches!(&error, IngestError::Unavailable { reason, .. } if reason.contains("buffer_bytes")),
        "{error}"
    );
    ingester.write(request()).await.unwrap();

    // The same for those that come at once.
    ingester.flush().await.unwrap();
    let outcomes = join_all((0..6).map(|_| ingester.write(lines(100_000)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    ingester.write(request()).await.unwrap();
}

#[tokio::test]
async fn a_body_of_more_samples_than_are_taken_at_a_time_is_refused() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let memory = MemoryBudget::unlimited();
    let registries = Arc::new(Registries::new(1 << 20, Arc::clone(&memory)));
    // `__name__="x"`, and two samples of nothing.
    let label = b"\x0a\x0d\x0a\x08__name__\x12\x01x";
    let mut body = vec![0x0a, label.len() as u8 + 4];
    body.extend_from_slice(label);
    body.extend_from_slice(&[0x12, 0, 0x12, 0]);
    let frame = Frame {
        database: "d".into(),
        protocol: Protocol::RemoteWrite1,
        encoding: ContentEncoding::Identity,
        received_ns: 1,
        limits: LabelLimits::NONE,
        body: body.into(),
    };
    let preparer = || {
        let (catalog, registries) = (Arc::clone(&catalog), Arc::clone(&registries));
        Preparer::new(catalog, registries, 1 << 20, 1 << 20, Arc::clone(&memory))
    };
    let refused = preparer().for_new(1).prepare(&frame, true).await;
    assert!(matches!(refused, Err(IngestError::TooLarge(_))));
    // A replay takes what was acknowledged.
    assert!(preparer().prepare(&frame, true).await.is_ok());
}

#[tokio::test]
async fn what_a_killed_process_left_of_the_log_goes_at_the_next_start_but_what_holds_a_number() {
    let store = Store::memory();
    let catalog = Catalog::open(store.clone(), "n", "").await.unwrap();
    let frame = Frame {
        database: "d".into(),
        protocol: PROTOCOL,
        encoding: ContentEncoding::Identity,
        received_ns: 1,
        limits: LabelLimits::NONE,
        body: request().body,
    };
    let put = async |epoch, seq, frames: usize, cut: usize| {
        let header = ObjectHeader {
            kind: if frames == 0 {
                ObjectKind::Fence
            } else {
                ObjectKind::Group
            },
            writer: WriterId([1; 16]),
            epoch,
            seq,
            durable_end: 0,
            order: 0,
        };
        let object = frame::encode(&header, &vec![frame.clone(); frames]).unwrap();
        store
            .put(
                &keys::wal_object("n", epoch, seq),
                object.slice(..object.len() - cut),
            )
            .await
            .unwrap();
    };
    // Epoch 1: groups, an object that ends early, its fence. Epoch 2: groups, of which two are
    // covered, and a fence.
    for (epoch, seq, frames, cut) in [
        (1, 0, 1, 0),
        (1, 1, 2, 0),
        (1, 2, 1, 7),
        (1, 3, 0, 0),
        (2, 0, 1, 0),
        (2, 1, 1, 0),
        (2, 2, 1, 0),
        (2, 3, 0, 0),
    ] {
        put(epoch, seq, frames, cut).await;
    }
    catalog.register("n", "").await.unwrap();
    catalog
        .commit_flush(
            snapshot::WalPosition {
                epoch: 2,
                next_seq: 2,
            },
            &[],
        )
        .await
        .unwrap();
    catalog.register("n", "").await.unwrap();
    let _ingester = Ingester::start(Arc::new(catalog), IngestOptions::default())
        .await
        .unwrap();
    let mut left = Vec::new();
    for _ in 0..1000 {
        left.clear();
        for epoch in 1..=2 {
            for seq in 0..=3 {
                if store.get(&keys::wal_object("n", epoch, seq)).await.is_ok() {
                    left.push((epoch, seq));
                }
            }
        }
        if left.len() <= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Replayed, and not covered yet: 2/2.
    assert_eq!(left, [(1, 2), (1, 3), (2, 2), (2, 3)]);
}

/// A process of the node on a store, and how many rows it replayed. Dropped, it is as good as
/// killed.
async fn start(
    store: &Store,
    names: NameLimits,
    labels: LabelLimits,
) -> (Arc<Ingester>, Arc<Catalog>, usize) {
    let catalog = Arc::new(Catalog::open(store.clone(), "n", "").await.unwrap());
    let options = IngestOptions {
        names,
        labels,
        ..IngestOptions::default()
    };
    let ingester = Ingester::start(Arc::clone(&catalog), options)
        .await
        .unwrap();
    let rows = ingester.buffered().1;
    (ingester, catalog, rows)
}

fn lines(database: &str, text: &str) -> WriteRequest {
    WriteRequest {
        database: database.to_owned(),
        body: Bytes::copy_from_slice(text.as_bytes()),
        ..request()
    }
}

/// The numbers of the lines that are refused, and how many are kept.
async fn refused(ingester: &Ingester, text: &str) -> (Vec<usize>, u64) {
    let outcome = ingester.write(lines("d", text)).await.unwrap();
    let numbers = outcome.errors.iter().map(|error| error.line).collect();
    (numbers, outcome.written.samples)
}

const SMALL: NameLimits = NameLimits {
    databases: 2,
    tables: 2,
    columns: 3,
    families: 2,
};

fn labels(value_bytes: u32) -> LabelLimits {
    LabelLimits {
        value_bytes,
        ..LabelLimits::NONE
    }
}

#[tokio::test]
async fn names_beyond_the_limits_are_refused_line_by_line() {
    let store = Store::memory();
    let (ingester, catalog, _) = start(&store, SMALL, labels(4)).await;
    let text = "a f=1 1\na,t=12345 f=1 2\nb,t=1,u=1 f=1 1\nb g=1 1\nc f=1 1\na,t=1 f=2 3";
    assert_eq!(refused(&ingester, text).await, (vec![2, 4, 5], 3));
    catalog.create_database("e").await.unwrap();
    let sequence = catalog.snapshot().sequence();
    let error = ingester.write(lines("f", "a f=1 1")).await.unwrap_err();
    assert!(
        matches!(&error, IngestError::BadRequest(reason) if reason.contains("max_databases")),
        "{error}"
    );
    assert_eq!(catalog.snapshot().sequence(), sequence);
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.databases().count(), 2);
    assert_eq!(snapshot.database("d").unwrap().tables.len(), 2);
}

#[tokio::test]
async fn bodies_that_race_for_the_last_table_lose_no_other_line() {
    let (ingester, catalog, _) = start(&Store::memory(), SMALL, labels(0)).await;
    let texts = ["a f=1 1\nx f=1 1", "a f=2 2\ny f=1 1", "a f=3 3\nz f=1 1"];
    let outcomes = futures::future::join_all(texts.map(|text| refused(&ingester, text))).await;
    let kept: u64 = outcomes.iter().map(|(_, kept)| kept).sum();
    assert_eq!(kept, 4, "{outcomes:?}");
    assert_eq!(
        catalog.snapshot().database("d").unwrap().tables.len(),
        SMALL.tables
    );
}

#[tokio::test]
async fn a_replay_refuses_what_was_refused_whatever_the_limits_are_now() {
    let store = Store::memory();
    let (first, ..) = start(&store, SMALL, labels(4)).await;
    let text = "a f=1 1\na,t=12345 f=1 2\nb,t=1,u=1 f=1 1\nb g=1 1\nc f=1 1\na,t=1 f=2 3";
    assert_eq!(refused(&first, text).await.1, 3);
    drop(first);
    let (_second, catalog, rows) = start(&store, NameLimits::default(), LabelLimits::NONE).await;
    assert_eq!(rows, 3);
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.database("d").unwrap().tables.len(), 2);
}

#[tokio::test]
async fn a_replay_keeps_what_was_kept_under_larger_limits() {
    let store = Store::memory();
    let (first, ..) = start(&store, NameLimits::default(), LabelLimits::NONE).await;
    let text = "a,t=12345 f=1,g=1,h=1,i=1 1\nb f=1 1\nc f=1 1";
    assert_eq!(refused(&first, text).await, (vec![], 3));
    for database in ["e", "f"] {
        first.write(lines(database, "a f=1 1")).await.unwrap();
    }
    drop(first);
    let (second, _, rows) = start(&store, SMALL, labels(4)).await;
    assert_eq!(rows, 5);
    // What is there goes on, but series of too long labels no longer do, known as they are.
    let text = "a,t=12345 f=2 2\na,t=1234 f=1,i=1 2\nb f=2 2\nc f=2 2\nx f=1 2";
    assert_eq!(refused(&second, text).await, (vec![1, 5], 3));
    second.write(lines("f", "a f=2 2")).await.unwrap();
    drop(second);
    let (_third, _, rows) = start(&store, NameLimits::default(), LabelLimits::NONE).await;
    assert_eq!(rows, 9);
}

/// A remote write of one sample of `up`, with metadata of these families: a help text each.
fn described(families: &[(&str, &str)]) -> WriteRequest {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length > 127 {
            out.push(length as u8 | 128);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    };
    let label = [field(1, b"__name__"), field(2, b"up")].concat();
    let mut body = field(1, &[field(1, &label), field(2, &[])].concat());
    for (family, help) in families {
        let metadata = [field(2, family.as_bytes()), field(4, help.as_bytes())].concat();
        body.extend_from_slice(&field(3, &metadata));
    }
    WriteRequest {
        protocol: Protocol::RemoteWrite1,
        body: body.into(),
        ..request()
    }
}

#[tokio::test]
async fn metadata_beyond_the_limit_are_refused_and_samples_kept() {
    let store = Store::memory();
    let (ingester, catalog, _) = start(&store, SMALL, labels(4)).await;
    let write = async |families: &[(&str, &str)]| {
        let outcome = ingester.write(described(families)).await.unwrap();
        assert_eq!(outcome.written.samples, 1);
        let messages = outcome.errors.into_iter().map(|error| error.message);
        (messages.collect::<Vec<_>>().join("; "), outcome.refused)
    };
    let (text, refused) = write(&[
        ("a", "1"),
        ("long_name", "1"),
        ("b", "1"),
        ("c", "1"),
        ("d", "1"),
    ])
    .await;
    assert_eq!(refused, 2);
    assert!(
        text.contains("max_label_value_bytes") && text.contains("of 2 metric families"),
        "{text}"
    );
    assert!(text.contains("max_metric_families"), "{text}");
    let long = "é".repeat(1000);
    assert_eq!(write(&[("b", &long)]).await.1, 0);
    let kept: Vec<(String, usize)> = catalog
        .snapshot()
        .database("d")
        .unwrap()
        .metadata
        .iter()
        .map(|(family, metadata)| (family.to_string(), metadata.help.len()))
        .collect();
    assert_eq!(kept, [("a".to_owned(), 1), ("b".to_owned(), 1024)]);
}

/// A flush goes part by part; a part holds two runs here.
#[tokio::test]
async fn all_series_of_all_parts_are_flushed_in_order() {
    let store = Store::memory();
    let (ingester, catalog, _) = start(&store, NameLimits::default(), LabelLimits::NONE).await;
    let mut hosts: Vec<String> = (0..7).map(|host| format!("host-{host}")).collect();
    for time in [2, 1] {
        let text: Vec<String> = hosts
            .iter()
            .flat_map(|host| ["x", "y"].map(|disk| format!("m,host={host},disk={disk} f=1 {time}")))
            .collect();
        hosts.rotate_left(3);
        ingester.write(lines("d", &text.join("\n"))).await.unwrap();
    }
    ingester.flush().await.unwrap();
    let snapshot = catalog.snapshot();
    let segments: Vec<_> = snapshot.segments().collect();
    assert_eq!(segments.len(), 1);
    let found = (segments[0].rows, segments[0].series);
    assert_eq!(found, (2 * 2 * 7, 2 * 7));
    let tables = snapshot.table("d", "m").unwrap();
    let opened = segments[0].open_whole(&store, tables.schema.kind);
    let opened = opened.await.unwrap();
    let series = opened.index().all().await.unwrap();
    let labels = |at: usize| {
        let labels = &series[at].series.labels;
        (labels.get("host").unwrap(), labels.get("disk").unwrap())
    };
    assert!((1..series.len()).all(|at| labels(at - 1) < labels(at)));
    assert!(series.iter().all(|one| one.rows == 2));
}

fn of_tenant(active_series: u64, value_bytes: u64) -> Limits {
    Limits {
        active_series: Some(active_series),
        label_value_bytes: Some(value_bytes),
        ..Limits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_as_many_active_series_as_it_may() {
    let (ingester, catalog, _) = start(&Store::memory(), NameLimits::default(), labels(0)).await;
    let of = tidelake_catalog::model::LimitsOf::Database("d".into());
    catalog.set_limits(&of, of_tenant(3, 100)).await.unwrap();
    let rows = || ingester.buffered().1;
    let write = async |text: &str| ingester.write(lines("d", text)).await;
    write("m,t=1 f=1 1\nm,t=2 f=1 1\no,t=1 f=1 1")
        .await
        .unwrap();
    // The whole request, known series included, and other tenants go on.
    let error = write("m,t=1 f=2 2\nm,t=3 f=1 1").await.unwrap_err();
    let is_throttled = matches!(&error, IngestError::Throttled { reason, .. } if
        reason.contains("has 3 active series and may have 3 (limit active_series)"));
    assert!(is_throttled, "{error:?}");
    assert_eq!(rows(), 3);
    write("m,t=1 f=2 2\no,t=1 f=2 2").await.unwrap();
    ingester.write(lines("e", "m,t=9 f=1 1")).await.unwrap();
    // A flush makes no room by itself, as it can be asked for.
    ingester.flush().await.unwrap();
    assert!(write("m,t=3 f=3 3").await.is_err());
    // Later those that get points come again, and make no room for others.
    tokio::time::advance(Duration::from_secs(301)).await;
    ingester.flush().await.unwrap();
    write("m,t=1 f=3 3\nm,t=3 f=3 3\no,t=1 f=3 3")
        .await
        .unwrap();
    assert!(write("m,t=2 f=3 3").await.is_err());
    catalog.set_limits(&of, Limits::default()).await.unwrap();
    write("m,t=2 f=3 3").await.unwrap();
    catalog.set_limits(&of, of_tenant(0, 100)).await.unwrap();
    assert!(write("m,t=new f=3 3").await.is_err());
}

#[tokio::test]
async fn what_the_server_records_comes_in_any_case() {
    let names = NameLimits {
        databases: 1,
        tables: 1,
        ..NameLimits::default()
    };
    let (ingester, catalog, _) = start(&Store::memory(), names, labels(1)).await;
    ingester.write(lines("d", "m f=1 1")).await.unwrap();
    let of = tidelake_catalog::model::LimitsOf::Default;
    catalog.set_limits(&of, of_tenant(0, 1)).await.unwrap();
    ingester.put_off_writes(Some("too much waits".to_owned()));
    assert!(ingester.write(lines("d", "m f=1 2")).await.is_err());
    let line = lines(INTERNAL_DATABASE, "audit,action=long,node=long f=1 1");
    assert_eq!(ingester.write(line).await.unwrap().written.samples, 1);
}

#[tokio::test]
async fn limits_of_labels_that_change_lose_nothing() {
    let store = Store::memory();
    let (first, catalog, _) = start(&store, NameLimits::default(), LabelLimits::NONE).await;
    let of = tidelake_catalog::model::LimitsOf::Database("d".into());
    assert_eq!(refused(&first, "m,t=long f=1 1").await, (vec![], 1));
    catalog.set_limits(&of, of_tenant(9, 3)).await.unwrap();
    // A series that is known is held to the new limits, as a replay does it.
    let text = "m,t=long f=2 2\nm,t=s f=2 2";
    assert_eq!(refused(&first, text).await, (vec![1], 1));
    catalog.set_limits(&of, Limits::default()).await.unwrap();
    assert_eq!(refused(&first, "m,t=long f=3 3").await, (vec![], 1));
    assert_eq!(first.buffered().1, 3);
    drop(first);
    let (_second, _, rows) = start(&store, NameLimits::default(), LabelLimits::NONE).await;
    assert_eq!(rows, 3);
}

/// A gauge, or a delta, of one point in JSON.
fn otlp(data: &str) -> WriteRequest {
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
        {{"key":"host.name","value":{{"stringValue":"h"}}}}]}},
        "scopeMetrics":[{{"metrics":[{{"name":"a.b","unit":"s",{data}}}]}}]}}]}}"#
    );
    WriteRequest {
        protocol: Protocol::Otlp {
            format: OtlpFormat::Json,
        },
        body: body.into(),
        ..request()
    }
}

fn labels_of(ingester: &Ingester) -> Vec<String> {
    let mut labels = Vec::new();
    for recent in ingester.recent("d", METRICS_TABLE, TimeRange::ALL) {
        let runs = recent.rows.runs.iter();
        labels.extend(runs.map(|run| run.series.labels.to_string()));
    }
    labels.sort();
    labels.dedup();
    labels
}

#[tokio::test]
async fn otlp_is_replayed_as_it_was_translated() {
    let store = Store::memory();
    let start = async |otlp: crate::otlp::Settings| {
        let catalog = Catalog::open(store.clone(), "n", "").await.unwrap();
        let options = IngestOptions {
            otlp,
            ..IngestOptions::default()
        };
        Ingester::start(Arc::new(catalog), options).await.unwrap()
    };
    let promoting = crate::otlp::Settings {
        promotion: crate::otlp::Promotion::Only(vec!["host.name".into()]),
        ..crate::otlp::Settings::default()
    };
    let ingester = start(promoting).await;
    let point = r#""gauge":{"dataPoints":[{"timeUnixNano":"1000000","asDouble":1.5}]}"#;
    let outcome = ingester.write(otlp(point)).await.unwrap();
    assert_eq!(outcome.written.samples, 1);
    let expected = ["{__name__=\"a_b_seconds\", host_name=\"h\"}"];
    assert_eq!(labels_of(&ingester), expected);
    drop(ingester);
    let settings = crate::otlp::Settings {
        strategy: crate::otlp::Strategy::NoTranslation,
        ..crate::otlp::Settings::default()
    };
    let ingester = start(settings).await;
    assert_eq!(labels_of(&ingester), expected);
    ingester.write(otlp(point)).await.unwrap();
    let both = ["{__name__=\"a.b\"}", expected[0]];
    assert_eq!(labels_of(&ingester), both);
}

#[tokio::test]
async fn deltas_are_refused_or_summed_up() {
    let write = async |delta, times: [u64; 3]| {
        let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
        let otlp_settings = crate::otlp::Settings {
            delta,
            ..crate::otlp::Settings::default()
        };
        let options = IngestOptions {
            otlp: otlp_settings,
            ..IngestOptions::default()
        };
        let ingester = Ingester::start(catalog, options).await.unwrap();
        let (mut written, mut errors) = (0, Vec::new());
        for time in times {
            let points = format!(
                r#""sum":{{"aggregationTemporality":1,"dataPoints":[
                {{"timeUnixNano":"{time}000000","asInt":"2"}}]}}"#
            );
            let outcome = ingester.write(otlp(&points)).await.unwrap();
            written += outcome.written.samples;
            errors.extend(outcome.errors.into_iter().map(|error| error.message));
        }
        (written, errors)
    };
    let (written, errors) = write(Delta::Refuse, [1, 2, 3]).await;
    assert_eq!((written, errors.len()), (0, 3), "{errors:?}");
    let (written, errors) = write(Delta::Keep, [1, 2, 3]).await;
    assert_eq!((written, errors.len()), (3, 0), "{errors:?}");
    let (written, errors) = write(Delta::Accumulate, [1, 3, 2]).await;
    assert_eq!((written, errors.len()), (2, 1), "{errors:?}");
    assert!(errors[0].contains("older"), "{errors:?}");
}

#[tokio::test]
async fn clients_are_told_to_wait_as_long_again_as_the_log_was_away() {
    let catalog = Arc::new(Catalog::open(Store::memory(), "n", "").await.unwrap());
    let ingester = Ingester::start(Arc::clone(&catalog), IngestOptions::default())
        .await
        .unwrap();
    let now_ms = catalog.environment().now_ms();
    for (away_ms, expected) in [(0, 1), (500, 1), (7_900, 7), (100_000, 30)] {
        *ingester.log_away_since.lock() = Some(now_ms - away_ms);
        let told = ingester.log_retry_s();
        // A test that is held up sees a second more.
        assert!(
            (expected..=expected + 1).contains(&told),
            "{away_ms}: {told}"
        );
    }
    *ingester.log_away_since.lock() = None;
    assert_eq!(ingester.log_retry_s(), 1);
}

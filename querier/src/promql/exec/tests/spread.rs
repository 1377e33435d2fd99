//! Parts of aggregations that other processes compute: here over the same store, with all that can
//! go wrong on the way.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use tidelake_catalog::model::METRICS_TABLE;

use super::super::part;
use super::*;
use crate::parts::{PartRequest, Worker};
use crate::samples::DatabaseSamples;
use crate::tables::{State, Tables};
use crate::test_tables::{Cell, DATABASE, Row, TestTables, row, sample};

/// How another process behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    DoesIt,
    /// It cannot be reached.
    IsAway,
    /// Its answer ends after so many frames.
    DiesAfter(usize),
    /// It says nothing for ever after so many frames.
    StopsAfter(usize),
    /// It has not all of the state.
    SeesLess,
    /// What it answers cannot be read.
    TalksNonsense,
}

#[derive(Debug)]
struct Others {
    tables: Tables,
    options: EngineOptions,
    behaviours: [Behaviour; 2],
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Workers for Others {
    fn has_any(&self) -> bool {
        true
    }

    fn order(&self, _: &str) -> Vec<Worker> {
        vec![
            Worker::Node("0".into()),
            Worker::Here,
            Worker::Node("1".into()),
        ]
    }

    async fn ask(
        &self,
        node: &str,
        request: PartRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, String>>, String> {
        self.asked.lock().push(node.to_owned());
        let behaviour = self.behaviours[node.parse::<usize>().unwrap()];
        // What a process gets has gone through bytes.
        let snapshot = request.state.snapshot.to_bytes();
        let mut state = State {
            snapshot: Arc::new(Snapshot::from_bytes(&snapshot).unwrap()),
            recent: request.state.recent.clone(),
        };
        match behaviour {
            Behaviour::IsAway => return Err("connection refused".to_owned()),
            Behaviour::SeesLess => state.recent.clear(),
            _ => {}
        }
        let tables = self.tables.fixed(Arc::new(state));
        let source = Arc::new(DatabaseSamples::new(tables, DATABASE));
        let frames = part::compute(&request.head, source, &self.options);
        let frames = frames.map_err(|error| error.to_string())?.map(Ok);
        Ok(match behaviour {
            Behaviour::DiesAfter(count) => frames.take(count).boxed(),
            Behaviour::StopsAfter(count) => frames.take(count).chain(stream::pending()).boxed(),
            Behaviour::TalksNonsense => frames
                .map(|_| Ok(Bytes::from_static(b"\x01nonsense\xff")))
                .boxed(),
            _ => frames.boxed(),
        })
    }
}

/// Series of three tables, in segments and in memory of another process, enough for several blocks
/// of sums.
async fn tables() -> TestTables {
    let test = TestTables::new().await;
    test.recent.set_remote();
    let mut rows: Vec<(&str, Vec<Row>)> = vec![
        (METRICS_TABLE, Vec::new()),
        ("cpu", Vec::new()),
        ("disk", Vec::new()),
    ];
    for number in 0..120_u32 {
        for step in 0..5_i64 {
            let (ms, value) = (step * MINUTE, f64::from(number) / 3.0 + step as f64 * 0.1);
            let series = format!("up host=h{number} zone=z{}", number % 7);
            rows[0].1.push(sample(&series, ms, value));
            let fields = [
                ("usage", Cell::Float(value * 1e9)),
                ("idle", Cell::Float(-value)),
            ];
            let series = format!("host=h{number} zone=z{}", number % 7);
            rows[1].1.push(row(&series, ms * 1_000_000, &fields));
            let free = [("free", Cell::Integer(i64::from(number)))];
            rows[2].1.push(row(&series, ms * 1_000_000, &free));
        }
    }
    for (table, rows) in rows {
        let (flushed, recent) = rows.split_at(rows.len() / 3);
        test.flush(table, flushed).await;
        for chunk in recent.chunks(97) {
            test.buffer(table, chunk).await;
        }
    }
    test
}

const QUERIES: [&str; 11] = [
    r#"sum by (zone) ({__name__=~".+"})"#,
    r#"avg({__name__=~".+"})"#,
    r#"stddev by (zone) ({__name__=~".+", host!="h3"})"#,
    r#"count without (host) (rate({__name__=~".+"}[3m]))"#,
    r#"max(abs({__name__=~".+"} * 3)) / scalar(min({__name__=~".+"}))"#,
    r#"sum_over_time(sum({__name__=~".+"})[3m:1m])"#,
    r#"sum(quantile_over_time(2, {__name__=~".+"}[2m] @ end()))"#,
    r#"group by (zone) ({__name__=~".+"} offset 1m) + on (zone) sum by (zone) (up)"#,
    r#"topk(3, sum by (host) (irate({__name__=~".+"}[5m])))"#,
    // A scalar that reads something else, which others do not get.
    r#"sum(quantile_over_time(scalar(up{host="h1"}), {__name__=~".+"}[2m]))"#,
    r#"sum(predict_linear({__name__=~".+"}[2m], scalar(up{host="h7"} @ 0)))"#,
];

/// What is computed with the help of others, and who was asked.
async fn helped(
    test: &TestTables,
    query: &str,
    behaviours: [Behaviour; 2],
) -> (Result<QueryOutput, QueryError>, Vec<String>) {
    let options = EngineOptions {
        count_samples: true,
        distributed_query_rows: 1,
        ..EngineOptions::default()
    };
    let others = Arc::new(Others {
        tables: test.tables.clone(),
        options: options.clone(),
        behaviours,
        asked: Mutex::default(),
    });
    let options = EngineOptions {
        workers: Some(others.clone()),
        ..options
    };
    let output = output(test, query, &options).await;
    let mut asked = others.asked.lock().clone();
    asked.sort();
    (output, asked)
}

async fn output(
    test: &TestTables,
    query: &str,
    options: &EngineOptions,
) -> Result<QueryOutput, QueryError> {
    let source = Arc::new(DatabaseSamples::new(test.tables.clone(), DATABASE));
    let params = QueryParams::range(0, 5 * MINUTE, MINUTE);
    evaluate(&parse(query).unwrap(), query, params, source, options).await
}

/// An answer with all its bits, its remarks and its counts.
fn shown(output: &QueryOutput) -> String {
    let Value::Vector(rows) = &output.value else {
        panic!("{:?}", output.value)
    };
    let bits = |row: &SeriesRow| {
        let values = row.values.iter().map(|value| value.to_bits());
        format!("{} {:x?}", row.labels, values.collect::<Vec<_>>())
    };
    let rows: Vec<_> = rows.iter().map(bits).collect();
    let (read, steps) = (&output.stats.samples_read, &output.stats.samples_per_step);
    format!("{rows:#?} {:?} {read} {steps:?}", output.annotations)
}

/// Evaluates all queries alone and with help, and returns of each how many parts others were asked
/// for.
async fn check(test: &TestTables, behaviours: [Behaviour; 2]) -> Vec<usize> {
    let mut parts = Vec::new();
    for query in QUERIES {
        let alone = EngineOptions {
            count_samples: true,
            ..EngineOptions::default()
        };
        let alone = output(test, query, &alone).await.unwrap();
        let (helped, asked) = helped(test, query, behaviours).await;
        let helped = helped.unwrap();
        assert_eq!(shown(&helped), shown(&alone), "{query} {behaviours:?}");
        parts.push(asked.len());
    }
    parts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_do_not_depend_on_who_computes_them() {
    let test = tables().await;
    let parts = check(&test, [Behaviour::DoesIt; 2]).await;
    // One query has two aggregations.
    assert_eq!(parts, [2, 2, 2, 2, 4, 2, 2, 2, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_do_not_do_is_done_here() {
    use Behaviour::{DiesAfter, DoesIt, IsAway, SeesLess, TalksNonsense};
    let test = tables().await;
    let bad = [IsAway, DiesAfter(0), DiesAfter(1), SeesLess, TalksNonsense];
    for behaviour in bad {
        check(&test, [behaviour, DoesIt]).await;
        check(&test, [DoesIt, behaviour]).await;
    }
    check(&test, [DiesAfter(1), IsAway]).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_given_up() {
    let test = tables().await;
    let begun = Instant::now();
    let query = QUERIES[0];
    let behaviours = [Behaviour::StopsAfter(1), Behaviour::StopsAfter(0)];
    let helped = helped(&test, query, behaviours).await.0.unwrap();
    let alone = EngineOptions {
        count_samples: true,
        ..EngineOptions::default()
    };
    let alone = output(&test, query, &alone).await.unwrap();
    assert_eq!(shown(&helped), shown(&alone));
    assert!(begun.elapsed() < Duration::from_secs(6), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_name_who_did_what() {
    let test = tables().await;
    let options = EngineOptions {
        distributed_query_rows: 1,
        ..EngineOptions::default()
    };
    let others = Others {
        tables: test.tables.clone(),
        options: options.clone(),
        behaviours: [Behaviour::DoesIt, Behaviour::IsAway],
        asked: Mutex::default(),
    };
    let options = EngineOptions {
        workers: Some(Arc::new(others)),
        ..options
    };
    let source = Arc::new(DatabaseSamples::new(test.tables.clone(), DATABASE));
    let (query, params) = (QUERIES[0], QueryParams::instant(MINUTE));
    let expr = parse(query).unwrap();
    let explained = explain_analyze(&expr, query, params, source, &options).await;
    let explained = explained.unwrap();
    let tasks: Vec<&str> = explained
        .text
        .lines()
        .filter_map(|line| line.trim().split_once("total="))
        .filter_map(|(task, _)| task.starts_with("task on").then_some(task.trim()))
        .collect();
    assert_eq!(tasks.len(), 3, "{}", explained.text);
    assert!(
        tasks[0].starts_with("task on 0: batches=1, bytes="),
        "{tasks:?}"
    );
    assert_eq!(tasks[1], "task on 1: batches=2, bytes=0,");
    assert_eq!(tasks[2], "task on here: batches=1, bytes=0,");
    let text = &explained.text;
    assert!(text.contains("here because: connection refused"), "{text}");
    // All of the series count, whoever read them.
    let selector = text.lines().find(|line| line.contains("PromSelectExec"));
    assert!(selector.unwrap().contains("series=480,"), "{text}");
}

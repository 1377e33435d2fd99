//! Aggregations of SQL that other processes compute parts of: here over the same store.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;

use super::*;
use crate::Querier;
use crate::promql::exec::EngineOptions;
use crate::sql::SqlOptions;
use crate::test_tables::{Cell, DATABASE, TestTables, row};

/// How the other process behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    DoesIt,
    IsAway,
    /// Its answer ends after so many frames.
    DiesAfter(usize),
    /// It has not all of the state.
    SeesLess,
}

#[derive(Debug)]
struct Other {
    behaviour: Behaviour,
    querier: OnceLock<Querier>,
    asked: AtomicUsize,
}

#[async_trait]
impl Workers for Other {
    fn has_any(&self) -> bool {
        true
    }

    fn order(&self, _: &str) -> Vec<Worker> {
        vec![Worker::Node("other".into()), Worker::Here]
    }

    async fn ask(
        &self,
        _: &str,
        mut request: PartRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, String>>, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.behaviour {
            Behaviour::IsAway => return Err("connection refused".to_owned()),
            Behaviour::SeesLess => {
                let mut state = State::clone(&request.state);
                state.recent.clear();
                request.state = Arc::new(state);
            }
            _ => {}
        }
        let frames = self.querier.get().unwrap().part(request).unwrap();
        let most = match self.behaviour {
            Behaviour::DiesAfter(frames) => frames,
            _ => usize::MAX,
        };
        Ok(frames.take(most).map(Ok).boxed())
    }
}

fn querier(test: &TestTables, workers: Option<Arc<dyn Workers>>) -> Querier {
    let promql = EngineOptions {
        workers,
        distributed_query_rows: 1,
        ..EngineOptions::default()
    };
    let sql = SqlOptions {
        promql: promql.clone(),
        target_partitions: 2,
        ..SqlOptions::default()
    };
    Querier::new(test.tables.clone(), promql, sql).unwrap()
}

async fn answer_of(querier: &Querier, sql: &str) -> String {
    let text = querier.read_sql(sql).unwrap();
    let answer = querier.sql(DATABASE, text, HashMap::new(), false, None);
    let batches: Vec<_> = answer.await.unwrap().stream.try_collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Enough rows for two units, the last ones in memory. Sums of their values are exact.
async fn tables() -> TestTables {
    let test = TestTables::new().await;
    let mut rows = Vec::new();
    for number in 0..300_i64 {
        let series = format!("host=h{number} zone=z{}", number % 5);
        let first = row(&series, 0, &[]);
        for step in 0..1000_i64 {
            let value = ((number * 7 + step * 3) % 97) as f64;
            let fields = [("usage", Cell::Float(value))];
            rows.push(first.at(step * 1_000_000_000, &fields));
        }
    }
    let recent = rows.split_off(299_000);
    test.flush("cpu", &rows).await;
    test.buffer("cpu", &recent).await;
    test
}

/// Queries, and how many aggregations of each are over several units.
const QUERIES: [(&str, usize); 7] = [
    (
        "SELECT zone, count(*), sum(usage), avg(usage), min(usage), max(time) FROM cpu GROUP BY zone \
     ORDER BY zone",
        1,
    ),
    (
        "SELECT count(DISTINCT host) AS hosts FROM cpu WHERE usage > 90",
        1,
    ),
    (
        "SELECT date_bin(INTERVAL '5 minutes', time) AS t, count(usage) FROM cpu WHERE time < now() \
     GROUP BY t ORDER BY t",
        1,
    ),
    (
        "SELECT zone, n FROM (SELECT zone, host, count(*) AS n FROM cpu WHERE usage < 5 GROUP BY zone, \
     host) WHERE host IN ('h1', 'h299') ORDER BY host",
        0,
    ),
    (
        "SELECT a.zone, a.s - b.s AS d FROM (SELECT zone, sum(usage) AS s FROM cpu GROUP BY zone) a \
     JOIN (SELECT zone, sum(usage + 1) AS s FROM cpu GROUP BY zone) b ON a.zone = b.zone ORDER BY \
     a.zone",
        2,
    ),
    (
        "SELECT host FROM cpu WHERE usage > (SELECT 95.5) AND host = 'h9' ORDER BY time LIMIT 2",
        0,
    ),
    (
        "SELECT host FROM cpu WHERE usage = 96 ORDER BY host, time LIMIT 3",
        0,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_do_not_depend_on_who_computes_them() {
    use Behaviour::{DiesAfter, DoesIt, IsAway, SeesLess};
    let test = tables().await;
    let alone = querier(&test, None);
    let mut expected = Vec::new();
    for (sql, _) in QUERIES {
        expected.push(answer_of(&alone, sql).await);
    }
    for behaviour in [DoesIt, IsAway, DiesAfter(0), DiesAfter(1), SeesLess] {
        let other = Arc::new(Other {
            behaviour,
            querier: OnceLock::new(),
            asked: AtomicUsize::new(0),
        });
        let _ = other.querier.set(querier(&test, None));
        let helped = querier(&test, Some(other.clone()));
        for ((sql, aggregations), expected) in QUERIES.iter().zip(&expected) {
            let before = other.asked.load(Ordering::Relaxed);
            let answer = answer_of(&helped, sql).await;
            assert_eq!(&answer, expected, "{sql} {behaviour:?}");
            let asked = other.asked.load(Ordering::Relaxed) - before;
            assert_eq!(asked, *aggregations, "{sql}");
        }
        let explained = answer_of(&helped, &format!("EXPLAIN ANALYZE {}", QUERIES[0].0)).await;
        let parts = explained.lines().find(|line| line.contains("PartsExec"));
        let parts = parts.unwrap_or_else(|| panic!("{explained}"));
        assert!(parts.contains("parts=2, others=[other: "), "{parts}");
        assert_eq!(
            parts.contains("here because"),
            behaviour != DoesIt,
            "{parts}"
        );
    }
}

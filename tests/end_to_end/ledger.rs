//! Writers that keep a ledger of what they were told, and the questions that show whether it was
//! true.
//!
//! Point `n` of a writer has its time and its value from its number alone, so whatever is found can
//! be checked. A batch is one request and goes to two tables at once. What was answered 2xx must be
//! there; what was sent without an answer is there as a whole or not at all, and stays as it was
//! first found.
use std::collections::BTreeMap;
use std::ops::Range;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::protobuf::Message;

/// Ten minutes before midnight: the points come to lie on two days.
const FIRST_MS: i64 = 1_700_005_800_000;
const STEP_MS: i64 = 1_000;
const LARGEST_BATCH: u64 = 24;

/// Points by metric (a measurement is one too), writer and time in milliseconds.
pub type Points = BTreeMap<(String, String, i64), f64>;

/// Adds a point that must not be there yet.
pub fn add(points: &mut Points, metric: &str, writer: &str, time_ms: i64, value: f64) {
    let before = points.insert((metric.to_owned(), writer.to_owned(), time_ms), value);
    assert_eq!(
        before, None,
        "{metric} of {writer} at {time_ms} is there twice"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Answered 2xx, or found to be there.
    Kept,
    /// Sent, and not answered.
    Unknown,
    /// Never answered 2xx, and found not to be there.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Lines,
    RemoteWrite,
}

/// Why a writer stopped.
#[derive(Debug)]
pub enum End {
    /// The connection broke.
    Broken(#[allow(dead_code, reason = "shown when a test fails")] reqwest::Error),
    /// Something else than 2xx came.
    Refused(Reply),
}

#[derive(Debug)]
struct Writer {
    protocol: Protocol,
    name: String,
    random: StdRng,
    batches: Vec<(Range<u64>, Fate)>,
}

impl Writer {
    fn metric(&self, n: u64) -> String {
        let family = if self.protocol == Protocol::Lines {
            "lines"
        } else {
            "samples"
        };
        format!("{family}_{}", n % 2)
    }

    fn value(n: u64) -> f64 {
        n as f64 + 0.25
    }

    fn points(&self, batch: Range<u64>) -> Points {
        batch
            .map(|n| {
                (
                    (self.metric(n), self.name.clone(), time_ms(n)),
                    Self::value(n),
                )
            })
            .collect()
    }

    async fn send(&self, client: &Client, batch: Range<u64>) -> Result<Reply, reqwest::Error> {
        match self.protocol {
            Protocol::Lines => {
                let line = |n| {
                    format!(
                        "{},writer={} value={} {}\n",
                        self.metric(n),
                        self.name,
                        Self::value(n),
                        time_ms(n) * 1_000_000
                    )
                };
                client.try_write_lines(batch.map(line).collect()).await
            }
            Protocol::RemoteWrite => {
                let message = [0, 1]
                    .into_iter()
                    .fold(Message::default(), |message, parity| {
                        let samples: Vec<_> = batch
                            .clone()
                            .filter(|n| n % 2 == parity)
                            .map(|n| (time_ms(n), Self::value(n)))
                            .collect();
                        message.series(
                            &[("__name__", &self.metric(parity)), ("writer", &self.name)],
                            &samples,
                        )
                    });
                client.try_write_samples(&message).await
            }
        }
    }

    async fn write_until_refused(&mut self, client: &Client) -> End {
        loop {
            let first = self.batches.last().map_or(0, |(batch, _)| batch.end);
            let batch = first..first + self.random.random_range(2..=LARGEST_BATCH);
            self.batches.push((batch.clone(), Fate::Unknown));
            match self.send(client, batch).await {
                Ok(reply) if reply.status == 204 => {
                    self.batches.last_mut().expect("just added").1 = Fate::Kept
                }
                Ok(reply) => return End::Refused(reply),
                Err(error) => return End::Broken(error),
            }
        }
    }
}

fn time_ms(n: u64) -> i64 {
    FIRST_MS + n as i64 * STEP_MS
}

/// All writers.
#[derive(Debug)]
pub struct Ledger {
    writers: Vec<Writer>,
}

impl Ledger {
    /// So many writers, half of them by remote write.
    pub fn new(writers: usize, seed: u64) -> Self {
        let writer = |i: usize| Writer {
            protocol: if i.is_multiple_of(2) {
                Protocol::Lines
            } else {
                Protocol::RemoteWrite
            },
            name: format!("w{i}"),
            random: StdRng::seed_from_u64(seed.wrapping_add(i as u64)),
            batches: Vec::new(),
        };
        Self {
            writers: (0..writers).map(writer).collect(),
        }
    }

    /// All writers write at once until each of them is refused or cut off.
    pub async fn write_until_refused(&mut self, client: &Client) -> Vec<End> {
        join_all(
            self.writers
                .iter_mut()
                .map(|writer| writer.write_until_refused(client)),
        )
        .await
    }

    /// Sends again what was not answered, as clients do; it must be taken.
    pub async fn send_again(&mut self, client: &Client) {
        for writer in &mut self.writers {
            for i in 0..writer.batches.len() {
                if writer.batches[i].1 == Fate::Unknown {
                    let batch = writer.batches[i].0.clone();
                    writer
                        .send(client, batch)
                        .await
                        .expect("an answer")
                        .expect(204);
                    writer.batches[i].1 = Fate::Kept;
                }
            }
        }
    }

    /// Number of points that were acknowledged or found.
    pub fn kept(&self) -> u64 {
        let kept = self
            .writers
            .iter()
            .flat_map(|w| &w.batches)
            .filter(|(_, fate)| *fate == Fate::Kept);
        kept.map(|(batch, _)| batch.end - batch.start).sum()
    }

    /// Checks what was found against the ledger, and notes the fate of what was not answered.
    #[track_caller]
    pub fn check(&mut self, found: &Points, by: &str) {
        let mut expected = Points::new();
        for writer in &mut self.writers {
            for i in 0..writer.batches.len() {
                let (batch, fate) = writer.batches[i].clone();
                let points = writer.points(batch);
                if fate == Fate::Unknown {
                    let (there, all) = (
                        points.keys().filter(|key| found.contains_key(*key)).count(),
                        points.len(),
                    );
                    assert!(
                        there == 0 || there == all,
                        "{by}: {there} of {all} points of a request are there: {points:?}"
                    );
                    writer.batches[i].1 = if there == all { Fate::Kept } else { Fate::Lost };
                }
                if writer.batches[i].1 == Fate::Kept {
                    expected.extend(points);
                }
            }
        }
        let missing: Vec<_> = expected
            .iter()
            .filter(|(key, _)| !found.contains_key(*key))
            .take(5)
            .collect();
        assert!(
            missing.is_empty(),
            "{by}: acknowledged and not there: {missing:?}, ..."
        );
        let foreign: Vec<_> = found
            .iter()
            .filter(|(key, value)| expected.get(*key) != Some(*value))
            .take(5)
            .collect();
        assert!(
            foreign.is_empty(),
            "{by}: there and never acknowledged: {foreign:?}, ..."
        );
    }

    /// Checks what SQL and PromQL find.
    pub async fn check_queries(&mut self, client: &Client, stage: &str) {
        self.check(&by_sql(client).await, &format!("{stage}, SQL"));
        self.check(&by_promql(client).await, &format!("{stage}, PromQL"));
    }
}

/// All points, by SQL.
async fn by_sql(client: &Client) -> Points {
    let mut points = Points::new();
    for metric in ["lines_0", "lines_1", "samples_0", "samples_1"] {
        // In milliseconds, whatever the unit of the column.
        let query = format!(
            "SELECT writer, CAST(date_part('epoch', time) * 1000 AS BIGINT) AS ms, value FROM \
             {metric}"
        );
        let reply = client
            .get(
                "/api/v3/query_sql",
                &[("db", "default"), ("format", "jsonl"), ("q", &query)],
            )
            .await;
        // A table is there from the first request on that reached it.
        if reply.status == 400 || reply.status == 404 {
            assert!(reply.text().contains("not found"), "{}", reply.text());
            continue;
        }
        for line in reply.expect(200).text().lines() {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let time = row["ms"].as_i64().expect("a time");
            add(
                &mut points,
                metric,
                row["writer"].as_str().expect("a writer"),
                time,
                row["value"].as_f64().expect("a value"),
            );
        }
    }
    points
}

/// All points, by PromQL.
async fn by_promql(client: &Client) -> Points {
    let mut points = Points::new();
    // 20 days after the first point.
    let time = ((FIRST_MS + 20 * 86_400_000) / 1000).to_string();
    for series in client
        .promql(r#"{__name__=~"(lines|samples)_[01]"}[21d]"#, &time)
        .await
    {
        let label = |name: &str| series["metric"][name].as_str().expect("a label").to_owned();
        for sample in series["values"].as_array().expect("samples") {
            let ms = (sample[0].as_f64().expect("a time") * 1000.0).round() as i64;
            let value = sample[1]
                .as_str()
                .expect("a value")
                .parse()
                .expect("a number");
            add(&mut points, &label("__name__"), &label("writer"), ms, value);
        }
    }
    points
}

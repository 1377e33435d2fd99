//! What clients write: bodies as they go over the wire, with the cells that they stand for.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidelake_catalog::model::{METRICS_TABLE, TimeRange};
use tidelake_ingest::WriteRequest;
use tidelake_ingest::wal::{ContentEncoding, Precision, Protocol};

use crate::model::{CellKey, Model};
use crate::protobuf::Message;

pub const DATABASE: &str = "db";
const TABLES: [&str; 2] = ["cpu", "mem"];
pub const METRICS: [&str; 2] = ["up", "load"];
const DAY_MS: i64 = 86_400_000;

/// A request, and what it means.
pub struct Write {
    pub request: WriteRequest,
    /// Table, cell, value, in the order in which they are written.
    pub cells: Vec<(String, CellKey, String)>,
    /// The lines that must be refused, from 1.
    pub bad_lines: Vec<usize>,
}

/// A delete.
#[derive(Debug, Clone)]
pub struct Delete {
    pub table: String,
    /// Labels that a series must have.
    pub matchers: Vec<(&'static str, String)>,
    pub range: TimeRange,
}

impl Delete {
    /// Whether it takes a cell.
    pub fn takes(&self, (series, time, _): &CellKey) -> bool {
        let has = |name: &str, value: &str| {
            series
                .split(',')
                .any(|label| label.split_once('=') == Some((name, value)))
        };
        self.range.contains(*time) && self.matchers.iter().all(|(name, value)| has(name, value))
    }
}

/// Fields by name: the first letter is the type.
const FIELDS: [&str; 9] = ["f0", "f1", "i0", "u0", "s0", "f2", "i1", "s1", "f3"];

/// The value number `number` of a field: as line protocol writes it, and as a read shows it.
fn value(field: &str, number: u64) -> (String, String) {
    match field.as_bytes().first() {
        Some(b'i') => (format!("{number}i"), number.to_string()),
        Some(b'u') => (format!("{number}u"), number.to_string()),
        Some(b's') => (format!("\"v{number}\""), format!("v{number}")),
        _ => (format!("{number}.5"), format!("{number}.5")),
    }
}

/// One client, which writes series that nobody else writes.
pub struct Client {
    pub number: usize,
    pub node: usize,
    series: usize,
}

impl Client {
    pub fn new(number: usize, node: usize) -> Self {
        Self {
            number,
            node,
            series: 3,
        }
    }

    /// A request at `now_ms`; `numbers` makes its values unlike all others.
    pub fn write(
        &self,
        random: &mut StdRng,
        model: &Model,
        now_ms: i64,
        numbers: &mut u64,
    ) -> Write {
        if random.random_bool(0.3) {
            self.samples(random, model, now_ms, numbers)
        } else {
            self.lines(random, model, now_ms, numbers)
        }
    }

    fn lines(&self, random: &mut StdRng, model: &Model, now_ms: i64, numbers: &mut u64) -> Write {
        let mut text = String::new();
        let mut cells = Vec::new();
        let mut bad_lines = Vec::new();
        // New columns appear in the course of a simulation.
        let columns = (4 + *numbers as usize / 60).min(FIELDS.len());
        for line in 1..=random.random_range(1..8) {
            let table = *TABLES.choose(random).expect("there are tables");
            let (tags, series) = self.tags(random);
            let time = time(random, model, table, &series, now_ms) * 1_000_000;
            let mut fields = Vec::new();
            for field in FIELDS[..columns]
                .choose_multiple(random, 3)
                .take(random.random_range(1..=3))
            {
                *numbers += 1;
                fields.push((*field, value(field, *numbers)));
            }
            let is_bad = random.random_bool(0.06);
            let mut written: Vec<String> = fields
                .iter()
                .map(|(field, (written, _))| format!("{field}={written}"))
                .collect();
            let conflict = !written.is_empty() && model.is_column(table, fields[0].0);
            if is_bad && conflict {
                // Of another type than the column has.
                written[0] = format!(
                    "{}={}",
                    fields[0].0,
                    if fields[0].0.starts_with('s') {
                        "1i"
                    } else {
                        "\"text\""
                    }
                );
            } else if is_bad {
                written.push("broken".to_owned());
            }
            text.push_str(&format!("{table},{tags} {} {time}\n", written.join(",")));
            if is_bad {
                bad_lines.push(line);
                continue;
            }
            cells.extend(fields.into_iter().map(|(field, (_, shown))| {
                (
                    table.to_owned(),
                    (series.clone(), time, field.to_owned()),
                    shown,
                )
            }));
        }
        let accept_partial = random.random_bool(0.8);
        if !accept_partial && !bad_lines.is_empty() {
            cells.clear();
        }
        let protocol = Protocol::LineProtocol {
            precision: Precision::Nanosecond,
        };
        let request = WriteRequest {
            database: DATABASE.to_owned(),
            protocol,
            encoding: ContentEncoding::Identity,
            accept_partial,
            body: text.into(),
        };
        Write {
            request,
            cells,
            bad_lines,
        }
    }

    fn samples(&self, random: &mut StdRng, model: &Model, now_ms: i64, numbers: &mut u64) -> Write {
        let mut message = Message::default();
        let mut cells = Vec::new();
        for _ in 0..random.random_range(1..4) {
            let metric = *METRICS.choose(random).expect("there are metrics");
            let (instance, job) = (
                format!("c{}", self.number),
                format!("j{}", random.random_range(0..self.series)),
            );
            let series = format!("__name__={metric},instance={instance},job={job}");
            let mut samples = Vec::new();
            for _ in 0..random.random_range(1..4) {
                *numbers += 1;
                let time = time(random, model, METRICS_TABLE, &series, now_ms);
                samples.push((time, *numbers as f64 + 0.5));
                cells.push((
                    METRICS_TABLE.to_owned(),
                    (series.clone(), time, "value".to_owned()),
                    format!("{numbers}.5"),
                ));
            }
            message = message.series(
                &[("__name__", metric), ("instance", &instance), ("job", &job)],
                &samples,
            );
        }
        let request = WriteRequest {
            database: DATABASE.to_owned(),
            protocol: Protocol::RemoteWrite1,
            encoding: ContentEncoding::Snappy,
            accept_partial: true,
            body: message.snappy().into(),
        };
        Write {
            request,
            cells,
            bad_lines: Vec::new(),
        }
    }

    /// What the client deletes next, of its own.
    pub fn delete(&self, random: &mut StdRng, model: &Model) -> Option<Delete> {
        let tables = model.tables();
        let table = tables.choose(random)?.clone();
        let (owner, detail) = if table == METRICS_TABLE {
            ("instance", "__name__")
        } else {
            ("client", "host")
        };
        let mut matchers = vec![(owner, format!("c{}", self.number))];
        if random.random_bool(0.5) {
            let value = if table == METRICS_TABLE {
                METRICS.choose(random)?.to_string()
            } else {
                format!("h{}", random.random_range(0..2))
            };
            matchers.push((detail, value));
        }
        let known: Vec<i64> = model.times(&table);
        let (one, other) = (*known.choose(random)?, *known.choose(random)?);
        let range = if random.random_bool(0.3) {
            TimeRange::ALL
        } else {
            TimeRange::new(one.min(other), one.max(other))
        };
        Some(Delete {
            table,
            matchers,
            range,
        })
    }

    /// The tags of a series, and its name in the model.
    fn tags(&self, random: &mut StdRng) -> (String, String) {
        let number = random.random_range(0..self.series);
        // Not all have the same tags.
        let tags = if number == 2 {
            format!("client=c{}", self.number)
        } else {
            format!("client=c{},host=h{number}", self.number)
        };
        (tags.clone(), tags)
    }
}

/// A time in milliseconds: now, again, late, long ago or to come.
fn time(random: &mut StdRng, model: &Model, table: &str, series: &str, now_ms: i64) -> i64 {
    let unit = if table == METRICS_TABLE { 1 } else { 1_000_000 };
    match random.random_range(0..20) {
        0..=9 => (now_ms - random.random_range(0..20_000)) / 1000 * 1000,
        10..=14 => {
            let known: Vec<i64> = model
                .keys(table, series)
                .map(|(_, time, _)| time / unit)
                .collect();
            known
                .choose(random)
                .copied()
                .unwrap_or(now_ms / 1000 * 1000)
        }
        15..=17 => (now_ms - random.random_range(0..3 * DAY_MS)) / 3_600_000 * 3_600_000,
        18 => random.random_range(0..20 * DAY_MS) / DAY_MS * DAY_MS,
        _ => now_ms + random.random_range(0..DAY_MS),
    }
}

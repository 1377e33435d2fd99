//! What queries cost that have ended: the latest ones, those of the last hour that took most, and
//! sums of what has the same text.
//!
//! It is in memory, of this process, and takes at most half a megabyte, as counts and texts are
//! limited. A query is noted when its place becomes free, after its answer.

mod shape;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelake_catalog::segment::ReadCounts;

use self::shape::shape;
use super::Service;
use super::context::ServerAccess;
use super::slots::Language;

/// The latest queries that are kept.
const MAX_LATEST: usize = 100;
/// Queries of the last hour that are kept of each measure.
const MAX_COSTLY: usize = 20;
/// Texts with sums.
const MAX_TEXTS: usize = 128;
/// Bytes of a text that are kept.
const MAX_TEXT_BYTES: usize = 1024;
/// Bytes of the name of a database or token that are kept.
const MAX_NAME_BYTES: usize = 128;
/// Sums are those of this hour of the clock and the one before.
const HOUR_MS: i64 = 3_600_000;

/// What makes a query costly.
const MEASURES: [fn(&Cost) -> u64; 3] = [
    |cost| cost.read.requests,
    |cost| cost.read.bytes,
    |cost| cost.running.as_micros() as u64,
];

/// What a query took, or several together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Queries.
    pub queries: u64,
    /// Those without a whole answer.
    pub failed: u64,
    /// From its place to the end of its answer.
    pub running: Duration,
    /// Time of processors; of SQL that of operators that have ended.
    pub computing: Duration,
    /// What was read, also by other processes for it.
    pub read: ReadCounts,
}

impl Cost {
    /// What its requests to the store cost, in dollars, at a price of one.
    pub fn dollars(&self, request_price: f64) -> f64 {
        self.read.requests as f64 * request_price
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        self.queries += more.queries;
        self.failed += more.failed;
        self.running += more.running;
        self.computing += more.computing;
        self.read += more.read;
    }
}

/// A query that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedQuery {
    /// As it was listed.
    pub id: u64,
    /// Its language.
    pub language: Language,
    /// Its database.
    pub database: Box<str>,
    /// Who asked.
    pub principal: Box<str>,
    /// The class that it ended in.
    pub class: &'static str,
    /// When it got its place, in milliseconds since 1970.
    pub begun_ms: i64,
    /// How it ended.
    pub outcome: &'static str,
    /// The code of its failure, if there was one.
    pub code: Option<&'static str>,
    /// Its text, cut off; empty if it has none.
    pub text: Box<str>,
    /// What it took.
    pub cost: Cost,
}

impl EndedQuery {
    fn ended_ms(&self) -> i64 {
        let running = i64::try_from(self.cost.running.as_millis()).unwrap_or(i64::MAX);
        self.begun_ms.saturating_add(running)
    }
}

/// What queries of the same text took together; texts of SQL and InfluxQL without their constants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextCost {
    /// Their language.
    pub language: Language,
    /// Their database.
    pub database: Box<str>,
    /// Their text, cut off.
    pub text: Box<str>,
    /// When the latest ended, in milliseconds since 1970.
    pub ended_ms: i64,
    /// What they took.
    pub cost: Cost,
}

/// What ended queries cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedCosts {
    /// Since when queries are in the sums, in milliseconds since 1970.
    pub since_ms: i64,
    /// All of them.
    pub all: Cost,
    /// Those of each text, the longest running first. A text of which too little was asked is
    /// missing, and its earlier queries if it comes again.
    pub texts: Vec<TextCost>,
    /// The latest queries and the costly ones of the last hour, the latest first.
    pub queries: Vec<Arc<EndedQuery>>,
}

/// The ended queries of a process.
#[derive(Debug, Default)]
pub struct EndedQueries {
    hasher: RandomState,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Arc<EndedQuery>>,
    costly: [Vec<Arc<EndedQuery>>; MEASURES.len()],
    sums: Sums,
}

impl EndedQueries {
    /// Notes a query.
    pub fn note(&self, query: EndedQuery) {
        let query = Arc::new(query);
        let text = shape(query.language, &query.text);
        let key = (query.language, &query.database, &text);
        let key = self.hasher.hash_one(key);
        let ended_ms = query.ended_ms();
        let mut kept = self.kept.lock();
        if kept.latest.len() == MAX_LATEST {
            kept.latest.pop_front();
        }
        kept.latest.push_back(Arc::clone(&query));
        for (list, measure) in kept.costly.iter_mut().zip(MEASURES) {
            keep_costly(list, measure, &query);
        }
        kept.sums.turn(ended_ms);
        kept.sums.all[0] += query.cost;
        if let Some(known) = kept.sums.texts.get_mut(&key) {
            known.costs[0] += query.cost;
            known.ended_ms = ended_ms;
            return;
        }
        let new = TextSums {
            language: query.language,
            database: query.database.clone(),
            text: text.into(),
            ended_ms,
            costs: [query.cost, Cost::default()],
        };
        kept.sums.add(key, new);
    }

    /// What is known at a time.
    pub fn costs(&self, now_ms: i64) -> EndedCosts {
        let mut kept = self.kept.lock();
        let costly = kept.costly.iter().flatten();
        let costly = costly.filter(|query| query.ended_ms() >= now_ms.saturating_sub(HOUR_MS));
        let mut queries: Vec<_> = kept.latest.iter().chain(costly).cloned().collect();
        kept.sums.turn(now_ms);
        let texts = kept.sums.texts.values().map(TextSums::show);
        let mut texts: Vec<_> = texts.collect();
        let (since_ms, all) = (kept.sums.since_ms(), sum(kept.sums.all));
        drop(kept);
        queries.sort_unstable_by_key(|query| std::cmp::Reverse((query.ended_ms(), query.id)));
        queries.dedup_by_key(|query| query.id);
        texts.sort_unstable_by_key(|text| std::cmp::Reverse(text.cost.running));
        EndedCosts {
            since_ms,
            all,
            texts,
            queries,
        }
    }
}

/// Keeps a query if it took more than another of the last hour.
fn keep_costly(list: &mut Vec<Arc<EndedQuery>>, measure: fn(&Cost) -> u64, new: &Arc<EndedQuery>) {
    let cost = measure(&new.cost);
    if cost == 0 {
        return;
    }
    let since_ms = new.ended_ms().saturating_sub(HOUR_MS);
    list.retain(|query| query.ended_ms() >= since_ms);
    if list.len() == MAX_COSTLY {
        let costs = list.iter().map(|query| measure(&query.cost)).enumerate();
        match costs.min_by_key(|(_, cost)| *cost) {
            Some((at, least)) if least < cost => drop(list.swap_remove(at)),
            _ => return,
        }
    }
    list.push(Arc::clone(new));
}

/// Costs of this hour and of the one before.
type TwoHours = [Cost; 2];

fn sum([mut this, before]: TwoHours) -> Cost {
    this += before;
    this
}

#[derive(Debug)]
struct TextSums {
    language: Language,
    database: Box<str>,
    text: Box<str>,
    ended_ms: i64,
    costs: TwoHours,
}

impl TextSums {
    fn show(&self) -> TextCost {
        TextCost {
            language: self.language,
            database: self.database.clone(),
            text: self.text.clone(),
            ended_ms: self.ended_ms,
            cost: sum(self.costs),
        }
    }
}

/// Sums of two hours of the clock.
#[derive(Debug, Default)]
struct Sums {
    /// Hours since 1970; none before the first query.
    hour: i64,
    all: TwoHours,
    /// By the hash of language, database and text.
    texts: HashMap<u64, TextSums>,
}

impl Sums {
    fn since_ms(&self) -> i64 {
        self.hour.saturating_sub(1).saturating_mul(HOUR_MS)
    }

    /// Begins the hour of a time. A clock that was set back stays in the later hour.
    fn turn(&mut self, now_ms: i64) {
        let hour = now_ms.div_euclid(HOUR_MS);
        if hour <= self.hour {
            return;
        }
        let is_next = hour == self.hour + 1;
        self.hour = hour;
        let turn = |costs: &mut TwoHours| {
            let before = std::mem::take(&mut costs[0]);
            costs[1] = if is_next { before } else { Cost::default() };
        };
        turn(&mut self.all);
        self.texts.retain(|_, text| {
            turn(&mut text.costs);
            text.costs[1].queries > 0
        });
    }

    /// Adds a text, instead of the one that ran least if there are as many as may be.
    fn add(&mut self, key: u64, new: TextSums) {
        if self.texts.len() == MAX_TEXTS {
            let running = |(key, text): (&u64, &TextSums)| (sum(text.costs).running, *key);
            if let Some((_, least)) = self.texts.iter().map(running).min() {
                self.texts.remove(&least);
            }
        }
        self.texts.insert(key, new);
    }
}

/// The beginning of a text that is kept.
pub fn cut_text(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].into()
}

/// The beginning of a name that is kept.
pub fn cut_name(name: &str) -> Box<str> {
    name[..name.floor_char_boundary(MAX_NAME_BYTES)].into()
}

impl Service {
    /// What the queries cost that have ended in this process.
    pub fn ended_queries(&self, _: &ServerAccess) -> EndedCosts {
        let costs = self.running.ended().costs((self.now_ms)());
        EndedCosts {
            since_ms: costs.since_ms.max(self.started_ms),
            ..costs
        }
    }

    /// What a read request to the store costs, in dollars.
    pub fn request_price(&self) -> f64 {
        self.config.store_dollars_per_million_reads / 1e6
    }
}

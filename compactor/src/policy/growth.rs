//! Weeks of a large installation, in seconds: what the policy costs, and what it leaves, with one
//! ingester and with ten.
//!
//! Only the policy is real. Segments are counted in rows per hour, bytes follow from measured sizes
//! per sample and series. The figures are printed with `cargo test -p tidelake-compactor growth --
//! --nocapture`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use tidelake_catalog::model::Day;
use tidelake_catalog::snapshot::SegmentId;

use super::*;

const HOUR_MS: i64 = 3_600_000;
const FLUSH_MS: i64 = 600_000;
/// Of the rows of a flush, so many are up to six hours late, and as many up to two days.
const LATE: f64 = 0.025;
/// Sizes by level, measured on samples like node_exporter's.
const BYTES_PER_ROW: [f64; 3] = [1.3, 1.05, 1.0];
const BYTES_PER_SERIES: f64 = 12.0;
const TARGET_BYTES: f64 = (512u64 << 20) as f64;
/// What a segment takes in a checkpoint of the catalog, as a test of the catalog measures it.
const CATALOG_BYTES_PER_SEGMENT: f64 = 92.0;
/// A multipart upload has parts of this size; each is a request.
const PART_BYTES: f64 = 10e6;
const UNIT_ROWS: f64 = 256.0 * 1024.0;

/// Rows per hour of a day.
type Hours = [f64; 24];

struct Table {
    ingesters: i64,
    rows_per_flush: f64,
    series: f64,
    days: BTreeMap<i64, Vec<Arc<SegmentMeta>>>,
    rows: HashMap<SegmentId, Hours>,
}

#[derive(Default)]
struct Cost {
    flushed: f64,
    merged: f64,
    /// Of that, results whose rows keep their orders.
    interleaved: f64,
    puts: f64,
    gets: f64,
    deletes: f64,
}

impl Table {
    fn new(ingesters: i64, rows_per_day: f64, series: f64) -> Self {
        let flushes_per_day = 24.0 * HOUR_MS as f64 / FLUSH_MS as f64;
        Self {
            ingesters,
            rows_per_flush: rows_per_day / flushes_per_day / ingesters as f64,
            series,
            days: BTreeMap::new(),
            rows: HashMap::new(),
        }
    }

    fn add(&mut self, day: i64, level: u8, order: (u64, u64), now: i64, hours: Hours) -> f64 {
        let rows: f64 = hours.iter().sum();
        let Some(first) = hours.iter().position(|h| *h > 0.0) else {
            return 0.0;
        };
        let last = hours.iter().rposition(|h| *h > 0.0).unwrap_or(first);
        let id = SegmentId::from_parts(now.max(0) as u64, self.rows.len() as u128 + 1);
        let series = self.series.min(rows);
        let (data, index) = (
            rows * BYTES_PER_ROW[usize::from(level).min(2)],
            series * BYTES_PER_SERIES,
        );
        let start = day * 24 * HOUR_MS;
        let segment = SegmentMeta {
            id,
            database: "d".into(),
            table: "t".into(),
            table_id: 2,
            day: Day(day),
            level,
            order,
            time: TimeRange::new(
                start + first as i64 * HOUR_MS,
                start + (last as i64 + 1) * HOUR_MS - 1,
            ),
            rows: rows as u64,
            series: series as u64,
            data_bytes: data as u64,
            index_bytes: index as u64,
            data_checksum: 0,
            index_tail_bytes: 0,
            index_checksum: 0,
            sort_tags: Vec::new().into(),
            deletes_applied: 0,
        };
        self.days.entry(day).or_default().push(Arc::new(segment));
        self.rows.insert(id, hours);
        data + index
    }

    /// The rows that one ingester took in the last ten minutes, and some that are late. Those of
    /// the others lie between them.
    fn flush(&mut self, now: i64, cost: &mut Cost) {
        let mut days: BTreeMap<i64, Hours> = BTreeMap::new();
        let mut put = |hour: i64, rows: f64| {
            days.entry(hour.div_euclid(24)).or_insert([0.0; 24])[hour.rem_euclid(24) as usize] +=
                rows
        };
        let hour = (now - 1).div_euclid(HOUR_MS);
        put(hour, self.rows_per_flush * (1.0 - 2.0 * LATE));
        for (reach, share) in [(6, LATE), (48, LATE)] {
            (1..=reach)
                .for_each(|back| put(hour - back, self.rows_per_flush * share / reach as f64));
        }
        let order = match self.ingesters {
            1 => (now as u64, now as u64),
            _ => ((now - FLUSH_MS) as u64 + 1, now as u64),
        };
        for (day, hours) in days {
            cost.flushed += self.add(day, 0, order, now, hours);
            cost.puts += 2.0;
        }
    }

    fn merge(&mut self, day: i64, plan: &Plan, now: i64, cost: &mut Cost) {
        let orders = plan
            .segments
            .iter()
            .map(|s| s.order)
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .unwrap();
        let mut sum: Hours = [0.0; 24];
        for segment in &plan.segments {
            sum.iter_mut()
                .zip(&self.rows[&segment.id])
                .for_each(|(sum, rows)| *sum += rows);
        }
        self.check_order(day, plan);
        let overlap = |a: (u64, u64), b: (u64, u64)| a.0 <= b.1 && b.0 <= a.1;
        let is_input = |other: &SegmentMeta| plan.segments.iter().any(|s| s.id == other.id);
        let mut others = self.days[&day].iter().filter(|other| !is_input(other));
        let is_interleaved = others.any(|other| overlap(other.order, orders));
        self.days
            .get_mut(&day)
            .unwrap()
            .retain(|s| !plan.segments.iter().any(|input| input.id == s.id));
        for window in &plan.windows {
            let mut hours = sum;
            let inside = |hour: usize| window.contains(day * 24 * HOUR_MS + hour as i64 * HOUR_MS);
            (0..24)
                .filter(|hour| !inside(*hour))
                .for_each(|hour| hours[hour] = 0.0);
            let rows: f64 = hours.iter().sum();
            // Larger results are split by series.
            let parts = (rows * BYTES_PER_ROW[usize::from(plan.level).min(2)] / TARGET_BYTES)
                .ceil()
                .max(1.0);
            for _ in 0..parts as usize {
                let bytes = self.add(day, plan.level, orders, now, hours.map(|rows| rows / parts));
                cost.merged += bytes;
                cost.interleaved += if is_interleaved { bytes } else { 0.0 };
                cost.puts += 1.0 + (bytes / PART_BYTES).ceil();
            }
            // Each unit reads a range of each input.
            cost.gets += (rows / UNIT_ROWS).ceil() * plan.segments.len() as f64;
        }
        // Footer and index; and both files whole, whose checksums are compared before.
        cost.gets += 4.0 * plan.segments.len() as f64;
        cost.deletes += 2.0 * plan.segments.len() as f64;
    }

    /// Readers go by write order: whatever stays and has a time in common with an input must be on
    /// the same side of the result as it was of that input, unless its rows lie between those of
    /// the result, which keep their orders.
    fn check_order(&self, day: i64, plan: &Plan) {
        let first = plan.segments.iter().map(|s| s.order.0).min().unwrap_or(0);
        let result = plan.segments.iter().map(|s| s.order.1).max().unwrap_or(0);
        let stays = |s: &&Arc<SegmentMeta>| !plan.segments.iter().any(|input| input.id == s.id);
        let is_beside = |s: &&Arc<SegmentMeta>| s.order.1 < first || s.order.0 > result;
        let all_beside = self.ingesters > 1;
        let others = self.days[&day].iter().filter(stays);
        for other in others.filter(|other| !all_beside || is_beside(other)) {
            for input in plan
                .segments
                .iter()
                .filter(|s| s.time.overlaps(&other.time))
            {
                let (before, after) = (other.order.1 < input.order.1, other.order.1 < result);
                assert_eq!(
                    before, after,
                    "merging {:?} into {result} passes over {:?}",
                    input.order, other.order
                );
            }
        }
    }

    fn compact(&mut self, now: i64, cost: &mut Cost) {
        let days: Vec<i64> = self.days.keys().copied().collect();
        for day in days {
            while let Some(plan) =
                Levels::of(&self.days[&day], TimeUnit::Millisecond).plan(Goal::Steady, now)
            {
                self.merge(day, &plan, now, cost);
            }
        }
    }

    fn touched(&self, now: i64, hours: i64) -> usize {
        let range = TimeRange::new(now - hours * HOUR_MS, now);
        self.days
            .values()
            .flatten()
            .filter(|s| s.time.overlaps(&range))
            .count()
    }
}

/// What came of it.
struct Grown {
    amplification: f64,
    wide_amplification: f64,
    past: usize,
    wide_past: usize,
    report: String,
}

/// Days of a million series of samples and fifty wide tables, over so many ingesters.
fn grow(days: i64, ingesters: i64) -> Grown {
    let mut metrics = Table::new(ingesters, 5.8e9, 1e6);
    // Fifty tables of the same rows are one table fifty times.
    let mut wide = Table::new(ingesters, 5e6, 2000.0);
    let (mut cost, mut wide_cost) = (Cost::default(), Cost::default());
    let (mut most, mut most_fresh) = (0, 0);
    let start = 20_000 * 24 * HOUR_MS;
    // Each flushes every ten minutes, one after the other.
    let step_ms = FLUSH_MS / ingesters;
    for step in 1..=days * 24 * HOUR_MS / step_ms {
        let now = start + step * step_ms;
        for (table, cost) in [(&mut metrics, &mut cost), (&mut wide, &mut wide_cost)] {
            table.flush(now, cost);
            table.compact(now, cost);
        }
        let today = metrics.days.values().last().unwrap();
        most = most.max(today.len());
        most_fresh = most_fresh.max(today.iter().filter(|s| s.level == 0).count());
    }
    let now = start + days * 24 * HOUR_MS;
    let today = now.div_euclid(24 * HOUR_MS);
    // A day takes late rows for two more, and rests for six hours.
    let past = |table: &Table| {
        table
            .days
            .range(..today - 3)
            .map(|(_, segments)| segments.len())
            .max()
            .unwrap()
    };
    let amplification = |cost: &Cost| 1.0 + cost.merged / cost.flushed;
    let segments =
        metrics.days.values().flatten().count() + 50 * wide.days.values().flatten().count();
    let month = 30.0 / days as f64;
    let wal = 4.0 * 86_400.0 * 30.0 * ingesters as f64;
    let puts = (cost.puts + 50.0 * wide_cost.puts) * month;
    let gets = (cost.gets + 50.0 * wide_cost.gets) * month;
    let deletes = (cost.deletes + 50.0 * wide_cost.deletes) * month;

    let mut report = format!("| {days} days, {ingesters} ingesters | |\n|---|---|\n");
    let mut line = |what: &str, figure: String| writeln!(report, "| {what} | {figure} |").unwrap();
    line(
        "write amplification, metrics table",
        format!("{:.2}", amplification(&cost)),
    );
    line(
        "write amplification, wide tables",
        format!("{:.2}", amplification(&wide_cost)),
    );
    line(
        "merged bytes whose rows keep their orders",
        format!("{:.0} %", 100.0 * cost.interleaved / cost.merged),
    );
    line(
        "segments of a past day, metrics table",
        past(&metrics).to_string(),
    );
    line(
        "segments of a past day, wide table",
        past(&wide).to_string(),
    );
    line(
        "segments of the running day at most (of which level 0)",
        format!("{most} ({most_fresh})"),
    );
    for (name, hours) in [("1 h", 1), ("24 h", 24), ("30 d", 30 * 24)] {
        line(
            &format!("segments touched by a query of the last {name}, metrics / wide"),
            format!(
                "{} / {}",
                metrics.touched(now, hours),
                wide.touched(now, hours)
            ),
        );
    }
    line("segments in all", segments.to_string());
    line(
        "bytes of the catalog, whole",
        format!(
            "{:.0} kB",
            segments as f64 * CATALOG_BYTES_PER_SEGMENT / 1e3
        ),
    );
    line(
        "requests a month: PUT (data), PUT (log at 4/s each), GET (merging), DELETE",
        format!("{puts:.0}, {wal:.0}, {gets:.0}, {deletes:.0}"),
    );
    line(
        "their price on S3 at $5 / million PUT and $0.40 / million GET",
        format!(
            "${:.2} + ${:.2} + ${:.2}",
            puts * 5e-6,
            wal * 5e-6,
            gets * 0.4e-6
        ),
    );
    #[allow(clippy::print_stdout, reason = "this is the report")]
    {
        println!("{report}");
    }
    Grown {
        amplification: amplification(&cost),
        wide_amplification: amplification(&wide_cost),
        past: past(&metrics),
        wide_past: past(&wide),
        report,
    }
}

#[test]
fn ninety_days_of_a_million_series() {
    let grown = grow(90, 1);
    assert!(grown.amplification <= 4.0, "{}", grown.report);
    assert!(grown.past <= 25, "{}", grown.report);
    assert!(grown.wide_past <= 2, "{}", grown.report);
}

/// The same rows over ten processes cost no more merging and leave no more files.
#[test]
fn ten_ingesters_leave_what_one_leaves() {
    let (one, ten) = (grow(14, 1), grow(14, 10));
    let both = format!("{}\n{}", one.report, ten.report);
    assert!(ten.amplification <= one.amplification + 0.5, "{both}");
    assert!(
        ten.wide_amplification <= one.wide_amplification + 0.5,
        "{both}"
    );
    assert!(ten.past <= one.past + 2, "{both}");
    assert!(ten.wide_past <= one.wide_past + 1, "{both}");
}

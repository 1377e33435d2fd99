//! What a batch came to as a message of Protocol Buffers, for another process. Floats keep their
//! bits.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidelake_catalog::model::Labels;
use tidelake_catalog::model::histogram::{Histogram, ResetHint, Span};

use super::super::QueryError;
use super::super::accumulator::Accumulator;
use super::super::aggregate::Aggregate;
use super::super::group::GROUP_BYTES;
use super::super::limits::Limits;
use super::super::row::{Row, Rows, labels_bytes};
use super::{Partial, PartialGroup, state_bytes};

#[derive(Clone, PartialEq, Message)]
struct PartialMessage {
    #[prost(message, repeated, tag = "1")]
    head: Vec<RowMessage>,
    #[prost(message, repeated, tag = "2")]
    blocks: Vec<BlockMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct RowMessage {
    /// In canonical form.
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(bool, tag = "2")]
    drop_name: bool,
    /// See [`column`].
    #[prost(bytes = "bytes", tag = "3")]
    values: Bytes,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<HistogramRun>,
}

/// A histogram that stands at some steps.
#[derive(Clone, PartialEq, Message)]
struct HistogramRun {
    #[prost(uint32, tag = "1")]
    first: u32,
    #[prost(uint32, tag = "2")]
    steps: u32,
    #[prost(int32, tag = "3")]
    schema: i32,
    #[prost(double, tag = "4")]
    zero_threshold: f64,
    #[prost(double, tag = "5")]
    zero_count: f64,
    #[prost(double, tag = "6")]
    count: f64,
    #[prost(double, tag = "7")]
    sum: f64,
    /// Offset and length, one after the other.
    #[prost(sint64, repeated, tag = "8")]
    positive_spans: Vec<i64>,
    #[prost(double, repeated, tag = "9")]
    positive_counts: Vec<f64>,
    #[prost(sint64, repeated, tag = "10")]
    negative_spans: Vec<i64>,
    #[prost(double, repeated, tag = "11")]
    negative_counts: Vec<f64>,
    #[prost(double, repeated, tag = "12")]
    custom_values: Vec<f64>,
    #[prost(uint32, tag = "13")]
    reset_hint: u32,
}

#[derive(Clone, PartialEq, Message)]
struct BlockMessage {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<GroupMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct GroupMessage {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(bool, tag = "2")]
    drop_name: bool,
    /// See [`Accumulator::columns`] and [`column`].
    #[prost(bytes = "bytes", repeated, tag = "3")]
    state: Vec<Bytes>,
}

/// The floats of all steps, little-endian; a single one if all have the same bits, as most columns
/// of a group of one series have.
fn column(floats: &[f64]) -> Bytes {
    let floats = match floats.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other.to_bits() == first.to_bits()) => {
            &floats[..1]
        }
        _ => floats,
    };
    let mut bytes = vec![0; size_of_val(floats)];
    let (places, _) = bytes.as_chunks_mut();
    for (place, float) in places.iter_mut().zip(floats) {
        *place = float.to_le_bytes();
    }
    bytes.into()
}

fn floats_of(column: &[u8], steps: usize) -> Option<Vec<f64>> {
    match column.as_chunks() {
        ([only], []) => Some(vec![f64::from_le_bytes(*only); steps]),
        (floats, []) if floats.len() == steps => {
            Some(floats.iter().copied().map(f64::from_le_bytes).collect())
        }
        _ => None,
    }
}

fn spans(spans: &[Span]) -> Vec<i64> {
    let numbers = |span: &Span| [i64::from(span.offset), i64::from(span.length)];
    spans.iter().flat_map(numbers).collect()
}

fn spans_of(numbers: &[i64]) -> Option<Vec<Span>> {
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return None;
    };
    let span = |[offset, length]: &[i64; 2]| {
        Some(Span {
            offset: i32::try_from(*offset).ok()?,
            length: u32::try_from(*length).ok()?,
        })
    };
    pairs.iter().map(span).collect()
}

const HINTS: [ResetHint; 4] = [
    ResetHint::Unknown,
    ResetHint::Yes,
    ResetHint::No,
    ResetHint::Gauge,
];

fn row_message(row: &Row) -> RowMessage {
    let mut runs: Vec<(HistogramRun, &Arc<Histogram>)> = Vec::new();
    for (step, histogram) in (0u32..).zip(row.histograms.iter().flatten()) {
        let Some(histogram) = histogram else { continue };
        if let Some((run, last)) = runs.last_mut()
            && Arc::ptr_eq(last, histogram)
            && run.first + run.steps == step
        {
            run.steps += 1;
            continue;
        }
        let run = HistogramRun {
            first: step,
            steps: 1,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count,
            count: histogram.count,
            sum: histogram.sum,
            positive_spans: spans(&histogram.positive_spans),
            positive_counts: histogram.positive_counts.clone(),
            negative_spans: spans(&histogram.negative_spans),
            negative_counts: histogram.negative_counts.clone(),
            custom_values: histogram.custom_values.clone(),
            reset_hint: HINTS
                .iter()
                .zip(0..)
                .find_map(|(hint, number)| (*hint == histogram.reset_hint).then_some(number))
                .unwrap_or_default(),
        };
        runs.push((run, histogram));
    }
    RowMessage {
        labels: row.labels.as_str().to_owned(),
        drop_name: row.drop_name,
        values: column(&row.values),
        histograms: runs.into_iter().map(|(run, _)| run).collect(),
    }
}

fn row(message: RowMessage, steps: usize) -> Option<Row> {
    let labels = Labels::try_canonical(&message.labels)?;
    let values = floats_of(&message.values, steps)?;
    let mut row = Row::floats(labels, message.drop_name, values);
    for run in message.histograms {
        let first = run.first as usize;
        let all = row.histograms.get_or_insert_with(|| vec![None; steps]);
        let places = all.get_mut(first..first.checked_add(run.steps as usize)?)?;
        let histogram = Histogram {
            schema: run.schema,
            zero_threshold: run.zero_threshold,
            zero_count: run.zero_count,
            count: run.count,
            sum: run.sum,
            positive_spans: spans_of(&run.positive_spans)?,
            positive_counts: run.positive_counts,
            negative_spans: spans_of(&run.negative_spans)?,
            negative_counts: run.negative_counts,
            custom_values: run.custom_values,
            reset_hint: *HINTS.get(run.reset_hint as usize)?,
        };
        histogram.check_layout().ok()?;
        places.fill(Some(Arc::new(histogram)));
    }
    Some(row)
}

impl Partial {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let group = |group: &PartialGroup| GroupMessage {
            labels: group.labels.as_str().to_owned(),
            drop_name: group.drop_name,
            state: group
                .floats
                .columns()
                .iter()
                .map(|one| column(one))
                .collect(),
        };
        let block = |groups: &Vec<PartialGroup>| BlockMessage {
            groups: groups.iter().map(group).collect(),
        };
        let message = PartialMessage {
            head: self.head.list.iter().map(row_message).collect(),
            blocks: self.blocks.iter().map(block).collect(),
        };
        message.encode_to_vec()
    }

    /// What bytes of [`encode`](Self::encode) say about an aggregation at so many steps.
    ///
    /// # Errors
    /// If they say nothing of the kind, and if there is no memory for it.
    pub fn decode(
        bytes: Bytes,
        spec: &Aggregate,
        steps: usize,
        limits: &Arc<Limits>,
    ) -> Result<Self, QueryError> {
        let damaged = || QueryError::Execution("a part of an aggregation is damaged".to_owned());
        // While they are read they are there twice.
        let len = bytes.len();
        let mut charge = limits.charge(len)?;
        let message = PartialMessage::decode(bytes).map_err(|_| damaged())?;
        // A float may stand for all steps.
        let values = message.head.len().saturating_mul(steps * size_of::<f64>());
        let of_head = limits.charge(len.saturating_add(values))?;
        let head: Option<Vec<Row>> = message.head.into_iter().map(|m| row(m, steps)).collect();
        let head = Rows::new(head.ok_or_else(damaged)?, of_head)?;
        let mut blocks = Vec::with_capacity(message.blocks.len());
        charge.settle(0)?;
        for block in message.blocks {
            let mut groups = Vec::with_capacity(block.groups.len());
            for group in block.groups {
                let labels = Labels::try_canonical(&group.labels).ok_or_else(damaged)?;
                charge.take(state_bytes(spec.op, steps) + GROUP_BYTES + labels_bytes(&labels))?;
                // No state has more, and none is charged for more.
                let columns = group.state.iter().take(5);
                let columns: Option<_> = columns.map(|one| floats_of(one, steps)).collect();
                let floats = columns.and_then(|all| Accumulator::of_columns(spec.op, all));
                groups.push(PartialGroup {
                    labels,
                    drop_name: group.drop_name,
                    floats: floats.ok_or_else(damaged)?,
                });
            }
            blocks.push(groups);
        }
        Ok(Self {
            head,
            blocks,
            charge: Some(charge),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::{Folder, partial};
    use super::*;
    use crate::memory::QueryMemory;
    use crate::promql::exec::row::ABSENT;
    use crate::promql::parse::ast::{AggregateOp, Span as TextSpan};

    fn limits() -> Arc<Limits> {
        Limits::new(1 << 20, Duration::MAX, QueryMemory::unlimited().pool(), 0).unwrap()
    }

    fn spec(op: AggregateOp) -> Aggregate {
        Aggregate {
            op,
            grouping: vec!["job".to_owned()],
            without: false,
            span: TextSpan::default(),
            expr_span: TextSpan::default(),
            param_span: TextSpan::default(),
        }
    }

    fn rows(limits: &Arc<Limits>, with_histogram: bool) -> Rows {
        let odd = [
            f64::NAN,
            f64::INFINITY,
            -0.0,
            f64::from_bits(0x7ff0_0000_0000_0003),
        ];
        let row = |i: usize| {
            let name = format!("i{i}");
            let job = format!("j{}", i % 3);
            let labels = Labels::from_pairs([("instance", name.as_str()), ("job", &job)]);
            let values = vec![i as f64 / 3.0, odd[i % 4], ABSENT];
            Row::floats(labels, i.is_multiple_of(2), values)
        };
        let mut list: Vec<Row> = (0..300).map(row).collect();
        if with_histogram {
            let histogram = Arc::new(Histogram {
                count: 4.0,
                positive_spans: vec![Span {
                    offset: -3,
                    length: 2,
                }],
                positive_counts: vec![1.0, 3.0],
                reset_hint: ResetHint::Gauge,
                ..Histogram::default()
            });
            list[7].histograms = Some(vec![None, Some(histogram.clone()), Some(histogram)]);
        }
        Rows::new(list, limits.charge(0).unwrap()).unwrap()
    }

    #[test]
    fn parts_of_aggregations_come_back_with_all_their_bits() {
        use AggregateOp::{Avg, Count, Group, Max, Min, Stddev, Stdvar, Sum};
        let limits = limits();
        for op in [Sum, Avg, Min, Max, Count, Group, Stddev, Stdvar] {
            for with_histogram in [false, true] {
                let spec = spec(op);
                let made = partial(&spec, rows(&limits, with_histogram), 3, &limits).unwrap();
                assert!(with_histogram || made.blocks.len() > 1, "{op:?}");
                let bytes = made.encode();
                let back = Partial::decode(bytes.clone().into(), &spec, 3, &limits).unwrap();
                assert_eq!(back.encode(), bytes, "{op:?}");
                // NaNs of the same bits are shown alike.
                assert_eq!(format!("{:?}", back.blocks), format!("{:?}", made.blocks));
                assert_eq!(
                    format!("{:?}", back.head.list),
                    format!("{:?}", made.head.list)
                );
            }
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_or_another_part(
            with_histogram: bool,
            changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let (limits, spec) = (limits(), spec(AggregateOp::Avg));
            let _ = Partial::decode(bytes.into(), &spec, 3, &limits);
            let made = partial(&spec, rows(&limits, with_histogram), 3, &limits).unwrap();
            let mut bytes = made.encode();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(part) = Partial::decode(bytes.into(), &spec, 3, &limits) {
                let mut folder = Folder::new(&spec, 3, &limits).unwrap();
                folder.add_partial(part).unwrap();
                folder.finish().unwrap();
            }
        }
    }

    #[test]
    fn what_is_of_another_number_of_steps_or_cut_is_refused() {
        let (limits, spec) = (limits(), spec(AggregateOp::Sum));
        let made = partial(&spec, rows(&limits, false), 3, &limits).unwrap();
        let bytes = Bytes::from(made.encode());
        let check = |bytes: Bytes, steps| Partial::decode(bytes, &spec, steps, &limits).is_ok();
        assert!(check(bytes.clone(), 3) && !check(bytes.clone(), 4));
        assert!(!check(bytes.slice(..bytes.len() - 1), 3));
        let made = partial(&spec, rows(&limits, true), 3, &limits).unwrap();
        assert!(!check(made.encode().into(), 2));
    }
}

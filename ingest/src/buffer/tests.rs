use arrow::array::{Array, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Float64Type;
use tidelake_catalog::model::{ColumnType, Labels};

use super::*;
use crate::rows::{FieldColumn, FieldValues};

fn name() -> TableName {
    TableName { database: "d".into(), table: "t".into(), id: 1 }
}

/// A registry in which series `n` has the number `n`.
fn registry(series: u32) -> Arc<SeriesRegistry> {
    let registry = Arc::new(SeriesRegistry::new(1 << 20));
    for n in 0..series {
        assert_eq!(registry.register(Labels::from_pairs([("host", n.to_string())])), Ok(n));
    }
    registry
}

/// Rows (series, time, a, b) of two float fields.
fn rows(list: &[(u32, i64, Option<f64>, Option<f64>)]) -> Rows {
    let field = |name: &str, pick: fn(&(u32, i64, Option<f64>, Option<f64>)) -> Option<f64>| {
        let values: Vec<Option<f64>> = list.iter().map(pick).collect();
        let validity = NullBuffer::from(values.iter().map(Option::is_some).collect::<Vec<_>>());
        FieldColumn {
            name: name.into(),
            kind: ColumnType::Float,
            values: FieldValues::Float(values.iter().map(|v| v.unwrap_or(0.0)).collect()),
            validity: Some(validity).filter(|v| v.null_count() > 0),
        }
    };
    let mut fields = vec![field("a", |r| r.2), field("b", |r| r.3)];
    fields.retain(|f| f.validity.as_ref().is_none_or(|v| v.null_count() < list.len()));
    Rows { series: list.iter().map(|r| r.0).collect(), time: list.iter().map(|r| r.1).collect(), fields }
}

type Seen = (String, i64, Option<f64>, Option<f64>);

fn seen(chunks: &[RecentRows]) -> Vec<Seen> {
    let mut out = Vec::new();
    for chunk in chunks {
        let value = |name: &str, row: usize| {
            let array = chunk.rows.column(name)?.as_primitive::<Float64Type>();
            array.is_valid(row).then(|| array.value(row))
        };
        for run in &chunk.rows.runs {
            for row in run.rows.clone() {
                let host = run.series.labels.get("host").unwrap().to_owned();
                out.push((host, chunk.rows.time[row], value("a", row), value("b", row)));
            }
        }
    }
    out
}

#[test]
fn rows_are_visible_sorted_and_once() {
    let (buffer, registry) = (Buffer::new(), registry(3));
    let list = [(2, 5, Some(1.0), None), (0, 9, Some(2.0), None), (0, 3, None, Some(3.0)), (0, 9, None, Some(4.0))];
    buffer.append(&name(), TableKind::Wide, &registry, rows(&list));
    let expected = [
        ("0".to_owned(), 3, None, Some(3.0)),
        // Both writes of time 9 count, each for its field.
        ("0".to_owned(), 9, Some(2.0), Some(4.0)),
        ("2".to_owned(), 5, Some(1.0), None),
    ];
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), expected);
}

#[test]
fn in_the_metrics_table_the_last_sample_replaces_the_whole_one_before() {
    let (buffer, registry) = (Buffer::new(), registry(1));
    buffer.append(&name(), TableKind::Metrics, &registry, rows(&[(0, 9, Some(2.0), None), (0, 9, None, Some(4.0))]));
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), [("0".to_owned(), 9, None, Some(4.0))]);
}

#[test]
fn a_field_that_comes_late_is_absent_in_earlier_rows() {
    let (buffer, registry) = (Buffer::new(), registry(2));
    buffer.append(&name(), TableKind::Wide, &registry, rows(&[(0, 1, Some(1.0), None)]));
    buffer.append(&name(), TableKind::Wide, &registry, rows(&[(0, 2, None, Some(2.0))]));
    buffer.append(&name(), TableKind::Wide, &registry, rows(&[(1, 3, Some(3.0), None)]));
    let expected = [("0".to_owned(), 1, Some(1.0), None), ("0".to_owned(), 2, None, Some(2.0)), ("1".to_owned(), 3, Some(3.0), None)];
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), expected);
}

#[test]
fn rows_stay_until_their_rotation_is_released() {
    let (buffer, registry) = (Buffer::new(), registry(1));
    buffer.append(&name(), TableKind::Wide, &registry, rows(&[(0, 1, Some(1.0), None)]));
    let rotated = buffer.rotate();
    buffer.append(&name(), TableKind::Wide, &registry, rows(&[(0, 2, Some(2.0), None)]));
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)).len(), 2, "what a flush is writing can still be read");
    assert_eq!(rotated.tables().map(|(_, _, chunks)| seen(&chunks)).collect::<Vec<_>>(), [[("0".to_owned(), 1, Some(1.0), None)]]);
    buffer.release(&rotated);
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), [("0".to_owned(), 2, Some(2.0), None)]);
    buffer.release(&buffer.rotate());
    assert_eq!((buffer.bytes(), buffer.rows()), (0, 0));
}

#[test]
fn queries_do_not_leave_a_trail_of_chunks() {
    let (buffer, registry) = (Buffer::new(), registry(4));
    for t in 0..100 {
        buffer.append(&name(), TableKind::Wide, &registry, rows(&[((t % 4) as u32, t, Some(t as f64), None)]));
        assert_eq!(buffer.recent(&name(), TimeRange::ALL).iter().map(|c| c.rows.len() as i64).sum::<i64>(), t + 1);
    }
    let chunks = buffer.recent(&name(), TimeRange::ALL);
    assert!(chunks.len() <= SMALL_CHUNKS + 1, "{} chunks", chunks.len());
    assert!(chunks.iter().map(|c| c.order).is_sorted(), "merged chunks keep their place in the order of writes");
}

#[test]
fn numbers_of_another_registry_are_other_series() {
    let buffer = Buffer::new();
    let other = Arc::new(SeriesRegistry::new(1 << 20));
    other.register(Labels::from_pairs([("host", "other")])).unwrap();
    buffer.append(&name(), TableKind::Wide, &registry(1), rows(&[(0, 1, Some(1.0), None)]));
    buffer.append(&name(), TableKind::Wide, &other, rows(&[(0, 1, Some(2.0), None)]));
    let expected = [("0".to_owned(), 1, Some(1.0), None), ("other".to_owned(), 1, Some(2.0), None)];
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), expected);
}

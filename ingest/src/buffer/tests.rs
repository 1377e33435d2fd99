use arrow::array::{Array, AsArray, MapArray};
use arrow::datatypes::Float64Type;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::schema::arrow_type;
use tidelake_catalog::model::{ColumnType, Labels, TableSchema};

use super::*;
use crate::column::{FieldColumn, FieldValues};

fn name() -> TableName {
    TableName {
        database: "d".into(),
        table: "t".into(),
        id: 1,
    }
}

/// A registry in which series `n` has the number `n`.
fn registry(series: u32) -> Arc<SeriesRegistry> {
    let registry = Arc::new(SeriesRegistry::new(1 << 20));
    for n in 0..series {
        assert_eq!(
            registry.register(Labels::from_pairs([("host", n.to_string())])),
            Ok(n)
        );
    }
    registry
}

/// Rows (series, time, a, b) of two float fields.
fn rows(list: &[(u32, i64, Option<f64>, Option<f64>)]) -> Rows {
    let field = |name: &str, pick: fn(&(u32, i64, Option<f64>, Option<f64>)) -> Option<f64>| {
        let mut column = FieldColumn::new(name.into(), ColumnType::Float);
        for (row, value) in list.iter().map(pick).enumerate() {
            if let Some(value) = value
                && let FieldValues::Float(values) = column.open_row(row)
            {
                values.push(value);
            }
        }
        column
    };
    let mut fields = vec![field("a", |r| r.2), field("b", |r| r.3)];
    fields.retain(|f| f.count() > 0);
    Rows {
        series: list.iter().map(|r| r.0).collect(),
        time: list.iter().map(|r| r.1).collect(),
        fields,
    }
}

type Seen = (String, i64, Option<f64>, Option<f64>);

fn seen(chunks: &[RecentRows]) -> Vec<Seen> {
    let mut out = Vec::new();
    for chunk in chunks {
        let value = |name: &str, row: usize| {
            let array = chunk.rows.column(name)?.to_array();
            let array = array.as_primitive::<Float64Type>();
            array.is_valid(row).then(|| array.value(row))
        };
        for run in &chunk.rows.runs {
            for row in run.rows() {
                let host = run.series.labels.get("host").unwrap().to_owned();
                out.push((host, chunk.rows.time[row], value("a", row), value("b", row)));
            }
        }
    }
    out
}

#[test]
fn rows_are_visible_sorted_and_once() {
    let (buffer, registry) = (Buffer::new(&MemoryBudget::unlimited()), registry(3));
    let list = [
        (2, 5, Some(1.0), None),
        (0, 9, Some(2.0), None),
        (0, 3, None, Some(3.0)),
        (0, 9, None, Some(4.0)),
    ];
    buffer.append(&name(), TableKind::Wide, &registry, rows(&list), 1);
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
    let (buffer, registry) = (Buffer::new(&MemoryBudget::unlimited()), registry(1));
    buffer.append(
        &name(),
        TableKind::Metrics,
        &registry,
        rows(&[(0, 9, Some(2.0), None), (0, 9, None, Some(4.0))]),
        1,
    );
    assert_eq!(
        seen(&buffer.recent(&name(), TimeRange::ALL)),
        [("0".to_owned(), 9, None, Some(4.0))]
    );
}

#[test]
fn a_field_that_comes_late_is_absent_in_earlier_rows() {
    let (buffer, registry) = (Buffer::new(&MemoryBudget::unlimited()), registry(2));
    buffer.append(
        &name(),
        TableKind::Wide,
        &registry,
        rows(&[(0, 1, Some(1.0), None)]),
        1,
    );
    buffer.append(
        &name(),
        TableKind::Wide,
        &registry,
        rows(&[(0, 2, None, Some(2.0))]),
        1,
    );
    buffer.append(
        &name(),
        TableKind::Wide,
        &registry,
        rows(&[(1, 3, Some(3.0), None)]),
        1,
    );
    let expected = [
        ("0".to_owned(), 1, Some(1.0), None),
        ("0".to_owned(), 2, None, Some(2.0)),
        ("1".to_owned(), 3, Some(3.0), None),
    ];
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), expected);
}

#[test]
fn rows_stay_until_their_rotation_is_released() {
    let (buffer, registry) = (Buffer::new(&MemoryBudget::unlimited()), registry(1));
    buffer.append(
        &name(),
        TableKind::Wide,
        &registry,
        rows(&[(0, 1, Some(1.0), None)]),
        1,
    );
    let rotated = buffer.rotate();
    buffer.append(
        &name(),
        TableKind::Wide,
        &registry,
        rows(&[(0, 2, Some(2.0), None)]),
        1,
    );
    assert_eq!(
        seen(&buffer.recent(&name(), TimeRange::ALL)).len(),
        2,
        "what a flush is writing can still be read"
    );
    assert_eq!(
        rotated
            .tables()
            .map(|(_, _, chunks)| seen(&chunks))
            .collect::<Vec<_>>(),
        [[("0".to_owned(), 1, Some(1.0), None)]]
    );
    buffer.release(&rotated);
    drop(rotated);
    assert_eq!(
        seen(&buffer.recent(&name(), TimeRange::ALL)),
        [("0".to_owned(), 2, Some(2.0), None)]
    );
    buffer.release(&buffer.rotate());
    assert_eq!((buffer.bytes(), buffer.rows()), (0, 0));
}

#[test]
fn queries_do_not_leave_a_trail_of_chunks() {
    let (buffer, registry) = (Buffer::new(&MemoryBudget::unlimited()), registry(4));
    for t in 0..100 {
        buffer.append(
            &name(),
            TableKind::Wide,
            &registry,
            rows(&[((t % 4) as u32, t, Some(t as f64), None)]),
            1,
        );
        assert_eq!(
            buffer
                .recent(&name(), TimeRange::ALL)
                .iter()
                .map(|c| c.rows.len() as i64)
                .sum::<i64>(),
            t + 1
        );
    }
    let chunks = buffer.recent(&name(), TimeRange::ALL);
    assert!(chunks.len() <= SMALL_CHUNKS + 1, "{} chunks", chunks.len());
    assert!(
        chunks.iter().map(|c| c.order).is_sorted(),
        "merged chunks keep their place in the order of writes"
    );
}

#[test]
fn numbers_of_another_registry_are_other_series() {
    let buffer = Buffer::new(&MemoryBudget::unlimited());
    let other = Arc::new(SeriesRegistry::new(1 << 20));
    other
        .register(Labels::from_pairs([("host", "other")]))
        .unwrap();
    buffer.append(
        &name(),
        TableKind::Wide,
        &registry(1),
        rows(&[(0, 1, Some(1.0), None)]),
        1,
    );
    buffer.append(
        &name(),
        TableKind::Wide,
        &other,
        rows(&[(0, 1, Some(2.0), None)]),
        1,
    );
    let expected = [
        ("0".to_owned(), 1, Some(1.0), None),
        ("other".to_owned(), 1, Some(2.0), None),
    ];
    assert_eq!(seen(&buffer.recent(&name(), TimeRange::ALL)), expected);
}

#[test]
fn exemplars_of_one_time_are_kept_unless_they_are_the_same() {
    let registry = Arc::new(SeriesRegistry::new(1 << 20));
    registry
        .register(Labels::from_pairs([("__name__", "x")]))
        .unwrap();
    let rows = |exemplars: &[(i64, f64, &str)]| {
        let mut values = FieldColumn::new("value".into(), ColumnType::Float);
        let mut labels = FieldColumn::new("labels".into(), ColumnType::Labels);
        for (row, (_, value, trace)) in exemplars.iter().enumerate() {
            if let FieldValues::Float(values) = values.open_row(row) {
                values.push(*value);
            }
            if let FieldValues::String { ends, bytes } = labels.open_row(row) {
                bytes.extend(Labels::from_pairs([("trace_id", *trace)]).as_str().bytes());
                ends.push(bytes.len() as u32);
            }
        }
        Rows {
            series: vec![0; exemplars.len()],
            time: exemplars.iter().map(|e| e.0).collect(),
            fields: vec![values, labels],
        }
    };
    let show = |rows: &SortedRows| -> Vec<String> {
        let values = rows
            .column("value")
            .unwrap()
            .to_array()
            .as_primitive::<Float64Type>()
            .values()
            .to_vec();
        let labels = rows.column("labels").unwrap().to_array();
        let labels: &MapArray = labels.as_map();
        assert_eq!(rows.columns[1].data_type(), &arrow_type(ColumnType::Labels));
        let traces = labels.values().as_string::<i32>();
        (0..rows.len())
            .map(|row| format!("{} {} {}", rows.time[row], values[row], traces.value(row)))
            .collect()
    };
    let buffer = Buffer::new(&MemoryBudget::unlimited());
    let kind = TableSchema::exemplars().kind;
    buffer.append(
        &name(),
        kind,
        &registry,
        rows(&[
            (5, 2.0, "b"),
            (5, 1.0, "a"),
            (4, 9.0, "z"),
            (5, 2.0, "b"),
            (5, 2.0, "a"),
        ]),
        1,
    );
    let chunks = buffer.recent(&name(), TimeRange::ALL);
    assert_eq!(show(&chunks[0].rows), ["4 9 z", "5 1 a", "5 2 a", "5 2 b"]);
    // Chunk by chunk, until they are put together.
    for _ in 0..SMALL_CHUNKS {
        buffer.append(
            &name(),
            kind,
            &registry,
            rows(&[(5, 2.0, "b"), (5, 3.0, "c")]),
            1,
        );
        buffer.recent(&name(), TimeRange::ALL);
    }
    let chunks = buffer.recent(&name(), TimeRange::ALL);
    assert_eq!(
        chunks
            .iter()
            .map(|chunk| chunk.rows.len())
            .min_by_key(|rows| rows.abs_diff(5)),
        Some(5),
        "{}",
        chunks.len()
    );
    let merged = chunks.iter().find(|chunk| chunk.rows.len() == 5).unwrap();
    assert_eq!(
        show(&merged.rows),
        ["4 9 z", "5 1 a", "5 2 a", "5 2 b", "5 3 c"]
    );
}

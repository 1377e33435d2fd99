//! Bodies and what becomes of them, as text: a row is `table{tags} time field=value ...`.

use std::fmt::Write;

use hashbrown::HashMap;
use parking_lot::Mutex;
use proptest::prelude::*;
use tidelake_catalog::memory::MemoryBudget;
use tidelake_catalog::model::{ColumnType, TableKind, TimeUnit};

use super::*;
use crate::column::FieldValues;

const NOW: i64 = 1_700_000_000_123_456_789;

/// A database in memory.
#[derive(Default)]
struct Tables {
    schemas: HashMap<String, Arc<TableSchema>>,
    registries: Mutex<HashMap<String, Arc<SeriesRegistry>>>,
    registry_bytes: Option<usize>,
    oldest: HashMap<String, Oldest>,
}

impl TableLookup for Tables {
    fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.schemas.get(table).cloned()
    }

    fn registry(&self, table: &str) -> Arc<SeriesRegistry> {
        let new = || Arc::new(SeriesRegistry::new(self.registry_bytes.unwrap_or(1 << 24)));
        self.registries
            .lock()
            .entry(table.to_owned())
            .or_insert_with(new)
            .clone()
    }

    fn oldest(&self, table: &str) -> Oldest {
        self.oldest.get(table).copied().unwrap_or(Oldest::NONE)
    }
}

impl Tables {
    fn with(table: &str, columns: &[(&str, ColumnType)]) -> Self {
        let mut tables = Self::default();
        let mut schema = TableSchema::new(TableKind::Wide);
        for (name, kind) in columns {
            schema.ensure(name, *kind).unwrap();
        }
        tables.schemas.insert(table.to_owned(), Arc::new(schema));
        tables
    }

    /// Parses, checks what every result has to keep, and commits the new columns.
    fn write(&mut self, body: &[u8], options: &LineOptions) -> ParsedLines {
        let parsed = parse(body, options, self);
        let rows: usize = parsed.tables.iter().map(|t| t.rows.len()).sum();
        assert_eq!(rows, parsed.lines_ok);
        assert_eq!(
            parsed.errors.len(),
            parsed.lines_refused.min(options.limits.errors)
        );
        for table in &parsed.tables {
            assert_eq!(table.is_new, !self.schemas.contains_key(&*table.table));
            let mut schema = self
                .schemas
                .get(&*table.table)
                .map_or(TableSchema::new(TableKind::Wide), |s| (**s).clone());
            for column in &table.new_columns {
                assert_eq!(
                    schema.ensure(&column.name, column.kind),
                    Ok(true),
                    "{column:?} is new once"
                );
            }
            let rows = &table.rows;
            assert!(!rows.is_empty());
            assert_eq!(rows.series.len(), rows.len());
            for field in &rows.fields {
                assert_eq!(schema.column(&field.name).map(|c| c.kind), Some(field.kind));
                assert!(field.count() > 0, "{} is in no row", field.name);
                assert!(field.next_row() <= rows.len());
            }
            for &series in &rows.series {
                for (tag, _) in &table.registry.entry(series).unwrap().series.labels {
                    assert_eq!(schema.column(tag).map(|c| c.kind), Some(ColumnType::Tag));
                }
            }
            self.schemas
                .insert(table.table.to_string(), Arc::new(schema));
        }
        parsed
    }
}

fn show(parsed: &ParsedLines) -> Vec<String> {
    let mut out = Vec::new();
    for table in &parsed.tables {
        let rows = &table.rows;
        for row in 0..rows.len() {
            let entry = table.registry.entry(rows.series[row]).unwrap();
            let labels = &entry.series.labels;
            let mut text = format!("{}{labels} {}", table.table, rows.time[row]);
            for field in &rows.fields {
                let Some(at) = field.position(row) else {
                    continue;
                };
                write!(text, " {}=", field.name).unwrap();
                match &field.values {
                    FieldValues::Float(v) => write!(text, "{:?}", v[at]).unwrap(),
                    FieldValues::Integer(v) => write!(text, "{}i", v[at]).unwrap(),
                    FieldValues::Unsigned(v) => write!(text, "{}u", v[at]).unwrap(),
                    FieldValues::Boolean(v) => write!(text, "{}", v[at]).unwrap(),
                    values => write!(text, "{:?}", values.string(at).unwrap()).unwrap(),
                }
            }
            out.push(text);
        }
    }
    out
}

fn nanoseconds() -> LineOptions {
    LineOptions::new(Precision::Nanosecond, NOW)
}

/// A body of good lines gives these rows; given again, with everything known, it gives them again.
#[track_caller]
fn check(body: &str, expected: &[&str]) {
    let mut tables = Tables::default();
    for _ in 0..2 {
        let parsed = tables.write(body.as_bytes(), &nanoseconds());
        assert_eq!(parsed.errors, [], "{body:?}");
        assert_eq!(show(&parsed), expected, "{body:?}");
    }
}

/// Line numbers, quotes and a part of the messages, and the rows that are kept.
#[track_caller]
fn check_errors(tables: &mut Tables, body: &[u8], errors: &[(usize, &str, &str)], rows: &[&str]) {
    let parsed = tables.write(body, &nanoseconds());
    let shown: Vec<_> = parsed
        .errors
        .iter()
        .map(|e| (e.line, e.original.as_str()))
        .collect();
    assert_eq!(
        shown,
        errors.iter().map(|e| (e.0, e.1)).collect::<Vec<_>>(),
        "{:?}",
        parsed.errors
    );
    for (error, (.., part)) in parsed.errors.iter().zip(errors) {
        assert!(
            error.message.contains(part),
            "{:?} lacks {part:?}",
            error.message
        );
    }
    assert_eq!(show(&parsed), rows);
}

/// One bad line between two good ones.
#[track_caller]
fn refused(line: &str, part: &str) {
    let body = format!("m ok=1 1\n{line}\nm ok=2 2\n");
    check_errors(
        &mut Tables::default(),
        body.as_bytes(),
        &[(2, line, part)],
        &["m{} 1 ok=1.0", "m{} 2 ok=2.0"],
    );
}

#[test]
fn escapes() {
    check(r"a=b f=1 1", &["a=b{} 1 f=1.0"]);
    check(r"a\=b f=1 1", &[r"a\=b{} 1 f=1.0"]);
    check(r"a\n\t\q f=1 1", &[r"a\n\t\q{} 1 f=1.0"]);
    check(r"a\\\x f=1 1", &[r"a\\x{} 1 f=1.0"]);
    check(r"a\ \,\ = f=1 1", &["a , ={} 1 f=1.0"]);
    check(r"\#a f=1 1", &[r"\#a{} 1 f=1.0"]);
    check(r#"a"q" f=1 1"#, &[r#"a"q"{} 1 f=1.0"#]);
    check(r"m,a\ b=v f=1 1", &[r#"m{a b="v"} 1 f=1.0"#]);
    check(r"m,\ \,\==v f=1 1", &[r#"m{ ,=="v"} 1 f=1.0"#]);
    check(r#"m,"a"=v f=1 1"#, &[r#"m{"a"="v"} 1 f=1.0"#]);
    check(r"m,t=\ \,\=\  f=1 1", &[r#"m{t=" ,= "} 1 f=1.0"#]);
    check(r"m,t=C:\dir f=1 1", &[r#"m{t="C:\\dir"} 1 f=1.0"#]);
    check(r"m,t=a\\\b f=1 1", &[r#"m{t="a\\\\b"} 1 f=1.0"#]);
    check(r"m,t=a\\\ b f=1 1", &[r#"m{t="a\\ b"} 1 f=1.0"#]);
    check(r#"m,t=a"b f=1 1"#, &[r#"m{t="a\"b"} 1 f=1.0"#]);
    check(r"m a\ b=1 1", &["m{} 1 a b=1.0"]);
    check(r"m a\=b=1 1", &["m{} 1 a=b=1.0"]);
    check(r"m a\b=1 1", &[r"m{} 1 a\b=1.0"]);
    check(r#"m "a"=1 1"#, &[r#"m{} 1 "a"=1.0"#]);
    check(r#"m f="say \"hi\"" 1"#, &[r#"m{} 1 f="say \"hi\"""#]);
    check(r#"m f="\"" 1"#, &[r#"m{} 1 f="\"""#]);
    check(r#"m f="a\\\b\n\," 1"#, &[r#"m{} 1 f="a\\\\b\\n\\,""#]);
    check(
        r#"m a="x\"",b="y, z=1",c=2i 1"#,
        &[r#"m{} 1 a="x\"" b="y, z=1" c=2i"#],
    );
    refused(r"m,t=a\\ f=1 1", "ends with a backslash");
    refused(r"m\\ f=1 1", "ends with a backslash");
    refused(r"m f\\=1 1", "ends with a backslash");
}

#[test]
fn two_spellings_of_a_name_are_one_field() {
    check(
        "m a\\\\b=1 1\nm a\\b=2 2",
        &[r"m{} 1 a\b=1.0", r"m{} 2 a\b=2.0"],
    );
    refused("m a\\\\b=1,a\\b=2 1", "twice");
}

#[test]
fn text_of_every_script() {
    check(
        "温度,t温=度 f度=\"é👩\u{200d}🔬\u{2028}\u{85}\" 1",
        &["温度{t温=\"度\"} 1 f度=\"é👩\\u{200d}🔬\\u{2028}\\u{85}\""],
    );
    check("m,t=a\u{a0}b f=1 1", &["m{t=\"a\\u{a0}b\"} 1 f=1.0"]);
    check("\u{feff}m f=1 1", &["m{} 1 f=1.0"]);
    let bad: [(&[u8], &str); 4] = [
        (b"m\xff f=1 1", "UTF-8"),
        (b"m,t=a\xff\xfe f=1 1", "UTF-8"),
        (b"m f\xe9=1 1", "UTF-8"),
        (b"m f=\"caf\xe9\" 1", "UTF-8"),
    ];
    for (body, part) in bad {
        let original = String::from_utf8_lossy(body);
        check_errors(
            &mut Tables::default(),
            &[body, b"\nm g=1 1"].concat(),
            &[(1, &original, part)],
            &["m{} 1 g=1.0"],
        );
    }
}

#[test]
fn whitespace_and_comments() {
    check(
        "\n\nm f=1 1\n\n\nm f=2 2\n\n",
        &["m{} 1 f=1.0", "m{} 2 f=2.0"],
    );
    check(
        "\t\n  m f=1 1  \n\t \n \tm f=2   2\t",
        &["m{} 1 f=1.0", "m{} 2 f=2.0"],
    );
    let now = format!("m{{}} {NOW}");
    check(
        "m f=1 1\r\n\r\nm b=t\r\n# c\r\nm s=\"x\"\r",
        &[
            "m{} 1 f=1.0",
            &format!("{now} b=true"),
            &format!("{now} s=\"x\""),
        ],
    );
    check("m f=1 \n", &[&format!("{now} f=1.0")]);
    check("# a\nm f=1 1\n#m f=9 9\n  # b", &["m{} 1 f=1.0"]);
    check("", &[]);
    check(" \r\n#", &[]);
    check("m,t=a\rb f=1 1", &["m{t=\"a\\rb\"} 1 f=1.0"]);
    refused("m f=1, g=2 1", "field");
    refused("m f = 1 1", "field");
    refused("m f=1 1 # x", "after the timestamp");
    refused("m f=1\t1", "invalid field value");
}

#[test]
fn numbers() {
    for (text, shown) in [
        ("0i", "0i"),
        ("-0i", "0i"),
        ("-9223372036854775808i", "-9223372036854775808i"),
        ("9223372036854775807i", "9223372036854775807i"),
        ("0000000000000000000000001i", "1i"),
        ("18446744073709551615u", "18446744073709551615u"),
        ("0u", "0u"),
        ("1", "1.0"),
        ("-0", "-0.0"),
        ("1.", "1.0"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("1.e+78", "1e78"),
        ("1E-5", "1e-5"),
        ("007.50", "7.5"),
        ("999999999999999", "999999999999999.0"),
        ("9007199254740993", "9007199254740992.0"),
        ("1.7976931348623157e308", "1.7976931348623157e308"),
        ("5e-324", "5e-324"),
        ("1e-400", "0.0"),
        ("123456789012345678901234567890", "1.2345678901234568e29"),
        ("t", "true"),
        ("T", "true"),
        ("True", "true"),
        ("TRUE", "true"),
        ("false", "false"),
        ("F", "false"),
    ] {
        check(&format!("m f={text} 1"), &[&format!("m{{}} 1 f={shown}")]);
        check(
            &format!("m f={text},g=1 1"),
            &[&format!("m{{}} 1 f={shown} g=1.0")],
        );
    }
    for text in [
        "9223372036854775808i",
        "-9223372036854775809i",
        "99999999999999999999999999i",
        "1.5i",
        "i",
        "-i",
        "1I",
        "1ii",
        "1_000i",
        "18446744073709551616u",
        "-1u",
        "-0u",
        "1U",
        "1e400",
        "-1e400",
        "nan",
        "NaN",
        "-nan",
        "Inf",
        "+Inf",
        "-Inf",
        "-infinity",
        "+1",
        "1e",
        "e5",
        "1.2.3",
        ".",
        "-",
        "-.",
        "0x1p3",
        "1f",
        "1.0d",
        "1_000",
        "1e5.5",
        "tRUE",
        "yes",
        "truee",
        "fals",
        "ошибка",
        "'x'",
    ] {
        refused(&format!("m f={text} 1"), "value");
        refused(&format!("m g=1,f={text}"), "value");
    }
}

#[test]
fn structure() {
    refused("m", "field");
    refused("m 1", "field");
    refused("m,t=a", "field");
    refused(" ,t=a f=1 1", "measurement is missing");
    refused(",t=a f=1 1", "measurement is missing");
    refused("m f= 1", "value is missing");
    refused("m f=", "value is missing");
    refused("m =1 1", "field key is missing");
    refused("m f 1", "has no value");
    refused("m f=1,", "field");
    refused("m f=1, 1", "field");
    refused("m f=1,,g=2 1", "field");
    refused("m ,f=1 1", "field");
    refused("m,t=a, f=1 1", "tag key is missing");
    refused("m, f=1 1", "tag key is missing");
    refused("m,=a f=1 1", "tag key is missing");
    refused("m,t= f=1 1", "empty value");
    refused("m,t f=1 1", "has no value");
    refused("m,t=a=b f=1 1", "'='");
    refused("m,a=1,b=2,a=3 f=1 1", "twice");
    refused("m f=1,g=2,f=1 1", "twice");
    refused("m f=1,f=\"x\" 1", "twice");
    refused("m f=1 1 5", "after the timestamp");
    refused("m f=1 e5 1", "timestamp");
    refused("m f=\"a\"b 1", "after a string");
    refused("m,time=a f=1 1", "\"time\"");
    refused("m a=1,time=1i 1", "\"time\"");
    check("m,Time=a TIME=1 1", &["m{Time=\"a\"} 1 TIME=1.0"]);
    check(
        "m,t=a f=1,F=2 1\nM,T=b f=3 1",
        &["m{t=\"a\"} 1 f=1.0 F=2.0", "M{T=\"b\"} 1 f=3.0"],
    );
    check(
        "m,b=2,a=1 f=1 1\nm,a=1,b=2 f=2 2",
        &["m{a=\"1\", b=\"2\"} 1 f=1.0", "m{a=\"1\", b=\"2\"} 2 f=2.0"],
    );
    check(
        "m,a=1 f=1 1\nm f=2 1\nm,b=1 g=3 1",
        &["m{a=\"1\"} 1 f=1.0", "m{} 1 f=2.0", "m{b=\"1\"} 1 g=3.0"],
    );
    check(
        "m f=1,g=2 1\nm g=3,f=4 2\nm g=5 3\nm f=6 4",
        &[
            "m{} 1 f=1.0 g=2.0",
            "m{} 2 f=4.0 g=3.0",
            "m{} 3 g=5.0",
            "m{} 4 f=6.0",
        ],
    );
    check(
        "m,a=1 f=1 1\nx f=2 1\nm,a=1 f=3 2\nx f=4 2",
        &[
            "m{a=\"1\"} 1 f=1.0",
            "m{a=\"1\"} 2 f=3.0",
            "x{} 1 f=2.0",
            "x{} 2 f=4.0",
        ],
    );
}

#[test]
fn timestamps() {
    let time = |precision, text: &str| {
        let parsed = parse(
            format!("m f=1 {text}").as_bytes(),
            &LineOptions::new(precision, NOW),
            &Tables::default(),
        );
        parsed.tables.first().map(|t| t.rows.time[0])
    };
    use Precision::*;
    for (precision, text, expected) in [
        (Nanosecond, "-1", Some(-1)),
        (Nanosecond, "0001", Some(1)),
        (Nanosecond, "0", Some(0)),
        (Nanosecond, "9223372036854775807", Some(i64::MAX)),
        (Nanosecond, "-9223372036854775808", Some(i64::MIN)),
        (Nanosecond, "9223372036854775808", None),
        (Nanosecond, "1000000000000000000000000", None),
        (
            Microsecond,
            "1700000000000000",
            Some(1_700_000_000_000_000_000),
        ),
        (
            Millisecond,
            "9223372036854",
            Some(9_223_372_036_854_000_000),
        ),
        (Millisecond, "9223372036855", None),
        (Second, "-86400", Some(-86_400_000_000_000)),
        (Second, "9223372037", None),
        (Minute, "28333333", Some(1_699_999_980_000_000_000)),
        (Hour, "472222", Some(1_699_999_200_000_000_000)),
        (Auto, "4999999999", Some(4_999_999_999_000_000_000)),
        (Auto, "5000000000", Some(5_000_000_000_000_000)),
        (Auto, "5000000000000", Some(5_000_000_000_000_000)),
        (Auto, "5000000000000000", Some(5_000_000_000_000_000)),
        (Auto, "-1700000000", Some(-1_700_000_000_000_000_000)),
        (Auto, "1700000000123", Some(1_700_000_000_123_000_000)),
        (Auto, "-9223372036854775808", Some(i64::MIN)),
        (Nanosecond, "", Some(NOW)),
        (Auto, " ", Some(NOW)),
        (Millisecond, "", Some(1_700_000_000_123_000_000)),
        (Second, "", Some(1_700_000_000_000_000_000)),
        (Hour, "", Some(1_699_999_200_000_000_000)),
    ] {
        assert_eq!(time(precision, text), expected, "{precision:?} {text:?}");
    }
    for text in [
        "1e9",
        "1700000000i",
        "+5",
        "2023-11-14T22:13:20Z",
        "-",
        "--5",
        "1.5",
    ] {
        refused(&format!("m f=1 {text}"), "timestamp");
    }
}

#[test]
fn types_are_set_by_the_catalog_or_by_the_first_good_line() {
    refused(
        "m ok=1i 1",
        "\"ok\" is a float and cannot be written as a integer",
    );
    refused("m ok=\"x\" 1", "column \"ok\" is a float");
    refused(
        "m,ok=x f=1 1",
        "column \"ok\" is a float and cannot be written as a tag",
    );
    refused("m,a=x a=1 1", "column \"a\" is a tag");
    let mut tables = Tables::with("m", &[("a", ColumnType::Tag), ("f", ColumnType::Unsigned)]);
    check_errors(
        &mut tables,
        b"m f=1i 1\nm f=1u 2\nm a=\"x\" 3\nm,a=x f=2u 4\nm,f=x g=1 5\nm g=t 6",
        &[
            (1, "m f=1i 1", "unsigned"),
            (3, "m a=\"x\" 3", "tag"),
            (5, "m,f=x g=1 5", "tag"),
        ],
        &["m{} 2 f=1u", "m{a=\"x\"} 4 f=2u", "m{} 6 g=true"],
    );
    assert_eq!(tables.schemas["m"].columns.len(), 3);
}

#[test]
fn a_refused_line_leaves_nothing_behind() {
    let mut tables = Tables::default();
    check_errors(
        &mut tables,
        b"m f=1 1\nm,newtag=x newfield=1,f=\"x\" 2\nnewtable f=oops\nm newfield=\"text\",newtag=2i 3",
        &[(2, "m,newtag=x newfield=1,f=\"x\" 2", "float"), (3, "newtable f=oops", "oops")],
        &["m{} 1 f=1.0", "m{} 3 newfield=\"text\" newtag=2i"],
    );
    assert_eq!(tables.registries.lock().keys().collect::<Vec<_>>(), ["m"]);
    assert_eq!(
        tables.registry("m").len(),
        1,
        "the series of the refused line is not there"
    );
    // Again, now that the catalog and the registry know the rest.
    check_errors(
        &mut tables,
        b"m,a=1 f=1 1\nm,a=1 f=oops,x=1\nm,a=1 x=1i,f=2,x=oops\nm,a=1 f=3,x=t 3",
        &[
            (2, "m,a=1 f=oops,x=1", "oops"),
            (3, "m,a=1 x=1i,f=2,x=oops", "x"),
        ],
        &["m{a=\"1\"} 1 f=1.0", "m{a=\"1\"} 3 f=3.0 x=true"],
    );
}

#[test]
fn a_known_series_brings_its_tags_into_a_schema_that_lacks_them() {
    // As when the commit of the columns failed after the series was registered.
    let mut tables = Tables::default();
    tables.write(b"m,a=1,b=2 f=1 1", &nanoseconds());
    tables.schemas.clear();
    let parsed = tables.write(
        b"m,a=1,b=2 f=oops\nm,a=1,b=2 f=1 1\nm,a=1,b=2 f=2 2",
        &nanoseconds(),
    );
    assert_eq!(
        parsed.tables[0]
            .new_columns
            .iter()
            .map(|c| &*c.name)
            .collect::<Vec<_>>(),
        ["a", "b", "f"]
    );
    tables.schemas = Tables::with("m", &[("f", ColumnType::Float), ("x", ColumnType::Tag)]).schemas;
    let parsed = tables.write(
        b"m,a=1,b=2 f=oops\nm,a=1,b=2 f=1 1\nm,a=1,b=2 f=2 2",
        &nanoseconds(),
    );
    assert_eq!(
        parsed.tables[0]
            .new_columns
            .iter()
            .map(|c| &*c.name)
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    tables.schemas = Tables::with("m", &[("a", ColumnType::Float)]).schemas;
    check_errors(
        &mut tables,
        b"m,a=1,b=2 f=1 1",
        &[(1, "m,a=1,b=2 f=1 1", "float")],
        &[],
    );
}

#[test]
fn line_numbers_count_everything() {
    check_errors(
        &mut Tables::default(),
        b"# c\n\nm s=\"x\ny\" 1\n\n# d\nm f=oops\n   \nm f=1 1\nm f=oops2",
        &[(7, "m f=oops", "oops"), (10, "m f=oops2", "oops2")],
        &["m{} 1 s=\"x\\ny\"", "m{} 1 f=1.0"],
    );
    check_errors(
        &mut Tables::default(),
        b"m f=1 1\r\n\r\nm f=oops\r\nm f=2 2\r\n",
        &[(3, "m f=oops", "oops")],
        &["m{} 1 f=1.0", "m{} 2 f=2.0"],
    );
    // Over the borders at which the registry is let go.
    let body: String = (1..5000)
        .map(|i| {
            if i % 1000 == 0 {
                "m f=oops\n".to_owned()
            } else {
                format!("m,t={} f=1 1\n\n", i % 7)
            }
        })
        .collect();
    let mut tables = Tables::default();
    for _ in 0..2 {
        let parsed = tables.write(body.as_bytes(), &nanoseconds());
        let lines: Vec<_> = body
            .lines()
            .enumerate()
            .filter(|(_, l)| l.contains("oops"))
            .map(|(i, _)| i + 1)
            .collect();
        assert_eq!(
            parsed.errors.iter().map(|e| e.line).collect::<Vec<_>>(),
            lines
        );
        assert_eq!(parsed.lines_ok, 4995);
    }
}

#[test]
fn text_inside_a_string_is_never_a_line() {
    let good = &["m{} 1 f=1.0"];
    for (bad, original) in [
        (
            "m f=oops,s=\"x\nm f=7 7\ny\" 1",
            "m f=oops,s=\"x\nm f=7 7\ny\" 1",
        ),
        (
            "m s=\"x\nm f=7 7\ny\",f=oops 1",
            "m s=\"x\nm f=7 7\ny\",f=oops 1",
        ),
        ("m,t= s=\"x\nm f=7 7\ny\" 1", "m,t= s=\"x\nm f=7 7\ny\" 1"),
        (
            "m,t=\"q f= \"x\nm f=7 7\ny\" 1",
            "m,t=\"q f= \"x\nm f=7 7\ny\" 1",
        ),
        (
            "m s=\"x\\\"\nm f=7 7\\\\\",f=+1",
            "m s=\"x\\\"\nm f=7 7\\\\\",f=+1",
        ),
        ("m s=\"x\nm f=7 7\n\" oops", "m s=\"x\nm f=7 7\n\" oops"),
    ] {
        let body = format!("{bad}\nm f=1 1");
        check_errors(
            &mut Tables::default(),
            body.as_bytes(),
            &[(1, original, "")],
            good,
        );
    }
}

#[test]
fn a_quote_that_never_closes_loses_only_its_line() {
    for bad in [
        "m s=\"abc 1",
        "m f=oops,s=\"abc",
        "m,t= f=\"",
        "m f=1\" 1",
        "m f\"=oops",
        "m f=x\"y",
    ] {
        let body = format!("m f=1 1\n{bad}\nm f=2 2\nm f=3 3");
        check_errors(
            &mut Tables::default(),
            body.as_bytes(),
            &[(2, bad, "")],
            &["m{} 1 f=1.0", "m{} 2 f=2.0", "m{} 3 f=3.0"],
        );
    }
    check_errors(
        &mut Tables::default(),
        b"m f=1 1\nm s=\"abc\\",
        &[(2, "m s=\"abc\\", "not closed")],
        &["m{} 1 f=1.0"],
    );
}

#[test]
fn quotes_of_bad_lines_are_cut_between_characters() {
    for (pad, expected) in [(0, 512), (1, 512), (2, 512), (3, 512)] {
        let line = format!("m f=oops{}{}", "x".repeat(pad), "é🌊".repeat(1000));
        let parsed = parse(line.as_bytes(), &nanoseconds(), &Tables::default());
        let original = &parsed.errors[0].original;
        assert!(line.starts_with(original.as_str()), "{original}");
        assert!(
            (expected - 3..=expected).contains(&original.len()),
            "{}",
            original.len()
        );
        assert!(parsed.errors[0].message.len() < 600);
    }
}

#[test]
fn limits() {
    let limits = LineLimits {
        line_bytes: 40,
        name_bytes: 5,
        tags_bytes: 20,
        labels: LabelLimits {
            per_series: 3,
            name_bytes: 4,
            value_bytes: 6,
        },
        columns: 3,
        tables: 7,
        tables_left: 3,
        new_tables: 2,
        errors: 2,
    };
    let options = LineOptions {
        limits,
        ..nanoseconds()
    };
    let check = |body: &str, ok: usize, parts: &[&str]| {
        let parsed = Tables::default().write(body.as_bytes(), &options);
        let messages: Vec<_> = parsed.errors.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(
            (parsed.lines_ok, parsed.errors.len()),
            (ok, parts.len()),
            "{messages:?}"
        );
        assert!(
            messages.iter().zip(parts).all(|(m, part)| m.contains(part)),
            "{messages:?}"
        );
    };
    check(
        "m f=\"0123456789012345678901234567890123\"\nm f=\"01234567890123456789012345678\"",
        1,
        &["longer than 40"],
    );
    check("abcde f=1\nabcdef f=1", 1, &["longer than 5"]);
    check("m abcde=1\nm abcdef=1", 1, &["longer than 5"]);
    check(
        "m,abcde=1 f=1\nm,abcd=123456 f=1",
        1,
        &["4 bytes (setting max_label_name_bytes)"],
    );
    check(
        "m,a=1234567 f=1\nm,a=123\\ 56 f=1",
        1,
        &["6 bytes (setting max_label_value_bytes)"],
    );
    let wide = LineOptions {
        limits: LineLimits {
            columns: 100,
            ..limits
        },
        ..options
    };
    let parsed = Tables::default().write(b"m,a=1,b=2,c=3,d=4 f=1 1\nm,a=1,b=2,c=3 f=1 1", &wide);
    assert_eq!((parsed.lines_ok, parsed.errors[0].line), (1, 1));
    assert!(parsed.errors[0].message.contains("max_labels_per_series"));
    check("m,abcde=12345678901234 f=1", 0, &["longer than 20"]);
    check(
        "m,a=1 b=1,c=1\nm d=1\nm,d=1 b=1\nm c=2",
        2,
        &["at most 3 columns (setting max_columns)", "at most 3"],
    );
    check("a f=1\nb f=1\nc f=1\na f=2", 3, &["more than 2 tables"]);
    let limits = LineLimits {
        tables_left: 1,
        ..limits
    };
    let one_left = LineOptions { limits, ..options };
    // A bad line takes no place.
    let mut tables = Tables::with("old", &[]);
    let parsed = tables.write(b"x f=oops\na f=1 1\nold f=1 1\nb f=1 1\na f=2 2", &one_left);
    assert_eq!((parsed.lines_ok, parsed.lines_refused), (3, 2));
    let message = &parsed.errors[1].message;
    assert!(
        message.contains("\"b\"") && message.contains("at most 7 tables (setting max_tables)"),
        "{message}"
    );
    check("a f=oops\nb f=oops\nc f=1\nd f=1", 2, &["oops", "oops"]);
    let parsed = Tables::default().write(b"a\nb\nc\nm f=1", &options);
    assert_eq!((parsed.errors.len(), parsed.lines_refused), (2, 3));
}

#[test]
fn lines_that_have_no_field_in_common_do_not_fill_the_memory_with_gaps() {
    let body: String = (0..2000)
        .flat_map(|i| {
            [
                format!("m f{i}={i}i {i}\n"),
                format!("m s{}=\"{i}\" {i}\n", i % 10),
            ]
        })
        .collect();
    let options = LineOptions {
        limits: LineLimits {
            columns: 10_000,
            ..LineLimits::default()
        },
        ..nanoseconds()
    };
    let mut tables = Tables::default();
    let parsed = tables.write(body.as_bytes(), &options);
    assert_eq!(parsed.errors, []);
    let bytes = parsed.tables[0].rows.bytes();
    assert!(bytes < 4000 * 100, "{bytes}");
    let expected: Vec<_> = (0..2000)
        .flat_map(|i| {
            [
                format!("m{{}} {i} f{i}={i}i"),
                format!("m{{}} {i} s{}=\"{i}\"", i % 10),
            ]
        })
        .collect();
    assert_eq!(show(&parsed), expected);
}

#[test]
fn rows_of_series_that_cannot_be_registered_are_refused() {
    let mut tables = Tables {
        registry_bytes: Some(250),
        ..Tables::default()
    };
    let parsed = tables.write(
        b"m,t=a f=1 1\nm,t=b f=2 2\nm,t=a f=3 3\nm,t=c,u=1 g=4 4\nm,t=b f=5 5",
        &nanoseconds(),
    );
    assert!(parsed.registry_full);
    assert_eq!(show(&parsed), ["m{t=\"a\"} 1 f=1.0", "m{t=\"a\"} 3 f=3.0"]);
    assert_eq!(
        parsed.errors.iter().map(|e| e.line).collect::<Vec<_>>(),
        [2, 4, 5]
    );
    assert_eq!(parsed.errors[2].original, "m,t=b f=5 5");
    assert!(!parsed.tables[0].new_columns.iter().any(|c| &*c.name == "g"));
}

#[test]
fn of_two_series_with_one_id_the_second_is_refused() {
    let mut tables = Tables::default();
    tables.registries.lock().insert(
        "m".to_owned(),
        Arc::new(SeriesRegistry::with_ids(
            1 << 20,
            MemoryBudget::unlimited(),
            |labels| labels.len() as u64,
        )),
    );
    check_errors(
        &mut tables,
        b"m,t=a f=1 1\nm,t=b f=2 2\nm,t=a f=3 3",
        &[(2, "m,t=b f=2 2", "same 64-bit id")],
        &["m{t=\"a\"} 1 f=1.0", "m{t=\"a\"} 3 f=3.0"],
    );
}

#[test]
fn a_table_of_samples_takes_no_lines() {
    let mut tables = Tables::default();
    tables
        .schemas
        .insert("prom".to_owned(), Arc::new(TableSchema::metrics()));
    check_errors(
        &mut tables,
        b"prom value=1 1",
        &[(1, "prom value=1 1", "Prometheus")],
        &[],
    );
}

/// A point of a test: names with everything in them that needs an escape.
fn points()
-> impl Strategy<Value = Vec<(String, Vec<(String, String)>, Vec<(String, String)>, i64)>> {
    // A name may not end in a backslash, and one that has a backslash before a special character
    // needs care when it is written: every backslash is doubled below.
    let name = "[a-zé ,=\\\\\"#]{0,4}[a-z]";
    let number = prop_oneof![
        any::<f64>()
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(|x| format!("{x:?}")),
        any::<i64>().prop_map(|x| format!("{x}i")),
        any::<u64>().prop_map(|x| format!("{x}u")),
        any::<bool>().prop_map(|x| x.to_string()),
        "[a-zé \n\r\\\\\"=,#]{0,12}".prop_map(|s| format!("\"{}", s)),
    ];
    let tags = proptest::collection::btree_map(name.prop_map(|n| format!("t{n}")), name, 0..4);
    let fields = proptest::collection::btree_map(name.prop_map(|n| format!("f{n}")), number, 1..5);
    let point = (
        name.prop_map(|n| format!("m{n}")),
        tags,
        fields,
        any::<i64>(),
    )
        .prop_map(|(m, tags, fields, time)| {
            (
                m,
                tags.into_iter().collect(),
                fields.into_iter().collect(),
                time,
            )
        });
    proptest::collection::vec(point, 0..12)
}

fn escape(text: &str, specials: &str) -> String {
    text.chars()
        .flat_map(|c| specials.contains(c).then_some('\\').into_iter().chain([c]))
        .collect()
}

proptest! {
    #[test]
    fn points_come_back(points in points()) {
        let mut body = String::new();
        let mut expected = Vec::new();
        for (measurement, tags, fields, time) in &points {
            body.push_str(&escape(measurement, ", \\"));
            for (name, value) in tags {
                write!(body, ",{}={}", escape(name, ",= \\"), escape(value, ",= \\")).unwrap();
            }
            let mut shown = format!("{measurement}{} {time}", tidelake_catalog::model::Labels::from_pairs(tags.iter().cloned()));
            for (i, (name, value)) in fields.iter().enumerate() {
                body.push(if i == 0 { ' ' } else { ',' });
                body.push_str(&escape(name, ",= \\"));
                body.push('=');
                match value.strip_prefix('"') {
                    Some(text) => {
                        write!(body, "\"{}\"", escape(text, "\"\\")).unwrap();
                        write!(shown, " {name}={text:?}").unwrap();
                    }
                    None => {
                        body.push_str(value);
                        write!(shown, " {name}={value}").unwrap();
                    }
                }
            }
            writeln!(body, " {time}").unwrap();
            expected.push(shown);
        }
        // Each line into its own database: what types the others set does not matter here.
        let mut tables = Tables::default();
        let parsed = tables.write(body.as_bytes(), &nanoseconds());
        let conflicts = parsed.errors.iter().filter(|e| e.message.contains("cannot be written as")).count();
        prop_assert_eq!(conflicts, parsed.errors.len(), "{:?}", parsed.errors);
        for row in show(&parsed) {
            let sorted = |text: &str| { let mut c: Vec<char> = text.chars().collect(); c.sort_unstable(); c };
            prop_assert!(expected.iter().any(|e| sorted(e) == sorted(&row)), "{} is none of {:?}", row, expected);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_every_line_is_accounted_for(
        body in "([mf,=\"\\\\ \n\r#t1.ie+-]|m,t=a f=1|,s=\"| f=1u|\n){0,60}"
    ) {
        let mut tables = Tables::default();
        tables.write(body.as_bytes(), &nanoseconds());
        tables.write(body.as_bytes(), &LineOptions::new(Precision::Auto, NOW));
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        Tables::default().write(&body, &nanoseconds());
    }
}

#[test]
fn lines_older_than_their_tables_retention_are_refused() {
    let mut tables = Tables::with("short", &[("f", ColumnType::Float)]);
    let hour = Oldest::new(3_600_000, NOW / 1_000_000, TimeUnit::Nanosecond);
    for table in ["short", "new"] {
        tables.oldest.insert(table.to_owned(), hour);
    }
    let (oldest, older) = (hour.time, hour.time - 1);
    let body = format!(
        "short f=1 {oldest}\nshort,t=x g=2 {older}\nlong f=3 {older}\nnew f=4 {older}\nshort f=5\n"
    );
    let line = |n: usize| body.lines().nth(n - 1).unwrap();
    let why = "outside the retention of 3600000 ms: the oldest time taken is now \
               2023-11-14T21:13:20.123Z";
    let errors = [
        (2, line(2), why),
        (4, line(4), "the time 2023-11-14T21:13:20.122Z"),
    ];
    let rows = [
        format!("short{{}} {oldest} f=1.0"),
        format!("short{{}} {NOW} f=5.0"),
        format!("long{{}} {older} f=3.0"),
    ];
    check_errors(
        &mut tables,
        body.as_bytes(),
        &errors,
        &rows.each_ref().map(String::as_str),
    );
    // Nothing is left of what was refused.
    assert!(!tables.schemas.contains_key("new"));
    assert!(tables.schemas["short"].column("g").is_none());
}

#[test]
fn a_tag_and_a_field_of_a_line_share_a_name_where_they_may() {
    let mut tables = Tables::default();
    let shared = LineOptions {
        shares_names: true,
        ..LineOptions::new(Precision::Nanosecond, NOW)
    };
    let alone = b"door,room=hall n=1i 1";
    assert_eq!(tables.write(alone, &shared).lines_refused, 0);
    // A field by itself is a mistake, until a line has had both.
    let field = b"door room=\"open\" 2";
    let refused = tables.write(field, &shared);
    assert!(
        refused.errors[0].message.contains("\"room\" is a tag"),
        "{refused:?}"
    );
    let both = b"door,room=hall room=\"open\",n=2i 3";
    let strict = LineOptions::new(Precision::Nanosecond, NOW);
    assert_eq!(tables.write(both, &strict).lines_refused, 1);
    assert_eq!(tables.write(both, &shared).lines_refused, 0);
    let column = tables.schemas["door"].column("room (field)").cloned();
    assert_eq!(column.map(|column| column.kind), Some(ColumnType::String));
    assert_eq!(tables.write(field, &shared).lines_refused, 0);
}

//! Answers of SQL queries as bytes: JSON, JSON lines, CSV, Parquet, line protocol, and a table for
//! people.
//!
//! All but the last are streamed batch by batch. A failure in the middle ends the body with an
//! error, which ends the connection: half an answer never looks like a whole one.
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::pretty::pretty_format_batches;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::prometheus::json::write_string;
use crate::service::error::{Code, ServiceError};
use crate::sql::cells::cell_writer;
use crate::sql::lines::Lines;

/// Rows of a row group of a Parquet answer, which is held in memory until it is complete.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Most that a table for people may hold.
const PRETTY_BYTES: usize = 32 << 20;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An array of objects.
    Json,
    /// An object per line.
    JsonLines,
    /// RFC 4180 with a header line; an empty cell is null, `""` is the empty text.
    Csv,
    /// A Parquet file.
    Parquet,
    /// Line protocol, of a table that is named.
    LineProtocol,
    /// A table drawn with characters.
    Pretty,
}

impl Format {
    /// The `format` parameter, else what `Accept` names first of what we have, else JSON.
    pub fn choose(parameter: Option<&str>, accept: Option<&str>) -> Result<Self, ServiceError> {
        if let Some(name) = parameter {
            return match name.to_ascii_lowercase().as_str() {
                "json" => Ok(Self::Json),
                "jsonl" | "json_lines" | "ndjson" => Ok(Self::JsonLines),
                "csv" => Ok(Self::Csv),
                "parquet" => Ok(Self::Parquet),
                "line_protocol" | "lp" => Ok(Self::LineProtocol),
                "pretty" => Ok(Self::Pretty),
                _ => Err(ServiceError::bad_request(format!(
                    "unknown format {name:?}; use json, jsonl, csv, parquet, line_protocol or pretty"
                ))),
            };
        }
        for item in accept.unwrap_or("").split(',') {
            match item
                .split(';')
                .next()
                .unwrap_or("")
                .trim()
                .to_ascii_lowercase()
                .as_str()
            {
                "application/json" => return Ok(Self::Json),
                "application/jsonl" | "application/x-ndjson" | "application/ndjson" => {
                    return Ok(Self::JsonLines);
                }
                "text/csv" => return Ok(Self::Csv),
                "application/vnd.apache.parquet" => return Ok(Self::Parquet),
                "text/plain" => return Ok(Self::Pretty),
                _ => {}
            }
        }
        Ok(Self::Json)
    }

    /// The content type of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Pretty | Self::LineProtocol => "text/plain; charset=utf-8",
        }
    }
}

/// An answer of one batch that is small.
pub fn answer(format: Format, batch: &RecordBatch) -> Result<Response, ServiceError> {
    let encode = || {
        let mut encoder = Encoder::new(format, batch.schema())?;
        let mut body = encoder.batch(batch)?.to_vec();
        body.extend_from_slice(&encoder.finish()?);
        Ok::<_, ArrowError>(body)
    };
    let body = encode().map_err(|error| ServiceError::of(Code::Internal, error))?;
    Ok(([(CONTENT_TYPE, format.content_type())], body).into_response())
}

/// Turns batches into bytes, one batch at a time.
pub struct Encoder {
    schema: SchemaRef,
    /// Names of the columns as JSON members: `"name":`.
    members: Vec<Vec<u8>>,
    rows: usize,
    kind: Kind,
}

enum Kind {
    Json,
    JsonLines,
    Csv,
    Parquet(Box<ArrowWriter<Vec<u8>>>),
    Lines(Lines),
    Pretty {
        batches: Vec<RecordBatch>,
        bytes: usize,
    },
}

impl Encoder {
    /// An encoder for batches of a schema. Line protocol needs [`lines`](Self::lines).
    pub fn new(format: Format, schema: SchemaRef) -> Result<Self, ArrowError> {
        let kind = match format {
            Format::Json => Kind::Json,
            Format::JsonLines => Kind::JsonLines,
            Format::Csv => Kind::Csv,
            Format::LineProtocol => {
                return Err(ArrowError::InvalidArgumentError(
                    "line protocol needs the parameter \"table\"".to_owned(),
                ));
            }
            Format::Pretty => Kind::Pretty {
                batches: Vec::new(),
                bytes: 0,
            },
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                Kind::Parquet(Box::new(ArrowWriter::try_new(
                    Vec::new(),
                    schema.clone(),
                    Some(properties),
                )?))
            }
        };
        Ok(Self::with(kind, schema))
    }

    /// An encoder that writes line protocol.
    pub fn lines(lines: Lines, schema: SchemaRef) -> Self {
        Self::with(Kind::Lines(lines), schema)
    }

    fn with(kind: Kind, schema: SchemaRef) -> Self {
        let members = schema.fields().iter().map(|field| {
            let mut name = Vec::new();
            write_string(&mut name, field.name());
            name.push(b':');
            name
        });
        Self {
            members: members.collect(),
            schema,
            rows: 0,
            kind,
        }
    }

    /// The bytes of a batch; there may be none yet.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut out = Vec::new();
        match &mut self.kind {
            Kind::Json => self.write_json(batch, &mut out)?,
            Kind::JsonLines => self.write_json_lines(batch, &mut out)?,
            Kind::Csv => self.write_csv(batch, &mut out)?,
            Kind::Lines(lines) => lines.write(batch, &mut out)?,
            Kind::Parquet(writer) => {
                writer.write(batch)?;
                // Whole row groups leave; the writer counts its position itself.
                out = std::mem::take(writer.inner_mut());
            }
            Kind::Pretty { batches, bytes } => {
                *bytes += batch.get_array_memory_size();
                if *bytes > PRETTY_BYTES {
                    let message = format!(
                        "the answer is larger than {PRETTY_BYTES} bytes, too large for the format \
                         pretty; use jsonl or csv"
                    );
                    return Err(ArrowError::MemoryError(message));
                }
                batches.push(batch.clone());
            }
        }
        self.rows += batch.num_rows();
        Ok(out.into())
    }

    /// The bytes after the last batch.
    pub fn finish(mut self) -> Result<Bytes, ArrowError> {
        let mut out = Vec::new();
        match self.kind {
            Kind::Json => out.extend_from_slice(if self.rows == 0 { b"[]" } else { b"]" }),
            Kind::JsonLines | Kind::Lines(_) => {}
            Kind::Csv if self.rows == 0 => self.write_csv_header(&mut out),
            Kind::Csv => {}
            Kind::Parquet(ref mut writer) => {
                writer.finish()?;
                out = std::mem::take(writer.inner_mut());
            }
            Kind::Pretty {
                ref mut batches, ..
            } => {
                if batches.is_empty() {
                    batches.push(RecordBatch::new_empty(self.schema.clone()));
                }
                writeln!(out, "{}", pretty_format_batches(batches)?)?;
            }
        }
        Ok(out.into())
    }

    fn write_json(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.write_rows(
            batch,
            out,
            |row, out| out.push(if self.rows + row == 0 { b'[' } else { b',' }),
            b"",
        )
    }

    fn write_json_lines(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.write_rows(batch, out, |_, _| {}, b"\n")
    }

    fn write_rows(
        &self,
        batch: &RecordBatch,
        out: &mut Vec<u8>,
        before: impl Fn(usize, &mut Vec<u8>),
        after: &[u8],
    ) -> Result<(), ArrowError> {
        let cells = batch
            .columns()
            .iter()
            .map(|c| cell_writer(c.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            before(row, out);
            out.push(b'{');
            for (i, (name, cell)) in self.members.iter().zip(&cells).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name);
                cell(row, out)?;
            }
            out.push(b'}');
            out.extend_from_slice(after);
        }
        Ok(())
    }

    fn write_csv_header(&self, out: &mut Vec<u8>) {
        for (i, field) in self.schema.fields().iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_csv_text(out, field.name());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_csv(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.rows == 0 && batch.num_rows() > 0 {
            self.write_csv_header(out);
        }
        let cells = batch
            .columns()
            .iter()
            .map(|c| cell_writer(c.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut cell_text = Vec::new();
        for row in 0..batch.num_rows() {
            for (i, cell) in cells.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                cell_text.clear();
                cell(row, &mut cell_text)?;
                write_csv_cell(out, &cell_text);
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// A JSON cell as a CSV cell.
fn write_csv_cell(out: &mut Vec<u8>, json: &[u8]) {
    match json.first() {
        Some(b'n') => {}
        Some(b'"') => match serde_json::from_slice::<String>(json) {
            Ok(text) => write_csv_text(out, &text),
            Err(_) => out.extend_from_slice(json),
        },
        Some(b'[' | b'{') => write_csv_text(out, &String::from_utf8_lossy(json)),
        _ => out.extend_from_slice(json),
    }
}

fn write_csv_text(out: &mut Vec<u8>, text: &str) {
    if !text.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::Schema;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch(times: &[i64], hosts: &[Option<&str>], values: &[f64]) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            (
                "time",
                Arc::new(TimestampNanosecondArray::from(times.to_vec())) as ArrayRef,
                false,
            ),
            (
                "host",
                Arc::new(StringArray::from(hosts.to_vec())) as ArrayRef,
                true,
            ),
            (
                "v",
                Arc::new(Float64Array::from(values.to_vec())) as ArrayRef,
                true,
            ),
        ])
        .unwrap()
    }

    fn encode(format: Format, schema: SchemaRef, batches: &[RecordBatch]) -> Vec<u8> {
        let mut encoder = Encoder::new(format, schema).unwrap();
        let mut out = Vec::new();
        for batch in batches {
            out.extend_from_slice(&encoder.batch(batch).unwrap());
        }
        out.extend_from_slice(&encoder.finish().unwrap());
        out
    }

    fn check(format: Format, batches: &[RecordBatch], expected: &str) {
        let schema = batch(&[], &[], &[]).schema();
        assert_eq!(
            String::from_utf8(encode(format, schema, batches)).unwrap(),
            expected
        );
    }

    #[test]
    fn text_formats_over_several_batches() {
        let batches = [
            batch(&[0, 1_000_000], &[Some("a"), None], &[1.0, f64::NAN]),
            batch(&[], &[], &[]),
            batch(&[5], &[Some("x,\"y\"")], &[0.5]),
        ];
        check(
            Format::Json,
            &batches,
            concat!(
                r#"[{"time":"1970-01-01T00:00:00","host":"a","v":1.0},"#,
                r#"{"time":"1970-01-01T00:00:00.001","host":null,"v":null},"#,
                r#"{"time":"1970-01-01T00:00:00.000000005","host":"x,\"y\"","v":0.5}]"#
            ),
        );
        check(
            Format::JsonLines,
            &batches[..1],
            "{\"time\":\"1970-01-01T00:00:00\",\"host\":\"a\",\"v\":1.0}\n{\"time\":\"\
             1970-01-01T00:00:00.001\",\"host\":null,\"v\":null}\n",
        );
        check(
            Format::Csv,
            &batches,
            concat!(
                "time,host,v\r\n1970-01-01T00:00:00,a,1.0\r\n1970-01-01T00:00:00.001,,\r\n",
                "1970-01-01T00:00:00.000000005,\"x,\"\"y\"\"\",0.5\r\n"
            ),
        );
    }

    #[test]
    fn empty_answers_are_well_formed() {
        check(Format::Json, &[], "[]");
        check(Format::JsonLines, &[], "");
        check(Format::Csv, &[], "time,host,v\r\n");
        let schema = batch(&[], &[], &[]).schema();
        assert!(
            String::from_utf8(encode(Format::Pretty, schema, &[]))
                .unwrap()
                .contains("| time | host | v |")
        );
    }

    #[test]
    fn a_streamed_parquet_file_reads_back() {
        let schema = Arc::new(Schema::new(vec![arrow::datatypes::Field::new(
            "n",
            arrow::datatypes::DataType::Int64,
            false,
        )]));
        let part = |from: i64| {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 100_000));
            RecordBatch::try_new(schema.clone(), vec![column]).unwrap()
        };
        let file = encode(
            Format::Parquet,
            schema.clone(),
            &[part(0), part(100_000), part(200_000)],
        );
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert!(
            reader.metadata().num_row_groups() > 1,
            "row groups leave before the end"
        );
        let rows: i64 = reader
            .build()
            .unwrap()
            .map(|b| b.unwrap().num_rows() as i64)
            .sum();
        assert_eq!(rows, 300_000);
    }

    #[test]
    fn formats_are_chosen() {
        let check = |parameter, accept, expected| {
            assert_eq!(Format::choose(parameter, accept).ok(), expected)
        };
        check(None, None, Some(Format::Json));
        check(Some("CSV"), Some("application/json"), Some(Format::Csv));
        check(None, Some("text/html, text/csv;q=0.9"), Some(Format::Csv));
        check(None, Some("*/*"), Some(Format::Json));
        check(
            None,
            Some("application/vnd.apache.parquet"),
            Some(Format::Parquet),
        );
        check(Some("jsonl"), None, Some(Format::JsonLines));
        check(Some("xml"), None, None);
    }
}

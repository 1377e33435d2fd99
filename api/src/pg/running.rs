//! A query on its way to a client: rows are computed as they are asked for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::timezone::Tz;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use tokio::time::Instant;

use super::backend::{FieldDescription, Output};
use super::cancel::Cancel;
use super::copy::CopyOptions;
use super::error::PgError;
use super::link::{CHUNK_BYTES, Ended, Link};
use super::rows::{self, Format, Formats};
use super::startup::Stream;
use crate::node::backend::{TypeOf, shown_name};
use crate::service::error::ServiceError;
use crate::service::slots::Outcome;
use crate::service::sql::{SqlRows, failure_of_rows};

/// See the module.
pub struct Running {
    /// Its rows to come; `None` after the last.
    rows: Option<SqlRows>,
    pub schema: SchemaRef,
    batch: RecordBatch,
    /// Rows of `batch` that were taken.
    at: usize,
    /// When rows were last asked for.
    pub touched: Instant,
}

/// The columns of an answer.
pub fn describe(schema: &SchemaRef, formats: &Formats, out: &mut Output) {
    let fields = schema.fields().iter().enumerate().map(|(at, field)| {
        let of = TypeOf::of(field.data_type());
        FieldDescription {
            name: shown_name(field.name()),
            oid: of.oid(),
            size: of.size(),
            is_binary: formats.of(at) == Format::Binary,
        }
    });
    out.row_description(fields);
}

impl Running {
    /// Waits for the first rows.
    pub async fn begin(rows: SqlRows) -> Result<Self, ServiceError> {
        let schema = rows.stream.schema();
        let mut running = Self {
            batch: RecordBatch::new_empty(Arc::clone(&schema)),
            rows: Some(rows),
            schema,
            at: 0,
            touched: Instant::now(),
        };
        running.advance().await?;
        Ok(running)
    }

    /// Gets the next batch that has rows. Returns whether there is one.
    async fn advance(&mut self) -> Result<bool, ServiceError> {
        loop {
            let Some(rows) = &mut self.rows else {
                return Ok(false);
            };
            let next = rows.deadline.within(rows.stream.next()).await;
            let next = next.and_then(|batch| batch.transpose().map_err(failure_of_rows));
            match next {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                Ok(Some(batch)) => {
                    (self.batch, self.at) = (batch, 0);
                    return Ok(true);
                }
                Ok(None) => {
                    self.end(Outcome::Answered);
                    return Ok(false);
                }
                Err(error) => {
                    if let Some(rows) = self.rows.take() {
                        rows.slot.fail(&error);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Ends the query; its place is free.
    pub fn end(&mut self, outcome: Outcome) {
        if let Some(rows) = self.rows.take() {
            rows.slot.end(outcome);
        }
    }

    /// Sends up to `max` rows. Returns how many.
    pub async fn send<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        cancel: &Cancel,
        formats: &Formats,
        zone: Tz,
        max: u64,
    ) -> Result<u64, Ended> {
        self.each_chunk(link, cancel, max, |batch, from, most, out| {
            let columns = rows::columns(batch, formats, zone)?;
            fill(from..batch.num_rows(), most, out, |row, out| {
                rows::write_row(&columns, row, out)
            })
        })
        .await
    }

    /// Passes over up to `max` rows. Returns how many.
    pub async fn skip<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        cancel: &Cancel,
        max: u64,
    ) -> Result<u64, Ended> {
        self.each_chunk(link, cancel, max, |batch, from, most, _| {
            let rows = batch.num_rows() - from;
            Ok(rows.min(usize::try_from(most).unwrap_or(usize::MAX)))
        })
        .await
    }

    /// Sends all rows as a copy. Returns how many.
    pub async fn copy<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        cancel: &Cancel,
        options: &CopyOptions,
        zone: Tz,
    ) -> Result<u64, Ended> {
        link.out
            .copy_out(options.is_binary(), self.schema.fields().len());
        let mut head = Vec::new();
        let names = self.schema.fields().iter();
        options.head(names.map(|field| shown_name(field.name())), &mut head);
        if !options.is_binary() {
            link.out.copy_data(&head)?;
            head.clear();
        }
        // In binary it is in one message with the first row.
        let sent = self
            .each_chunk(link, cancel, u64::MAX, |batch, from, most, out| {
                let columns = options.columns(batch, zone)?;
                fill(from..batch.num_rows(), most, out, |row, out| {
                    let open = out.begin(b'd');
                    out.0.append(&mut head);
                    match options.row(&columns, row, &mut out.0) {
                        Ok(()) => out.end(open),
                        Err(error) => {
                            out.cancel(open);
                            Err(error)
                        }
                    }
                })
            })
            .await?;
        options.tail(&mut head);
        link.out.copy_data(&head)?;
        link.out.copy_done();
        Ok(sent)
    }

    /// Hands rows on in parts of about [`CHUNK_BYTES`]: `write` gets a batch, the first row to take
    /// of it and how many at most, and says how many it took.
    async fn each_chunk<S: Stream>(
        &mut self,
        link: &mut Link<S>,
        cancel: &Cancel,
        max: u64,
        mut write: impl FnMut(&RecordBatch, usize, u64, &mut Output) -> Result<usize, PgError>,
    ) -> Result<u64, Ended> {
        let mut done = 0;
        self.touched = Instant::now();
        while done < max {
            if self.at == self.batch.num_rows() {
                let advanced = link.attend(cancel, self.advance()).await?;
                if !advanced.map_err(PgError::from)? {
                    break;
                }
            }
            let taken = match write(&self.batch, self.at, max - done, &mut link.out) {
                Ok(taken) => taken,
                Err(error) => {
                    self.end(Outcome::Failed);
                    return Err(error.into());
                }
            };
            self.at += taken;
            done += taken as u64;
            if let Err(ended) = link.flush_if_full().await {
                let stalled = matches!(ended, Ended::Stalled);
                self.end(if stalled {
                    Outcome::Stalled
                } else {
                    Outcome::Cancelled
                });
                return Err(ended);
            }
        }
        self.touched = Instant::now();
        Ok(done)
    }

    /// Whether it still computes.
    pub fn is_open(&self) -> bool {
        self.rows.is_some()
    }
}

/// Writes rows until there is a chunk of them. Returns how many.
fn fill(
    rows: std::ops::Range<usize>,
    most: u64,
    out: &mut Output,
    mut write: impl FnMut(usize, &mut Output) -> Result<(), PgError>,
) -> Result<usize, PgError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut taken = 0;
    for row in rows.take(most) {
        write(row, out)?;
        taken += 1;
        if out.0.len() >= CHUNK_BYTES {
            break;
        }
    }
    Ok(taken)
}

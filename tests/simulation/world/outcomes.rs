//! Which answers are right, by what was asked and when.

use tidelake_api::cluster::ClusterError;
use tidelake_catalog::CatalogError;
use tidelake_catalog::segment_upload::UploadError;
use tidelake_compactor::CompactError;
use tidelake_ingest::{IngestError, WriteOutcome};

use super::{Shared, Verdict};
use crate::model::RequestId;
use crate::network::Killed;
use crate::process::{Process, StartError, node_name};
use crate::read::ReadError;
use crate::trace::note;
use crate::workload::Write;

pub(super) fn brief(result: &Result<WriteOutcome, IngestError>) -> String {
    match result {
        Ok(outcome) => format!(
            "{} written, {} refused",
            outcome.written.samples, outcome.refused
        ),
        Err(error) => error.to_string(),
    }
}

/// Sends one request, and notes its answer.
pub(super) async fn send(
    shared: &Shared,
    process: &Process,
    id: RequestId,
    write: Write,
) -> Verdict {
    let is_replaced = shared.is_replaced(process.node, process.epoch);
    if is_replaced {
        // It must never appear.
        shared.model.lock().refuse(id)?;
    }
    let (body, accept_partial) = (write.request.body.clone(), write.request.accept_partial);
    let Some(ingester) = &process.ingester else {
        return Err(format!(
            "request {id} went to a process that takes no writes"
        ));
    };
    let result = ingester.write(write.request).await;
    note!(shared.network.trace, "request {id}: {}", brief(&result));
    if result.is_ok() {
        shared.settle(id);
    }
    match result {
        Ok(outcome) => acknowledged(
            shared,
            id,
            &outcome,
            accept_partial,
            &write.bad_lines,
            is_replaced,
        )
        .map_err(|error| format!("{error}; it was {}", String::from_utf8_lossy(&body))),
        Err(error) => refused(shared, process, id, error).await,
    }
}

/// A client got a 2xx, or a 4xx that names lines.
pub(super) fn acknowledged(
    shared: &Shared,
    id: RequestId,
    outcome: &WriteOutcome,
    accept_partial: bool,
    bad_lines: &[usize],
    is_replaced: bool,
) -> Verdict {
    let refused: Vec<usize> = outcome.errors.iter().map(|error| error.line).collect();
    // A node that has not heard of a column takes the first type that a request gives it, and
    // learns better when it adds the column, which it does not if the request is refused as a
    // whole anyway.
    let is_enough = !accept_partial
        && outcome.written.samples == 0
        && !refused.is_empty()
        && !bad_lines.is_empty();
    if refused != bad_lines && !is_enough {
        return Err(format!(
            "request {id} has bad lines {bad_lines:?}, but {refused:?} were refused: {:?}",
            outcome.errors
        ));
    }
    let mut model = shared.model.lock();
    if outcome.written.samples == 0 {
        return model.refuse(id);
    }
    if is_replaced {
        return Err(format!(
            "request {id} was acknowledged by a process that had been replaced"
        ));
    }
    model.acknowledge(id);
    Ok(())
}

pub(super) async fn refused(
    shared: &Shared,
    process: &Process,
    id: RequestId,
    error: IngestError,
) -> Verdict {
    match error {
        IngestError::Unavailable { .. } => Ok(()),
        IngestError::Fenced(_) if shared.is_superseded(process.node, process.epoch).await? => {
            Ok(())
        }
        error => Err(format!("request {id}: {error:?}")),
    }
}

pub(super) async fn catalog_failed(
    shared: &Shared,
    process: &Process,
    what: &str,
    error: CatalogError,
) -> Verdict {
    match error {
        CatalogError::Store(error) if error.is_transient() => Ok(()),
        // It has stopped.
        CatalogError::NotRegistered => Ok(()),
        CatalogError::Fenced { .. }
            if shared.is_superseded(process.node, process.epoch).await? =>
        {
            Ok(())
        }
        error => Err(format!("{what}: {error}")),
    }
}

/// `is_stale`: what it was to merge may be gone.
pub(super) async fn compact_failed(
    shared: &Shared,
    process: &Process,
    error: CompactError,
    is_stale: bool,
) -> Verdict {
    let error = match error {
        CompactError::Some { first, .. } => *first,
        error => error,
    };
    match error {
        CompactError::Catalog(error) => catalog_failed(shared, process, "compact", error).await,
        CompactError::Merge(UploadError::Store(error)) if error.is_transient() => Ok(()),
        CompactError::Merge(UploadError::Segment(error))
        | CompactError::Quarantined { error, .. } => match error.into() {
            ReadError::Unavailable(_) => Ok(()),
            ReadError::Missing(_) if is_stale => Ok(()),
            error => Err(format!("compact: {error}")),
        },
        error => Err(format!("compact: {error}")),
    }
}

pub(super) async fn flushed(
    shared: &Shared,
    process: &Process,
    result: Result<(), IngestError>,
    began: u64,
) -> Verdict {
    match result {
        Ok(()) => {
            shared.figures.lock().flushes += 1;
            // Others may have read of its log what the process does not know of.
            let is_all = !process.has_open_log();
            if is_all && !shared.is_replaced(process.node, process.epoch) {
                shared.model.lock().flushed(
                    process.node,
                    process.catalog.snapshot().sequence(),
                    began,
                );
            }
            Ok(())
        }
        Err(IngestError::Unavailable { .. }) => Ok(()),
        Err(IngestError::Fenced(_))
            if shared.is_superseded(process.node, process.epoch).await? =>
        {
            Ok(())
        }
        Err(error) => Err(format!("{error:?}")),
    }
}

pub(super) async fn start_failed(shared: &Shared, node: usize, error: &StartError) -> Verdict {
    let text = error.to_string();
    let is_transient = match error {
        StartError::Catalog(CatalogError::Store(error))
        | StartError::Cluster(ClusterError::Catalog(CatalogError::Store(error))) => {
            error.is_transient()
        }
        // Another process of the node started meanwhile: it fences, covers and deletes.
        StartError::Catalog(CatalogError::Fenced { .. })
        | StartError::Cluster(ClusterError::Catalog(CatalogError::Fenced { .. }))
        | StartError::Ingest(IngestError::Fenced(_)) => true,
        StartError::Ingest(IngestError::Unavailable { .. }) => true,
        StartError::Ingest(IngestError::Internal(text)) => {
            text.contains("not available") || text.contains("no space left")
        }
        _ => false,
    };
    let raced = shared
        .observer()
        .refresh()
        .await
        .ok()
        .and_then(|s| s.node(&node_name(node)).map(|n| n.epoch))
        .unwrap_or(0);
    let is_raced = text.contains("does not exist") && shared.ready.lock()[node] == raced;
    if is_transient || is_raced {
        Ok(())
    } else {
        Err(format!("node {node} cannot start: {text}"))
    }
}

/// The result of a task; `None` if it was killed.
pub(super) fn finished<T>(result: Result<T, tokio::task::JoinError>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_cancelled() => Ok(None),
        Err(error) => match error.into_panic().downcast::<Killed>() {
            Ok(_) => Ok(None),
            Err(_) => Err(format!(
                "a task panicked: {}",
                crate::panics::first().unwrap_or_default()
            )),
        },
    }
}

//! The log as text, for people who ask what happened.

use serde_json::{Value, json};

use crate::catalog::CatalogError;
use crate::log::Log;
use crate::record::Record;
use crate::store::{Store, StoreError};

/// Gives each record of the log to `print` as JSON, in order. A record that cannot be read is
/// printed too, with its error, and the next ones still follow: this is for finding out what is
/// wrong.
pub async fn dump(store: &Store, mut print: impl FnMut(Value)) -> Result<(), CatalogError> {
    let log = Log::new(store.clone(), std::time::Duration::ZERO);
    let mut sequence = 1;
    loop {
        match log.read(sequence).await {
            Ok(Some(record)) => print(record_value(&record)),
            Ok(None) => return Ok(()),
            Err(error @ StoreError::Corrupt { .. }) => {
                print(json!({"sequence": sequence, "error": error.to_string()}))
            }
            Err(error) => return Err(error.into()),
        }
        sequence += 1;
    }
}

fn record_value(record: &Record) -> Value {
    let mut value = serde_json::to_value(record)
        .unwrap_or_else(|error| json!({"sequence": record.sequence, "error": error.to_string()}));
    let time = chrono::DateTime::from_timestamp_millis(record.time_ms);
    if let (Some(fields), Some(time)) = (value.as_object_mut(), time) {
        fields.insert(
            "time".to_owned(),
            time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
                .into(),
        );
    }
    value
}

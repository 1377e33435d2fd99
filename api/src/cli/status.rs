//! `tidelake status`: how a running server does.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::output::Format;
use super::remote::{Remote, RemoteArgs};

/// Which server.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to print it
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Figures that are shown, and the metrics whose series they are the sum of.
const SHOWN: [(&str, &str); 8] = [
    ("active series", "tidelake_active_series"),
    ("rows in no segment yet", "tidelake_buffer_rows"),
    ("segments", "tidelake_segments"),
    ("bytes in segments", "tidelake_segment_bytes"),
    ("segments that wait for a merge", "tidelake_merge_backlog"),
    ("damaged segments", "tidelake_quarantined_segments"),
    ("queries running", "tidelake_queries_running"),
    ("resident bytes", "process_resident_memory_bytes"),
];

/// Asks and prints; gives the exit code: 1 if the server is not ready.
pub async fn run(args: &StatusArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let remote = Remote::new(&args.remote)?.impatient();
    let build: Value = serde_json::from_str(&remote.get("/api/v1/status/buildinfo").await?)?;
    let version = build.pointer("/data/version").and_then(Value::as_str);
    let ready = remote.get("/ready").await;
    // Figures are for tokens that may read them.
    let metrics = remote.get("/metrics").await.unwrap_or_default();
    let figures = SHOWN.map(|(name, metric)| (name, sum(&metrics, metric)));
    let state = match &ready {
        Ok(_) => "ready".to_owned(),
        Err(error) => format!("not ready: {error:#}"),
    };
    match args.format {
        Format::Json => {
            let figures: serde_json::Map<String, Value> = figures
                .into_iter()
                .map(|(name, value)| (name.replace(' ', "_"), json!(value)))
                .collect();
            let all = json!({ "state": state, "version": version, "figures": figures });
            writeln!(out, "{all:#}")?;
        }
        Format::Table => {
            writeln!(out, "{:<32}{state}", "state")?;
            writeln!(out, "{:<32}{}", "version", version.unwrap_or("unknown"))?;
            for (name, value) in figures {
                let value = value.map_or("-".to_owned(), |value| value.to_string());
                writeln!(out, "{name:<32}{value}")?;
            }
        }
    }
    Ok(u8::from(ready.is_err()))
}

/// The sum of the series of a metric; none if there is no such metric.
fn sum(metrics: &str, name: &str) -> Option<f64> {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    values.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_metric_are_added_up() {
        let text = "# TYPE a gauge\na{x=\"} 5\"} 1\na{x=\"2\"} 2.5\nab 7\nb 4 1000\n";
        assert_eq!(sum(text, "a"), Some(3.5));
        assert_eq!(sum(text, "b"), Some(4.0));
        assert_eq!(sum(text, "c"), None);
    }
}

//! `tidelake cluster`: the processes of a store, as a running one sees them.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::output::Format;
use super::remote::{Remote, RemoteArgs};

/// Which server.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// How to print it
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks and prints; gives the exit code: 1 if a process that takes writes is dead
/// and its log not adopted, or of an older program.
pub async fn run(args: &ClusterArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let remote = Remote::new(&args.remote)?.impatient();
    let answer = remote.get("/api/v1/status/cluster").await?;
    let answer: Value = serde_json::from_str(&answer)?;
    let nodes = answer.pointer("/data/nodes").and_then(Value::as_array);
    let nodes = nodes.context("the answer lists no nodes")?;
    match args.format {
        Format::Json => writeln!(out, "{:#}", Value::from(nodes.clone()))?,
        Format::Table => writeln!(out, "{}", table(nodes))?,
    }
    Ok(u8::from(is_incomplete(nodes)))
}

/// Whether an ingester is dead, or its program is too old to answer the others.
fn is_incomplete(nodes: &[Value]) -> bool {
    let writes = |node: &Value| {
        let mut roles = node["roles"].as_array().into_iter().flatten();
        roles.any(|role| role == "ingest")
    };
    let is_silent = |node: &Value| node["state"] == "dead" || node["state"] == "older";
    nodes.iter().any(|node| is_silent(node) && writes(node))
}

fn table(nodes: &[Value]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["node", "state", "roles", "address", "epoch"]);
    for node in nodes {
        let text = |key: &str| node[key].as_str().unwrap_or("-").to_owned();
        let roles = node["roles"].as_array().into_iter().flatten();
        let roles: Vec<&str> = roles.filter_map(Value::as_str).collect();
        table.add_row([
            text("node"),
            text("state"),
            roles.join(","),
            text("address"),
            node["epoch"].to_string(),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_process_has_a_line() {
        let nodes = [
            json!({ "node": "ing-0", "state": "alive", "roles": ["ingest"], "address": "a:1", "epoch": 3 }),
            json!({ "node": "qry-0", "state": "dead", "roles": ["query", "compact"], "address": "b:2", "epoch": 1 }),
        ];
        let shown = table(&nodes);
        let words: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[1], ["ing-0", "alive", "ingest", "a:1", "3"]);
        assert_eq!(words[2], ["qry-0", "dead", "query,compact", "b:2", "1"]);
    }

    #[test]
    fn ingesters_that_cannot_be_asked_are_told_by_the_exit_code() {
        let of = |state, role| json!({ "state": state, "roles": [role] });
        for (state, role, expected) in [
            ("alive", "ingest", false),
            ("dead", "query", false),
            ("dead", "ingest", true),
            ("older", "ingest", true),
        ] {
            let nodes = [of("alive", "query"), of(state, role)];
            assert_eq!(is_incomplete(&nodes), expected, "{state} {role}");
        }
    }
}

//! Plans as they are shown, in `tests/golden/promql/plans.txt`: an expression, then its plan.
//!
//! `TIDELAKE_UPDATE_GOLDEN=1 cargo test -p tidelake-querier golden` writes the file anew.

use std::fmt::Write;
use std::path::Path;

use super::super::exec::{EngineOptions, QueryParams, explain};
use super::super::parse::parse;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/golden/promql/plans.txt"
);

fn plan(text: &str) -> String {
    let params = QueryParams::range(0, 600_000, 60_000);
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let explained = explain(&expr, params, &EngineOptions::default());
    explained
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .text
}

#[test]
fn plans_are_as_in_the_golden_file() {
    let golden = std::fs::read_to_string(Path::new(FILE)).unwrap();
    let mut now = String::new();
    for entry in golden
        .split("\n\n")
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let query = entry.lines().next().unwrap_or_default();
        let plan = plan(query);
        writeln!(now, "{query}\n{plan}").unwrap();
    }
    if std::env::var_os("TIDELAKE_UPDATE_GOLDEN").is_some() {
        return std::fs::write(FILE, &now).unwrap();
    }
    let differs = now
        .lines()
        .zip(golden.lines())
        .find(|(now, golden)| now != golden);
    assert!(
        now == golden,
        "plans have changed; TIDELAKE_UPDATE_GOLDEN=1 writes them anew: {differs:?}"
    );
}

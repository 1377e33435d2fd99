use std::collections::HashMap;
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;

use super::*;
use crate::promql::exec::EngineOptions;
use crate::sql::SqlOptions;
use crate::test_tables::{Cell, DATABASE, TestTables, row};

#[tokio::test]
async fn rows_are_not_shown_without_tags_that_came_with_them() {
    let test = Arc::new(TestTables::new().await);
    let usage = [("usage", Cell::Float(1.0))];
    test.flush("cpu", &[row("host=a", 1, &usage)]).await;
    let (promql, sql) = (EngineOptions::default(), SqlOptions::default());
    let querier = Querier::new(test.tables.clone(), promql, sql).unwrap();
    // Its columns are known by then.
    let other = Arc::clone(&test);
    test.recent.meanwhile(async move {
        other.flush("cpu", &[row("host=a rack=r", 2, &usage)]).await;
    });
    let text = querier.read_sql("SELECT * FROM cpu ORDER BY time");
    let answer = querier.sql(DATABASE, text.unwrap(), HashMap::new(), false, None);
    let batches: Vec<_> = answer.await.unwrap().stream.try_collect().await.unwrap();
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    let racks: Vec<&str> = shown.lines().filter(|line| line.contains("| r ")).collect();
    assert_eq!(racks.len(), 1, "{shown}");
}

//! Tables of the past, of answers in part, and of readers that are counted.

use super::*;

fn damaged_object(error: SegmentError) -> String {
    match error {
        SegmentError::Corrupt { object, .. } => object,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_state_of_the_past_has_its_segments_only() {
    let test = TestTables::new().await;
    test.flush("cpu", &[usage("a", 5, 1.0)]).await;
    let past = test.tables.at(test.tables.snapshot());
    test.flush("cpu", &[usage("a", 5, 2.0)]).await;
    test.buffer("cpu", &[usage("a", 5, 3.0)]).await;
    let dropped = usage("b", 5, 1.0);
    test.flush("disk", &[dropped]).await;
    let found = scanned(&past, "cpu", TimeRange::ALL).await.unwrap();
    assert_eq!(found, ["host=a @5 usage=1.0"]);
    assert_eq!(
        (past.wide_tables(DATABASE).len(), past.databases().len()),
        (1, 1)
    );
    let all = TimeRange::ALL;
    let deleted = test.catalog.delete(DATABASE, "cpu", Vec::new(), all);
    deleted.await.unwrap();
    assert_eq!(scanned(&past, "cpu", TimeRange::ALL).await.unwrap(), found);
    let present = scanned(&test.tables, "cpu", TimeRange::ALL).await;
    assert_eq!(present.unwrap(), ["host=a @5 usage=3.0"]);
}

#[tokio::test]
async fn a_partial_view_leaves_out_a_segment_without_an_index() {
    let test = TestTables::new().await;
    let lost = test.flush("cpu", &[usage("a", 5, 1.0)]).await;
    test.flush("cpu", &[usage("b", 5, 2.0)]).await;
    let key = lost[0].index_key();
    let bytes = test.lose(&key).await;
    for _ in 0..2 {
        let error = scanned(&test.tables, "cpu", TimeRange::ALL).await;
        assert_eq!(damaged_object(error.unwrap_err()), key);
    }
    let partial = test.tables.partial();
    assert!(partial.warnings().is_empty());
    let found = scanned(&partial, "cpu", TimeRange::ALL).await.unwrap();
    assert_eq!(found, ["host=b @5 usage=2.0"]);
    let warnings = partial.warnings();
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    let words = "the answer is partial, a segment is left out: object";
    assert!(
        warning.starts_with(words) && warning.contains(&key),
        "{warning}"
    );
    assert!(test.tables.warnings().is_empty());
    assert!(test.tables.partial().warnings().is_empty());
    test.store.put(&key, bytes).await.unwrap();
    let whole = scanned(&test.tables, "cpu", TimeRange::ALL).await.unwrap();
    assert_eq!(whole, ["host=a @5 usage=1.0", "host=b @5 usage=2.0"]);
}

#[tokio::test]
async fn a_partial_view_meets_a_damaged_data_file_once() {
    let test = TestTables::new().await;
    let lost = test.flush("cpu", &[usage("a", 5, 1.0)]).await;
    test.flush("cpu", &[usage("b", 5, 2.0)]).await;
    let key = lost[0].data_key();
    // It was opened before, and is not forgotten while nothing is read.
    places(&test.tables, "cpu", TimeRange::ALL).await;
    test.lose(&key).await;
    let error = scanned(&test.tables.partial(), "cpu", TimeRange::ALL).await;
    assert_eq!(damaged_object(error.unwrap_err()), key);
    let again = test.tables.partial();
    let found = scanned(&again, "cpu", TimeRange::ALL).await.unwrap();
    assert_eq!(
        (&*found, again.warnings().len()),
        (&["host=b @5 usage=2.0".to_owned()][..], 1)
    );
    // Series are read of the index alone.
    let series = test.tables.series(DATABASE, "cpu", &[], TimeRange::ALL);
    assert_eq!(series.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_damage() {
    let test = TestTables::new().await;
    let metas = test.flush("cpu", &[usage("a", 5, 1.0)]).await;
    test.set_down(true);
    for tables in [test.tables.clone(), test.tables.partial()] {
        let failed = scanned(&tables, "cpu", TimeRange::ALL).await.unwrap_err();
        let SegmentError::Unavailable { object, .. } = failed else {
            panic!("{failed}")
        };
        assert!([metas[0].data_key(), metas[0].index_key()].contains(&object));
        assert!(tables.warnings().is_empty());
    }
    test.set_down(false);
    let partial = test.tables.partial();
    let found = scanned(&partial, "cpu", TimeRange::ALL).await.unwrap();
    assert_eq!(found, ["host=a @5 usage=1.0"]);
    assert!(partial.warnings().is_empty());
}

#[tokio::test]
async fn every_meter_of_a_view_counts_what_is_read() {
    let test = TestTables::new().await;
    test.flush("cpu", &[usage("a", 5, 1.0), usage("a", 6, 1.0)])
        .await;
    test.flush("cpu", &[usage("a", 6, 2.0)]).await;
    test.buffer("cpu", &[usage("b", 7, 3.0)]).await;
    let meters = [(), ()].map(|()| ReadMeter::unlimited(Vec::new()));
    let counted = test.tables.counted(&meters[0]).counted(&meters[1]);
    scanned(&counted, "cpu", TimeRange::ALL).await.unwrap();
    let counts = meters[0].counts();
    assert_eq!((counts.segments, counts.chunks, counts.rows), (2, 1, 3));
    assert!(counts.requests >= 4 && counts.bytes > 0, "{counts:?}");
    assert_eq!(meters[1].counts(), counts);
    // Nothing is asked of the store a second time.
    scanned(&counted, "cpu", TimeRange::ALL).await.unwrap();
    let again = meters[0].counts();
    assert_eq!((again.requests, again.rows), (counts.requests, 6));
    assert!(again.memory_hits > counts.memory_hits, "{again:?}");
    scanned(&test.tables, "cpu", TimeRange::ALL).await.unwrap();
    assert_eq!(meters[0].counts(), again);
    let most = ReadMeter::new(100, Vec::new());
    let fresh = TestTables::new().await;
    fresh.flush("cpu", &[usage("a", 5, 1.0)]).await;
    let refused = scanned(&fresh.tables.counted(&most), "cpu", TimeRange::ALL).await;
    assert!(
        matches!(refused, Err(SegmentError::ReadLimit(100))),
        "{refused:?}"
    );
}

use super::*;

fn query(id: u64, text: &str, begun_ms: i64, requests: u64, running_ms: u64) -> EndedQuery {
    EndedQuery {
        id,
        language: Language::Sql,
        database: "d".into(),
        principal: "p".into(),
        class: "heavy",
        begun_ms,
        outcome: "answered",
        code: None,
        text: text.into(),
        cost: Cost {
            queries: 1,
            running: Duration::from_millis(running_ms),
            read: ReadCounts {
                requests,
                ..ReadCounts::default()
            },
            ..Cost::default()
        },
    }
}

fn ids(costs: &EndedCosts) -> Vec<u64> {
    costs.queries.iter().map(|query| query.id).collect()
}

#[test]
fn the_latest_and_the_costly_are_kept() {
    let ended = EndedQueries::default();
    // Of each measure one that takes most, long before the last hundred.
    ended.note(query(1, "a", 0, 1000, 1));
    ended.note(query(2, "b", 1, 0, 100));
    for id in 3..=300 {
        ended.note(query(id, "c", 200, id % 7, 10));
    }
    let costs = ended.costs(300);
    assert_eq!(costs.queries[0].id, 300);
    let kept = ids(&costs);
    assert!(kept.contains(&1) && kept.contains(&2), "{kept:?}");
    assert!(kept.len() <= MAX_LATEST + 3 * MAX_COSTLY);
    let latest: Vec<u64> = (201..=300).rev().collect();
    let is_latest = |id: &u64| *id > 200;
    let found: Vec<u64> = kept.iter().copied().filter(is_latest).collect();
    assert_eq!(found, latest);
    // After an hour they are not costly any more.
    assert_eq!(ids(&ended.costs(HOUR_MS + 211)), latest);
}

#[test]
fn queries_of_a_text_are_summed_for_one_to_two_hours() {
    let ended = EndedQueries::default();
    let at = 1000 * HOUR_MS;
    for (id, text) in [
        (1, "SELECT 1"),
        (2, "SELECT 22"),
        (3, "SELECT 'x'"),
        (4, "SELECT y"),
    ] {
        ended.note(query(id, text, at, id, 10));
    }
    let shown = |costs: &EndedCosts| -> Vec<(String, u64, u64)> {
        let shown = |text: &TextCost| {
            let cost = text.cost;
            (text.text.to_string(), cost.queries, cost.read.requests)
        };
        costs.texts.iter().map(shown).collect()
    };
    let costs = ended.costs(at + 5);
    assert_eq!(
        shown(&costs),
        [("SELECT ?".to_owned(), 3, 6), ("SELECT y".to_owned(), 1, 4)]
    );
    assert_eq!((costs.all.queries, costs.all.read.requests), (4, 10));
    assert_eq!(costs.since_ms, at - HOUR_MS);
    ended.note(query(5, "SELECT y", at + HOUR_MS, 100, 10));
    let costs = ended.costs(at + HOUR_MS);
    assert_eq!(
        shown(&costs),
        [
            ("SELECT ?".to_owned(), 3, 6),
            ("SELECT y".to_owned(), 2, 104)
        ]
    );
    let costs = ended.costs(at + 2 * HOUR_MS);
    assert_eq!(shown(&costs), [("SELECT y".to_owned(), 1, 100)]);
    let costs = ended.costs(at + 5 * HOUR_MS);
    assert_eq!((shown(&costs), costs.all), (Vec::new(), Cost::default()));
}

#[test]
fn what_is_kept_is_bounded_and_heavy_texts_stay() {
    let ended = EndedQueries::default();
    ended.note(query(0, "heavy", 0, 1, 1_000_000));
    for id in 1..10_000 {
        ended.note(query(id, &format!("t{id:x}_"), 0, id, id));
    }
    let kept = ended.kept.lock();
    assert_eq!(kept.latest.len(), MAX_LATEST);
    assert!(kept.costly.iter().all(|list| list.len() <= MAX_COSTLY));
    assert_eq!(kept.sums.texts.len(), MAX_TEXTS);
    drop(kept);
    assert_eq!(&*ended.costs(1).texts[0].text, "heavy");
}

#[test]
fn texts_are_cut_between_characters() {
    let text = "é".repeat(MAX_TEXT_BYTES);
    assert_eq!(cut_text(&text).len(), MAX_TEXT_BYTES);
    assert_eq!(cut_text(&text[..7 * 2]), text[..14].into());
    assert_eq!(cut_text(&format!("x{text}")).len(), MAX_TEXT_BYTES - 1);
    assert_eq!(cut_name(&text).len(), MAX_NAME_BYTES);
}

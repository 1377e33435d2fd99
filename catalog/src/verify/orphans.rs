//! Files that no commit names, and what broken-off puts have left in a folder.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt;

use super::{Finding, Followed, Report};
use crate::keys;
use crate::snapshot::{ORPHAN_AGE_MS, SegmentId, SegmentRef};
use crate::store::{Store, StoreError};

const COLLECTED: &str = "a running server deletes it within hours";

pub(super) async fn check(
    store: &Store,
    followed: &mut Followed,
    now_ms: u64,
    report: &mut Report<'_>,
) -> Result<(), StoreError> {
    for (path, age) in store.temporaries().await? {
        let problem = format!("a put that did not end has left it {} s ago", age.as_secs());
        let advice = "the next start deletes it";
        let is_old = age >= Duration::from_millis(ORPHAN_AGE_MS);
        report.add(if is_old {
            Finding::damage(path, problem, advice)
        } else {
            Finding::note(path, problem, advice)
        });
    }
    // Which files are named is not known without all of the log.
    if !followed.is_complete {
        let advice = "verify again when the log is whole";
        report.add(Finding::note(
            keys::DATA,
            "files that no commit names were not looked for: the log of commits is damaged",
            advice,
        ));
        return Ok(());
    }
    // Listed before the catalog is read: what is committed meanwhile is named.
    let mut found: Vec<(SegmentId, String)> = Vec::new();
    let mut named = names(followed);
    let mut listing = store.list(keys::DATA);
    while let Some(info) = listing.try_next().await? {
        match keys::parse_segment(&info.key) {
            Some(id) if !is_named(&named, id, &info.key) => found.push((id, info.key)),
            Some(_) => {}
            None => report.add(Finding::note(
                info.key,
                "it is not a file of a segment",
                "move it away if nobody knows what it is for",
            )),
        }
    }
    followed.refresh().await?;
    named = names(followed);
    found.sort();
    for (id, key) in found {
        if is_named(&named, id, &key) {
            continue;
        }
        if named.contains_key(&id) {
            report.add(Finding::note(
                key,
                "the segment of this id lies elsewhere",
                "delete it",
            ));
        } else if id.is_orphan(now_ms) {
            report.add(Finding::damage(
                key,
                "no commit names it, and it is older than any flush or merge takes",
                COLLECTED,
            ));
        } else {
            report.checked.young_orphans += 1;
        }
    }
    Ok(())
}

fn names(followed: &Followed) -> HashMap<SegmentId, SegmentRef> {
    let snapshot = followed.snapshot();
    let live = snapshot
        .segments()
        .map(|segment| (segment.id, segment.reference()));
    live.chain(
        snapshot
            .retired()
            .map(|retired| (retired.segment.id, retired.segment.clone())),
    )
    .collect()
}

fn is_named(named: &HashMap<SegmentId, SegmentRef>, id: SegmentId, key: &str) -> bool {
    named.get(&id).is_some_and(
        |SegmentRef {
             database,
             table,
             day,
             id,
         }| {
            key == keys::data_file(database, table, *day, *id)
                || key == keys::series_index(database, table, *day, *id)
        },
    )
}

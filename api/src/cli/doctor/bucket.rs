//! What S3 tells of a bucket as a whole: its clock, versioning, lifecycle rules.

use quick_xml::de;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tidelake_catalog::Environment;
use tidelake_catalog::keys;
use tidelake_catalog::store::StoreError;
use tidelake_catalog::store::bucket::{Bucket, BucketAnswer};

use super::report::{Check, Report};
use super::{LIMIT, within};

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// File systems keep times that are a little old.
const MIN_SKEW_MS: u64 = 100;
/// A difference of clocks that leases and times of commits take.
const SMALL_SKEW_MS: i64 = 2_000;
/// S3 refuses signatures beyond it.
const MAX_SKEW_MS: i64 = 15 * 60_000;
/// The resolution of the header `Date`.
const DATE_MS: i64 = 1_000;

/// Classes whose objects cannot be read until they are restored.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Asks and judges.
pub async fn check(
    bucket: &Bucket,
    prefix: &str,
    environment: &Environment,
    report: &mut Report<'_>,
) {
    let (versioning, clock) = ask_with_clock(bucket, environment).await;
    report.add(clock.unwrap_or_else(|| {
        Check::unknown("clock", "not known: the store does not send its time", "")
    }));
    let lifecycle = within(LIMIT, bucket.ask("lifecycle")).await;
    let rules = answer_of::<Lifecycle>(&lifecycle);
    report.add(match (answer_of::<Versioning>(&versioning), &rules) {
        (Ok(versioning), rules) => judge_versioning(
            &versioning.unwrap_or_default(),
            rules.as_ref().ok().and_then(Option::as_ref),
            prefix,
        ),
        (Err(reason), _) => unknown(bucket, "versioning", "versioning", &reason),
    });
    report.add(match rules {
        Ok(rules) => judge_rules(&rules.unwrap_or_default(), prefix),
        Err(reason) => unknown(
            bucket,
            "lifecycle rules",
            "lifecycle-configuration",
            &reason,
        ),
    });
}

/// How versioning is set, and the clock of the store, which it also tells whom it refuses.
pub async fn ask_with_clock(
    bucket: &Bucket,
    environment: &Environment,
) -> (Result<BucketAnswer, StoreError>, Option<Check>) {
    let before_ms = environment.now_ms();
    let answer = within(LIMIT, bucket.ask("versioning")).await;
    let after_ms = environment.now_ms();
    let date = answer.as_ref().ok().and_then(|answer| {
        let date = answer.date.as_deref()?;
        chrono::DateTime::parse_from_rfc2822(date).ok()
    });
    let judge =
        |date: chrono::DateTime<_>| clock(date.timestamp_millis(), DATE_MS, before_ms, after_ms);
    (answer, date.map(judge))
}

fn unknown(bucket: &Bucket, name: &'static str, command: &str, reason: &str) -> Check {
    let advice = format!(
        "look with: aws s3api get-bucket-{command} --bucket {}",
        bucket.name()
    );
    Check::unknown(name, format!("not checked: {reason}"), &advice)
}

/// What is set; `None` if nothing is. An error says why it is not known.
fn answer_of<T: for<'de> Deserialize<'de>>(
    answer: &Result<BucketAnswer, StoreError>,
) -> Result<Option<T>, String> {
    let answer = answer.as_ref().map_err(ToString::to_string)?;
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    if text.len() > MAX_ANSWER_BYTES {
        return Err(format!("the store answered {} bytes", text.len()));
    }
    match answer.status {
        200 if text.trim().is_empty() => Ok(None),
        200 => {
            let parsed = de::from_str(text);
            parsed
                .map(Some)
                .map_err(|error| format!("the store's answer is not understood: {error}"))
        }
        404 if text.contains("NoSuchLifecycleConfiguration") => Ok(None),
        403 => Err("the keys may not ask for it".to_owned()),
        status => Err(format!("the store answered {status}")),
    }
}

/// Judges the time of the store, which is at most `resolution_ms` later, beside the machine's
/// before and after it was asked.
pub fn clock(store_ms: i64, resolution_ms: i64, before_ms: i64, after_ms: i64) -> Check {
    const NAME: &str = "clock";
    const ADVICE: &str = "synchronize the clocks of the machines, as with chrony";
    let earliest = before_ms.saturating_sub(store_ms.saturating_add(resolution_ms));
    let latest = after_ms.saturating_sub(store_ms);
    // The difference that is there for sure.
    let skew_ms = match (earliest, latest) {
        (1.., _) => earliest,
        (_, ..0) => latest,
        _ => 0,
    };
    let seconds = skew_ms.unsigned_abs() as f64 / 1e3;
    let seen = match skew_ms {
        _ if skew_ms.unsigned_abs() < MIN_SKEW_MS => "this machine and the store agree".to_owned(),
        1.. => format!("this machine is {seconds:.1} s ahead of the store"),
        _ => format!("this machine is {seconds:.1} s behind the store"),
    };
    let check = if skew_ms.saturating_abs() <= SMALL_SKEW_MS {
        Check::ok(NAME, seen)
    } else if skew_ms.saturating_abs() <= MAX_SKEW_MS {
        Check::warning(NAME, seen, ADVICE)
    } else {
        Check::error(NAME, seen, ADVICE)
    };
    check.with(json!({ "ahead_ms": skew_ms }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Versioning {
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Lifecycle {
    #[serde(rename = "Rule")]
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Rule {
    #[serde(rename = "ID")]
    id: String,
    status: String,
    prefix: Option<String>,
    filter: Filter,
    expiration: Option<Expiration>,
    #[serde(rename = "Transition")]
    transitions: Vec<Transition>,
    noncurrent_version_expiration: Option<IgnoredAny>,
    abort_incomplete_multipart_upload: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Filter {
    prefix: Option<String>,
    tag: Option<IgnoredAny>,
    and: And,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct And {
    prefix: Option<String>,
    #[serde(rename = "Tag")]
    tags: Vec<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Expiration {
    days: Option<String>,
    date: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Transition {
    storage_class: String,
}

impl Rule {
    /// Whether it holds for any object of a store. Objects have no tags.
    fn holds_for(&self, store_prefix: &str) -> bool {
        if self.status != "Enabled" || self.filter.tag.is_some() || !self.filter.and.tags.is_empty()
        {
            return false;
        }
        let prefixes = [&self.filter.and.prefix, &self.filter.prefix, &self.prefix];
        let prefix = prefixes.into_iter().flatten().next();
        let prefix = prefix.map_or("", String::as_str);
        let folders = [
            keys::LOG,
            keys::CHECKPOINTS,
            keys::WAL,
            keys::DATA,
            keys::CLUSTER_SECRET,
        ];
        folders.into_iter().any(|folder| {
            let folder = match store_prefix {
                "" => format!("{folder}/"),
                _ => format!("{store_prefix}/{folder}/"),
            };
            folder.starts_with(prefix) || prefix.starts_with(&folder)
        })
    }
}

fn judge_versioning(versioning: &Versioning, rules: Option<&Lifecycle>, prefix: &str) -> Check {
    const NAME: &str = "versioning";
    if versioning.status.is_empty() {
        return Check::ok(NAME, "off");
    }
    let seen = versioning.status.to_lowercase();
    let ends = |rule: &Rule| rule.noncurrent_version_expiration.is_some() && rule.holds_for(prefix);
    if rules.is_some_and(|lifecycle| lifecycle.rules.iter().any(ends)) {
        return Check::ok(NAME, format!("{seen}; a rule removes old versions"));
    }
    let seen = format!(
        "{seen}: what is deleted or replaced stays, and costs money (so do the 14 MiB of these \
         checks)"
    );
    let advice = "add a lifecycle rule with NoncurrentVersionExpiration of some days";
    Check::warning(NAME, seen, advice)
}

fn judge_rules(lifecycle: &Lifecycle, prefix: &str) -> Check {
    const NAME: &str = "lifecycle rules";
    let held: Vec<&Rule> = lifecycle
        .rules
        .iter()
        .filter(|rule| rule.holds_for(prefix))
        .collect();
    let deletes = |rule: &&&Rule| {
        let expiration = rule.expiration.as_ref();
        expiration.is_some_and(|of| of.days.is_some() || of.date.is_some())
    };
    if let Some(rule) = held.iter().find(deletes) {
        let seen = format!(
            "rule {:?} deletes objects of this store by their age",
            rule.id
        );
        let advice = "remove the rule: data and the catalog would be lost; retention deletes rows";
        return Check::error(NAME, seen, advice);
    }
    let moves = |rule: &&Rule| {
        let classes = rule.transitions.iter().map(|to| to.storage_class.as_str());
        classes
            .map(|class| (rule.id.clone(), class.to_owned()))
            .collect::<Vec<_>>()
    };
    let moved: Vec<(String, String)> = held.iter().flat_map(moves).collect();
    let archived = moved
        .iter()
        .find(|(_, class)| ARCHIVES.contains(&class.as_str()));
    if let Some((id, class)) = archived.or(moved.first()) {
        let seen = format!("rule {id:?} moves objects of this store to {class}");
        return match archived {
            Some(_) => {
                let advice = "remove the rule: such objects cannot be read until they are restored";
                Check::error(NAME, seen, advice)
            }
            None => {
                let advice = "know that such classes charge for reads and for early deletes, which \
                              merges do";
                Check::warning(NAME, seen, advice)
            }
        };
    }
    let aborts = |rule: &&Rule| rule.abort_incomplete_multipart_upload.is_some();
    match held.iter().any(aborts) {
        true => Check::ok(NAME, "none that deletes or moves objects of this store"),
        false => Check::ok(
            NAME,
            "none that deletes or moves objects of this store; one with \
             AbortIncompleteMultipartUpload (7 days) would remove parts that killed processes leave",
        ),
    }
}

#[cfg(test)]
mod tests;

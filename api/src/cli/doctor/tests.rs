use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Parser;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tidelake_catalog::store::faulty::{Faults, FaultyStore};
use tidelake_catalog::{PutOutcome, keys};

use super::report::Status;
use super::speed::percentile;
use super::*;

/// What a store does not do as it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A put to a key that exists replaces the object.
    Overwrites,
    /// Conditional puts are not known.
    NoConditions,
    /// Of puts that come one after the other only the first is taken, but several at once are.
    Races,
    /// An object stays as it was put first.
    StaleReads,
    /// New objects are not listed.
    StaleLists,
    ReadOnly,
    NoParts,
    NoDeletes,
}

#[derive(Debug)]
struct Wrong(InMemory, Fault);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.1)
    }
}

fn denied<T>(path: &Path) -> Result<T> {
    Err(Error::PermissionDenied {
        path: path.to_string(),
        source: "403 Forbidden: AccessDenied".into(),
    })
}

#[async_trait]
impl ObjectStore for Wrong {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let is_conditional = options.mode == PutMode::Create;
        let is_first = self.0.head(location).await.is_err();
        match self.1 {
            Fault::ReadOnly => return denied(location),
            Fault::Overwrites => options.mode = PutMode::Overwrite,
            Fault::NoConditions if is_conditional => {
                return Err(Error::NotImplemented {
                    operation: "If-None-Match".to_owned(),
                    implementer: self.to_string(),
                });
            }
            Fault::Races if is_conditional && is_first => {
                tokio::task::yield_now().await;
                options.mode = PutMode::Overwrite;
            }
            Fault::StaleReads if !is_first && !is_conditional => {
                return Ok(PutResult {
                    e_tag: None,
                    version: None,
                });
            }
            _ => {}
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.1 {
            Fault::NoParts => denied(location),
            _ => self.0.put_multipart_opts(location, options).await,
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        use futures::StreamExt;
        match self.1 {
            Fault::NoDeletes => locations
                .map(|location| location.and_then(|location| denied(&location)))
                .boxed(),
            _ => self.0.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        use futures::StreamExt;
        match self.1 {
            Fault::StaleLists => futures::stream::empty().boxed(),
            _ => self.0.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: DoctorArgs,
}

/// All checks of a store, as `name: status`, and as lines.
async fn diagnose(store: &Store) -> (Vec<(&'static str, Status)>, String) {
    let args = Command::parse_from(["doctor"]).args;
    let mut out = Vec::new();
    let mut report = Report::new(&mut out, true);
    let environment = Environment::system();
    let probes = Probes::new(store.clone(), &environment);
    let config = Config::default();
    check_all(&args, &config, &environment, &probes, &mut report).await;
    probes.delete_all(&mut report).await;
    let checks = report.checks();
    let statuses = checks.iter().map(|check| (check.name, check.status));
    (statuses.collect(), String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn each_fault_of_a_store_is_named_by_its_check() {
    let check = async |fault, expected: &[&str]| {
        let inner = Arc::new(Wrong(InMemory::new(), fault));
        let store = Store::new(inner.clone(), "db").unwrap();
        let (statuses, text) = diagnose(&store).await;
        let errors: Vec<&str> = statuses
            .iter()
            .filter(|(_, status)| *status != Status::Ok)
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(errors, expected, "{fault:?}: {text}");
        if fault != Fault::NoDeletes {
            let left = futures::TryStreamExt::try_collect::<Vec<_>>(inner.0.list(None)).await;
            assert_eq!(left.unwrap(), [], "{fault:?} leaves objects");
        }
    };
    check(Fault::None, &[]).await;
    check(Fault::Overwrites, &["put if absent"]).await;
    check(Fault::NoConditions, &["put if absent"]).await;
    check(Fault::Races, &["puts at once"]).await;
    check(Fault::StaleReads, &["get", "ranged get", "list"]).await;
    check(Fault::StaleLists, &["list"]).await;
    check(Fault::ReadOnly, &["put"]).await;
    check(Fault::NoParts, &["multipart upload"]).await;
    check(Fault::NoDeletes, &["delete", "cleaning up"]).await;
}

#[tokio::test]
async fn a_refusal_says_what_is_needed() {
    let wrong = Wrong(InMemory::new(), Fault::NoParts);
    let store = Store::new(Arc::new(wrong), "").unwrap();
    let (_, text) = diagnose(&store).await;
    assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    assert!(text.contains("s3:AbortMultipartUpload"), "{text}");
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_once() {
    let down = Faults {
        down: true,
        ..Faults::default()
    };
    let faulty = FaultyStore::new(Arc::new(InMemory::new()), 1, down);
    let store = Store::new(Arc::new(faulty), "").unwrap();
    let (statuses, text) = diagnose(&store).await;
    assert_eq!(statuses, [("store", Status::Error)], "{text}");
}

#[tokio::test]
async fn what_a_killed_run_left_is_deleted_when_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let (old, young) = (keys::probes(1) + "/object", keys::probes(2) + "/object");
    for key in [&old, &young] {
        store.put(key, "x").await.unwrap();
    }
    let file = std::fs::File::options();
    let file = file.clone().write(true).open(folder.path().join(&old));
    let hours_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.unwrap().set_modified(hours_ago).unwrap();
    let (_, text) = diagnose(&store).await;
    let is_there = async |key: &str| store.head(key).await.is_ok();
    assert!(!is_there(&old).await && is_there(&young).await, "{text}");
}

#[tokio::test]
async fn a_folder_is_left_as_it_was_and_the_catalog_is_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let catalog = Catalog::open(store.clone(), "node-1", "").await.unwrap();
    // More than a load passes over without a checkpoint, as a rule.
    for i in 0..150 {
        catalog.create_database(&format!("d{i}")).await.unwrap();
    }
    let (day, now_ms) = (24 * 3_600_000, Environment::system().now_ms() as u64);
    let file = |drawn_ms: u64| {
        let id = tidelake_catalog::snapshot::SegmentId::from_parts(drawn_ms, 7);
        keys::data_file("d1", "t", tidelake_catalog::model::Day(0), id)
    };
    store.put(&file(now_ms - 2 * day), "12345").await.unwrap();
    store.put(&file(now_ms), "123").await.unwrap();
    let files = || {
        let mut files = Vec::new();
        let mut folders = vec![folder.path().to_path_buf()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                files.push(path);
            }
        }
        files.sort();
        files
    };
    let before = files();
    let (statuses, text) = diagnose(&store).await;
    assert_eq!(files(), before);
    let found: Vec<_> = statuses
        .into_iter()
        .filter(|(_, status)| *status != Status::Ok)
        .collect();
    assert_eq!(found, [("orphans", Status::Warning)], "{text}");
    assert!(
        text.contains("2 files of data, 8 B: 1 orphans (5 B)"),
        "{text}"
    );
    assert!(text.contains("1 files of less than a day"), "{text}");
    assert!(text.contains("150 databases"), "{text}");
}

#[tokio::test]
async fn a_catalog_that_is_damaged_is_an_error() {
    let store = Store::memory();
    let outcome = store.put_if_absent(&keys::log_record(1), "no record").await;
    assert_eq!(outcome.unwrap(), PutOutcome::Created);
    let (statuses, text) = diagnose(&store).await;
    assert!(statuses.contains(&("catalog", Status::Error)), "{text}");
    assert!(text.contains("tidelake verify"), "{text}");
}

#[test]
fn figures_are_shown_as_people_read_them() {
    assert_eq!(
        [size(0), size(1023), size(1536)],
        ["0 B", "1023 B", "1.5 KiB"]
    );
    assert_eq!(size(3 << 40), "3.0 TiB");
    let numbers = [0, 999, 1000, 1_234_567].map(thousands);
    assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    let times = [Duration::from_micros(1500), Duration::from_millis(3210)].map(time);
    assert_eq!(times, ["1.5 ms", "3.2 s"]);
    let ms: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
    assert_eq!(percentile(&ms, 50), Some(ms[9]));
    assert_eq!(percentile(&ms, 99), Some(ms[19]));
    assert_eq!(percentile(&ms[..1], 50), Some(ms[0]));
    assert_eq!(percentile(&[], 50), None);
}

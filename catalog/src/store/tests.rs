//! What every store must do, run against each of them.

use futures::TryStreamExt;
use object_store::PutPayload;

use super::faulty::{Faults, FaultyStore};
use super::*;

async fn keys(listing: BoxStream<'static, Result<ObjectInfo, StoreError>>) -> Vec<String> {
    let mut keys: Vec<_> = listing.map_ok(|info| info.key).try_collect().await.unwrap();
    keys.sort();
    keys
}

/// The conformance suite. The store must be empty.
async fn check(store: &Store) {
    // Nothing is there.
    assert!(matches!(store.get("a/b").await, Err(StoreError::NotFound { key }) if key == "a/b"));
    assert!(matches!(
        store.head("a/b").await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(keys(store.list("a")).await.is_empty());
    store.delete("a/b").await.unwrap();

    // The first put wins, and says so.
    assert_eq!(
        store.put_if_absent("a/b", "first").await.unwrap(),
        PutOutcome::Created
    );
    assert_eq!(
        store.put_if_absent("a/b", "second").await.unwrap(),
        PutOutcome::AlreadyExists
    );
    assert_eq!(&store.get("a/b").await.unwrap()[..], b"first");
    store.put("a/b", "third one").await.unwrap();
    assert_eq!(&store.get("a/b").await.unwrap()[..], b"third one");
    assert_eq!(store.head("a/b").await.unwrap().bytes, 9);

    // Of many at once exactly one wins, and its bytes are there.
    let racers = (0..16).map(|i| async move {
        store
            .put_if_absent("race", format!("racer {i}"))
            .await
            .unwrap()
    });
    let outcomes = futures::future::join_all(racers).await;
    let winners: Vec<_> = outcomes
        .iter()
        .enumerate()
        .filter(|(_, o)| **o == PutOutcome::Created)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert_eq!(
        store.get("race").await.unwrap(),
        format!("racer {}", winners[0])
    );

    // Ranges.
    assert_eq!(&store.get_range("a/b", 6..9).await.unwrap()[..], b"one");
    assert_eq!(
        store.get_ranges("a/b", &[0..5, 6..9]).await.unwrap(),
        ["third", "one"]
    );
    assert!(
        store.get_range("a/b", 6..10).await.is_err(),
        "a range over the end must not be cut silently"
    );
    assert!(store.get_ranges("a/b", &[0..5, 6..10]).await.is_err());

    // A payload of several pieces, and an empty one.
    store
        .put(
            "pieces",
            PutPayload::from_iter(["ab", "", "c"].map(Bytes::from)),
        )
        .await
        .unwrap();
    assert_eq!(&store.get("pieces").await.unwrap()[..], b"abc");
    store.put_if_absent("empty", Bytes::new()).await.unwrap();
    assert_eq!(store.get("empty").await.unwrap(), Bytes::new());

    // Listing: by whole folders, with escaped names, after a key.
    let escaped = format!("list/{}/x", crate::keys::folder("a/b ..%#1é"));
    let listed = ["list/1", "list/2", "list/3/x", escaped.as_str()];
    for key in listed {
        store.put(key, "x").await.unwrap();
    }
    store.put("listing", "x").await.unwrap();
    let mut expected = listed.to_vec();
    expected.sort();
    assert_eq!(keys(store.list("list")).await, expected);
    assert_eq!(
        keys(store.list_from("list", "list/1")).await,
        ["list/2", "list/3/x", escaped.as_str()]
    );
    assert_eq!(&store.get(&escaped).await.unwrap()[..], b"x");

    // A large object in parts, invisible until it is complete.
    let mut upload = store
        .object_store()
        .put_multipart_opts(&store.path("parts").unwrap(), Default::default())
        .await
        .unwrap();
    let part = Bytes::from(vec![7u8; 5 << 20]);
    futures::future::try_join_all([
        upload.put_part(part.clone().into()),
        upload.put_part("end".into()),
    ])
    .await
    .unwrap();
    assert!(matches!(
        store.get("parts").await,
        Err(StoreError::NotFound { .. })
    ));
    upload.complete().await.unwrap();
    assert_eq!(store.head("parts").await.unwrap().bytes, (5 << 20) + 3);
    assert_eq!(
        &store
            .get_range("parts", (5 << 20) - 1..(5 << 20) + 3)
            .await
            .unwrap()[..],
        b"\x07end"
    );

    // Deleted is gone.
    store.delete("a/b").await.unwrap();
    assert!(matches!(
        store.get("a/b").await,
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(
        store.put_if_absent("a/b", "again").await.unwrap(),
        PutOutcome::Created
    );

    // What is no key is refused, not mangled.
    for key in ["a/../b", "a//b", "."] {
        assert!(
            matches!(store.put(key, "x").await, Err(StoreError::Other { .. })),
            "{key}"
        );
    }
}

/// What the store below holds, and what it shows of it.
async fn objects(store: &Store) -> Vec<(String, Bytes)> {
    let mut objects = Vec::new();
    for key in keys(store.list("")).await {
        let bytes = store.get(&key).await.unwrap();
        objects.push((key, bytes));
    }
    objects
}

#[tokio::test]
async fn a_frozen_store_conforms() {
    for prefix in ["", "in/a/bucket"] {
        let below = Store::new(Arc::new(InMemory::new()), prefix).unwrap();
        check(&below.frozen_at(7)).await;
        assert!(keys(below.list("")).await.is_empty());
    }
}

#[tokio::test]
async fn a_frozen_store_changes_nothing_below_and_shows_no_later_commit() {
    let below = Store::new(Arc::new(InMemory::new()), "p").unwrap();
    let (old, new) = (crate::keys::log_record(7), crate::keys::log_record(8));
    let log = crate::keys::wal_object("n", 1, 1);
    for key in [
        old.as_str(),
        "data/a",
        "data/b",
        "walled/x",
        &log,
        "lease/n",
    ] {
        below.put(key, format!("below {key}")).await.unwrap();
    }
    let before = objects(&below).await;
    let frozen = below.frozen_at(7);
    below.put(&new, "a commit of a server").await.unwrap();

    assert_eq!(
        keys(frozen.list("")).await,
        [&old, "data/a", "data/b", "walled/x"]
    );
    for hidden in [&new, &log, "lease/n"] {
        assert!(matches!(
            frozen.get(hidden).await,
            Err(StoreError::NotFound { .. })
        ));
        assert!(frozen.get_ranges(hidden, &[0..1, 1..2]).await.is_err());
        let put = frozen.put_if_absent(hidden, "above").await.unwrap();
        assert_eq!(put, PutOutcome::Created, "{hidden}");
        assert_eq!(frozen.get(hidden).await.unwrap(), "above");
    }
    assert_eq!(
        frozen.put_if_absent(&old, "above").await.unwrap(),
        PutOutcome::AlreadyExists
    );
    frozen.put("data/a", "above").await.unwrap();
    frozen.delete("data/b").await.unwrap();
    assert_eq!(frozen.get("data/a").await.unwrap(), "above");
    assert!(frozen.get("data/b").await.is_err());
    assert_eq!(keys(frozen.list("data")).await, ["data/a"]);
    assert_eq!(keys(frozen.list_from("catalog/log", &old)).await, [&*new]);
    // Put again, it is there again.
    frozen.put_if_absent("data/b", "anew").await.unwrap();
    assert_eq!(frozen.get("data/b").await.unwrap(), "anew");

    below.delete(&new).await.unwrap();
    assert_eq!(objects(&below).await, before);
}

#[tokio::test]
async fn memory_conforms() {
    check(&Store::memory()).await;
}

#[tokio::test]
async fn a_prefix_conforms_and_hides_the_rest() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let outside = Store::new(Arc::clone(&inner), "").unwrap();
    outside.put("list/1", "not below the prefix").await.unwrap();
    check(&Store::new(Arc::clone(&inner), "some/prefix").unwrap()).await;
    assert_eq!(&outside.get("some/prefix/list/1").await.unwrap()[..], b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/by us");
    check(&Store::open(path.to_str().unwrap(), &S3Settings::default()).unwrap()).await;
}

#[tokio::test]
async fn a_faulty_store_without_faults_conforms() {
    let faulty = FaultyStore::new(
        Arc::new(InMemory::new()),
        1,
        Faults {
            max_delay: 3,
            ..Faults::default()
        },
    );
    check(&Store::new(Arc::new(faulty), "").unwrap()).await;
}

#[tokio::test]
async fn faults_are_sorted_by_what_to_do() {
    let faulty = Arc::new(FaultyStore::new(
        Arc::new(InMemory::new()),
        1,
        Faults::default(),
    ));
    let store = Store::new(faulty.clone(), "").unwrap();
    faulty.set(Faults {
        full: true,
        ..Faults::default()
    });
    assert!(matches!(
        store.put_if_absent("a", "x").await,
        Err(StoreError::Full { .. })
    ));
    faulty.set(Faults {
        down: true,
        ..Faults::default()
    });
    assert!(matches!(
        store.put_if_absent("a", "x").await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.delete("a").await,
        Err(StoreError::Unavailable { .. })
    ));
    faulty.set(Faults {
        lost_answer: 1.0,
        ..Faults::default()
    });
    assert!(matches!(
        store.put_if_absent("a", "x").await,
        Err(StoreError::Unavailable { .. })
    ));
    faulty.set(Faults::default());
    assert_eq!(&store.get("a").await.unwrap()[..], b"x");
}

#[test]
fn addresses() {
    let open =
        |address: &str| Store::open(address, &S3Settings::default()).map(|store| store.to_string());
    assert_eq!(open("memory:").unwrap(), "memory:");
    assert_eq!(
        open("s3://bucket/some/prefix/").unwrap(),
        "s3://bucket/some/prefix/"
    );
    assert!(
        open("s3:///prefix")
            .unwrap_err()
            .to_string()
            .contains("no bucket")
    );
    assert!(
        open("gs://bucket")
            .unwrap_err()
            .to_string()
            .contains("not a store")
    );
}

#[test]
fn refusals_of_settings_have_advice() {
    let check = |reason: &str, expected: Option<&str>| {
        let error = StoreError::Unavailable {
            key: "catalog/".to_owned(),
            reason: reason.to_owned(),
        };
        let advice = error.advice();
        match (advice, expected) {
            (Some(advice), Some(expected)) => {
                assert!(advice.contains(expected), "{reason}: {advice}");
                let told = error.with_advice(advice);
                assert!(
                    !told.is_transient() && told.to_string().ends_with(advice),
                    "{told}"
                );
            }
            (advice, expected) => assert_eq!(advice, expected, "{reason}"),
        }
    };
    check("404: <Code>NoSuchBucket</Code>", Some("create the bucket"));
    check(
        "403 Forbidden: <Code>AccessDenied</Code>",
        Some("AWS_ACCESS_KEY_ID"),
    );
    check(
        "403 Forbidden: <Code>RequestTimeTooSkewed</Code>",
        Some("clock of this machine"),
    );
    check(
        "<Code>SignatureDoesNotMatch</Code>",
        Some("AWS_SECRET_ACCESS_KEY"),
    );
    check(
        "<Code>AuthorizationHeaderMalformed</Code>",
        Some("AWS_REGION"),
    );
    check("dns error: failed to lookup address", Some("s3_endpoint"));
    check("connection refused", None);
    check("503 Slow Down", None);
}

//! Where a server keeps its data, and how a test looks at the objects there.
use bytes::Bytes;
use futures::TryStreamExt;
use tempfile::TempDir;
use tidelake_catalog::{S3Settings, Store};

/// Where a server keeps its data.
#[derive(Debug)]
pub enum Place {
    /// A folder, deleted with this value.
    Folder(TempDir),
    /// The memory of the process.
    Memory,
    /// A prefix of its own in a bucket.
    S3 {
        /// URL of the S3 server.
        endpoint: String,
        /// `s3://bucket/prefix`
        address: String,
        /// What was read of it.
        cache: TempDir,
    },
}

impl Place {
    /// A new folder.
    pub fn folder() -> Self {
        Self::Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A new prefix on the S3 server that the environment names, if it does.
    pub fn s3() -> Option<Self> {
        let Ok(endpoint) = std::env::var("TIDELAKE_TEST_S3_ENDPOINT") else {
            eprintln!("skipped: S3 server not found (TIDELAKE_TEST_S3_ENDPOINT)");
            return None;
        };
        let bucket = std::env::var("TIDELAKE_TEST_S3_BUCKET")
            .expect("TIDELAKE_TEST_S3_BUCKET names the bucket to use");
        Some(Self::S3 {
            endpoint,
            address: format!("s3://{bucket}/end-to-end/{:016x}", rand::random::<u64>()),
            cache: tempfile::tempdir().expect("a temporary folder"),
        })
    }

    /// The flags that lead a process there.
    pub fn flags(&self) -> Vec<String> {
        let words = match self {
            Self::Folder(folder) => vec![
                "--data-dir",
                folder.path().to_str().expect("a folder with a plain name"),
            ],
            Self::Memory => vec!["--store", "memory:"],
            // A shorter interval than the default, which saves requests and not time.
            Self::S3 {
                endpoint,
                address,
                cache,
            } => {
                vec![
                    "--store",
                    address,
                    "--s3-endpoint",
                    endpoint,
                    "--s3-allow-http",
                    "--cache-dir",
                    cache.path().to_str().expect("a folder with a plain name"),
                    "--wal-interval-ms",
                    "20",
                ]
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// Whether a second process finds what a first one wrote.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    fn store(&self) -> Store {
        let (address, endpoint) = match self {
            Self::Folder(folder) => (
                folder.path().to_str().expect("a folder with a plain name"),
                None,
            ),
            Self::Memory => panic!("nobody can look into the memory of another process"),
            Self::S3 {
                endpoint, address, ..
            } => (address.as_str(), Some(endpoint.clone())),
        };
        Store::open(
            address,
            &S3Settings {
                endpoint,
                allow_http: true,
            },
        )
        .expect("the store opens")
    }

    /// The bytes of an object.
    pub async fn read(&self, key: &str) -> Bytes {
        self.store()
            .get(key)
            .await
            .unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// Keys and sizes below a folder of keys, sorted.
    pub async fn list(&self, folder: &str) -> Vec<(String, u64)> {
        let mut found: Vec<_> = self
            .store()
            .list(folder)
            .map_ok(|info| (info.key, info.bytes))
            .try_collect()
            .await
            .expect("the store lists");
        found.sort();
        found
    }
}

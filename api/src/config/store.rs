//! Where the durable state lies, as settings say it.

use std::path::PathBuf;

use super::{Config, ConfigError};

/// Where the durable state lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder of the local file system.
    Folder(PathBuf),
    /// An S3 bucket and a prefix in it, perhaps empty.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Prefix of all keys, without slashes at its ends.
        prefix: String,
    },
    /// The memory of this process.
    Memory,
}

impl std::fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(
                f,
                "{}",
                std::path::absolute(path)
                    .unwrap_or_else(|_| path.clone())
                    .display()
            ),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => f.write_str("memory only: they are gone when the process ends"),
        }
    }
}

impl Config {
    /// Where the durable state lies.
    pub fn store_location(&self) -> Result<StoreLocation, ConfigError> {
        let Some(store) = &self.store else {
            return Ok(StoreLocation::Folder(self.data_dir.clone()));
        };
        if store == "memory:" || store == "memory" {
            return Ok(StoreLocation::Memory);
        }
        if let Some(rest) = store.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(ConfigError(format!(
                    "store {store:?} names no bucket; write s3://bucket/prefix"
                )));
            }
            return Ok(StoreLocation::S3 {
                bucket: bucket.into(),
                prefix: prefix.trim_matches('/').into(),
            });
        }
        let path = store.strip_prefix("file://").unwrap_or(store);
        match path.split_once("://") {
            Some((scheme, _)) => Err(ConfigError(format!(
                "store {store:?}: {scheme:?} is not known; use s3://bucket/prefix, memory: or a \
                 path"
            ))),
            None if path.is_empty() => Err(ConfigError(
                "store is empty; use s3://bucket/prefix, memory: or a path".into(),
            )),
            None => Ok(StoreLocation::Folder(path.into())),
        }
    }
}

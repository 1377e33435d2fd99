//! The first token: at the first start that wants tokens there is none, so somebody has to get one.
//!
//! It is in a file that only its owner may read, and nowhere else. If the file is there, the secret
//! in it is taken: an operator put it there, or an earlier start got no further.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use tidelake_catalog::Catalog;
use tidelake_catalog::model::Scope;

use crate::service::tokens::{Secret, TokenRequest, create};

/// What InfluxDB 3 calls it.
pub const FIRST_TOKEN: &str = "_admin";

/// The form of InfluxDB 3's admin token file.
#[derive(Deserialize)]
struct InfluxFile {
    token: String,
    name: Option<String>,
    #[serde(alias = "expiry")]
    expiry_millis: Option<i64>,
}

/// Makes a token that allows everything if there is no token at all.
pub async fn ensure(catalog: &Catalog, path: &Path) -> anyhow::Result<()> {
    if catalog.snapshot().tokens().iter().next().is_some() {
        return Ok(());
    }
    let (secret, name, expires_ms) = match fs::read_to_string(path) {
        Ok(text) => {
            check_mode(path)?;
            read(&text).with_context(|| format!("cannot use {}", path.display()))?
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret = Secret::random()?;
            write(path, &secret).with_context(|| {
                format!(
                    "cannot write the first token to {} (setting admin_token_file)",
                    path.display()
                )
            })?;
            (secret, FIRST_TOKEN.to_owned(), None)
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let request = TokenRequest {
        name,
        scopes: vec![Scope::everything()],
        expires_ms,
        replaced: false,
    };
    create(catalog, request, &secret).await?;
    tracing::info!(path = %path.display(), "the first token, which allows everything, is in this file");
    Ok(())
}

fn read(text: &str) -> anyhow::Result<(Secret, String, Option<i64>)> {
    let file = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).context("it is not JSON with a \"token\"")?,
        false => InfluxFile {
            token: text.to_owned(),
            name: None,
            expiry_millis: None,
        },
    };
    let secret = Secret::given(&file.token).map_err(anyhow::Error::msg)?;
    let name = file.name.unwrap_or_else(|| FIRST_TOKEN.to_owned());
    Ok((secret, name, file.expiry_millis))
}

fn check_mode(path: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(path)
        .with_context(|| format!("cannot look at {}", path.display()))?
        .permissions()
        .mode();
    // A secret that an orchestrator mounts is often readable by a group.
    if mode & 0o007 != 0 {
        bail!(
            "{} can be read by every user of this machine; chmod 600 it",
            path.display()
        );
    }
    Ok(())
}

fn write(path: &Path, secret: &Secret) -> std::io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{}\n", secret.reveal()).as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use tidelake_catalog::Store;

    use super::*;
    use crate::service::tokens::hash;

    async fn catalog() -> Catalog {
        Catalog::open(Store::memory(), "n", "").await.unwrap()
    }

    #[tokio::test]
    async fn the_first_token_is_in_a_file_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/admin-token");
        let catalog = catalog().await;
        ensure(&catalog, &path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let secret = fs::read_to_string(&path).unwrap();
        let snapshot = catalog.snapshot();
        let token = snapshot.tokens().with_hash(&hash(secret.trim().as_bytes()));
        assert!(token.unwrap().allows_everything());
        // Afterwards the file means nothing.
        fs::remove_file(&path).unwrap();
        ensure(&catalog, &path).await.unwrap();
        assert!(!path.exists());
        assert_eq!(catalog.snapshot().tokens().iter().count(), 1);
    }

    #[tokio::test]
    async fn a_given_secret_is_taken_unless_it_is_weak_or_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let put = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let influx =
            r#"{"token": "apiv3_0123456789abcdef0123456789", "name": "op", "expiry_millis": 5}"#;
        put(influx, 0o600);
        let imported = catalog().await;
        ensure(&imported, &path).await.unwrap();
        let snapshot = imported.snapshot();
        let token = snapshot.tokens().named("op").unwrap();
        assert_eq!(token.expires_ms, Some(5));
        assert_eq!(token.hash, hash(b"apiv3_0123456789abcdef0123456789"));
        for (text, mode, why) in [
            ("", 0o600, "this one has 0"),
            ("admin", 0o600, "32 to 512"),
            (r#"{"token": ""}"#, 0o600, "this one has 0"),
            (r#"{"name": "x"}"#, 0o600, "JSON"),
            (influx, 0o644, "chmod 600"),
        ] {
            put(text, mode);
            let error = ensure(&catalog().await, &path).await.unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}

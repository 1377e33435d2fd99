//! TLS: certificates are read at the start, and again when their files change. Connections that are
//! open keep what they began with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use crate::config::Config;

/// The name of PostgreSQL's protocol (RFC 7301).
pub const POSTGRES_ALPN: &[u8] = b"postgresql";

/// Files are looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {setting} {}: {source}", path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// It.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file has something else in it.
    #[error("{setting} {}: {reason}", path.display())]
    Pem {
        /// The setting that names it.
        setting: &'static str,
        /// It.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// They do not belong together, or are of no use.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// The files of the settings.
#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What the files hold.
#[derive(PartialEq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The TLS settings for connections that come now.
pub struct Tls {
    files: Files,
    current: RwLock<(Contents, Arc<ServerConfig>)>,
}

impl Files {
    fn read(&self) -> Result<Contents, TlsError> {
        let read = |setting, path: &Path| {
            fs::read(path).map_err(|source| TlsError::File {
                setting,
                path: path.to_owned(),
                source,
            })
        };
        let client_ca = self.client_ca.as_deref();
        Ok(Contents {
            cert: read("tls_cert", &self.cert)?,
            key: read("tls_key", &self.key)?,
            client_ca: client_ca
                .map(|path| read("tls_client_ca", path))
                .transpose()?,
        })
    }

    fn build(&self, contents: &Contents) -> Result<ServerConfig, TlsError> {
        let certificates = |setting, path: &Path, pem: &[u8]| {
            let parsed: Result<Vec<CertificateDer>, _> =
                CertificateDer::pem_slice_iter(pem).collect();
            let (path, reason) = (path.to_owned(), |why: &dyn ToString| why.to_string());
            match parsed {
                Ok(parsed) if !parsed.is_empty() => Ok(parsed),
                Ok(_) => Err(TlsError::Pem {
                    setting,
                    path,
                    reason: "it holds no certificate in PEM".to_owned(),
                }),
                Err(error) => Err(TlsError::Pem {
                    setting,
                    path,
                    reason: reason(&error),
                }),
            }
        };
        let unusable = |error: &dyn ToString| TlsError::Unusable(error.to_string());
        let chain = certificates("tls_cert", &self.cert, &contents.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| TlsError::Pem {
            setting: "tls_key",
            path: self.key.clone(),
            reason: error.to_string(),
        })?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates("tls_client_ca", path, pem)? {
                    roots.add(authority).map_err(|error| unusable(&error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| unusable(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl Tls {
    /// Reads the files of the settings; `None` if there is to be no TLS.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn open(config: &Config) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let files = Files {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: config.tls_client_ca.clone(),
        };
        let contents = files.read()?;
        let server = Arc::new(files.build(&contents)?);
        Ok(Some(Arc::new(Self {
            files,
            current: RwLock::new((contents, server)),
        })))
    }

    /// For a connection that comes now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().1))
    }

    /// The same for PostgreSQL's protocol, with the certificate that it shows.
    pub fn postgres(&self) -> (TlsAcceptor, Vec<u8>) {
        let current = self.current.read();
        let mut config = ServerConfig::clone(&current.1);
        config.alpn_protocols = vec![POSTGRES_ALPN.to_vec()];
        let leaf = CertificateDer::from_pem_slice(&current.0.cert);
        let leaf = leaf.map(|leaf| leaf.to_vec()).unwrap_or_default();
        (TlsAcceptor::from(Arc::new(config)), leaf)
    }

    /// Reads the files again when they change. What cannot be used is logged, and the former
    /// certificates stay. Does not end.
    pub async fn follow(&self) {
        let mut failed: Option<String> = None;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            match self.reload() {
                Ok(true) => {
                    failed = None;
                    tracing::info!("the certificates have changed");
                }
                Ok(false) => {}
                Err(error) => {
                    let error = error.to_string();
                    if failed.as_ref() != Some(&error) {
                        tracing::error!(error, "the certificates have changed and are not used");
                        failed = Some(error);
                    }
                }
            }
        }
    }

    /// Returns whether there is something new.
    fn reload(&self) -> Result<bool, TlsError> {
        let contents = self.files.read()?;
        if self.current.read().0 == contents {
            return Ok(false);
        }
        let server = Arc::new(self.files.build(&contents)?);
        *self.current.write() = (contents, server);
        Ok(true)
    }
}

/// The first DNS name in a client's certificate, which has been checked.
pub fn name_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let config = Config {
            tls_cert: Some(path.clone()),
            tls_key: Some(path.clone()),
            ..Config::default()
        };
        let error = || match Tls::open(&config) {
            Ok(_) => panic!("it is no certificate"),
            Err(error) => error.to_string(),
        };
        assert!(error().starts_with("cannot read tls_cert"), "{}", error());
        fs::write(&path, "nothing").unwrap();
        assert!(
            error().ends_with("it holds no certificate in PEM"),
            "{}",
            error()
        );
        fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(error().starts_with("tls_key"), "{}", error());
        assert!(Tls::open(&Config::default()).unwrap().is_none());
    }
}

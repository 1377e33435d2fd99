//! Tokens: from what a client shows to who asks, and how tokens are made and revoked.
//!
//! A secret exists in this process while its request is looked at, and once in the answer that
//! makes it. The catalog has its hash, and every process follows the catalog closely, so that a
//! token that is revoked allows nothing anywhere within a second.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::hmac::{self, HMAC_SHA256};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use tidelake_catalog::model::{Scope, ScramVerifier, Token};
use tidelake_catalog::{Catalog, CatalogError, NewToken};

use super::Service;
use super::context::{Principal, ServerAccess};
use super::error::{Code, ServiceError};

/// What secrets begin with, so that scanners find those that leak.
const PREFIX: &str = "tide_";
/// A secret that somebody else made has at least so many characters.
const MIN_SECRET_CHARS: usize = 32;
const MAX_SECRET_CHARS: usize = 512;
/// What RFC 7677 asks for at least: a secret of 256 random bits is not guessed any slower by more.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
/// How old what a process knows of tokens may be.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// Last uses are written this often.
const USE_INTERVAL: Duration = Duration::from_secs(600);

/// The secret of a token. It is never shown by accident.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// 256 random bits.
    pub fn random() -> Result<Self, ServiceError> {
        let bytes: [u8; 32] = random()?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// One that somebody else made.
    ///
    /// # Errors
    /// If it is short enough to be guessed, or has characters that no header can have.
    pub fn given(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let is_fitting = (MIN_SECRET_CHARS..=MAX_SECRET_CHARS).contains(&text.len());
        match is_fitting && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "a token has {MIN_SECRET_CHARS} to {MAX_SECRET_CHARS} visible ASCII characters, \
                 without spaces; this one has {}",
                text.chars().count()
            )),
        }
    }

    /// It, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn verifier(&self) -> Result<ScramVerifier, ServiceError> {
        let salt: [u8; 16] = random()?;
        let mut salted = [0; 32];
        let secret = self.0.as_bytes();
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ITERATIONS, &salt, secret, &mut salted);
        let key = |name: &[u8]| hmac::sign(&hmac::Key::new(HMAC_SHA256, &salted), name);
        Ok(ScramVerifier {
            iterations: ITERATIONS.get(),
            salt: salt.to_vec(),
            stored_key: hash(key(b"Client Key").as_ref()),
            server_key: hash_bytes(key(b"Server Key").as_ref()),
        })
    }
}

fn random<const N: usize>() -> Result<[u8; N], ServiceError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    let no_random = |_| ServiceError::new(Code::Internal, "the system gives no random numbers");
    filled.map(|()| bytes).map_err(no_random)
}

fn hash_bytes(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    hash
}

/// SHA-256 of a secret.
pub fn hash(secret: &[u8]) -> [u8; 32] {
    hash_bytes(digest(&SHA256, secret).as_ref())
}

/// A token that is to be made, with its secret or a new one.
pub struct TokenRequest {
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// Whether a token of the name is to be revoked.
    pub replaced: bool,
}

/// Makes a token.
pub async fn create(
    catalog: &Catalog,
    request: TokenRequest,
    secret: &Secret,
) -> Result<Arc<Token>, CreateError> {
    let new = NewToken {
        name: request.name,
        hash: hash(secret.0.as_bytes()),
        scram: secret.verifier().map_err(CreateError::Service)?,
        scopes: request.scopes,
        expires_ms: request.expires_ms,
    };
    let created = catalog.create_token(&new, request.replaced).await;
    created.map_err(CreateError::Catalog)
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The catalog refused it.
    #[error(transparent)]
    Catalog(CatalogError),
    /// There is no randomness.
    #[error(transparent)]
    Service(ServiceError),
}

/// When tokens were used last, as far as the catalog does not know it.
#[derive(Debug, Default)]
pub struct TokenUses(Mutex<HashMap<u64, i64>>);

impl Service {
    /// Who asks, from the secret that was shown.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without a valid one, if the server wants one.
    pub fn authenticate(&self, shown: Option<&str>) -> Result<Principal, ServiceError> {
        if !self.config.auth {
            return Ok(Principal::Anyone);
        }
        let refused = |why: &str| Err(ServiceError::new(Code::Unauthenticated, why));
        let Some(secret) = shown.filter(|secret| !secret.is_empty()) else {
            return refused(
                "a token is needed: send it in the header Authorization, as in \"Bearer tide_...\"",
            );
        };
        let snapshot = self.backend()?.catalog().snapshot();
        let token = snapshot.tokens().with_hash(&hash(secret.as_bytes()));
        self.valid(token)
    }

    /// Who asks, from the name of a token that something else vouches for.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] if there is none.
    pub fn authenticate_name(&self, name: &str) -> Result<Principal, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        self.valid(snapshot.tokens().named(name))
    }

    /// A token by its name, whether or not it is still valid, for who proves to have its secret.
    pub fn token_named(&self, name: &str) -> Result<Option<Arc<Token>>, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        Ok(snapshot.tokens().named(name).cloned())
    }

    /// The same principal as the catalog knows it now, for connections that stay open.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] if its token is revoked or expired.
    pub fn still_valid(&self, principal: &Principal) -> Result<Principal, ServiceError> {
        match principal {
            Principal::Anyone => Ok(Principal::Anyone),
            Principal::Holder(token) => {
                let snapshot = self.backend()?.catalog().snapshot();
                self.valid(snapshot.tokens().get(token.id))
            }
        }
    }

    fn valid(&self, token: Option<&Arc<Token>>) -> Result<Principal, ServiceError> {
        let now_ms = (self.now_ms)();
        match token.filter(|token| !token.is_expired(now_ms)) {
            Some(token) => {
                self.uses.0.lock().insert(token.id, now_ms);
                Ok(Principal::Holder(Arc::clone(token)))
            }
            None => Err(ServiceError::new(
                Code::Unauthenticated,
                "the token is not valid: it is unknown, revoked or expired",
            )),
        }
    }

    /// All tokens, with when this process saw them last.
    pub fn tokens(&self, _: &ServerAccess) -> Result<Vec<Token>, ServiceError> {
        let snapshot = self.backend()?.catalog().snapshot();
        let uses = self.uses.0.lock();
        let with_use = |token: &Arc<Token>| Token {
            last_used_ms: token.last_used_ms.max(uses.get(&token.id).copied()),
            ..Token::clone(token)
        };
        Ok(snapshot.tokens().iter().map(with_use).collect())
    }

    /// Makes a token. Its secret is told here and never again.
    pub async fn create_token(
        &self,
        access: &ServerAccess,
        request: TokenRequest,
    ) -> Result<(Arc<Token>, Secret), ServiceError> {
        let secret = Secret::random()?;
        let target = format!("token {:?}", request.name);
        let make = async {
            let made = create(self.backend()?.catalog(), request, &secret).await;
            made.map_err(|error| match error {
                CreateError::Catalog(error) => self.refuse_commit(error),
                CreateError::Service(error) => error,
            })
        };
        let made = self.audited(access.principal(), "create_token", &target, make);
        Ok((made.await?, secret))
    }

    /// Revokes a token: it allows nothing from now on.
    pub async fn revoke_token(
        &self,
        access: &ServerAccess,
        name: &str,
    ) -> Result<(), ServiceError> {
        let revoke = async {
            let revoked = self.backend()?.catalog().revoke_token(name).await;
            revoked.map(drop).map_err(|error| self.refuse_commit(error))
        };
        let target = format!("token {name:?}");
        self.audited(access.principal(), "revoke_token", &target, revoke)
            .await
    }

    /// Follows what others change about tokens, and writes when they were used. Does not end.
    pub async fn follow_tokens(&self) {
        let mut unwritten = Duration::ZERO;
        loop {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
            let Ok(backend) = self.backend() else {
                continue;
            };
            if let Err(error) = backend.catalog().refresh().await {
                tracing::debug!(%error, "the catalog cannot be followed");
            }
            unwritten += FOLLOW_INTERVAL;
            if unwritten >= USE_INTERVAL {
                unwritten = Duration::ZERO;
                self.write_uses().await;
            }
        }
    }

    /// Writes when tokens were used. What fails is tried again with the next uses.
    pub async fn write_uses(&self) {
        let uses: Vec<(u64, i64)> = self.uses.0.lock().drain().collect();
        let (false, Ok(backend)) = (uses.is_empty(), self.backend()) else {
            return;
        };
        if let Err(error) = backend.catalog().use_tokens(&uses).await {
            tracing::debug!(%error, "last uses of tokens cannot be written");
            let mut kept = self.uses.0.lock();
            for (id, used_ms) in uses {
                let last = kept.entry(id).or_insert(used_ms);
                *last = (*last).max(used_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_random_and_not_shown() {
        let (a, b) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_eq!(a.reveal().len(), PREFIX.len() + 43);
        assert_ne!(a.reveal(), b.reveal());
        assert_eq!(format!("{a:?}"), "Secret");
        assert!(Secret::given(a.reveal()).is_ok());
        for bad in [
            "",
            "  ",
            "admin",
            &"x".repeat(31),
            &"x ".repeat(20),
            &"é".repeat(40),
        ] {
            assert!(Secret::given(bad).is_err(), "{bad}");
        }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn verifiers_are_those_of_the_rfc() {
        use base64::engine::general_purpose::STANDARD;
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        pbkdf2::derive(
            PBKDF2_HMAC_SHA256,
            ITERATIONS,
            &salt,
            b"pencil",
            &mut salted,
        );
        let server_key = hmac::sign(&hmac::Key::new(HMAC_SHA256, &salted), b"Server Key");
        let messages = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signed = hmac::sign(
            &hmac::Key::new(HMAC_SHA256, server_key.as_ref()),
            messages.as_bytes(),
        );
        let expected = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(STANDARD.encode(signed), expected);
    }
}

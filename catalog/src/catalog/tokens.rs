//! Tokens and limits: who may do what, and how much of it.

use std::sync::Arc;

use crate::apply::Refusal;
use crate::catalog::{Catalog, CatalogError};
use crate::model::{Limits, LimitsOf, Scope, ScramVerifier, Token};
use crate::record::{Kind, RevokeToken, TokenUse, UseTokens, tokens};
use crate::snapshot::Snapshot;

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its name, which no other has.
    pub name: String,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// For clients that never send the secret.
    pub scram: ScramVerifier,
    /// What it allows; not empty.
    pub scopes: Vec<Scope>,
    /// From then on it allows nothing, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

impl Catalog {
    /// Makes a token. With `replaced`, a token of the name is revoked in the same commit, and the
    /// new one has its limits.
    ///
    /// # Errors
    /// [`Refusal::TokenExists`] if there is a token of the name and it is not to be replaced.
    pub async fn create_token(
        &self,
        new: &NewToken,
        replaced: bool,
    ) -> Result<Arc<Token>, CatalogError> {
        let created_ms = self.environment().now_ms();
        let snapshot = self.commit_as_node(|snapshot| {
            // The commit came through, and its answer did not.
            if snapshot.tokens.with_hash(&new.hash).is_some() {
                return Ok(Vec::new());
            }
            let id = snapshot.sequence.saturating_add(1);
            let token = Token {
                id,
                name: new.name.as_str().into(),
                hash: new.hash,
                scram: new.scram.clone(),
                scopes: new.scopes.clone(),
                expires_ms: new.expires_ms,
                created_ms,
                last_used_ms: None,
            };
            let old = snapshot.tokens.named(&new.name).filter(|_| replaced);
            let mut changes = Vec::new();
            changes.extend(old.map(|old| Kind::RevokeToken(RevokeToken { id: old.id })));
            changes.push(Kind::CreateToken(tokens::token_message(&token)));
            let limits = old.and_then(|old| snapshot.limits.get(&LimitsOf::Token(old.id)));
            changes.extend(limits.map(|limits| {
                Kind::SetLimits(tokens::limits_message(&LimitsOf::Token(id), *limits))
            }));
            Ok(changes)
        });
        let snapshot = snapshot.await?;
        let token = snapshot.tokens.with_hash(&new.hash).cloned();
        token.ok_or_else(|| no_token(&new.name).into())
    }

    /// Revokes a token by its name.
    ///
    /// # Errors
    /// [`Refusal::NoToken`] if there is none.
    pub async fn revoke_token(&self, name: &str) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| {
            let token = snapshot.tokens.named(name).ok_or_else(|| no_token(name))?;
            Ok(vec![Kind::RevokeToken(RevokeToken { id: token.id })])
        })
        .await
    }

    /// Notes when tokens were last used, by their numbers.
    pub async fn use_tokens(&self, uses: &[(u64, i64)]) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| {
            let is_news = |(id, time): &&(u64, i64)| {
                let token = snapshot.tokens.get(*id);
                token.is_some_and(|token| token.last_used_ms < Some(*time))
            };
            let uses: Vec<TokenUse> = uses
                .iter()
                .filter(is_news)
                .map(|(id, last_used_ms)| TokenUse {
                    id: *id,
                    last_used_ms: *last_used_ms,
                })
                .collect();
            let change = (!uses.is_empty()).then_some(Kind::UseTokens(UseTokens { uses }));
            Ok(change.into_iter().collect())
        })
        .await
    }

    /// Sets what a tenant may take; without any limit there is nothing that says so.
    pub async fn set_limits(
        &self,
        of: &LimitsOf,
        limits: Limits,
    ) -> Result<Arc<Snapshot>, CatalogError> {
        self.commit_as_node(|snapshot| {
            if snapshot.limits.get(of).copied().unwrap_or_default() == limits {
                return Ok(Vec::new());
            }
            Ok(vec![Kind::SetLimits(tokens::limits_message(of, limits))])
        })
        .await
    }
}

fn no_token(name: &str) -> Refusal {
    Refusal::NoToken {
        token: format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Permissions;
    use crate::store::Store;

    fn new(name: &str, hash: u8) -> NewToken {
        NewToken {
            name: name.to_owned(),
            hash: [hash; 32],
            scram: ScramVerifier {
                iterations: 4096,
                salt: vec![1; 16],
                stored_key: [2; 32],
                server_key: [3; 32],
            },
            scopes: vec![Scope {
                databases: "a*".into(),
                permissions: Permissions::READ | Permissions::WRITE,
            }],
            expires_ms: Some(5),
        }
    }

    /// The state as a process has it that starts now, from the log and from a checkpoint.
    async fn reloaded(catalog: &Catalog) -> Arc<Snapshot> {
        let snapshot = catalog.snapshot();
        let again = Catalog::load(catalog.store().clone(), Default::default());
        assert_eq!(again.await.unwrap().snapshot(), snapshot);
        let message = crate::record::Checkpoint::from_snapshot(&snapshot);
        assert_eq!(message.to_snapshot().unwrap(), *snapshot);
        snapshot
    }

    #[tokio::test]
    async fn tokens_come_and_go_with_their_limits() {
        let catalog = Catalog::open(Store::memory(), "n", "").await.unwrap();
        let a = catalog.create_token(&new("a", 1), false).await.unwrap();
        // A repeated request is the same token.
        let again = catalog.create_token(&new("a", 1), false).await.unwrap();
        assert_eq!(a, again);
        let taken = catalog.create_token(&new("a", 2), false).await.unwrap_err();
        assert!(taken.to_string().contains("exists already"), "{taken}");
        let same = catalog.create_token(&new("b", 1), false).await.unwrap();
        assert_eq!(&*same.name, "a");
        let limits = Limits {
            active_series: Some(7),
            ..Limits::default()
        };
        let of = LimitsOf::Token(a.id);
        catalog.set_limits(&of, limits).await.unwrap();
        catalog.use_tokens(&[(a.id, 70), (99, 70)]).await.unwrap();
        catalog.use_tokens(&[(a.id, 60)]).await.unwrap();
        let snapshot = reloaded(&catalog).await;
        assert_eq!(snapshot.tokens().get(a.id).unwrap().last_used_ms, Some(70));
        assert_eq!(snapshot.limits_of_token(a.id), limits);
        // Rotation.
        let b = catalog.create_token(&new("a", 2), true).await.unwrap();
        let snapshot = reloaded(&catalog).await;
        assert!(snapshot.tokens().with_hash(&[1; 32]).is_none());
        assert_eq!(snapshot.tokens().with_hash(&[2; 32]), Some(&b));
        assert_eq!(snapshot.limits_of_token(b.id), limits);
        assert_eq!(snapshot.limits_of_token(a.id), Limits::default());
        catalog.revoke_token("a").await.unwrap();
        let snapshot = reloaded(&catalog).await;
        assert_eq!(snapshot.tokens().iter().count(), 0);
        assert!(snapshot.limits().is_empty());
        let gone = catalog.revoke_token("a").await.unwrap_err();
        assert_eq!(gone.to_string(), "there is no token \"a\"");
    }

    #[tokio::test]
    async fn limits_fall_back_to_the_defaults() {
        let catalog = Catalog::open(Store::memory(), "n", "").await.unwrap();
        let limits = |active_series, body_bytes| Limits {
            active_series,
            body_bytes,
            ..Limits::default()
        };
        let set = async |of: LimitsOf, limits| catalog.set_limits(&of, limits).await.unwrap();
        set(LimitsOf::Default, limits(Some(1), Some(2))).await;
        set(LimitsOf::Database("d".into()), limits(Some(3), None)).await;
        let snapshot = reloaded(&catalog).await;
        assert_eq!(snapshot.limits_of("d"), limits(Some(3), Some(2)));
        assert_eq!(snapshot.limits_of("e"), limits(Some(1), Some(2)));
        set(LimitsOf::Database("d".into()), Limits::default()).await;
        assert_eq!(reloaded(&catalog).await.limits().len(), 1);
        let unknown = catalog.set_limits(&LimitsOf::Token(9), limits(Some(1), None));
        assert!(unknown.await.is_err());
    }

    #[tokio::test]
    async fn what_is_printed_of_the_log_has_no_hash() {
        let catalog = Catalog::open(Store::memory(), "n", "").await.unwrap();
        catalog.create_token(&new("a", 0xab), false).await.unwrap();
        let mut text = String::new();
        crate::dump::dump(catalog.store(), |record| text.push_str(&record.to_string()))
            .await
            .unwrap();
        assert!(text.contains(r#""databases":"a*""#), "{text}");
        for secret in ["hash", "scram", "salt", "171, 171", "171,171", "abababab"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

//! Between messages and the types of tokens and limits.

use super::convert::Unknown;
use super::{Checkpoint, Limits, Scope, Scram, SetLimits, Token};
use crate::model::{self, LimitsOf, Permissions, ScramVerifier};
use crate::snapshot::Snapshot;

/// The message of a token.
pub(crate) fn token_message(token: &model::Token) -> Token {
    let scope = |scope: &model::Scope| Scope {
        databases: scope.databases.to_string(),
        permissions: scope.permissions.bits().into(),
    };
    Token {
        id: token.id,
        name: token.name.to_string(),
        hash: token.hash.to_vec(),
        scopes: token.scopes.iter().map(scope).collect(),
        expires_ms: token.expires_ms.unwrap_or_default(),
        created_ms: token.created_ms,
        scram: Some(Scram {
            iterations: token.scram.iterations,
            salt: token.scram.salt.clone(),
            stored_key: token.scram.stored_key.to_vec(),
            server_key: token.scram.server_key.to_vec(),
        }),
        last_used_ms: token.last_used_ms.unwrap_or_default(),
    }
}

/// A token, or what is wrong with it.
pub(crate) fn token(message: &Token) -> Result<model::Token, &'static str> {
    let key = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| "a hash has not 32 bytes");
    let scope = |scope: &Scope| {
        Ok::<_, &str>(model::Scope {
            databases: scope.databases.as_str().into(),
            permissions: Permissions::from_bits(scope.permissions)
                .ok_or("a permission is not known")?,
        })
    };
    let scram = message.scram.as_ref().ok_or("it has no verifier")?;
    Ok(model::Token {
        id: message.id,
        name: message.name.as_str().into(),
        hash: key(&message.hash)?,
        scram: ScramVerifier {
            iterations: scram.iterations,
            salt: scram.salt.clone(),
            stored_key: key(&scram.stored_key)?,
            server_key: key(&scram.server_key)?,
        },
        scopes: message.scopes.iter().map(scope).collect::<Result<_, _>>()?,
        expires_ms: (message.expires_ms != 0).then_some(message.expires_ms),
        created_ms: message.created_ms,
        last_used_ms: (message.last_used_ms != 0).then_some(message.last_used_ms),
    })
}

/// The message of limits.
pub(crate) fn limits_message(of: &LimitsOf, limits: model::Limits) -> SetLimits {
    let (database, token) = match of {
        LimitsOf::Default => (String::new(), 0),
        LimitsOf::Database(name) => (name.to_string(), 0),
        LimitsOf::Token(id) => (String::new(), *id),
    };
    SetLimits {
        database,
        token,
        limits: Some(Limits {
            samples_per_second: limits.samples_per_second,
            active_series: limits.active_series,
            labels_per_series: limits.labels_per_series,
            label_name_bytes: limits.label_name_bytes,
            label_value_bytes: limits.label_value_bytes,
            body_bytes: limits.body_bytes,
            concurrent_queries: limits.concurrent_queries,
            query_read_bytes: limits.query_read_bytes,
            query_samples: limits.query_samples,
            min_retention_ms: limits.min_retention_ms,
            max_retention_ms: limits.max_retention_ms,
        }),
    }
}

/// Whose limits a message has.
pub(crate) fn limits_of(message: &SetLimits) -> Result<LimitsOf, Unknown> {
    match (message.database.as_str(), message.token) {
        ("", 0) => Ok(LimitsOf::Default),
        ("", id) => Ok(LimitsOf::Token(id)),
        (name, 0) => Ok(LimitsOf::Database(name.into())),
        (_, id) => Err(Unknown::new("limits of a database and of token", id)),
    }
}

/// The limits in a message.
pub(crate) fn limits(message: &SetLimits) -> model::Limits {
    let limits = message.limits.unwrap_or_default();
    model::Limits {
        samples_per_second: limits.samples_per_second,
        active_series: limits.active_series,
        labels_per_series: limits.labels_per_series,
        label_name_bytes: limits.label_name_bytes,
        label_value_bytes: limits.label_value_bytes,
        body_bytes: limits.body_bytes,
        concurrent_queries: limits.concurrent_queries,
        query_read_bytes: limits.query_read_bytes,
        query_samples: limits.query_samples,
        min_retention_ms: limits.min_retention_ms,
        max_retention_ms: limits.max_retention_ms,
    }
}

impl Checkpoint {
    /// Puts tokens and limits of a state into its message.
    pub(crate) fn with_tokens(self, snapshot: &Snapshot) -> Self {
        let tokens = snapshot.tokens.iter().map(|token| token_message(token));
        let limits = snapshot.limits.iter();
        Self {
            tokens: tokens.collect(),
            limits: limits
                .map(|(of, limits)| limits_message(of, *limits))
                .collect(),
            ..self
        }
    }

    /// Takes tokens and limits out of the message of a state.
    pub(crate) fn read_tokens(&self, snapshot: &mut Snapshot) -> Result<(), Unknown> {
        let mut tokens = model::Tokens::default();
        for message in &self.tokens {
            let token = token(message).map_err(|_| Unknown::new("token", message.id))?;
            tokens.put(token);
        }
        let limits = self.limits.iter();
        let limits = limits.map(|message| Ok((limits_of(message)?, self::limits(message))));
        snapshot.tokens = tokens.into();
        snapshot.limits = limits
            .collect::<Result<std::collections::BTreeMap<_, _>, Unknown>>()?
            .into();
        Ok(())
    }
}

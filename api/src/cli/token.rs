//! `tidelake token`: makes, lists and revokes tokens on the store itself. Write access to the store
//! grants everything already, so the command asks for no token. Running servers notice within a
//! second.

use std::io::Write;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand};
use tidelake_catalog::model::{Permissions, Scope, Token};
use tidelake_catalog::{Catalog, Environment};
use tidelake_querier::sql::{Retention, parse_retention};

use crate::config::{Config, ConfigArgs};
use crate::node::backend::open_store;
use crate::service::tokens::{Secret, TokenRequest, create};

/// The name under which this command commits.
const NODE: &str = "tidelake-cli";

/// What to do about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print its secret, which is not stored and never shown again
    Create(CreateArgs),
    /// Print all tokens, without secrets
    List(ListArgs),
    /// Revoke a token
    Revoke(RevokeArgs),
}

/// A token to make.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name
    name: String,
    /// What it allows, as DATABASES:PERMISSIONS, such as 'team-*:read,write'; permissions are read,
    /// write, delete and admin; may be given several times
    #[arg(
        long = "scope",
        value_name = "SCOPE",
        required_unless_present = "admin"
    )]
    scopes: Vec<String>,
    /// Allow everything in all databases
    #[arg(long, conflicts_with = "scopes")]
    admin: bool,
    /// End after this time, such as 90d
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
    /// Revoke a token of this name in the same moment
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Where tokens are.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// A token to revoke.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    config: ConfigArgs,
}

impl TokenCommand {
    /// The settings that say where the store is.
    pub fn config(&self) -> &ConfigArgs {
        match self {
            TokenCommand::Create(args) => &args.config,
            TokenCommand::List(args) => &args.config,
            TokenCommand::Revoke(args) => &args.config,
        }
    }
}

/// Does it; what it says goes to `out`.
pub async fn run(
    command: TokenCommand,
    config: &Config,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let open = async || {
        let store = open_store(config)?;
        Catalog::open(store, NODE, "")
            .await
            .context("cannot open the catalog")
    };
    match command {
        TokenCommand::Create(args) => {
            let scopes = match args.admin {
                true => vec![Scope::everything()],
                false => args
                    .scopes
                    .iter()
                    .map(|text| read_scope(text))
                    .collect::<Result<_, _>>()?,
            };
            let now_ms = Environment::system().now_ms();
            let expires_ms = args
                .expires
                .as_deref()
                .map(|text| read_expiry(text, now_ms));
            let request = TokenRequest {
                name: args.name,
                scopes,
                expires_ms: expires_ms.transpose()?,
                replaced: args.replace,
            };
            let secret = Secret::random()?;
            create(&open().await?, request, &secret).await?;
            writeln!(out, "{}", secret.reveal())?;
        }
        TokenCommand::List(_) => {
            // Nothing is changed, so nothing has to be registered.
            let store = open_store(config)?;
            let catalog = Catalog::load(store, Default::default()).await?;
            writeln!(out, "name\tscopes\tcreated\texpires\tlast used")?;
            for token in catalog.snapshot().tokens().iter() {
                writeln!(out, "{}", line(token))?;
            }
        }
        TokenCommand::Revoke(args) => {
            open().await?.revoke_token(&args.name).await?;
        }
    }
    Ok(0)
}

fn line(token: &Token) -> String {
    let time = |ms: Option<i64>| {
        let time = ms.and_then(DateTime::from_timestamp_millis);
        time.map_or("never".to_owned(), |time| {
            time.to_rfc3339_opts(SecondsFormat::Secs, true)
        })
    };
    let scopes: Vec<String> = token.scopes.iter().map(show_scope).collect();
    let times = [Some(token.created_ms), token.expires_ms, token.last_used_ms].map(time);
    // A name may have any characters.
    let name = token.name.escape_debug();
    format!("{name}\t{}\t{}", scopes.join(" "), times.join("\t"))
}

/// As [`read_scope`] reads it.
pub fn show_scope(scope: &Scope) -> String {
    let permissions: Vec<&str> = scope.permissions.words().collect();
    format!("{}:{}", scope.databases, permissions.join(","))
}

/// `team-*:read,write`
fn read_scope(text: &str) -> anyhow::Result<Scope> {
    let Some((databases, permissions)) = text.rsplit_once(':') else {
        bail!("scope {text:?} must be DATABASES:PERMISSIONS, such as 'team-*:read,write'");
    };
    let mut all = Permissions::default();
    for word in permissions.split(',') {
        let Some(permission) = Permissions::from_word(word.trim()) else {
            bail!("scope {text:?}: {word:?} is not one of read, write, delete, admin");
        };
        all = all | permission;
    }
    Ok(Scope {
        databases: databases.into(),
        permissions: all,
    })
}

fn read_expiry(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let Ok(Retention::Millis(ms)) = parse_retention(text) else {
        bail!("--expires {text:?} must be a duration such as 90d");
    };
    let expires = i64::try_from(ms).ok().and_then(|ms| now_ms.checked_add(ms));
    expires.with_context(|| format!("--expires {text:?} is too far away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_shown() {
        for text in ["a:read", "team-*:read,write", "*:admin", "x:write,delete"] {
            assert_eq!(show_scope(&read_scope(text).unwrap()), text);
        }
        for bad in ["a", "a:", "a:reed", "a:read,"] {
            assert!(read_scope(bad).is_err(), "{bad}");
        }
        assert_eq!(read_expiry("1d", 5).unwrap(), 86_400_005);
        assert!(read_expiry("soon", 5).is_err());
        assert!(read_expiry("forever", 5).is_err());
    }
}

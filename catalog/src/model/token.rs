//! Tokens: what a client shows, and what it may then do.
//!
//! A secret is never stored: a token has its SHA-256, and beside it what SCRAM-SHA-256 (RFC 7677)
//! needs to check it. A secret is 256 random bits, so that nothing slower than one hash is needed
//! against guessing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// The database of what the server records about itself. No client writes it.
pub const INTERNAL_DATABASE: &str = "_internal";

/// What a token allows in some databases, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// Queries.
    pub const READ: Self = Self(1);
    /// New rows, with the tables and the database that they need.
    pub const WRITE: Self = Self(2);
    /// Deletes of rows.
    pub const DELETE: Self = Self(4);
    /// All of these; creating and dropping, retention, limits.
    pub const ADMIN: Self = Self(8);
    /// The single ones with their words.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::READ, "read"),
        (Self::WRITE, "write"),
        (Self::DELETE, "delete"),
        (Self::ADMIN, "admin"),
    ];

    /// The set as a number, one bit each.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of a number; `None` if it is empty or has other bits.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let bits = u8::try_from(bits).ok()?;
        (1..=15).contains(&bits).then_some(Self(bits))
    }

    /// A single one by its word.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, name)| *name == word).map(|(one, _)| one)
    }

    /// The words of those in it.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let all = Self::ALL.into_iter();
        all.filter(move |(one, _)| self.0 & one.0 != 0)
            .map(|(_, word)| word)
    }

    /// Whether it has any of the others, or allows everything.
    pub const fn allows(self, any: Self) -> bool {
        self.0 & (any.0 | Self::ADMIN.0) != 0
    }
}

impl BitOr for Permissions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.words()).finish()
    }
}

/// What a token allows where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Names of databases; `*` stands for any characters.
    pub databases: Arc<str>,
    /// What may be done there.
    pub permissions: Permissions,
}

impl Scope {
    /// Everything everywhere.
    pub fn everything() -> Self {
        Self {
            databases: "*".into(),
            permissions: Permissions::ADMIN,
        }
    }

    /// Whether a text can be a pattern of names of databases.
    pub fn is_pattern(text: &str) -> bool {
        let is_fitting = |byte: u8| byte.is_ascii_alphanumeric() || b"-_*".contains(&byte);
        (1..=256).contains(&text.len()) && text.bytes().all(is_fitting)
    }

    /// Whether it is about a database. What the server records about itself has to be named, unless
    /// the scope allows everything.
    pub fn is_about(&self, database: &str) -> bool {
        let is_named = !database.starts_with('_') || self.databases.starts_with('_');
        let is_meant = is_named || *self == Self::everything();
        is_meant && matches_pattern(&self.databases, database)
    }
}

/// Whether a name is one of a pattern with `*`. Takes at most the product of the lengths.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut named) = (0, 0);
    // Where the last star is, and how much of the name it stands for.
    let mut star: Option<(usize, usize)> = None;
    while named < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, named));
                at += 1;
            }
            Some(byte) if name.get(named) == Some(byte) => (at, named) = (at + 1, named + 1),
            _ => match &mut star {
                Some((of, until)) => {
                    *until += 1;
                    (at, named) = (*of + 1, *until);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// What SCRAM-SHA-256 needs to check a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// Drawn at random.
    pub salt: Vec<u8>,
    /// SHA-256 of the client's key.
    pub stored_key: [u8; 32],
    /// The server's key.
    pub server_key: [u8; 32],
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number, which no other token ever has.
    pub id: u64,
    /// What people call it; no other token has the name.
    pub name: Arc<str>,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// For clients that never send the secret.
    pub scram: ScramVerifier,
    /// What it allows: all that any of these does.
    pub scopes: Vec<Scope>,
    /// From then on it allows nothing, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it was last shown, in milliseconds since 1970, to within minutes.
    pub last_used_ms: Option<i64>,
}

impl Token {
    /// Whether it allows any of some permissions in a database.
    pub fn allows(&self, database: &str, any: Permissions) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.any(|scope| scope.permissions.allows(any) && scope.is_about(database))
    }

    /// Whether it allows everything in all databases, those to come included.
    pub fn allows_everything(&self) -> bool {
        self.scopes.contains(&Scope::everything())
    }

    /// Whether it allows nothing any more.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= now_ms)
    }
}

impl fmt::Debug for Token {
    /// Without what could help to guess the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// All tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    by_id: BTreeMap<u64, Arc<Token>>,
    /// By the first bytes of the hash.
    by_hash: HashMap<[u8; 8], u64>,
}

impl Tokens {
    /// In the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.by_id.values()
    }

    /// By its number.
    pub fn get(&self, id: u64) -> Option<&Arc<Token>> {
        self.by_id.get(&id)
    }

    /// By its name.
    pub fn named(&self, name: &str) -> Option<&Arc<Token>> {
        self.iter().find(|token| &*token.name == name)
    }

    /// By the SHA-256 of its secret, which is compared in constant time. That there is a token
    /// whose hash has the same first bytes is of no use: hashes cannot be chosen.
    pub fn with_hash(&self, hash: &[u8; 32]) -> Option<&Arc<Token>> {
        let token = self.get(*self.by_hash.get(&beginning(hash))?)?;
        bool::from(token.hash.ct_eq(hash)).then_some(token)
    }

    /// Adds a token, or puts it in the place of the one with its number.
    pub(crate) fn put(&mut self, token: Token) {
        self.by_hash.insert(beginning(&token.hash), token.id);
        self.by_id.insert(token.id, Arc::new(token));
    }

    /// Takes a token away.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Arc<Token>> {
        let token = self.by_id.remove(&id)?;
        self.by_hash.remove(&beginning(&token.hash));
        Some(token)
    }
}

fn beginning(hash: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        };
        check("a", "a", true);
        check("a", "ab", false);
        check("a", "", false);
        check("", "", true);
        check("*", "", true);
        check("*", "abc", true);
        check("team-*", "team-a", true);
        check("team-*", "team-", true);
        check("team-*", "team", false);
        check("*-prod", "a-prod", true);
        check("*-prod", "a-prod-b", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("**", "x", true);
        let (stars, name) = ("*a".repeat(50), "a".repeat(49) + "b");
        check(&stars, &name, false);
    }

    #[test]
    fn what_scopes_allow() {
        let scope = |databases: &str, permissions| Scope {
            databases: databases.into(),
            permissions,
        };
        let token = Token {
            id: 1,
            name: "t".into(),
            hash: [0; 32],
            scram: ScramVerifier {
                iterations: 1,
                salt: Vec::new(),
                stored_key: [0; 32],
                server_key: [0; 32],
            },
            scopes: vec![
                scope("a*", Permissions::READ),
                scope("ab", Permissions::WRITE | Permissions::DELETE),
                scope("own", Permissions::ADMIN),
            ],
            expires_ms: Some(1000),
            created_ms: 0,
            last_used_ms: None,
        };
        let check = |database: &str, permission, expected: bool| {
            assert_eq!(token.allows(database, permission), expected, "{database}");
        };
        check("a", Permissions::READ, true);
        check("a", Permissions::WRITE, false);
        check("ab", Permissions::READ, true);
        check("ab", Permissions::WRITE, true);
        check("ab", Permissions::DELETE, true);
        check("ab", Permissions::ADMIN, false);
        check("b", Permissions::READ, false);
        for permission in Permissions::ALL {
            check("own", permission.0, true);
        }
        assert!(!token.is_expired(999) && token.is_expired(1000));
        assert!(!token.allows_everything());
        assert!(Scope::everything().is_about(INTERNAL_DATABASE));
        assert!(!scope("*", Permissions::READ).is_about(INTERNAL_DATABASE));
        assert!(scope("_*", Permissions::READ).is_about(INTERNAL_DATABASE));
        for pattern in ["*l", "**", "*_internal"] {
            let scope = scope(pattern, Permissions::ADMIN);
            assert!(!scope.is_about(INTERNAL_DATABASE), "{pattern}");
        }
        assert!(Scope::is_pattern("team-*_2") && Scope::is_pattern("_internal"));
        for bad in ["", "a b", "a\n", "?", "é"] {
            assert!(!Scope::is_pattern(bad), "{bad}");
        }
    }
}

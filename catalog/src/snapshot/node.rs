//! Processes that work on one store.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// How far a node's write-ahead log is in segments: everything before it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WalPosition {
    /// Objects of lower epochs are in segments.
    pub epoch: u64,
    /// In this epoch, objects of lower sequences are in segments.
    pub next_seq: u64,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// Nothing but looking after the catalog: what a command does.
    pub const NONE: Self = Self(0);
    /// Takes writes.
    pub const INGEST: Self = Self(1);
    /// Answers queries.
    pub const QUERY: Self = Self(2);
    /// Merges segments.
    pub const COMPACT: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);

    const NAMES: [(Self, &'static str); 3] = [
        (Self::INGEST, "ingest"),
        (Self::QUERY, "query"),
        (Self::COMPACT, "compact"),
    ];
    /// In a record: whether the process said what it does.
    const SAID: u32 = 8;

    /// Whether all of these are among them.
    pub const fn has(self, roles: Self) -> bool {
        self.0 & roles.0 == roles.0
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let own = Self::NAMES.iter().filter(|(role, _)| self.has(*role));
        own.map(|(_, name)| *name).collect()
    }

    /// The number in a record.
    pub(crate) fn number(self) -> u32 {
        u32::from(self.0) | Self::SAID
    }

    /// From a record; older programs did not say it. A process that has no address serves nobody.
    pub(crate) fn of(number: u32, address: &str) -> Self {
        match number & Self::SAID {
            0 if address.is_empty() => Self::NONE,
            0 => Self::ALL,
            _ => Self((number & u32::from(Self::ALL.0)) as u8),
        }
    }
}

/// Names with commas between them.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut roles = Self::NONE;
        for word in text.split(',').map(str::trim) {
            let known = Self::NAMES.iter().find(|(_, name)| *name == word);
            let Some((role, _)) = known else {
                return Err(format!(
                    "{word:?} is no role: a list of ingest, query and compact is expected"
                ));
            };
            roles.0 |= role.0;
        }
        Ok(roles)
    }
}

/// What a process understands; see [`Node::knows`].
pub mod knows {
    /// Write orders that are clock values, and files with an order for each row.
    pub const CLOCK_ORDER: u32 = 1;
    /// All of it.
    pub const ALL: u32 = CLOCK_ORDER;
}

/// How a process registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where others reach it, `host:port`; empty if it serves nobody.
    pub address: String,
    /// What it does.
    pub roles: Roles,
}

/// A process that serves nobody.
impl From<&str> for Registration {
    fn from(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            roles: Roles::NONE,
        }
    }
}

/// A process that works on the store, or was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, which it keeps when it starts anew.
    pub name: Arc<str>,
    /// Counts its starts; a process with a lower one is fenced.
    pub epoch: u64,
    /// Where it answers, `host:port`; empty if it does not say.
    pub address: Arc<str>,
    /// The process that registered the epoch.
    pub process: Uuid,
    /// What it does.
    pub roles: Roles,
    /// The highest of [`knows`] that it understands; 0 in older programs.
    pub knows: u32,
    /// It ended cleanly, or was adopted: nothing of its log is left, and it acknowledges nothing
    /// more under this epoch.
    pub has_left: bool,
    /// How far its write-ahead log is in segments.
    pub wal: WalPosition,
    /// All its rows up to this write order are in segments, and it gives higher ones to all others.
    pub order: u64,
}

impl Node {
    /// Whether rows that are in no segment may be with it or in its log.
    pub fn takes_writes(&self) -> bool {
        self.roles.has(Roles::INGEST) && !self.has_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_shown() {
        for roles in (1..=7).map(Roles) {
            assert_eq!(roles.to_string().parse(), Ok(roles));
            assert_eq!(Roles::of(roles.number(), ""), roles);
        }
        assert_eq!("query, ingest".parse(), Ok(Roles(3)));
        for text in ["", "ingest,", "writer", "INGEST"] {
            assert!(text.parse::<Roles>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn older_processes_do_everything_unless_they_have_no_address() {
        assert_eq!(Roles::of(0, "here:1"), Roles::ALL);
        assert_eq!(Roles::of(0, ""), Roles::NONE);
        assert_eq!(Roles::of(Roles::NONE.number(), "here:1"), Roles::NONE);
    }
}

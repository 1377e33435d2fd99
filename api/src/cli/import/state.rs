//! How far an input came, in a small file beside it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Position;

/// What the name of the file ends with.
const SUFFIX: &str = ".tidelake-import";

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Size of the input: another file of the name begins anew.
    size: u64,
    /// Server, database and format.
    target: String,
    position: Position,
}

/// The file that remembers.
#[derive(Debug)]
pub(super) struct State {
    /// `None` for an input that cannot be read again, such as a pipe.
    path: Option<PathBuf>,
    saved: Saved,
}

impl State {
    /// What is remembered of an input.
    pub(super) fn of(
        given: Option<&Path>,
        input: &Path,
        size: Option<u64>,
        target: String,
    ) -> anyhow::Result<Self> {
        let none = Saved {
            size: size.unwrap_or(0),
            target,
            position: Position::default(),
        };
        let Some(_) = size else {
            return Ok(Self {
                path: None,
                saved: none,
            });
        };
        let path = match given {
            Some(path) => path.to_owned(),
            None => {
                let mut name = input.as_os_str().to_owned();
                name.push(SUFFIX);
                PathBuf::from(name)
            }
        };
        let saved = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Saved>(&bytes).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let is_same = |saved: &Saved| saved.size == none.size && saved.target == none.target;
        Ok(Self {
            path: Some(path),
            saved: saved.filter(is_same).unwrap_or(none),
        })
    }

    /// Where to begin.
    pub(super) fn start(&self) -> Position {
        self.saved.position
    }

    /// All before this position is on the server.
    pub(super) fn reached(&mut self, position: Position) -> anyhow::Result<()> {
        self.saved.position = position;
        let Some(path) = &self.path else {
            return Ok(());
        };
        let bytes = serde_json::to_vec(&self.saved)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        // Whole or not at all.
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| {
                format!(
                    "cannot remember in {} how far it came; --resume names another file",
                    path.display()
                )
            })
    }

    /// The whole input is on the server.
    pub(super) fn finished(self) -> anyhow::Result<()> {
        match self.path.map(fs::remove_file) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_is_remembered_for_the_same_input() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.lp");
        let state =
            |size, target: &str| State::of(None, &input, Some(size), target.to_owned()).unwrap();
        let mut first = state(10, "x");
        let position = Position { offset: 7, line: 3 };
        assert_eq!(first.start(), Position::default());
        first.reached(position).unwrap();
        assert_eq!(state(10, "x").start(), position);
        assert_eq!(state(11, "x").start(), Position::default());
        assert_eq!(state(10, "y").start(), Position::default());
        first.finished().unwrap();
        assert_eq!(state(10, "x").start(), Position::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // A pipe has no state.
        let mut pipe = State::of(None, &input, None, String::new()).unwrap();
        pipe.reached(position).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

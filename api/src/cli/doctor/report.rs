//! What was seen, as lines or as JSON.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};
use tidelake_catalog::store::StoreError;

use super::super::output;

/// Characters of what was seen: stores answer with whole documents.
const MAX_SEEN_CHARS: usize = 600;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Nothing was learnt.
    Unknown,
    /// It works, and something should be done.
    Warning,
    /// A server does not work on this store, or loses data there.
    Error,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The figures in it, for programs.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub figures: Value,
}

impl Check {
    fn new(status: Status, name: &'static str, seen: impl ToString, advice: &str) -> Self {
        // Texts of stores may have several lines.
        let seen = seen.to_string();
        let seen: Vec<&str> = seen.split_whitespace().collect();
        let mut seen = seen.join(" ");
        if let Some((cut, _)) = seen.char_indices().nth(MAX_SEEN_CHARS) {
            seen.truncate(cut);
            seen.push_str("...");
        }
        Self {
            name,
            status,
            seen,
            advice: (!advice.is_empty()).then(|| advice.to_owned()),
            figures: Value::Null,
        }
    }

    /// As it should be.
    pub fn ok(name: &'static str, seen: impl ToString) -> Self {
        Self::new(Status::Ok, name, seen, "")
    }

    /// Nothing was learnt.
    pub fn unknown(name: &'static str, seen: impl ToString, advice: &str) -> Self {
        Self::new(Status::Unknown, name, seen, advice)
    }

    /// It works, and something should be done.
    pub fn warning(name: &'static str, seen: impl ToString, advice: &str) -> Self {
        Self::new(Status::Warning, name, seen, advice)
    }

    /// A server does not work so.
    pub fn error(name: &'static str, seen: impl ToString, advice: &str) -> Self {
        Self::new(Status::Error, name, seen, advice)
    }

    /// The store refused, or did not answer; `action` is what S3 calls what it has to allow.
    pub fn refused(name: &'static str, error: &StoreError, is_folder: bool, action: &str) -> Self {
        let advice = match (error.advice(), is_folder) {
            (_, true) => "see that the user of the server may read and write all of the folder \
                          and that its disk has space"
                .to_owned(),
            (Some(advice), false) if advice.starts_with("check AWS") => {
                format!("{advice} (it needs {action})")
            }
            (Some(advice), false) => advice.to_owned(),
            (None, false) if error.is_transient() => {
                "see that the store answers, and that s3_endpoint is its address".to_owned()
            }
            (None, false) => format!("allow {action}"),
        };
        Self::error(name, error, &advice)
    }

    /// With figures for programs.
    pub fn with(self, figures: Value) -> Self {
        Self { figures, ..self }
    }
}

/// One line.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}{:<18}{}", self.status, self.name, self.seen)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// Prints checks as they come, or all at the end.
pub struct Report<'a> {
    out: &'a mut (dyn Write + Send),
    is_text: bool,
    checks: Vec<Check>,
    failed: Option<io::Error>,
}

impl<'a> Report<'a> {
    /// A report without checks.
    pub fn new(out: &'a mut (dyn Write + Send), is_text: bool) -> Self {
        Self {
            out,
            is_text,
            checks: Vec::new(),
            failed: None,
        }
    }

    /// Adds a check.
    pub fn add(&mut self, check: Check) {
        if self.is_text && self.failed.is_none() {
            let printed = writeln!(self.out, "{check}").and_then(|()| self.out.flush());
            self.failed = printed.err();
        }
        self.checks.push(check);
    }

    /// The checks so far.
    #[cfg(test)]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Prints what is left, and returns whether anything is an error.
    pub fn end(self, store: &str) -> io::Result<bool> {
        let count = |status| self.checks.iter().filter(|c| c.status == status).count();
        let (errors, warnings) = (count(Status::Error), count(Status::Warning));
        let printed = match (self.failed, self.is_text) {
            (Some(error), _) => Err(error),
            (None, true) => writeln!(self.out, "{store}: {errors} errors, {warnings} warnings"),
            (None, false) => {
                let all = json!({
                    "store": store,
                    "errors": errors,
                    "warnings": warnings,
                    "checks": self.checks,
                });
                writeln!(self.out, "{all:#}")
            }
        };
        match printed {
            Err(error) if !output::is_closed(&error) => Err(error),
            _ => Ok(errors > 0),
        }
    }
}

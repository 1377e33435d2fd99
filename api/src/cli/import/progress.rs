//! What a user sees while something is imported: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::Position;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Unit {
    #[default]
    Lines,
    Rows,
    Series,
}

impl Unit {
    /// How far an input was read.
    pub(super) fn of(self, position: Position) -> String {
        let Position { offset, line } = position;
        match self {
            Self::Lines => format!("{line} lines, {offset} bytes"),
            Self::Rows => format!("{offset} rows"),
            Self::Series => format!("{offset} series"),
        }
    }
}

const COUNT: &str = "{msg} {bar:30} {pos}/{len} {per_sec} {eta}";
const BAR: &str = "{msg} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
const NO_BAR: &str = "{msg} {bytes} {binary_bytes_per_sec}";

/// How far an import is.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(path: &Path, unit: Unit, size: Option<u64>, start: Position) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = match size {
            Some(size) => ProgressBar::new(size),
            None => ProgressBar::new_spinner(),
        };
        let style = ProgressStyle::with_template(match (unit, size) {
            (_, None) => NO_BAR,
            (Unit::Lines, _) => BAR,
            (Unit::Rows | Unit::Series, _) => COUNT,
        });
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(path.display().to_string());
        let progress = Self(bar.with_position(start.offset));
        if start.offset > 0 {
            progress.says(&format!("goes on behind {}", unit.of(start)));
        }
        progress
    }

    pub(super) fn reached(&self, position: Position) {
        self.0.set_position(position.offset);
    }

    /// A line above the bar.
    pub(super) fn says(&self, text: &str) {
        self.0.suspend(|| {
            use std::io::Write as _;
            // Nothing is left to do when not even that can be written.
            let _ = writeln!(std::io::stderr(), "tidelake: {text}");
        });
    }

    pub(super) fn waits(&self, reason: &str) {
        let reason: String = reason.trim().chars().take(300).collect();
        self.says(&format!("waiting for the server: {reason}"));
    }

    pub(super) fn ends(&self) {
        self.0.finish_and_clear();
    }
}

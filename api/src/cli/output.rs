//! What commands know about the place where they print.

use std::io;

use clap::ValueEnum;

/// How commands that show the state of a server print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for each figure
    Table,
    /// JSON
    Json,
}

/// Columns of a terminal that does not say how many it has.
const WIDTH: usize = 80;

/// Whether a failure to print means that nobody reads any more, as of `tidelake ... | head`.
pub fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Columns of the terminal.
pub fn width() -> usize {
    size().map_or(WIDTH, |(columns, _)| columns)
}

/// Columns and rows of the terminal on the standard output.
pub fn size() -> Option<(usize, usize)> {
    let size = console::Term::stdout().size_checked()?;
    Some((usize::from(size.1), usize::from(size.0)))
}

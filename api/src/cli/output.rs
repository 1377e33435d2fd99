//! What commands know about the place where they print.

use std::error::Error;
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

/// Whether the reader of the output has closed it.
pub fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Whether a command failed because the reader of its output has closed it (`tidelake ... | head`).
/// A connection that ends is another thing.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let is_of_output = |cause: &(dyn Error + 'static)| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(is_closed)
    };
    error.chain().any(is_of_output) && !error.chain().any(|cause| cause.is::<reqwest::Error>())
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

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn only_a_pipe_that_nobody_reads_is_unread() {
        let failed = |kind: io::ErrorKind| Err::<(), _>(io::Error::from(kind));
        let closed = failed(io::ErrorKind::BrokenPipe).context("cannot write");
        assert!(is_unread(&closed.unwrap_err()));
        let full = failed(io::ErrorKind::StorageFull).context("cannot write");
        assert!(!is_unread(&full.unwrap_err()));
        assert!(!is_unread(&anyhow::anyhow!("Broken pipe")));
    }
}

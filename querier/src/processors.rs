//! How many processors there are for queries.
use std::sync::LazyLock;

static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(2, usize::from));

/// Processors that this process may use, as of its start: to ask the system takes a dozen calls,
/// which a small query would notice.
pub(crate) fn processors() -> usize {
    *PROCESSORS
}

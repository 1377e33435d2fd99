//! Figures of the parts, for `/metrics`.

/// A figure that is read at every scrape.
pub struct Figure {
    /// Name without the prefix `tidelake_`.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Whether it only ever grows.
    pub is_counter: bool,
    /// Reads it; must not block.
    pub read: Box<dyn Fn() -> f64 + Send + Sync>,
}

//! Inflates pages, with what a thread keeps for it.

use std::cell::RefCell;

use parquet::errors::ParquetError;
use zstd::bulk::Decompressor;

use super::damaged;

/// Bytes of a buffer that a thread keeps; pages of ours are seldom larger.
const KEPT_BYTES: usize = 4 << 20;

/// Bytes that a page may have inflated. Pages of ours have 2 MiB at most.
pub const MAX_PAGE_BYTES: usize = 64 << 20;

/// A zstd context and buffers; a dictionary is in use while pages are inflated.
#[derive(Default)]
pub struct Inflater {
    pub context: Context,
    pub dictionary: Buffer,
    pub page: Buffer,
}

/// A zstd context, made when it is needed first: it takes longer than many a page to inflate.
#[derive(Default)]
pub struct Context(Option<Decompressor<'static>>);

/// Bytes of a page that were inflated.
#[derive(Default)]
pub struct Buffer(Vec<u8>);

thread_local! {
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

impl Inflater {
    /// Calls with what this thread keeps.
    pub fn with<T>(call: impl FnOnce(&mut Self) -> T) -> T {
        INFLATER.with(|kept| match kept.try_borrow_mut() {
            Ok(mut kept) => {
                let result = call(&mut kept);
                kept.dictionary.shrink();
                kept.page.shrink();
                result
            }
            Err(_) => call(&mut Self::default()),
        })
    }
}

impl Buffer {
    /// Inflates what must become exactly `size` bytes, of which the caller has made sure that they
    /// are not too many.
    pub fn inflate(
        &mut self,
        context: &mut Context,
        bytes: &[u8],
        size: usize,
    ) -> Result<&[u8], ParquetError> {
        let context = match &mut context.0 {
            Some(context) => context,
            none => none.insert(Decompressor::new()?),
        };
        self.0.clear();
        self.0.reserve(size);
        if size > 0 || !bytes.is_empty() {
            context
                .decompress_to_buffer(bytes, &mut self.0)
                .map_err(|error| damaged(format!("a page cannot be inflated: {error}")))?;
        }
        if self.0.len() != size {
            return Err(damaged(format!(
                "a page has {} bytes, its header says {size}",
                self.0.len()
            )));
        }
        Ok(&self.0)
    }

    fn shrink(&mut self) {
        if self.0.capacity() > KEPT_BYTES {
            self.0 = Vec::new();
        }
    }
}

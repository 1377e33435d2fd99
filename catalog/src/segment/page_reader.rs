//! Reads columns of numbers page by page.
//!
//! Parquet's own reader fetches row group after row group and decodes a page in several copies, of
//! which a query wants a few rows. This one plans first ([`plan`]): the offset index of the footer
//! tells which pages hold the wanted rows, so that one call of the store brings those of all
//! columns and row groups. Then it decodes ([`decode`]): a page is inflated with a context that the
//! thread keeps ([`inflate`]), and the wanted rows go straight into the column that comes out.
//!
//! It reads what [`super::encoding`] writes: flat columns of 64-bit numbers, times, booleans and
//! scales, as they are or compressed with zstd. Parquet's reader reads everything else, and files
//! without an offset index.
//!
//! Pages that were decoded whole stay in a cache ([`cached`]): what is there is neither fetched nor
//! decoded again.
//!
//! Bytes are not trusted: a size that a page claims is compared with the rows that the footer says
//! it has before anything is allocated, and no bytes lead to a panic or an endless loop.

mod cached;
mod decode;
mod delta;
mod hybrid;
mod inflate;
mod page_header;
mod plan;
mod values;

pub(super) use cached::{DecodedPage, PageCache, PageKey};
pub(super) use plan::PageReads;

use parquet::errors::ParquetError;

/// An error of bytes that cannot be.
fn damaged(message: impl Into<String>) -> ParquetError {
    ParquetError::General(message.into())
}

#[cfg(test)]
mod tests;

//! What can go wrong with a segment.

use crate::memory::OutOfMemory;

/// An error of reading or writing a segment. Every kind names the object.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SegmentError {
    /// The store did not deliver; trying again may help.
    #[error("object {object:?} could not be read: {message}")]
    Unavailable {
        /// Key of the object.
        object: String,
        /// The store's words.
        message: String,
    },
    /// The object is there but is not what the catalog says it is.
    #[error("object {object:?} is corrupt: {message}")]
    Corrupt {
        /// Key of the object.
        object: String,
        /// What does not fit.
        message: String,
    },
    /// The reader may not read so many bytes; see [`super::ReadMeter`].
    #[error("more than {0} bytes would be read from the store")]
    ReadLimit(u64),
    /// There is no memory for the series that were found.
    #[error("the series of the query need more memory than there is: {0}; try again later")]
    Memory(#[from] OutOfMemory),
    /// Rows could not be encoded: a programming error or a lack of memory.
    #[error("rows could not be encoded: {0}")]
    Encode(String),
}

impl SegmentError {
    /// An error of the store for an object.
    pub(crate) fn store(object: &str, error: &object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Corrupt {
                object: object.to_owned(),
                message: "the catalog names it, but it is not on the store".to_owned(),
            },
            error => Self::Unavailable {
                object: object.to_owned(),
                message: error.to_string(),
            },
        }
    }

    /// An object that does not parse.
    pub(crate) fn corrupt(object: &str, message: impl ToString) -> Self {
        Self::Corrupt {
            object: object.to_owned(),
            message: message.to_string(),
        }
    }
}

//! What the buffer holds of the memory of the process.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelake_catalog::memory::{MemoryBudget, Reservation, Share};

/// The memory of all chunks.
#[derive(Debug, Clone)]
pub(super) struct Held(Arc<Mutex<Reservation>>);

/// The memory of one chunk, given back when dropped.
#[derive(Debug)]
pub(super) struct Counted {
    held: Held,
    bytes: usize,
}

impl Held {
    pub(super) fn new(memory: &Arc<MemoryBudget>) -> Self {
        Self(Arc::new(Mutex::new(memory.empty(Share::Buffer))))
    }

    /// Bytes of all chunks.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes()
    }

    /// Nothing, for a new chunk.
    pub(super) fn none(&self) -> Counted {
        Counted {
            held: self.clone(),
            bytes: 0,
        }
    }
}

impl Counted {
    /// From now on it is so many bytes. Acknowledged rows cannot be refused any more: writes are
    /// refused while the buffer holds more than it may.
    pub(super) fn set(&mut self, bytes: usize) {
        let mut held = self.held.0.lock();
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => held.grow(more),
            None => held.shrink(self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    /// Nothing, for another chunk of the same buffer.
    pub(super) fn sibling(&self) -> Self {
        self.held.none()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

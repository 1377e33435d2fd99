//! The memory of the process: one budget, divided into shares.
//!
//! What may become large is reserved here before it is allocated: [`MemoryBudget::try_reserve`]
//! either counts the bytes or refuses them, and the [`Reservation`] gives them back when it is
//! dropped. Callers reserve per body, per batch
//! or per block, not per sample: each reservation takes a lock.
//!
//! Each [`Share`] has a guarantee, a part of the budget. Beyond it a share borrows what others do
//! not use, but never more than half of that: the other half of every guarantee is there at once
//! when its owner needs it. A share that needs more of its guarantee than is free asks for it:
//! until it has it, no other share grows beyond its own guarantee, and the listeners of
//! [`MemoryBudget::recalled`] (buffer, caches) give back what they can.
//!
//! Invariants:
//! - all shares together never hold more than the sum of the guarantees;
//! - a quarter of the memory that is divided ([`UNCOUNTED`]) is in no share: the allocator's slack,
//!   and what is too small to be counted. Where that is not enough ([`MemoryBudget::observe`]),
//!   what can be refused or wait gets less.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Part of the memory that belongs to no share, in percent.
pub const UNCOUNTED: usize = 25;

/// Reservations that go on without room at a time. Merges run one after the other, so that one of
/// them never keeps a flush from making room.
const BEYOND: usize = 2;

/// What memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Request bodies as received.
    Bodies,
    /// Bodies inflated, and the rows parsed from them, until they are in the buffer.
    Parsing,
    /// Recent rows, series registries, and what waits for the write-ahead log.
    Buffer,
    /// Queries of every language, and their answers until they are written.
    Queries,
    /// Series indexes, footers and other things that can be read again.
    Caches,
    /// Flushes and merges.
    Merges,
}

impl Share {
    /// All shares, in the order of their numbers.
    pub const ALL: [Share; 6] = [
        Share::Bodies,
        Share::Parsing,
        Share::Buffer,
        Share::Queries,
        Share::Caches,
        Share::Merges,
    ];

    /// As metrics and errors name it.
    pub fn name(self) -> &'static str {
        match self {
            Share::Bodies => "bodies",
            Share::Parsing => "parsing",
            Share::Buffer => "buffer",
            Share::Queries => "queries",
            Share::Caches => "caches",
            Share::Merges => "merges",
        }
    }

    /// Whether its limit shrinks by the memory that is in no share: what it holds can be computed
    /// or read again.
    fn yields(self) -> bool {
        matches!(self, Share::Queries | Share::Caches | Share::Merges)
    }

    /// Its guarantee, in percent of the memory that is divided.
    pub fn percent(self) -> usize {
        match self {
            Share::Bodies => 5,
            Share::Parsing => 10,
            Share::Buffer => 20,
            Share::Queries => 20,
            Share::Caches => 10,
            Share::Merges => 10,
        }
    }
}

/// A reservation that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} more bytes are not free: the share \"{}\" of the memory holds {used} bytes and may \
     have {limit} now (setting memory_bytes)",
    share.name()
)]
pub struct OutOfMemory {
    /// The share that was asked.
    pub share: Share,
    /// Bytes that were asked for.
    pub wanted: usize,
    /// Bytes that the share holds.
    pub used: usize,
    /// Bytes that it may hold at present.
    pub limit: usize,
}

/// How one share stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareState {
    /// Bytes that it may always have.
    pub guaranteed: usize,
    /// Bytes that it holds.
    pub used: usize,
    /// Most bytes that it held so far.
    pub peak: usize,
    /// Reservations that wait at present.
    pub waiting: usize,
    /// Reservations that were refused so far.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    state: ShareState,
    /// Never more than this, whatever is free.
    cap: usize,
    /// Whether it waits for a part of its guarantee that others have.
    recalls: bool,
}

/// The memory of the process. See the module.
#[derive(Debug)]
pub struct MemoryBudget {
    accounts: Mutex<Accounts>,
    freed: Notify,
    recalled: Notify,
    /// Held by what goes on without room.
    beyond: Arc<Semaphore>,
}

#[derive(Debug)]
struct Accounts {
    of: [Account; Share::ALL.len()],
    /// Bytes that the process holds beyond what was counted and what may go uncounted.
    excess: usize,
}

impl MemoryBudget {
    /// A budget of a process that may use `memory_bytes` for everything but its code and stacks.
    pub fn new(memory_bytes: usize) -> Self {
        let accounts = Share::ALL.map(|share| Account {
            state: ShareState {
                guaranteed: memory_bytes / 100 * share.percent(),
                ..ShareState::default()
            },
            cap: usize::MAX,
            recalls: false,
        });
        Self {
            accounts: Mutex::new(Accounts {
                of: accounts,
                excess: 0,
            }),
            freed: Notify::new(),
            recalled: Notify::new(),
            beyond: Arc::new(Semaphore::new(BEYOND)),
        }
    }

    /// One that refuses nothing, for tests and tools.
    pub fn unlimited() -> Arc<Self> {
        Arc::new(Self::new(usize::MAX / 2))
    }

    /// Bounds a share to `bytes`, whatever is free.
    #[must_use]
    pub fn with_cap(self, share: Share, bytes: usize) -> Self {
        {
            let mut accounts = self.accounts.lock();
            let account = &mut accounts.of[share as usize];
            account.cap = bytes;
            account.state.guaranteed = account.state.guaranteed.min(bytes);
        }
        self
    }

    /// Counts bytes, or refuses them.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the share may not have so much now. It is counted as a refusal.
    pub fn try_reserve(
        self: &Arc<Self>,
        share: Share,
        bytes: usize,
    ) -> Result<Reservation, OutOfMemory> {
        let mut reservation = self.empty(share);
        reservation.try_grow(bytes)?;
        Ok(reservation)
    }

    /// A reservation of nothing, to grow.
    pub fn empty(self: &Arc<Self>, share: Share) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            share,
            bytes: 0,
            _beyond: None,
        }
    }

    /// As [`try_reserve`](Self::try_reserve), but waits until there is room. What can never fit is
    /// refused at once. To be bounded by the caller's own timeout.
    ///
    /// # Errors
    /// [`OutOfMemory`] if even an idle process could not give so much.
    pub async fn reserve(
        self: &Arc<Self>,
        share: Share,
        bytes: usize,
    ) -> Result<Reservation, OutOfMemory> {
        let mut waiting: Option<Waiting> = None;
        loop {
            // Asked for before the attempt, so that nothing freed in between is missed.
            let freed = self.freed.notified();
            {
                let mut accounts = self.accounts.lock();
                match take(&mut accounts, share, bytes) {
                    Ok(()) => {
                        return Ok(Reservation {
                            budget: Arc::clone(self),
                            share,
                            bytes,
                            _beyond: None,
                        });
                    }
                    Err(refused) if bytes > most(&accounts, share) => {
                        accounts.of[share as usize].state.refused += 1;
                        return Err(refused);
                    }
                    Err(_) if waiting.is_none() => {
                        accounts.of[share as usize].state.waiting += 1;
                        waiting = Some(Waiting(self, share));
                    }
                    Err(_) => {}
                }
            }
            self.recalled.notify_waiters();
            freed.await;
        }
    }

    /// As [`reserve`](Self::reserve) for work that must be done: after `patience` the bytes are
    /// counted whether or not there is room, for at most two such reservations at a time.
    pub async fn reserve_within(
        self: &Arc<Self>,
        share: Share,
        bytes: usize,
        patience: Duration,
    ) -> Reservation {
        if let Ok(Ok(reservation)) =
            tokio::time::timeout(patience, self.reserve(share, bytes)).await
        {
            return reservation;
        }
        tokio::select! {
            biased;
            Ok(reservation) = self.reserve(share, bytes) => reservation,
            beyond = Arc::clone(&self.beyond).acquire_owned() => {
                let mut reservation = self.empty(share);
                reservation.grow(bytes);
                // The semaphore is never closed.
                reservation._beyond = beyond.ok();
                reservation
            }
        }
    }

    /// Compares with what the process holds as the system counts it: what is neither counted nor
    /// within the part for it is taken from what queries, caches and merges may have more.
    /// `memory_bytes` is what the process may hold in all.
    pub fn observe(&self, resident: usize, memory_bytes: usize) {
        let mut accounts = self.accounts.lock();
        let uncounted = resident.saturating_sub(used(&accounts));
        let may_be = memory_bytes.saturating_sub(total(&accounts));
        let before = accounts.excess;
        accounts.excess = uncounted.saturating_sub(may_be);
        let has_shrunk = accounts.excess < before;
        drop(accounts);
        if has_shrunk {
            self.freed.notify_waiters();
        }
    }

    /// Returns when a share lacks a part of its guarantee: holders of what can be given back should
    /// give it back.
    pub async fn recalled(&self) {
        self.recalled.notified().await;
    }

    /// How a share stands.
    pub fn state(&self, share: Share) -> ShareState {
        self.accounts.lock().of[share as usize].state
    }

    /// Bytes that a share may hold at present.
    pub fn limit(&self, share: Share) -> usize {
        limit(&self.accounts.lock(), share)
    }

    /// Most bytes that a share can ever hold: when no other holds anything.
    pub fn most(&self, share: Share) -> usize {
        most(&self.accounts.lock(), share)
    }

    /// Bytes that all shares hold.
    pub fn used(&self) -> usize {
        used(&self.accounts.lock())
    }
}

fn used(accounts: &Accounts) -> usize {
    accounts.of.iter().map(|account| account.state.used).sum()
}

fn total(accounts: &Accounts) -> usize {
    accounts.of.iter().fold(0, |sum, account| {
        sum.saturating_add(account.state.guaranteed)
    })
}

fn most(accounts: &Accounts, share: Share) -> usize {
    let own = accounts.of[share as usize].state.guaranteed;
    own.saturating_add((total(accounts) - own) / 2)
        .min(accounts.of[share as usize].cap)
}

/// What a share may hold now: its guarantee, and half of what others leave of theirs unless one of
/// them needs it.
fn limit(accounts: &Accounts, share: Share) -> usize {
    let account = &accounts.of[share as usize];
    let mut unused = 0usize;
    for other in Share::ALL.into_iter().filter(|other| *other != share) {
        let other = &accounts.of[other as usize];
        if other.recalls {
            return account.state.guaranteed;
        }
        unused = unused.saturating_add(other.state.guaranteed.saturating_sub(other.state.used));
    }
    account
        .state
        .guaranteed
        .saturating_add(unused / 2)
        .min(account.cap)
}

fn take(accounts: &mut Accounts, share: Share, bytes: usize) -> Result<(), OutOfMemory> {
    let limit = limit(accounts, share);
    let mut free = total(accounts).saturating_sub(used(accounts));
    if share.yields() {
        free = free.saturating_sub(accounts.excess);
    }
    let account = &mut accounts.of[share as usize];
    let wanted = account.state.used.saturating_add(bytes);
    if wanted > limit || bytes > free {
        account.recalls |= wanted <= account.state.guaranteed;
        return Err(OutOfMemory {
            share,
            wanted: bytes,
            used: account.state.used,
            limit: limit.min(account.state.used.saturating_add(free)),
        });
    }
    account.recalls &= account.state.waiting > 0;
    account.state.used = wanted;
    account.state.peak = account.state.peak.max(wanted);
    Ok(())
}

/// A reservation that waits, as `/metrics` counts it.
struct Waiting<'a>(&'a MemoryBudget, Share);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut accounts = self.0.accounts.lock();
        let account = &mut accounts.of[self.1 as usize];
        account.state.waiting -= 1;
        if account.state.waiting == 0 {
            account.recalls = false;
        }
    }
}

/// Bytes that are counted as used until this is dropped.
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    share: Share,
    bytes: usize,
    /// Of one that there was no room for.
    _beyond: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes, self.share.name())
    }
}

impl Reservation {
    /// Bytes that are counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts more bytes, or refuses them.
    ///
    /// # Errors
    /// [`OutOfMemory`]; then nothing has changed.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let mut accounts = self.budget.accounts.lock();
        if let Err(refused) = take(&mut accounts, self.share, bytes) {
            let account = &mut accounts.of[self.share as usize];
            account.state.refused += 1;
            let recalls = account.recalls;
            account.recalls &= account.state.waiting > 0;
            drop(accounts);
            if recalls {
                self.budget.recalled.notify_waiters();
            }
            return Err(refused);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Counts bytes that are there already, whether or not there is room: for what cannot be
    /// undone. Growth elsewhere is refused until the excess is gone.
    pub fn grow(&mut self, bytes: usize) {
        let mut accounts = self.budget.accounts.lock();
        let state = &mut accounts.of[self.share as usize].state;
        state.used += bytes;
        state.peak = state.peak.max(state.used);
        self.bytes += bytes;
    }

    /// Gives bytes back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        self.budget.accounts.lock().of[self.share as usize]
            .state
            .used -= bytes;
        self.budget.freed.notify_waiters();
    }

    /// Counts `bytes` in all from now on.
    ///
    /// # Errors
    /// [`OutOfMemory`] if that is more than before and too much; then nothing has changed.
    pub fn try_resize(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.try_grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    /// A part of this reservation as one of its own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: Arc::clone(&self.budget),
            share: self.share,
            bytes,
            _beyond: None,
        }
    }

    /// Adds another reservation of the same share to this one.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert!(self.share == other.share);
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests;

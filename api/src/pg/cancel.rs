//! Requests to end what another connection runs.
//!
//! They come on a connection of their own, with the number and the secret of the other one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use super::error::{PgError, code};

/// Connections that may be asked to end what they run.
#[derive(Debug, Default)]
pub struct Cancels {
    open: Mutex<HashMap<(i32, i32), Arc<Cancel>>>,
    last_pid: AtomicI32,
}

/// What a connection is told.
#[derive(Debug, Default)]
pub struct Cancel {
    is_asked: AtomicBool,
    bell: Notify,
}

impl Cancel {
    /// What is to come has not been cancelled.
    pub fn clear(&self) {
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// Waits until the statement is to end.
    pub async fn asked(&self) {
        loop {
            let rung = self.bell.notified();
            if self.is_asked.load(Ordering::Relaxed) {
                return;
            }
            rung.await;
        }
    }

    fn ask(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
        self.bell.notify_waiters();
    }
}

/// A connection among those that may be asked.
#[derive(Debug)]
pub struct Registered {
    cancels: Arc<Cancels>,
    pub pid: i32,
    pub key: i32,
    pub cancel: Arc<Cancel>,
}

impl Cancels {
    /// A new connection, with a number and a secret.
    pub fn register(self: &Arc<Self>) -> Result<Registered, PgError> {
        let mut bytes = [0; 4];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| PgError::fatal(code::INTERNAL, "the system gives no random numbers"))?;
        let key = i32::from_be_bytes(bytes);
        let pid = self
            .last_pid
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1)
            & i32::MAX;
        let cancel = Arc::<Cancel>::default();
        self.open.lock().insert((pid, key), Arc::clone(&cancel));
        Ok(Registered {
            cancels: Arc::clone(self),
            pid,
            key,
            cancel,
        })
    }

    /// Ends what a connection runs, if there is one of the number and the secret.
    pub fn cancel(&self, pid: i32, key: i32) {
        let found = self.open.lock().get(&(pid, key)).cloned();
        if let Some(cancel) = found {
            cancel.ask();
        }
    }
}

#[cfg(test)]
impl Cancels {
    /// The numbers and the secrets of all, for tests.
    pub fn all(&self) -> Vec<(i32, i32)> {
        self.open.lock().keys().copied().collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.open.lock().remove(&(self.pid, self.key));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn only_who_knows_the_secret_cancels() {
        let cancels = Arc::<Cancels>::default();
        let (one, other) = (cancels.register().unwrap(), cancels.register().unwrap());
        assert_ne!(one.pid, other.pid);
        let is_asked = |of: &Registered| of.cancel.asked().now_or_never().is_some();
        cancels.cancel(one.pid, one.key.wrapping_add(1));
        cancels.cancel(one.pid + 7, one.key);
        assert!(!is_asked(&one));
        cancels.cancel(one.pid, one.key);
        assert!(is_asked(&one) && !is_asked(&other));
        one.cancel.clear();
        assert!(!is_asked(&one));
        let (pid, key) = (one.pid, one.key);
        drop(one);
        cancels.cancel(pid, key);
        assert_eq!(cancels.open.lock().len(), 1);
    }
}

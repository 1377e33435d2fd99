//! Panics of simulated tasks are violations: the runtime swallows them, so they are noted by the
//! hook.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on panics of this thread are noted and not printed.
pub fn note() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_noted = PANICS.with_borrow_mut(|panics| {
                panics
                    .as_mut()
                    .map(|panics| panics.push(info.to_string()))
                    .is_some()
            });
            if !is_noted {
                before(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// Panics are printed again.
pub fn stop() {
    PANICS.set(None);
}

/// The first one that was noted.
pub fn first() -> Option<String> {
    PANICS.with_borrow(|panics| panics.as_ref().and_then(|panics| panics.first().cloned()))
}

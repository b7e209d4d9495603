//! Panics that are caught on purpose and answered as a value: of a rule that meets a row or a command which can't be right. It never catches
//! one that nobody answers for.

use crate::load::panic_text;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many [`caught`] work on this thread, one within another.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// One [`caught`] that works; it counts until it is dropped.
struct Within;

impl Within {
    fn enter() -> Within {
        DEPTH.set(DEPTH.get() + 1);
        Within
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Does what may panic, and gives what its panic said. Whatever `work` changed is good for nothing then.
///
/// # Errors
/// What the panic said.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let _within = Within::enter();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panic_text(&*payload))
}

/// Whether a panic on this thread would be answered by somebody who caught it on purpose, so that a panic hook need not tell of it.
pub fn is_catching() -> bool {
    DEPTH.get() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_while_it_is_caught_and_not_after() {
        assert!(!is_catching());
        let done = caught(|| {
            let within = caught(|| -> u8 { panic!("{}", is_catching()) });
            (within, is_catching())
        });
        assert_eq!(done, Ok((Err("true".to_owned()), true)), "the outer one still catches");
        assert!(!is_catching());
        // Others on other threads are nobody's.
        assert_eq!(caught(|| std::thread::spawn(is_catching).join().expect("it ends")), Ok(false));
    }
}

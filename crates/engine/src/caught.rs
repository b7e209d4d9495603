//! Panics that are caught on purpose and answered as a value: of a rule that meets a row or a command which can't be right. It never catches
//! one that nobody answers for.

use crate::load::panic_text;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::path::{Component, Path};

thread_local! {
    /// How many [`caught`] work on this thread, one within another.
    static DEPTH: Cell<u32> = const { Cell::new(0) };

    /// Where the last panic of this thread that is caught here began, as a panic hook saw it.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
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

/// Does what may panic, and gives what its panic said, and where it began if the panic hook says so with [`note_place`]. Whatever `work` changed
/// is good for nothing then.
///
/// # Errors
/// What the panic said, and its place.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let _within = Within::enter();
    // One that was never asked for is of another panic.
    drop(PLACE.take());
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let what = panic_text(&*payload);
        match PLACE.take() {
            Some(place) => format!("{what}, at {place}"),
            None => what,
        }
    })
}

/// Whether a panic on this thread would be answered by somebody who caught it on purpose, so that a panic hook need not tell of it.
pub fn is_catching() -> bool {
    DEPTH.get() > 0
}

/// Says where the panic that is under way on this thread began: only a panic hook knows that, and without it a defect that is answered as an
/// error would have no place.
pub fn note_place(location: &Location<'_>) {
    // A thread that ends may have given it up already; and a hook must not panic.
    let place = format!("{}:{}", of_package(location.file()), location.line());
    let _ = PLACE.try_with(|kept| kept.set(Some(place)));
}

/// A file's path as it is in its package: where that was built is nobody's business.
fn of_package(file: &str) -> String {
    let path = Path::new(file);
    if !path.is_absolute() {
        return file.to_owned();
    }
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    let package = names.iter().rposition(|name| name == "src").unwrap_or(names.len()).saturating_sub(1);
    names[package..].join("/")
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

    #[test]
    fn a_place_that_the_hook_noted_is_told_with_its_own_panic_and_no_other() {
        // As a hook does it, while the panic begins.
        let (line, resumed) = (line!() + 2, |words: &'static str| -> () { std::panic::resume_unwind(Box::new(words)) });
        let done = caught(|| {
            note_place(Location::caller());
            resumed("a sum overflows")
        });
        assert_eq!(done, Err(format!("a sum overflows, at {}:{line}", file!())));
        note_place(Location::caller());
        assert_eq!(caught(|| resumed("another")), Err("another".to_owned()), "of a panic that nobody caught here");
        let done = caught(|| {
            let within = caught(|| {
                note_place(Location::caller());
                resumed("within");
            });
            assert!(within.is_err_and(|what| what.starts_with("within, at ")));
            resumed("of the outer one")
        });
        assert_eq!(done, Err("of the outer one".to_owned()));
    }

    #[test]
    fn a_place_does_not_tell_where_a_package_was_built() {
        assert_eq!(of_package("crates/core/src/ledger.rs"), "crates/core/src/ledger.rs");
        assert_eq!(
            of_package("/home/ann/.cargo/registry/src/index-1/num-1.0.2/src/add/carry.rs"),
            "num-1.0.2/src/add/carry.rs"
        );
        assert_eq!(of_package("/rustc/0123/library/core/src/num/mod.rs"), "core/src/num/mod.rs");
        assert_eq!(of_package("/home/ann/build.rs"), "build.rs");
        assert_eq!(of_package("/src/main.rs"), "src/main.rs");
        assert_eq!(of_package("/"), "");
    }
}

//! Work on secrets whose stack is overwritten when it ends, because libraries leave copies of keys there. It can't wipe what such work
//! returns: a secret that outlives it lies in a box, which moves without leaving bytes behind.

use std::hint::black_box;

/// Bytes that are overwritten. Opening a key store and deriving from it, the deepest work of this crate, takes less than a quarter of it without
/// optimisation; a thread has 2 MiB at least.
const DEPTH_BYTES: usize = 256 * 1024;

/// How far below its caller work begins, so that what overwrites begins above it: that has a frame of its own, which is not overwritten.
const GAP_BYTES: usize = 1024;

/// Does `work`, and overwrites the stack on which it was done, also when it panics.
pub fn wiped<T>(work: impl FnOnce() -> T) -> T {
    let _wipe = Wipe;
    below(work)
}

struct Wipe;

impl Drop for Wipe {
    fn drop(&mut self) {
        overwrite();
    }
}

/// Has the same place on the stack as what overwrites, and keeps the upper end of it free.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    let gap = [0_u8; GAP_BYTES];
    black_box(&gap);
    let done = deeper(work);
    black_box(&gap);
    done
}

/// A frame of its own, which the work's values can't leave for the one above.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite() {
    let bytes = [0_u8; DEPTH_BYTES];
    // Somebody might look at them: so they are written.
    black_box(&bytes);
}

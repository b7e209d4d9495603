//! The one source of randomness for keys: the operating system. It must never fall back to anything else, and never
//! return bytes that look wrong.

use zeroize::{Zeroize, Zeroizing};

/// Bytes of one trial draw.
const TRIAL_SIZE: usize = 32;
/// Trial draws before each real one: enough to meet a source that cycles through a few stored blocks.
const TRIALS: usize = 8;
/// A source that fills only part of a buffer leaves its end as it was; eight bytes are so by chance once in 2^64 draws.
const TAIL_SIZE: usize = 8;

/// Why no randomness was handed out. Nothing is generated then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntropyError {
    /// The operating system gave an error.
    #[error("the operating system gave no randomness")]
    Unavailable,
    /// Part of the buffer was left as it was.
    #[error("the operating system's randomness came short")]
    Short,
    /// All bytes were equal.
    #[error("the operating system's randomness is constant")]
    Constant,
    /// The same bytes came twice.
    #[error("the operating system's randomness repeats")]
    Repeated,
}

impl EntropyError {
    /// The stable code of this fault.
    pub fn code(self) -> &'static str {
        match self {
            EntropyError::Unavailable => "entropy_unavailable",
            EntropyError::Short => "entropy_short",
            EntropyError::Constant => "entropy_constant",
            EntropyError::Repeated => "entropy_repeated",
        }
    }
}

/// `N` fresh random bytes, 16 at least.
///
/// # Errors
/// [`EntropyError`], when the source fails or its output can't be random.
pub fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, EntropyError> {
    draw(&mut |buffer| getrandom::fill(buffer).map_err(|_| ()))
}

/// The start-up test: draws and throws away.
///
/// # Errors
/// [`EntropyError`]; the process must not go on then.
pub fn self_test() -> Result<(), EntropyError> {
    random_bytes::<TRIAL_SIZE>().map(|_| ())
}

/// Every draw goes through here, and each repeats the self-test: a source may break after start-up.
fn draw<const N: usize>(fill: &mut dyn FnMut(&mut [u8]) -> Result<(), ()>) -> Result<Zeroizing<[u8; N]>, EntropyError> {
    const { assert!(N >= 2 * TAIL_SIZE, "shorter draws can't be told from broken ones") };
    let mut trials: Vec<[u8; TRIAL_SIZE]> = Vec::with_capacity(TRIALS);
    for number in 0..TRIALS {
        // Alternating marks: whatever a short fill leaves behind differs from what it would have to be by chance.
        let mark = if number % 2 == 0 { 0x00 } else { 0xff };
        let trial = checked::<TRIAL_SIZE>(fill, mark)?;
        if trials.contains(&trial) {
            return Err(EntropyError::Repeated);
        }
        trials.push(*trial);
    }
    let bytes = checked::<N>(fill, 0x00)?;
    let shared = N.min(TRIAL_SIZE);
    let repeated = trials.iter().any(|trial| trial[..shared] == bytes[..shared]);
    trials.iter_mut().for_each(Zeroize::zeroize);
    if repeated { Err(EntropyError::Repeated) } else { Ok(bytes) }
}

fn checked<const N: usize>(
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), ()>,
    mark: u8,
) -> Result<Zeroizing<[u8; N]>, EntropyError> {
    let mut bytes = Zeroizing::new([mark; N]);
    fill(bytes.as_mut_slice()).map_err(|()| EntropyError::Unavailable)?;
    let first = bytes[0];
    if first != mark && bytes.iter().all(|byte| *byte == first) {
        return Err(EntropyError::Constant);
    }
    if bytes[N - TAIL_SIZE..].iter().all(|byte| *byte == mark) {
        return Err(EntropyError::Short);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(mut fill: impl FnMut(&mut [u8]) -> Result<(), ()>) -> Option<EntropyError> {
        draw::<32>(&mut fill).err()
    }

    fn block(number: u64, buffer: &mut [u8]) {
        for (place, byte) in buffer.iter_mut().enumerate() {
            *byte = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (place % 8 * 8)) as u8 ^ place as u8;
        }
    }

    #[test]
    fn the_system_passes_and_never_gives_the_same_twice() {
        self_test().expect("this machine has randomness");
        let first = random_bytes::<32>().expect("randomness");
        let second = random_bytes::<32>().expect("randomness");
        assert_ne!(*first, *second);
    }

    #[test]
    fn a_source_that_fails_at_any_draw_is_refused() {
        for good in 0..=TRIALS as u64 {
            let mut calls = 0;
            let refused = refusal(|buffer| {
                calls += 1;
                block(calls, buffer);
                if calls > good { Err(()) } else { Ok(()) }
            });
            assert_eq!(refused, Some(EntropyError::Unavailable), "after {good} good draws");
        }
    }

    #[test]
    fn a_source_that_comes_short_is_refused() {
        for filled in [0usize, 1, 16, 24] {
            let mut calls = 0;
            let refused = refusal(|buffer| {
                calls += 1;
                block(calls, &mut buffer[..filled]);
                Ok(())
            });
            assert_eq!(refused, Some(EntropyError::Short), "{filled} bytes filled");
        }
    }

    #[test]
    fn a_constant_source_is_refused() {
        for byte in [0x01u8, 0x7f, 0xaa] {
            assert_eq!(
                refusal(|buffer| {
                    buffer.fill(byte);
                    Ok(())
                }),
                Some(EntropyError::Constant)
            );
        }
        // A source stuck at a mark is caught too, as short.
        assert_eq!(
            refusal(|buffer| {
                buffer.fill(0);
                Ok(())
            }),
            Some(EntropyError::Short)
        );
        assert_eq!(
            refusal(|buffer| {
                buffer.fill(0xff);
                Ok(())
            }),
            Some(EntropyError::Constant)
        );
    }

    #[test]
    fn a_source_that_repeats_is_refused() {
        for period in 1..=TRIALS as u64 {
            let mut calls = 0;
            let refused = refusal(|buffer| {
                block(1 + calls % period, buffer);
                calls += 1;
                Ok(())
            });
            assert_eq!(refused, Some(EntropyError::Repeated), "period {period}");
        }
    }
}

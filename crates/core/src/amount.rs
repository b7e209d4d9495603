//! Amounts: whole numbers of an asset's smallest unit, and their one text form. Never a float, never negative.

use crate::wire::{Kind, Reader, Schema, Value, WireError};

/// The most decimals an asset may have. Ether and most tokens have 18; 36 leaves room and keeps 10^decimals within 128 bits.
pub const DECIMALS_MAX: u8 = 36;

/// A quantity of one asset, in its smallest unit (satoshi, wei, cent). Which asset is said by what holds the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u128);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the form `0`, `12` or `12.34`: digits, at most one point with digits on both sides, no leading zeros.
    #[error("an amount is written as digits, with at most one decimal point, such as 0.25")]
    Invalid,
    /// More decimals than the asset has.
    #[error("the amount has more decimals than the asset's {decimals}")]
    TooPrecise {
        /// The asset's decimals.
        decimals: u8,
    },
    /// Above what 128 bits hold.
    #[error("the amount is too large")]
    TooLarge,
}

impl AmountError {
    /// The stable code of this error.
    pub fn code(self) -> &'static str {
        match self {
            AmountError::Invalid => "amount_invalid",
            AmountError::TooPrecise { .. } => "amount_precision",
            AmountError::TooLarge => "amount_too_large",
        }
    }
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// The largest amount.
    pub const MAX: Amount = Amount(u128::MAX);

    /// An amount of `units` of the asset's smallest unit.
    pub const fn new(units: u128) -> Self {
        Amount(units)
    }
    /// The number of smallest units.
    pub const fn units(self) -> u128 {
        self.0
    }
    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
    /// The sum, or `None` above 128 bits.
    #[must_use]
    pub const fn checked_add(self, other: Amount) -> Option<Amount> {
        match self.0.checked_add(other.0) {
            Some(units) => Some(Amount(units)),
            None => None,
        }
    }
    /// The difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Amount) -> Option<Amount> {
        match self.0.checked_sub(other.0) {
            Some(units) => Some(Amount(units)),
            None => None,
        }
    }
    /// The difference, or zero where it would be below.
    #[must_use]
    pub const fn saturating_sub(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0))
    }

    /// Reads the one text form, `^(0|[1-9][0-9]*)(\.[0-9]{1,decimals})?$`, bytes only.
    ///
    /// # Errors
    /// [`AmountError::Invalid`], then [`AmountError::TooPrecise`], then [`AmountError::TooLarge`].
    pub fn parse(text: &str, decimals: u8) -> Result<Amount, AmountError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || (whole.len() > 1 && whole.starts_with('0')) || !fraction.is_none_or(digits) {
            return Err(AmountError::Invalid);
        }
        let fraction = fraction.unwrap_or("");
        if fraction.len() > usize::from(decimals) {
            return Err(AmountError::TooPrecise { decimals });
        }
        let zeros = usize::from(decimals) - fraction.len();
        let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', zeros));
        let mut units = 0u128;
        for digit in digits {
            units = units
                .checked_mul(10)
                .and_then(|units| units.checked_add(u128::from(digit - b'0')))
                .ok_or(AmountError::TooLarge)?;
        }
        Ok(Amount(units))
    }

    /// The amount's text with all of the asset's decimals, such as `0.00010000`; [`Amount::parse`] reads it back.
    pub fn format(self, decimals: u8) -> String {
        let decimals = usize::from(decimals);
        let digits = format!("{:0width$}", self.0, width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }
}

impl std::iter::Sum for Amount {
    /// # Panics
    /// Above 128 bits: sums of amounts that each passed a check never reach it.
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).expect("a sum of amounts fits 128 bits"))
    }
}

impl Value for Amount {
    const KIND: Kind = Kind::Bytes;
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        u128::read(reader).map(Amount)
    }
    fn schema(schema: &mut Schema) -> String {
        <u128 as Value>::schema(schema)
    }
    fn note() -> String {
        <u128 as Value>::note()
    }
}

/// `a * b / c` with a 256-bit product: the quotient rounded down, and the remainder.
/// `None` where `c` is zero or the quotient exceeds 128 bits.
pub fn multiply_divide(a: u128, b: u128, c: u128) -> Option<(u128, u128)> {
    if c == 0 {
        return None;
    }
    let (high, low) = multiply_wide(a, b);
    if high == 0 {
        return Some((low / c, low % c));
    }
    if high >= c {
        return None;
    }
    // Schoolbook long division, bit by bit: this path is for products beyond 128 bits only.
    let (mut remainder, mut quotient) = (high, 0u128);
    for bit in (0..128).rev() {
        let carry = remainder >> 127;
        remainder = remainder << 1 | (low >> bit & 1);
        quotient <<= 1;
        if carry == 1 || remainder >= c {
            remainder = remainder.wrapping_sub(c);
            quotient |= 1;
        }
    }
    Some((quotient, remainder))
}

/// Compares the products `a * b` and `c * d` exactly, in 256 bits.
pub fn compare_products(a: u128, b: u128, c: u128, d: u128) -> std::cmp::Ordering {
    multiply_wide(a, b).cmp(&multiply_wide(c, d))
}

fn multiply_wide(a: u128, b: u128) -> (u128, u128) {
    const HALF: u128 = (1 << 64) - 1;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & HALF, b >> 64, b & HALF);
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 64);
    let middle_low = (middle & HALF) + a_low * b_high;
    (a_high * b_high + (middle >> 64) + (middle_low >> 64), middle_low << 64 | (low & HALF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_grammar_is_read_and_everything_else_refused() {
        for (text, units) in [("0", 0), ("0.00000001", 1), ("21000000", 2_100_000_000_000_000), ("1.5", 150_000_000)] {
            assert_eq!(Amount::parse(text, 8), Ok(Amount::new(units)), "{text}");
        }
        let bad = [
            "",
            ".",
            "1.",
            ".1",
            "+1",
            "-1",
            "-0",
            "01",
            "00",
            "1e2",
            "1E8",
            "0x10",
            "1_000",
            "1,000.00",
            "1.000,00",
            " 1",
            "1 ",
            "1\u{a0}",
            "\u{ff10}\u{ff11}",
            "\u{967}",
            "1.2.3",
            "NaN",
            "Infinity",
            "1.-2",
            "\u{200f}1",
        ];
        for text in bad {
            assert_eq!(Amount::parse(text, 8), Err(AmountError::Invalid), "{text:?}");
        }
        assert_eq!(Amount::parse("0.000000001", 8), Err(AmountError::TooPrecise { decimals: 8 }));
        assert_eq!(Amount::parse("340282366920938463463374607431768211456", 0), Err(AmountError::TooLarge));
    }

    proptest! {
        #[test]
        fn text_round_trips(units: u128, decimals in 0..=DECIMALS_MAX) {
            let amount = Amount::new(units);
            prop_assert_eq!(Amount::parse(&amount.format(decimals), decimals), Ok(amount));
        }

        #[test]
        fn division_restores_the_product(a: u128, b: u128, c in 1u128..) {
            if let Some((quotient, remainder)) = multiply_divide(a, b, c) {
                prop_assert!(remainder < c);
                let (high, low) = multiply_wide(quotient, c);
                let (low, carry) = low.overflowing_add(remainder);
                prop_assert_eq!((high + u128::from(carry), low), multiply_wide(a, b));
            } else {
                prop_assert!(multiply_wide(a, b).0 >= c);
            }
        }
    }
}

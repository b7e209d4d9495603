//! Whole numbers of 288 bits by the arithmetic of schools, so that nothing in the second ledger ever wraps or saturates: what
//! is too much is seen after it was calculated. It knows no money.

use std::ops::{Add, Div, Mul, Sub};

/// Digits of base 2^32: enough for a product of two numbers of 128 bits, and some more.
const DIGITS: usize = 9;

/// A number; its most significant digit first, so that numbers compare as their digits do.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Big([u32; DIGITS]);

impl Big {
    /// The most that an amount can be: 2^128 - 1.
    pub(crate) fn limit() -> Big {
        Big::from(u128::MAX)
    }

    /// The number, where an amount can be so much.
    pub(crate) fn fits(self) -> Option<u128> {
        let is_small = self <= Big::limit();
        is_small.then(|| self.0[DIGITS - 4..].iter().fold(0, |number, digit| number << 32 | u128::from(*digit)))
    }

    /// The quotient, rounded up.
    pub(crate) fn over(self, divisor: Big) -> Big {
        let below = self / divisor;
        if below * divisor == self { below } else { below + Big::from(1) }
    }

    fn bit(self, place: usize) -> bool {
        self.0[DIGITS - 1 - place / 32] >> (place % 32) & 1 == 1
    }
}

impl std::fmt::Debug for Big {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.fits() {
            Some(number) => write!(out, "{number}"),
            None => write!(out, "{:08x?}", self.0),
        }
    }
}

impl From<u128> for Big {
    fn from(number: u128) -> Big {
        let mut digits = [0; DIGITS];
        for (place, digit) in digits.iter_mut().rev().take(4).enumerate() {
            *digit = (number >> (32 * place)) as u32;
        }
        Big(digits)
    }
}

impl Add for Big {
    type Output = Big;
    fn add(self, other: Big) -> Big {
        let (mut sum, mut carry) = (Big::default(), 0);
        for place in (0..DIGITS).rev() {
            carry += u64::from(self.0[place]) + u64::from(other.0[place]);
            sum.0[place] = carry as u32;
            carry >>= 32;
        }
        assert_eq!(carry, 0, "a sum of more than {DIGITS} digits");
        sum
    }
}

impl Sub for Big {
    type Output = Big;
    fn sub(self, other: Big) -> Big {
        let (mut rest, mut borrowed) = (Big::default(), 0);
        for place in (0..DIGITS).rev() {
            let digit = i64::from(self.0[place]) - i64::from(other.0[place]) - borrowed;
            borrowed = i64::from(digit < 0);
            rest.0[place] = digit as u32;
        }
        assert_eq!(borrowed, 0, "less than nothing");
        rest
    }
}

impl Mul for Big {
    type Output = Big;
    fn mul(self, other: Big) -> Big {
        let mut product = Big::default();
        for (place, digit) in other.0.iter().rev().enumerate().filter(|(_, digit)| **digit != 0) {
            let (mut row, mut carry) = ([0; DIGITS], 0);
            for (column, own) in self.0.iter().rev().enumerate() {
                carry += u64::from(*own) * u64::from(*digit);
                match DIGITS.checked_sub(1 + column + place) {
                    Some(at) => row[at] = carry as u32,
                    None => assert_eq!(carry, 0, "a product of more than {DIGITS} digits"),
                }
                carry >>= 32;
            }
            product = product + Big(row);
        }
        product
    }
}

/// Bit by bit, as on paper; what is left over is dropped.
impl Div for Big {
    type Output = Big;
    fn div(self, divisor: Big) -> Big {
        assert_ne!(divisor, Big::default(), "nothing is divided by nothing");
        let (mut quotient, mut rest) = (Big::default(), Big::default());
        let first = (0..32 * DIGITS).rev().find(|place| self.bit(*place)).map_or(0, |place| place + 1);
        for place in (0..first).rev() {
            rest = rest + rest + Big::from(u128::from(self.bit(place)));
            if rest >= divisor {
                rest = rest - divisor;
                quotient.0[DIGITS - 1 - place / 32] |= 1 << (place % 32);
            }
        }
        quotient
    }
}

#[test]
fn numbers_are_added_multiplied_and_divided_beyond_128_bits() {
    let big = |number: u128| Big::from(number);
    let most = Big::limit();
    assert_eq!((most + big(1)).fits(), None);
    assert_eq!((most + big(1) - big(1)).fits(), Some(u128::MAX));
    assert_eq!(most * most / most, most);
    assert_eq!((most * most + big(1)).over(most), most + big(1));
    assert_eq!(most * big(0), big(0));
    assert_eq!((big(1 << 100) * big(1 << 100) / big(1 << 90)).fits(), Some(1 << 110));
    assert!(most * big(2) > most + big(u128::MAX - 1) && big(3) < big(1 << 32));
    for (number, divisor) in [(0u128, 7u128), (6, 7), (7, 7), (10u128.pow(38), 333), (u128::MAX, 10u128.pow(20) + 1)] {
        assert_eq!((big(number) / big(divisor)).fits(), Some(number / divisor));
        assert_eq!(big(number).over(big(divisor)).fits(), Some(number.div_ceil(divisor)));
    }
}

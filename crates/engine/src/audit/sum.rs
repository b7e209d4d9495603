//! Sums over many amounts. Each amount fits 128 bits, and a sum of them need not. It counts, and judges nothing.

use florin_core::amount::Amount;

/// A sum of amounts, as high and low part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sum(u64, u128);

impl Sum {
    /// The sum as an amount, where it is one.
    pub(super) fn amount(self) -> Option<Amount> {
        (self.0 == 0).then_some(Amount::new(self.1))
    }

    pub(super) fn add(&mut self, amount: Amount) {
        *self = self.plus(Sum(0, amount.units()));
    }

    pub(super) fn plus(self, other: Sum) -> Sum {
        let (low, carried) = self.1.overflowing_add(other.1);
        Sum(self.0.saturating_add(other.0).saturating_add(u64::from(carried)), low)
    }

    /// What is left after `other` is taken away; nothing where that is more.
    pub(super) fn less(self, other: Sum) -> Sum {
        if self <= other {
            return Sum::default();
        }
        let (low, borrowed) = self.1.overflowing_sub(other.1);
        Sum(self.0 - other.0 - u64::from(borrowed), low)
    }
}

impl From<Amount> for Sum {
    fn from(amount: Amount) -> Sum {
        Sum(0, amount.units())
    }
}

#[cfg(test)]
mod tests {
    use super::Sum;
    use florin_core::amount::Amount;

    fn sum<const N: usize>(amounts: [Amount; N]) -> Sum {
        amounts.into_iter().fold(Sum::default(), |sum, amount| sum.plus(amount.into()))
    }

    #[test]
    fn a_sum_goes_beyond_128_bits_and_comes_back() {
        let most = sum([Amount::MAX, Amount::MAX, Amount::new(3)]);
        assert_eq!(most.amount(), None);
        assert_eq!(
            most.less(Amount::MAX.into()).less(Amount::new(4).into()).amount(),
            Some(Amount::new(u128::MAX - 1))
        );
        assert_eq!(most.less(Amount::MAX.into()), sum([Amount::MAX, Amount::new(3)]));
        assert_eq!(Sum::from(Amount::new(1)).less(most), Sum::default(), "nothing is below nothing");
        assert!(Sum::from(Amount::MAX) < most);
    }
}

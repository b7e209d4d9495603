//! Quotes and exchanges: what was offered is no better for the customer than its price, and what was moved is what was offered. No price is quoted from and no quote accepted when the world's clock says that it is too late.

use super::proto::Message;
use super::{Auditor, Owner, fixed};
use std::collections::BTreeMap;

/// An offer.
#[derive(Debug, Clone)]
pub struct Quote {
    customer: [u8; 16],
    pair: (u64, u64),
    is_buy: bool,
    base: u128,
    quote: u128,
    /// From when on it is dead.
    expiry_ms: u64,
}

/// A product of 256 bits, as high and low half.
fn product(left: u128, right: u128) -> (u128, u128) {
    let half = u128::from(u64::MAX);
    let (a, b, c, d) = (left >> 64, left & half, right >> 64, right & half);
    let (low, middle, other, high) = (b * d, a * d, b * c, a * c);
    let carry = (low >> 64) + (middle & half) + (other & half);
    (high + (middle >> 64) + (other >> 64) + (carry >> 64), (carry << 64) | (low & half))
}

impl Auditor {
    pub(super) fn quote_offered(&mut self, body: &Message<'_>) -> Result<(), String> {
        let pair = body.message(3)?;
        let is_buy = body.number(4)? == 1;
        let (base, quote, spread) = (body.amount(5)?, body.amount(6)?, body.amount_or_zero(7)?);
        let price = body.message(9)?;
        let (quote_units, base_units) = (price.amount(2)?, price.amount(3)?);
        let middle = if is_buy { quote.checked_sub(spread) } else { quote.checked_add(spread) };
        let value = product(middle.ok_or("a margin exceeds its quote")?, base_units);
        let by_price = product(base, quote_units);
        let is_fair = if is_buy { value >= by_price } else { value <= by_price };
        if !is_fair {
            return Err("a quote is better than its price".into());
        }
        let price_ends = price.number(4)?.saturating_add(price.number(5)?);
        self.judge_time("a price was quoted from", |clock| clock <= price_ends)?;
        let pair = (pair.number(1)?, pair.number(2)?);
        let expiry_ms = body.number(8)?;
        let offer = Quote { customer: fixed(body.bytes(2)?)?, pair, is_buy, base, quote, expiry_ms };
        match self.quotes.insert(body.bytes(1)?.to_vec(), offer) {
            None => Ok(()),
            Some(_) => Err("a quote's id is used twice".into()),
        }
    }

    pub(super) fn quote_ended(&mut self, body: &Message<'_>) -> Result<(), String> {
        let quote = self.quotes.remove(body.bytes(1)?).ok_or("a quote ended that does not stand")?;
        if body.maybe_number(2) == Some(1) {
            self.judge_time("a quote was accepted", |clock| clock < quote.expiry_ms)?;
            if self.time_ms >= quote.expiry_ms {
                return Err("a quote was accepted after its expiry".into());
            }
            self.exchanged.push(quote);
        }
        Ok(())
    }

    /// Each exchange of a command moved exactly what was offered, on the customer's side; that the rest balances is conservation.
    pub(super) fn check_exchanges(&mut self) -> Result<(), String> {
        for quote in std::mem::take(&mut self.exchanged) {
            let owner = Owner::Customer(quote.customer);
            let of_asset =
                |asset| self.accounts.iter().find(|(_, account)| account.owner == owner && account.asset == asset);
            let moved = |asset| of_asset(asset).and_then(|(id, _)| self.moved.get(id)).copied().unwrap_or_default();
            let (base, paid) = (moved(quote.pair.0), moved(quote.pair.1));
            let is_right = if quote.is_buy {
                base == (0, quote.base) && paid == (quote.quote, 0)
            } else {
                base == (quote.base, 0) && paid == (0, quote.quote)
            };
            if !is_right {
                return Err(format!("an exchange moved {base:?} and {paid:?}, and {quote:?} was offered"));
            }
        }
        self.moved = BTreeMap::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::product;

    #[test]
    fn products_carry_into_the_high_half() {
        assert_eq!(product(3, 5), (0, 15));
        assert_eq!(product(u128::MAX, u128::MAX), (u128::MAX - 1, 1));
        assert_eq!(product(1 << 127, 2), (1, 0));
        assert_eq!(product((1 << 64) + 1, (1 << 64) + 1), (1, (1 << 65) + 1));
    }
}

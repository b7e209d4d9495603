//! Prices and quotes. Every division rounds for the house, and no exchange moves what its payer does not hold.

use super::{Draft, refusals};
use crate::amount::{Amount, compare_products, multiply_divide};
use crate::asset::{AssetKind, HaltAction};
use crate::broker::{Pair, Price, Quote, Side};
use crate::command::Outcome;
use crate::event::{Event, QuoteEnded};
use crate::id::{AssetId, CustomerId, LedgerTime, QuoteId};
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::State;
use std::cmp::Ordering;

/// The greatest number on either side of a price: one whole unit of an asset with the most decimals. A hundred times that
/// still fits 128 bits, which the bands below need.
pub const PRICE_UNITS_MAX: u128 = 10u128.pow(36);

/// The longest that a price may be good for, in milliseconds: a day, for prices that operators set by hand.
pub const PRICE_AGE_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// The longest that a quote may stand, in milliseconds: ten minutes. The house bears the market's risk for so long.
pub const QUOTE_MS_MAX: u64 = 10 * 60 * 1000;

/// The widest margin on either side, in hundredths of a percent: a fifth. A greater one is a slip of the keyboard.
pub const SPREAD_BP_MAX: u32 = 2_000;

/// The most that a price may be of the one before it, and the least as a fraction. Venues that took a price a hundred times
/// off executed at it; a true move of this size is let through by an operator who halts quoting first.
pub const PRICE_BAND: u128 = 10;

/// How far a pair's price may have moved, in percent of the quote's own, for the quote still to be accepted.
pub const ACCEPT_BAND_PERCENT: u128 = 5;

/// Hundredths of a percent in the whole.
const BP: u128 = 10_000;

refusals! {
    /// Why a price is not set.
    pub enum PriceRefusal {
        /// A pair of one asset with itself.
        PairInvalid => "pair_invalid", "a pair is of two assets";
        /// No asset has one of these ids.
        AssetUnknown => "asset_unknown", "there is no such asset";
        /// Customers hold no plain assets.
        AssetPlain => "asset_plain", "units of plain ledgers are not quoted";
        /// A side of the ratio is zero.
        PriceZero => "price_zero", "a price is more than nothing";
        /// A side of the ratio is above [`PRICE_UNITS_MAX`].
        PriceTooLarge => "price_too_large", "a side of the price is too large";
        /// The clock jumped and no operator has confirmed it: nobody can say how old the price is.
        TimeUnconfirmed => "time_unconfirmed", "the clock jumped; an operator must set it right or confirm it";
        /// The price is of a time to come.
        PriceAhead => "price_ahead", "the price is of a time to come";
        /// The same two assets have a price the other way round that is not too old: two that disagree would be an exchange that
        /// pays whoever goes round it, and no band compares them.
        PairReversed => "pair_reversed", "these two assets are priced the other way round";
        /// The price is older than the one in force.
        PriceOlder => "price_older", "a newer price is in force";
        /// Not between one millisecond and [`PRICE_AGE_MAX_MS`].
        AgeInvalid => "price_age_invalid", "a price is good for at least a millisecond and at most a day";
        /// Not between one millisecond and [`QUOTE_MS_MAX`].
        QuoteTimeInvalid => "quote_time_invalid", "a quote stands for at least a millisecond and at most ten minutes";
        /// Above [`SPREAD_BP_MAX`].
        SpreadTooLarge => "spread_too_large", "the margin is at most 2,000 hundredths of a percent";
        /// More than [`PRICE_BAND`] times the price in force, or less than that fraction, and quoting is not halted.
        OutOfBand => "price_out_of_band", "the price is too far from the one in force; halt quoting first if it is right";
    }
}
refusals! {
    /// Why no quote is offered.
    pub enum QuoteRefusal {
        /// The request has no id that the quote could bear.
        IdMissing => "id_missing", "a quote is asked for with a command id";
        /// None or both of the amounts are given.
        AmountsInvalid => "quote_amounts_invalid", "exactly one of the amounts is given";
        /// No customer has this id.
        CustomerUnknown => "customer_unknown", "there is no such customer";
        /// The pair has no price.
        PriceUnknown => "price_unknown", "this pair is not quoted";
        /// Quoting is halted for one of the assets.
        QuoteHalted => "quote_halted", "quoting is halted";
        /// The price is older than it may be.
        PriceStale => "price_stale", "the price is too old to quote from";
        /// The clock jumped and no operator has confirmed it: the price may be older than ledger time says.
        TimeUnconfirmed => "time_unconfirmed", "the clock jumped; an operator must set it right or confirm it";
        /// Nothing is asked for.
        AmountZero => "amount_zero", "an exchange moves more than nothing";
        /// After rounding one side would be nothing.
        TooSmall => "quote_too_small", "one side of the exchange would be nothing";
        /// One side exceeds 128 bits.
        TooLarge => "amount_too_large", "one side of the exchange is too large";
        /// The customer does not hold what the exchange would cost.
        InsufficientFunds => "insufficient_funds", "the customer holds less than the exchange costs";
        /// The house does not hold what the exchange would pay.
        InsufficientInventory => "inventory_insufficient", "the house can't fill this exchange now";
    }
}
refusals! {
    /// Why a quote is not executed.
    pub enum AcceptQuoteRefusal {
        /// There is no such quote, or it is another customer's: whoever asks learns nothing of others' quotes.
        QuoteUnknown => "quote_unknown", "there is no such quote";
        /// Its time is over.
        Expired => "quote_expired", "the quote has expired";
        /// The clock jumped and no operator has confirmed it: the quote may have expired without ledger time saying so.
        TimeUnconfirmed => "time_unconfirmed", "the clock jumped; an operator must set it right or confirm it";
        /// Quoting is halted for one of the assets.
        QuoteHalted => "quote_halted", "quoting is halted";
        /// The price moved by more than [`ACCEPT_BAND_PERCENT`] since the quote was made.
        PriceMoved => "price_moved", "the price has moved too far since the quote was made";
        /// The customer does not hold what the exchange costs.
        InsufficientFunds => "insufficient_funds", "the customer holds less than the exchange costs";
        /// The house does not hold what the exchange pays.
        InsufficientInventory => "inventory_insufficient", "the house can't fill this exchange now";
        /// An account's sums would exceed 128 bits.
        TooLarge => "amount_too_large", "the account's sums would exceed what an amount holds";
    }
}

/// Sets a pair's price. Quotes that stand keep the price they were made from.
pub(super) fn set_price(draft: &mut Draft<'_>, price: &Price) -> Result<Outcome, PriceRefusal> {
    let Pair { base, quote } = price.pair;
    if base == quote {
        return Err(PriceRefusal::PairInvalid);
    }
    for asset in [base, quote] {
        draft.state.assets.get(&asset).ok_or(PriceRefusal::AssetUnknown)?;
    }
    if [base, quote].iter().any(|asset| draft.state.assets[asset].kind == AssetKind::Plain) {
        return Err(PriceRefusal::AssetPlain);
    }
    let sides = [price.quote_units.units(), price.base_units.units()];
    if sides.contains(&0) {
        return Err(PriceRefusal::PriceZero);
    }
    if sides.iter().any(|&side| side > PRICE_UNITS_MAX) {
        return Err(PriceRefusal::PriceTooLarge);
    }
    if draft.state.clock_noted().is_some() {
        return Err(PriceRefusal::TimeUnconfirmed);
    }
    if price.as_of > draft.now {
        return Err(PriceRefusal::PriceAhead);
    }
    let reversed = draft.state.prices.get(&Pair { base: quote, quote: base });
    if reversed.is_some_and(|reversed| !is_stale(reversed, draft.now)) {
        return Err(PriceRefusal::PairReversed);
    }
    let before = draft.state.prices.get(&price.pair);
    if before.is_some_and(|before| price.as_of < before.as_of) {
        return Err(PriceRefusal::PriceOlder);
    }
    if !(1..=PRICE_AGE_MAX_MS).contains(&price.age_max_ms) {
        return Err(PriceRefusal::AgeInvalid);
    }
    if !(1..=QUOTE_MS_MAX).contains(&price.quote_ms) {
        return Err(PriceRefusal::QuoteTimeInvalid);
    }
    if price.spread_bp > SPREAD_BP_MAX {
        return Err(PriceRefusal::SpreadTooLarge);
    }
    let in_band = before.is_none_or(|before| is_within(price, before, (1, PRICE_BAND), (PRICE_BAND, 1)));
    if !in_band && !is_quoting_halted(draft.state, price.pair) {
        return Err(PriceRefusal::OutOfBand);
    }
    draft.emit(Event::PriceSet(price.clone()));
    Ok(Outcome::Done(true))
}

/// Whether `price` is between `lowest` and `highest` times `other`, both fractions included. Exact.
fn is_within(price: &Price, other: &Price, lowest: (u128, u128), highest: (u128, u128)) -> bool {
    let (units, per) = (price.quote_units.units(), price.base_units.units());
    let (other_units, other_per) = (other.quote_units.units(), other.base_units.units());
    let compare = |times: (u128, u128)| compare_products(units * times.1, other_per, other_units * times.0, per);
    compare(lowest) != Ordering::Less && compare(highest) != Ordering::Greater
}

/// Whether no quote is made from a price any more.
fn is_stale(price: &Price, now: LedgerTime) -> bool {
    now.since_ms(price.as_of) > price.age_max_ms
}

fn is_quoting_halted(state: &State, pair: Pair) -> bool {
    [pair.base, pair.quote].iter().any(|&asset| state.is_halted(asset, HaltAction::Quote))
}

/// Offers a quote under the command's id, from the pair's newest price, and ends the customer's older one. Holds nothing:
/// funds and inventory are judged again on acceptance.
pub(super) fn request_quote(
    draft: &mut Draft<'_>,
    customer: CustomerId,
    pair: Pair,
    side: Side,
    amounts: (Option<Amount>, Option<Amount>),
) -> Result<Outcome, QuoteRefusal> {
    let id = QuoteId(draft.id.ok_or(QuoteRefusal::IdMissing)?.0);
    let given = match amounts {
        (Some(base), None) => Given::Base(base),
        (None, Some(quote)) => Given::Quote(quote),
        (None, None) | (Some(_), Some(_)) => return Err(QuoteRefusal::AmountsInvalid),
    };
    let state = &*draft.state;
    if !state.customers.contains_key(&customer) {
        return Err(QuoteRefusal::CustomerUnknown);
    }
    let price = state.prices.get(&pair).ok_or(QuoteRefusal::PriceUnknown)?;
    if is_quoting_halted(state, pair) {
        return Err(QuoteRefusal::QuoteHalted);
    }
    if is_stale(price, draft.now) {
        return Err(QuoteRefusal::PriceStale);
    }
    if state.clock_noted().is_some() {
        return Err(QuoteRefusal::TimeUnconfirmed);
    }
    let Parts { base, middle, spread } = parts(price, side, given)?;
    let quote = match side {
        Side::Buy => middle.checked_add(spread).ok_or(QuoteRefusal::TooLarge)?,
        Side::Sell => middle.saturating_sub(spread),
    };
    if base.is_zero() || quote.is_zero() {
        return Err(QuoteRefusal::TooSmall);
    }
    let expiry = draft.now.plus_ms(price.quote_ms);
    let quote = Quote { id, customer, pair, side, base, quote, spread, expiry, price: price.clone() };
    let exchange = Exchange::of(&quote);
    if exchange.customer_pays.1 > draft.available(&Owner::Customer(customer), exchange.customer_pays.0) {
        return Err(QuoteRefusal::InsufficientFunds);
    }
    if exchange.house_pays.1 > draft.available(&INVENTORY, exchange.house_pays.0) {
        return Err(QuoteRefusal::InsufficientInventory);
    }
    if let Some(&older) = draft.state.quote_of.get(&customer) {
        draft.emit(Event::QuoteEnded(QuoteEnded { quote: older, accepted: false }));
    }
    draft.emit(Event::QuoteOffered(quote.clone()));
    Ok(Outcome::Quote(Box::new(quote)))
}

/// The amount that a customer names.
enum Given {
    /// How much base moves.
    Base(Amount),
    /// How much quote the customer pays or receives in all.
    Quote(Amount),
}

/// What an exchange moves: base one way, `middle` (its value by the price) the other, and the margin on top of or out of it.
struct Parts {
    base: Amount,
    middle: Amount,
    spread: Amount,
}

/// Units: smallest units of either asset. What the customer pays is rounded up and what the customer receives is rounded
/// down, so the house gains each remainder (less than one unit); it stays in the inventory.
fn parts(price: &Price, side: Side, given: Given) -> Result<Parts, QuoteRefusal> {
    let (quote_units, base_units) = (price.quote_units.units(), price.base_units.units());
    let spread_bp = u128::from(price.spread_bp);
    let down = |a, b, c| multiply_divide(a, b, c).map(|(quotient, _)| quotient).ok_or(QuoteRefusal::TooLarge);
    let up = |a, b, c| {
        let (quotient, remainder) = multiply_divide(a, b, c).ok_or(QuoteRefusal::TooLarge)?;
        quotient.checked_add(u128::from(remainder > 0)).ok_or(QuoteRefusal::TooLarge)
    };
    let (Given::Base(amount) | Given::Quote(amount)) = given;
    if amount.is_zero() {
        return Err(QuoteRefusal::AmountZero);
    }
    let amount = amount.units();
    let (base, middle, spread) = match (given, side) {
        (Given::Base(_), Side::Buy) => {
            let middle = up(amount, quote_units, base_units)?;
            (amount, middle, up(middle, spread_bp, BP)?)
        }
        (Given::Base(_), Side::Sell) => {
            let middle = down(amount, quote_units, base_units)?;
            (amount, middle, up(middle, spread_bp, BP)?)
        }
        (Given::Quote(_), Side::Buy) => {
            let middle = down(amount, BP, BP + spread_bp)?;
            (down(middle, base_units, quote_units)?, middle, amount - middle)
        }
        (Given::Quote(_), Side::Sell) => {
            let middle = up(amount, BP, BP - spread_bp)?;
            (up(middle, base_units, quote_units)?, middle, middle - amount)
        }
    };
    Ok(Parts { base: Amount::new(base), middle: Amount::new(middle), spread: Amount::new(spread) })
}

const INVENTORY: Owner = Owner::House(HouseAccount::Inventory);

/// A quote seen from both payers: which asset each pays, and how much.
struct Exchange {
    customer_pays: (AssetId, Amount),
    /// The margin of a sale included, which the inventory pays to the spread account.
    house_pays: (AssetId, Amount),
}

impl Exchange {
    fn of(quote: &Quote) -> Exchange {
        match quote.side {
            Side::Buy => {
                Exchange { customer_pays: (quote.pair.quote, quote.quote), house_pays: (quote.pair.base, quote.base) }
            }
            Side::Sell => {
                let middle = quote.quote.checked_add(quote.spread).expect("a sale's parts add up to its value");
                Exchange { customer_pays: (quote.pair.base, quote.base), house_pays: (quote.pair.quote, middle) }
            }
        }
    }
}

/// Executes a quote as linked transfers against the house's inventory; the margin is a transfer of its own.
pub(super) fn accept_quote(
    draft: &mut Draft<'_>,
    customer: CustomerId,
    id: QuoteId,
) -> Result<Outcome, AcceptQuoteRefusal> {
    let state = &*draft.state;
    let quote = state.quotes.get(&id).filter(|quote| quote.customer == customer);
    let quote = quote.ok_or(AcceptQuoteRefusal::QuoteUnknown)?.clone();
    if draft.now >= quote.expiry {
        return Err(AcceptQuoteRefusal::Expired);
    }
    if state.clock_noted().is_some() {
        return Err(AcceptQuoteRefusal::TimeUnconfirmed);
    }
    if is_quoting_halted(state, quote.pair) {
        return Err(AcceptQuoteRefusal::QuoteHalted);
    }
    let (lowest, highest) = ((100 - ACCEPT_BAND_PERCENT, 100), (100 + ACCEPT_BAND_PERCENT, 100));
    let newest = state.prices.get(&quote.pair).expect("a quoted pair has a price");
    if !is_within(newest, &quote.price, lowest, highest) {
        return Err(AcceptQuoteRefusal::PriceMoved);
    }
    let exchange = Exchange::of(&quote);
    if exchange.customer_pays.1 > draft.available(&Owner::Customer(customer), exchange.customer_pays.0) {
        return Err(AcceptQuoteRefusal::InsufficientFunds);
    }
    if exchange.house_pays.1 > draft.available(&INVENTORY, exchange.house_pays.0) {
        return Err(AcceptQuoteRefusal::InsufficientInventory);
    }
    let legs = legs(&quote);
    let ledger = &state.ledger;
    let is_held = |owner: &Owner, (asset, amount)| amount <= ledger.debit_room_of(owner, asset);
    let is_paid =
        is_held(&Owner::Customer(customer), exchange.customer_pays) && is_held(&INVENTORY, exchange.house_pays);
    if !is_paid || legs.iter().any(|leg| leg.amount > ledger.credit_room_of(&leg.credit, leg.asset)) {
        return Err(AcceptQuoteRefusal::TooLarge);
    }
    let transfers = legs.map(|Leg { asset, debit, credit, amount, reason }| {
        let (debit, credit) = (draft.account(debit, asset), draft.account(credit, asset));
        Transfer { debit, credit, amount, reason }
    });
    draft.post(transfers);
    draft.emit(Event::QuoteEnded(QuoteEnded { quote: id, accepted: true }));
    Ok(Outcome::Exchanged(Box::new(quote)))
}

/// A transfer between owners whose accounts may not be open yet.
struct Leg {
    asset: AssetId,
    debit: Owner,
    credit: Owner,
    amount: Amount,
    reason: TransferReason,
}

/// What a quote moves: value, margin, base. The margin comes out of what the customer pays or would receive.
fn legs(quote: &Quote) -> [Leg; 3] {
    let customer = || Owner::Customer(quote.customer);
    let spread = Owner::House(HouseAccount::Spread);
    let (asset, base) = (quote.pair.quote, quote.pair.base);
    let reason = TransferReason::Exchange;
    match quote.side {
        Side::Buy => [
            Leg {
                asset,
                debit: customer(),
                credit: INVENTORY,
                amount: quote.quote.saturating_sub(quote.spread),
                reason,
            },
            Leg { asset, debit: customer(), credit: spread, amount: quote.spread, reason: TransferReason::Spread },
            Leg { asset: base, debit: INVENTORY, credit: customer(), amount: quote.base, reason },
        ],
        Side::Sell => [
            Leg { asset: base, debit: customer(), credit: INVENTORY, amount: quote.base, reason },
            Leg { asset, debit: INVENTORY, credit: customer(), amount: quote.quote, reason },
            Leg { asset, debit: INVENTORY, credit: spread, amount: quote.spread, reason: TransferReason::Spread },
        ],
    }
}

//! Prices, quotes and exchanges.

use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::HaltAction;
use florin_core::broker::{Pair, Price, Quote, Side};
use florin_core::command::{Command, Origin, Outcome, Request};
use florin_core::custody::Beneficiary;
use florin_core::decide::{AcceptQuoteRefusal, PRICE_UNITS_MAX, PriceRefusal, QuoteRefusal, Refusal};
use florin_core::event::{Event, QuoteEnded};
use florin_core::id::{AssetId, CustomerId, QuoteId};
use florin_core::ledger::{HouseAccount, Owner, TransferReason};
use proptest::prelude::*;

/// Gives Ann 100 EUR and offers her ten thousandths of gold by a fresh price.
pub fn offer(world: &mut World) -> Quote {
    let reference = format!("ann-{}", world.rows.len());
    world.receive(&reference, EUR, 10_000, Beneficiary::Customer(ANN));
    world.done(Command::SetPrice(world.price()));
    quoted(world.done(buy(10)))
}

fn quoted(outcome: Outcome) -> Quote {
    match outcome {
        Outcome::Quote(quote) => *quote,
        other => panic!("a quote was expected, not {other:?}"),
    }
}

fn ask(side: Side, base: Option<u128>, quote: Option<u128>) -> Command {
    let (base, quote) = (base.map(Amount::new), quote.map(Amount::new));
    Command::RequestQuote { customer: ANN, pair: GOLD, side, base, quote }
}

fn buy(base: u128) -> Command {
    ask(Side::Buy, Some(base), None)
}

fn accept(customer: CustomerId, quote: &Quote) -> Command {
    Command::AcceptQuote { customer, quote: quote.id }
}

#[test]
fn price_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    world.pass_ms(1_000);
    let old = world.price().as_of.0 - 1_001;
    let set = |change: fn(&mut Price)| {
        let mut price = Price { age_max_ms: 0, quote_ms: 0, spread_bp: 2_001, ..world.price() };
        (price.quote_units, price.base_units) = (Amount::new(50_011), Amount::new(1_000));
        change(&mut price);
        price
    };
    let older = set(|_| ());
    let older = Price { as_of: florin_core::id::LedgerTime(old), ..older };
    let pair = |base, quote| Pair { base, quote };
    let ahead = |price: Price| Price { as_of: world.now.plus_ms(1), ..price };
    let zero = |price: Price| Price { quote_units: Amount::ZERO, base_units: Amount::MAX, ..price };
    let steps = vec![
        (zero(set(|price| price.pair = Pair { base: AssetId(99), quote: AssetId(99) })), PriceRefusal::PairInvalid),
        (zero(Price { pair: pair(POINTS, AssetId(99)), ..set(|_| ()) }), PriceRefusal::AssetUnknown),
        (zero(Price { pair: pair(POINTS, EUR), ..set(|_| ()) }), PriceRefusal::AssetPlain),
        (zero(Price { pair: pair(XAU, MILES), ..set(|_| ()) }), PriceRefusal::AssetPlain),
        (zero(ahead(set(|_| ()))), PriceRefusal::PriceZero),
        (ahead(set(|price| price.base_units = Amount::ZERO)), PriceRefusal::PriceZero),
        (ahead(set(|price| price.base_units = Amount::new(PRICE_UNITS_MAX + 1))), PriceRefusal::PriceTooLarge),
        (ahead(set(|price| price.quote_units = Amount::MAX)), PriceRefusal::PriceTooLarge),
        (ahead(set(|_| ())), PriceRefusal::PriceAhead),
        (older, PriceRefusal::PriceOlder),
        (set(|_| ()), PriceRefusal::AgeInvalid),
        (set(|price| price.age_max_ms = 86_400_001), PriceRefusal::AgeInvalid),
        (set(|price| price.age_max_ms = 86_400_000), PriceRefusal::QuoteTimeInvalid),
        (set(|price| (price.age_max_ms, price.quote_ms) = (1, 600_001)), PriceRefusal::QuoteTimeInvalid),
        (set(|price| (price.age_max_ms, price.quote_ms) = (1, 600_000)), PriceRefusal::SpreadTooLarge),
        (set(|price| (price.age_max_ms, price.quote_ms, price.spread_bp) = (1, 1, 2_000)), PriceRefusal::OutOfBand),
    ];
    let steps = steps.into_iter().map(|(price, refusal)| (Command::SetPrice(price), refusal)).collect();
    check_ladder(&mut world, steps);
}

#[test]
fn two_assets_have_one_price_that_is_good() {
    let mut world = World::new();
    let there = Price { age_max_ms: 5_000, ..world.price() };
    world.done(Command::SetPrice(there.clone()));
    let back = Pair { base: there.pair.quote, quote: there.pair.base };
    let reversed = |world: &World| Command::SetPrice(Price { pair: back, ..world.price() });
    let ahead = Price { pair: back, as_of: world.now.plus_ms(1), ..world.price() };
    assert_eq!(world.refused(Command::SetPrice(ahead)), PriceRefusal::PriceAhead.into());
    world.pass_ms(5_000 - world.now.since_ms(there.as_of));
    let command = reversed(&world);
    assert_eq!(world.refused(command), PriceRefusal::PairReversed.into(), "at its last moment it is good");
    world.pass_ms(1);
    let command = reversed(&world);
    world.done(command);
    // Now this one stands, and the first can't be renewed beside it; that is the reason given, not the older price in force.
    assert_eq!(world.refused(Command::SetPrice(world.price())), PriceRefusal::PairReversed.into());
    let older = Price { as_of: florin_core::id::LedgerTime(there.as_of.0 - 1), ..there };
    assert_eq!(world.refused(Command::SetPrice(older)), PriceRefusal::PairReversed.into());
}

#[test]
fn price_moves_tenfold_at_most_unless_quoting_is_halted() {
    let mut world = World::new();
    let set = |world: &World, quote_units, base_units| {
        let (quote_units, base_units) = (Amount::new(quote_units), Amount::new(base_units));
        Command::SetPrice(Price { quote_units, base_units, ..world.price() })
    };
    let far = PriceRefusal::OutOfBand.into();
    let up = set(&world, 50_011, 1_000);
    assert_eq!(world.refused(up.clone()), far);
    let down = set(&world, 5_000, 10_000);
    assert_eq!(world.refused(down), far);
    let lowest = set(&world, 5_001, 10_000);
    world.done(lowest);
    let back = set(&world, 5_001, 1_000);
    world.done(back);
    assert_eq!(world.refused(up.clone()), far);
    world.done(Command::Halt(halt_of(None, HaltAction::Quote)));
    world.done(up);
    assert_eq!(world.state.prices()[&GOLD].quote_units, Amount::new(50_011));
    let huge = set(&world, PRICE_UNITS_MAX, 1);
    world.done(huge);
    let tiny = set(&world, 1, PRICE_UNITS_MAX);
    world.done(tiny.clone());
    world.done(Command::Resume(halt_of(None, HaltAction::Quote)));
    world.done(tiny);
    let huge = set(&world, PRICE_UNITS_MAX, 1);
    assert_eq!(world.refused(huge), far, "the widest products are compared exactly");
}

#[test]
fn quote_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let nobody = CustomerId([9; 16]);
    let unpriced = Pair { base: EUR, quote: XAU };
    let ask = |customer, pair, base: Option<u128>, quote: Option<u128>| {
        let (base, quote) = (base.map(Amount::new), quote.map(Amount::new));
        Command::RequestQuote { customer, pair, side: Side::Buy, base, quote }
    };
    world.done(Command::Halt(halt_of(Some(XAU), HaltAction::Quote)));
    world.pass_ms(30_001);
    let anonymous = Request { origin: Origin::Internal, command: ask(nobody, unpriced, None, None) };
    assert_eq!(world.send(&anonymous), Err(QuoteRefusal::IdMissing.into()));
    let steps = vec![
        (ask(nobody, unpriced, None, None), QuoteRefusal::AmountsInvalid),
        (ask(nobody, unpriced, Some(0), Some(0)), QuoteRefusal::AmountsInvalid),
        (ask(nobody, unpriced, Some(0), None), QuoteRefusal::CustomerUnknown),
        (ask(ANN, unpriced, Some(0), None), QuoteRefusal::PriceUnknown),
        (ask(ANN, GOLD, Some(0), None), QuoteRefusal::QuoteHalted),
    ];
    check_ladder(&mut world, steps);
    world.done(Command::Resume(halt_of(Some(XAU), HaltAction::Quote)));
    check_ladder(&mut world, vec![(ask(ANN, GOLD, Some(0), None), QuoteRefusal::PriceStale)]);
    world.done(Command::SetPrice(world.price()));
    world.pass_ms(30_000);
    let steps = vec![
        (ask(ANN, GOLD, Some(0), None), QuoteRefusal::AmountZero),
        (ask(ANN, GOLD, None, Some(0)), QuoteRefusal::AmountZero),
        (ask(ANN, GOLD, None, Some(1)), QuoteRefusal::TooSmall),
        (ask(ANN, GOLD, Some(u128::MAX), None), QuoteRefusal::TooLarge),
        (ask(ANN, GOLD, Some(200_000), None), QuoteRefusal::InsufficientFunds),
    ];
    check_ladder(&mut world, steps);
    world.receive("rich", EUR, 10_000_000, Beneficiary::Customer(ANN));
    check_ladder(&mut world, vec![(ask(ANN, GOLD, Some(100_001), None), QuoteRefusal::InsufficientInventory)]);
    world.done(ask(ANN, GOLD, Some(100_000), None));
}

#[test]
fn acceptance_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let quote = offer(&mut world);
    let price = world.price();
    world.done(Command::SetPrice(Price { quote_units: Amount::new(5_252), ..price.clone() }));
    world.done(Command::Halt(halt_of(Some(EUR), HaltAction::Quote)));
    world.now = quote.expiry;
    let unknown = Quote { id: QuoteId([9; 16]), ..quote.clone() };
    let steps = vec![
        (accept(ANN, &unknown), AcceptQuoteRefusal::QuoteUnknown),
        (accept(BEN, &quote), AcceptQuoteRefusal::QuoteUnknown),
        (accept(ANN, &quote), AcceptQuoteRefusal::Expired),
    ];
    check_ladder(&mut world, steps);
    world.now = florin_core::id::LedgerTime(quote.expiry.0 - 1);
    let before_expiry = world.now;
    let mut world = rewind(world, before_expiry);
    check_ladder(&mut world, vec![(accept(ANN, &quote), AcceptQuoteRefusal::QuoteHalted)]);
    world.done(Command::Resume(halt_of(Some(EUR), HaltAction::Quote)));
    check_ladder(&mut world, vec![(accept(ANN, &quote), AcceptQuoteRefusal::PriceMoved)]);
    world.done(Command::SetPrice(Price { quote_units: Amount::new(5_251), ..price }));
    assert!(matches!(world.done(accept(ANN, &quote)), Outcome::Exchanged(done) if *done == quote));
    check_ladder(&mut world, vec![(accept(ANN, &quote), AcceptQuoteRefusal::QuoteUnknown)]);
}

/// A jump of the clock is noted: a minute and more ahead of the last tick.
fn note_jump(world: &mut World) {
    let clock = world.state.counters().ticked.plus_ms(florin_core::command::TIME_JUMP_MAX_MS + 1);
    assert_eq!(world.done(Command::SeeClock { clock }), Outcome::Done(true));
}

#[test]
fn while_nobody_knows_the_time_nothing_is_priced_quoted_or_exchanged() {
    let mut world = World::new();
    let quote = offer(&mut world);
    note_jump(&mut world);
    let price = world.price();
    let ahead = Price { as_of: world.now.plus_ms(1), ..price.clone() };
    let large = Price { base_units: Amount::new(PRICE_UNITS_MAX + 1), ..ahead.clone() };
    let steps = vec![
        (Command::SetPrice(large), PriceRefusal::PriceTooLarge),
        (Command::SetPrice(ahead), PriceRefusal::TimeUnconfirmed),
        (Command::SetPrice(price.clone()), PriceRefusal::TimeUnconfirmed),
    ];
    check_ladder(&mut world, steps);
    let nothing = ask(Side::Buy, Some(0), None);
    check_ladder(&mut world, vec![(nothing.clone(), QuoteRefusal::TimeUnconfirmed)]);
    world.done(Command::Halt(halt_of(Some(XAU), HaltAction::Quote)));
    check_ladder(&mut world, vec![(nothing.clone(), QuoteRefusal::QuoteHalted)]);
    check_ladder(&mut world, vec![(accept(ANN, &quote), AcceptQuoteRefusal::TimeUnconfirmed)]);
    world.done(Command::Resume(halt_of(Some(XAU), HaltAction::Quote)));
    let before = world.now;
    world.now = quote.expiry;
    check_ladder(&mut world, vec![(accept(ANN, &quote), AcceptQuoteRefusal::Expired)]);
    world.now = price.as_of.plus_ms(price.age_max_ms + 1);
    check_ladder(&mut world, vec![(nothing.clone(), QuoteRefusal::PriceStale)]);
    let mut world = rewind(world, before);
    world.done(Command::ConfirmTime);
    check_ladder(&mut world, vec![(nothing, QuoteRefusal::AmountZero)]);
    world.done(accept(ANN, &quote));
    world.done(Command::SetPrice(price));
}

/// Refusals journal nothing, so a world in which only refusals happened since may be looked at from an earlier moment.
fn rewind(mut world: World, now: florin_core::id::LedgerTime) -> World {
    assert!(world.state.counters().time <= now, "nothing was journalled since");
    world.now = now;
    world
}

#[test]
fn exchange_needs_funds_and_inventory_at_the_moment_of_acceptance() {
    let mut world = World::new();
    world.receive("ann", EUR, 1_000_000, Beneficiary::Customer(ANN));
    world.receive("ben", EUR, 1_000_000, Beneficiary::Customer(BEN));
    let anns = quoted(world.done(buy(60_000)));
    let command = Command::RequestQuote {
        customer: BEN,
        pair: GOLD,
        side: Side::Buy,
        base: Some(Amount::new(60_000)),
        quote: None,
    };
    let bens = quoted(world.done(command));
    world.done(accept(BEN, &bens));
    assert_eq!(world.refused(accept(ANN, &anns)), AcceptQuoteRefusal::InsufficientInventory.into());
    world.receive("more", XAU, 100_000, Beneficiary::INVENTORY);
    world.done(accept(ANN, &anns));
    assert_eq!(world.balance(Owner::Customer(ANN), XAU), 60_000);
    let dear = quoted(world.done(buy(60_000)));
    let spend = quoted(world.done(buy(80_000)));
    assert_eq!(world.refused(accept(ANN, &dear)), AcceptQuoteRefusal::QuoteUnknown.into(), "a newer one replaced it");
    world.done(accept(ANN, &spend));
}

#[test]
fn funds_spent_since_the_offer_refuse_its_acceptance() {
    // The only way to spend fiat here is another exchange, and a newer quote ends the older: so the quote itself is
    // restated after the exchange, as a snapshot of such a state would restate it.
    let mut world = World::new();
    let quote = offer(&mut world);
    let all = quoted(world.done(ask(Side::Buy, None, Some(10_000))));
    world.done(accept(ANN, &all));
    world.state.apply(&Event::QuoteOffered(quote.clone()));
    let request = world.request(accept(ANN, &quote));
    assert_eq!(world.state.clone().decide(&request, world.now), Err(AcceptQuoteRefusal::InsufficientFunds.into()));
}

#[test]
fn sums_that_are_full_refuse_an_exchange() {
    let mut world = World::new();
    let most = u128::MAX - 100_000_000;
    world.done(Command::Halt(halt_of(None, HaltAction::Quote)));
    world.done(Command::SetPrice(Price {
        quote_units: Amount::new(1),
        base_units: Amount::new(1),
        spread_bp: 0,
        ..world.price()
    }));
    world.done(Command::Resume(halt_of(None, HaltAction::Quote)));
    world.receive("all", EUR, most, Beneficiary::Customer(ANN));
    world.receive("gold", XAU, u128::MAX - 100_000, Beneficiary::INVENTORY);
    let there = quoted(world.done(buy(most)));
    world.done(accept(ANN, &there));
    let back = quoted(world.done(ask(Side::Sell, Some(most), None)));
    assert_eq!(
        world.refused(accept(ANN, &back)),
        AcceptQuoteRefusal::TooLarge.into(),
        "an inventory never counts past 128 bits"
    );
}

/// Runs an exchange and says how much each of these changed: Ann's EUR and XAU, the inventory's EUR and XAU, the spread.
fn exchanged(world: &mut World, command: Command) -> (Quote, [i128; 5]) {
    let balances = |world: &World| {
        [
            world.balance(Owner::Customer(ANN), EUR),
            world.balance(Owner::Customer(ANN), XAU),
            world.house(HouseAccount::Inventory, EUR),
            world.house(HouseAccount::Inventory, XAU),
            world.house(HouseAccount::Spread, EUR),
        ]
    };
    let before = balances(world);
    let quote = quoted(world.done(command));
    let request = world.request(accept(ANN, &quote));
    let (_, events) = world.send(&request).expect("it is accepted");
    assert!(matches!(events.last(), Some(Event::QuoteEnded(QuoteEnded { accepted: true, .. }))));
    for event in &events {
        if let Event::TransfersPosted(posted) = event {
            let margins = posted.transfers.iter().filter(|transfer| transfer.reason == TransferReason::Spread);
            assert_eq!(margins.map(|transfer| transfer.amount).sum::<Amount>(), quote.spread);
        }
    }
    let after = balances(world);
    (quote, std::array::from_fn(|index| after[index] - before[index]))
}

#[test]
fn exchanges_book_value_and_margin_apart() {
    let mut world = World::new();
    world.receive("ann", EUR, 100_000, Beneficiary::Customer(ANN));
    // 101 at 5.001 are 505.101, so 506; half a percent of it is 2.53, so 3.
    let (quote, changes) = exchanged(&mut world, buy(101));
    assert_eq!((quote.base.units(), quote.quote.units(), quote.spread.units()), (101, 509, 3));
    assert_eq!(changes, [-509, 101, 506, -101, 3]);
    // 101 at 5.001 are 505.101, so 505; the margin is 2.525, so 3.
    let (quote, changes) = exchanged(&mut world, ask(Side::Sell, Some(101), None));
    assert_eq!((quote.base.units(), quote.quote.units(), quote.spread.units()), (101, 502, 3));
    assert_eq!(changes, [502, -101, -505, 101, 3]);
    // 10,000 in all are 9,950.2 and margin, so 9,950 and 50; they buy 1,989.6, so 1,989.
    let (quote, changes) = exchanged(&mut world, ask(Side::Buy, None, Some(10_000)));
    assert_eq!((quote.base.units(), quote.quote.units(), quote.spread.units()), (1_989, 10_000, 50));
    assert_eq!(changes, [-10_000, 1_989, 9_950, -1_989, 50]);
    // To receive 1,000 she sells for 1,005.03, so 1,006; that takes 201.2, so 202.
    let (quote, changes) = exchanged(&mut world, ask(Side::Sell, None, Some(1_000)));
    assert_eq!((quote.base.units(), quote.quote.units(), quote.spread.units()), (202, 1_000, 6));
    assert_eq!(changes, [1_000, -202, -1_006, 202, 6]);
}

#[test]
fn quote_bears_the_id_of_its_command_and_ends_the_older_one() {
    let mut world = World::new();
    let first = offer(&mut world);
    let request = world.request(buy(1));
    let Origin::Request { id, .. } = request.origin else { panic!("requests have ids") };
    let (outcome, events) = world.send(&request).expect("it is offered");
    let second = quoted(outcome);
    assert_eq!(second.id, QuoteId(id.0));
    assert_eq!(
        events,
        [Event::QuoteEnded(QuoteEnded { quote: first.id, accepted: false }), Event::QuoteOffered(second.clone())]
    );
    assert_eq!(world.state.quotes().keys().collect::<Vec<_>>(), [&second.id]);
    assert_eq!(world.send(&request).map(|(outcome, _)| quoted(outcome)), Ok(second), "a repetition offers the same");
}

#[test]
fn accepting_twice_under_one_id_exchanges_once() {
    let mut world = World::new();
    let quote = offer(&mut world);
    let request = world.request(accept(ANN, &quote));
    let first = world.send(&request).expect("it is accepted");
    let after = world.balance(Owner::Customer(ANN), XAU);
    let again: Result<_, Refusal> = world.send(&request);
    assert_eq!(again, Ok((first.0, vec![])));
    assert_eq!(world.balance(Owner::Customer(ANN), XAU), after);
}

proptest! {
    /// Whatever the price, the margin and the amount, buying and selling again never gains, nor does either side alone.
    #[test]
    fn no_rounding_is_in_favour_of_the_customer(
        quote_units in 1u128..1_000_000,
        base_units in 1u128..1_000_000,
        spread_bp in 0u32..=2_000,
        amount in 1u128..100_000,
        by_base: bool,
    ) {
        let mut world = World::new();
        world.receive("ann", EUR, 1_000_000_000_000, Beneficiary::Customer(ANN));
        world.receive("ann-gold", XAU, 1_000_000_000_000, Beneficiary::Customer(ANN));
        world.receive("house-more", EUR, 1_000_000_000_000, Beneficiary::INVENTORY);
        world.receive("house-gold", XAU, 1_000_000_000_000, Beneficiary::INVENTORY);
        world.done(Command::Halt(halt_of(None, HaltAction::Quote)));
        let (quote_units, base_units) = (Amount::new(quote_units), Amount::new(base_units));
        world.done(Command::SetPrice(Price { quote_units, base_units, spread_bp, ..world.price() }));
        world.done(Command::Resume(halt_of(None, HaltAction::Quote)));
        for side in [Side::Buy, Side::Sell] {
            let (base, quote) = if by_base { (Some(amount), None) } else { (None, Some(amount)) };
            let quote = match world.run(ask(side, base, quote)) {
                Ok(outcome) => quoted(outcome),
                Err(refusal) => {
                    prop_assert_eq!(refusal, QuoteRefusal::TooSmall.into());
                    continue;
                }
            };
            if by_base {
                prop_assert_eq!(quote.base.units(), amount);
            } else {
                prop_assert_eq!(quote.quote.units(), amount);
            }
            // Worth in units of 1 / base_units of the quote asset, all in whole numbers.
            let worth = quote.base.units() * quote_units.units();
            let paid = quote.quote.units() * base_units.units();
            let margin = quote.spread.units() * base_units.units();
            match side {
                Side::Buy => prop_assert!(paid >= worth + margin),
                Side::Sell => prop_assert!(paid + margin <= worth),
            }
            let least = (quote.quote.units() - if side == Side::Buy { quote.spread.units() } else { 0 }) * u128::from(spread_bp);
            prop_assert!(quote.spread.units() * 10_000 + 10_000 > least, "the margin is charged");
            world.done(accept(ANN, &quote));
        }
    }
}

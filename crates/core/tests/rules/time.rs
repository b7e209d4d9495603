//! Time: ticks, jumps of the clock, expiry and forgetting.

use crate::world::*;
use florin_core::command::{
    Command, EPOCH_GAP_MAX_MS, ID_AHEAD_MS, Origin, Outcome, REMEMBER_MAX, REMEMBER_MS, Request, TIME_JUMP_MAX_MS,
};
use florin_core::custody::Beneficiary;
use florin_core::decide::{AdminRefusal, OriginRefusal, TICK_FORGET_EVENTS, TICK_MS, Verdict};
use florin_core::event::{EpochStarted, Event, Forgotten, QuoteEnded, Remembered, Ticked};
use florin_core::id::{Digest, Epoch, LedgerTime};
use florin_core::journal::Entry;
use florin_core::state::State;

fn tick(world: &mut World) -> Vec<Event> {
    let request = Request { origin: Origin::Internal, command: Command::Tick };
    world.send(&request).expect("time passes").1
}

#[test]
fn idle_ticks_are_journalled_once_a_second() {
    let mut world = World::empty();
    assert_eq!(tick(&mut world), [], "an epoch starts as fresh as a tick");
    world.pass_ms(TICK_MS - 1);
    assert_eq!(tick(&mut world), []);
    world.pass_ms(1);
    assert_eq!(tick(&mut world), [Event::Ticked(Ticked { until: world.now })]);
}

#[test]
fn jump_of_the_clock_stops_time_until_an_operator_confirms() {
    let mut world = World::new();
    assert_eq!(world.refused(Command::ConfirmTime), AdminRefusal::TimeNotJumped.into());
    tick(&mut world);
    world.pass_ms(TIME_JUMP_MAX_MS);
    assert!(matches!(tick(&mut world)[..], [Event::Ticked(_)]), "a minute is no jump");
    let quote = crate::broker::offer(&mut world);
    let from = world.now;
    world.pass_ms(TIME_JUMP_MAX_MS + 1);
    assert!(matches!(&tick(&mut world)[..], [Event::TimeJumped(jump)] if jump.from == from && jump.to == world.now));
    assert_eq!(world.refused(Command::Tick), AdminRefusal::TimeUnconfirmed.into());
    assert!(world.state.quotes().contains_key(&quote.id), "nothing expires by a clock that nobody trusts");
    world.pass_ms(TIME_JUMP_MAX_MS * 10);
    world.done(Command::ConfirmTime);
    assert_eq!(world.state.counters().ticked, world.now);
    assert_eq!(world.refused(Command::ConfirmTime), AdminRefusal::TimeNotJumped.into());
    let ended = Event::QuoteEnded(QuoteEnded { quote: quote.id, accepted: false });
    assert_eq!(tick(&mut world), [ended, Event::Ticked(Ticked { until: world.now })]);
}

fn start_epoch(world: &mut World, epoch: u64) {
    let started = EpochStarted {
        epoch: Epoch(epoch),
        node: "b".to_owned(),
        build: "test".to_owned(),
        format: 1,
        config: Digest([1; 32]),
        platform: [7; 16],
    };
    let events = vec![Event::EpochStarted(started)];
    world.append(Epoch(epoch), Entry { command: None, request: None, events, outcome: None });
}

#[test]
fn time_between_two_epochs_is_no_jump_and_an_unconfirmed_jump_outlives_a_restart() {
    let mut world = World::new();
    tick(&mut world);
    world.pass_ms(TIME_JUMP_MAX_MS * 600);
    start_epoch(&mut world, 2);
    assert_eq!(world.state.counters().ticked, world.now);
    assert_eq!(world.refused(Command::ConfirmTime), AdminRefusal::TimeNotJumped.into());
    let from = world.now;
    world.pass_ms(TIME_JUMP_MAX_MS + 1);
    assert!(matches!(tick(&mut world)[..], [Event::TimeJumped(_)]));
    start_epoch(&mut world, 3);
    assert_eq!(world.state.counters().ticked, from, "a restart is no operator's word");
    assert_eq!(world.refused(Command::Tick), AdminRefusal::TimeUnconfirmed.into());
}

#[test]
fn clock_beyond_the_last_tick_is_noted_without_any_row_of_its_time() {
    let mut world = World::new();
    let clock = world.now.plus_ms(TIME_JUMP_MAX_MS);
    assert_eq!(world.done(Command::SeeClock { clock }), Outcome::Done(false));
    let clock = clock.plus_ms(1);
    assert_eq!(world.done(Command::SeeClock { clock }), Outcome::Done(true));
    assert_eq!((world.state.counters().jumped_to, world.state.counters().time), (Some(clock), world.now));
    assert_eq!(world.refused(Command::SeeClock { clock }), AdminRefusal::TimeUnconfirmed.into());
    assert_eq!(world.refused(Command::Tick), AdminRefusal::TimeUnconfirmed.into());
}

#[test]
fn clock_that_went_back_is_noted_and_time_goes_on_when_it_has_caught_up() {
    let mut world = World::new();
    tick(&mut world);
    let quote = crate::broker::offer(&mut world);
    let ticked = world.state.counters().ticked;
    let back = LedgerTime(ticked.0 - TIME_JUMP_MAX_MS);
    assert_eq!(world.done(Command::SeeClock { clock: back }), Outcome::Done(false), "a minute is no jump");
    let clock = LedgerTime(back.0 - 1);
    world.pass_ms(1);
    assert_eq!(world.done(Command::SeeClock { clock }), Outcome::Done(true));
    assert_eq!(world.state.counters().jumped_to, Some(clock));
    let before = world.now;
    for clock in [clock, back, LedgerTime(ticked.0 - 1), LedgerTime(0)] {
        assert_eq!(world.refused(Command::SeeClock { clock }), AdminRefusal::TimeUnconfirmed.into());
    }
    assert_eq!(world.refused(Command::Tick), AdminRefusal::TimeUnconfirmed.into());
    assert_eq!(world.refused(Command::ConfirmTime), AdminRefusal::TimeBehind.into(), "ledger time never goes back");
    let accept = Command::AcceptQuote { customer: ANN, quote: quote.id };
    assert_eq!(world.refused(accept.clone()), florin_core::decide::AcceptQuoteRefusal::TimeUnconfirmed.into());
    start_epoch(&mut world, 2);
    assert_eq!(world.state.counters().ticked, ticked, "a restart proves nothing about a clock");
    let internal = Request { origin: Origin::Internal, command: Command::SeeClock { clock: ticked } };
    let (_, events) = world.send(&internal).expect("it has caught up");
    assert_eq!(events, [Event::Ticked(Ticked { until: before })]);
    assert_eq!(world.state.counters().jumped_to, None);
    world.done(accept);
    assert_eq!(world.refused(Command::ConfirmTime), AdminRefusal::TimeNotJumped.into());
}

#[test]
fn clock_that_jumps_the_other_way_is_noted_anew() {
    let mut world = World::new();
    let ticked = world.state.counters().ticked;
    let (behind, ahead) = (LedgerTime(ticked.0 - TIME_JUMP_MAX_MS - 1), ticked.plus_ms(TIME_JUMP_MAX_MS + 1));
    for clock in [behind, ahead, behind, ahead] {
        assert_eq!(world.done(Command::SeeClock { clock }), Outcome::Done(true));
        assert_eq!(world.state.counters().jumped_to, Some(clock));
        assert_eq!(world.refused(Command::Tick), AdminRefusal::TimeUnconfirmed.into());
    }
    assert_eq!(world.refused(Command::SeeClock { clock: ticked }), AdminRefusal::TimeUnconfirmed.into());
    world.now = ahead;
    world.done(Command::ConfirmTime);
    assert_eq!((world.state.counters().jumped_to, world.state.counters().ticked), (None, ahead));
}

#[test]
fn rows_follow_the_clock_no_further_than_a_jump_beyond_the_last_tick() {
    let mut world = World::empty();
    let start = world.now;
    let wrong = LedgerTime(4_102_444_800_000);
    let limit = start.plus_ms(TIME_JUMP_MAX_MS);
    let row_time = |world: &World, clock| world.state.row_time(clock);
    assert_eq!(State::default().row_time(wrong), wrong, "an empty journal has nothing to compare with");
    assert_eq!(row_time(&world, limit), limit);
    assert_eq!(row_time(&world, limit.plus_ms(1)), limit);
    assert_eq!(row_time(&world, wrong), limit);
    assert_eq!(row_time(&world, LedgerTime(0)), start);
    world.now = limit;
    world.done(Command::OpenCustomer(ANN));
    assert_eq!(row_time(&world, wrong), limit, "rows do not carry the limit along; ticks do");
}

#[test]
fn epoch_believes_the_clock_for_a_day_and_not_beyond() {
    let mut world = World::empty();
    let day_later = world.now.plus_ms(EPOCH_GAP_MAX_MS);
    assert_eq!(State::default().epoch_time(day_later), day_later);
    assert_eq!(world.state.epoch_time(day_later), day_later);
    assert_eq!(world.state.epoch_time(day_later.plus_ms(1)), world.now, "time stands still until somebody confirms it");
    assert_eq!(world.state.epoch_time(LedgerTime(0)), world.now);
    world.done(Command::SeeClock { clock: day_later });
    assert_eq!(world.state.epoch_time(day_later), world.now, "a restart does not confirm a jump");
}

#[test]
fn quote_ends_at_its_expiry_and_not_before() {
    let mut world = World::new();
    tick(&mut world);
    let quote = crate::broker::offer(&mut world);
    world.now = LedgerTime(quote.expiry.0 - 1);
    tick(&mut world);
    assert!(world.state.quotes().contains_key(&quote.id));
    world.now = quote.expiry;
    assert!(tick(&mut world).contains(&Event::QuoteEnded(QuoteEnded { quote: quote.id, accepted: false })));
    assert!(world.state.quotes().is_empty());
}

/// Lets time pass in steps that are no jumps.
fn wait(world: &mut World, until: LedgerTime) {
    while world.now < until {
        world.now = world.now.plus_ms(TIME_JUMP_MAX_MS).min(until);
        tick(world);
    }
}

#[test]
fn command_is_remembered_for_a_day_and_never_executed_again() {
    let mut world = World::empty();
    tick(&mut world);
    world.done(Command::DefineAsset(assets()[1].clone()));
    world.done(Command::OpenCustomer(ANN));
    let request = world.request(receipt("once", EUR, 5, Beneficiary::Customer(ANN)));
    let Origin::Request { id, .. } = request.origin else { panic!("requests have ids") };
    let sent = world.now;
    world.send(&request).expect("it is good");
    wait(&mut world, LedgerTime(sent.0 + REMEMBER_MS - 1));
    assert_eq!(world.send(&request), Ok((Outcome::Done(true), vec![])), "a repetition gets the first answer");
    world.pass_ms(1);
    assert!(tick(&mut world).contains(&Event::Forgotten(Forgotten { command: id })));
    assert_eq!(world.send(&request), Err(OriginRefusal::Expired.into()), "not even its own refusal is looked for");
    let earlier = Origin::Request { id: id_at(sent.0, 0), request: Digest([9; 32]) };
    let command = Command::OpenCustomer(BEN);
    assert_eq!(
        world.send(&Request { origin: earlier, command: command.clone() }),
        Err(OriginRefusal::Expired.into()),
        "nor is any id that is older"
    );
    let later = Origin::Request { id: id_at(sent.0 + 1, 0), request: Digest([9; 32]) };
    assert!(world.send(&Request { origin: later, command }).is_ok());
}

#[test]
fn sender_whose_clock_is_ahead_does_not_expire_the_ids_of_others() {
    let mut world = World::empty();
    tick(&mut world);
    let sent = world.now;
    let ahead = Origin::Request { id: id_at(sent.0 + ID_AHEAD_MS, 1), request: Digest([9; 32]) };
    world.send(&Request { origin: ahead, command: Command::OpenCustomer(ANN) }).expect("ten minutes are allowed");
    wait(&mut world, LedgerTime(sent.0 + 1_000));
    world.done(Command::OpenCustomer(BEN));
    wait(&mut world, LedgerTime(sent.0 + REMEMBER_MS + 500));
    assert_eq!(world.state.counters().forgotten_until, LedgerTime(0), "the smaller id goes first, and is too young");
    wait(&mut world, LedgerTime(sent.0 + REMEMBER_MS + 1_000));
    assert!(world.state.remembered().is_empty());
    assert_eq!(world.state.counters().forgotten_until, LedgerTime(sent.0 + ID_AHEAD_MS + 1));
}

#[test]
fn tick_forgets_within_its_budget_and_leaves_the_rest_to_the_next() {
    let mut state = State::default();
    let count = TICK_FORGET_EVENTS as u64 + 5;
    let send = |state: &mut State, command: Command, origin: Origin, now: u64| {
        state.decide(&Request { origin, command }, LedgerTime(now)).expect("it is good")
    };
    for number in 0..count {
        let mut customer = ANN;
        customer.0[..8].copy_from_slice(&number.to_be_bytes());
        let origin = Origin::Request { id: id_at(START_MS, number), request: Digest([9; 32]) };
        send(&mut state, Command::OpenCustomer(customer), origin, START_MS);
    }
    send(&mut state, Command::Tick, Origin::Internal, START_MS + REMEMBER_MS);
    assert_eq!(state.remembered().len(), 5);
    send(&mut state, Command::Tick, Origin::Internal, START_MS + REMEMBER_MS);
    assert_eq!(state.remembered().len(), 0);
}

#[test]
fn full_memory_forgets_the_smallest_id_for_each_new_one() {
    let mut state = State::default();
    let customer = Command::OpenCustomer(ANN);
    let (request, outcome, at) = (Digest([9; 32]), Outcome::Done(true), LedgerTime(START_MS));
    for number in 1..=REMEMBER_MAX as u64 {
        let command = id_at(START_MS + number % 3, number);
        state.apply(&Event::RestateRemembered(Remembered { command, request, outcome: outcome.clone(), at }));
    }
    let origin = Origin::Request { id: id_at(START_MS + 9, 0), request };
    let verdict = state.decide(&Request { origin, command: customer }, at).expect("it is good");
    let Verdict::Decided { events, .. } = verdict else { panic!("it is new") };
    assert_eq!(events.last(), Some(&Event::Forgotten(Forgotten { command: id_at(START_MS, 3) })));
    assert_eq!(state.remembered().len(), REMEMBER_MAX);
    assert_eq!(state.counters().forgotten_until, LedgerTime(START_MS + 1), "only ids of that millisecond are lost");
}

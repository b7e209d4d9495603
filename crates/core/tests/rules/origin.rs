//! Who asks: ids, repetitions, sessions.

use crate::world::*;
use florin_core::asset::HaltAction;
use florin_core::command::{
    Command, ID_AHEAD_MS, Origin, Outcome, REMEMBER_MS, Request, SESSION_KEPT_MS, SESSION_MS, SESSIONS_MAX,
    TIME_JUMP_MAX_MS,
};
use florin_core::decide::{AccountRefusal, OriginRefusal, Refusal, TICK_SESSION_EVENTS};
use florin_core::event::{Event, SessionAdvanced, SessionForgotten};
use florin_core::id::{CommandId, CustomerId, Digest, LedgerTime, SessionId};
use florin_core::state::State;

fn send(world: &mut World, id: CommandId, request: u8, command: Command) -> Result<Outcome, Refusal> {
    let origin = Origin::Request { id, request: Digest([request; 32]) };
    world.send(&Request { origin, command }).map(|(outcome, _)| outcome)
}

#[test]
fn id_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let good = id_at(START_MS, 500);
    for change in [|id: &mut CommandId| id.0[6] = 0x40, |id: &mut CommandId| id.0[8] = 0xc0] {
        let mut id = good;
        change(&mut id);
        assert_eq!(send(&mut world, id, 1, Command::OpenCustomer(ANN)), Err(OriginRefusal::InvalidId.into()));
    }
    let open = Command::OpenCustomer(CustomerId([1; 16]));
    assert_eq!(send(&mut world, good, 1, open.clone()), Ok(Outcome::Done(true)));
    assert_eq!(send(&mut world, good, 1, open.clone()), Ok(Outcome::Done(true)), "a repetition gets its answer");
    assert_eq!(send(&mut world, good, 2, open), Err(OriginRefusal::Mismatch.into()));
    // The rank of each: an id that is old and remembered is a repetition or a mismatch, one that is old and not is expired.
    let mut oldest = id_at(START_MS - REMEMBER_MS + 1, 1);
    let open = Command::OpenCustomer(CustomerId([2; 16]));
    assert_eq!(send(&mut world, oldest, 1, open.clone()), Ok(Outcome::Done(true)), "at its last moment it is taken");
    world.pass_ms(1);
    assert_eq!(send(&mut world, oldest, 1, open.clone()), Ok(Outcome::Done(true)), "a repetition gets its answer");
    assert_eq!(send(&mut world, oldest, 2, open.clone()), Err(OriginRefusal::Mismatch.into()));
    let another = id_at(START_MS - REMEMBER_MS + 1, 2);
    assert_eq!(send(&mut world, another, 1, open.clone()), Err(OriginRefusal::Expired.into()));
    assert_eq!(send(&mut world, id_at(0, 1), 1, open.clone()), Err(OriginRefusal::Expired.into()));
    oldest.0[6] = 0x40;
    assert_eq!(send(&mut world, oldest, 2, open), Err(OriginRefusal::InvalidId.into()));
    let ranks = [OriginRefusal::InvalidId, OriginRefusal::Mismatch, OriginRefusal::Expired, OriginRefusal::Ahead];
    assert_eq!(OriginRefusal::ALL[..4], ranks, "as they were met here");
    let ahead = id_at(world.now.0 + ID_AHEAD_MS + 1, 1);
    assert_eq!(send(&mut world, ahead, 1, Command::OpenCustomer(ANN)), Err(OriginRefusal::Ahead.into()));
    let just = id_at(world.now.0 + ID_AHEAD_MS, 1);
    assert_eq!(send(&mut world, just, 1, Command::OpenCustomer(ANN)), Err(AccountRefusal::CustomerExists.into()));
}

#[test]
fn ids_of_a_clock_that_is_behind_are_taken_and_those_a_day_older_are_not() {
    let mut world = World::new();
    world.send(&Request { origin: Origin::Internal, command: Command::Tick }).expect("time passes");
    let clock = world.now.0 - 2 * REMEMBER_MS;
    let halt = |action| Command::Halt(halt_of(Some(EUR), action));
    assert_eq!(
        send(&mut world, id_at(clock, 1), 1, halt(HaltAction::Sign)),
        Err(OriginRefusal::Expired.into()),
        "the clock is not known to be behind"
    );
    let see = Command::SeeClock { clock: LedgerTime(clock) };
    world.send(&Request { origin: Origin::Internal, command: see }).expect("it is noted");
    assert_eq!(send(&mut world, id_at(clock, 1), 1, halt(HaltAction::Sign)), Ok(Outcome::Done(true)));
    assert_eq!(
        send(&mut world, id_at(clock - REMEMBER_MS + 1, 2), 1, halt(HaltAction::Quote)),
        Ok(Outcome::Done(true))
    );
    let old = id_at(clock - REMEMBER_MS, 3);
    assert_eq!(send(&mut world, old, 1, halt(HaltAction::Credit)), Err(OriginRefusal::Expired.into()));
}

#[test]
fn refusal_is_not_remembered() {
    let mut world = World::empty();
    let id = id_at(START_MS, 500);
    let open = Command::OpenAccount {
        owner: florin_core::ledger::Owner::Plain(1),
        asset: POINTS,
        rule: florin_core::ledger::BalanceRule::Free,
    };
    assert_eq!(send(&mut world, id, 1, open.clone()), Err(AccountRefusal::AssetUnknown.into()));
    world.done(Command::DefineAsset(assets()[3].clone()));
    assert!(matches!(send(&mut world, id, 1, open), Ok(Outcome::Account(_))), "the same id may try again");
}

#[test]
fn session_executes_each_sequence_once_and_in_order() {
    let mut world = World::empty();
    let session = session_at(START_MS, 5);
    let request = |sequence, number| {
        let command = Command::OpenCustomer(CustomerId([number; 16]));
        Request { origin: Origin::Session { session, sequence }, command }
    };
    assert_eq!(world.send(&request(0, 1)), Err(OriginRefusal::SequenceDone.into()), "sequences begin with 1");
    assert_eq!(world.send(&request(2, 1)), Err(OriginRefusal::SequenceGap.into()));
    let (_, events) = world.send(&request(1, 1)).expect("it is the first");
    assert_eq!(events.last(), Some(&Event::SessionAdvanced(SessionAdvanced { session, sequence: 1 })));
    assert_eq!(world.send(&request(1, 1)), Err(OriginRefusal::SequenceDone.into()));
    assert_eq!(world.send(&request(2, 1)), Err(AccountRefusal::CustomerExists.into()), "a refusal uses up no sequence");
    assert!(world.send(&request(2, 2)).is_ok());
    let other = Request { origin: Origin::Session { session: session_at(START_MS, 6), sequence: 1 }, ..request(1, 3) };
    assert!(world.send(&other).is_ok(), "sessions count apart");
    assert_eq!(world.state.sessions()[&session], 2);
}

fn bulk(session: SessionId, sequence: u64) -> Request {
    let command = Command::OpenCustomer(CustomerId([session.0[15].wrapping_mul(16).wrapping_add(sequence as u8); 16]));
    Request { origin: Origin::Session { session, sequence }, command }
}

/// Lets time pass by ticks; says which sessions were forgotten.
fn wait_until(world: &mut World, ms: u64) -> Vec<SessionId> {
    let mut forgotten = Vec::new();
    while world.now < LedgerTime(ms) {
        world.now = world.now.plus_ms(TIME_JUMP_MAX_MS - 1).min(LedgerTime(ms));
        let tick = Request { origin: Origin::Internal, command: Command::Tick };
        let (_, events) = world.send(&tick).expect("time passes");
        forgotten.extend(events.iter().filter_map(|event| match event {
            Event::SessionForgotten(SessionForgotten { session }) => Some(*session),
            _ => None,
        }));
    }
    forgotten
}

#[test]
fn session_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::empty();
    for change in [|id: &mut SessionId| id.0[6] = 0x40, |id: &mut SessionId| id.0[8] = 0xc0] {
        let mut session = session_at(START_MS - SESSION_MS, 1);
        change(&mut session);
        assert_eq!(world.send(&bulk(session, 0)), Err(OriginRefusal::SessionInvalid.into()));
    }
    let old = session_at(START_MS - SESSION_MS, 1);
    assert_eq!(world.send(&bulk(old, 0)), Err(OriginRefusal::SequenceDone.into()), "sequences begin with 1");
    assert_eq!(world.send(&bulk(old, 2)), Err(OriginRefusal::SessionExpired.into()), "its gap is not looked for");
    let ahead = session_at(START_MS + ID_AHEAD_MS + 1, 1);
    assert_eq!(world.send(&bulk(ahead, 2)), Err(OriginRefusal::SessionAhead.into()));
    let just = session_at(START_MS + ID_AHEAD_MS, 1);
    assert_eq!(world.send(&bulk(just, 2)), Err(OriginRefusal::SequenceGap.into()));
    assert!(world.send(&bulk(just, 1)).is_ok());
    let just = session_at(START_MS - SESSION_MS + 1, 3);
    assert!(world.send(&bulk(just, 1)).is_ok(), "at its last moment it begins");
    assert_eq!(world.send(&bulk(just, u64::MAX)), Err(OriginRefusal::SequenceGap.into()));
}

#[test]
fn session_that_was_forgotten_never_begins_again() {
    let mut world = World::empty();
    let (session, later) = (session_at(START_MS, 1), session_at(START_MS + 1, 2));
    for session in [session, later] {
        world.send(&bulk(session, 1)).expect("it begins");
    }
    assert_eq!(wait_until(&mut world, START_MS + SESSION_MS - 1), []);
    world.send(&bulk(session, 2)).expect("it is its last moment");
    world.pass_ms(1);
    assert_eq!(world.send(&bulk(session, 3)), Err(OriginRefusal::SessionExpired.into()));
    assert_eq!(world.send(&bulk(session, 2)), Err(OriginRefusal::SequenceDone.into()), "what was done is still known");
    assert_eq!(wait_until(&mut world, START_MS + SESSION_KEPT_MS - 1), []);
    assert_eq!(world.send(&bulk(session, 2)), Err(OriginRefusal::SequenceDone.into()));
    assert_eq!(wait_until(&mut world, START_MS + SESSION_KEPT_MS), [session]);
    for sequence in [1, 2, 3] {
        assert_eq!(world.send(&bulk(session, sequence)), Err(OriginRefusal::SessionExpired.into()));
    }
    assert_eq!(world.state.sessions().keys().collect::<Vec<_>>(), [&later]);
}

#[test]
fn sessions_are_bounded_and_forgotten_within_a_ticks_budget() {
    let mut state = State::default();
    for number in 0..SESSIONS_MAX as u64 {
        let session = session_at(START_MS, number);
        state.apply(&Event::SessionAdvanced(SessionAdvanced { session, sequence: 1 }));
    }
    check_snapshot(&state);
    let mut send = |request: &Request, ms: u64| state.decide(request, LedgerTime(ms)).map(|_| ());
    let other = bulk(session_at(START_MS, SESSIONS_MAX as u64), 2);
    assert_eq!(send(&other, START_MS), Err(OriginRefusal::SessionsFull.into()), "before its gap");
    assert_eq!(send(&bulk(session_at(START_MS, 1), 2), START_MS), Ok(()), "those that are known go on");
    let tick = Request { origin: Origin::Internal, command: Command::Tick };
    assert_eq!(send(&tick, START_MS + SESSION_KEPT_MS), Ok(()));
    assert_eq!(state.sessions().len(), SESSIONS_MAX - TICK_SESSION_EVENTS);
}

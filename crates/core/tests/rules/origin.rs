//! Who asks: ids, repetitions, sessions.

use crate::world::*;
use florin_core::command::{Command, ID_AHEAD_MS, Origin, Outcome, Request};
use florin_core::decide::{AccountRefusal, OriginRefusal, Refusal};
use florin_core::event::{Event, SessionAdvanced};
use florin_core::id::{CommandId, Digest, SessionId};

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
    let open = Command::OpenCustomer(florin_core::id::CustomerId([1; 16]));
    assert_eq!(send(&mut world, good, 1, open.clone()), Ok(Outcome::Done(true)));
    assert_eq!(send(&mut world, good, 1, open.clone()), Ok(Outcome::Done(true)), "a repetition gets its answer");
    assert_eq!(send(&mut world, good, 2, open), Err(OriginRefusal::Mismatch.into()));
    let ahead = id_at(START_MS + ID_AHEAD_MS + 1, 1);
    assert_eq!(send(&mut world, ahead, 1, Command::OpenCustomer(ANN)), Err(OriginRefusal::Ahead.into()));
    let just = id_at(START_MS + ID_AHEAD_MS, 1);
    assert_eq!(send(&mut world, just, 1, Command::OpenCustomer(ANN)), Err(AccountRefusal::CustomerExists.into()));
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
    let session = SessionId([5; 16]);
    let request = |sequence, number| {
        let command = Command::OpenCustomer(florin_core::id::CustomerId([number; 16]));
        Request { origin: Origin::Session { session, sequence }, command }
    };
    assert_eq!(world.send(&request(0, 1)), Err(OriginRefusal::SequenceDone.into()), "sequences begin with 1");
    assert_eq!(world.send(&request(2, 1)), Err(OriginRefusal::SequenceGap.into()));
    let (_, events) = world.send(&request(1, 1)).expect("it is the first");
    assert_eq!(events.last(), Some(&Event::SessionAdvanced(SessionAdvanced { session, sequence: 1 })));
    assert_eq!(world.send(&request(1, 1)), Err(OriginRefusal::SequenceDone.into()));
    assert_eq!(world.send(&request(2, 1)), Err(AccountRefusal::CustomerExists.into()), "a refusal uses up no sequence");
    assert!(world.send(&request(2, 2)).is_ok());
    let other = Request { origin: Origin::Session { session: SessionId([6; 16]), sequence: 1 }, ..request(1, 3) };
    assert!(world.send(&other).is_ok(), "sessions count apart");
    assert_eq!(world.state.sessions()[&session], 2);
}

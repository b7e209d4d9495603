//! What mempools show, when there is more of it than anybody would pay: noted up to a limit, and never lost for good.

use crate::model::name;
use crate::world::*;
use florin_core::amount::Amount;
use florin_core::command::{Command, ConnectBlock, Receipt};
use florin_core::custody::{Beneficiary, Block, BlockRef, Deposit, DepositStatus, KeyPath, OutPoint};
use florin_core::decide::{REPLACED_KEPT_MS, SEEN_PER_ADDRESS_MAX, SEEN_PER_CHAIN_MAX};
use florin_core::event::Event;
use florin_core::id::{BlockHash, Height, TxId};

fn receipt(path: KeyPath, number: u64) -> Receipt {
    Receipt { txid: TxId(name(7, number)), vout: 0, amount: Amount::new(5_000), path, coinbase: false }
}

fn see(world: &mut World, path: KeyPath, numbers: std::ops::Range<u64>) {
    let receipts = numbers.map(|number| receipt(path, number)).collect();
    world.done(Command::SeeReceipts { chain: CHAIN, receipts });
}

fn lose(world: &mut World, numbers: std::ops::Range<u64>) {
    let outpoint = |number| OutPoint { chain: CHAIN, txid: TxId(name(7, number)), vout: 0 };
    world.done(Command::LoseReceipts { chain: CHAIN, outpoints: numbers.map(outpoint).collect() });
}

fn connect(world: &mut World, receipts: Vec<Receipt>) {
    let tip = world.tip().at;
    let at = BlockRef { height: Height(tip.height.0 + 1), hash: BlockHash(name(1, u64::from(tip.height.0) + 1)) };
    let block = Block { chain: CHAIN, at, previous: tip.hash, time_s: 1_700_000_001 };
    world.done(Command::ConnectBlock(ConnectBlock { block, receipts, spends: Vec::new(), more: false }));
}

fn status(world: &World, number: u64) -> Option<DepositStatus> {
    let outpoint = OutPoint { chain: CHAIN, txid: TxId(name(7, number)), vout: 0 };
    world.state.deposits().get(&outpoint).map(|deposit| deposit.status)
}

#[test]
fn one_address_has_so_many_unconfirmed_payments_and_a_block_books_the_others() {
    let mut world = World::new();
    let max = u64::from(SEEN_PER_ADDRESS_MAX);
    let path = world.address(HOT, Beneficiary::Customer(ANN));
    let other = world.address(HOT, Beneficiary::Customer(BEN));
    see(&mut world, path, 0..max + 8);
    assert_eq!(world.state.deposits().len(), SEEN_PER_ADDRESS_MAX as usize);
    assert_eq!((status(&world, max - 1), status(&world, max)), (Some(DepositStatus::Seen), None));
    assert!(!world.state.takes_sighting(CHAIN, &path) && world.state.takes_sighting(CHAIN, &other));
    see(&mut world, path, 0..max + 8);
    assert_eq!(world.last, [], "told again, it is still too much");
    see(&mut world, other, 1_000..1_001);
    assert_eq!(status(&world, 1_000), Some(DepositStatus::Seen), "other addresses have their own");

    connect(&mut world, vec![receipt(path, max)]);
    assert_eq!(status(&world, max), Some(DepositStatus::Pending));
    assert!(!world.state.takes_sighting(CHAIN, &path), "a payment that was never noted makes no room");
    connect(&mut world, vec![receipt(path, 0)]);
    see(&mut world, path, max + 1..max + 3);
    assert_eq!((status(&world, max + 1), status(&world, max + 2)), (Some(DepositStatus::Seen), None));
    world.check_fold();
    assert!(!world.state.takes_sighting(CHAIN, &path), "a snapshot counts the same");
}

#[test]
fn replaced_payments_count_until_they_are_forgotten() {
    let mut world = World::new();
    let max = u64::from(SEEN_PER_ADDRESS_MAX);
    let path = world.address(HOT, Beneficiary::Customer(ANN));
    see(&mut world, path, 0..max);
    lose(&mut world, 0..max);
    see(&mut world, path, max..max + 1);
    assert_eq!(status(&world, max), None, "else listing and unlisting would fill the journal");
    see(&mut world, path, 0..1);
    assert_eq!(status(&world, 0), Some(DepositStatus::Seen), "one that was noted may come back");
    world.now = world.now.plus_ms(REPLACED_KEPT_MS);
    world.done(Command::Tick);
    see(&mut world, path, max..max + 1);
    assert_eq!(status(&world, max), Some(DepositStatus::Seen));
}

#[test]
fn a_chain_has_so_many_unconfirmed_payments() {
    let mut world = World::new();
    let of_chain = u64::from(SEEN_PER_CHAIN_MAX);
    let path = world.address(HOT, Beneficiary::Customer(ANN));
    see(&mut world, path, 0..1);
    let Event::DepositSeen(first) = world.last[0].clone() else { panic!("a first sighting is noted") };
    for number in 1..of_chain - 1 {
        // Of as many addresses as it takes: folded, since deciding all of them is slow.
        let outpoint = OutPoint { txid: TxId(name(7, number)), ..first.outpoint };
        let path = KeyPath { index: 1_000 + number as u32, ..path };
        let seen = Event::DepositSeen(Deposit { outpoint, path, ..first.clone() });
        world.state.apply(&seen);
        world.shadow.apply(&seen);
    }
    let path = world.address(HOT, Beneficiary::Customer(BEN));
    see(&mut world, path, of_chain - 1..of_chain);
    assert_eq!(status(&world, of_chain - 1), Some(DepositStatus::Seen));
    see(&mut world, path, of_chain..of_chain + 1);
    assert_eq!(status(&world, of_chain), None);
    connect(&mut world, vec![receipt(path, of_chain), receipt(path, of_chain + 1)]);
    assert!(world.last.iter().any(|event| matches!(event, Event::DepositSeen(_))));
    assert_eq!(status(&world, of_chain), Some(DepositStatus::Pending));
}

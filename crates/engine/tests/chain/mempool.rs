//! What one node alone says of its mempool: it reaches no journal, and does not keep others waiting.

use crate::network::{FakeNode, payment};
use crate::platform::*;
use bitcoin::Transaction;
use florin_core::custody::DepositStatus;
use florin_core::decide::SEEN_PER_ADDRESS_MAX;
use florin_core::id::TxId;
use florin_engine::follower::Follower;
use florin_engine::follower::mempool::{FETCH_MAX, REFETCH_POLLS};
use std::collections::BTreeMap;

fn statuses(platform: &Platform) -> BTreeMap<DepositStatus, usize> {
    let mut counts = BTreeMap::new();
    platform.state().deposits().values().for_each(|deposit| *counts.entry(deposit.status).or_insert(0) += 1);
    counts
}

fn steps(platform: &mut Platform, follower: &mut Follower, count: u32) {
    (0..count).for_each(|_| drop(platform.step(follower)));
}

fn show(nodes: &[FakeNode], tx: &Transaction) {
    nodes.iter().for_each(|node| node.state().mempool.push(tx.clone()));
}

/// Ids of nothing, all before those of any transaction in the order in which they are looked through.
fn invented(count: usize) -> Vec<TxId> {
    let id = |number: u32| {
        let mut id = [0; 32];
        id[4..8].copy_from_slice(&number.to_be_bytes());
        TxId(id)
    };
    (0..count as u32).map(id).collect()
}

#[test]
fn a_payment_that_one_group_alone_shows_is_not_journalled() {
    let (mut platform, _, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let paying = payment(1, vec![(script, 50_000)]);
    show(&nodes[..1], &paying);
    let before = platform.model.at();
    steps(&mut platform, &mut follower, 5);
    assert_eq!((statuses(&platform), platform.model.at()), (BTreeMap::new(), before));
    show(&nodes[1..], &paying);
    steps(&mut platform, &mut follower, 2);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, 1)]));
}

#[test]
fn two_nodes_of_one_group_are_one_voice() {
    let (mut platform, _, nodes, _) = world();
    let seats =
        nodes.iter().map(|node| florin_engine::follower::nodes::Seat { group: "same".to_owned(), ..node.seat("a") });
    let mut follower = Follower::new(follower_config(2), seats.collect(), [3; 16]).unwrap();
    let script = platform.address(1, 1);
    show(&nodes, &payment(1, vec![(script, 50_000)]));
    steps(&mut platform, &mut follower, 5);
    assert_eq!(statuses(&platform), BTreeMap::new());
}

#[test]
fn ids_of_nothing_are_asked_for_once_in_a_while_and_keep_nobody_waiting() {
    let (mut platform, _, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    nodes[0].state().invented = invented(2 * FETCH_MAX);
    show(&nodes, &payment(1, vec![(script, 50_000)]));
    steps(&mut platform, &mut follower, 2);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, 1)]), "what a quorum shows goes first");
    steps(&mut platform, &mut follower, REFETCH_POLLS / 2);
    let asked = |nodes: &[FakeNode]| nodes[0].state().asked;
    assert_eq!(asked(&nodes), 2 * FETCH_MAX + 1);
    steps(&mut platform, &mut follower, REFETCH_POLLS);
    assert_eq!(asked(&nodes), 4 * FETCH_MAX + 1, "they might be there by now");
}

#[test]
fn what_one_node_does_not_give_is_asked_of_the_next() {
    let (mut platform, _, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let paying = payment(1, vec![(script, 50_000)]);
    let txid = florin_engine::terms::core_txid(paying.compute_txid());
    nodes[0].state().invented = vec![txid];
    show(&nodes[1..], &paying);
    steps(&mut platform, &mut follower, 3);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, 1)]));
}

#[test]
fn more_payments_to_one_address_than_are_noted_do_not_stand_before_others() {
    let (mut platform, _, nodes, mut follower) = world();
    let (script, other) = (platform.address(1, 1), platform.address(2, 2));
    for number in 0..400 {
        show(&nodes, &payment(1, vec![(script.clone(), 50_000 + number)]));
    }
    show(&nodes, &payment(2, vec![(other, 60_000)]));
    steps(&mut platform, &mut follower, 5);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, SEEN_PER_ADDRESS_MAX as usize + 1)]));
    let before = platform.model.at();
    assert!(platform.step(&mut follower).is_empty(), "nothing is asked for that would not be noted");
    assert_eq!(platform.model.at(), before);
}

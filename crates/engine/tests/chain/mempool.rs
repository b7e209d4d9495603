//! What fewer nodes than the quorum say of their mempools, or don't say: it reaches no journal, and keeps nothing waiting.

use crate::network::{Blocks, FakeNode, Manner, payment, transaction};
use crate::platform::*;
use bitcoin::Transaction;
use florin_core::custody::DepositStatus;
use florin_core::decide::SEEN_PER_ADDRESS_MAX;
use florin_core::id::{BlockHash, TxId};
use florin_engine::follower::Follower;
use florin_engine::follower::mempool::{ABSENT_POLLS, FETCH_MAX, REFETCH_POLLS};
use florin_engine::terms::core_txid;
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
    let txid = core_txid(paying.compute_txid());
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

/// Nodes in groups of their own, and an unconfirmed payment that all of them show.
fn seen_by(count: usize, quorum: usize) -> (Platform, Blocks, Vec<FakeNode>, Follower, Transaction) {
    let (mut platform, blocks, mut nodes, _) = world();
    nodes.resize_with(count, || FakeNode::new(&blocks));
    let seats = ["a", "b", "c", "d"].iter().zip(&nodes).map(|(name, node)| node.seat(name)).collect();
    let mut follower = Follower::new(follower_config(quorum), seats, [3; 16]).unwrap();
    let script = platform.address(1, 1);
    let paying = payment(1, vec![(script, 50_000)]);
    show(&nodes, &paying);
    steps(&mut platform, &mut follower, 2);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, 1)]));
    (platform, blocks, nodes, follower, paying)
}

/// A block in which somebody else gets what a payment spends.
fn conflict(blocks: &Blocks, paying: &Transaction) -> BlockHash {
    let other = transaction(paying.input.clone(), vec![(bitcoin::ScriptBuf::from_bytes(vec![0x51]), 40_000)]);
    blocks.mine(blocks.genesis(), 0, vec![other])
}

/// Steps, and sees that the payment stays replaced and that nothing is written.
fn stays_replaced(platform: &mut Platform, follower: &mut Follower, what: &str) {
    let before = platform.model.at();
    steps(platform, follower, 4 * ABSENT_POLLS);
    assert_eq!(statuses(platform), BTreeMap::from([(DepositStatus::Replaced, 1)]), "{what}");
    assert_eq!(platform.model.at(), before, "{what}");
}

#[test]
fn a_node_that_is_away_does_not_keep_a_payment_that_is_gone() {
    let (mut platform, _, nodes, mut follower, _) = seen_by(3, 2);
    nodes[2].state().manner = Manner::Silent;
    nodes[..2].iter().for_each(|node| node.state().mempool.clear());
    steps(&mut platform, &mut follower, ABSENT_POLLS - 1);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, 1)]), "a moment's absence is usual");
    steps(&mut platform, &mut follower, 2);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Replaced, 1)]));
}

#[test]
fn a_payment_stays_while_any_node_lists_it_or_fewer_groups_than_the_quorum_list_anything() {
    let (mut platform, blocks, nodes, mut follower, paying) = seen_by(3, 2);
    let seen = BTreeMap::from([(DepositStatus::Seen, 1)]);
    nodes[2].state().manner = Manner::Silent;
    // A small mempool throws out what others keep.
    nodes[0].state().mempool.clear();
    steps(&mut platform, &mut follower, 4 * ABSENT_POLLS);
    assert_eq!(statuses(&platform), seen);
    nodes[1].state().manner = Manner::Silent;
    steps(&mut platform, &mut follower, 4 * ABSENT_POLLS);
    assert_eq!(statuses(&platform), seen);
    // One that is behind, with an empty mempool, is no voice against it.
    nodes[1].state().manner = Manner::Honest;
    nodes[1].state().mempool.clear();
    nodes[2].state().manner = Manner::Honest;
    nodes[2].state().mempool.clear();
    show(&nodes[2..], &paying);
    let tip = blocks.extend(blocks.genesis(), 0, 3);
    [&nodes[0], &nodes[2]].iter().for_each(|node| node.state().tip = tip);
    platform.settle(&mut follower);
    nodes[2].state().manner = Manner::Silent;
    steps(&mut platform, &mut follower, 4 * ABSENT_POLLS);
    assert_eq!((platform.tip().hash, statuses(&platform)), (tip, seen));
    nodes[1].state().tip = tip;
    steps(&mut platform, &mut follower, 4 * ABSENT_POLLS);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Replaced, 1)]));
}

#[test]
fn a_payment_whose_input_a_block_spends_otherwise_is_gone_whoever_still_lists_it() {
    let (mut platform, blocks, nodes, mut follower, paying) = seen_by(3, 2);
    let mined = conflict(&blocks, &paying);
    nodes[0].state().tip = mined;
    nodes[..2].iter().for_each(|node| node.state().mempool.clear());
    steps(&mut platform, &mut follower, 4 * ABSENT_POLLS);
    let seen = BTreeMap::from([(DepositStatus::Seen, 1)]);
    assert_eq!(statuses(&platform), seen, "one node's block is none of the journal's");
    nodes[1].state().tip = mined;
    platform.settle(&mut follower);
    assert_eq!(platform.tip().hash, mined);
    stays_replaced(&mut platform, &mut follower, "the third node lists it for ever");
}

#[test]
fn a_payment_whose_input_is_spent_stays_replaced_however_many_list_it() {
    for quorum in [1, 2] {
        let (mut platform, blocks, nodes, mut follower, paying) = seen_by(2 * quorum, quorum);
        let mined = conflict(&blocks, &paying);
        for node in &nodes[..quorum] {
            node.state().tip = mined;
            node.state().mempool.clear();
        }
        platform.settle(&mut follower);
        assert_eq!(platform.tip().hash, mined);
        stays_replaced(&mut platform, &mut follower, &format!("{quorum} groups have not heard of the block"));
        // Once the network takes the block back, the payment may come after all.
        let longer = blocks.extend(blocks.genesis(), 1, 2);
        nodes.iter().for_each(|node| node.state().tip = longer);
        platform.settle(&mut follower);
        let seen = BTreeMap::from([(DepositStatus::Seen, 1)]);
        assert_eq!((platform.tip().hash, statuses(&platform)), (longer, seen));
    }
}

#[test]
fn a_payment_that_a_slow_node_listed_before_the_block_stays_replaced() {
    let (mut platform, blocks, nodes, mut follower, paying) = seen_by(1, 1);
    let mined = conflict(&blocks, &paying);
    nodes[0].state().lists_late = true;
    nodes[0].state().tip = mined;
    nodes[0].state().mempool.clear();
    platform.settle(&mut follower);
    assert_eq!(platform.tip().hash, mined);
    stays_replaced(&mut platform, &mut follower, "it takes its time");
    nodes[0].state().lists_late = false;
    stays_replaced(&mut platform, &mut follower, "it has listed what waits");
}

#[test]
fn what_was_listed_before_is_no_news() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let most = SEEN_PER_ADDRESS_MAX as usize;
    let payments: Vec<Transaction> = (0..=most).map(|n| payment(n as u8 + 1, vec![(script.clone(), 50_000)])).collect();
    payments.iter().for_each(|paying| show(&nodes, paying));
    steps(&mut platform, &mut follower, 3);
    assert_eq!(statuses(&platform), BTreeMap::from([(DepositStatus::Seen, most)]), "no more are noted");
    let (noted, open): (Vec<_>, Vec<_>) = payments.into_iter().partition(|paying| {
        let txid = core_txid(paying.compute_txid());
        platform.state().deposits().keys().any(|outpoint| outpoint.txid == txid)
    });
    let mined = blocks.mine(blocks.genesis(), 0, noted[..1].to_vec());
    for node in &nodes {
        let mut state = node.state();
        (state.lists_late, state.tip, state.mempool) = (true, mined, noted[1..].to_vec());
    }
    platform.settle(&mut follower);
    steps(&mut platform, &mut follower, 3);
    let of = |platform: &Platform| statuses(platform).get(&DepositStatus::Seen).copied();
    assert_eq!((platform.tip().hash, of(&platform)), (mined, Some(most - 1)), "who knows whether it still waits");
    show(&nodes, &open[0]);
    nodes.iter().for_each(|node| node.state().lists_late = false);
    steps(&mut platform, &mut follower, 3);
    assert_eq!(of(&platform), Some(most));
}

//! What nodes say to a signed transaction: it counts as broadcast when a quorum of failure groups has it.

use super::*;

/// A signed plan, and nodes in these groups that are told of it, of whose groups two must have it.
fn signed(groups: &[&str]) -> (Paying, Vec<FakeNode>) {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed]);
    let nodes: Vec<FakeNode> = groups.iter().map(|_| FakeNode::new(&world.blocks)).collect();
    let seats = groups.iter().zip(&nodes).map(|(group, node)| node.seat(group)).collect();
    world.broadcaster = Broadcaster::new(BroadcasterConfig { chain: CHAIN, quorum: 2, repeat_ms: 30_000 }, seats);
    (world, nodes)
}

#[test]
fn a_transaction_is_broadcast_when_a_quorum_has_it_and_not_on_one_nodes_word() {
    let (mut world, nodes) = signed(&["a", "b", "c"]);
    nodes[1..].iter().for_each(|node| node.state().manner = Manner::Silent);
    world.platform.settle(&mut world.broadcaster);
    assert_eq!((world.statuses(), nodes[0].state().sent.len()), (vec![WithdrawalStatus::Signed], 1));
    nodes[2].state().manner = Manner::Honest;
    world.platform.now_ms += florin_engine::workers::broadcaster::MISSED_MS;
    world.platform.settle(&mut world.broadcaster);
    assert_eq!((world.statuses(), nodes[0].state().sent.len()), (vec![WithdrawalStatus::Broadcast], 1));
}

#[test]
fn nodes_of_one_group_have_one_voice_about_what_they_have() {
    let (mut world, nodes) = signed(&["a", "a", "b"]);
    nodes[2].state().manner = Manner::Silent;
    world.platform.settle(&mut world.broadcaster);
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed]);
}

#[test]
fn a_transaction_that_is_rejected_is_named_until_a_quorum_has_it() {
    let (mut world, nodes) = signed(&["a", "b", "c"]);
    nodes[1..].iter().for_each(|node| node.state().rejects = Some("min relay fee not met"));
    world.platform.step(&mut world.broadcaster);
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed]);
    let alarms = world.broadcaster.alarms();
    assert_eq!(alarms.iter().map(|alarm| alarm.code).collect::<Vec<_>>(), ["transaction_rejected"]);
    assert!(alarms[0].detail.contains("min relay fee not met"), "{}", alarms[0].detail);
    nodes[1].state().rejects = None;
    world.platform.now_ms += 30_000;
    for _ in 0..3 {
        world.platform.step(&mut world.broadcaster);
    }
    assert_eq!((world.statuses(), alarm_codes(&world.broadcaster)), (vec![WithdrawalStatus::Broadcast], vec![]));
}

//! What a node says of fee rates: no fewer failure groups than the quorum set what a plan pays.

use super::*;

/// The fee of the plan for one withdrawal, where a quorum of two is asked, and what the planner says.
fn fee(said: &[(&str, Option<u64>)]) -> (Option<u128>, Vec<&'static str>) {
    let mut world = paying();
    let seat = |(group, estimate): &(&str, Option<u64>)| {
        let node = FakeNode::new(&world.blocks);
        node.state().estimate = *estimate;
        node.seat(group)
    };
    world.planner = planner(said.iter().map(seat).collect(), &Doubts::default());
    world.withdraw(10, 1, 40_000);
    world.platform.step(&mut world.planner);
    let plan = world.platform.state().plans().values().next();
    (plan.map(|plan| plan.versions[0].fee.units()), alarm_codes(&world.planner))
}

#[test]
fn a_node_that_alone_estimates_does_not_set_the_fee() {
    let (floor, _) = fee(&[("a", Some(1_000)), ("b", Some(1_000)), ("c", Some(1_000))]);
    let floor = floor.expect("it can be paid");
    assert_eq!(fee(&[("a", None), ("b", None), ("c", Some(100_000))]), (Some(floor), vec![]), "regtest has a fallback");
    assert_eq!(fee(&[("a", None), ("c", Some(100_000)), ("c", Some(100_000))]), (Some(floor), vec![]));
    assert_eq!(fee(&[("a", None), ("b", Some(1_000)), ("c", Some(100_000))]), (Some(floor), vec![]));
    let (honest, _) = fee(&[("a", Some(5_000)), ("b", Some(5_000))]);
    assert!(honest > Some(4 * floor), "{honest:?}, {floor}");
    assert_eq!(fee(&[("a", Some(5_000)), ("b", Some(5_000)), ("c", Some(100_001))]), (honest, vec![]), "above the cap");
    assert_eq!(fee(&[("a", Some(5_000)), ("b", Some(5_000)), ("c", Some(1))]), (honest, vec![]));
    assert_eq!(fee(&[("a", Some(5_000)), ("b", None), ("c", Some(5_000))]), (honest, vec![]));
}

#[test]
fn where_coins_have_worth_too_few_estimates_keep_a_plan_waiting() {
    use florin_core::command::{ConnectBlock, Receipt};
    use florin_core::custody::{Block, BlockRef, KeyPath};
    use florin_core::id::{Height, TxId};
    use florin_engine::lanes::Ask;

    let genesis = network::other_genesis();
    let mut platform = Platform::new(genesis, ScriptKind::Wpkh);
    platform.address(1, 1);
    let path = KeyPath { wallet: WALLET, branch: Branch::External, index: 0 };
    let receipt = Receipt { txid: TxId([1; 32]), vout: 0, amount: Amount::new(100_000), path, coinbase: false };
    for height in 1..=6u8 {
        let hash = |height: u8| if height == 0 { genesis } else { BlockHash([height + 100; 32]) };
        let at = BlockRef { height: Height(u32::from(height)), hash: hash(height) };
        let block = Block { chain: CHAIN, at, previous: hash(height - 1), time_s: u64::from(height) };
        let receipts = if height == 1 { vec![receipt.clone()] } else { vec![] };
        let command = ConnectBlock { block, receipts, spends: vec![], more: false };
        platform.must(Ask::internal(Command::ConnectBlock(command)));
    }
    let script = Bytes([vec![0, 20], vec![7; 20]].concat());
    let (customer, amount) = (customer(1), Amount::new(40_000));
    platform.request(10, Command::RequestWithdrawal { customer, asset: BTC, amount, script, wallet: WALLET });

    let nodes: Vec<FakeNode> = (0..3).map(|_| FakeNode::new(&network::Blocks::new())).collect();
    for (node, estimate) in nodes.iter().zip([None, None, Some(100_000)]) {
        node.state().manner = Manner::OtherNetwork;
        node.state().estimate = estimate;
    }
    let seats = ["a", "b", "c"].iter().zip(&nodes).map(|(name, node)| node.seat(name)).collect();
    let mut planner = planner(seats, &Doubts::default());
    platform.step(&mut planner);
    assert_eq!((platform.state().plans().len(), alarm_codes(&planner)), (0, vec!["fee_estimate_missing"]));
    nodes[0].state().estimate = Some(2_000);
    platform.step(&mut planner);
    assert_eq!(platform.state().plans().len(), 1, "two of three are the quorum");
}

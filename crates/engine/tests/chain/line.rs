//! A node that hangs, at everything or at one question, holds nobody up: neither its own blocks, nor other nodes, nor a stop.

use super::{paying, planner, set_tips};
use crate::network::{FakeNode, Manner, payment};
use crate::platform::*;
use florin_core::custody::{DepositStatus, PlanStatus};
use florin_core::id::{BlockHash, Height, TxId};
use florin_engine::follower::Follower;
use florin_engine::follower::condition::NodeCondition;
use florin_engine::follower::line::{Line, Rests};
use florin_engine::follower::nodes::Seat;
use florin_engine::ports::{Node, NodeFault, NodeInfo, SendResult, TestAccept};
use florin_engine::workers::Worker;
use florin_engine::workers::broadcaster::MISSED_MS;
use florin_engine::workers::doubts::Doubts;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What a node is asked is counted, and hangs for as long as the test says.
#[derive(Default)]
struct Gate {
    hangs_at: Mutex<Option<&'static str>>,
    asked: Mutex<BTreeMap<&'static str, usize>>,
    bell: Condvar,
}

impl Gate {
    fn pass(&self, question: &'static str) -> Result<(), NodeFault> {
        *self.asked.lock().unwrap().entry(question).or_insert(0) += 1;
        let mut hangs_at = self.hangs_at.lock().unwrap();
        if *hangs_at != Some(question) {
            return Ok(());
        }
        while *hangs_at == Some(question) {
            hangs_at = self.bell.wait(hangs_at).unwrap();
        }
        Err(NodeFault::Timeout)
    }

    fn hang(&self, question: Option<&'static str>) {
        *self.hangs_at.lock().unwrap() = question;
        self.bell.notify_all();
    }

    fn asked(&self, question: &'static str) -> usize {
        self.asked.lock().unwrap().get(question).copied().unwrap_or(0)
    }
}

/// A node behind its gate.
#[derive(Clone)]
struct Gated(FakeNode, Arc<Gate>);

impl Gated {
    fn new(node: &FakeNode) -> Gated {
        Gated(node.clone(), Arc::default())
    }

    fn line(&self, rests: &Rests) -> Line {
        let node = self.clone();
        Line::open(Arc::new(move || Box::new(node.clone())), rests.clone())
    }

    fn seat(&self, name: &str, rests: &Rests) -> Seat {
        Seat { name: name.to_owned(), group: name.to_owned(), node: Box::new(self.line(rests)) }
    }
}

impl Node for Gated {
    fn info(&mut self) -> Result<NodeInfo, NodeFault> {
        self.1.pass("info").and_then(|()| self.0.info())
    }
    fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
        self.1.pass("block_hash").and_then(|()| self.0.block_hash(height))
    }
    fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        self.1.pass("header").and_then(|()| self.0.header(hash))
    }
    fn block(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        self.1.pass("block").and_then(|()| self.0.block(hash))
    }
    fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
        self.1.pass("mempool").and_then(|()| self.0.mempool())
    }
    fn transaction(&mut self, txid: TxId, block: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
        self.1.pass("transaction").and_then(|()| self.0.transaction(txid, block))
    }
    fn send(&mut self, transaction: &[u8]) -> Result<SendResult, NodeFault> {
        self.1.pass("send").and_then(|()| self.0.send(transaction))
    }
    fn test_accept(&mut self, transaction: &[u8]) -> Result<TestAccept, NodeFault> {
        self.1.pass("test_accept").and_then(|()| self.0.test_accept(transaction))
    }
    fn fee_estimate(&mut self, blocks: u16) -> Result<Option<u64>, NodeFault> {
        self.1.pass("fee").and_then(|()| self.0.fee_estimate(blocks))
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come about");
        std::thread::yield_now();
    }
}

/// A follower over lines to two nodes, one voice being enough.
fn followed(nodes: &[FakeNode]) -> (Vec<Gated>, Vec<Rests>, Follower) {
    let gated: Vec<Gated> = nodes.iter().map(Gated::new).collect();
    let rests = vec![Rests::default(), Rests::default()];
    let seats = ["a", "b"].iter().zip(&gated).zip(&rests).map(|((name, node), rests)| node.seat(name, rests));
    let follower = Follower::new(follower_config(1), seats.collect(), [3; 16]).unwrap();
    (gated, rests, follower)
}

#[test]
fn blocks_are_followed_while_a_mempool_is_not_listed_and_its_node_is_named() {
    let (mut platform, blocks, nodes, _) = world();
    let (gated, rests, mut follower) = followed(&nodes);
    let script = platform.address(1, 1);
    gated[1].1.hang(Some("mempool"));
    eventually("the question", || {
        platform.step(&mut follower);
        gated[1].1.asked("mempool") == 1
    });
    let mut tip = blocks.genesis();
    for height in 1..=3 {
        tip = blocks.mine(tip, 0, Vec::new());
        set_tips(&nodes, tip);
        platform.step(&mut follower);
        assert_eq!(platform.tip().height.0, height, "the next step has it, while the mempool is still being listed");
    }
    assert_eq!(gated[1].1.asked("mempool"), 1);

    // Its port gives up on the list, and the other node's counts from then on.
    gated[1].1.hang(None);
    let unread = |follower: &Follower| {
        let condition = follower.status().nodes[1].condition.clone();
        matches!(condition, NodeCondition::MempoolUnread { .. })
    };
    eventually("the alarm", || {
        platform.step(&mut follower);
        unread(&follower)
    });
    gated[1].1.hang(Some("mempool"));
    let alarms = follower.alarms();
    assert_eq!(
        alarms.iter().map(|alarm| (alarm.code, &*alarm.subject)).collect::<Vec<_>>(),
        [("node_mempool_unread", "b")]
    );
    nodes[0].state().mempool.push(payment(1, vec![(script, 50_000)]));
    eventually("the sighting", || {
        platform.step(&mut follower);
        platform.state().deposits().values().any(|deposit| deposit.status == DepositStatus::Seen)
    });
    assert!(unread(&follower), "it is not shown as good while nothing was heard");
    gated[1].1.hang(None);
    rests.iter().for_each(Rests::close);
}

#[test]
fn what_hangs_for_one_is_asked_by_nobody_until_it_answers_again() {
    let world = paying();
    let (gated, rests, mut follower) = followed(&world.nodes);
    let mut platform = world.platform;
    world.nodes[1].state().manner = Manner::Silent;
    platform.step(&mut follower);
    assert_eq!(follower.status().nodes[1].condition.code(), Some("node_timeout"));
    let before = gated[1].1.asked("fee");
    let seats = ["a", "b"].iter().zip(&gated).zip(&rests).map(|((name, node), rests)| node.seat(name, rests));
    let mut planning = planner(seats.collect(), &Doubts::default());
    let mut second = gated[1].line(&rests[1]);
    // A node that hangs for good would not let this one return.
    gated[1].1.hang(Some("fee"));
    assert!(matches!(second.fee_estimate(2), Err(NodeFault::Timeout)));
    gated[1].1.hang(None);
    request(&mut platform);
    platform.step(&mut planning);
    assert_eq!(platform.state().plans().values().map(|plan| plan.status).collect::<Vec<_>>(), [PlanStatus::Signing]);
    assert_eq!(gated[1].1.asked("fee"), before);
    world.nodes[1].state().manner = Manner::Honest;
    eventually("the answer", || second.info().is_ok());
    platform.step(&mut follower);
    assert_eq!(follower.status().nodes[1].condition, NodeCondition::Good);
    rests.iter().for_each(Rests::close);
}

fn request(platform: &mut Platform) {
    use florin_core::{amount::Amount, command::Command, wire::Bytes};
    let (customer, amount, asset) = (crate::common::customer(1), Amount::new(40_000), BTC);
    let script = Bytes([vec![0, 20], vec![9; 20]].concat());
    platform.request(10, Command::RequestWithdrawal { customer, asset, amount, script, wallet: WALLET });
}

#[test]
fn nodes_are_asked_at_once_and_a_stop_waits_for_none() {
    let (mut platform, _, nodes, _) = world();
    let (gated, rests, mut follower) = followed(&nodes);
    gated.iter().for_each(|node| node.1.hang(Some("info")));
    std::thread::scope(|scope| {
        let stepping = scope.spawn(|| drop(platform.step(&mut follower)));
        eventually("both questions", || gated.iter().all(|node| node.1.asked("info") == 1));
        // Neither has answered.
        rests.iter().for_each(Rests::close);
        stepping.join().unwrap();
    });
    assert_eq!(
        follower.status().nodes.iter().filter_map(|node| node.condition.code()).collect::<Vec<_>>(),
        ["node_timeout", "node_timeout"]
    );
    gated.iter().for_each(|node| node.1.hang(None));
}

#[test]
fn a_node_that_was_silent_is_told_soon_and_once_a_round_only() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    let told = |world: &super::Paying| world.nodes.iter().map(|node| node.state().sent.len()).collect::<Vec<_>>();
    world.nodes[0].state().manner = Manner::Silent;
    world.platform.step(&mut world.broadcaster);
    assert_eq!(told(&world), [0, 1], "the other one has it");
    world.nodes[0].state().manner = Manner::Honest;
    world.platform.step(&mut world.broadcaster);
    assert_eq!(told(&world), [0, 1], "not at every step");
    world.platform.now_ms += MISSED_MS;
    world.platform.step(&mut world.broadcaster);
    assert_eq!(told(&world), [1, 1]);
    world.nodes.iter().for_each(|node| node.state().mempool.clear());
    world.platform.now_ms += MISSED_MS;
    world.platform.step(&mut world.broadcaster);
    assert_eq!(told(&world), [1, 1], "nobody is missed any more");
}

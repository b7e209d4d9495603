//! The whole engine on its threads: from a payment to us to a withdrawal that is final, with nobody stepping anything.

use super::{TestSigner, set_tips};
use crate::common::{Kept, Rows, command_id, config, customer};
use crate::network::{Blocks, FakeNode, payment};
use crate::platform::*;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_core::amount::Amount;
use florin_core::command::{Command, Origin, Outcome, Request};
use florin_core::custody::{Beneficiary, Branch, WithdrawalStatus};
use florin_core::id::Digest;
use florin_core::ledger::{Account, Owner};
use florin_core::wire::Bytes;
use florin_engine::audit::{check_books, verify_journal};
use florin_engine::follower::Follower;
use florin_engine::lanes::Ask;
use florin_engine::ports::Clock;
use florin_engine::runtime::{Engine, EngineConfig, EngineHandle, Parts, Seated};
use florin_engine::snapshotter::SnapshotterConfig;
use florin_engine::workers::Worker;
use florin_engine::workers::broadcaster::{Broadcaster, BroadcasterConfig};
use florin_engine::workers::planner::{Planner, PlannerConfig};
use florin_engine::workers::signing::{Signing, SigningConfig};
use florin_engine::workers::ticker::Ticker;
use florin_engine::writer::{Answer, CoreRules};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const NOW_MS: u64 = 1_700_000_000_000;

struct StandingClock;

impl Clock for StandingClock {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} does not come about");
        std::thread::yield_now();
    }
}

fn start(rows: &Rows, nodes: &[FakeNode]) -> EngineHandle {
    let seats = || ["a", "b"].iter().zip(nodes).map(|(name, node)| node.seat(name)).collect::<Vec<_>>();
    let planner = PlannerConfig {
        chain: CHAIN,
        quorum: 2,
        blocks: 2,
        rate_min: 1_000,
        rate_max: 100_000,
        rate_long_term: 5_000,
        rate_fallback: 1_000,
        fee_share_ppm_max: 500_000,
        batch_max: 100,
    };
    let signing = SigningConfig { chain: CHAIN, retry_ms: 10_000 };
    let broadcaster = BroadcasterConfig { chain: CHAIN, quorum: 2, repeat_ms: 30_000 };
    let workers: Vec<Box<dyn Worker>> = vec![
        Box::new(Planner::new(planner, seats(), Box::new(|| [5; 32]))),
        Box::new(Signing::new(signing, Box::new(TestSigner::default()), Box::new(rows.clone()), seats())),
        Box::new(Broadcaster::new(broadcaster, seats())),
        Box::new(Ticker::new(1_000)),
    ];
    let parts = Parts {
        clock: Arc::new(StandingClock),
        journal: Box::new(rows.clone()),
        history: Box::new(rows.clone()),
        past: Box::new(rows.clone()),
        snapshots: Box::new(Kept::default()),
        witnesses: Vec::new(),
        rules: Box::new(CoreRules),
        followers: vec![(Follower::new(follower_config(2), seats(), [3; 16]).unwrap(), 1)],
        workers: workers.into_iter().map(|worker| Seated { worker, cadence_ms: 1 }).collect(),
        heartbeat: None,
        is_storage_failure: Box::new(|_| false),
        fatal: Arc::new(|fatal| panic!("{fatal}")),
    };
    let config = EngineConfig {
        writer: config("a"),
        snapshots: SnapshotterConfig { rows_max: 1_000, time_max_ms: u64::MAX, build: "test".to_owned() },
        is_first_to_lead: true,
        lead_after_quiet_ms: None,
        follow_ms: 1,
        retry_ms: 1,
        append_late_ms: 60_000,
        stop_ms: 30_000,
    };
    let engine = Engine::start(parts, config).unwrap();
    eventually("leading", || engine.is_leading());
    engine
}

fn must(engine: &EngineHandle, ask: Ask) -> Outcome {
    let shown = format!("{ask:?}");
    match engine.submit_wait(ask, LONG).unwrap().answer {
        Answer::Done(outcome) => outcome,
        other => panic!("{shown} was answered {other:?}"),
    }
}

fn origin(number: u64) -> Origin {
    let mut id = command_id(number);
    id.0[..6].copy_from_slice(&NOW_MS.to_be_bytes()[2..]);
    Origin::Request { id, request: Digest([1; 32]) }
}

fn available(engine: &EngineHandle) -> u128 {
    let owner = Owner::Customer(customer(1));
    engine.read(|state| state.ledger().account_of(&owner, BTC).map_or(0, |account| Account::available(account).units()))
}

fn statuses(engine: &EngineHandle) -> Vec<WithdrawalStatus> {
    engine.read(|state| state.withdrawals().values().map(|withdrawal| withdrawal.status).collect())
}

#[test]
fn the_whole_engine_takes_a_payment_in_and_pays_one_out_across_a_restart() {
    let blocks = Blocks::new();
    let nodes: Vec<FakeNode> = (0..2).map(|_| FakeNode::new(&blocks)).collect();
    let rows = Rows::default();
    let engine = start(&rows, &nodes);
    for command in definitions(blocks.genesis(), first_block(blocks.genesis()), ScriptKind::Wpkh) {
        must(&engine, Ask::internal(command));
    }
    must(&engine, Ask::internal(Command::OpenCustomer(customer(1))));
    let beneficiary = Beneficiary::Customer(customer(1));
    let next = Ask::NextAddress { origin: origin(1), wallet: WALLET, branch: Branch::External, beneficiary };
    let Outcome::Address(issued) = must(&engine, next) else { panic!("an address was asked for") };
    let script = bitcoin::ScriptBuf::from_bytes(issued.script.0);
    let paid = blocks.mine(blocks.genesis(), 0, vec![payment(1, vec![(script, 100_000)])]);
    set_tips(&nodes, blocks.extend(paid, 0, 8));
    eventually("the credit", || available(&engine) == 100_000);
    eventually("the tip", || engine.status().followers[0].cursor.is_some_and(|tip| tip.height.0 == 9));
    assert!(engine.stop());

    let engine = start(&rows, &nodes);
    let (customer, amount, script) = (customer(1), Amount::new(60_000), Bytes([vec![0, 20], vec![4; 20]].concat()));
    let command = Command::RequestWithdrawal { customer, asset: BTC, amount, script, wallet: WALLET };
    must(&engine, Ask::Request(Request { origin: origin(2), command }));
    eventually("the broadcast", || nodes.iter().all(|node| !node.state().sent.is_empty()));
    eventually("the sighting", || statuses(&engine) == [WithdrawalStatus::Broadcast]);
    let sent = nodes[0].state().sent[0].clone();
    let tip = nodes[0].state().tip;
    nodes.iter().for_each(|node| node.state().mempool.clear());
    set_tips(&nodes, blocks.extend(blocks.mine(tip, 0, vec![sent]), 0, 6));
    eventually("finality", || statuses(&engine) == [WithdrawalStatus::Final]);
    assert_eq!(available(&engine), 39_500);
    assert_eq!(engine.read(check_books), []);
    assert!(engine.stop());
    let report = verify_journal(&mut rows.clone(), None, |_| ()).unwrap();
    assert!(report.wrong.is_none());
    assert_eq!(nodes[0].state().sent.len(), 1, "sent once, while the clock stands still");
}

//! The chain watcher and the workers with the core's own rules, against nodes whose answers the tests choose.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod broadcast;
#[path = "../common/mod.rs"]
mod common;
mod deep;
mod fees;
mod forged;
mod gathered;
mod line;
mod locktime;
mod lookout;
mod mempool;
mod network;
mod overtaking;
mod platform;
mod refused;
mod threads;

use common::customer;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_chain::bitcoin::psbt::{finish_psbt, parse_psbt};
use florin_chain::bitcoin::sign::sign_psbt;
use florin_core::amount::Amount;
use florin_core::asset::HaltReason;
use florin_core::command::Command;
use florin_core::custody::{Branch, DepositStatus, OutPoint, PlanStatus, WithdrawalStatus};
use florin_core::id::{BlockHash, Digest, Epoch, PlanId, Seq, WithdrawalId};
use florin_core::wire::Bytes;
use florin_engine::follower::condition::NodeCondition;
use florin_engine::follower::nodes::Seat;
use florin_engine::follower::{Follower, FollowerConfig};
use florin_engine::load::Place;
use florin_engine::ports::{
    Culprit, Fence, SignRequest, Signer, SignerAnswer, SignerFault, SignerRefusal, SignerStatus, Standing,
};
use florin_engine::terms::{core_outpoint, core_txid};
use florin_engine::workers::Worker;
use florin_engine::workers::broadcaster::{Broadcaster, BroadcasterConfig};
use florin_engine::workers::doubts::Doubts;
use florin_engine::workers::planner::{Planner, PlannerConfig};
use florin_engine::workers::signing::{SHOW_MS, Signing, SigningConfig};
use network::{FakeNode, Manner, payment};
use platform::*;
use std::sync::{Arc, Mutex};

fn set_tips(nodes: &[FakeNode], tip: BlockHash) {
    nodes.iter().for_each(|node| node.state().tip = tip);
}

fn alarm_codes(worker: &dyn Worker) -> Vec<&'static str> {
    worker.alarms().into_iter().map(|alarm| alarm.code).collect()
}

fn halt_reasons(platform: &Platform) -> Vec<HaltReason> {
    let mut reasons: Vec<HaltReason> = platform.state().halts().iter().map(|halt| halt.reason).collect();
    reasons.dedup();
    reasons
}

fn condition(follower: &Follower, index: usize) -> NodeCondition {
    follower.status().nodes[index].condition.clone()
}

#[test]
fn a_deposit_is_seen_waits_and_is_credited_at_its_depth() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let paying = payment(1, vec![(script, 50_000)]);
    nodes.iter().for_each(|node| node.state().mempool.push(paying.clone()));
    platform.settle(&mut follower);
    let status = |platform: &Platform| platform.state().deposits().values().map(|d| d.status).collect::<Vec<_>>();
    assert_eq!(status(&platform), [DepositStatus::Seen]);

    let mined = blocks.mine(blocks.genesis(), 0, vec![paying]);
    nodes.iter().for_each(|node| node.state().mempool.clear());
    set_tips(&nodes, mined);
    platform.settle(&mut follower);
    assert_eq!((status(&platform), platform.available(1)), (vec![DepositStatus::Pending], 0));
    set_tips(&nodes, blocks.extend(mined, 0, 2));
    platform.settle(&mut follower);
    assert_eq!((status(&platform), platform.available(1)), (vec![DepositStatus::Credited], 50_000));
    assert_eq!(platform.tip().height.0, 3);
}

#[test]
fn a_payment_that_leaves_every_mempool_is_lost_only_when_a_quorum_says_so() {
    let (mut platform, _, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    nodes.iter().for_each(|node| node.state().mempool.push(payment(1, vec![(script.clone(), 50_000)])));
    platform.settle(&mut follower);
    nodes[0].state().mempool.clear();
    nodes[1].state().manner = Manner::Silent;
    let status = |platform: &Platform| platform.state().deposits().values().next().map(|deposit| deposit.status);
    for _ in 0..10 {
        platform.step(&mut follower);
    }
    assert_eq!(status(&platform), Some(DepositStatus::Seen), "a silent node may still have it");
    nodes[1].state().manner = Manner::Honest;
    for _ in 0..10 {
        platform.step(&mut follower);
    }
    assert_eq!(status(&platform), Some(DepositStatus::Seen), "and it has");
    nodes[1].state().mempool.clear();
    for _ in 0..10 {
        platform.step(&mut follower);
    }
    assert_eq!(status(&platform), Some(DepositStatus::Replaced));
}

#[test]
fn reorganisations_of_any_depth_are_followed_when_the_quorum_does() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let paying = payment(1, vec![(script, 50_000)]);
    let with = blocks.mine(blocks.genesis(), 0, vec![paying.clone()]);
    set_tips(&nodes, blocks.extend(with, 0, 40));
    platform.settle(&mut follower);
    assert_eq!(platform.available(1), 50_000);

    // The other branch has the payment one block later, and one block more.
    let other = blocks.mine(blocks.extend(blocks.genesis(), 1, 1), 1, vec![paying]);
    let longer = blocks.extend(other, 1, 40);
    nodes[0].state().tip = longer;
    platform.settle(&mut follower);
    assert_eq!(platform.tip().height.0, 41, "one node of two moves nothing");
    assert_eq!(halt_reasons(&platform), [HaltReason::ChainSplit], "valid work that is not followed stops the asset");
    assert_eq!(condition(&follower, 1), NodeCondition::OtherBranch { fork_height: 0 });

    nodes[1].state().tip = longer;
    platform.settle(&mut follower);
    assert_eq!((platform.tip().height.0, platform.tip().hash), (42, longer));
    assert_eq!(platform.available(1), 50_000, "credited once, and still");
    assert_eq!(halt_reasons(&platform), []);
    assert_eq!(alarm_codes(&follower), Vec::<&str>::new());
}

#[test]
fn a_follower_that_starts_anew_keeps_to_the_journalled_tip() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let tip = blocks.extend(blocks.genesis(), 0, 5);
    set_tips(&nodes, tip);
    platform.settle(&mut follower);

    // Both nodes were set back: they show less work than the journal has booked.
    let shorter = blocks.extend(blocks.genesis(), 1, 3);
    let hidden = network::Blocks::new();
    let short_nodes: Vec<FakeNode> = (0..2).map(|_| FakeNode::new(&hidden)).collect();
    let shorter_there = hidden.extend(hidden.genesis(), 1, 3);
    assert_eq!(shorter, shorter_there);
    set_tips(&short_nodes, shorter);
    let seats = short_nodes.iter().map(|node| node.seat("short")).collect();
    let mut fresh = Follower::new(follower_config(1), seats, [4; 16]).unwrap();
    for _ in 0..5 {
        platform.step(&mut fresh);
    }
    assert_eq!(platform.tip().hash, tip);
    assert_eq!(alarm_codes(&fresh), ["journal_ahead_of_nodes"]);
}

#[test]
fn one_node_more_is_no_quorum_and_a_lagging_one_is_named() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let tip = blocks.extend(blocks.genesis(), 0, 2);
    nodes[0].state().tip = tip;
    platform.settle(&mut follower);
    assert_eq!(platform.tip().height.0, 0);
    assert_eq!(condition(&follower, 1), NodeCondition::Lagging { blocks: 2 });
    assert_eq!(alarm_codes(&follower), ["node_lags"]);
    nodes[1].state().tip = tip;
    platform.settle(&mut follower);
    assert_eq!(platform.tip().height.0, 2);
}

#[test]
fn nodes_that_lie_are_named_and_not_believed() {
    for manner in [Manner::OtherBlocks, Manner::ForgedBlocks] {
        let (mut platform, blocks, nodes, mut follower) = world();
        let tip = blocks.extend(blocks.genesis(), 0, 4);
        set_tips(&nodes, tip);
        nodes[0].state().manner = manner;
        platform.step(&mut follower);
        platform.step(&mut follower);
        assert!(matches!(condition(&follower, 0), NodeCondition::Lying { .. }), "{manner:?}");
        assert!(platform.tip().height.0 <= 1, "what the quorum had before it was caught may stand");
        nodes[0].state().manner = Manner::Honest;
        platform.now_ms += florin_engine::follower::nodes::LIE_MS;
        platform.settle(&mut follower);
        assert_eq!(platform.tip().hash, tip, "{manner:?}");
    }
}

#[test]
fn nodes_of_another_network_have_no_voice() {
    let (mut platform, blocks, nodes, mut follower) = world();
    set_tips(&nodes, blocks.extend(blocks.genesis(), 0, 4));
    nodes[1].state().manner = Manner::OtherNetwork;
    platform.settle(&mut follower);
    assert_eq!(platform.tip().height.0, 0);
    assert_eq!(condition(&follower, 1), NodeCondition::WrongNetwork { network: "regtest".to_owned() });
    assert!(alarm_codes(&follower).contains(&"node_wrong_network"));
}

#[test]
fn a_block_that_nobody_has_is_waited_for_and_never_skipped() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let paid = blocks.mine(blocks.genesis(), 0, vec![payment(1, vec![(script, 50_000)])]);
    set_tips(&nodes, blocks.extend(paid, 0, 9));
    nodes.iter().for_each(|node| node.state().manner = Manner::Pruned);
    for _ in 0..4 {
        platform.step(&mut follower);
        assert_eq!(alarm_codes(&follower), ["block_unavailable"]);
    }
    assert_eq!(platform.tip().height.0, 0);
    nodes[1].state().manner = Manner::Honest;
    platform.settle(&mut follower);
    assert_eq!((platform.tip().height.0, platform.available(1)), (10, 50_000));
}

#[test]
fn silence_halts_the_asset_and_an_answer_resumes_it() {
    let (mut platform, _, nodes, mut follower) = world();
    platform.settle(&mut follower);
    nodes[0].state().manner = Manner::Silent;
    platform.now_ms += 59_000;
    platform.step(&mut follower);
    assert_eq!(halt_reasons(&platform), []);
    platform.now_ms += 2_000;
    platform.settle(&mut follower);
    assert_eq!(halt_reasons(&platform), [HaltReason::Stale]);
    assert!(alarm_codes(&follower).contains(&"chain_stale"));
    nodes[0].state().manner = Manner::Honest;
    platform.settle(&mut follower);
    assert_eq!(halt_reasons(&platform), []);
}

#[test]
fn halts_of_others_are_left_alone() {
    use florin_core::asset::{Halt, HaltAction};
    let (mut platform, _, _, mut follower) = world();
    let halt = Halt { asset: Some(BTC), action: HaltAction::Credit, reason: HaltReason::Operator };
    platform.must(florin_engine::lanes::Ask::internal(Command::Halt(halt)));
    platform.settle(&mut follower);
    assert_eq!(halt_reasons(&platform), [HaltReason::Operator]);
}

#[test]
fn a_large_block_is_booked_in_parts_and_taken_back_whole() {
    let (mut platform, blocks, nodes, _) = world();
    let mut config = follower_config(2);
    config.part_cost_max = 30;
    let seats = ["a", "b"].iter().zip(&nodes).map(|(name, node)| node.seat(name)).collect();
    let mut follower = Follower::new(config, seats, [3; 16]).unwrap();
    let script = platform.address(1, 1);
    let payments = (1..=20).map(|tag| payment(tag, vec![(script.clone(), 10_000), (script.clone(), 1_000)]));
    let tip = blocks.mine(blocks.genesis(), 0, payments.collect());
    set_tips(&nodes, tip);
    for _ in 0..4 {
        platform.step(&mut follower);
    }
    assert!(platform.state().chains()[&CHAIN].part.is_some(), "it takes many commands");

    // A follower that starts in the middle goes on where the journal is.
    let seats = ["a", "b"].iter().zip(&nodes).map(|(name, node)| node.seat(name)).collect();
    let mut again = Follower::new(follower_config(2), seats, [5; 16]).unwrap();
    platform.settle(&mut again);
    assert_eq!((platform.tip().hash, platform.state().coins().len()), (tip, 40));

    // Half booked, and then another block is the better one.
    let next = blocks.mine(tip, 0, (21..=40).map(|tag| payment(tag, vec![(script.clone(), 10_000)])).collect());
    set_tips(&nodes, next);
    platform.step(&mut follower);
    platform.step(&mut follower);
    let other = blocks.extend(tip, 1, 2);
    set_tips(&nodes, other);
    platform.settle(&mut follower);
    assert_eq!((platform.tip().hash, platform.state().coins().len()), (other, 40));
}

/// When a refused plan is taken to the signer again.
const RETRY_MS: u64 = 10_000;

/// A signer that signs everything, and what the test may do to it.
#[derive(Clone, Default)]
struct TestSigner(Arc<Mutex<SignerMood>>);

#[derive(Default)]
struct SignerMood {
    /// What it says to every plan.
    refuses: Option<SignerRefusal>,
    /// The withdrawal that no plan may pay, and why.
    refuses_withdrawal: Option<(WithdrawalId, &'static str)>,
    /// The withdrawal that no limit bears and whose approvals it does not count: it refuses plans that pay it for automatic
    /// payments, and names none.
    uncounted: Option<WithdrawalId>,
    /// Coins that it says belong to another plan.
    taken: Vec<OutPoint>,
    /// How many payments each plan had that it was asked for.
    sizes: Vec<usize>,
    corrupts: bool,
    /// The kind of its wallet, where it is not the usual one.
    kind: Option<ScriptKind>,
    /// The row that it says it was shown last.
    seen: Option<Place>,
    /// The heads that it was shown.
    shown: Vec<Seq>,
    /// What the journal was said to have there, by each plan that it was asked for.
    known: Vec<Place>,
    asked: Vec<(PlanId, u32)>,
    voids: Vec<PlanId>,
}

fn refusal(code: &str, standing: Standing, culprit: Culprit) -> SignerRefusal {
    SignerRefusal { code: code.to_owned(), standing, culprit }
}

impl SignerMood {
    fn refusal_of(&self, request: &SignRequest, psbt: &bitcoin::Psbt) -> Option<SignerRefusal> {
        let payment = self.refuses_withdrawal.and_then(|(id, code)| {
            let place = request.intents.iter().position(|intent| intent.intent.withdrawal == id)?;
            Some(refusal(code, Standing::Lasting, Culprit::Payment(place as u32)))
        });
        let pays_uncounted = |id| request.intents.iter().any(|intent| intent.intent.withdrawal == id);
        let limit = self.uncounted.filter(|id| pays_uncounted(*id));
        let limit = limit.map(|_| refusal("limit_hour", Standing::Passing, Culprit::Automatic));
        let is_taken = |input: &bitcoin::TxIn| self.taken.contains(&core_outpoint(CHAIN, input.previous_output));
        let coin = psbt.unsigned_tx.input.iter().position(is_taken);
        let coin = coin.map(|place| refusal("outpoint_taken", Standing::Lasting, Culprit::Coin(place as u32)));
        self.refuses.clone().or(payment).or(limit).or(coin)
    }
}

impl Signer for TestSigner {
    fn sign_plan(&mut self, request: &SignRequest) -> Result<SignerAnswer, SignerFault> {
        let mut mood = self.0.lock().unwrap();
        mood.asked.push((request.plan, request.version));
        mood.known.push(request.fence.known);
        mood.sizes.push(request.intents.len());
        let mut psbt = parse_psbt(&request.psbt).expect("the engine makes a PSBT");
        if let Some(refusal) = mood.refusal_of(request, &psbt) {
            return Ok(SignerAnswer::Refused(refusal));
        }
        let kind = mood.kind.unwrap_or(ScriptKind::Wpkh);
        let is_whole = |input: &bitcoin::psbt::Input| kind == ScriptKind::Tr || input.non_witness_utxo.is_some();
        assert!(psbt.inputs.iter().all(is_whole), "previous transactions are whole");
        if mood.corrupts {
            psbt.unsigned_tx.output[0].value = bitcoin::Amount::from_sat(1);
        }
        sign_psbt(&mut psbt, &secrets(kind), &[2; 32]).expect("it has the keys");
        let signed = finish_psbt(psbt).expect("all inputs are ours");
        let txid = core_txid(signed.compute_txid());
        Ok(SignerAnswer::Signed { signed: Bytes(bitcoin::consensus::encode::serialize(&signed)), txid })
    }
    fn void_plan(&mut self, _: &Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        self.0.lock().unwrap().voids.push(plan);
        Ok(SignerAnswer::Voided { receipt: Bytes(vec![0x76, 1]) })
    }
    fn show(&mut self, fence: &Fence) -> Result<Option<SignerRefusal>, SignerFault> {
        self.0.lock().unwrap().shown.push(fence.seq);
        Ok(None)
    }
    fn status(&mut self) -> Result<SignerStatus, SignerFault> {
        let Place { seq, hash } = self.0.lock().unwrap().seen.unwrap_or(Place::START);
        Ok(SignerStatus { epoch: Epoch(1), seq, head: hash, is_unlocked: true })
    }
}

/// Everything that a withdrawal needs, with 100,000 and 200,000 sat credited and final.
struct Paying {
    platform: Platform,
    blocks: network::Blocks,
    nodes: Vec<FakeNode>,
    follower: Follower,
    planner: Planner,
    signing: Signing,
    signer: TestSigner,
    broadcaster: Broadcaster,
}

fn seats(nodes: &[FakeNode]) -> Vec<Seat> {
    ["a", "b"].iter().zip(nodes).map(|(name, node)| node.seat(name)).collect()
}

/// A planner that has seen nothing yet.
fn planner(seats: Vec<Seat>, doubts: &Doubts) -> Planner {
    let config = PlannerConfig {
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
    let mut draws = 0u8;
    let draw = move || {
        draws = draws.wrapping_add(1);
        [draws; 32]
    };
    Planner::new(config, seats, Box::new(draw)).heeding(doubts.clone())
}

fn paying() -> Paying {
    paying_of(ScriptKind::Wpkh)
}

fn paying_of(kind: ScriptKind) -> Paying {
    let (mut platform, blocks, nodes, mut follower) = world_of(kind);
    let scripts = [platform.address(1, 1), platform.address(2, 2)];
    let [first, second] = scripts;
    let paid = blocks.mine(blocks.genesis(), 0, vec![payment(1, vec![(first, 100_000), (second, 200_000)])]);
    set_tips(&nodes, blocks.extend(paid, 0, 6));
    platform.settle(&mut follower);
    let doubts = Doubts::default();
    let planner = planner(seats(&nodes), &doubts);
    let signer = TestSigner::default();
    signer.0.lock().unwrap().kind = Some(kind);
    let signing = SigningConfig { chain: CHAIN, retry_ms: RETRY_MS };
    let rows = Box::new(platform.rows.clone());
    let signing = Signing::new(signing, Box::new(signer.clone()), rows, seats(&nodes)).telling(doubts);
    let broadcaster = Broadcaster::new(BroadcasterConfig { chain: CHAIN, quorum: 2, repeat_ms: 30_000 }, seats(&nodes));
    Paying { platform, blocks, nodes, follower, planner, signing, signer, broadcaster }
}

impl Paying {
    fn withdraw(&mut self, number: u64, whose: u64, amount: u128) {
        let script = Bytes([vec![0, 20], vec![number as u8; 20]].concat());
        let (amount, asset, wallet) = (Amount::new(amount), BTC, WALLET);
        let command = Command::RequestWithdrawal { customer: customer(whose), asset, amount, script, wallet };
        self.platform.request(number, command);
    }

    fn statuses(&self) -> Vec<WithdrawalStatus> {
        self.platform.state().withdrawals().values().map(|withdrawal| withdrawal.status).collect()
    }

    fn plan_status(&self) -> Vec<PlanStatus> {
        self.platform.state().plans().values().map(|plan| plan.status).collect()
    }
}

#[test]
fn withdrawals_are_planned_signed_sent_and_confirmed() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.withdraw(11, 2, 50_000);
    world.platform.settle(&mut world.planner);
    assert_eq!(world.plan_status(), [PlanStatus::Signing], "one plan pays both");
    world.platform.settle(&mut world.signing);
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed; 2]);
    world.platform.step(&mut world.broadcaster);
    assert_eq!(world.statuses(), [WithdrawalStatus::Broadcast; 2]);
    assert!(world.nodes.iter().all(|node| node.state().sent.len() == 1), "every node is told");

    let sent = world.nodes[0].state().sent[0].clone();
    let tip = world.platform.tip().hash;
    world.nodes.iter().for_each(|node| node.state().mempool.clear());
    let mined = world.blocks.mine(tip, 0, vec![sent]);
    set_tips(&world.nodes, mined);
    world.platform.settle(&mut world.follower);
    assert_eq!(world.statuses(), [WithdrawalStatus::Confirmed; 2]);
    set_tips(&world.nodes, world.blocks.extend(mined, 0, 6));
    world.platform.settle(&mut world.follower);
    assert_eq!(world.statuses(), [WithdrawalStatus::Final; 2]);
    assert_eq!((world.platform.available(1), world.platform.available(2)), (59_500, 149_500));
    assert_eq!(world.plan_status(), [PlanStatus::Final]);
    let change: Vec<Branch> =
        world.platform.state().coins().keys().map(|coin| world.platform.state().coins()[coin].path.branch).collect();
    assert!(change.contains(&Branch::Internal), "change came back");
}

#[test]
fn a_transaction_that_is_taken_back_is_sent_again() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    for worker in [&mut world.planner as &mut dyn Worker, &mut world.signing] {
        world.platform.settle(worker);
    }
    world.platform.step(&mut world.broadcaster);
    let sent = world.nodes[0].state().sent[0].clone();
    let fork = world.platform.tip().hash;
    let clear = |world: &Paying| world.nodes.iter().for_each(|node| node.state().mempool.clear());
    clear(&world);
    set_tips(&world.nodes, world.blocks.mine(fork, 0, vec![sent.clone()]));
    world.platform.settle(&mut world.follower);
    world.platform.now_ms += 31_000;
    world.platform.step(&mut world.broadcaster);
    assert_eq!(world.nodes[0].state().sent.len(), 1, "what is in a block needs no sending");
    set_tips(&world.nodes, world.blocks.extend(fork, 1, 2));
    world.platform.settle(&mut world.follower);
    world.platform.step(&mut world.broadcaster);
    assert_eq!(world.nodes[0].state().sent, [sent.clone(), sent]);
    world.platform.step(&mut world.broadcaster);
    assert_eq!(world.nodes[0].state().sent.len(), 2, "not at every step");
}

#[test]
fn a_refusal_of_the_signer_waits_with_an_alarm_and_is_asked_again_later() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.signer.0.lock().unwrap().refuses = Some(refusal("clock_ahead", Standing::Passing, Culprit::Nobody));
    for _ in 0..5 {
        world.platform.step(&mut world.signing);
    }
    assert_eq!(world.signer.0.lock().unwrap().asked.len(), 1);
    assert_eq!(alarm_codes(&world.signing), ["signer_refused"]);
    world.signer.0.lock().unwrap().refuses = None;
    world.platform.now_ms += 10_000;
    world.platform.step(&mut world.signing);
    assert_eq!(world.plan_status(), [PlanStatus::Signed]);
}

#[test]
fn what_the_signer_should_not_have_signed_is_not_recorded() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.signer.0.lock().unwrap().corrupts = true;
    world.platform.settle(&mut world.signing);
    assert_eq!(alarm_codes(&world.signing), ["signer_answer_wrong"]);
    assert_eq!(world.plan_status(), [PlanStatus::Signing]);
}

#[test]
fn a_block_is_as_old_as_its_header_says_however_young_the_process_is() {
    let (mut platform, blocks, nodes, _) = world();
    set_tips(&nodes, blocks.extend(blocks.genesis(), 0, 3));
    let hour_ms = 3_600_000;
    let tip = blocks.get(nodes[0].state().tip).expect("it was mined").1;
    platform.now_ms = u64::from(tip.header.time) * 1_000 + hour_ms;
    let fresh = |seats: &[FakeNode]| {
        let seats = ["a", "b"].iter().zip(seats).map(|(name, node)| node.seat(name)).collect();
        let config = FollowerConfig { tip_age_max_ms: Some(2 * hour_ms), ..follower_config(2) };
        Follower::new(config, seats, [3; 16]).expect("the checkpoint is the genesis block")
    };
    platform.settle(&mut fresh(&nodes));
    assert_eq!(halt_reasons(&platform), [], "the newest block is an hour old");
    platform.now_ms += hour_ms;
    let mut restarted = fresh(&nodes);
    platform.settle(&mut restarted);
    assert_eq!(halt_reasons(&platform), [HaltReason::Stale], "and now two, which a new process knows as well");
    assert!(alarm_codes(&restarted).contains(&"chain_stale"));
    let tip = nodes[0].state().tip;
    set_tips(&nodes, blocks.extend(tip, 0, 6));
    platform.settle(&mut restarted);
    assert_eq!(halt_reasons(&platform), [], "a new block ends it");
}

#[test]
fn a_signer_that_knows_a_later_journal_stops_signing() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.signer.0.lock().unwrap().seen = Some(Place { seq: Seq(1_000_000), hash: Digest([1; 32]) });
    world.platform.settle(&mut world.signing);
    assert_eq!(halt_reasons(&world.platform), [HaltReason::SignerFenced]);
    assert_eq!(alarm_codes(&world.signing), ["signer_ahead_of_journal", "signing_halted"]);
    assert!(world.signer.0.lock().unwrap().asked.is_empty());
}

#[test]
fn a_signer_that_knows_another_row_stops_signing_before_anything_is_to_be_signed() {
    let mut world = paying();
    let row = world.platform.rows.all()[4].clone();
    let place = Place { seq: row.seq, hash: row.hash };
    world.signer.0.lock().unwrap().seen = Some(place);
    world.platform.settle(&mut world.signing);
    assert_eq!((halt_reasons(&world.platform), alarm_codes(&world.signing)), (vec![], vec![]), "it is ours");
    world.signer.0.lock().unwrap().seen = Some(Place { hash: Digest([1; 32]), ..place });
    world.platform.settle(&mut world.signing);
    assert_eq!(halt_reasons(&world.platform), [HaltReason::SignerFenced]);
    assert_eq!(alarm_codes(&world.signing), ["signer_of_other_journal"]);
}

#[test]
fn the_signer_is_shown_the_journals_head_now_and_then_though_there_is_nothing_to_sign() {
    let mut world = paying();
    for _ in 0..5 {
        world.platform.step(&mut world.signing);
    }
    let first = world.platform.model.at();
    assert_eq!(world.signer.0.lock().unwrap().shown, [first]);
    world.platform.wait(SHOW_MS);
    world.platform.step(&mut world.signing);
    world.platform.step(&mut world.signing);
    let second = world.platform.model.at();
    assert!(second > first);
    assert_eq!(world.signer.0.lock().unwrap().shown, [first, second]);
}

#[test]
fn the_signer_is_told_what_the_journal_has_at_the_last_row_that_it_was_shown() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    let row = world.platform.rows.all()[4].clone();
    let place = Place { seq: row.seq, hash: row.hash };
    world.signer.0.lock().unwrap().seen = Some(place);
    world.platform.step(&mut world.signing);
    assert_eq!(world.signer.0.lock().unwrap().known, [place]);
}

#[test]
fn an_expired_intent_is_given_up_by_the_signer_before_anything_else() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.platform.wait(3_700_000);
    world.platform.settle(&mut world.signing);
    assert_eq!(world.signer.0.lock().unwrap().voids.len(), 1);
    assert_eq!((world.plan_status(), world.statuses()), (vec![PlanStatus::Voided], vec![WithdrawalStatus::Queued]));
}

#[test]
fn previous_transactions_are_waited_for() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    world.nodes.iter().for_each(|node| node.state().manner = Manner::Silent);
    world.platform.step(&mut world.signing);
    assert!(alarm_codes(&world.signing).contains(&"previous_transaction_missing"));
    assert!(world.signer.0.lock().unwrap().asked.is_empty());
}

#[test]
fn a_taproot_wallet_needs_no_previous_transactions() {
    let mut world = paying_of(ScriptKind::Tr);
    world.withdraw(10, 1, 40_000);
    world.platform.settle(&mut world.planner);
    // Nobody has the block of its coins any more.
    world.nodes.iter().for_each(|node| node.state().manner = Manner::Silent);
    world.platform.step(&mut world.signing);
    assert_eq!(world.plan_status(), [PlanStatus::Signed]);
}

#[test]
fn fees_without_an_estimate_fall_back_on_regtest_and_an_absurd_one_waits() {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.nodes.iter().for_each(|node| node.state().estimate = Some(100_001));
    world.platform.settle(&mut world.planner);
    assert_eq!(alarm_codes(&world.planner), ["fee_estimate_above_cap"]);
    world.nodes.iter().for_each(|node| node.state().estimate = None);
    world.platform.settle(&mut world.planner);
    assert_eq!(world.plan_status(), [PlanStatus::Signing]);
    let plan = world.platform.state().plans().values().next().unwrap().clone();
    let fee = plan.versions[0].fee.units();
    assert!((100..=300).contains(&fee), "one input at 1 sat/vB costs {fee}");
}

#[test]
fn a_withdrawal_that_is_too_large_now_does_not_stop_the_others() {
    let mut world = paying();
    // Custody has 300,000; after a plan is open, its inputs are reserved.
    world.withdraw(10, 2, 199_000);
    world.withdraw(11, 1, 99_000);
    world.platform.settle(&mut world.planner);
    assert_eq!(world.plan_status(), [PlanStatus::Signing]);
    assert!(world.statuses().contains(&WithdrawalStatus::Signing));
}

#[test]
fn a_withdrawal_that_waits_for_change_is_told_so() {
    let mut world = paying();
    world.withdraw(10, 2, 150_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    world.withdraw(11, 1, 90_000);
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    world.withdraw(12, 2, 40_000);
    let script = world.platform.address(3, 1);
    let tip = world.platform.tip().hash;
    set_tips(&world.nodes, world.blocks.mine(tip, 1, vec![payment(3, vec![(script, 70_000)])]));
    world.platform.settle(&mut world.follower);
    world.platform.step(&mut world.planner);
    let plans = world.platform.state().plans();
    let change_sat: u128 =
        plans.values().map(|plan| plan.versions[0].change.as_ref().expect("there is some").amount.units()).sum();
    assert_eq!(plans.len(), 2);
    let alarms = world.planner.alarms();
    let alarm = alarms.iter().find(|alarm| alarm.code == "insufficient_funds").expect("it is named");
    let on_their_way = format!(
        "; {change_sat} sat of change can be spent once they are in a block; 70000 sat of payments to us once they have 6 \
         confirmations"
    );
    assert!(alarm.detail.starts_with("0 sat are worth spending") && alarm.detail.ends_with(&on_their_way), "{alarm:?}");
}

#[test]
fn many_withdrawals_that_cost_too_much_now_do_not_stop_the_others() {
    let mut world = paying();
    // At 100 sat/vB each of these costs seven times what it pays, and all together cost more than a fee may be.
    for number in 10..50 {
        world.withdraw(number, 2, 2_000);
    }
    world.withdraw(50, 1, 40_000);
    world.withdraw(51, 1, 41_000);
    world.nodes.iter().for_each(|node| node.state().estimate = Some(100_000));
    world.platform.step(&mut world.planner);
    assert_eq!(world.plan_status(), [PlanStatus::Signing]);
    let state = world.platform.state();
    let signing = state.withdrawals().values().filter(|withdrawal| withdrawal.status == WithdrawalStatus::Signing);
    let amounts: Vec<u128> = signing.map(|withdrawal| withdrawal.amount.units()).collect();
    let large: Vec<&u128> = amounts.iter().filter(|amount| **amount > 2_000).collect();
    assert_eq!(large, [&40_000, &41_000], "both that can be paid, in one plan, with some that go along");
}

#[test]
fn withdrawals_too_small_alone_go_along_with_a_larger_one() {
    let mut world = paying();
    for number in 10..13 {
        world.withdraw(number, 2, 2_000);
    }
    world.withdraw(13, 1, 90_000);
    world.nodes.iter().for_each(|node| node.state().estimate = Some(100_000));
    world.platform.step(&mut world.planner);
    assert_eq!(world.statuses(), [WithdrawalStatus::Signing; 4]);
}

#[test]
fn more_small_withdrawals_than_a_plan_holds_do_not_hide_the_others() {
    let mut world = paying();
    // Each cost with its fee 1,500; a plan of these tests holds 100.
    for number in 10..130 {
        world.withdraw(number, 2, 1_000);
    }
    world.withdraw(130, 1, 40_000);
    world.nodes.iter().for_each(|node| node.state().estimate = Some(100_000));
    world.platform.step(&mut world.planner);
    let state = world.platform.state();
    let signing = state.withdrawals().values().filter(|withdrawal| withdrawal.status == WithdrawalStatus::Signing);
    assert!(signing.map(|withdrawal| withdrawal.amount.units()).any(|amount| amount == 40_000));
}

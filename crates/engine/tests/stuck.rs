//! What must not stand still for ever, or go on as if nothing were wrong: a chain that splits while nodes fall silent, a block
//! that nobody can give, a plan whose input is gone.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "chain/network.rs"]
mod network;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "chain/platform.rs"]
mod platform;

use common::customer;
use florin_core::amount::Amount;
use florin_core::asset::HaltReason;
use florin_core::command::Command;
use florin_core::custody::{PlanStatus, WithdrawalStatus};
use florin_core::id::{BlockHash, Digest, Epoch, PlanId, Seq};
use florin_core::wire::Bytes;
use florin_engine::lanes::Ask;
use florin_engine::ports::{
    Culprit, Fence, SignRequest, Signer, SignerAnswer, SignerFault, SignerRefusal, SignerStatus, Standing,
};
use florin_engine::workers::planner::{Planner, PlannerConfig};
use florin_engine::workers::signing::{Signing, SigningConfig};
use network::{FakeNode, Manner, payment};
use platform::*;
use std::sync::{Arc, Mutex};

fn set_tips(nodes: &[FakeNode], tip: BlockHash) {
    nodes.iter().for_each(|node| node.state().tip = tip);
}

fn halt_reasons(platform: &Platform) -> Vec<HaltReason> {
    let mut reasons: Vec<HaltReason> = platform.state().halts().iter().map(|halt| halt.reason).collect();
    reasons.dedup();
    reasons
}

#[test]
fn a_split_is_not_over_because_nodes_fall_silent() {
    let (mut platform, blocks, nodes, mut follower) = world();
    nodes[0].state().tip = blocks.extend(blocks.genesis(), 0, 10);
    platform.settle(&mut follower);
    assert_eq!(halt_reasons(&platform), [HaltReason::ChainSplit]);
    nodes[1].state().manner = Manner::Silent;
    platform.step(&mut follower);
    platform.step(&mut follower);
    assert_eq!(halt_reasons(&platform), [HaltReason::ChainSplit], "nobody has said that it is over");
    nodes[1].state().manner = Manner::Honest;
    let tip = nodes[0].state().tip;
    set_tips(&nodes, tip);
    platform.settle(&mut follower);
    assert_eq!((halt_reasons(&platform), platform.tip().hash), (vec![], tip));
}

#[test]
fn a_block_that_cannot_be_had_for_too_long_stops_the_asset() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let tip = blocks.extend(blocks.genesis(), 0, 2);
    set_tips(&nodes, tip);
    nodes.iter().for_each(|node| node.state().manner = Manner::Pruned);
    for _ in 0..59 {
        platform.step(&mut follower);
    }
    assert_eq!(halt_reasons(&platform), []);
    for _ in 0..3 {
        platform.step(&mut follower);
    }
    assert_eq!(halt_reasons(&platform), [HaltReason::Stale], "what the journal says of the chain is old");
    nodes.iter().for_each(|node| node.state().manner = Manner::Honest);
    platform.settle(&mut follower);
    assert_eq!((halt_reasons(&platform), platform.tip().hash), (vec![], tip));
    for _ in 0..100 {
        platform.step(&mut follower);
    }
    assert_eq!(halt_reasons(&platform), [], "where there is nothing to book, nothing is late");
}

/// A signer that has signed nothing, and notes what it gave up.
#[derive(Clone, Default)]
struct Unwilling(Arc<Mutex<Vec<PlanId>>>);

impl Signer for Unwilling {
    fn sign_plan(&mut self, _: &SignRequest) -> Result<SignerAnswer, SignerFault> {
        Ok(SignerAnswer::Refused(SignerRefusal {
            code: "limit_day".to_owned(),
            standing: Standing::Passing,
            culprit: Culprit::Automatic,
        }))
    }
    fn void_plan(&mut self, _: &Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault> {
        self.0.lock().unwrap().push(plan);
        Ok(SignerAnswer::Voided { receipt: Bytes(vec![0x76, 1]) })
    }
    fn show(&mut self, _: &Fence) -> Result<Option<SignerRefusal>, SignerFault> {
        Ok(None)
    }
    fn status(&mut self) -> Result<SignerStatus, SignerFault> {
        Ok(SignerStatus { epoch: Epoch(1), seq: Seq(0), head: Digest::ZERO, is_unlocked: true })
    }
}

#[test]
fn an_expired_plan_whose_input_a_reorganisation_took_is_given_up() {
    let (mut platform, blocks, nodes, mut follower) = world();
    let script = platform.address(1, 1);
    let paid = blocks.mine(blocks.genesis(), 0, vec![payment(1, vec![(script, 100_000)])]);
    set_tips(&nodes, blocks.extend(paid, 0, 6));
    platform.settle(&mut follower);
    let seats = || vec![nodes[0].seat("a")];
    let config = PlannerConfig {
        chain: CHAIN,
        quorum: 1,
        blocks: 2,
        rate_min: 1_000,
        rate_max: 100_000,
        rate_long_term: 5_000,
        rate_fallback: 1_000,
        fee_share_ppm_max: 500_000,
        batch_max: 100,
    };
    let mut planner = Planner::new(config, seats(), Box::new(|| [1; 32]));
    let signer = Unwilling::default();
    let config = SigningConfig { chain: CHAIN, retry_ms: 10_000 };
    let rows = Box::new(platform.rows.clone());
    let mut signing = Signing::new(config, Box::new(signer.clone()), rows, seats());
    let script = Bytes([vec![0, 20], vec![7; 20]].concat());
    let amount = Amount::new(40_000);
    platform
        .request(10, Command::RequestWithdrawal { customer: customer(1), asset: BTC, amount, script, wallet: WALLET });
    platform.settle(&mut planner);
    let plan_status = |platform: &Platform| platform.state().plans().values().map(|plan| plan.status).next();
    assert_eq!(plan_status(&platform), Some(PlanStatus::Signing));

    // The deposit that the plan spends is not on the better branch; an operator resumes after looking.
    set_tips(&nodes, blocks.extend(blocks.genesis(), 1, 9));
    platform.settle(&mut follower);
    assert!(platform.state().coins().is_empty());
    for halt in platform.state().halts().to_vec() {
        platform.must(Ask::internal(Command::Resume(halt)));
    }
    platform.step(&mut signing);
    assert!(signer.0.lock().unwrap().is_empty(), "its inputs may come back while it may be signed");
    platform.wait(3_700_000);
    platform.settle(&mut signing);
    assert_eq!(signer.0.lock().unwrap().len(), 1);
    let withdrawal = platform.state().withdrawals().values().next().unwrap();
    assert_eq!((plan_status(&platform), withdrawal.status), (Some(PlanStatus::Voided), WithdrawalStatus::Queued));
}

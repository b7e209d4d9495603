//! From which height on a payment counts, in the bytes that nodes are sent. It never looks at a plan's own words.

use super::*;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_engine::lanes::Ask;

/// The lock time of a payment that was asked for before something was halted, and the tip's height.
fn lock_time(reason: Option<HaltReason>) -> (u32, u32) {
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    if let Some(reason) = reason {
        let halt = Halt { asset: Some(BTC), action: HaltAction::Withdraw, reason };
        world.platform.must(Ask::internal(Command::Halt(halt)));
    }
    world.platform.settle(&mut world.planner);
    world.platform.settle(&mut world.signing);
    world.platform.step(&mut world.broadcaster);
    let sent = world.nodes[0].state().sent[0].clone();
    assert!(sent.input.iter().all(|input| input.sequence != bitcoin::Sequence::MAX), "no input switches it off");
    (sent.lock_time.to_consensus_u32(), world.platform.tip().height.0)
}

#[test]
fn a_payment_is_locked_to_the_tip_and_to_nothing_while_the_tip_is_stale() {
    for reason in [None, Some(HaltReason::Operator)] {
        let (locked, tip) = lock_time(reason);
        assert!(tip > 0 && locked == tip, "{reason:?}: {locked}, {tip}");
    }
    assert_eq!(lock_time(Some(HaltReason::Stale)).0, 0);
}

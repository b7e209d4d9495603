//! What the signer refuses for good holds nothing else back: it is given up, left out, and tried again by itself.

use super::*;
use florin_core::asset::AssetPolicy;
use florin_core::custody::{Approval, Withdrawal};
use florin_engine::lanes::Ask;

impl Paying {
    fn withdrawal(&self, place: usize) -> Withdrawal {
        self.platform.state().withdrawals().values().nth(place).cloned().expect("it is open")
    }

    /// One round of planner and signing worker.
    fn round(&mut self) {
        self.platform.step(&mut self.planner);
        self.platform.step(&mut self.signing);
    }

    fn mood(&self) -> std::sync::MutexGuard<'_, SignerMood> {
        self.signer.0.lock().unwrap()
    }
}

#[test]
fn a_withdrawal_that_is_refused_for_good_is_named_and_the_others_go_on() {
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    world.withdraw(11, 2, 40_000);
    world.withdraw(12, 2, 50_000);
    let culprit = world.withdrawal(1).id;
    world.mood().refuses_withdrawal = Some((culprit, "approval_key_unknown"));
    world.round();
    assert_eq!(world.plan_status(), [PlanStatus::Voided], "the plan is given up at once");
    world.round();
    let statuses = [WithdrawalStatus::Signed, WithdrawalStatus::Queued, WithdrawalStatus::Signed];
    assert_eq!(world.statuses(), statuses, "the others go without it");
    assert_eq!(world.mood().sizes, [3, 2]);
    let alarms = world.planner.alarms();
    let alarm = alarms.iter().find(|alarm| alarm.code == "withdrawal_refused").expect("it is named");
    assert_eq!(alarm.subject, format!("withdrawal {culprit}"));
    assert!(alarm.detail.contains("approval_key_unknown"), "{}", alarm.detail);
}

/// What is said of refused withdrawals, and since when.
fn refused(world: &Paying) -> Vec<(String, u64)> {
    let alarms = world.planner.alarms().into_iter().filter(|alarm| alarm.code == "withdrawal_refused");
    alarms.map(|alarm| (alarm.detail, alarm.since_ms)).collect()
}

/// Sets from which amount on withdrawals have to be approved.
fn approve_above(world: &mut Paying, automatic_max: u128) {
    let policy = world.platform.state().policies()[&BTC].clone();
    let policy = AssetPolicy { automatic_max: Amount::new(automatic_max), ..policy };
    world.platform.must(Ask::internal(Command::SetAssetPolicy(policy)));
}

#[test]
fn a_withdrawal_between_both_limits_is_named_with_its_way_out_also_while_it_is_tried() {
    let mut world = paying();
    approve_above(&mut world, 50_000);
    world.withdraw(10, 1, 40_000);
    world.mood().refuses_withdrawal = Some((world.withdrawal(0).id, "limit_payment"));
    world.round();
    world.platform.step(&mut world.planner);
    let (detail, since_ms) = refused(&world).remove(0);
    for word in ["limit_payment", "40000 sat", "payment_sat", "automatic_max, 50000 sat", "approve it", "cancel it"] {
        assert!(detail.contains(word), "{word}: {detail}");
    }
    let mut plans = 0;
    while plans < 4 {
        // The planner looks again and again while the signer has the plan.
        for _ in 0..3 {
            world.platform.step(&mut world.planner);
            assert_eq!(refused(&world).iter().map(|(_, since_ms)| *since_ms).collect::<Vec<_>>(), [since_ms]);
        }
        world.platform.step(&mut world.signing);
        plans = world.plan_status().len();
    }
}

#[test]
fn a_withdrawal_with_too_few_approvals_that_count_is_named_with_its_way_out() {
    for code in ["approval_key_unknown", "approval_repeated", "approval_invalid", "limit_payment"] {
        let mut world = paying();
        approve_above(&mut world, 20_000);
        world.withdraw(10, 1, 40_000);
        let withdrawal = world.withdrawal(0).id;
        let approval = Approval { key: [1; 32], signature: [0; 64] };
        world.platform.must(Ask::internal(Command::ApproveWithdrawal { withdrawal, approval, complete: true }));
        world.mood().refuses_withdrawal = Some((withdrawal, code));
        world.round();
        world.platform.step(&mut world.planner);
        let (detail, _) = refused(&world).remove(0);
        assert!(detail.contains(code) && detail.contains("too few of its approvals count, 1 were given"), "{detail}");
    }
}

#[test]
fn another_approval_ends_the_pause_of_a_withdrawal_that_had_too_few() {
    let mut world = paying();
    approve_above(&mut world, 50_000);
    world.withdraw(10, 1, 40_000);
    let withdrawal = world.withdrawal(0).id;
    world.mood().refuses_withdrawal = Some((withdrawal, "limit_payment"));
    while world.plan_status().len() < 3 {
        world.round();
    }
    world.round();
    assert_eq!(world.statuses(), [WithdrawalStatus::Queued], "it waits in its pause");
    world.mood().refuses_withdrawal = None;
    world.round();
    assert_eq!(world.statuses(), [WithdrawalStatus::Queued], "nothing tells that it would be signed now");
    let approval = Approval { key: [1; 32], signature: [0; 64] };
    world.platform.must(Ask::internal(Command::ApproveWithdrawal { withdrawal, approval, complete: false }));
    world.round();
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed]);
}

#[test]
fn a_limit_that_passes_is_named_as_such_and_others_need_no_words() {
    for (code, word) in [("limit_hour", "passes"), ("limit_day", "passes"), ("limit_destination", "40000 sat alone")] {
        let mut world = paying();
        world.withdraw(10, 1, 40_000);
        world.mood().refuses_withdrawal = Some((world.withdrawal(0).id, code));
        world.round();
        world.platform.step(&mut world.planner);
        assert!(refused(&world)[0].0.contains(word), "{code}: {:?}", refused(&world));
    }
    let mut world = paying();
    world.withdraw(10, 1, 40_000);
    world.mood().refuses_withdrawal = Some((world.withdrawal(0).id, "fee_above_share"));
    world.round();
    world.platform.step(&mut world.planner);
    assert_eq!(refused(&world)[0].0, "the signer refused it 1 times: fee_above_share");
}

#[test]
fn a_refused_withdrawal_is_tried_again_alone_after_pauses_that_grow() {
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    let culprit = world.withdrawal(0).id;
    world.mood().refuses_withdrawal = Some((culprit, "limit_payment"));
    let mut tried = Vec::new();
    // Ten minutes in rounds of two seconds.
    for _ in 0..300 {
        let before = world.mood().sizes.len();
        world.round();
        if world.mood().sizes.len() > before {
            tried.push(world.platform.now_ms);
        }
    }
    let pauses: Vec<u64> = tried.windows(2).map(|pair| (pair[1] - pair[0]) / RETRY_MS).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
    world.mood().refuses_withdrawal = None;
    for _ in 0..200 {
        world.round();
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed], "what was mended is paid");
    world.round();
    assert!(!alarm_codes(&world.planner).contains(&"withdrawal_refused"));
}

#[test]
fn a_refused_withdrawal_that_cannot_be_paid_now_does_not_hold_up_the_others() {
    let mut world = paying();
    world.withdraw(10, 2, 199_000);
    world.withdraw(11, 1, 10_000);
    let culprit = world.withdrawal(0).id;
    world.mood().refuses_withdrawal = Some((culprit, "approval_invalid"));
    world.round();
    // The large coin is gone before its pause is over: alone it can't be paid any more.
    world.mood().taken = world
        .platform
        .state()
        .coins()
        .values()
        .filter(|coin| coin.amount == Amount::new(200_000))
        .map(|coin| coin.outpoint)
        .collect();
    for _ in 0..30 {
        world.round();
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Queued, WithdrawalStatus::Signed]);
}

#[test]
fn a_plan_refused_as_a_whole_is_split_until_the_culprit_is_alone() {
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    world.withdraw(11, 2, 40_000);
    world.mood().refuses = Some(refusal("fee_above_share", Standing::Lasting, Culprit::Plan));
    world.round();
    world.mood().refuses = None;
    for _ in 0..30 {
        world.round();
    }
    assert_eq!(world.mood().sizes, [2, 1, 1], "each is tried alone");
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed; 2]);
}

#[test]
fn a_place_that_is_not_in_the_plan_blames_all_of_it() {
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    for culprit in [Culprit::Payment(7), Culprit::Coin(7), Culprit::Automatic] {
        world.mood().refuses = Some(refusal("odd", Standing::Lasting, culprit));
        let before = world.mood().sizes.len();
        for _ in 0..3 {
            world.round();
        }
        assert_eq!(world.mood().sizes.len(), before + 1, "{culprit:?}: it is not asked again at once");
        world.platform.now_ms += 40 * RETRY_MS;
    }
}

#[test]
fn a_limit_that_passes_is_waited_for_and_then_holds_back_only_what_it_counts() {
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    world.mood().refuses = Some(refusal("limit_hour", Standing::Passing, Culprit::Automatic));
    let patience_ms = florin_engine::workers::signing::PATIENCE_RETRIES * RETRY_MS;
    let start_ms = world.platform.now_ms;
    world.round();
    while world.platform.now_ms - start_ms < patience_ms {
        assert_eq!(world.plan_status(), [PlanStatus::Signing], "it may still pass");
        world.platform.now_ms += RETRY_MS;
        world.platform.step(&mut world.signing);
    }
    world.platform.step(&mut world.signing);
    world.platform.now_ms += RETRY_MS;
    world.platform.step(&mut world.signing);
    assert_eq!(world.plan_status(), [PlanStatus::Voided]);
    world.mood().refuses = None;
    for _ in 0..30 {
        world.round();
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed]);
}

#[test]
fn a_withdrawal_whose_approvals_do_not_count_does_not_hold_up_one_whose_approvals_do() {
    let mut world = paying();
    approve_above(&mut world, 20_000);
    for (number, whose, amount) in [(10, 1, 30_000), (11, 2, 40_000)] {
        world.withdraw(number, whose, amount);
        let withdrawal = world.withdrawal(number as usize - 10).id;
        let approval = Approval { key: [number as u8; 32], signature: [0; 64] };
        world.platform.must(Ask::internal(Command::ApproveWithdrawal { withdrawal, approval, complete: true }));
    }
    let culprit = world.withdrawal(0).id;
    world.mood().uncounted = Some(culprit);
    for _ in 0..2 * florin_engine::workers::signing::PATIENCE_RETRIES {
        world.platform.now_ms += RETRY_MS;
        world.round();
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Queued, WithdrawalStatus::Signed], "{:?}", world.mood().sizes);
    world.mood().uncounted = None;
    for _ in 0..200 {
        world.platform.now_ms += RETRY_MS;
        world.round();
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed; 2], "what was mended is paid");
}

#[test]
fn a_coin_that_belongs_to_another_plan_for_the_signer_is_not_planned_again() {
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    let coins = world.platform.state().coins();
    let large = coins.values().find(|coin| coin.amount == Amount::new(200_000)).map(|coin| coin.outpoint);
    let all: Vec<OutPoint> = coins.keys().copied().collect();
    world.mood().taken = large.into_iter().collect();
    for _ in 0..6 {
        world.round();
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed], "the other coin pays");

    // Where every coin is refused, nothing is planned and given up in a circle.
    let mut world = paying();
    world.withdraw(10, 1, 30_000);
    world.mood().taken = all;
    for _ in 0..50 {
        world.round();
    }
    assert_eq!((world.mood().sizes.len(), world.statuses()), (2, vec![WithdrawalStatus::Queued]), "once for each coin");
    let alarms = world.planner.alarms();
    let alarm = alarms.iter().find(|alarm| alarm.code == "coins_refused").expect("people are told");
    assert!(alarm.detail.contains("outpoint_taken") && alarm.detail.contains("2 coins"), "{}", alarm.detail);
}

#[test]
fn a_plan_too_large_for_the_signer_is_made_again_with_fewer_coins() {
    let mut world = paying();
    let filler = bitcoin::ScriptBuf::from_bytes([vec![0x6a], vec![7; 430_000]].concat());
    let mut tip = world.platform.tip().hash;
    for pair in 0..21u8 {
        let two = [100 + 2 * pair, 101 + 2 * pair].map(|tag| {
            let script = world.platform.address(u64::from(tag), 1);
            payment(tag, vec![(script, 10_000), (filler.clone(), 0)])
        });
        tip = world.blocks.mine(tip, 0, two.to_vec());
    }
    set_tips(&world.nodes, world.blocks.extend(tip, 0, 6));
    world.platform.settle(&mut world.follower);
    // The two older coins are not for this: what is left are 42 small ones with large previous transactions.
    let coins = world.platform.state().coins().values();
    world.mood().taken = coins.filter(|coin| coin.amount > Amount::new(10_000)).map(|coin| coin.outpoint).collect();
    world.withdraw(10, 1, 195_000);
    world.withdraw(11, 1, 195_000);
    let mut is_narrowed = false;
    for _ in 0..8 {
        world.round();
        is_narrowed |= alarm_codes(&world.planner).contains(&"plan_narrowed");
    }
    assert_eq!(world.statuses(), [WithdrawalStatus::Signed; 2]);
    let sizes: Vec<usize> = world.platform.state().plans().values().map(|plan| plan.inputs.len()).collect();
    assert!(sizes.iter().any(|size| *size > 38), "one was too large: {sizes:?}");
    assert!(is_narrowed, "people are told why");
}

//! Small withdrawals pass a large one that waits for coins, but not for ever; and what can't be paid at all stops nobody.

use super::*;
use florin_core::asset::AssetPolicy;
use florin_core::custody::{Approval, Withdrawal};
use florin_engine::lanes::Ask;
use florin_engine::workers::overtaking::PATIENCE_PARTS;

/// How long a withdrawal of these tests may be overtaken: of the policy's hour the 24th part.
const PATIENCE_MS: u64 = 3_600_000 / PATIENCE_PARTS;

/// The alarm about a withdrawal that others wait for.
const ALARM: &str = "withdrawal_goes_first";

impl Paying {
    /// The second customer gets three coins of 1,000,000, in the first of so many blocks.
    fn fund(&mut self, blocks: usize) {
        let script = self.platform.address(100, 2);
        let paid = payment(100, vec![(script, 1_000_000); 3]);
        self.extend(vec![paid], blocks);
    }

    /// Mines so many blocks, with transactions in the first of them, and follows them.
    fn extend(&mut self, transactions: Vec<bitcoin::Transaction>, blocks: usize) {
        self.nodes.iter().for_each(|node| node.state().mempool.clear());
        let first = self.blocks.mine(self.platform.tip().hash, 0, transactions);
        set_tips(&self.nodes, self.blocks.extend(first, 0, blocks - 1));
        self.platform.settle(&mut self.follower);
    }

    /// What was sent to nodes since the last time.
    fn sent(&self) -> Vec<bitcoin::Transaction> {
        self.nodes.iter().for_each(|node| drop(node.state().mempool.drain(..)));
        std::mem::take(&mut self.nodes[0].state().sent)
    }

    /// Withdraws and gives the withdrawal's id.
    fn withdrawn(&mut self, number: u64, whose: u64, amount: u128) -> WithdrawalId {
        let before: Vec<WithdrawalId> = self.platform.state().withdrawals().keys().copied().collect();
        self.withdraw(number, whose, amount);
        let mut ids = self.platform.state().withdrawals().keys();
        ids.find(|id| !before.contains(id)).copied().expect("it was accepted")
    }

    fn of(&self, id: WithdrawalId) -> &Withdrawal {
        &self.platform.state().withdrawals()[&id]
    }

    /// Whether a plan pays it by now.
    fn is_planned(&self, id: WithdrawalId) -> bool {
        self.of(id).plan.is_some()
    }

    /// One step of the planner, and all that signing and sending make of it.
    fn pay(&mut self) {
        self.platform.step(&mut self.planner);
        self.platform.settle(&mut self.signing);
        self.platform.step(&mut self.broadcaster);
    }

    fn alarm_of(&self, code: &str) -> Option<(String, String)> {
        let alarm = self.planner.alarms().into_iter().find(|alarm| alarm.code == code)?;
        Some((alarm.subject, alarm.detail))
    }
}

/// A wallet with six coins whose largest are in a signed plan, so that a large withdrawal waits for the change.
fn waiting_for_change() -> (Paying, WithdrawalId) {
    waiting_for_change_above(Amount::new(10_000_000_000))
}

/// The same where withdrawals above an amount need approvals.
fn waiting_for_change_above(automatic_max: Amount) -> (Paying, WithdrawalId) {
    let mut world = paying();
    let policy = world.platform.state().policies()[&BTC].clone();
    let policy = AssetPolicy { automatic_max, ..policy };
    world.platform.must(Ask::internal(Command::SetAssetPolicy(policy)));
    world.fund(7);
    // More than the two small coins reach: it spends a large one.
    world.withdraw(10, 2, 310_000);
    world.pay();
    assert_eq!(world.statuses(), [WithdrawalStatus::Broadcast]);
    // More than what is left: it waits for that change.
    let large = world.withdrawn(11, 2, 2_400_000);
    (world, large)
}

#[test]
fn small_withdrawals_pass_a_large_one_until_it_is_old_then_it_is_next_and_they_go_on_behind_it() {
    let (mut world, large) = waiting_for_change();
    let small = world.withdrawn(12, 1, 10_000);
    world.pay();
    assert!(world.is_planned(small) && !world.is_planned(large), "a young one is overtaken");
    assert_eq!(world.alarm_of(ALARM), None);

    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(13, 1, 10_000);
    for _ in 0..5 {
        world.pay();
    }
    assert!(!world.is_planned(small) && !world.is_planned(large), "an old one is not");
    let (subject, detail) = world.alarm_of(ALARM).expect("people are told why they wait");
    assert_eq!(subject, format!("withdrawal {large}"));
    assert!(detail.contains("wallet 1") && detail.ends_with("wait for it: 1"), "{detail}");
    assert!(world.alarm_of("insufficient_funds").is_some_and(|(subject, _)| subject == format!("withdrawal {large}")));

    // Its change comes, and it is paid before anybody else.
    let sent = world.sent();
    world.extend(sent, 1);
    world.pay();
    let plan = world.of(large).plan.expect("it is next");
    assert_eq!(world.platform.state().plans().keys().next_back(), Some(&plan), "by the newest plan");
    world.pay();
    assert_eq!(world.alarm_of(ALARM), None);

    let sent = world.sent();
    world.extend(sent, 1);
    let last = world.withdrawn(14, 1, 10_000);
    world.pay();
    assert!(world.is_planned(small) && world.is_planned(last), "and the small ones go on");
}

#[test]
fn a_planner_that_starts_anew_knows_who_is_not_to_be_overtaken() {
    let (mut world, large) = waiting_for_change();
    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(12, 1, 10_000);
    world.planner = planner(seats(&world.nodes), &Doubts::default());
    world.pay();
    assert!(!world.is_planned(large) && !world.is_planned(small));
    assert!(world.alarm_of(ALARM).is_some());
}

/// A wallet with three large coins in blocks, not deep enough to be spent by a plan; the customer has them already.
fn waiting_for_deposits() -> (Paying, WithdrawalId) {
    let mut world = paying();
    world.withdraw(10, 2, 190_000);
    world.pay();
    let sent = world.sent();
    world.extend(sent, 1);
    world.fund(4);
    let large = world.withdrawn(11, 2, 2_500_000);
    (world, large)
}

#[test]
fn a_large_withdrawal_waits_for_deposits_that_are_not_final_too() {
    let (mut world, large) = waiting_for_deposits();
    let before = world.withdrawn(12, 1, 10_000);
    world.pay();
    assert!(world.is_planned(before) && !world.is_planned(large));
    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(13, 1, 10_000);
    let sent = world.sent();
    world.extend(sent, 1);
    world.pay();
    assert!(!world.is_planned(small) && !world.is_planned(large));
    world.extend(Vec::new(), 1);
    world.pay();
    assert!(world.is_planned(large));
}

#[test]
fn coins_that_the_signer_signs_no_plan_for_are_not_waited_for() {
    let (mut world, large) = waiting_for_deposits();
    world.platform.wait(PATIENCE_MS);
    let doubts = Doubts::default();
    let coin = world.platform.state().coins().values().find(|coin| coin.amount == Amount::new(1_000_000));
    doubts.bar(coin.expect("it came").outpoint, "outpoint_taken");
    let small = world.withdrawn(12, 1, 10_000);
    world.planner = planner(seats(&world.nodes), &Doubts::default());
    world.pay();
    assert!(!world.is_planned(small), "with all three it is reached");
    world.planner = planner(seats(&world.nodes), &doubts);
    world.pay();
    assert!(world.is_planned(small) && !world.is_planned(large));
}

#[test]
fn one_that_waits_for_approval_stops_nobody_and_comes_first_once_it_has_it() {
    let (mut world, large) = waiting_for_change_above(Amount::new(1_000_000));
    assert_eq!(world.of(large).status, WithdrawalStatus::AwaitingApproval);
    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(12, 1, 10_000);
    world.pay();
    assert!(world.is_planned(small));
    let approval = Approval { key: [1; 32], signature: [2; 64] };
    world.platform.request(13, Command::ApproveWithdrawal { withdrawal: large, approval, complete: true });
    let small = world.withdrawn(14, 1, 10_000);
    world.pay();
    assert!(!world.is_planned(small) && !world.is_planned(large), "it waited for as long as any other");
}

#[test]
fn a_giant_that_no_coins_will_reach_stops_nobody() {
    let mut world = paying();
    let giant = world.withdrawn(10, 2, 199_000);
    // The coin that would pay it belongs to another plan for the signer, for ever.
    let coins = world.platform.state().coins().values();
    let large = coins.filter(|coin| coin.amount == Amount::new(200_000)).map(|coin| coin.outpoint);
    world.signer.0.lock().unwrap().taken = large.collect();
    world.pay();
    world.pay();
    world.platform.wait(PATIENCE_MS);
    for number in 0..4 {
        let small = world.withdrawn(20 + number, 1, 10_000);
        world.pay();
        assert!(world.is_planned(small), "number {number} goes on");
        assert!(!world.is_planned(giant));
        assert_eq!(world.alarm_of(ALARM), None);
        let (subject, _) = world.alarm_of("insufficient_funds").expect("the alarm says what is short");
        assert_eq!(subject, format!("withdrawal {giant}"));
        let sent = world.sent();
        world.extend(sent, 1);
    }
}

#[test]
fn what_the_signer_refused_is_not_waited_for() {
    let (mut world, _) = waiting_for_change();
    let sent = world.sent();
    world.extend(sent, 1);
    // Its coins are there now; the signer's limit is below it.
    let culprit =
        world.platform.state().withdrawals().values().find(|w| w.amount == Amount::new(2_400_000)).unwrap().id;
    world.signer.0.lock().unwrap().refuses_withdrawal = Some((culprit, "limit_payment"));
    world.pay();
    assert_eq!(world.of(culprit).status, WithdrawalStatus::Queued);
    // Another large one takes its coins away for now.
    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(12, 2, 310_000);
    world.pay();
    world.pay();
    // Its pause ends, and it is tried again, while that change is on its way.
    world.platform.wait(10 * RETRY_MS);
    let next = world.withdrawn(13, 1, 10_000);
    world.pay();
    assert!(world.is_planned(small) && world.is_planned(next) && !world.is_planned(culprit));
    assert_eq!(world.alarm_of(ALARM), None);
}

#[test]
fn one_that_the_signer_refused_passes_nobody_either_when_it_is_tried_again() {
    let (mut world, large) = waiting_for_change();
    let culprit = world.withdrawn(12, 1, 10_000);
    world.signer.0.lock().unwrap().refuses_withdrawal = Some((culprit, "limit_payment"));
    world.pay();
    assert_eq!(world.signer.0.lock().unwrap().sizes, [1, 1], "it was refused while the large one could be overtaken");
    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(13, 1, 10_000);
    world.pay();
    assert_eq!(world.signer.0.lock().unwrap().sizes, [1, 1], "its pause is over, and the large one is before it");
    assert!(!world.is_planned(large) && !world.is_planned(small));
}

/// A plan spends a coin that a fork then takes, while other coins return in it; a large withdrawal would need its change.
#[test]
fn the_change_of_a_plan_that_lost_an_input_is_not_waited_for() {
    let mut world = paying();
    world.platform.must(Ask::internal(Command::OpenCustomer(customer(3))));
    world.withdraw(10, 1, 60_000);
    world.pay();
    let sent = world.sent();
    world.extend(sent, 1);
    let fork = world.platform.tip().hash;
    let [lost, kept] = [(101, 3), (102, 2)].map(|(number, whose)| world.platform.address(number, whose));
    world.extend(vec![payment(101, vec![(lost, 1_000_000)])], 7);
    // More than the small coins reach.
    world.withdraw(11, 3, 310_000);
    world.pay();
    let returns = payment(102, vec![(kept, 1_000_000); 4]);
    world.extend(vec![returns.clone()], 3);
    // With the fee for so many coins it is more than all but that change.
    world.nodes.iter().for_each(|node| node.state().estimate = Some(100_000));
    let large = world.withdrawn(12, 2, 4_199_000);
    world.platform.wait(PATIENCE_MS);
    let small = world.withdrawn(13, 1, 35_000);
    world.pay();
    assert!(!world.is_planned(small) && !world.is_planned(large));

    let branch = world.blocks.mine(fork, 1, vec![returns]);
    set_tips(&world.nodes, world.blocks.extend(branch, 1, 20));
    world.platform.settle(&mut world.follower);
    for halt in world.platform.state().halts().clone() {
        world.platform.must(Ask::internal(Command::Resume(halt)));
    }
    assert_eq!(world.platform.state().customers()[&customer(2)].freezes, 0, "its deposits are back");
    world.pay();
    assert!(world.is_planned(small) && !world.is_planned(large));
    world.pay();
    assert_eq!(world.alarm_of(ALARM), None);
    assert!(world.alarm_of("insufficient_funds").is_some_and(|(subject, _)| subject == format!("withdrawal {large}")));
}

#[test]
fn change_that_does_not_come_for_half_an_intents_time_is_not_waited_for() {
    let (mut world, large) = waiting_for_change();
    // The transaction stays outside of blocks.
    world.platform.wait(3_600_000 / 2 - 20_000);
    let small = world.withdrawn(12, 1, 10_000);
    world.pay();
    assert!(!world.is_planned(small), "until then it is");
    world.platform.wait(20_000);
    world.pay();
    assert!(world.is_planned(small) && !world.is_planned(large));
}

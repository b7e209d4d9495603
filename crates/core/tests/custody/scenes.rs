//! Scenes of deposits and forks, each with the books after every turn.

use crate::script::{Scene, check};
use expect_test::expect;

#[test]
fn deposit_is_seen_announced_and_credited_at_its_depth() {
    check(
        "address a0 ann
         see t1>a0=5000
         show
         block t1
         show
         blocks 1
         show
         block t2>a0=20000
         blocks 1
         show
         blocks 1
         show",
        expect![[r#"
            -- 100:
               t1:0 5000 Seen
            -- 101: hot=-5000 clearing=5000
               t1:0 5000 Pending due 102
            -- 102: hot=-5000 ann=5000
               t1:0 5000 Credited
            -- 104: hot=-25000 clearing=20000 ann=5000
               t1:0 5000 Credited
               t2:0 20000 Pending due 105
            -- 105: hot=-25000 ann=25000
               t1:0 5000 Credited
               t2:0 20000 Credited
        "#]],
    );
}

#[test]
fn reorganisation_before_credit_changes_nobody_s_balance() {
    check(
        "address a0 ann
         block t1>a0=20000
         blocks 1
         back 2
         show
         blocks 1
         block t1
         show
         blocks 2
         show
         back 2
         blocks 2
         show",
        expect![[r#"
            -- 100: clearing=0
               t1:0 20000 Seen
            -- 102: hot=-20000 clearing=20000
               t1:0 20000 Pending due 104
            -- 104: hot=-20000 ann=20000
               t1:0 20000 Credited
            -- 104: hot=-20000 ann=20000
               t1:0 20000 Credited
        "#]],
    );
}

#[test]
fn credited_deposit_that_vanishes_freezes_funds_and_comes_back_without_a_second_credit() {
    check(
        "address a0 ann
         address b0 ben
         block t1>a0=5000
         blocks 1
         show
         back 2
         show
         withdraw w1 ann 300 x
         block t1
         show
         withdraw w2 ann 300 x
         show",
        expect![[r#"
            -- 102: hot=-5000 ann=5000
               t1:0 5000 Credited
            -- 100: ann=5000(5000 held) shortfall=-5000
               t1:0 5000 Missing
               ann frozen 1
            withdraw w1 ann 300 x: customer_frozen
            -- 101: hot=-5000 ann=5000
               t1:0 5000 Credited
            -- 101: hot=-5000 ann=5000(350 held)
               t1:0 5000 Credited
               w2 Queued
        "#]],
    );
}

#[test]
fn credited_deposit_that_stays_away_is_debited_as_far_as_funds_reach() {
    check(
        "address a0 ann
         address b0 ben
         block t1>a0=5000
         blocks 1
         withdraw w1 ann 3000 b0
         back 2
         show
         blocks 3
         tick 99999
         show
         tick 1
         show
         withdraw w2 ann 300 x
         block t1
         show",
        expect![[r#"
            -- 100: ann=2000(2000 held) ben=3000 shortfall=-5000
               t1:0 5000 Missing
               w1 Final
               ann frozen 1
            -- 103: ann=2000(2000 held) ben=3000 shortfall=-5000
               t1:0 5000 Missing
               w1 Final
               ann frozen 1
            -- 103: ben=3000 receivables=-3000
               t1:0 5000 Reversed
               w1 Final
               ann frozen 1
            withdraw w2 ann 300 x: customer_frozen
            -- 104: hot=-5000 ann=2000 ben=3000
               t1:0 5000 Credited
               w1 Final
        "#]],
    );
}

#[test]
fn funds_that_arrive_while_a_deposit_is_missing_pay_for_it() {
    check(
        "address a0 ann
         address b0 ben
         block t1>a0=5000 t2>b0=9000
         blocks 1
         withdraw w1 ann 5000 b0
         back 2
         block t2
         blocks 1
         show
         withdraw w2 ben 4000 a0
         tick 100000
         show
         withdraw w3 ben 4500 a0
         block t1
         show",
        expect![[r#"
            -- 102: hot=-9000 ben=14000 shortfall=-5000
               t1:0 5000 Missing
               t2:0 9000 Credited
               w1 Final
               ann frozen 1
            -- 102: hot=-9000 ben=10000 receivables=-1000
               t1:0 5000 Reversed
               t2:0 9000 Credited
               w1 Final
               w2 Final
               ann frozen 1
            -- 103: hot=-14000 ann=8500 ben=5500
               t1:0 5000 Credited
               t2:0 9000 Credited
               w1 Final
               w2 Final
               w3 Final
        "#]],
    );
}

#[test]
fn deposit_below_the_smallest_accrues_until_a_policy_reaches_it() {
    check(
        "address a0 ann
         block t1>a0=99,a0=98
         blocks 5
         show
         policy min 99
         tick 1000
         show
         policy min 10
         tick 1000
         show",
        expect![[r#"
            -- 106: hot=-197 clearing=197
               t1:0 99 Pending
               t1:1 98 Pending
            -- 106: hot=-197 clearing=98 ann=99
               t1:0 99 Credited
               t1:1 98 Pending
            -- 106: hot=-197 ann=197
               t1:0 99 Credited
               t1:1 98 Credited
        "#]],
    );
}

#[test]
fn deeper_policy_holds_for_deposits_that_wait() {
    check(
        "address a0 ann
         block t1>a0=5000
         policy depth 4
         blocks 1
         show
         blocks 2
         show",
        expect![[r#"
            -- 102: hot=-5000 clearing=5000
               t1:0 5000 Pending due 104
            -- 104: hot=-5000 ann=5000
               t1:0 5000 Credited
        "#]],
    );
}

#[test]
fn mined_coins_are_credited_and_spent_only_when_mature() {
    check(
        "address a0 ann
         block m1!>a0=5000
         blocks 8
         show
         blocks 1
         show
         back 1
         show
         blocks 1
         withdraw w1 ann 300 x
         back 1
         plan p1 w1 from m1:0 change 4690 fee 10
         blocks 1
         plan p1 w1 from m1:0 change 4690 fee 10
         show",
        expect![[r#"
            -- 109: hot=-5000 clearing=5000
               m1:0 5000 Pending due 110
            -- 110: hot=-5000 ann=5000
               m1:0 5000 Credited
            -- 109: hot=-5000 ann=5000
               m1:0 5000 Credited
            plan p1 w1 from m1:0 change 4690 fee 10: plan_input_immature
            -- 110: hot=-5000 ann=4650 inflight=300 fees=50
               m1:0 5000 Credited
               w1 Signing
               p1 Signing
        "#]],
    );
}

#[test]
fn replaced_payment_never_counts_and_may_come_back() {
    check(
        "address a0 ann
         see t1>a0=5000
         lose t1:0
         lose t1:0
         show
         see t1
         show
         lose t1:0
         block t1
         show
         back 1
         lose t1:0
         show
         block t1
         blocks 1
         lose t1:0
         show",
        expect![[r#"
            -- 100:
               t1:0 5000 Replaced
            -- 100:
               t1:0 5000 Seen
            -- 101: hot=-5000 clearing=5000
               t1:0 5000 Pending due 102
            -- 100:
               t1:0 5000 Replaced
            -- 102: hot=-5000 ann=5000
               t1:0 5000 Credited
        "#]],
    );
}

#[test]
fn replaced_payment_leaves_the_state_after_two_weeks() {
    check(
        "address a0 ann
         see t1>a0=5000
         lose t1:0
         tick 1209599999
         show
         tick 1
         show",
        expect![[r#"
            -- 100:
               t1:0 5000 Replaced
            -- 100:
        "#]],
    );
}

#[test]
fn coins_for_nobody_stand_in_suspense() {
    check(
        "address a0 ann
         address o0 ann@old
         see t2>o0=7000
         retire old
         block t1>o0=600 t2
         show
         address o1 ann
         block t3>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t3:0 change 98990 fee 10
         block t4>change0=33
         show
         back 2
         show",
        expect![[r#"
            -- 101: old=-7600 suspense=600 clearing=7000
               t2:0 7000 Pending due 102
            -- 106: old=-7600 suspense=633 ann=105950 hot=-100033 inflight=1000 fees=50
               t2:0 7000 Credited
               t3:0 100000 Credited
               w1 Signing
               p1 Signing
            -- 104: old=-7600 suspense=600 ann=105950 hot=-100000 inflight=1000 fees=50
               t2:0 7000 Credited
               t3:0 100000 Credited
               w1 Signing
               p1 Signing
        "#]],
    );
}

#[test]
fn house_deposits_fill_the_inventory_and_may_vanish_too() {
    check(
        "address h0 house
         block t1>h0=5000
         blocks 1
         show
         back 2
         show
         tick 100000
         show
         block t1
         show",
        expect![[r#"
            -- 102: hot=-5000 inventory=5000
               t1:0 5000 Credited
            -- 100: inventory=5000(5000 held) shortfall=-5000
               t1:0 5000 Missing
            -- 100:
               t1:0 5000 Reversed
            -- 101: hot=-5000 inventory=5000
               t1:0 5000 Credited
        "#]],
    );
}

#[test]
fn output_of_nothing_is_a_coin_and_no_deposit() {
    check(
        "address a0 ann
         block t1>a0=0,a0=5000
         block f1<t1:0>x=0
         show
         back 2
         show",
        expect![[r#"
            -- 102: hot=-5000 ann=5000
               t1:1 5000 Credited
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 100: ann=5000(5000 held) shortfall=-5000
               t1:1 5000 Missing
               ann frozen 1
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

#[test]
fn one_transaction_with_five_hundred_outputs_credits_each_of_them_once() {
    let mut scene = Scene::new();
    let mut outputs = String::new();
    let mut total = [0i128; 2];
    for index in 0..496u32 {
        let who = if index % 2 == 0 { "ann" } else { "ben" };
        scene.play(&format!("address s{index} {who}"));
        outputs.push_str(&format!("s{index}={},", 1_000 + index));
        total[index as usize % 2] += i128::from(1_000 + index);
    }
    // Four more to an address that has one already.
    outputs.push_str("s0=1000,s0=1000,s0=7,s0=5000");
    total[0] += 7_000;
    scene.play(&format!("block t1>{outputs}\nblocks 3"));
    let balance = |who| scene.world.auditor.balance(&florin_core::ledger::Owner::Customer(who));
    assert_eq!([balance(crate::world::ANN), balance(crate::world::BEN)], total);
    assert_eq!(scene.world.auditor.coins.len(), 500);
    assert_eq!(scene.world.auditor.credits.len(), 499, "seven are below the smallest deposit and accrue");
}

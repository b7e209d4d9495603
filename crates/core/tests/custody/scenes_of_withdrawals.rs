//! Scenes of withdrawals, plans and thieves, each with the books after every turn.

use crate::script::check;
use expect_test::expect;

#[test]
fn withdrawal_goes_through_its_stops_and_back_with_its_block() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         show
         plan p1 w1 from t1:0 change 98990 fee 10
         show
         sign p1
         show
         inpool p1
         show
         block p1
         show
         back 1
         show
         sign p1
         inpool p1
         block p1
         blocks 3
         show",
        expect![[r#"
            -- 104: hot=-100000 ann=100000(1050 held)
               t1:0 100000 Credited
               w1 Queued
            -- 104: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Signing
               p1 Signing
            -- 104: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Signed
               p1 Signed
            -- 104: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Broadcast
               p1 Signed
            -- 105: hot=-98990 ann=98950 fees=50 networkfees=-10
               t1:0 100000 Credited
               w1 Confirmed
               p1 Confirmed
            -- 104: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Signed
               p1 Signed
            -- 108: hot=-98990 ann=98950 fees=50 networkfees=-10
               t1:0 100000 Credited
               w1 Final
               p1 Final
        "#]],
    );
}

#[test]
fn change_is_spent_again_before_it_is_final_and_both_may_share_a_block() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         withdraw w2 ann 2000 y
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         plan p2 w2 from p1:1 change 96980 fee 10
         block p1
         plan p2 w2 from p1:1 change 96980 fee 10
         sign p2
         show
         back 1
         show
         block p1 p2
         show
         back 1
         block p1
         withdraw w3 ann 300 z
         plan p3 w3 from p1:1 change 98680 fee 10
         cancel w3
         block p2
         blocks 3
         show",
        expect![[r#"
            plan p2 w2 from p1:1 change 96980 fee 10: plan_input_unknown
            -- 105: hot=-98990 ann=96900 inflight=2000 fees=100 networkfees=-10
               t1:0 100000 Credited
               w1 Confirmed
               w2 Signed
               p1 Confirmed
               p2 Signed
            -- 104: hot=-100000 ann=96900 inflight=3000 fees=100
               t1:0 100000 Credited
               w1 Signed
               w2 Signed
               p1 Signed
               p2 Signed
            -- 105: hot=-96980 ann=96900 fees=100 networkfees=-20
               t1:0 100000 Credited
               w1 Confirmed
               w2 Confirmed
               p1 Confirmed
               p2 Confirmed
            plan p3 w3 from p1:1 change 98680 fee 10: plan_input_reserved
            -- 109: hot=-96980 ann=96900 fees=100 networkfees=-20
               t1:0 100000 Credited
               w1 Final
               w2 Final
               w3 Cancelled
               p1 Final
               p2 Final
        "#]],
    );
}

#[test]
fn malleated_twin_confirms_the_withdrawal_under_its_own_id() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         block p1~
         show
         withdraw w2 ann 2000 y
         plan p2 w2 from p1~:1 change 96980 fee 10
         back 1
         show
         block p1
         blocks 3
         show",
        expect![[r#"
            -- 105: hot=-98990 ann=98950 fees=50 networkfees=-10
               t1:0 100000 Credited
               w1 Confirmed
               p1 Confirmed
            -- 104: hot=-100000 ann=96900 inflight=3000 fees=100
               t1:0 100000 Credited
               w1 Signed
               w2 Signing
               p1 Signed
               p2 Signing
            -- 108: hot=-98990 ann=96900 inflight=2000 fees=100 networkfees=-10
               t1:0 100000 Credited
               w1 Final
               w2 Signing
               p1 Final
               p2 Signing
        "#]],
    );
}

#[test]
fn unsigned_plan_that_confirms_is_believed() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         block p1
         show
         sign p1
         void p1
         back 1
         void p1
         show",
        expect![[r#"
            -- 105: hot=-98990 ann=98950 fees=50 networkfees=-10
               t1:0 100000 Credited
               w1 Confirmed
               p1 Confirmed
            void p1: plan_signed
            void p1: plan_signed
            -- 104: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Signed
               p1 Signed
        "#]],
    );
}

#[test]
fn foreign_spend_is_a_loss_and_stops_signing_and_its_plan_is_refunded_when_it_is_final() {
    check(
        "address a0 ann
         address a1 ann
         block t1>a0=100000 t2>a1=50000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0,t2:0 change 148990 fee 10
         sign p1
         block f1<t1:0>thief=99990
         show
         blocks 2
         show
         blocks 1
         show
         withdraw w2 ann 2000 y
         resume
         withdraw w2 ann 2000 y
         plan p2 w2 from t2:0 change 47990 fee 10
         show
         back 4
         show",
        expect![[r#"
            -- 105: hot=-50000 ann=148950 inflight=1000 fees=50 shortfall=-100000
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Signed
               p1 Signed
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 107: hot=-50000 ann=148950 inflight=1000 fees=50 shortfall=-100000
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Signed
               p1 Signed
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 108: hot=-50000 ann=150000 shortfall=-100000
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Refunded
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            withdraw w2 ann 2000 y: withdrawal_halted
            -- 108: hot=-50000 ann=147950 inflight=2000 fees=50 shortfall=-100000
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Refunded
               w2 Signing
               p1 Conflicted
               p2 Signing
            -- 104: hot=-150000 ann=147950 inflight=2000 fees=50
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Refunded
               w2 Signing
               p1 Conflicted
               p2 Signing
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn refunded_withdrawal_that_is_paid_all_the_same_is_a_loss_of_the_house() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         block f1<t1:0>thief=99990
         blocks 3
         back 4
         block p1
         show",
        expect![[r#"
            -- 105: hot=-98990 ann=100000 shortfall=-100000 suspense=98990
               t1:0 100000 Credited
               w1 Refunded
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn voided_plan_frees_its_coins_and_the_next_plan_does_not_charge_again() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         withdraw w2 ann 2000 y
         plan p1 w1,w2 from t1:0 change 96990 fee 10
         void p1
         void p1
         sign p1
         show
         plan p2 w1 from t1:0 change 98990 fee 10
         show
         cancel w2
         show
         block p2
         show",
        expect![[r#"
            sign p1: plan_ended
            -- 104: hot=-100000 ann=96900 inflight=3000 fees=100
               t1:0 100000 Credited
               w1 Queued
               w2 Queued
               p1 Voided
            -- 104: hot=-100000 ann=96900 inflight=3000 fees=100
               t1:0 100000 Credited
               w1 Signing
               w2 Queued
               p1 Voided
               p2 Signing
            -- 104: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Signing
               w2 Refunded
               p1 Voided
               p2 Signing
            -- 105: hot=-98990 ann=98950 fees=50 networkfees=-10
               t1:0 100000 Credited
               w1 Confirmed
               w2 Refunded
               p1 Voided
               p2 Confirmed
        "#]],
    );
}

#[test]
fn intents_expire_and_their_money_goes_back() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         withdraw w2 ann 2000 y
         withdraw w3 ann 30000 z
         plan p1 w1 from t1:0 change 98990 fee 10
         void p1
         tick 200000
         plan p2 w2 from t1:0 change 97990 fee 10
         void p2
         tick 1
         plan p3 w1 from t1:0 change 98990 fee 10
         show
         tick 1209600000
         show",
        expect![[r#"
            plan p3 w1 from t1:0 change 98990 fee 10: withdrawal_not_queued
            -- 104: hot=-100000 ann=100000
               t1:0 100000 Credited
               w1 Refunded
               w2 Refunded
               w3 Cancelled
               p1 Voided
               p2 Voided
            -- 104: hot=-100000 ann=100000
               t1:0 100000 Credited
               w1 archived
               w2 archived
               w3 archived
               p1 Voided
               p2 Voided
        "#]],
    );
}

#[test]
fn large_withdrawals_wait_for_approvals() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 20001 x
         show
         plan p1 w1 from t1:0 change 79989 fee 10
         approve w1 1
         approve w1 1
         queue w1 2
         approve w1 3
         queue w1 4
         plan p1 w1 from t1:0 change 79989 fee 10
         approve w1 5
         cancel w1
         show",
        expect![[r#"
            -- 104: hot=-100000 ann=100000(20051 held)
               t1:0 100000 Credited
               w1 AwaitingApproval
            plan p1 w1 from t1:0 change 79989 fee 10: withdrawal_not_queued
            approve w1 1: approval_repeated
            approve w1 5: approval_not_awaited
            cancel w1: withdrawal_not_cancellable
            -- 104: hot=-100000 ann=79949 inflight=20001 fees=50
               t1:0 100000 Credited
               w1 Signing
               p1 Signing
        "#]],
    );
}

#[test]
fn withdrawal_to_an_address_of_ours_settles_in_the_ledger() {
    check(
        "address a0 ann
         address b0 ben
         address h0 house
         block t1>a0=100000
         blocks 2
         withdraw w1 ann 30000 b0
         withdraw w2 ann 30000 a0
         withdraw w3 ann 30000 h0
         cancel w1
         show",
        expect![[r#"
            withdraw w2 ann 30000 a0: withdrawal_to_self
            cancel w1: withdrawal_ended
            -- 103: hot=-100000 ann=40000 ben=30000 inventory=30000
               t1:0 100000 Credited
               w1 Final
               w3 Final
        "#]],
    );
}

#[test]
fn loss_of_what_was_final_halts_the_coin() {
    check(
        "address a0 ann
         block t1>a0=1000000
         blocks 5
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 998990 fee 10
         sign p1
         block p1
         blocks 3
         show
         back 4
         show
         resume
         back 6
         show",
        expect![[r#"
            -- 110: hot=-998990 ann=998950 fees=50 networkfees=-10
               t1:0 1000000 Credited
               w1 Final
               p1 Final
            -- 106: hot=-1000000 ann=998950 inflight=1000 fees=50
               t1:0 1000000 Credited
               w1 Signed
               p1 Signed
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 100: ann=998950(998950 held) inflight=1000 fees=50 shortfall=-1000000
               t1:0 1000000 Missing
               w1 Signed
               p1 Signed
               ann frozen 1
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

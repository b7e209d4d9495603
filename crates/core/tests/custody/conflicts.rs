//! Plans that can never confirm: inputs that others took, inputs that are gone for ever, and payments made in a plan's place.

use crate::script::{Scene, check};
use crate::world::CHAIN;
use expect_test::expect;
use florin_core::command::{Command, Outcome};
use florin_core::custody::{BlockRef, OutPoint, Payment, PlanStatus, WithdrawalStatus};
use florin_core::decide::{PlanRefusal, Refusal};
use florin_core::id::{BlockHash, Height, PlanId, TxId};

/// A signed plan with two inputs.
const SIGNED: &str = "address a0 ann
    address a1 ann
    block t1>a0=100000 t2>a1=50000
    blocks 3
    withdraw w1 ann 1000 x
    withdraw w2 ann 2000 y
    plan p1 w1,w2 from t1:0,t2:0 change 146990 fee 10
    sign p1";

#[test]
fn foreign_spend_of_any_input_ends_the_plan_when_it_is_final() {
    let scene = format!(
        "{SIGNED}
         block f1<t2:0>thief=49990
         blocks 2
         show
         blocks 1
         show
         back 4
         show
         blocks 5
         show"
    );
    check(
        &scene,
        expect![[r#"
        -- 107: hot=-100000 ann=146900 inflight=3000 fees=100 shortfall=-50000
           t1:0 100000 Credited
           t2:0 50000 Credited
           w1 Signed
           w2 Signed
           p1 Signed
           halted Sign: ForeignSpend
           halted Withdraw: ForeignSpend
        -- 108: hot=-100000 ann=150000 shortfall=-50000
           t1:0 100000 Credited
           t2:0 50000 Credited
           w1 Refunded
           w2 Refunded
           p1 Conflicted
           halted Sign: ForeignSpend
           halted Withdraw: ForeignSpend
        -- 104: hot=-150000 ann=150000
           t1:0 100000 Credited
           t2:0 50000 Credited
           w1 Refunded
           w2 Refunded
           p1 Conflicted
           halted Sign: ForeignSpend
           halted Withdraw: ForeignSpend
           halted Credit: DeepReorganisation
           halted Withdraw: DeepReorganisation
           halted Sign: DeepReorganisation
        -- 109: hot=-150000 ann=150000
           t1:0 100000 Credited
           t2:0 50000 Credited
           w1 Refunded
           w2 Refunded
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
fn two_foreign_spends_of_one_plan_end_it_once() {
    let scene = format!(
        "{SIGNED}
         block f1<t2:0>thief=49990 f2<t1:0>thief=99990
         blocks 3
         show
         blocks 2020
         show"
    );
    check(
        &scene,
        expect![[r#"
        -- 108: ann=150000 shortfall=-150000
           t1:0 100000 Credited
           t2:0 50000 Credited
           w1 Refunded
           w2 Refunded
           p1 Conflicted
           halted Sign: ForeignSpend
           halted Withdraw: ForeignSpend
        -- 2128: ann=150000 shortfall=-150000
           w1 archived
           w2 archived
           p1 archived
           halted Sign: ForeignSpend
           halted Withdraw: ForeignSpend
    "#]],
    );
}

#[test]
fn plan_whose_input_was_taken_in_a_fork_confirms_on_another() {
    let scene = format!(
        "{SIGNED}
         block f1<t2:0>thief=49990
         blocks 1
         back 2
         block p1
         blocks 3
         show"
    );
    check(
        &scene,
        expect![[r#"
        -- 108: hot=-146990 ann=146900 fees=100 networkfees=-10
           t1:0 100000 Credited
           t2:0 50000 Credited
           w1 Final
           w2 Final
           p1 Final
           halted Sign: ForeignSpend
           halted Withdraw: ForeignSpend
    "#]],
    );
}

#[test]
fn thief_who_pays_what_a_plan_pays_with_other_inputs_is_booked_and_nobody_is_paid_twice() {
    check(
        "address a0 ann
         address a1 ben
         block t1>a0=100000 t2>a1=50000
         blocks 3
         withdraw w1 ann 1000 x
         withdraw w2 ann 1000 x
         plan p1 w1,w2 from t1:0 change 97990 fee 10
         sign p1
         block f1<t1:0,t2:0>x=1000,x=1000,change0=97990
         show
         blocks 3
         show
         blocks 2020
         show",
        expect![[r#"
            -- 105: hot=-97990 ann=97900 ben=50000 inflight=2000 fees=100 suspense=97990 shortfall=-150000
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Signed
               w2 Signed
               p1 Signed
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 108: hot=-97990 ann=97900 ben=50000 fees=100 suspense=97990 shortfall=-148000
               t1:0 100000 Credited
               t2:0 50000 Credited
               w1 Final
               w2 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 2128: hot=-97990 ann=97900 ben=50000 fees=100 suspense=97990 shortfall=-148000
               w1 archived
               w2 archived
               p1 archived
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

#[test]
fn thief_who_pays_a_part_of_a_plan_leaves_the_rest_to_be_refunded() {
    check(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         withdraw w2 ann 1000 x
         plan p1 w1,w2 from t1:0 change 97990 fee 10
         sign p1
         block f1<t1:0>thief=90000,x=1000
         blocks 3
         show",
        expect![[r#"
            -- 108: ann=98950 fees=50 shortfall=-99000
               t1:0 100000 Credited
               w1 Final
               w2 Refunded
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

#[test]
fn payment_with_coins_of_others_beyond_what_was_taken_is_suspense() {
    check(
        "address a0 ann
         block t1>a0=10000 t2>a0=1000
         blocks 3
         withdraw w1 ann 9000 x
         plan p1 w1 from t2:0,t1:0 change 1990 fee 10
         sign p1
         block f1<t2:0>x=9000
         blocks 3
         show",
        expect![[r#"
            -- 108: hot=-10000 ann=1950 fees=50 suspense=8000
               t1:0 10000 Credited
               t2:0 1000 Credited
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

/// A signed plan one of whose inputs a deep reorganisation has taken away.
fn vanished() -> (Scene, PlanId, [OutPoint; 2]) {
    let mut scene = Scene::new();
    scene.play("address a0 ann\naddress a1 ann\nblock t2>a1=50000\nblock t1>a0=100000");
    scene.play(
        "blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0,t2:0 change 148990 fee 10
         sign p1
         back 4
         block f1>other=1
         blocks 4
         resume",
    );
    let inputs = [scene.outpoint("t1:0"), scene.outpoint("t2:0")];
    let plan = scene.plans["p1"].0;
    (scene, plan, inputs)
}

fn by(scene: &Scene, height: u32) -> Payment {
    let at = scene.world.state.chains()[&CHAIN].blocks[&Height(height)].at;
    Payment { txid: scene.txs["f1"].id, at }
}

#[test]
fn operators_word_about_a_lost_input_is_refused_unless_all_that_is_known_agrees() {
    let (mut scene, plan, [gone, present]) = vanished();
    let good = by(&scene, 102);
    let refused = |scene: &mut Scene, plan, input, by: &Payment, refusal| {
        let command = Command::ProveConflict { plan, input, by: by.clone() };
        assert_eq!(scene.world.run(command), Err(Refusal::Plan(refusal)));
    };
    let nowhere = OutPoint { vout: 9, ..gone };
    let wrong = Payment { at: BlockRef { hash: BlockHash([9; 32]), ..good.at }, ..good.clone() };
    let shallow = by(&scene, 104);
    refused(&mut scene, PlanId(99), nowhere, &wrong, PlanRefusal::PlanUnknown);
    refused(&mut scene, plan, nowhere, &wrong, PlanRefusal::InputNotItsOwn);
    refused(&mut scene, plan, present, &wrong, PlanRefusal::InputPresent);
    refused(&mut scene, plan, gone, &wrong, PlanRefusal::BlockUnknown);
    refused(&mut scene, plan, gone, &shallow, PlanRefusal::BlockNotFinal);
    scene.world.done(Command::ProveConflict { plan, input: gone, by: good.clone() });
    refused(&mut scene, plan, nowhere, &wrong, PlanRefusal::Ended);
}

#[test]
fn operators_word_is_refused_for_a_plan_in_a_block() {
    let mut scene = Scene::new();
    scene.play(SIGNED);
    scene.play("block p1");
    let (plan, input) = (scene.plans["p1"].0, scene.outpoint("t1:0"));
    let by = Payment { txid: TxId([1; 32]), at: scene.world.tip().at };
    let command = Command::ProveConflict { plan, input, by };
    assert_eq!(scene.world.run(command), Err(Refusal::Plan(PlanRefusal::Confirmed)));
}

#[test]
fn plan_whose_input_is_gone_for_ever_ends_on_an_operators_word() {
    let (mut scene, plan, [gone, present]) = vanished();
    assert_eq!(scene.world.state.plans()[&plan].status, PlanStatus::Signed, "absence alone proves nothing");
    let by = by(&scene, 102);
    assert_eq!(scene.world.done(Command::ProveConflict { plan, input: gone, by: by.clone() }), Outcome::Done(true));
    let state = &scene.world.state;
    let record = &state.plans()[&plan];
    assert_eq!((record.status, record.paid.as_ref()), (PlanStatus::Conflicted, Some(&by)));
    assert_eq!(state.withdrawals()[&scene.withdrawals["w1"]].status, WithdrawalStatus::Refunded);
    assert_eq!(state.coins()[&present].reserved, None, "its other inputs are free");
    assert!(state.halts().is_empty());
    scene.world.check_fold();

    scene.play("blocks 2012");
    assert!(scene.world.state.plans().contains_key(&plan));
    scene.play("blocks 1");
    assert!(scene.world.state.plans().is_empty() && scene.world.state.withdrawals().is_empty());
}

#[test]
fn operator_may_name_a_block_that_left_the_state() {
    let (mut scene, plan, [gone, _]) = vanished();
    let by = by(&scene, 102);
    scene.play("policy kept 6\nblocks 12");
    let chain = &scene.world.state.chains()[&CHAIN];
    assert!(!chain.blocks.contains_key(&by.at.height), "it has left");
    let above = Payment { at: BlockRef { height: Height(by.at.height.0 + 100), ..by.at }, ..by.clone() };
    let command = Command::ProveConflict { plan, input: gone, by: above };
    assert_eq!(scene.world.run(command), Err(Refusal::Plan(PlanRefusal::BlockUnknown)), "it is not there yet");
    scene.world.done(Command::ProveConflict { plan, input: gone, by: by.clone() });
    assert_eq!(scene.world.state.plans()[&plan].status, PlanStatus::Conflicted);
    // It stays a while longer than its block, and then a fork takes that block away.
    scene.play("blocks 20\nback 35\nblocks 40");
    assert_eq!(scene.world.state.plans()[&plan].status, PlanStatus::Conflicted);
    scene.world.check_fold();
}

#[test]
fn lost_input_that_comes_back_after_all_halts() {
    let (mut scene, plan, [gone, _]) = vanished();
    let by = by(&scene, 102);
    scene.world.done(Command::ProveConflict { plan, input: gone, by });
    scene.play("block t1");
    assert_eq!(scene.world.state.coins()[&gone].reserved, None);
    assert!(scene.world.state.halts().iter().any(|halt| halt.action == florin_core::asset::HaltAction::Sign));
}

#[test]
fn block_that_ended_a_plan_halts_when_it_is_taken_back() {
    let (mut scene, plan, [gone, _]) = vanished();
    let by = by(&scene, 102);
    scene.world.done(Command::ProveConflict { plan, input: gone, by });
    scene.play("back 4");
    assert!(scene.world.state.halts().is_empty(), "the block stands");
    scene.play("back 1");
    assert!(scene.world.state.halts().iter().any(|halt| halt.action == florin_core::asset::HaltAction::Sign));
}

#[test]
fn payment_by_a_thief_that_is_taken_back_after_it_was_final_leaves_books_that_balance_and_comes_back_the_same() {
    check(
        "address a0 ann
         address a1 ann
         block t1>a0=10000 t2>a1=5000
         blocks 3
         withdraw w1 ann 6000 x
         withdraw w2 ann 3000 y
         plan p1 w1,w2 from t1:0,t2:0 change 5990 fee 10
         sign p1
         block f1<t1:0,t2:0>thief=5000,x=6000,y=3000
         blocks 3
         show
         back 4
         show
         block f1
         blocks 3
         show",
        expect![[r#"
            -- 108: ann=5900 fees=100 shortfall=-6000
               t1:0 10000 Credited
               t2:0 5000 Credited
               w1 Final
               w2 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 104: hot=-15000 ann=5900 fees=100 suspense=9000
               t1:0 10000 Credited
               t2:0 5000 Credited
               w1 Final
               w2 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 108: ann=5900 fees=100 shortfall=-6000
               t1:0 10000 Credited
               t2:0 5000 Credited
               w1 Final
               w2 Final
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
fn payment_with_coins_of_others_takes_nothing_from_a_deposit_that_is_missing() {
    check(
        "address a0 ann
         address a1 ben
         block t1>a0=10000 t2>a0=1000
         block t3>a1=8000
         blocks 2
         withdraw w1 ann 9000 x
         withdraw w2 ben 7900 a0
         plan p1 w1 from t2:0,t1:0 change 1990 fee 10
         sign p1
         back 3
         block f1<t2:0>x=9000
         blocks 3
         show
         block t3
         show",
        expect![[r#"
            -- 105: hot=-10000 ann=9850 ben=100(100 held) fees=50 shortfall=-8000 suspense=8000
               t1:0 10000 Credited
               t2:0 1000 Credited
               t3:0 8000 Missing
               w1 Final
               w2 Final
               p1 Conflicted
               ben frozen 1
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 106: hot=-18000 ann=9850 ben=100 fees=50 suspense=8000
               t1:0 10000 Credited
               t2:0 1000 Credited
               t3:0 8000 Credited
               w1 Final
               w2 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

#[test]
fn plan_ends_only_when_a_payment_in_its_place_is_final_too() {
    check(
        "address a0 ann
         block t1>a0=10000 t2>a0=1000
         blocks 3
         withdraw w1 ann 9000 x
         plan p1 w1 from t2:0,t1:0 change 1990 fee 10
         sign p1
         block f1<t2:0>thief=900
         blocks 2
         block f2<t1:0>x=9000
         blocks 2
         show
         blocks 1
         show",
        expect![[r#"
            -- 110: ann=1950 inflight=9000 fees=50 shortfall=-11000
               t1:0 10000 Credited
               t2:0 1000 Credited
               w1 Signed
               p1 Signed
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 111: ann=1950 fees=50 shortfall=-2000
               t1:0 10000 Credited
               t2:0 1000 Credited
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

#[test]
fn payment_in_a_plans_place_that_was_final_halts_when_its_block_is_taken_back() {
    check(
        "address a0 ann
         block t1>a0=10000 t2>a0=1000
         blocks 3
         withdraw w1 ann 9000 x
         plan p1 w1 from t2:0,t1:0 change 1990 fee 10
         sign p1
         block f1<t2:0>thief=900
         blocks 2
         block f2<t1:0>x=9000
         blocks 3
         resume
         back 3
         show
         back 1
         show",
        expect![[r#"
            -- 108: ann=1950 fees=50 shortfall=-2000
               t1:0 10000 Credited
               t2:0 1000 Credited
               w1 Final
               p1 Conflicted
            -- 107: hot=-10000 ann=1950 fees=50 shortfall=-1000 suspense=9000
               t1:0 10000 Credited
               t2:0 1000 Credited
               w1 Final
               p1 Conflicted
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn plan_that_a_thief_paid_is_not_voided_and_paid_again() {
    check(
        "address a0 ann
         block t1>a0=10000
         blocks 3
         withdraw w1 ann 3000 x
         plan p1 w1 from t1:0 change 6990 fee 10
         block f1<t1:0>x=3000,thief=6900
         void p1
         blocks 3
         void p1
         show",
        expect![[r#"
            void p1: plan_paid_by_others
            void p1: plan_ended
            -- 108: ann=6950 fees=50 shortfall=-7000
               t1:0 10000 Credited
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
        "#]],
    );
}

//! Scenes of corrections, while deposits, withdrawals and forks go on.

use crate::script::check;
use expect_test::expect;

#[test]
fn what_a_withdrawal_holds_is_not_corrected_away() {
    check(
        "address a0 ann
         block t1>a0=5000
         blocks 1
         withdraw w1 ann 3000 x
         correct c1 1951 ann ben
         correct c1 1950 ann ben
         correct c1 1 ben ann
         show",
        expect![[r#"
            correct c1 1951 ann ben: insufficient_funds
            correct c1 1 ben ann: correction_reference_used
            -- 102: hot=-5000 ann=3050(3050 held) ben=1950
               t1:0 5000 Credited
               w1 Queued
        "#]],
    );
}

#[test]
fn deposit_that_was_corrected_to_another_and_vanishes_is_owed_by_whom_it_was_credited_to() {
    check(
        "address a0 ann
         block t1>a0=5000
         blocks 1
         correct c1 4000 ann ben
         back 2
         blocks 2
         show
         correct c2 1000 ann ben
         correct c2 4000 ben inventory
         tick 100000
         show
         block t1
         blocks 1
         show",
        expect![[r#"
            -- 102: ann=1000(1000 held) ben=4000 shortfall=-5000
               t1:0 5000 Missing
               ann frozen 1
            correct c2 1000 ann ben: insufficient_funds
            -- 102: inventory=4000 receivables=-4000
               t1:0 5000 Reversed
               ann frozen 1
            -- 104: hot=-5000 ann=1000 inventory=4000
               t1:0 5000 Credited
        "#]],
    );
}

#[test]
fn coin_of_nobody_is_given_from_the_inventory_and_its_block_can_still_be_taken_back() {
    check(
        "address a0 ann@old
         address h0 house
         retire old
         block t1>a0=700 t2>h0=5000
         blocks 2
         show
         correct c1 700 suspense ann
         correct c1 700 inventory ann
         show
         back 3
         blocks 4
         show",
        expect![[r#"
            -- 103: old=-700 suspense=700 hot=-5000 inventory=5000
               t2:0 5000 Credited
            correct c1 700 suspense ann: debit_not_correctable
            -- 103: old=-700 suspense=700 hot=-5000 inventory=4300 ann=700
               t2:0 5000 Credited
            -- 104: inventory=4300(4300 held) ann=700 shortfall=-5000
               t2:0 5000 Missing
        "#]],
    );
}

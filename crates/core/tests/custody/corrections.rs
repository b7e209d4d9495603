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
         withdraw w1 ann 300 x
         withdraw w2 ben 300 y
         correct c2 1001 ann ben
         correct c2 1000 ben ann
         tick 100000
         show
         correct c3 2000 ben ann
         withdraw w3 ann 300 z
         show
         block t1
         blocks 1
         withdraw w3 ann 300 z
         show",
        expect![[r#"
            -- 102: ann=1000(1000 held) ben=4000 shortfall=-5000
               t1:0 5000 Missing
               ann frozen 1
            withdraw w1 ann 300 x: customer_frozen
            correct c2 1001 ann ben: insufficient_funds
            -- 102: ben=3000(350 held) receivables=-3000
               t1:0 5000 Reversed
               w2 Queued
               ann frozen 1
            withdraw w3 ann 300 z: customer_frozen
            -- 102: ann=2000 ben=1000(350 held) receivables=-3000
               t1:0 5000 Reversed
               w2 Queued
               ann frozen 1
            -- 104: hot=-5000 ann=4000(350 held) ben=1000(350 held)
               t1:0 5000 Credited
               w2 Queued
               w3 Queued
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

#[test]
fn fees_are_given_away_as_far_as_the_network_left_them() {
    check(
        "address a0 ann
         block t1>a0=5000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 3970 fee 30
         sign p1
         inpool p1
         block p1
         correct c1 21 fees ann
         correct c1 20 fees ann
         show",
        expect![[r#"
            correct c1 21 fees ann: insufficient_funds
            -- 105: hot=-3970 ann=3970 fees=30 networkfees=-30
               t1:0 5000 Credited
               w1 Confirmed
               p1 Confirmed
        "#]],
    );
}

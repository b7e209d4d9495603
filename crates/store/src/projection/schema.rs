//! The search tables. They never hold a name, and nothing that the journal does not say.

use crate::database::Schema;

/// Every table that a rebuild empties.
pub(super) const TABLES: &[&str] = &[
    "events",
    "mentions",
    "accounts",
    "transfers",
    "holds",
    "deposits",
    "withdrawals",
    "plans",
    "blocks",
    "quotes",
    "addresses",
];

/// The cursor's number in `reader`. A step that empties tables gives it the next number, and does so first: a projector of an older build,
/// which may still run on another machine, then finds no cursor and stands still, however far the tables are filled again. With the number
/// that it knows it would go on as soon as its row is the next one, and write what that build knows and no more.
pub(super) const READER: u64 = 2;

/// `place` says where in the journal a record came from, `changed` where it last changed; see [`super::Place`].
pub(super) const SCHEMA: Schema = Schema {
    component: "projection",
    steps: &[
        "CREATE TABLE IF NOT EXISTS reader (
            id NUMBER PRIMARY KEY, seq NUMBER NOT NULL, hash BYTES32 NOT NULL
        ) TABLE_END;
        INSERT INTO reader (id, seq, hash)
        SELECT 1, 0, X'0000000000000000000000000000000000000000000000000000000000000000' FROM (SELECT 1) AS one
        WHERE NOT EXISTS (SELECT 1 FROM reader);

        CREATE TABLE IF NOT EXISTS events (
            place NUMBER PRIMARY KEY, at_ms NUMBER NOT NULL, command BYTES16, payload PAYLOAD NOT NULL
        ) TABLE_END;
        CREATE TABLE IF NOT EXISTS mentions (
            subject KEYBYTES NOT NULL, place NUMBER NOT NULL, PRIMARY KEY (subject, place)
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS accounts (
            id NUMBER PRIMARY KEY, owner KEYBYTES NOT NULL, customer BYTES16, asset NUMBER NOT NULL,
            rule NUMBER NOT NULL, debits_posted BYTES16 NOT NULL, credits_posted BYTES16 NOT NULL,
            debits_pending BYTES16 NOT NULL, credits_pending BYTES16 NOT NULL
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS transfers (
            place NUMBER PRIMARY KEY, at_ms NUMBER NOT NULL, debit NUMBER NOT NULL, credit NUMBER NOT NULL,
            amount BYTES16 NOT NULL, reason NUMBER NOT NULL
        ) TABLE_END;
        CREATE INDEX IF NOT EXISTS transfers_by_debit ON transfers (debit, place);
        CREATE INDEX IF NOT EXISTS transfers_by_credit ON transfers (credit, place);

        CREATE TABLE IF NOT EXISTS holds (
            id NUMBER PRIMARY KEY, debit NUMBER NOT NULL, credit NUMBER NOT NULL, amount BYTES16 NOT NULL,
            reason NUMBER NOT NULL
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS deposits (
            chain NUMBER NOT NULL, txid BYTES32 NOT NULL, vout NUMBER NOT NULL, place NUMBER NOT NULL,
            changed NUMBER NOT NULL, customer BYTES16, amount BYTES16 NOT NULL, status NUMBER NOT NULL,
            height NUMBER, block BYTES32, seen_ms NUMBER NOT NULL, debited BYTES16 NOT NULL,
            wallet NUMBER NOT NULL, branch NUMBER NOT NULL, address NUMBER NOT NULL,
            PRIMARY KEY (chain, txid, vout)
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS withdrawals (
            id BYTES16 NOT NULL PRIMARY KEY, place NUMBER NOT NULL, changed NUMBER NOT NULL,
            customer BYTES16 NOT NULL, asset NUMBER NOT NULL, amount BYTES16 NOT NULL, fee BYTES16 NOT NULL,
            script PAYLOAD NOT NULL, status NUMBER NOT NULL, plan NUMBER, requested_ms NUMBER NOT NULL,
            txid BYTES32, height NUMBER, block BYTES32
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS plans (
            id NUMBER PRIMARY KEY, place NUMBER NOT NULL, changed NUMBER NOT NULL, wallet NUMBER NOT NULL,
            status NUMBER NOT NULL, txid BYTES32
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS blocks (
            chain NUMBER NOT NULL, hash BYTES32 NOT NULL, place NUMBER NOT NULL, height NUMBER NOT NULL,
            previous BYTES32 NOT NULL, time_s NUMBER NOT NULL, connected NUMBER NOT NULL, PRIMARY KEY (chain, hash)
        ) TABLE_END;

        CREATE TABLE IF NOT EXISTS quotes (
            id BYTES16 NOT NULL PRIMARY KEY, place NUMBER NOT NULL, customer BYTES16 NOT NULL, payload PAYLOAD NOT NULL,
            status NUMBER NOT NULL
        ) TABLE_END",
        // In the order of lists.
        "CREATE INDEX IF NOT EXISTS deposits_seen ON deposits (seen_ms, chain, txid, vout);
        CREATE INDEX IF NOT EXISTS deposits_of_customer ON deposits (customer, seen_ms, chain, txid, vout);
        CREATE INDEX IF NOT EXISTS withdrawals_of_customer ON withdrawals (customer, id);
        CREATE INDEX IF NOT EXISTS quotes_of_customer ON quotes (customer, id)",
        // Customers' addresses. No table has said whose an address is, so all rows are taken in again. The cursor goes first: its
        // number stays, so other projectors rest only until their row is the next one; the next step mends that.
        "UPDATE reader SET seq = 0, hash = X'0000000000000000000000000000000000000000000000000000000000000000'
        WHERE id = 1;
        EMPTY TABLE events;
        EMPTY TABLE mentions;
        EMPTY TABLE accounts;
        EMPTY TABLE transfers;
        EMPTY TABLE holds;
        EMPTY TABLE deposits;
        EMPTY TABLE withdrawals;
        EMPTY TABLE plans;
        EMPTY TABLE blocks;
        EMPTY TABLE quotes;
        CREATE TABLE IF NOT EXISTS addresses (
            customer BYTES16 NOT NULL, path KEYBYTES NOT NULL, PRIMARY KEY (customer, path)
        ) TABLE_END",
        // Where in the journal each address was handed out, and a cursor that no projector of an older build finds.
        "UPDATE reader SET id = 2, seq = 0, hash = X'0000000000000000000000000000000000000000000000000000000000000000'
        WHERE id = 1;
        EMPTY TABLE events;
        EMPTY TABLE mentions;
        EMPTY TABLE accounts;
        EMPTY TABLE transfers;
        EMPTY TABLE holds;
        EMPTY TABLE deposits;
        EMPTY TABLE withdrawals;
        EMPTY TABLE plans;
        EMPTY TABLE blocks;
        EMPTY TABLE quotes;
        DROP TABLE IF EXISTS addresses;
        CREATE TABLE IF NOT EXISTS addresses (
            customer BYTES16 NOT NULL, path KEYBYTES NOT NULL, place NUMBER NOT NULL, PRIMARY KEY (customer, path)
        ) TABLE_END",
    ],
    page_bytes: 4_096,
};

//! The search tables held against a fresh fold, on both databases: whatever is changed in one of them is told, with the table and
//! the first record.

mod common;

use common::{Maria, maria_url};
use florin_core::amount::Amount;
use florin_core::broker::{Pair, Price, Quote, Side};
use florin_core::custody::{
    Address, Beneficiary, Block, BlockRef, Branch, Deposit, DepositStatus, Intent, KeyPath, OutPoint, Plan, PlanStatus,
    Withdrawal, WithdrawalStatus,
};
use florin_core::event::{Event, TransfersPosted};
use florin_core::id::*;
use florin_core::journal::{Batch, Entry, Row};
use florin_core::ledger::{Account, BalanceRule, Hold, Owner, Transfer, TransferReason};
use florin_core::wire::{Bytes, Message};
use florin_store::fault::StoreFault;
use florin_store::projection::compare::{TableFault, TableReport};
use florin_store::projection::{FILE, Projection};
use mysql::prelude::Queryable;
use std::path::PathBuf;
use tempfile::TempDir;

/// The tables in the order in which they are compared.
const TABLES: [&str; 11] = [
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

/// Tables that can be damaged behind Florin's back.
enum Books {
    Sqlite { _folder: TempDir, path: PathBuf },
    Maria(Maria),
}

impl Books {
    fn sqlite() -> Books {
        let folder = TempDir::new().expect("a folder can be made");
        let path = folder.path().join(FILE);
        Books::Sqlite { _folder: folder, path }
    }

    fn writer(&self) -> Projection {
        match self {
            Books::Sqlite { path, .. } => Projection::open_sqlite(path),
            Books::Maria(maria) => Projection::open_maria(&maria.server),
        }
        .expect("the tables open")
    }

    fn reader(&self) -> Projection {
        let mut reader = match self {
            Books::Sqlite { path, .. } => Projection::open_sqlite_reader(path),
            Books::Maria(maria) => Projection::open_maria_reader(&maria.server),
        }
        .expect("the tables open");
        reader.begin_view().expect("a view");
        reader
    }

    /// Any SQL that both databases understand.
    fn damage(&self, sql: &str) {
        match self {
            Books::Sqlite { path, .. } => {
                let foreign = rusqlite::Connection::open(path).expect("the file opens");
                foreign.execute_batch(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
            }
            Books::Maria(maria) => {
                let opts = mysql::Opts::from_url(&maria_url()).expect("the address is one");
                let mut conn = mysql::Conn::new(opts).expect("the server answers");
                conn.query_drop(format!("USE {}_projection", maria.prefix)).expect("it is there");
                conn.query_drop(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
            }
        }
    }

    /// Fills the tables anew and damages them.
    fn damaged(&self, rows: &[(Row, Batch)], sql: &str) {
        let mut tables = self.writer();
        tables.rebuild().expect("they are emptied");
        fold(&mut tables, rows);
        self.damage(sql);
    }
}

fn on_each(test: impl Fn(&Books)) {
    eprintln!("SQLite");
    test(&Books::sqlite());
    eprintln!("MariaDB");
    test(&Books::Maria(Maria::fresh()));
}

fn rows_of(events: Vec<Vec<Event>>) -> Vec<(Row, Batch)> {
    let (mut seq, mut previous) = (Seq::START, Digest::ZERO);
    let seal = |events: Vec<Event>| {
        let command = Some(CommandId([seq.0 as u8 + 1; 16]));
        let batch = Batch { entries: vec![Entry { command, request: None, events, outcome: None }] };
        let row = Row::seal(seq.next(), Epoch(1), LedgerTime(1_000), previous, batch.encode());
        (seq, previous) = (row.seq, row.hash);
        (row, batch)
    };
    events.into_iter().map(seal).collect()
}

fn account(id: u64) -> Event {
    let (owner, zero) = (Owner::Customer(CustomerId([7; 16])), Amount::ZERO);
    Event::AccountOpened(Account {
        id: AccountId(id),
        owner,
        asset: AssetId(1),
        rule: BalanceRule::Free,
        debits_posted: zero,
        credits_posted: zero,
        debits_pending: zero,
        credits_pending: zero,
    })
}

fn transfer(debit: u64, credit: u64) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer { debit, credit, amount: Amount::new(5), reason: TransferReason::Plain }
}

fn deposit(txid: u8, vout: u32) -> Event {
    Event::DepositSeen(Deposit {
        outpoint: OutPoint { chain: ChainId(1), txid: TxId([txid; 32]), vout },
        beneficiary: Beneficiary::Customer(CustomerId([7; 16])),
        amount: Amount::new(50),
        status: DepositStatus::Seen,
        at: None,
        hold: None,
        seen: LedgerTime(5),
        missing_since: None,
        debited: Amount::ZERO,
        coinbase: false,
        path: KeyPath { wallet: WalletId(1), branch: Branch::External, index: 3 },
        due: None,
    })
}

fn withdrawal() -> Event {
    let (id, script, amount) = (WithdrawalId([1; 16]), Bytes(vec![0, 20]), Amount::new(1_000));
    let intent = Intent {
        platform: [1; 16],
        wallet: WalletId(1),
        genesis: BlockHash([2; 32]),
        asset: AssetId(1),
        script: script.clone(),
        amount,
        fee_max: Amount::new(50),
        expiry: LedgerTime(9_000),
        withdrawal: id,
    };
    Event::WithdrawalRequested(Withdrawal {
        id,
        customer: CustomerId([7; 16]),
        asset: AssetId(1),
        amount,
        fee: Amount::new(10),
        script,
        status: WithdrawalStatus::Queued,
        hold: None,
        intent,
        approvals: Vec::new(),
        plan: None,
        requested: LedgerTime(77),
        paid: None,
    })
}

fn plan() -> Event {
    let input = OutPoint { chain: ChainId(1), txid: TxId([1; 32]), vout: 0 };
    Event::SigningRequested(Plan {
        id: PlanId(4),
        wallet: WalletId(1),
        inputs: vec![input],
        anchor: input,
        versions: Vec::new(),
        status: PlanStatus::Signing,
        paid: None,
    })
}

fn block() -> Event {
    let at = BlockRef { height: Height(100), hash: BlockHash([3; 32]) };
    Event::BlockConnected(Block { chain: ChainId(1), at, previous: BlockHash([2; 32]), time_s: 1_700 })
}

fn quote() -> Event {
    let pair = Pair { base: AssetId(1), quote: AssetId(2) };
    let (one, as_of) = (Amount::new(1), LedgerTime(1));
    let price = Price { pair, quote_units: one, base_units: one, as_of, age_max_ms: 1, spread_bp: 1, quote_ms: 1 };
    Event::QuoteOffered(Quote {
        id: QuoteId([6; 16]),
        customer: CustomerId([7; 16]),
        pair,
        side: Side::Buy,
        base: one,
        quote: one,
        spread: one,
        expiry: LedgerTime(9),
        price,
    })
}

fn address() -> Event {
    let path = KeyPath { wallet: WalletId(1), branch: Branch::External, index: 3 };
    let (script, beneficiary) = (Bytes(vec![0, 20]), Beneficiary::Customer(CustomerId([7; 16])));
    Event::AddressIssued(Address { path, script, beneficiary, issued: LedgerTime(3), used: false })
}

/// A journal that fills every table.
fn story() -> Vec<(Row, Batch)> {
    rows_of(vec![
        vec![account(1), account(2)],
        vec![
            Event::TransfersPosted(TransfersPosted { transfers: vec![transfer(1, 2), transfer(2, 1)] }),
            Event::HoldPlaced(Hold { id: HoldId(8), transfer: transfer(1, 2) }),
        ],
        vec![block(), deposit(1, 0), deposit(1, 1)],
        vec![withdrawal(), plan(), quote(), address()],
    ])
}

fn fold(tables: &mut Projection, rows: &[(Row, Batch)]) {
    for (row, batch) in rows {
        tables.apply(row, batch).expect("the row fits");
    }
}

fn compare(books: &Books, rows: &[(Row, Batch)]) -> Vec<TableReport> {
    let mut expected = Projection::temporary().expect("there is room");
    fold(&mut expected, rows);
    books.reader().compare_with(&mut expected, |_, _| {}).expect("the fold can be read")
}

/// The one table that differs, in words.
#[track_caller]
fn told(books: &Books, rows: &[(Row, Batch)]) -> (&'static str, TableFault) {
    let mut wrong: Vec<(&'static str, TableFault)> = compare(books, rows)
        .into_iter()
        .filter_map(|report| report.found.err().map(|fault| (report.table, fault)))
        .collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    wrong.remove(0)
}

/// A record of each table, as SQL finds it and as people name it, and the rest of its columns with what each may hold.
const RECORDS: &[(&str, &str, &str, &str)] = &[
    ("events", "place = 4 * 1048576 + 2", "of row 4, position 2", "at_ms:n command:16 payload:v"),
    (
        "accounts",
        "id = 2",
        "id 2",
        "owner:v customer:16 asset:n rule:n debits_posted:16 credits_posted:16 debits_pending:16 credits_pending:16",
    ),
    ("transfers", "place = 2 * 1048576 + 1", "of row 2, position 1", "at_ms:n debit:n credit:n amount:16 reason:n"),
    ("holds", "id = 8", "id 8", "debit:n credit:n amount:16 reason:n"),
    (
        "deposits",
        "vout = 1",
        "chain 1, txid 0101010101010101010101010101010101010101010101010101010101010101, vout 1",
        "place:n changed:n customer:16 amount:16 status:n height:n block:32 seen_ms:n debited:16 wallet:n branch:n address:n",
    ),
    (
        "withdrawals",
        "status > 0",
        "id 01010101010101010101010101010101",
        "place:n changed:n customer:16 asset:n amount:16 fee:16 script:v status:n plan:n requested_ms:n txid:32 height:n block:32",
    ),
    ("plans", "id = 4", "id 4", "place:n changed:n wallet:n status:n txid:32"),
    (
        "blocks",
        "chain = 1",
        "chain 1, hash 0303030303030303030303030303030303030303030303030303030303030303",
        "place:n height:n previous:32 time_s:n connected:n",
    ),
    ("quotes", "status > 0", "id 06060606060606060606060606060606", "place:n customer:16 payload:v status:n"),
];

#[test]
fn what_is_whole_agrees_and_is_counted() {
    on_each(|books| {
        let rows = story();
        fold(&mut books.writer(), &rows);
        let reports = compare(books, &rows);
        assert_eq!(reports.iter().map(|report| report.table).collect::<Vec<_>>(), TABLES);
        for report in reports {
            assert!(matches!(report.found, Ok(1..)), "{report:?}");
        }
        let last = &rows[rows.len() - 1].0;
        assert_eq!(books.reader().only_cursor().expect("a cursor"), (last.seq, last.hash));
    });
}

#[test]
fn every_column_of_every_table_is_compared() {
    on_each(|books| {
        let rows = story();
        for (table, place, words, columns) in RECORDS {
            for column in columns.split(' ') {
                let (column, kind) = column.split_once(':').expect("a name and a kind");
                let value = match kind {
                    "n" => "98765".to_owned(),
                    "v" => "X'EEEE'".to_owned(),
                    size => format!("X'{}'", "EE".repeat(size.parse().expect("a size"))),
                };
                books.damaged(&rows, &format!("UPDATE {table} SET {column} = {value} WHERE {place}"));
                let (found, fault) = told(books, &rows);
                let is_told =
                    matches!(&fault, TableFault::Differs { key, column: of } if key == words && *of == column);
                assert!(found == *table && is_told, "{table}.{column}: {found}: {fault}");
            }
        }
    });
}

#[test]
fn a_record_that_is_gone_or_added_or_moved_is_named() {
    on_each(|books| {
        let rows = story();
        for (table, place, words, _) in RECORDS {
            books.damaged(&rows, &format!("DELETE FROM {table} WHERE {place}"));
            let (found, fault) = told(books, &rows);
            let is_told = matches!(&fault, TableFault::Missing { key } if key == words);
            assert!(found == *table && is_told, "{table}: {found}: {fault}");
            assert_eq!(fault.code(), "table_record_missing");
        }
        let subject = "X'77777777777777777777777777777777'";
        books.damaged(&rows, &format!("INSERT INTO mentions (subject, place) VALUES ({subject}, 1048580)"));
        let (found, fault) = told(books, &rows);
        assert!(
            found == "mentions"
                && matches!(&fault, TableFault::Unexpected { key } if key.contains("of row 1, position 4")),
            "{fault}"
        );
        books.damaged(&rows, "UPDATE accounts SET id = 1000 WHERE id = 2");
        assert!(matches!(told(books, &rows), ("accounts", TableFault::Missing { key }) if key == "id 2"));
        books.damaged(
            &rows,
            "INSERT INTO holds (id, debit, credit, amount, reason) SELECT 3, debit, credit, amount, reason FROM holds",
        );
        assert!(matches!(told(books, &rows), ("holds", TableFault::Unexpected { key }) if key == "id 3"));
        for (table, _, _, _) in RECORDS {
            books.damaged(&rows, &format!("DELETE FROM {table}"));
            assert_eq!(told(books, &rows).0, *table);
        }
        for table in ["mentions", "addresses"] {
            books.damaged(&rows, &format!("DELETE FROM {table}"));
            assert_eq!(told(books, &rows).0, table);
        }
        books.damaged(&rows, "UPDATE addresses SET customer = X'77777777777777777777777777777777'");
        let is_told = |fault| matches!(fault, TableFault::Missing { key } if key.ends_with("path 000000010100000003"));
        let (found, fault) = told(books, &rows);
        assert!(found == "addresses" && is_told(fault));
        books.damaged(&rows, "UPDATE addresses SET place = place + 1");
        assert!(matches!(told(books, &rows), ("addresses", TableFault::Differs { column: "place", .. })));
    });
}

#[test]
fn pages_of_long_tables_meet_without_gap() {
    on_each(|books| {
        let deposits = |txid| (0..300).map(move |vout| deposit(txid, vout)).collect::<Vec<Event>>();
        let rows = rows_of(vec![deposits(1), deposits(2), deposits(3)]);
        fold(&mut books.writer(), &rows);
        let counts = compare(books, &rows).into_iter().map(|report| report.found.map(|count| (report.table, count)));
        let counts: Vec<(&str, u64)> = counts.collect::<Result<_, _>>().expect("all agree");
        assert!(counts.contains(&("deposits", 900)) && counts.contains(&("events", 900)), "{counts:?}");
        assert!(counts.contains(&("mentions", 900 * 4)), "{counts:?}");
        for (txid, vout) in [(1, 255), (1, 256), (2, 0), (3, 299)] {
            let of = format!("X'{}'", format!("{txid:02}").repeat(32));
            books.damaged(&rows, &format!("UPDATE deposits SET status = 6 WHERE txid = {of} AND vout = {vout}"));
            let (table, fault) = told(books, &rows);
            let ending = format!("vout {vout}");
            assert!(
                table == "deposits"
                    && matches!(&fault, TableFault::Differs { key, column: "status" } if key.ends_with(&ending)),
                "{fault}"
            );
        }
    });
}

#[test]
fn a_table_or_a_cursor_that_is_none_is_told_as_that() {
    on_each(|books| {
        let rows = story();
        // Each on tables of its own, because nothing makes a dropped one again.
        let fresh = || match books {
            Books::Sqlite { .. } => Books::sqlite(),
            Books::Maria(_) => Books::Maria(Maria::fresh()),
        };
        for table in TABLES {
            let books = fresh();
            books.damaged(&rows, &format!("DROP TABLE {table}"));
            let (found, fault) = told(&books, &rows);
            assert!(found == table && fault.code() == "store_refused", "{table}: {found}: {fault}");
        }
        for sql in ["DELETE FROM reader", "INSERT INTO reader (id, seq, hash) SELECT 1, seq, hash FROM reader"] {
            let books = fresh();
            books.damaged(&rows, sql);
            let fault = books.reader().only_cursor().expect_err("an odd cursor");
            assert!(matches!(fault, StoreFault::Malformed { table: "reader", .. }), "{sql}: {fault}");
        }
    });
}

#[test]
fn a_reader_sees_one_moment_while_the_projector_goes_on() {
    on_each(|books| {
        let rows = story();
        let mut tables = books.writer();
        fold(&mut tables, &rows[..2]);
        let mut reader = books.reader();
        let at = reader.only_cursor().expect("a cursor");
        fold(&mut tables, &rows[2..]);
        assert_eq!(reader.only_cursor().expect("a cursor"), at);
        let mut expected = Projection::temporary().expect("there is room");
        fold(&mut expected, &rows[..2]);
        for report in reader.compare_with(&mut expected, |_, _| {}).expect("the fold can be read") {
            assert!(report.found.is_ok(), "{report:?}");
        }
    });
}

#[test]
fn a_reader_makes_no_database() {
    let maria = Maria::fresh();
    assert!(Projection::open_maria_reader(&maria.server).is_err());
    let mut conn = mysql::Conn::new(mysql::Opts::from_url(&maria_url()).expect("an address")).expect("it answers");
    let made: Vec<String> = conn.query(format!("SHOW DATABASES LIKE '{}%'", maria.prefix)).expect("databases");
    assert_eq!(made, Vec::<String>::new());
}

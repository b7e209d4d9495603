//! What the engine is measured beside: the same transfers by hand in SQL, durable at each commit, and the bare disk. It never
//! leaves out what the plain way needs: two balances changed under a check, and the transfer noted.

use crate::ours::{ACCOUNTS, Random};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, Statement};
use rusqlite::{Connection, params};
use std::fmt::{Display, Formatter};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const FUNDS: u64 = 1 << 60;
const DEBIT: &str = "UPDATE account SET balance = balance - ? WHERE id = ? AND balance >= ?";
const CREDIT: &str = "UPDATE account SET balance = balance + ? WHERE id = ?";
const NOTE: &str = "INSERT INTO transfer (debit, credit, amount) VALUES (?, ?, ?)";

/// Transfers in plain SQL.
pub trait HandMade {
    /// Posts transfers for a while, so many a transaction; says how many a second.
    fn run(&mut self, a_transaction: usize, span: Duration) -> f64;
}

/// Repeats a transaction for a while; says how many a second there were of what one holds.
fn repeat(each: usize, span: Duration, mut transaction: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < span {
        transaction();
        count += each;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// A SQLite file in WAL mode with `synchronous = FULL`.
pub struct HandMadeSqlite {
    connection: Connection,
    random: Random,
}

impl HandMadeSqlite {
    pub fn open(path: &Path) -> HandMadeSqlite {
        HandMadeSqlite::new(Connection::open(path).expect("the file opens"))
    }

    pub fn in_memory() -> HandMadeSqlite {
        HandMadeSqlite::new(Connection::open_in_memory().expect("memory opens"))
    }

    fn new(mut connection: Connection) -> HandMadeSqlite {
        let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
            CREATE TABLE transfer (id INTEGER PRIMARY KEY, debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL);";
        connection.execute_batch(setup).expect("the tables are made");
        let transaction = connection.transaction().expect("a transaction begins");
        for id in 1..=ACCOUNTS {
            transaction
                .execute("INSERT INTO account (id, balance) VALUES (?, ?)", [id as i64, FUNDS as i64])
                .expect("an account is made");
        }
        transaction.commit().expect("the accounts are there");
        HandMadeSqlite { connection, random: Random(2) }
    }
}

impl HandMade for HandMadeSqlite {
    fn run(&mut self, a_transaction: usize, span: Duration) -> f64 {
        let HandMadeSqlite { connection, random } = self;
        let prepare = |sql| connection.prepare(sql).expect("the statement is one");
        let [mut begin, mut debit_it, mut credit_it, mut note, mut commit] =
            ["BEGIN IMMEDIATE", DEBIT, CREDIT, NOTE, "COMMIT"].map(prepare);
        repeat(a_transaction, span, || {
            begin.execute([]).expect("a transaction begins");
            for _ in 0..a_transaction {
                let ((debit, credit), amount) = (random.pair(), 1 + random.below(1_000) as i64);
                let (debit, credit) = (debit as i64, credit as i64);
                let changed = debit_it.execute(params![amount, debit, amount]).expect("the debit is made");
                assert_eq!(changed, 1, "there are funds");
                credit_it.execute(params![amount, credit]).expect("the credit is made");
                note.execute(params![debit, credit, amount]).expect("the transfer is noted");
            }
            commit.execute([]).expect("it is durable");
        })
    }
}

/// InnoDB tables on the server that our journal is measured on.
pub struct HandMadeMaria {
    conn: Conn,
    statements: [Statement; 3],
    random: Random,
}

impl HandMadeMaria {
    pub fn open(url: &str, database: &str) -> HandMadeMaria {
        let mut conn = Conn::new(Opts::from_url(url).expect("the address is one")).expect("the server answers");
        let setup = [
            format!("CREATE DATABASE {database}"),
            format!("USE {database}"),
            "CREATE TABLE account (id BIGINT UNSIGNED PRIMARY KEY, balance BIGINT NOT NULL) ENGINE=InnoDB".to_owned(),
            "CREATE TABLE transfer (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, debit BIGINT UNSIGNED NOT NULL,
                credit BIGINT UNSIGNED NOT NULL, amount BIGINT NOT NULL) ENGINE=InnoDB"
                .to_owned(),
            format!("INSERT INTO account SELECT seq, {FUNDS} FROM seq_1_to_{ACCOUNTS}"),
        ];
        setup.iter().for_each(|sql| conn.query_drop(sql).expect("the tables are made"));
        let statements = [DEBIT, CREDIT, NOTE].map(|sql| conn.prep(sql).expect("the statement is one"));
        HandMadeMaria { conn, statements, random: Random(3) }
    }
}

impl HandMade for HandMadeMaria {
    fn run(&mut self, a_transaction: usize, span: Duration) -> f64 {
        let HandMadeMaria { conn, statements: [debit_it, credit_it, note], random } = self;
        repeat(a_transaction, span, || {
            conn.query_drop("START TRANSACTION").expect("a transaction begins");
            for _ in 0..a_transaction {
                let ((debit, credit), amount) = (random.pair(), 1 + random.below(1_000));
                conn.exec_drop(&*debit_it, (amount, debit, amount)).expect("the debit is made");
                assert_eq!(conn.affected_rows(), 1, "there are funds");
                conn.exec_drop(&*credit_it, (amount, credit)).expect("the credit is made");
                conn.exec_drop(&*note, (debit, credit, amount)).expect("the transfer is noted");
            }
            conn.query_drop("COMMIT").expect("it is durable");
        })
    }
}

/// A file whose blocks are all written before: a sync has no more to do than the bytes themselves.
pub struct Device {
    file: File,
}

/// The file's size; writes begin again at its start.
const FILE_BYTES: usize = 64 << 20;

/// Writes with a sync each.
pub struct Syncs {
    pub per_s: f64,
    pub p99_ms: f64,
}

impl Display for Syncs {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.0} synced writes/s, p99 {:.2} ms", self.per_s, self.p99_ms)
    }
}

impl Device {
    pub fn open(folder: &Path) -> Device {
        let path = folder.join("device");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path).expect("the file opens");
        let zeros = vec![0; 1 << 20];
        (0..FILE_BYTES)
            .step_by(zeros.len())
            .for_each(|at| file.write_all_at(&zeros, at as u64).expect("it is written"));
        file.sync_all().expect("it is synced");
        Device { file }
    }

    /// Writes `size` bytes and syncs, for a while.
    pub fn run(&self, size: usize, span: Duration) -> Syncs {
        let bytes = vec![0x5a; size];
        let (mut at, mut times) = (0, Vec::new());
        let start = Instant::now();
        while start.elapsed() < span {
            let one = Instant::now();
            self.file.write_all_at(&bytes, at as u64).expect("it is written");
            self.file.sync_data().expect("it is synced");
            times.push(one.elapsed());
            at += size;
            if at + size > FILE_BYTES {
                at = 0;
            }
        }
        let per_s = times.len() as f64 / start.elapsed().as_secs_f64();
        times.sort_unstable();
        Syncs { per_s, p99_ms: times[times.len() * 99 / 100].as_secs_f64() * 1e3 }
    }
}

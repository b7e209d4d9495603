//! A MariaDB server whose settings turn bad under a journal that is open: nothing is acknowledged that the server may forget. The
//! settings are the server's as a whole, so each test has a server of its own.

use florin_core::id::Seq;
use florin_core::journal::{AppendError, Journal, Row};
use florin_store::conformance::{fill, row_after};
use florin_store::fault::StoreFault;
use florin_store::heartbeat::SqlHeartbeat;
use florin_store::maria::MariaServer;
use florin_store::maria::journal::MariaJournal;
use mysql::prelude::Queryable;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const BAD: &str = "SET GLOBAL innodb_flush_log_at_trx_commit = 0";
const GOOD: &str = "SET GLOBAL innodb_flush_log_at_trx_commit = 1";

/// A server that ends with the test.
struct Private {
    folder: TempDir,
    server: MariaServer,
}

impl Private {
    fn start() -> Private {
        let folder = TempDir::new().expect("a folder can be made");
        let said = script("start", folder.path());
        let url = said.trim().strip_prefix("export FLORIN_TEST_MARIADB=").expect("it names the server");
        let server = MariaServer::new(url, "florin_settings").expect("the address is one");
        Private { folder, server }
    }

    /// A connection of whoever runs the server.
    fn root(&self) -> mysql::Conn {
        let socket = self.folder.path().join("data/socket").display().to_string();
        let opts = mysql::OptsBuilder::new().user(Some("root")).socket(Some(socket));
        mysql::Conn::new(opts).expect("the server answers")
    }

    fn sql(&self, statement: &str) {
        self.root().query_drop(statement).expect("the server does it");
    }

    fn kill_connections(&self) {
        let mut root = self.root();
        let sql = "SELECT id FROM information_schema.processlist WHERE user = 'florin'";
        let ids: Vec<u64> = root.query(sql).expect("the server answers");
        assert!(!ids.is_empty(), "nobody is connected");
        ids.into_iter().for_each(|id| root.query_drop(format!("KILL {id}")).expect("it is killed"));
    }

    fn journal(&self) -> Result<MariaJournal, StoreFault> {
        MariaJournal::open(&self.server)
    }

    /// How many rows the table has, and how often it was flushed for its own sake.
    fn counts(&self) -> (u64, u64) {
        let sql = "SELECT (SELECT COUNT(*) FROM florin_settings_journal.journal),
            (SELECT COALESCE(SUM(raised), 0) FROM florin_settings_journal.journal_flush)";
        self.root().query_first(sql).expect("the server answers").expect("a row")
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = Command::new(script_path()).args(["kill", "--dir"]).arg(self.folder.path()).status();
    }
}

fn script_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/mariadb")
}

fn script(action: &str, folder: &Path) -> String {
    let said = Command::new(script_path()).arg(action).arg("--dir").arg(folder).output().expect("the script runs");
    let errors = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "scripts/mariadb {action}: {errors}");
    String::from_utf8(said.stdout).expect("it is text")
}

fn next(rows: &[Row]) -> Row {
    row_after(rows.last().map(|row| (row.seq, row.hash)), 1, vec![rows.len() as u8])
}

/// The code of an append that was not acknowledged.
fn refused(journal: &mut MariaJournal, row: &Row) -> &'static str {
    let error = journal.append(row).expect_err("it is not acknowledged");
    StoreFault::of_append(&error).map_or("fenced", StoreFault::code)
}

#[test]
fn nothing_is_acknowledged_while_the_server_may_forget_it() {
    let private = Private::start();
    let mut journal = private.journal().expect("the journal opens");
    let mut rows = fill(&mut journal, 3);
    let before = private.counts();
    assert_eq!(before.0, 3);
    let row = next(&rows);
    let other = row_after(Some((rows[0].seq, rows[0].hash)), 9, vec![9]);

    // Under the same connection.
    private.sql(BAD);
    for _ in 0..3 {
        assert_eq!(refused(&mut journal, &row), "store_setting");
        assert_eq!(refused(&mut journal, &rows[2]), "store_setting", "that it stands does not say that it is durable");
        assert!(journal.head().is_err(), "nor may it be told as the head");
    }
    assert_eq!(private.counts(), before, "nothing was written");
    assert!(matches!(journal.append(&row_after(None, 1, vec![9])), Err(AppendError::Fenced)), "it has no place anyway");
    assert_eq!(journal.read(Seq(0), 9).expect("reading goes on"), rows);
    private.sql(GOOD);
    journal.append(&row).expect("the server keeps it again");
    rows.push(row);

    // Under a connection that is made again, whoever writes on it.
    let mut signs = SqlHeartbeat::open_maria(&private.server).expect("the table opens");
    private.sql(BAD);
    assert_eq!(signs.last().expect_err("it connects only now").code(), "store_setting");
    private.kill_connections();
    let row = next(&rows);
    assert_eq!(refused(&mut journal, &row), "store_connection_lost");
    for _ in 0..3 {
        assert_eq!(refused(&mut journal, &row), "store_setting");
    }
    assert_eq!(private.journal().expect_err("a new one is refused, too").code(), "store_setting");
    assert_eq!(private.counts().0, 4, "nothing was written");
    private.sql(GOOD);
    journal.append(&row).expect("the server keeps it again");
    rows.push(row);
    assert!(matches!(journal.append(&other), Err(AppendError::Fenced)));

    // What was acknowledged outlives the server, and nothing else was written.
    private.sql(BAD);
    let row = next(&rows);
    for _ in 0..20 {
        assert_eq!(refused(&mut journal, &row), "store_setting");
    }
    script("kill", private.folder.path());
    script("restart", private.folder.path());
    let mut journal = private.journal().expect("the journal opens: the script starts it as it was meant");
    assert_eq!(journal.read(Seq(0), 99).expect("it answers"), rows);
    journal.append(&row).expect("a row after the head is appended");
}

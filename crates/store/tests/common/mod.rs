//! Where tests get a MariaDB server from. It never starts one, and never skips a test for want of one.

use florin_store::maria::MariaServer;
use mysql::prelude::Queryable;
use std::sync::atomic::{AtomicU32, Ordering};

/// The server's address, or a failure that says how to get one.
pub fn maria_url() -> String {
    std::env::var("FLORIN_TEST_MARIADB").unwrap_or_else(|_| {
        panic!("FLORIN_TEST_MARIADB is not set: run `scripts/mariadb run cargo nextest run -p florin-store`")
    })
}

/// A set of databases of its own, dropped at the end.
pub struct Maria {
    pub server: MariaServer,
    pub prefix: String,
}

impl Maria {
    pub fn fresh() -> Maria {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("florin_t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server = MariaServer::new(&maria_url(), &prefix).expect("the address is one");
        Maria { server, prefix }
    }
}

impl Drop for Maria {
    fn drop(&mut self) {
        let opts = mysql::Opts::from_url(&maria_url()).expect("the address is one");
        // A test that failed because the server is gone must report that, not this.
        let Ok(mut conn) = mysql::Conn::new(opts) else { return };
        for area in ["journal", "projection", "people"] {
            let dropped = conn.query_drop(format!("DROP DATABASE IF EXISTS {}_{area}", self.prefix));
            assert!(dropped.is_ok() || std::thread::panicking(), "{dropped:?}");
        }
    }
}

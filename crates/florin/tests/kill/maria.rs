//! A private MariaDB server of one test, which may be killed without disturbing anybody. The script that runs it does the
//! rest; the system's own service is never touched.

use florin_store::maria::MariaServer;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A server in a folder of its own; it ends with the test.
pub struct Maria {
    folder: TempDir,
    pub url: String,
}

impl Maria {
    pub fn start() -> Maria {
        let folder = tempfile::tempdir().expect("a folder");
        let said = script("start", folder.path());
        let url = said.trim().strip_prefix("export FLORIN_TEST_MARIADB=").expect("it names the server").to_owned();
        Maria { folder, url }
    }

    /// SIGKILL to the server, and a start on the same data and port.
    pub fn kill_and_restart(&self) {
        script("kill", self.folder.path());
        script("restart", self.folder.path());
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.url.rsplit_once('@').expect("there is a user").1
    }

    /// The databases with a prefix, reached directly.
    pub fn server(&self, prefix: &str) -> MariaServer {
        MariaServer::new(&self.url, prefix).expect("the address is one")
    }
}

impl Drop for Maria {
    fn drop(&mut self) {
        let path = script_path();
        let _ = Command::new(path).args(["kill", "--dir"]).arg(self.folder.path()).status();
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

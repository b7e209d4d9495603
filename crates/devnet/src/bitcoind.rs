//! Owns the starting, asking and stopping of a real bitcoind on regtest, for tests that compare; must never be used by what runs for users,
//! and never leave a process behind.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thiserror::Error;

use crate::http::{Credentials, basic};
use crate::rpc::RpcError;

/// How long a start may take; it takes a second on an idle machine.
const START_MAX: Duration = Duration::from_secs(120);

/// Pause between two looks at a node that starts.
const POLL: Duration = Duration::from_millis(50);

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// How often a start is tried: another process may take the free port that was found.
const STARTS_MAX: u32 = 3;

/// Why there is no real node.
#[derive(Debug, Error)]
pub enum StartError {
    /// The script that builds it failed.
    #[error("scripts/bitcoind failed: {0}")]
    Build(String),
    /// It can't be run.
    #[error("bitcoind can't be started")]
    Io(#[from] io::Error),
    /// It ended, or did not answer in time.
    #[error("bitcoind did not come up: {0}")]
    NotUp(String),
}

/// A running bitcoind of its own data folder; it is killed when dropped.
#[derive(Debug)]
pub struct Bitcoind {
    child: Child,
    port: u16,
    binaries: PathBuf,
}

/// Whom the node lets in; it listens on 127.0.0.1 only and dies with the test.
const USER: &str = "florin";
const PASSWORD: &str = "florin";

impl Bitcoind {
    /// The folder with bitcoind and bitcoin-cli, which `scripts/bitcoind` below the repository's root prints, after it has built them where they were missing.
    ///
    /// # Errors
    /// What the script says.
    pub fn binaries(root: &Path) -> Result<PathBuf, StartError> {
        let output = Command::new(root.join("scripts/bitcoind")).current_dir(root).output()?;
        if !output.status.success() {
            return Err(StartError::Build(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(PathBuf::from(text.lines().last().unwrap_or_default()))
    }

    /// Starts a node on regtest with an empty data folder and without peers. `root` is the repository's root, `extra` more arguments.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start(root: &Path, data: &Path, extra: &[&str]) -> Result<Self, StartError> {
        let binaries = Self::binaries(root)?;
        let mut last = StartError::NotUp("never tried".to_owned());
        for _ in 0..STARTS_MAX {
            match Self::try_start(&binaries, data, extra) {
                Ok(node) => return Ok(node),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn try_start(binaries: &Path, data: &Path, extra: &[&str]) -> Result<Self, StartError> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new(binaries.join("bitcoind"))
            .arg("-regtest")
            .arg(format!("-datadir={}", data.display()))
            .arg(format!("-rpcport={port}"))
            .args([format!("-rpcuser={USER}"), format!("-rpcpassword={PASSWORD}")])
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-server=1", "-listen=0", "-connect=0"])
            // Two script threads on any machine: with none, a block's rules are judged in another order.
            .args(["-dnsseed=0", "-printtoconsole=0", "-persistmempool=0", "-par=2"])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut node = Self { child, port, binaries: binaries.to_owned() };
        node.wait_until_up()?;
        Ok(node)
    }

    fn wait_until_up(&mut self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let mut text = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    stderr.read_to_string(&mut text)?;
                }
                return Err(StartError::NotUp(format!("{status}: {text}")));
            }
            // Refused connections and -28, still warming up, both mean: not yet.
            if matches!(self.call("getblockcount", json!([])), Ok(Ok(_))) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Err(StartError::NotUp("no answer in time".to_owned()))
    }

    /// The port of its RPC on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whom its RPC lets in.
    pub fn credentials(&self) -> Credentials {
        Credentials { user: USER.to_owned(), password: PASSWORD.to_owned() }
    }

    /// bitcoin-cli of the same build.
    pub fn cli(&self) -> PathBuf {
        self.binaries.join("bitcoin-cli")
    }

    /// Calls a method.
    ///
    /// # Errors
    /// Outer: no answer. Inner: the node's error.
    pub fn call(&self, method: &str, params: Value) -> io::Result<Result<Value, RpcError>> {
        call(self.port, &self.credentials(), method, params)
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        // Both fail only where the process has ended already.
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

/// Calls a method of a node on 127.0.0.1.
///
/// # Errors
/// Outer: no answer, or none that makes sense. Inner: the node's error.
pub fn call(port: u16, credentials: &Credentials, method: &str, params: Value) -> io::Result<Result<Value, RpcError>> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let (_, answer) = post(port, &basic(credentials), &body)?;
    let nonsense = || io::Error::other(format!("no JSON-RPC answer: {answer}"));
    let mut object: Value = serde_json::from_str(&answer).map_err(|_| nonsense())?;
    if let Some(error) = object.get("error") {
        let code = error["code"].as_i64().and_then(|code| i32::try_from(code).ok()).ok_or_else(nonsense)?;
        let message = error["message"].as_str().ok_or_else(nonsense)?;
        return Ok(Err(RpcError::new(code, message)));
    }
    match object.get_mut("result") {
        Some(result) => Ok(Ok(result.take())),
        None => Err(nonsense()),
    }
}

/// Posts a body on a connection of its own. Returns the status and the answer's body.
///
/// # Errors
/// No answer.
pub fn post(port: u16, authorization: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let length = body.len();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // One write: two would wait for each other's acknowledgement.
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
    let nonsense = || io::Error::other("no HTTP answer");
    let mut reader = BufReader::new(stream);
    let (mut status, mut length, mut line) = (None, 0, String::new());
    // The answer's length is told; waiting for the end of the connection would take bitcoind's pause before it closes.
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(|_| nonsense())?;
            }
            Some(_) if status.is_some() => {}
            _ => status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok()),
        }
        line.clear();
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(|_| nonsense())?;
    Ok((status.ok_or_else(nonsense)?, answer))
}

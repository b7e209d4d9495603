//! JSON-RPC to a Bitcoin node over HTTP: one call, one answer, bounded in time and size. Numbers stay text until a caller asks for whole units: no amount ever passes through a float.

use crate::secret::{PrivateFault, read_private};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long a node may take to answer what it knows by heart. One that is busy with a block takes a second or two.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long to list its mempool: 300,000 ids of 64 digits take a second to write, and as many as the way to us is long.
const TIMEOUT_MEMPOOL: Duration = Duration::from_secs(15);
/// How long to give or take a whole block: 8 MB of text from a busy node, over a slow way.
const TIMEOUT_BLOCK: Duration = Duration::from_secs(60);

/// The largest answer read: a full block in hexadecimal is 8 MB, and the largest mempool listing is smaller.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum RpcFault {
    /// The file with user and password can't be read, or others may read it: then nothing was asked.
    #[error("the file with the node's user and password can't be used")]
    Auth(#[source] AuthFault),
    /// No connection, a broken one, or no answer in time.
    #[error("the node does not answer")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node refused user or password.
    #[error("the node refuses our user or password")]
    Forbidden,
    /// It sends us to another address. Only the address that the operator has named is asked.
    #[error("the node sends us to another address, which is not asked")]
    Redirected,
    /// Something answered that is not a node.
    #[error("the answer is not that of a node: {0}")]
    Malformed(&'static str),
    /// The node's own error.
    #[error("the node says: {message} ({code})")]
    Node {
        /// Bitcoin Core's number, such as -5 or -26.
        code: i64,
        /// Its text; never shown to customers.
        message: String,
    },
}

/// Why a file with user and password can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct AuthFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: PrivateFault,
}

/// Whatever carries calls to a node: HTTP, or, in simulations, a network in process.
pub trait Caller: Send {
    /// One call.
    ///
    /// # Errors
    /// Each kind of [`RpcFault`].
    fn call(&self, method: &str, params: Value) -> Result<Value, RpcFault>;
}

/// A node's JSON-RPC over HTTP.
#[derive(Debug, Clone)]
pub struct Rpc {
    agent: ureq::Agent,
    url: String,
    auth_file: PathBuf,
    answer_bytes_max: u64,
    /// How long every question may take, where that is not a matter of the question.
    timeout: Option<Duration>,
}

impl Rpc {
    /// Calls to `url`, with the user and password that `auth_file` holds at each call: bitcoind writes a new cookie at every start.
    pub fn new(url: String, auth_file: PathBuf) -> Rpc {
        // A node says what it likes: it must not make this machine ask others in its place.
        let agent = ureq::Agent::config_builder().max_redirects(0).http_status_as_error(false).build().into();
        Rpc { agent, url, auth_file, answer_bytes_max: ANSWER_BYTES_MAX, timeout: None }
    }

    /// The same calls, for questions that take long and have large answers.
    #[must_use]
    pub fn patient(self, timeout: Duration, answer_bytes_max: u64) -> Rpc {
        Rpc { timeout: Some(timeout), answer_bytes_max, ..self }
    }
}

/// How long a question may take.
fn timeout_of(method: &str) -> Duration {
    match method {
        "getblock" | "submitblock" => TIMEOUT_BLOCK,
        "getrawmempool" => TIMEOUT_MEMPOOL,
        _ => TIMEOUT,
    }
}

impl Caller for Rpc {
    fn call(&self, method: &str, params: Value) -> Result<Value, RpcFault> {
        let auth = read_private(&self.auth_file)
            .map_err(|fault| RpcFault::Auth(AuthFault { path: self.auth_file.clone(), fault }))?;
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let mut response = self
            .agent
            .post(&self.url)
            .config()
            .timeout_global(Some(self.timeout.unwrap_or_else(|| timeout_of(method))))
            .build()
            .header("Authorization", format!("Basic {}", base64(auth.trim_end().as_bytes())))
            .header("Content-Type", "application/json")
            .send(body)
            .map_err(|fault| RpcFault::Transport(Box::new(fault)))?;
        if matches!(response.status().as_u16(), 401 | 403) {
            return Err(RpcFault::Forbidden);
        }
        if response.status().is_redirection() {
            return Err(RpcFault::Redirected);
        }
        let bytes = response
            .body_mut()
            .with_config()
            .limit(self.answer_bytes_max)
            .read_to_vec()
            .map_err(|fault| RpcFault::Transport(Box::new(fault)))?;
        open(&bytes)
    }
}

/// The result in an answer, or the node's error.
fn open(bytes: &[u8]) -> Result<Value, RpcFault> {
    let mut answer: Value = serde_json::from_slice(bytes).map_err(|_| RpcFault::Malformed("not JSON"))?;
    match answer.get("error") {
        None | Some(Value::Null) => {}
        Some(error) => {
            let code =
                error.get("code").and_then(Value::as_i64).ok_or(RpcFault::Malformed("an error without a number"))?;
            let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
            let message = message.chars().filter(|character| !character.is_control()).take(300).collect();
            return Err(RpcFault::Node { code, message });
        }
    }
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(RpcFault::Malformed("neither result nor error")),
    }
}

/// A JSON number of whole bitcoin with up to 8 decimals, read as text, in satoshi. `None` for everything else, a sign or an exponent included.
pub fn satoshi(value: &Value) -> Option<u64> {
    let Value::Number(number) = value else { return None };
    let text = number.to_string();
    // Bitcoin Core prints eight decimals and no exponent; the JSON reader may have normalised neither away.
    let units = florin_core::amount::Amount::parse(&text, 8).ok()?.units();
    u64::try_from(units).ok()
}

/// Base64 with padding (RFC 4648, section 4), for the one header that needs it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let symbol = ALPHABET[(group >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cookie");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("set");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let rpc = Rpc::new(url, path.clone());
        let fault = |rpc: &Rpc| rpc.call("getblockcount", json!([])).expect_err("there is no node");
        let unreadable = |fault| matches!(fault, RpcFault::Auth(AuthFault { fault: PrivateFault::Unreadable(_), .. }));
        assert!(unreadable(fault(&rpc)));
        std::fs::write(&path, "user:password").expect("written");
        for mode in [0o640, 0o604, 0o620, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            let fault = fault(&rpc);
            assert!(
                matches!(&fault, RpcFault::Auth(AuthFault { path: of, fault: PrivateFault::Exposed { mode: found } })
                    if *found == mode && *of == path),
                "{fault:?}"
            );
        }
        assert_eq!(listener.accept().err().map(|fault| fault.kind()), Some(std::io::ErrorKind::WouldBlock));
        // Private, it is used: the call goes as far as the network.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        drop(listener);
        assert!(matches!(fault(&rpc), RpcFault::Transport(_)));
    }

    /// Something that answers the first question with these bytes, and leaves the connection open until it is dropped.
    fn answering(bytes: String) -> (String, std::thread::JoinHandle<std::net::TcpStream>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("someone asks");
            let mut question = [0; 4096];
            let _ = stream.read(&mut question).expect("the question");
            stream.write_all(bytes.as_bytes()).expect("the answer");
            stream
        });
        (url, thread)
    }

    fn auth_file(folder: &tempfile::TempDir) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join("cookie");
        std::fs::write(&path, "user:password").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        path
    }

    #[test]
    fn nobody_goes_where_a_node_sends_us() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        inside.set_nonblocking(true).expect("set");
        for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
            let to = inside.local_addr().expect("an address");
            let answer = format!("HTTP/1.1 {status}\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n");
            let (url, node) = answering(answer);
            let fault = Rpc::new(url, auth_file(&folder)).call("getblockchaininfo", json!([])).expect_err("no answer");
            assert!(matches!(fault, RpcFault::Redirected), "{status}: {fault:?}");
            drop(node.join());
        }
        assert_eq!(inside.accept().err().map(|fault| fault.kind()), Some(std::io::ErrorKind::WouldBlock));
    }

    #[test]
    fn an_answer_that_is_too_long_or_comes_by_drops_is_a_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let ask = |answer: String, timeout| {
            let (url, node) = answering(answer);
            let rpc = Rpc::new(url, auth_file(&folder)).patient(timeout, 1_000);
            let fault = rpc.call("getblockchaininfo", json!([])).expect_err("no answer");
            drop(node.join());
            fault
        };
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{}", " ".repeat(2_000));
        let fault = ask(long, Duration::from_secs(60));
        let RpcFault::Transport(cause) = &fault else { panic!("{fault:?}") };
        let cause = cause.downcast_ref::<ureq::Error>();
        assert!(matches!(cause, Some(ureq::Error::BodyExceedsLimit(1_000))), "{cause:?}");

        let fault = ask("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{".to_owned(), Duration::from_millis(100));
        let RpcFault::Transport(cause) = &fault else { panic!("{fault:?}") };
        assert!(super::super::bitcoind::is_late(cause.as_ref()), "{cause:?}");
    }

    #[test]
    fn only_what_is_long_may_take_long() {
        let seconds = |method| timeout_of(method).as_secs();
        assert_eq!(
            ["getblockchaininfo", "getblockhash", "estimatesmartfee", "sendrawtransaction"].map(seconds),
            [5; 4]
        );
        assert_eq!(["getrawmempool", "getblock"].map(seconds), [15, 60]);
    }

    #[test]
    fn base64_gives_the_vectors_of_rfc_4648() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn amounts_are_read_as_text_and_never_guessed() {
        let read = |text: &str| satoshi(&serde_json::from_str(text).expect("JSON"));
        assert_eq!(read("0.00000001"), Some(1));
        assert_eq!(read("20999999.97690000"), Some(2_099_999_997_690_000));
        assert_eq!(read("0.1"), Some(10_000_000));
        for bad in ["1e-8", "1E8", "-0.1", "0.10000000000000001", "\"0.1\"", "null", "true", "1e400"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        assert!(matches!(open(b"<html>"), Err(RpcFault::Malformed(_))));
        assert!(matches!(open(b"{}"), Err(RpcFault::Malformed(_))));
        assert!(matches!(open(br#"{"result":null,"error":{"message":"x"}}"#), Err(RpcFault::Malformed(_))));
        assert!(
            matches!(open(br#"{"result":null,"error":{"code":-5,"message":"no\u001b[31m"}}"#), Err(RpcFault::Node { code: -5, message }) if message == "no[31m")
        );
        assert_eq!(open(br#"{"result":7,"error":null}"#).expect("a result"), json!(7));
    }
}

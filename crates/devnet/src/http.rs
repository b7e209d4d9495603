//! Owns the HTTP server in front of a node's RPC, so that node clients and bitcoin-cli can talk to it; must never listen beyond 127.0.0.1
//! and never take more than its bounds from a peer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::network::{Network, NodeId, Reply};
use crate::rpc::RpcError;

/// Largest request body: a block of four million bytes in hexadecimal.
const BODY_MAX: usize = 8 * 1024 * 1024;

/// Largest request head.
const HEAD_MAX: usize = 16 * 1024;

/// Most connections served at once, a thread each.
const CONNECTIONS_MAX: usize = 64;

/// Most calls in one batch.
const BATCH_MAX: usize = 10_000;

/// How long a connection may be silent.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Who may call.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Who delivers the messages that a call causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    /// The server, before it answers.
    AfterEachCall,
    /// Whoever drives the network.
    ByDriver,
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Context {
    network: Arc<Mutex<Network>>,
    node: NodeId,
    authorization: String,
    settling: Settling,
    is_stopping: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// Serves a node's RPC on 127.0.0.1; port 0 takes any free one.
    ///
    /// # Errors
    /// Where the port can't be had.
    pub fn start(
        network: Arc<Mutex<Network>>,
        node: NodeId,
        port: u16,
        credentials: &Credentials,
        settling: Settling,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let authorization = basic(credentials);
        let open = Arc::new(AtomicUsize::new(0));
        let context = Context { network, node, authorization, settling, is_stopping: is_stopping.clone(), open };
        let acceptor = std::thread::spawn(move || accept_all(&listener, &context));
        Ok(Self { address, is_stopping, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections. Those that are open end with their next call, or when they have been silent long enough.
    pub fn stop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            // The acceptor wakes by one more connection; where that fails it has ended already.
            let _already_ended = TcpStream::connect(self.address);
            let _panicked = acceptor.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept_all(listener: &TcpListener, context: &Context) {
    for stream in listener.incoming() {
        if context.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if context.open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            context.open.fetch_sub(1, Ordering::SeqCst);
            let mut stream = stream;
            let _peer_is_gone = respond(&mut stream, Status::Unavailable, b"", false);
            continue;
        }
        let context = context.clone();
        std::thread::spawn(move || {
            let _peer_is_gone = serve(stream, &context);
            context.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    NoContent,
    BadRequest,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    ServerError,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NoContent => "204 No Content",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::TooLarge => "413 Content Too Large",
            Self::ServerError => "500 Internal Server Error",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

/// What a request's head says.
#[derive(Debug, Default)]
struct Head {
    is_post: bool,
    length: usize,
    authorization: Option<String>,
    closes: bool,
    expects_continue: bool,
    is_chunked: bool,
}

fn serve(stream: TcpStream, context: &Context) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let Ok(head) = head else { return respond(&mut writer, Status::BadRequest, b"", false) };
        if head.is_chunked || head.length > BODY_MAX {
            return respond(&mut writer, Status::TooLarge, b"", false);
        }
        if head.expects_continue {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; head.length];
        reader.read_exact(&mut body)?;
        let keep = !head.closes && !context.is_stopping.load(Ordering::SeqCst);
        if !head.is_post {
            respond(&mut writer, Status::MethodNotAllowed, b"JSONRPC server handles only POST requests", keep)?;
        } else if !head.authorization.is_some_and(|given| is_same(given.trim(), &context.authorization)) {
            respond(&mut writer, Status::Unauthorized, b"", keep)?;
        } else {
            match answer(&body, context) {
                Answer::Body(status, body) => respond(&mut writer, status, &body, keep)?,
                // The caller can't know whether the call had its effect: the connection just ends.
                Answer::Nothing => return Ok(()),
            }
        }
        if !keep {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads a request's head. Nothing where the peer has closed, an inner error where it makes no sense.
fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Result<Head, ()>>> {
    let mut limited = reader.take(HEAD_MAX as u64);
    let mut line = String::new();
    let mut head = Head::default();
    match limited.read_line(&mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Some(Err(()))),
        Err(error) => return Err(error),
    }
    let mut words = line.split_whitespace();
    let (method, _, version) = (words.next(), words.next(), words.next());
    head.is_post = method == Some("POST");
    match version {
        Some("HTTP/1.1") => {}
        Some("HTTP/1.0") => head.closes = true,
        _ => return Ok(Some(Err(()))),
    }
    loop {
        line.clear();
        match limited.read_line(&mut line) {
            Ok(0) => return Ok(Some(Err(()))),
            Ok(_) if line.trim_end().is_empty() => return Ok(Some(Ok(head))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Some(Err(()))),
            Err(error) => return Err(error),
        }
        if read_field(&mut head, &line).is_none() {
            return Ok(Some(Err(())));
        }
    }
}

fn read_field(head: &mut Head, line: &str) -> Option<()> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim();
    match name.to_ascii_lowercase().as_str() {
        "content-length" => head.length = value.parse().ok()?,
        "authorization" => head.authorization = Some(value.to_owned()),
        "connection" => head.closes |= value.eq_ignore_ascii_case("close"),
        "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
        "transfer-encoding" => head.is_chunked = true,
        _ => {}
    }
    Some(())
}

fn respond(stream: &mut TcpStream, status: Status, body: &[u8], keep: bool) -> io::Result<()> {
    let connection = if keep { "keep-alive" } else { "close" };
    let challenge = if status == Status::Unauthorized { "WWW-Authenticate: Basic realm=\"jsonrpc\"\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n{challenge}\r\n",
        status.line(),
        body.len(),
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)?;
    stream.flush()
}

enum Answer {
    Body(Status, Vec<u8>),
    Nothing,
}

/// Answers a request's body: a call or a batch of them.
fn answer(body: &[u8], context: &Context) -> Answer {
    let reply = match serde_json::from_slice::<Value>(body) {
        Err(_) => Ok((Status::ServerError, version_1(Err(RpcError::new(-32700, "Parse error")), Value::Null))),
        Ok(Value::Array(calls)) if calls.len() > BATCH_MAX => {
            let error = RpcError::new(-32600, format!("a batch has at most {BATCH_MAX} calls"));
            Ok((Status::BadRequest, version_1(Err(error), Value::Null)))
        }
        Ok(Value::Array(calls)) => answer_batch(calls, context),
        Ok(call @ Value::Object(_)) => answer_single(call, context),
        Ok(_) => {
            let error = RpcError::new(-32700, "Top-level object parse error");
            Ok((Status::ServerError, version_1(Err(error), Value::Null)))
        }
    };
    match reply {
        Ok((status, Value::Null)) => Answer::Body(status, Vec::new()),
        Ok((status, reply)) => Answer::Body(status, format!("{reply}\n").into_bytes()),
        Err(NoReply) => Answer::Nothing,
    }
}

/// The node is down, or its answer is lost.
#[derive(Debug)]
struct NoReply;

fn answer_single(call: Value, context: &Context) -> Result<(Status, Value), NoReply> {
    let call = Call::read(call);
    let (is_version_2, id) = (call.is_version_2, call.id.clone());
    let is_notification = is_version_2 && id.is_none();
    let result = call.run(context)?;
    if is_notification {
        return Ok((Status::NoContent, Value::Null));
    }
    let id = id.unwrap_or(Value::Null);
    if is_version_2 {
        return Ok((Status::Ok, version_2(result, id)));
    }
    let status = match &result {
        Ok(_) => Status::Ok,
        Err(error) if error.code == -32600 => Status::BadRequest,
        Err(error) if error.code == -32601 => Status::NotFound,
        Err(_) => Status::ServerError,
    };
    Ok((status, version_1(result, id)))
}

fn answer_batch(calls: Vec<Value>, context: &Context) -> Result<(Status, Value), NoReply> {
    let (mut replies, is_empty) = (Vec::new(), calls.is_empty());
    for call in calls {
        let call = Call::read(call);
        let (is_version_2, id) = (call.is_version_2, call.id.clone());
        let result = call.run(context)?;
        match (is_version_2, id) {
            (true, None) => {}
            (true, Some(id)) => replies.push(version_2(result, id)),
            (false, id) => replies.push(version_1(result, id.unwrap_or(Value::Null))),
        }
    }
    if replies.is_empty() && !is_empty {
        return Ok((Status::NoContent, Value::Null));
    }
    Ok((Status::Ok, Value::Array(replies)))
}

/// A call as read, or why it is none.
struct Call {
    id: Option<Value>,
    is_version_2: bool,
    request: Result<(String, Value), RpcError>,
}

impl Call {
    fn read(call: Value) -> Self {
        let refuse = |message: &str| Err(RpcError::new(-32600, message));
        let Value::Object(mut fields) = call else {
            return Self { id: None, is_version_2: false, request: refuse("Invalid Request object") };
        };
        let id = fields.remove("id");
        let version = fields.remove("jsonrpc").unwrap_or(Value::Null);
        let is_version_2 = version == "2.0";
        let request = match (fields.remove("method"), fields.remove("params").unwrap_or(Value::Null)) {
            _ if !version.is_null() && !version.is_string() => refuse("jsonrpc field must be a string"),
            _ if version.is_string() && !is_version_2 && version != "1.0" => refuse("JSON-RPC version not supported"),
            (None | Some(Value::Null), _) => refuse("Missing method"),
            (Some(Value::String(method)), Value::Null) => Ok((method, json!([]))),
            (Some(Value::String(method)), params @ (Value::Array(_) | Value::Object(_))) => Ok((method, params)),
            (Some(Value::String(_)), _) => refuse("Params must be an array or object"),
            (Some(_), _) => refuse("Method must be a string"),
        };
        Self { id, is_version_2, request }
    }

    fn run(self, context: &Context) -> Result<Result<Value, RpcError>, NoReply> {
        let (method, params) = match self.request {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        // A panic of another thread while it held the network says nothing against going on: each call leaves it whole.
        let mut network = context.network.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = network.rpc(context.node, &method, params);
        if context.settling == Settling::AfterEachCall {
            network.settle();
        }
        match reply {
            Reply::Answer(result) => Ok(result),
            Reply::Lost | Reply::Down => Err(NoReply),
        }
    }
}

fn version_1(result: Result<Value, RpcError>, id: Value) -> Value {
    match result {
        Ok(result) => json!({ "result": result, "error": null, "id": id }),
        Err(error) => json!({ "result": null, "error": error.to_json(), "id": id }),
    }
}

fn version_2(result: Result<Value, RpcError>, id: Value) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
        Err(error) => json!({ "jsonrpc": "2.0", "error": error.to_json(), "id": id }),
    }
}

/// The value of the `Authorization` field that these credentials give (RFC 7617).
pub fn basic(credentials: &Credentials) -> String {
    format!("Basic {}", base64(format!("{}:{}", credentials.user, credentials.password).as_bytes()))
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Compares without telling by its time where two texts differ.
fn is_same(left: &str, right: &str) -> bool {
    left.len() == right.len() && left.bytes().zip(right.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}

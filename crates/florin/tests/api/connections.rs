//! What happens to a connection when a request on it is refused: it stays good for the next one, or says that it ends.

use super::support::{World, bearer, parts};
use florin::api::Limits;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a test waits for an answer that it does not need yet. It may come in that time or later: both are right.
const GRACE: Duration = Duration::from_millis(300);

/// How long an answer may take that is needed.
const WAIT: Duration = Duration::from_secs(60);

/// A connection that says exactly what it is told to.
struct Line {
    reader: BufReader<TcpStream>,
}

/// An answer's status, and whether it says that the connection ends.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    closes: bool,
    body: String,
}

impl Line {
    fn open(world: &World) -> Line {
        let stream = TcpStream::connect(world.url.trim_start_matches("http://")).expect("it listens");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(WAIT)).expect("set");
        Line { reader: BufReader::new(stream) }
    }

    fn say(&mut self, text: &[u8]) {
        self.reader.get_mut().write_all(text).expect("it is taken");
    }

    fn head(&mut self, method: &str, path: &str, length: usize, more: &str) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: florin\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        self.say(head.as_bytes());
    }

    /// Whether an answer begins within the time of grace.
    fn is_answered(&mut self) -> bool {
        self.reader.get_mut().set_read_timeout(Some(GRACE)).expect("set");
        let found = self.reader.fill_buf().map(|bytes| !bytes.is_empty());
        self.reader.get_mut().set_read_timeout(Some(WAIT)).expect("set");
        match found {
            Ok(found) => found,
            Err(fault) => {
                assert!(matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{fault}");
                false
            }
        }
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}"));
        let status = status.parse().expect("a status");
        let (mut length, mut closes) = (0, false);
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).expect("a header");
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", text)) => length = text.parse().expect("a length"),
                Some(("connection", text)) => closes = text == "close",
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).expect("a body");
        Answer { status, closes, body: String::from_utf8(body).expect("text") }
    }

    /// Whether nothing more comes; the other end may have closed with bytes of ours unread.
    fn is_at_end_or_cut(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(fault) => fault.kind() == ErrorKind::ConnectionReset,
        }
    }

    fn is_at_end(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok(bytes) if bytes.is_empty())
    }
}

fn authorized() -> String {
    format!("Authorization: {}\r\n", bearer())
}

/// Requests whose refusal does not depend on their bodies, and their statuses.
fn refused_without_a_look() -> Vec<(&'static str, &'static str, String, u16)> {
    let authorized = authorized();
    let with = |header: &str| format!("{authorized}{header}\r\n");
    vec![
        ("POST", "/api/v1/wallets/x/addresses", authorized.clone(), 400),
        ("POST", "/api/v1/nothing", authorized.clone(), 404),
        ("POST", "/api/v1/status", authorized.clone(), 405),
        ("POST", "/api/v1/customers", with("Idempotency-Key: x"), 400),
        ("POST", "/api/v1/customers", with("Florin-Seq: x"), 400),
        ("GET", "/api/v1/status", authorized.clone(), 200),
        ("POST", "/api/v1/customers", String::new(), 401),
        ("GET", "/api/v1/health", String::new(), 200),
    ]
}

#[test]
fn a_connection_is_good_for_the_next_request_though_a_refused_ones_body_comes_late() {
    let (_folder, world) = World::start();
    for (method, path, headers, status) in refused_without_a_look() {
        let mut line = Line::open(&world);
        line.head(method, path, 2, &headers);
        line.is_answered();
        line.say(b"{}");
        let first = line.answer();
        assert_eq!((first.status, first.closes), (status, false), "{method} {path}: {}", first.body);
        line.head("GET", "/api/v1/health", 0, "");
        assert_eq!(line.answer().status, 200, "{method} {path}: the connection was closed without a word");
    }
    world.stop();
}

#[test]
fn a_body_that_is_too_large_is_taken_in_before_it_is_refused() {
    let (_folder, world) = World::start();
    let large = vec![b' '; 70_000];
    for (headers, status) in [(authorized(), 413), (String::new(), 401)] {
        let mut line = Line::open(&world);
        line.head("POST", "/api/v1/customers", large.len(), &headers);
        for part in large.chunks(30_000) {
            assert!(!line.is_answered(), "the caller is still speaking");
            line.say(part);
        }
        let answer = line.answer();
        assert_eq!((answer.status, answer.closes), (status, false), "{}", answer.body);
        line.head("GET", "/api/v1/health", 0, "");
        assert_eq!(line.answer().status, 200);
    }
    world.stop();
}

#[test]
fn who_never_ends_is_told_that_the_connection_does() {
    let (_folder, world) = World::start();
    for (headers, status) in [(authorized(), 413), (String::new(), 401)] {
        let mut line = Line::open(&world);
        let head = format!(
            "POST /api/v1/customers HTTP/1.1\r\nHost: florin\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
        );
        line.say(head.as_bytes());
        let chunk = [b"8000\r\n".as_slice(), &[b' '; 0x8000], b"\r\n"].concat();
        for _ in 0..=32 {
            line.say(&chunk);
        }
        let answer = line.answer();
        assert_eq!((answer.status, answer.closes), (status, true), "{}", answer.body);
        assert!(line.is_at_end(), "and it does end");
    }
    world.stop();
}

#[test]
fn a_connection_that_says_no_whole_head_in_time_is_closed_and_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { head: Duration::from_secs(2), ..Limits::default() };
    let world = World::within(limits, parts(folder.path()));
    let beginning = b"GET /api/v1/health HTTP/1.1\r\nHost: florin\r\n";
    let (mut silent, mut slow, mut second) = (Line::open(&world), Line::open(&world), Line::open(&world));
    slow.say(beginning);
    // A whole head within the time is answered, and the time begins anew behind the answer.
    second.head("GET", "/api/v1/health", 0, "");
    assert_eq!(second.answer().status, 200);
    second.say(beginning);
    for (line, what) in [(&mut silent, "silent"), (&mut slow, "slow"), (&mut second, "slow behind an answer")] {
        assert!(line.is_at_end(), "{what}");
    }
    assert_eq!(world.get("/api/v1/health").status, 200);
    world.stop();
}

#[test]
fn connections_beyond_the_limit_wait_until_others_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { connections: 2, ..Limits::default() };
    let world = World::within(limits, parts(folder.path()));
    let (first, mut second) = (Line::open(&world), Line::open(&world));
    second.head("GET", "/api/v1/health", 0, "");
    assert_eq!(second.answer().status, 200);
    let mut third = Line::open(&world);
    third.head("GET", "/api/v1/health", 0, "");
    assert!(!third.is_answered(), "two are open");
    drop(first);
    assert_eq!(third.answer().status, 200);
    drop((second, third));
    world.stop();
}

#[test]
fn a_body_that_breaks_off_does_nothing_and_harms_nobody() {
    let (_folder, world) = World::start();
    let mut line = Line::open(&world);
    line.head("POST", "/api/v1/customers", 20, &authorized());
    line.say(b"{\"name\":");
    line.reader.get_mut().shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut rest = String::new();
    line.reader.read_to_string(&mut rest).expect("it ends");
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{rest}");
    assert_eq!(world.shown("/api/v1/customers")["items"], serde_json::json!([]));
    world.stop();
}

#[test]
fn a_request_that_names_its_end_twice_is_refused_and_hides_no_other() {
    let (_folder, world) = World::start();
    let (length, encoding) = ("Content-Length: 6\r\n", "Transfer-Encoding: chunked\r\n");
    let key = format!("Idempotency-Key: {}\r\n", super::support::key());
    for framing in [format!("{length}{encoding}"), format!("{encoding}{length}")] {
        for authorized in [authorized(), String::new()] {
            let mut line = Line::open(&world);
            let head = format!(
                "POST /api/v1/customers HTTP/1.1\r\nHost: florin\r\nContent-Type: application/json\r\n{authorized}{key}{framing}\r\n"
            );
            // To whom the length counts, what follows the last chunk is part of another request than to whom the chunks do.
            line.say(format!("{head}0\r\n\r\nXGET /api/v1/health HTTP/1.1\r\nHost: florin\r\n\r\n").as_bytes());
            let answer = line.answer();
            assert_eq!((answer.status, answer.closes), (400, true), "{framing}: {}", answer.body);
            assert!(answer.body.contains("framing_ambiguous"), "{framing}: {}", answer.body);
            assert!(line.is_at_end_or_cut(), "nothing else is answered");
        }
    }
    assert_eq!(world.shown("/api/v1/customers")["items"], serde_json::json!([]));
    world.stop();
}

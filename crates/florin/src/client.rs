//! The interface's client: what the command line and the demo speak to a running platform with. Every change is sent with a
//! key of its own, so that sending it again does nothing twice; what was done is seen by the next read.

use crate::api::ask::{KEY_HEADER, SEQ_HEADER, new_command_id};
use crate::api::{code, faults, token};
use crate::config::Config;
use crate::failure::Failure;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ureq::Agent;
use ureq::http::Response;
use zeroize::Zeroizing;

/// How long an answer may take: the longest wait for events and some seconds.
const TIMEOUT: Duration = Duration::from_secs(45);

/// The largest answer read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How often a change is sent where no answer comes: with one key it is done once, however often it arrives.
const ATTEMPTS_MAX: u32 = 3;

/// The pause before a change is sent again, doubled each time.
const PAUSE: Duration = Duration::from_millis(200);

/// The pause before a read is sent again that the platform was not sure enough to answer, as its Retry-After says.
const DOUBT_PAUSE: Duration = Duration::from_secs(1);

/// A client of one platform.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    url: String,
    token: Secret,
    seen: AtomicU64,
}

/// A header with the token in it, which `Debug` does not show.
struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret")
    }
}

impl Client {
    /// A client of the platform at `url`, such as `http://127.0.0.1:7700`, with the operator's token.
    pub fn new(url: &str, token: &str) -> Client {
        let config = Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Client {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
            token: Secret(Zeroizing::new(format!("Bearer {token}"))),
            seen: AtomicU64::new(0),
        }
    }

    /// A client of the platform that a configuration describes.
    ///
    /// # Errors
    /// `token_unreadable`, `token_exposed`, `token_invalid`.
    pub fn of(config: &Config) -> Result<Client, Failure> {
        let token = token::read_text(&config.path(&config.api.token_file))?;
        Ok(Client::new(&format!("http://{}", config.api.listen), &token))
    }

    /// Reads, and again after a second where the platform can't tell whether it leads. `path` is the whole path, such as `/api/v1/status`.
    ///
    /// # Errors
    /// `platform_unreachable`, `platform_answer_malformed`, and every code of docs/errors.md.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        for _ in 1..ATTEMPTS_MAX {
            match self.read(path, query) {
                // Of a node that is alone this is over in moments.
                Err(failure) if failure.code() == "reads_unconfirmed" => std::thread::sleep(DOUBT_PAUSE),
                answer => return answer,
            }
        }
        self.read(path, query)
    }

    fn read(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let seen = self.seen.load(Ordering::Relaxed);
        let ask = || {
            let mut request = self.agent.get(self.at(path)).header("Authorization", self.token.0.as_str());
            if seen > 0 {
                request = request.header(SEQ_HEADER, seen.to_string());
            }
            for (name, value) in query {
                request = request.query(*name, value);
            }
            request.call()
        };
        let mut answer = ask();
        for _ in 1..ATTEMPTS_MAX {
            match answer {
                // Reading changes nothing, so that it may be asked again.
                Err(fault) if is_lost(&fault) => answer = ask(),
                _ => break,
            }
        }
        self.open(answer.map_err(|fault| self.unreachable(fault))?)
    }

    /// Asks for a change, with a new key. Sent again where no answer comes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.post_as(&new_command_id().to_string(), path, body)
    }

    /// Asks for a change with a key of the caller's.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post_as(&self, key: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        let text = body.to_string();
        let mut pause = PAUSE;
        for attempt in 1.. {
            let request = self
                .agent
                .post(self.at(path))
                .header("Authorization", self.token.0.as_str())
                .header("Content-Type", "application/json")
                .header(KEY_HEADER, key);
            match request.send(text.as_str()) {
                Ok(response) => return self.open(response),
                Err(fault) if attempt >= ATTEMPTS_MAX => return Err(self.unreachable(fault)),
                Err(_) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        Err(Failure::new("platform_unreachable", "no attempt was made"))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn unreachable(&self, fault: ureq::Error) -> Failure {
        Failure::new("platform_unreachable", format!("nothing answers at {}", self.url))
            .because(fault)
            .hint("start it with 'florin serve', or name another with --url")
    }

    fn open(&self, mut response: Response<ureq::Body>) -> Result<Value, Failure> {
        let seq = response.headers().get(SEQ_HEADER).and_then(|seq| seq.to_str().ok()?.parse().ok());
        self.seen.fetch_max(seq.unwrap_or(0), Ordering::Relaxed);
        let status = response.status();
        let malformed = || Failure::new("platform_answer_malformed", "the answer is not one of a platform");
        let bytes = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|fault| malformed().because(fault))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|fault| malformed().because(fault))?;
        if status.is_success() { Ok(value) } else { Err(failure(&value).unwrap_or_else(malformed)) }
    }
}

/// Whether a connection that stood has ended: a platform that was started again has closed those that were kept for later.
fn is_lost(fault: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ureq::Error::Io(fault) = fault else { return false };
    matches!(fault.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The failure that a problem document tells of.
fn failure(problem: &Value) -> Option<Failure> {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let shown = |text: &str| text.chars().filter(|character| !character.is_control()).collect::<String>();
    let said = text("code")?;
    let (title, detail) = (text("title").unwrap_or(said), text("detail").unwrap_or_default());
    let sentence =
        if detail.is_empty() || detail == title { shown(title) } else { shown(&format!("{title}: {detail}")) };
    // A newer platform may have codes that this build does not know; its sentence says them.
    let refusals = code::all().into_iter().map(|listed| listed.code);
    let mut known = refusals.chain(faults::all().map(|fault| fault.code));
    let failure = match known.find(|known| *known == said) {
        Some(code) => Failure::new(code, sentence),
        None => Failure::new("platform_refused", shown(&format!("{said}: {sentence}"))),
    };
    Some(match text("hint") {
        Some(hint) => failure.hint(shown(hint)),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    /// Reads a request's head; `false` where the connection ends instead.
    fn is_head(reader: &mut BufReader<TcpStream>) -> bool {
        let lines = reader.lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).count() > 0
    }

    /// Answers a request on each connection, and closes it without a word at the next: as a platform that is started again.
    fn forgetful(answers: usize) -> (String, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serve = move || {
            let mut heads = 0;
            for _ in 0..answers {
                let (stream, _) = listener.accept().expect("a caller");
                let mut reader = BufReader::new(stream);
                heads += usize::from(is_head(&mut reader));
                let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                reader.get_mut().write_all(text.as_bytes()).expect("it is heard");
                heads += usize::from(is_head(&mut reader));
            }
            heads
        };
        (url, std::thread::spawn(serve))
    }

    #[test]
    fn what_is_read_is_asked_again_where_a_kept_connection_has_ended() {
        let (url, serving) = forgetful(2);
        let client = Client::new(&url, "token");
        for _ in 0..2 {
            assert_eq!(client.get("/api/v1/status", &[]).expect("an answer"), serde_json::json!({}));
        }
        drop(client);
        assert_eq!(serving.join().expect("it ends"), 3, "the second request came twice: once in vain");
    }

    #[test]
    fn what_does_not_answer_at_all_is_named_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let failure = Client::new(&url, "token").get("/api/v1/status", &[]).expect_err("nobody is there");
        assert_eq!(failure.code(), "platform_unreachable");
    }
}

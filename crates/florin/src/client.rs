//! The interface's client: what the command line and the demo speak to a running platform with. Every change is sent with a
//! key of its own, so that sending it again does nothing twice; what was done is seen by the next read.

use crate::api::ask::{KEY_HEADER, SEQ_HEADER, new_command_id};
use crate::api::{code, token};
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

    /// Reads. `path` is the whole path, such as `/api/v1/status`.
    ///
    /// # Errors
    /// `platform_unreachable`, `platform_answer_malformed`, and every code of docs/errors.md.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let mut request = self.agent.get(self.at(path)).header("Authorization", self.token.0.as_str());
        let seen = self.seen.load(Ordering::Relaxed);
        if seen > 0 {
            request = request.header(SEQ_HEADER, seen.to_string());
        }
        for (name, value) in query {
            request = request.query(*name, value);
        }
        self.open(request.call().map_err(|fault| self.unreachable(fault))?)
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

/// The failure that a problem document tells of.
fn failure(problem: &Value) -> Option<Failure> {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let shown = |text: &str| text.chars().filter(|character| !character.is_control()).collect::<String>();
    let said = text("code")?;
    let (title, detail) = (text("title").unwrap_or(said), text("detail").unwrap_or_default());
    let sentence =
        if detail.is_empty() || detail == title { shown(title) } else { shown(&format!("{title}: {detail}")) };
    // A newer platform may have codes that this build does not know; its sentence says them.
    let failure = match code::all().into_iter().find(|listed| listed.code == said) {
        Some(listed) => Failure::new(listed.code, sentence),
        None => Failure::new("platform_refused", shown(&format!("{said}: {sentence}"))),
    };
    Some(match text("hint") {
        Some(hint) => failure.hint(shown(hint)),
        None => failure,
    })
}

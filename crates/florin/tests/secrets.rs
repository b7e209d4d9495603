//! What others could find of the secrets of a process that runs: its memory is searched, and it is told to leave a core file. Memory that root
//! alone may read is searched where root runs this; everybody else sees that it can't be read.

#![cfg(target_os = "linux")]

#[path = "../../signer/tests/support/search.rs"]
mod search;

use florin::config;
use florin::signer::{KEYS_FILE, SOCKET_FILE, init};
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;
use florin_core::hex;
use florin_signer::client::Client;
use florin_signer::entropy::random_bytes;
use florin_signer::keystore::{KeyStore, Purpose};
use florin_signer::peer::own_user;
use florin_signer::protocol::{Hello, PROTOCOL, Request};
use florin_signer::sealed::Passphrase;
use search::{Secret, count};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_florin");
/// A user that no system gives to anybody, played where root runs this.
const USER: u32 = 61_004;

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

/// A process that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts a program where core files would be written, as somebody.
    fn start(folder: &Path, who: Option<u32>, program: &str, words: &[&str]) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$0\" \"$@\"", program]).args(words);
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(user) = who {
            command.uid(user).gid(user);
        }
        Process(command.spawn().expect("it starts"))
    }

    fn type_line(&mut self, text: &str) {
        let input = self.0.stdin.as_mut().expect("piped");
        input.write_all(format!("{text}\n").as_bytes()).and_then(|()| input.flush()).expect("it reads");
    }

    /// Waits until it asks for something.
    fn until_asked(&mut self, prompt: &str) {
        let (mut seen, mut bytes) = (String::new(), [0; 256]);
        while !seen.contains(prompt) {
            let read = self.0.stderr.as_mut().expect("piped").read(&mut bytes).expect("it says something");
            assert!(read > 0, "it ended before {prompt:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }

    /// Whether another process of the same user may look into it.
    fn is_open(&self, who: Option<u32>) -> bool {
        let mut cat = Command::new("cat");
        cat.arg(self.file("environ")).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = who {
            cat.uid(user).gid(user);
        }
        cat.status().expect("cat is there").success()
    }

    /// Holds it against what a process with secrets has to be, and ends it with a core file, if it were for the signal.
    fn check_kept_to_itself(mut self, folder: &Path) {
        let limits = fs::read_to_string(self.file("limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
        let process = self.0.id().to_string();
        assert!(Command::new("kill").args(["-ABRT", &process]).status().expect("kill is there").success());
        let status = self.0.wait().expect("it ends");
        assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
        let mut files = fs::read_dir(folder).expect("a folder");
        assert!(!files.any(|file| file.expect("a file").file_name().to_string_lossy().starts_with("core")));
    }
}

/// The keys of a signer, as whoever knows its words has them.
struct Known {
    words: String,
    passphrase: String,
    secrets: Vec<Secret>,
}

impl Known {
    fn draw() -> Known {
        let mnemonic = Mnemonic::from_entropy(&*random_bytes::<32>().expect("randomness")).expect("24 words");
        let words = mnemonic.expose_words().to_string();
        let passphrase = hex::encode(&*random_bytes::<24>().expect("randomness"));
        let mut secrets = Secret::of_words(&mnemonic);
        secrets.push(Secret::of("passphrase", passphrase.as_bytes()));
        Known { words, passphrase, secrets }
    }
}

/// A folder with a restored signer, whose words and passphrase lie in files beside it.
fn restored(known: &mut Known) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::write(path.join("florin.toml"), config::fresh([7; 16])).expect("written");
    write_private(&path.join("words"), &known.words);
    write_private(&path.join("passphrase"), &known.passphrase);
    let words = ["signer", "restore", "--words-file", "words", "--passphrase-file", "passphrase"];
    let made = Command::new(PROGRAM).args(words).current_dir(path).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let passphrase = Passphrase::new(known.passphrase.clone()).expect("long enough");
    let keys = KeyStore::open(&path.join("signer").join(KEYS_FILE), &passphrase).expect("it opens");
    known.secrets.push(Secret::of("head key", &keys.head_key().to_bytes()));
    folder
}

fn until_it_answers(folder: &Path) {
    let client = Client::new(folder.join("signer").join(SOCKET_FILE), Duration::from_secs(5));
    let end = Instant::now() + Duration::from_secs(60);
    while client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).is_err() {
        assert!(Instant::now() < end, "the signer does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signer_that_answers_has_the_keys_that_it_signs_with_and_no_others() {
    let mut known = Known::draw();
    let folder = restored(&mut known);
    for is_typed in [false, true] {
        let mut words = vec!["signer", "serve"];
        if !is_typed {
            words.extend(["--passphrase-file", "passphrase"]);
        }
        let mut signer = Process::start(folder.path(), None, PROGRAM, &words);
        if is_typed {
            signer.type_line(&known.passphrase);
        }
        until_it_answers(folder.path());
        match count(&signer.0.id().to_string(), &known.secrets) {
            Ok(mut found) => {
                found.retain(|(_, count)| *count > 0);
                assert_eq!(found, [("account key", 1), ("head key", 1)], "typed: {is_typed}");
            }
            Err(fault) => assert_eq!(fault.kind(), ErrorKind::PermissionDenied, "{fault}"),
        }
        signer.check_kept_to_itself(folder.path());
    }
}

#[test]
fn nobody_looks_into_a_process_that_asks_for_a_secret() {
    let who = (own_user() == 0).then_some(USER);
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    // Where every user may run it.
    let program = folder.path().join("florin");
    fs::hard_link(PROGRAM, &program).or_else(|_| fs::copy(PROGRAM, &program).map(drop)).expect("a program");
    let program = program.to_str().expect("a path of a test");
    let made = folder.path().join("made");
    let passphrase = Passphrase::new("correct horse".to_owned()).expect("long enough");
    init(&made, [7; 16], Network::Regtest, &passphrase, Purpose::Demo).expect("a signer");
    if let Some(user) = who {
        let files = fs::read_dir(&made).expect("readable").map(|entry| entry.expect("readable").path());
        for path in files.chain([made]) {
            chown(path, Some(user), Some(user)).expect("root gives it away");
        }
    }
    let mut other = Process::start(folder.path(), who, "sh", &["-c", "echo begun >&2; read line"]);
    other.until_asked("begun");
    assert!(other.is_open(who), "a process without secrets is open to its own user");
    for (words, prompt) in [
        (&["approve", "key"][..], "New passphrase: "),
        (&["signer", "restore"], "Recovery words"),
        (&["signer", "serve", "--dir", "made"], "Passphrase: "),
    ] {
        let mut process = Process::start(folder.path(), who, program, words);
        process.until_asked(prompt);
        assert!(!process.is_open(who), "{words:?}");
        process.check_kept_to_itself(folder.path());
    }
}

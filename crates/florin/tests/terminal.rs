//! Prompts for secrets on a real terminal, which `script` makes: nothing that is typed is shown, and the terminal shows again
//! what is typed once the program has ended, however it ended.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What is typed as a secret.
const SECRET: &str = "correct-horse";

/// A shell at a terminal that runs one command, and then says how the command ended and how the terminal is.
struct Session {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Session {
    fn start(folder: &Path, words: &str) -> Session {
        // The shell outlives an interrupt, which reaches every process at the terminal; what it runs does not. It names the
        // process that the command will be.
        let florin = env!("CARGO_BIN_EXE_florin");
        let line = format!(
            "stty echo; echo \"tty=$(tty).\"; trap : INT QUIT; sh -c 'echo \"process=$$.\"; exec {florin} {words}'; echo \"code=$?.\"; stty -a; echo end"
        );
        let mut child = Command::new("script")
            .args(["-q", "-c", &line, "/dev/null"])
            .current_dir(folder)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is there");
        let (keys, screen) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Session { child, keys, screen, seen: String::new() }
    }

    /// Reads the screen until something stands there that was not there yet.
    fn until(&mut self, text: &str) {
        let from = self.seen.len();
        let mut bytes = [0; 4096];
        while !self.seen[from..].contains(text) {
            let count = self.screen.read(&mut bytes).expect("readable");
            assert!(count > 0, "it ended before {text:?}: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it takes keys");
    }

    fn kill(&self, signal: &str) {
        let process = self.said("process=");
        assert!(Command::new("kill").args([signal, process]).status().expect("kill is there").success());
    }

    fn said(&self, name: &str) -> &str {
        let (_, rest) = self.seen.split_once(name).unwrap_or_else(|| panic!("no {name}: {}", self.seen));
        rest.split_once('.').map_or(rest, |(value, _)| value)
    }

    /// The code that the command ended with. The terminal shows what is typed, and reads lines, as before.
    fn end(mut self) -> String {
        self.until("end\r\n");
        let code = self.said("code=").to_owned();
        drop(self.keys);
        assert!(self.child.wait().expect("it ends").success());
        let modes: Vec<&str> = self.seen.split_whitespace().collect();
        assert!(modes.contains(&"echo") && !modes.contains(&"-echo"), "{}", self.seen);
        assert!(modes.contains(&"icanon"), "{}", self.seen);
        assert!(!self.seen.contains(SECRET), "{}", self.seen);
        code
    }
}

/// Commands that ask for a secret, and what they ask first.
const ASKS: [(&str, &str); 2] = [
    ("approve key", "New passphrase: "),
    ("signer restore --dir signer", "Recovery words; if there are fewer than 24"),
];

#[test]
fn whoever_breaks_a_prompt_off_has_a_terminal_that_shows_what_is_typed() {
    for (words, prompt) in ASKS {
        for key in ["\x03", "\x1c"] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut session = Session::start(folder.path(), words);
            session.until(prompt);
            session.press(SECRET);
            session.press(key);
            assert_eq!(session.end(), "130", "{words}");
        }
    }
}

#[test]
fn a_prompt_that_is_ended_from_elsewhere_leaves_the_terminal_as_it_was() {
    for (words, prompt) in ASKS {
        for signal in ["-INT", "-TERM", "-HUP"] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut session = Session::start(folder.path(), words);
            session.until(prompt);
            session.kill(signal);
            assert_eq!(session.end(), "130", "{words} {signal}");
        }
    }
}

#[test]
fn a_prompt_that_was_stopped_hides_again_when_it_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut session = Session::start(folder.path(), "approve key");
    session.until("New passphrase: ");
    let terminal = session.said("tty=").to_owned();
    let stty = |words: &[&str]| {
        let set = Command::new("stty").args(["-F", &terminal]).args(words).output().expect("stty is there");
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
        String::from_utf8(set.stdout).expect("text").split_whitespace().any(|mode| mode == "-echo")
    };
    assert!(stty(&["-a"]), "it hides");
    session.kill("-STOP");
    // As a shell does that gets the terminal back.
    stty(&["echo"]);
    session.kill("-CONT");
    let end = Instant::now() + Duration::from_secs(60);
    while !stty(&["-a"]) {
        assert!(Instant::now() < end, "it does not hide again");
        std::thread::sleep(Duration::from_millis(10));
    }
    session.press(SECRET);
    session.press("\x03");
    assert_eq!(session.end(), "130");
}

#[test]
fn what_is_typed_is_taken_and_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut session = Session::start(folder.path(), "approve key");
    session.until("New passphrase: ");
    session.press(&format!("{SECRET}\r"));
    session.until("Once more: ");
    session.press(&format!("{SECRET}\r"));
    assert_eq!(session.end(), "0");
    assert!(folder.path().join("operator.key").exists());
    // What can't be used ends it as well, and nothing that was pasted is left for the shell.
    let mut session = Session::start(folder.path(), "signer restore --dir signer");
    session.until("Recovery words");
    session.press(&format!("{SECRET} {SECRET}\r\r{SECRET}\r{SECRET}"));
    assert_eq!(session.end(), "1");
}

//! The signer's own commands and what a main network waits for, by the binary: words shown and given back, whose requests the
//! socket takes, which secrets lie open. Other users are played where root runs this; everybody else sees what they are refused.

use super::chain::until;
use super::cli::florin;
use super::support::{TOKEN, World};
use florin::config::{self, Config};
use florin::platform::{Parts, refuse_unready};
use florin::signer::{KEYS_FILE, MEMORY_FILE, POLICY_FILE, SOCKET_FILE, init};
use florin_chain::bitcoin::network::Network;
use florin_core::id::{Digest, Epoch, LedgerTime, PlanId, Seq};
use florin_signer::client::Client;
use florin_signer::keystore::Purpose;
use florin_signer::memory::Memory;
use florin_signer::peer::own_user;
use florin_signer::protocol::{Fence, Hello, KnownRow, Outcome, PROTOCOL, Request, VoidPlan};
use florin_signer::sealed::Passphrase;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The passphrase of keys that are worth nothing.
const SECRET: &str = "correct horse battery";
/// The platform of every test.
const PLATFORM: [u8; 16] = [7; 16];
/// Users and a group that no system gives to anybody.
const SIGNER: u32 = 61_001;
const OPERATOR: u32 = 61_002;
const STRANGER: u32 = 61_003;
const GROUP: u32 = 61_100;

fn write_with(path: &Path, mode: u32, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

/// A folder with a configuration, a token and a passphrase.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
        let site = Site { folder };
        write_with(&site.path("florin.toml"), 0o644, &config::fresh(PLATFORM));
        write_with(&site.path("operator.token"), 0o600, TOKEN);
        write_with(&site.path("passphrase"), 0o600, SECRET);
        site
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path of a test").to_owned()
    }
    /// The configuration, with a text in it replaced.
    fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("florin.toml")).expect("text");
        assert!(text.contains(from), "{from}");
        fs::write(self.path("florin.toml"), text.replace(from, to)).expect("written");
    }
    /// The program where every user may run it.
    fn program(&self) -> PathBuf {
        let (program, path) = (Path::new(env!("CARGO_BIN_EXE_florin")), self.path("florin"));
        if !path.exists() {
            fs::hard_link(program, &path).or_else(|_| fs::copy(program, &path).map(drop)).expect("a program");
        }
        path
    }
    /// Runs the program as somebody: user and group.
    fn run_as(&self, who: Option<(u32, u32)>, words: &[&str]) -> Output {
        let mut command = Command::new(self.program());
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = who {
            command.uid(user).gid(group);
        }
        command.output().expect("it runs")
    }
    fn run(&self, words: &[&str]) -> Output {
        self.run_as(None, words)
    }
    /// Runs the program with a standard input.
    fn run_with(&self, words: &[&str], input: &str) -> Output {
        let mut child = Command::new(self.program())
            .args(words)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    }
    fn serve_signer(&self, dir: &str, who: Option<(u32, u32)>) -> Signer {
        let log = fs::File::create(self.path("signer.log")).expect("a file");
        let mut command = Command::new(self.program());
        command.args(["signer", "serve", "--until-stdin-closes", "--dir", dir, "--passphrase-file"]);
        command.arg(self.path(dir).join("passphrase")).current_dir(self.folder.path());
        write_with(&self.path(dir).join("passphrase"), 0o600, SECRET);
        if let Some((user, group)) = who {
            command.uid(user).gid(group);
            for name in ["", "passphrase", KEYS_FILE, MEMORY_FILE, POLICY_FILE] {
                chown(self.path(dir).join(name), Some(user), Some(group)).expect("given away");
            }
        }
        let signer =
            Signer(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts"));
        let client = Client::new(self.path(dir).join(SOCKET_FILE), Duration::from_secs(5));
        until("the signer answers", || client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).ok());
        signer
    }
    /// A signer's folder, and its policy with a text in it replaced.
    fn init_signer(&self, dir: &str, from: &str, to: &str) {
        let passphrase = Passphrase::new(SECRET.to_owned()).expect("long enough");
        init(&self.path(dir), PLATFORM, Network::Regtest, &passphrase, Purpose::Real).expect("made");
        let path = self.path(dir).join(POLICY_FILE);
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replace(from, to)).expect("written");
    }
}

struct Signer(Child);

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(output: &Output, code: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(&format!("error[{code}]")), "{code}: {}", said(output));
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Registers the signer's wallet with a new platform, and gives the first addresses of two customers and of the house.
fn addresses(site: &Site, dir: &str) -> Vec<Value> {
    let _signer = site.serve_signer(dir, None);
    let config = Config::read(&site.path("florin.toml")).expect("a configuration");
    let world = World::of(Parts::of(&config).expect("nothing is missing"));
    let (config, token) = (site.text("florin.toml"), site.text("operator.token"));
    let ask = |words: &[&str]| -> Value {
        let common = ["--config", &config, "--url", &world.url, "--token-file", &token, "--json"];
        let ran = florin(&[words, &common].concat());
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        serde_json::from_str(&ran.out).expect("JSON")
    };
    ask(&["wallet", "register"]);
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let customer = ask(&["customer", "new"])["id"].as_str().expect("an id").to_owned();
        addresses.push(ask(&["customer", "address", &customer])["address"].clone());
    }
    addresses.push(ask(&["wallet", "address"])["address"].clone());
    assert!(addresses.iter().all(|address| address.as_str().is_some_and(|text| text.starts_with("bcrt1p"))));
    world.stop();
    addresses
}

#[test]
fn the_words_that_init_showed_give_the_same_addresses_again() {
    let site = Site::new();
    let made = site.run(&["signer", "init", "--passphrase-file", "passphrase", "--json"]);
    let made = json(&made);
    let words = made["words"].as_str().expect("words").to_owned();
    assert_eq!(words.split(' ').count(), 24);
    let before = addresses(&site, "signer");
    // As people write words down: on several lines.
    write_with(&site.path("words"), 0o600, &format!("{}\n", words.replacen(' ', "\n", 12)));
    let restored = site.run(&[
        "signer",
        "restore",
        "--dir",
        "again",
        "--words-file",
        "words",
        "--passphrase-file",
        "passphrase",
        "--json",
    ]);
    assert!(words.split(' ').filter(|word| word.len() > 5).all(|word| !said(&restored).contains(word)));
    let restored = json(&restored);
    assert_eq!((&restored["policy"], &restored["memory"]), (&Value::from("made"), &Value::from("made")));
    assert_eq!(restored["fingerprint"], made["fingerprint"]);
    for name in ["descriptor_external", "descriptor_internal"] {
        assert_eq!(restored["wallets"][0][name], made[name]);
    }
    // A platform of its own, with another journal and the other socket.
    site.configure("signer/signer.sock", "again/signer.sock");
    site.configure("data = \"data\"", "data = \"data-again\"");
    assert_eq!(addresses(&site, "again"), before);
    // From standard input, words first, and for people.
    let args = ["signer", "restore", "--dir", "third"];
    let typed = site.run_with(&args, &format!("{words}\n{SECRET}\n{SECRET}\n"));
    assert!(typed.status.success(), "{}", said(&typed));
    let shown = String::from_utf8_lossy(&typed.stdout);
    assert!(
        shown.contains(made["fingerprint"].as_str().expect("text")) && shown.contains("Losing the signer"),
        "{shown}"
    );
    assert!(!shown.contains(&words) && !said(&typed).contains(&words));
    // The folder has keys now, and whoever tries again is not asked for words.
    refused(&site.run_with(&args, ""), "sealed_exists");
}

/// Runs `signer restore` at a terminal, pastes a text once it asks for words, and says what the terminal showed. Between
/// `left:[` and `]` stands what a shell would have got afterwards.
fn at_a_terminal(site: &Site, dir: &str, pasted: &str) -> String {
    let run = format!(
        "{} signer restore --dir {dir} --passphrase-file passphrase; stty -echo -icanon min 0 time 5; \
         printf 'left:['; cat; printf ']'",
        site.program().display()
    );
    // It makes the terminal.
    let mut child = Command::new("script")
        .args(["-qec", &run, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .current_dir(site.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux has script");
    let mut out = child.stdout.take().expect("piped");
    let mut shown = Vec::new();
    let mut read_until = |end: &[u8]| {
        let mut byte = [0];
        while !shown.ends_with(end) {
            assert_eq!(out.read(&mut byte).expect("it shows"), 1, "{}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
    };
    read_until(b"empty line: ");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(pasted.as_bytes()).expect("it reads");
    read_until(b"left:[");
    read_until(b"]");
    drop(input);
    child.wait().expect("it ends");
    String::from_utf8(shown).expect("text")
}

#[test]
fn words_pasted_on_several_lines_are_taken_and_none_is_left_for_the_shell() {
    let site = Site::new();
    let made = json(&site.run(&["signer", "init", "--passphrase-file", "passphrase", "--json"]));
    let words: Vec<&str> = made["words"].as_str().expect("words").split(' ').collect();
    let lines = words.chunks(8).map(|line| line.join(" ") + "\n").collect::<String>();
    let shown = at_a_terminal(&site, "again", &lines);
    assert!(shown.contains(made["fingerprint"].as_str().expect("text")), "{shown}");
    assert!(shown.ends_with("left:[]") && !shown.contains(&words[8..16].join(" ")), "{shown}");

    // A refusal leaves nothing either: lines after an empty one, and a last line without its end.
    let good = "legal winner thank year wave sausage\n\nworth useful legal\nwinner thank yellow";
    let shown = at_a_terminal(&site, "third", good);
    assert!(shown.contains("error[mnemonic_word_count_invalid]"), "{shown}");
    assert!(shown.ends_with("left:[]") && !shown.contains("sausage") && !shown.contains("yellow"), "{shown}");
    assert!(!site.path("third").exists());
}

#[test]
fn words_that_nobody_could_see_leave_no_keys() {
    let site = Site::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    let output = Command::new(site.program())
        .args(["signer", "init", "--passphrase-file", "passphrase"])
        .current_dir(site.folder.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    refused(&output, "output_failed");
    assert!(!site.path("signer").exists());
    assert!(site.run(&["signer", "init", "--passphrase-file", "passphrase"]).status.success());
}

#[test]
fn bad_words_are_refused_by_their_codes_and_never_repeated() {
    let site = Site::new();
    let good = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    let restore = ["signer", "restore", "--words-file", "words", "--passphrase-file", "passphrase"];
    for (words, code) in [
        (String::new(), "mnemonic_separator_invalid"),
        (good.replace(" yellow", ""), "mnemonic_word_count_invalid"),
        (good.replace("sausage", "sausagge"), "mnemonic_word_unknown"),
        (good.replace("sausage", "Sausage"), "mnemonic_word_unknown"),
        (good.replace("yellow", "year"), "mnemonic_checksum_invalid"),
        (good.repeat(1_000), "words_unreadable"),
    ] {
        write_with(&site.path("words"), 0o600, &words);
        let output = site.run(&restore);
        refused(&output, code);
        let shown = said(&output);
        assert!(!shown.contains("ausag") && !shown.contains("winner") && output.stdout.is_empty(), "{shown}");
    }
    write_with(&site.path("words"), 0o640, good);
    refused(&site.run(&restore), "words_exposed");
    fs::remove_file(site.path("words")).expect("it is ours");
    refused(&site.run(&restore), "words_unreadable");
    refused(
        &site.run_with(&["signer", "restore", "--passphrase-file", "passphrase"], "winner\n"),
        "mnemonic_word_count_invalid",
    );
    write_with(&site.path("words"), 0o600, good);
    write_with(&site.path("own"), 0o644, "own passphrase");
    let with_own = [&restore[..], &["--mnemonic-passphrase-file", "own"]].concat();
    refused(&site.run(&with_own), "passphrase_exposed");
    fs::set_permissions(site.path("own"), fs::Permissions::from_mode(0o600)).expect("set");
    assert!(!site.path("signer").exists(), "nothing was made so far");
    let with_own = json(&site.run(&[&with_own[..], &["--json"]].concat()));
    let without = json(&site.run(&[&restore[..], &["--dir", "without", "--json"]].concat()));
    assert_ne!(with_own["fingerprint"], without["fingerprint"], "their passphrase makes other keys");
}

#[test]
fn passwords_that_others_may_read_keep_the_platform_from_starting() {
    let site = Site::new();
    let serve = || site.run(&["serve"]);
    site.configure("auth_file = \"bitcoind/regtest/.cookie\"", "auth_file = \"cookie\"");
    site.configure("kind = \"sqlite\"", "kind = \"mariadb\"\nurl_file = \"mariadb.url\"\nprefix = \"florin\"");
    // Nobody listens at this port: what is refused is refused before that.
    let url = "mysql://florin:secret-password@127.0.0.1:1";
    write_with(&site.path("mariadb.url"), 0o644, url);
    write_with(&site.path("cookie"), 0o640, "user:secret-password");
    let open = serve();
    refused(&open, "node_auth_exposed");
    write_with(&site.path("cookie"), 0o600, "user:secret-password");
    for mode in [0o644, 0o640, 0o602] {
        write_with(&site.path("mariadb.url"), mode, url);
        refused(&serve(), "mariadb_url_exposed");
    }
    fs::remove_file(site.path("cookie")).expect("it is ours");
    write_with(&site.path("mariadb.url"), 0o600, url);
    let unreachable = serve();
    refused(&unreachable, "store_connection_lost");
    fs::set_permissions(site.path("operator.token"), fs::Permissions::from_mode(0o644)).expect("set");
    refused(&serve(), "token_exposed");
    for output in [open, unreachable] {
        assert!(!said(&output).contains("secret-password"), "{}", said(&output));
    }
}

/// A configuration of the main network, as far as what is refused before nodes and stores are asked.
fn on_main(site: &Site) {
    site.configure("network = \"regtest\"", "network = \"main\"");
    site.configure("stale_s = 0", "stale_s = 7200");
}

#[test]
fn a_main_network_refuses_a_signer_of_the_platforms_own_user() {
    let site = Site::new();
    on_main(&site);
    refused(&site.run(&["serve"]), "signer_unready");
    // Of one user and with its own group named, whoever runs this.
    let group = site.folder.path().metadata().expect("a folder").gid();
    site.init_signer("signer", "# platform_gid = 1001", &format!("platform_gid = {group}"));
    let _signer = site.serve_signer("signer", None);
    let socket = site.path("signer").join(SOCKET_FILE).metadata().expect("a socket");
    assert_eq!((socket.mode() & 0o777, socket.gid(), socket.uid()), (0o660, group, own_user()));
    assert!(site.run(&["signer", "status"]).status.success());
    refused(&site.run(&["serve"]), "signer_same_user");
    let judged = || refuse_unready(&Config::read(&site.path("florin.toml")).expect("a configuration"));
    assert_eq!(judged().err().map(|failure| failure.code()), Some("signer_same_user"));
    site.configure("network = \"main\"", "network = \"test\"");
    assert!(judged().is_ok(), "other networks may be tried out");
}

#[test]
fn a_signer_that_was_never_made_asks_nobody_for_a_passphrase() {
    let site = Site::new();
    let serve = || {
        // What it would take for a passphrase.
        let output = site.run(&["signer", "serve"]);
        assert!(!said(&output).contains("Passphrase"), "{}", said(&output));
        output
    };
    refused(&serve(), "policy_missing");
    site.init_signer("signer", "", "");
    fs::rename(site.path("signer").join(KEYS_FILE), site.path("keys")).expect("moved");
    let output = serve();
    refused(&output, "sealed_missing");
    assert!(
        said(&output).contains("signer/keys.florin") && said(&output).contains("signer restore"),
        "{}",
        said(&output)
    );
}

#[test]
fn the_signer_answers_the_platforms_user_and_no_other() {
    let site = Site::new();
    on_main(&site);
    let named = format!("platform_gid = {GROUP}\nplatform_uid = {OPERATOR}");
    site.init_signer("signer", "# platform_gid = 1001\n# platform_uid = 1001", &named);
    if own_user() != 0 {
        // Only root starts processes of other users. Who is answered is decided in one place, which the policy's own tests ask
        // for every kind of user; here it shows that nobody opens the socket to a group that is not theirs.
        write_with(&site.path("signer").join("passphrase"), 0o600, SECRET);
        let output = site.run(&["signer", "serve", "--passphrase-file", "signer/passphrase"]);
        refused(&output, "socket_failed");
        assert!(said(&output).contains(&format!("platform_gid {GROUP}")), "{}", said(&output));
        return;
    }
    fs::set_permissions(site.path("signer"), fs::Permissions::from_mode(0o710)).expect("set");
    let _signer = site.serve_signer("signer", Some((SIGNER, GROUP)));
    let socket = site.path("signer").join(SOCKET_FILE).metadata().expect("a socket");
    assert_eq!((socket.mode() & 0o777, socket.gid(), socket.uid()), (0o660, GROUP, SIGNER));
    let status = |user, group| site.run_as(Some((user, group)), &["signer", "status"]);
    assert!(status(OPERATOR, GROUP).status.success(), "{}", said(&status(OPERATOR, GROUP)));
    assert!(status(SIGNER, GROUP).status.success(), "its own user asks as well");
    refused(&status(STRANGER, GROUP), "frame_closed");
    refused(&status(STRANGER, STRANGER), "signer_unreachable");
    let log = fs::read_to_string(site.path("signer.log")).expect("text");
    assert!(log.contains("\"user\":61003"), "the signer says who asked: {log}");
    let serve = |user, group| {
        chown(site.path("operator.token"), Some(user), None).expect("given away");
        site.run_as(Some((user, group)), &["serve"])
    };
    refused(&serve(OPERATOR, GROUP), "backup_drill_missing");
    refused(&serve(SIGNER, GROUP), "signer_same_user");
    refused(&serve(0, 0), "platform_is_root");
    refused(&serve(STRANGER, GROUP), "signer_unready");
}

#[test]
fn a_signer_whose_policy_is_not_its_own_does_not_start() {
    let site = Site::new();
    site.init_signer("signer", "# platform_gid = 1001", "# platform_gid = 1001");
    write_with(&site.path("signer").join("passphrase"), 0o600, SECRET);
    let serve = |who| site.run_as(who, &["signer", "serve", "--passphrase-file", "signer/passphrase"]);
    let policy = site.path("signer").join(POLICY_FILE);
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o666)).expect("set");
    refused(&serve(None), "policy_exposed");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).expect("set");
    if own_user() != 0 {
        // Only root gives files away. The rule itself is held against other owners beside it.
        fs::set_permissions(site.path("signer"), fs::Permissions::from_mode(0o777)).expect("set");
        refused(&serve(None), "policy_exposed");
        return;
    }
    for name in ["", "passphrase", KEYS_FILE, MEMORY_FILE] {
        chown(site.path("signer").join(name), Some(SIGNER), Some(GROUP)).expect("given away");
    }
    chown(&policy, Some(STRANGER), None).expect("given away");
    refused(&serve(Some((SIGNER, GROUP))), "policy_exposed");
    chown(site.path("signer"), Some(STRANGER), None).expect("given away");
    chown(&policy, Some(SIGNER), None).expect("given away");
    fs::set_permissions(site.path("signer"), fs::Permissions::from_mode(0o755)).expect("set");
    refused(&serve(Some((SIGNER, GROUP))), "policy_exposed");
}

#[test]
fn a_signer_that_is_told_to_end_leaves_its_whole_memory_in_one_file() {
    // Also where somebody has removed its socket: it is told by a descriptor, and not by a name.
    let cases = [(Some("-TERM"), false), (Some("-INT"), false), (None, false), (Some("-TERM"), true), (None, true)];
    for (signal, is_removed) in cases {
        let site = Site::new();
        site.init_signer("signer", "# platform_gid = 1001", "# platform_gid = 1001");
        let mut signer = site.serve_signer("signer", None);
        let client = Client::new(site.path("signer").join(SOCKET_FILE), Duration::from_secs(5));
        let row = |seq: u64| (Seq(seq), Digest([seq as u8; 32]));
        for number in 1..=3 {
            let (seq, head) = row(number);
            let fence = Fence { platform: PLATFORM, epoch: Epoch(1), seq, head, time: LedgerTime(0) };
            let known = (number > 1).then(|| row(number - 1)).map(|(seq, hash)| KnownRow { seq, hash });
            let void = VoidPlan { fence, plan: PlanId(number), known, memory: None };
            let reply = client.ask(&Request::VoidPlan(void)).expect("it answers");
            assert!(matches!(reply.outcome, Outcome::Voided(_)), "{reply:?}");
        }
        let (memory, alone) = (site.path("signer").join(MEMORY_FILE), site.path("alone"));
        let log = memory.with_extension("sqlite3-wal");
        assert!(log.metadata().is_ok_and(|log| log.len() > 0), "while it runs they are in the log");
        if is_removed {
            fs::remove_file(site.path("signer").join(SOCKET_FILE)).expect("removed");
        }
        match signal {
            Some(signal) => {
                let process = signer.0.id().to_string();
                assert!(Command::new("kill").args([signal, &process]).status().expect("kill is there").success());
            }
            None => drop(signer.0.stdin.take()),
        }
        assert_eq!(signer.0.wait().expect("it ended").code(), Some(0), "{signal:?}");
        assert!(log.metadata().map_or(0, |log| log.len()) == 0, "{signal:?} {is_removed}");
        fs::copy(&memory, &alone).expect("copied");
        let whole = Memory::open(&alone, PLATFORM).expect("it is whole");
        assert_eq!(whole.head().counter, 3, "{signal:?}");
    }
}

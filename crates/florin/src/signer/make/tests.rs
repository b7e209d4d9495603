//! Each step of making a signer's folder, made to fail, and words given back; it must never hold a secret of worth.

use super::*;
use crate::signer::{init, refuse_exposed, serve};
use bitcoin::bip32::Xpriv;
use bitcoin::secp256k1::Secp256k1;
use florin_chain::bitcoin::address::address_text;
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::AddressIndex;
use florin_signer::peer::own_user;
use std::cell::Cell;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const PLATFORM: [u8; 16] = [7; 16];
const WANTED: Wanted = Wanted { platform: PLATFORM, network: Network::Regtest, purpose: Purpose::Real };
/// The words of BIP-84's and BIP-86's test vectors.
const ABANDON: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

fn passphrase() -> Passphrase {
    Passphrase::new("correct horse battery".to_owned()).expect("long enough")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

fn code<T>(result: Result<T, Failure>) -> &'static str {
    result.err().map_or("ok", |failure| failure.code())
}

fn no_fault(_: Step) -> std::io::Result<()> {
    Ok(())
}

fn restore_from(
    dir: &Path,
    words: &Mnemonic,
    words_passphrase: &str,
    network: Network,
    fault: Fault<'_>,
) -> Result<Restored, Failure> {
    let known = Known { words, words_passphrase };
    restore(dir, || Ok((PLATFORM, network)), &passphrase(), Purpose::Real, &known, fault)
}

fn first_address(network: Network, descriptor: &str) -> String {
    let descriptor = Descriptor::parse(network, descriptor).expect("its own text");
    let script = descriptor.script(AddressIndex::new(0).expect("an index")).expect("a key").to_script_buf();
    address_text(network, &script).expect("an address")
}

#[test]
fn a_new_folder_has_all_three_files_and_nothing_else() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("outer/signer");
    let fresh = init(&dir, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real).expect("made");
    assert_eq!(names(&dir), [KEYS_FILE, MEMORY_FILE, POLICY_FILE]);
    for (name, mode) in [("", 0o700), (KEYS_FILE, 0o600), (MEMORY_FILE, 0o600), (POLICY_FILE, 0o600)] {
        let found = dir.join(name).metadata().expect("it is there");
        assert_eq!(found.mode() & 0o777, mode, "{name}");
        assert!(name.is_empty() || found.nlink() == 1, "{name} has no second name");
    }
    let keys = KeyStore::open(&dir.join(KEYS_FILE), &passphrase()).expect("it opens");
    assert_eq!(keys.kit(Network::Regtest, 0).expect("a kit").fingerprint.to_string(), fresh.fingerprint);
    assert_eq!(own_policy(&dir).expect("a policy").platform, PLATFORM);
    Memory::open(&dir.join(MEMORY_FILE), PLATFORM).expect("a memory");
}

#[test]
fn whatever_step_fails_nothing_stays_and_the_next_attempt_succeeds() {
    let words = Mnemonic::parse(ABANDON).expect("published words");
    let make = |dir: &Path, is_new: bool, fault: Fault<'_>| -> Result<(), Failure> {
        if is_new {
            return prepare(dir, WANTED, &passphrase(), fault).and_then(|(making, _)| making.finish());
        }
        restore_from(dir, &words, "", Network::Regtest, fault).map(drop)
    };
    for is_new in [true, false] {
        for stands in [true, false] {
            let root = tempfile::tempdir().expect("a folder");
            let dir = root.path().join("outer").join("signer");
            if stands {
                std::fs::create_dir_all(&dir).expect("made");
                std::fs::write(dir.join("mine"), b"mine").expect("written");
            }
            let before = if stands { names(&dir) } else { names(root.path()) };
            let mut failed = Vec::new();
            loop {
                let (count, last) = (Cell::new(0), Cell::new(None));
                let fault = |step: Step| {
                    count.set(count.get() + 1);
                    last.set(Some(step));
                    if count.get() <= failed.len() { Ok(()) } else { Err(std::io::Error::other("made to fail")) }
                };
                let made = make(&dir, is_new, &fault);
                if made.is_ok() {
                    break;
                }
                failed.push(last.get().expect("a step failed"));
                assert!(["signer_folder", "memory_io", "signer_unfinished"].contains(&code(made)), "{failed:?}");
                let after = if stands { names(&dir) } else { names(root.path()) };
                assert_eq!(after, before, "{failed:?}");
            }
            let (policy, memory, keys) = (Step::Place(POLICY_FILE), Step::Place(MEMORY_FILE), Step::Place(KEYS_FILE));
            let all =
                [Step::Folder, Step::Drafts, Step::Policy, Step::Memory, Step::Keys, policy, memory, keys, Step::Sync];
            assert_eq!(failed, all, "each step failed once, and then none");
            let mut made = vec![KEYS_FILE, MEMORY_FILE, POLICY_FILE];
            made.extend(stands.then_some("mine"));
            made.sort_unstable();
            assert_eq!(names(&dir), made);
        }
    }
}

#[test]
fn a_failed_restore_keeps_the_policy_and_the_memory_that_stood_there() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("signer");
    let fresh = init(&dir, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real).expect("made");
    std::fs::remove_file(dir.join(KEYS_FILE)).expect("it is ours");
    let edited = std::fs::read_to_string(dir.join(POLICY_FILE)).expect("text").replace("\"100000\"", "\"90000\"");
    std::fs::write(dir.join(POLICY_FILE), &edited).expect("written");
    for step in [Step::Folder, Step::Drafts, Step::Keys, Step::Place(KEYS_FILE), Step::Sync] {
        let fault = |at: Step| if at == step { Err(std::io::Error::other("made to fail")) } else { Ok(()) };
        assert_ne!(code(restore_from(&dir, &fresh.words, "", Network::Regtest, &fault)), "ok", "{step:?}");
        assert_eq!(names(&dir), [MEMORY_FILE, POLICY_FILE], "{step:?}");
    }
    // The configuration is not asked where there is a policy.
    let known = Known { words: &fresh.words, words_passphrase: "" };
    let asked = || -> Result<([u8; 16], Network), Failure> { panic!("there is a policy already") };
    let restored = restore(&dir, asked, &passphrase(), Purpose::Real, &known, &no_fault).expect("restored");
    assert_eq!((restored.policy, restored.memory), (Origin::Kept, Origin::Kept));
    assert_eq!((&restored.fingerprint, &restored.wallets[0].external), (&fresh.fingerprint, &fresh.external));
    assert_eq!(restored.wallets[0].internal, fresh.internal);
    assert_eq!(std::fs::read_to_string(dir.join(POLICY_FILE)).expect("text"), edited);
    assert_eq!(code(restore_from(&dir, &fresh.words, "", Network::Regtest, &no_fault)), "sealed_exists");
}

#[test]
fn what_stands_there_is_refused_and_left_as_it_is() {
    for (name, expected) in
        [(KEYS_FILE, "sealed_exists"), (POLICY_FILE, "policy_exists"), (MEMORY_FILE, "memory_exists")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        let again = || code(init(dir, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real));
        std::fs::write(dir.join(name), b"mine").expect("written");
        assert_eq!(again(), expected);
        assert_eq!(std::fs::read(dir.join(name)).expect("a file"), b"mine");
        assert_eq!(names(dir), [name]);
        std::fs::remove_file(dir.join(name)).expect("it is ours");
        // A link to nowhere stands there too.
        std::os::unix::fs::symlink(dir.join("nowhere"), dir.join(name)).expect("linked");
        assert_eq!(again(), expected);
        assert_eq!(names(dir), [name]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"mine").expect("written");
    assert_eq!(code(init(&file, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real)), "signer_folder");
    assert_eq!(std::fs::read(&file).expect("a file"), b"mine");
}

#[test]
fn a_file_that_appears_at_the_last_moment_is_not_replaced() {
    for name in FILES {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        let (making, _) = prepare(dir, WANTED, &passphrase(), &no_fault).expect("prepared");
        std::fs::write(dir.join(name), b"theirs").expect("written");
        assert_eq!(code(making.finish()), "signer_unfinished", "{name}");
        assert_eq!(names(dir), [name], "what this attempt made is gone");
        assert_eq!(std::fs::read(dir.join(name)).expect("a file"), b"theirs");
    }
}

#[test]
fn demo_keys_of_a_main_network_leave_nothing() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("signer");
    assert_eq!(code(init(&dir, PLATFORM, Network::Main, &passphrase(), Purpose::Demo)), "keys_demo");
    let words = Mnemonic::parse(ABANDON).expect("published words");
    let known = Known { words: &words, words_passphrase: "" };
    let wanted = || Ok((PLATFORM, Network::Main));
    assert_eq!(code(restore(&dir, wanted, &passphrase(), Purpose::Demo, &known, &no_fault)), "keys_demo");
    assert!(names(root.path()).is_empty());
}

#[test]
fn drafts_of_an_attempt_that_was_cut_short_are_removed_and_never_placed() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let (making, first) = prepare(dir, WANTED, &passphrase(), &no_fault).expect("prepared");
    assert_eq!(names(dir).len(), 1, "before the words are shown nothing has its name");
    // As a crash does: nothing is undone.
    std::mem::forget(making);
    let (making, _) = prepare(dir, WANTED, &passphrase(), &no_fault).expect("the next attempt");
    let (later, second) = prepare(dir, WANTED, &passphrase(), &no_fault).expect("one beside it");
    assert_eq!(code(making.finish()), "signer_unfinished", "its drafts were taken away");
    later.finish().expect("finished");
    assert_eq!(names(dir), [KEYS_FILE, MEMORY_FILE, POLICY_FILE]);
    assert_ne!(first.fingerprint, second.fingerprint);
    let keys = KeyStore::open(&dir.join(KEYS_FILE), &passphrase()).expect("it opens");
    let kit = keys.kit(Network::Regtest, 0).expect("a kit");
    assert_eq!(kit.fingerprint.to_string(), second.fingerprint, "the keys are those whose words were shown last");
}

#[test]
fn published_words_give_the_published_addresses() {
    let words = Mnemonic::parse(ABANDON).expect("published words");
    let folder = tempfile::tempdir().expect("a folder");
    let restored = restore_from(folder.path(), &words, "", Network::Main, &no_fault).expect("restored");
    assert_eq!((restored.policy, restored.memory), (Origin::Made, Origin::Made));
    assert_eq!(restored.fingerprint, "73c5da0a");
    let [wallet] = restored.wallets.as_slice() else { panic!("the policy has one wallet") };
    // BIP-86, test vectors.
    let (first, change) = (
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7",
    );
    assert_eq!(first_address(Network::Main, &wallet.external), first);
    assert_eq!(first_address(Network::Main, &wallet.internal), change);
    // BIP-84, test vectors: with a policy that stands there and says so.
    std::fs::remove_file(folder.path().join(KEYS_FILE)).expect("it is ours");
    let path = folder.path().join(POLICY_FILE);
    let text = std::fs::read_to_string(&path).expect("text").replace("script = \"tr\"", "script = \"wpkh\"");
    std::fs::write(&path, text).expect("written");
    let restored = restore_from(folder.path(), &words, "", Network::Main, &no_fault).expect("restored");
    let wallet = &restored.wallets[0];
    assert_eq!((restored.policy, wallet.script, wallet.id), (Origin::Kept, ScriptKind::Wpkh, WalletId(1)));
    assert_eq!(first_address(Network::Main, &wallet.external), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
    assert_eq!(first_address(Network::Main, &wallet.internal), "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el");
}

#[test]
fn words_of_every_length_and_their_passphrase_are_restored() {
    // Published with BIP-39 (vectors.json), with the passphrase "TREZOR": words and BIP-32 root key.
    for (words, root) in [
        (
            "legal winner thank year wave sausage worth useful legal winner thank yellow",
            "xprv9s21ZrQH143K2gA81bYFHqU68xz1cX2APaSq5tt6MFSLeXnCKV1RVUJt9FWNTbrrryem4ZckN8k4Ls1H6nwdvDTvnV7zEXs2HgPezuVccsq",
        ),
        (
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon agent",
            "xprv9s21ZrQH143K3mEDrypcZ2usWqFgzKB6jBBx9B6GfC7fu26X6hPRzVjzkqkPvDqp6g5eypdk6cyhGnBngbjeHTe4LsuLG1cCmKJka5SMkmU",
        ),
        (
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
            "xprv9s21ZrQH143K32qBagUJAMU2LsHg3ka7jqMcV98Y7gVeVyNStwYS3U7yVVoDZ4btbRNf4h6ibWpY22iRmXq35qgLs79f312g2kj5539ebPM",
        ),
    ] {
        let words = Mnemonic::parse(words).expect("published words");
        let root: Xpriv = root.parse().expect("a published key");
        let folder = tempfile::tempdir().expect("a folder");
        let restored = restore_from(folder.path(), &words, "TREZOR", Network::Regtest, &no_fault).expect("restored");
        assert_eq!(restored.fingerprint, root.fingerprint(&Secp256k1::new()).to_string());
    }
    // The lengths between them: as the key store derives them itself, told apart from those without the passphrase.
    for length in [20, 28] {
        let words = Mnemonic::from_entropy(&vec![length as u8; length]).expect("a length");
        let other = |own: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("keys");
            let store = KeyStore::restore(&path, &passphrase(), Purpose::Real, &words, own).expect("sealed");
            store.kit(Network::Regtest, 0).expect("a kit").fingerprint.to_string()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let restored = restore_from(folder.path(), &words, "é", Network::Regtest, &no_fault).expect("restored");
        assert_eq!(restored.fingerprint, other("é"));
        assert_eq!(restored.fingerprint, other("e\u{301}"), "passphrases are normalised (NFKD)");
        assert_ne!(restored.fingerprint, other(""));
    }
}

#[test]
fn a_policy_or_a_folder_that_others_may_write_is_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("signer");
    init(&dir, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real).expect("made");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let (policy, socket) = (dir.join(POLICY_FILE), dir.join("none/socket"));
    // Where everything is right, it comes as far as the socket, whose folder does not exist.
    let stop = std::sync::Arc::new(florin_signer::server::Stop::new().expect("a pair"));
    let served = || code(serve(&dir, &socket, passphrase(), &stop));
    assert_eq!(served(), "socket_failed");
    for mode in [0o666, 0o620, 0o602] {
        set(&policy, mode);
        assert_eq!(served(), "policy_exposed", "{mode:o}");
    }
    set(&policy, 0o644);
    assert_eq!(served(), "socket_failed", "others may read it");
    for mode in [0o777, 0o720, 0o1702] {
        set(&dir, mode);
        assert_eq!(served(), "policy_exposed", "{mode:o}");
    }
    set(&dir, 0o710);
    assert_eq!(served(), "socket_failed", "others may pass through");
    // A restore would trust them as well.
    std::fs::remove_file(dir.join(KEYS_FILE)).expect("it is ours");
    set(&policy, 0o666);
    let words = Mnemonic::parse(ABANDON).expect("published words");
    assert_eq!(code(restore_from(&dir, &words, "", Network::Regtest, &no_fault)), "policy_exposed");
    set(&dir, 0o777);
    std::fs::remove_file(&policy).expect("it is ours");
    std::fs::remove_file(dir.join(MEMORY_FILE)).expect("it is ours");
    assert_eq!(code(init(&dir, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real)), "policy_exposed");
    assert!(names(&dir).is_empty());
}

#[test]
fn a_policy_that_is_there_and_cannot_be_read_is_not_said_to_be_missing() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("signer");
    init(&dir, PLATFORM, Network::Regtest, &passphrase(), Purpose::Real).expect("made");
    let path = dir.join(POLICY_FILE);
    let text = std::fs::read(&path).expect("a policy");
    let read = || code(own_policy(&dir));
    assert_eq!(read(), "ok");
    // In Latin-1, as an older editor writes it.
    std::fs::write(&path, [b"# f\xfcr Anna\n", &text[..]].concat()).expect("written");
    assert_eq!(read(), "policy_unreadable");
    std::fs::remove_file(&path).expect("it is ours");
    let failure = own_policy(&dir).expect_err("there is none");
    assert!(failure.code() == "policy_missing" && failure.to_string().contains("'florin signer init'"), "{failure}");
    for target in [POLICY_FILE, "nothing"] {
        std::os::unix::fs::symlink(target, &path).expect("a link to itself, or to nothing");
        assert_eq!(read(), "policy_unreadable", "{target}");
        std::fs::remove_file(&path).expect("it is ours");
    }
    std::fs::create_dir(&path).expect("a folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("set");
    let failure = own_policy(&dir).expect_err("a folder is no text");
    assert!(failure.code() == "policy_unreadable" && !failure.to_string().contains("init"), "{failure}");
}

#[test]
fn a_policy_belongs_to_the_signer_or_to_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy");
    std::fs::write(&path, b"x").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    let judged = |own: u32| code(refuse_exposed(&path, &path.metadata().expect("a file"), own));
    let own = own_user();
    assert_eq!(judged(own), "ok");
    // Who else would sign by it: root trusts itself alone, others trust themselves and root.
    assert_eq!(judged(own + 1), if own == 0 { "ok" } else { "policy_exposed" });
    // Only root gives files away; as another user the line above has shown it.
    if own == 0 {
        std::os::unix::fs::chown(&path, Some(61_003), None).expect("given away");
        assert_eq!((judged(0), judged(61_001), judged(61_003)), ("policy_exposed", "policy_exposed", "ok"));
    }
}

#[test]
fn every_script_that_the_policy_names_is_one() {
    let text = include_str!("../../policy.toml");
    let line = text.lines().find(|line| line.contains("the account number")).expect("the comment");
    let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    assert_eq!(words.len(), ScriptKind::ALL.len());
    for word in words {
        let kind = ScriptKind::parse(word).unwrap_or_else(|| panic!("{word} is no script"));
        let policy = policy_text(PLATFORM, Network::Main).replace("\"tr\"\n", &format!("\"{}\"\n", kind.name()));
        let policy = Policy::parse(&policy).expect("a policy");
        assert_eq!(policy.wallets[&WalletId(1)].script, kind);
    }
    // The keys that stand there as comments are those that a policy has.
    let named = policy_text(PLATFORM, Network::Main).replace("# platform_", "platform_");
    let callers = Policy::parse(&named).expect("a policy").callers;
    assert_eq!((callers.group, callers.user), (Some(1001), Some(1001)));
}

//! What opening, making and using keys leaves in the memory of the process: nothing but what it goes on using. The process
//! searches itself.

#![cfg(target_os = "linux")]

#[path = "support/search.rs"]
mod search;
mod support;

use florin_chain::bitcoin::keys::ScriptKind;
use florin_core::id::PlanId;
use florin_signer::approve::OperatorKey;
use florin_signer::entropy::random_bytes;
use florin_signer::keystore::{KeyStore, Purpose};
use florin_signer::memory::Memory;
use florin_signer::protocol::{CheckpointHead, Outcome, Request, VoidPlan};
use florin_signer::sealed::Passphrase;
use florin_signer::session::Signer;
use florin_signer::stack::wiped;
use search::{Secret, count};
use std::fmt::Write;
use std::path::Path;
use support::{NOW, PLATFORM, ask, fence, policy};
use zeroize::Zeroize;

/// A passphrase that nobody has seen, and what to look for.
fn passphrase() -> (Passphrase, Secret) {
    wiped(|| {
        let bytes = random_bytes::<24>().expect("randomness");
        let mut text = String::with_capacity(2 * bytes.len());
        bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("text takes everything"));
        let secret = Secret::of("passphrase", text.as_bytes());
        (Passphrase::new(text).expect("long enough"), secret)
    })
}

/// Makes a key store; what is secret of it is returned to be looked for, and wiped.
fn make(path: &Path, passphrase: &Passphrase) -> Vec<Secret> {
    wiped(|| {
        let created = KeyStore::create(path, passphrase, Purpose::Demo).expect("created");
        let mut secrets = Secret::of_words(&created.mnemonic);
        let mut head_key = created.store.head_key().to_bytes();
        secrets.push(Secret::of("head key", &head_key));
        head_key.zeroize();
        secrets
    })
}

/// The secrets that are found, and how often.
#[track_caller]
fn check(when: &str, secrets: &[Secret], expected: &[(&str, usize)]) {
    let mut found = count("self", secrets).expect("a process may read its own memory");
    found.retain(|(_, count)| *count > 0);
    assert_eq!(found, expected, "{when}");
}

#[test]
fn a_signer_keeps_its_account_keys_and_nothing_that_they_came_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, memory) = (folder.path().join("keys"), folder.path().join("memory"));
    let (passphrase, secret) = passphrase();
    let mut secrets = make(&path, &passphrase);
    secrets.push(secret);
    check("keys were made and are closed again", &secrets, &[("passphrase", 1)]);

    let keys = KeyStore::open(&path, &passphrase).expect("it opens");
    check("keys are open", &secrets, &[("seed", 1), ("passphrase", 1)]);
    drop(passphrase);
    check("keys are open, and the passphrase is dropped", &secrets, &[("seed", 1)]);

    let memory = Memory::create(&memory, PLATFORM).expect("a memory");
    let mut signer = Signer::new(&keys, policy(ScriptKind::Tr), memory).expect("it starts");
    drop(keys);
    let kept = [("account key", 1), ("head key", 1)];
    check("the signer runs", &secrets, &kept);

    let checkpoint = Request::CheckpointHead(CheckpointHead { fence: fence(1, NOW), known: None, memory: None });
    assert!(matches!(ask(&mut signer, &checkpoint, NOW).outcome, Outcome::Checkpoint(_)));
    let void = Request::VoidPlan(VoidPlan { fence: fence(2, NOW), known: None, plan: PlanId(1), memory: None });
    assert!(matches!(ask(&mut signer, &void, NOW).outcome, Outcome::Voided(_)));
    check("the signer has answered", &secrets, &kept);

    drop(signer);
    check("the signer has ended", &secrets, &[]);
}

#[test]
fn an_operators_key_and_passphrase_are_gone_once_they_are_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("operator.key");
    let (passphrase, secret) = passphrase();
    let public = OperatorKey::create(&path, &passphrase).expect("made").public();
    assert_eq!(OperatorKey::open(&path, &passphrase).expect("it opens").public(), public);
    drop(passphrase);
    check("a key was made and opened", &[secret], &[]);

    let (key, secret) = wiped(|| {
        let bytes = random_bytes::<32>().expect("randomness");
        (OperatorKey::from_secret(&bytes), Secret::of("operator's key", &*bytes))
    });
    check("it is open", std::slice::from_ref(&secret), &[("operator's key", 1)]);
    drop(key);
    check("it is dropped", &[secret], &[]);
}

#[test]
fn what_a_broken_off_work_leaves_on_the_stack_is_overwritten() {
    let (bytes, secret) = wiped(|| {
        let bytes = random_bytes::<32>().expect("randomness");
        let secret = Secret::of("secret", &*bytes);
        (Box::new(bytes), secret)
    });
    let broken = std::panic::catch_unwind(|| wiped(|| copied(&bytes)));
    assert!(broken.is_err(), "it panics");
    check("the work has panicked", &[secret], &[("secret", 1)]);
}

/// Leaves a copy on the stack, as libraries do, and breaks off. No hook runs: where a backtrace is asked for, making it copies what lies on the
/// stack into a place of its own.
fn copied(bytes: &[u8; 32]) {
    let copy = *bytes;
    std::panic::resume_unwind(Box::new(usize::from(std::hint::black_box(&copy)[0])));
}

//! The signer behind its socket, and what never comes out of it; it must never wait without a bound.

mod support;

use florin_chain::bitcoin::keys::ScriptKind;
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;
use florin_core::id::{LedgerTime, PlanId};
use florin_core::wire::Message;
use florin_signer::approve::{ApproveError, OperatorKey, ShownIntent};
use florin_signer::client::{Client, ClientError};
use florin_signer::keystore::{KeyStore, Purpose};
use florin_signer::memory::Memory;
use florin_signer::peer::own_user;
use florin_signer::policy::{Callers, Policy};
use florin_signer::protocol::{
    CheckpointHead, DescriptorsWanted, Hello, Outcome, PROTOCOL, Request, StatusWanted, VoidPlan,
};
use florin_signer::refusal::Refusal;
use florin_signer::sealed::Passphrase;
use florin_signer::server::{FRAME_SIZE_MAX, Stop, bind, serve};
use florin_signer::session::Signer;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use support::*;

/// A served signer; stopped and joined when dropped.
struct Served {
    folder: tempfile::TempDir,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Result<(), &'static str>>>,
}

impl Served {
    fn new(make: impl FnOnce(&Path) -> Signer + Send + 'static) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = bind(&folder.path().join("socket"), Callers::default()).expect("bound");
        let stop = Arc::new(Stop::new().expect("a pair"));
        let (seen, home) = (stop.clone(), folder.path().to_owned());
        let thread = std::thread::spawn(move || {
            let mut signer = make(&home);
            serve(&listener, &mut signer, || NOW, &seen).map_err(|error| error.code())
        });
        Served { folder, stop, thread: Some(thread) }
    }
    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
    fn client(&self) -> Client {
        Client::new(self.socket(), Duration::from_secs(60))
    }
    /// Sends raw bytes, closes that side, and reads all that comes.
    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).expect("connected");
        stream.write_all(bytes).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("read");
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.tell();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_server_that_waits_stops_when_it_is_told_also_where_its_socket_is_gone() {
    for is_gone in [false, true] {
        let mut served = Served::new(|_| signer(ScriptKind::Wpkh));
        let hello = framed(&Request::Hello(Hello { protocol: PROTOCOL }).encode());
        assert!(!served.raw(&hello).is_empty(), "it answers, and waits again");
        if is_gone {
            std::fs::remove_file(served.socket()).expect("removed");
        }
        // Said twice, as by a signal and by who started it.
        served.stop.tell().expect("told");
        served.stop.tell().expect("told");
        assert_eq!(served.thread.take().expect("it ran").join().expect("it ends"), Ok(()));
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let served = Served::new(|_| signer(ScriptKind::Wpkh));
    let mode = served.socket().metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = served.client();
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let request = draft(1, vec![wallet.coin(1, 900_000)], vec![pay(1, stranger(1), 100_000)]);
    let direct = sign(&mut signer(ScriptKind::Wpkh), &wallet, &request, NOW).expect("signed");
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (client, request) = (client.clone(), Request::SignPlan(request.request(&wallet)));
            std::thread::spawn(move || client.ask(&request).map(|reply| reply.outcome).map_err(|error| error.code()))
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.join().expect("ended"), Ok(Outcome::Signed(direct.clone())));
    }
    let status = client.ask(&Request::Status(StatusWanted { memory: None })).expect("answered").outcome;
    assert!(matches!(status, Outcome::Status(status) if status.plans_signed == 1));
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let served = Served::new(|_| signer(ScriptKind::Wpkh));
    let invalid = |answer: &[u8]| {
        let reply = florin_signer::protocol::Reply::decode(&answer[4..]).expect("a reply");
        matches!(reply.outcome, Outcome::Refused(refused) if refused.reason == Refusal::RequestInvalid)
    };
    assert!(invalid(&served.raw(&framed(b"not a request"))));
    assert!(invalid(&served.raw(&framed(&[]))));
    let huge = ((FRAME_SIZE_MAX + 1) as u32).to_be_bytes();
    assert!(invalid(&served.raw(&huge)), "an announcement alone makes no room");
    let hello = framed(&Request::Hello(Hello { protocol: PROTOCOL }).encode());
    for end in 0..hello.len() {
        assert_eq!(served.raw(&hello[..end]), [0u8; 0], "cut at {end}");
    }
    assert!(matches!(
        served.client().ask(&Request::Hello(Hello { protocol: PROTOCOL })).expect("answered").outcome,
        Outcome::Welcome(_)
    ));
    let large = vec![0u8; FRAME_SIZE_MAX + 1];
    let mut request = draft(1, vec![], vec![]).request(&Wallet::new(ScriptKind::Wpkh));
    request.psbt = florin_core::wire::Bytes(large);
    let refused = served.client().ask(&Request::SignPlan(request)).err().map(|error| error.code());
    assert!(matches!(refused, Some("frame_too_long")), "{refused:?}");
}

#[test]
fn a_failed_memory_ends_the_server_without_an_answer() {
    let mut served = Served::new(|folder| {
        let memory = Memory::create(&folder.join("memory"), PLATFORM).and_then(Memory::on_full_disk);
        signer_with(ScriptKind::Wpkh, memory.expect("a memory"))
    });
    let void = Request::VoidPlan(VoidPlan { fence: fence(1, NOW), plan: PlanId(1), known: None, memory: None });
    assert_eq!(served.client().ask(&void).err().map(|error| error.code()), Some("frame_closed"));
    let ended = served.thread.take().expect("a thread").join().expect("no panic");
    assert_eq!(ended, Err("memory_database"));
}

#[test]
fn sockets_are_taken_over_only_when_nobody_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = bind(&path, Callers::default()).expect("bound");
    assert_eq!(bind(&path, Callers::default()).err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
    drop(listener);
    drop(bind(&path, Callers::default()).expect("a dead socket is replaced"));
    let file = folder.path().join("file");
    std::fs::write(&file, b"mine").expect("written");
    assert_eq!(bind(&file, Callers::default()).err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "no drafts stay behind");
    let nobody = Client::new(folder.path().join("none"), Duration::from_secs(60));
    let error = nobody.ask(&Request::Status(StatusWanted { memory: None })).err();
    assert!(matches!(error, Some(ClientError::Unreachable(_))));
}

#[test]
fn the_socket_belongs_to_the_group_that_may_ask() {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = folder.path().metadata().expect("it is there");
    let path = folder.path().join("socket");
    // Root may give any group; everybody else one of their own.
    let group = if owner.uid() == 0 { 61_100 } else { owner.gid() };
    let listener = bind(&path, Callers { group: Some(group), user: None }).expect("bound");
    let made = path.metadata().expect("a socket");
    assert_eq!((made.mode() & 0o777, made.gid(), made.uid()), (0o660, group, owner.uid()));
    drop(listener);
    drop(bind(&path, Callers::default()).expect("bound"));
    let made = path.metadata().expect("a socket");
    assert_eq!((made.mode() & 0o777, made.gid()), (0o600, owner.gid()), "without a group it is for its owner alone");
    if owner.uid() != 0 {
        let refused = bind(&path, Callers { group: Some(0), user: None }).err().map(|error| error.kind());
        assert_eq!(refused, Some(std::io::ErrorKind::PermissionDenied), "of a group that is not ours");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no drafts stay behind");
}

#[test]
fn the_client_is_told_who_listens() {
    let served = Served::new(|_| signer(ScriptKind::Wpkh));
    assert_eq!(served.client().signer_user().expect("it listens"), own_user());
    let status = served.client().ask(&Request::Status(StatusWanted { memory: None }));
    assert!(status.is_ok(), "a connection without a request harms nobody");
    let nobody = Client::new(served.folder.path().join("none"), Duration::from_secs(60));
    assert!(matches!(nobody.signer_user(), Err(ClientError::Unreachable(_))));
}

/// Everything the crate says while it is driven through its errors and answers.
fn all_that_is_said(folder: &Path, store: &KeyStore, words: &Mnemonic, passphrase: &str) -> Vec<u8> {
    let mut said = String::new();
    let right = || Passphrase::new(passphrase.to_owned()).expect("long enough");
    let path = folder.join("keys");
    let mut hear = |text: &dyn std::fmt::Debug| said.push_str(&format!("{text:?}\n"));
    // Key stores: wrong, damaged, exposed, existing, demo.
    let wrong = Passphrase::new(format!("{passphrase}?")).expect("long enough");
    hear(&KeyStore::open(&path, &wrong).err());
    hear(&KeyStore::create(&path, &right(), Purpose::Demo).err());
    hear(&KeyStore::restore(&path, &right(), Purpose::Demo, words, passphrase).err());
    hear(&store.account(Network::Main, ScriptKind::Wpkh, 0).err());
    hear(&store.kit(Network::Regtest, 0).ok());
    let mut bytes = std::fs::read(&path).expect("a file");
    hear(&String::from_utf8_lossy(&bytes));
    bytes[40] ^= 1;
    let damaged = folder.join("damaged");
    std::fs::write(&damaged, &bytes).expect("written");
    hear(&KeyStore::open(&damaged, &right()).err());
    std::fs::set_permissions(&damaged, std::fs::Permissions::from_mode(0o600)).expect("mode");
    hear(&KeyStore::open(&damaged, &right()).err());
    hear(&Mnemonic::parse(&words.expose_words().replacen(' ', "  ", 1)).err());
    hear(&Policy::parse(&format!("platform = \"{passphrase}")).map_err(|error| error.line));
    let operator = folder.join("operator");
    hear(&OperatorKey::create(&operator, &right()).map(|key| key.public()));
    hear(&OperatorKey::open(&operator, &wrong).err().map(|error: ApproveError| error.to_string()));
    hear(&ShownIntent::read(b"x").err());
    // A session: everything that can be asked, and many refusals.
    let memory = Memory::create(&folder.join("memory"), PLATFORM).expect("a memory");
    let mut signer = Signer::new(store, policy(ScriptKind::Wpkh), memory).unwrap_or_else(|error| panic!("{error:?}"));
    let wallet = Wallet::of(store, ScriptKind::Wpkh);
    let mut requests = vec![
        Request::Hello(Hello { protocol: PROTOCOL }),
        Request::Hello(Hello { protocol: 7 }),
        Request::Descriptors(DescriptorsWanted { memory: None }),
        Request::Status(StatusWanted { memory: None }),
        Request::VoidPlan(VoidPlan { fence: fence(1, NOW), plan: PlanId(9), known: None, memory: None }),
        Request::CheckpointHead(CheckpointHead { fence: fence(1, NOW), known: None, memory: None }),
    ];
    for number in 0..40u32 {
        let mut draft =
            draft(u64::from(number), vec![wallet.coin(number, 900_000)], vec![pay(number, stranger(1), 90_000)]);
        draft.cut = number % 3 == 0;
        draft.fee = u64::from(number) * 2_000;
        draft.wallet = 1 + u32::from(number == 7);
        requests.push(Request::SignPlan(draft.request(&wallet)));
    }
    let mut socket = Vec::new();
    for request in &requests {
        let reply = signer.handle(request, NOW).unwrap_or_else(|fault| panic!("{fault:?}"));
        hear(&reply);
        socket.extend(reply.encode());
    }
    hear(
        &signer
            .handle(&Request::Status(StatusWanted { memory: None }), LedgerTime(u64::MAX))
            .map(|reply| reply.outcome),
    );
    drop(signer);
    for file in ["memory", "operator", "keys", "damaged"] {
        socket.extend(std::fs::read(folder.join(file)).expect("a file"));
    }
    let mut all = said.into_bytes();
    all.extend(socket);
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_secret_is_ever_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let passphrase = "canary-passphrase-9d1f";
    let right = Passphrase::new(passphrase.to_owned()).expect("long enough");
    let created = KeyStore::create(&folder.path().join("keys"), &right, Purpose::Demo).expect("created");
    let all = all_that_is_said(folder.path(), &created.store, &created.mnemonic, passphrase);
    let words = created.mnemonic.expose_words();
    let seed = created.mnemonic.seed("");
    let head = created.store.head_key().to_bytes();
    let entropy = created.mnemonic.expose_entropy();
    let mut canaries: Vec<Vec<u8>> = vec![passphrase.as_bytes().to_vec()];
    for secret in [entropy, &seed.expose_bytes()[..32], &seed.expose_bytes()[32..], &head[..]] {
        // Half of a secret is a leak as well; and Debug writes bytes in decimal, people in hexadecimal.
        for half in secret.chunks(16) {
            canaries.push(half.to_vec());
            canaries.push(hex(half).into_bytes());
            let decimal = format!("{half:?}");
            canaries.push(decimal.trim_matches(['[', ']']).as_bytes().to_vec());
        }
    }
    let list: Vec<&str> = words.split(' ').collect();
    canaries.extend(list.windows(3).map(|three| three.join(" ").into_bytes()));
    canaries.push(b"prv".to_vec());
    for canary in &canaries {
        assert!(!all.windows(canary.len()).any(|window| window == canary), "{}", String::from_utf8_lossy(canary));
    }
    // The search itself finds what is there.
    let said = String::from_utf8_lossy(&all);
    assert!(
        ["FeeRateAboveCap", "TransactionInvalid", "Signed(", "PassphraseWrong"].iter().all(|word| said.contains(word))
    );
}

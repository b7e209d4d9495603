//! Signers that forgot, that are others, and that lie about what they gave up, against the real one.

use super::*;
use florin_chain::bitcoin::mnemonic::Seed;
use florin_core::id::{Digest, Epoch, Seq};
use florin_engine::ports::Signer;
use florin_signer::keystore::KeyStore;
use florin_signer::memory::Memory;
use florin_signer::policy::Policy;
use florin_signer::protocol::{Status, Welcome};
use florin_signer::session;
use std::collections::VecDeque;

const PLATFORM: [u8; 16] = [0x11; 16];
const OTHER_PLATFORM: [u8; 16] = [0x22; 16];
const KEY: [u8; 32] = [3; 32];

fn welcome() -> Outcome {
    Outcome::Welcome(Welcome { protocol: PROTOCOL, platform: PLATFORM, key: KEY, highest: None, demo: true })
}

/// A signer that shows these heads, one in each answer.
struct Shows(VecDeque<MemoryHead>);

impl Transport for Shows {
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
        let head = self.0.pop_front().expect("one head for each question");
        let status = Status { highest: None, plans_signed: 0, plans_voided: 0, wallets: Vec::new() };
        let outcome = if matches!(request, Request::Hello(_)) { welcome() } else { Outcome::Status(status) };
        Ok(Reply { head, outcome })
    }
}

fn head(memory: u8, counter: u64, hash: u8) -> MemoryHead {
    MemoryHead { memory: [memory; 16], counter, hash: Digest([hash; 32]) }
}

fn kept(folder: &tempfile::TempDir) -> HeadFile {
    HeadFile(folder.path().join("signer.head"))
}

fn shows(file: &HeadFile, heads: &[MemoryHead]) -> RemoteSigner<Shows> {
    let transport = Shows(heads.iter().copied().collect());
    RemoteSigner::keeping(transport, Box::new(file.clone())).expect("the record can be read")
}

fn doubt_of<T: std::fmt::Debug>(answer: Result<T, SignerFault>) -> &'static str {
    match answer {
        Err(SignerFault::NotBelieved { code, .. }) => code,
        other => panic!("believed: {other:?}"),
    }
}

#[test]
fn a_signer_that_forgot_is_not_believed_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = kept(&folder);
    let mut first = shows(&file, &[head(1, 4, 4), head(1, 5, 5), head(1, 5, 5), head(1, 7, 7)]);
    for _ in 0..3 {
        first.status().expect("memory goes on");
    }
    let forgotten = [
        (head(1, 6, 6), "signer_memory_behind"),
        (head(1, 7, 8), "signer_memory_conflict"),
        (head(2, 9, 9), "signer_memory_replaced"),
    ];
    for (shown, code) in forgotten {
        // At the first question, and at a later one.
        let mut next = shows(&file, &[shown, head(1, 7, 7), shown, head(1, 8, 8)]);
        assert_eq!(doubt_of(next.status()), code);
        assert_eq!(doubt_of(next.status()), code);
        // What was refused was not kept: the honest memory still follows.
        next.status().expect("memory goes on");
        let known = KnownSigner { head: head(1, 7, 7), platform: PLATFORM, key: KEY };
        file.save(&known).expect("set back for the next case");
    }
}

#[test]
fn a_damaged_record_stops_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = kept(&folder);
    std::fs::write(&file.0, b"nonsense").expect("written");
    assert!(RemoteSigner::keeping(Shows(VecDeque::new()), Box::new(file)).is_err());
}

/// A real signer, and what stands between it and the engine.
struct Between {
    signer: session::Signer,
    bend: fn(&mut Reply),
}

impl Transport for Between {
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
        let mut reply = self.signer.handle(request, NOW).map_err(|fault| SignerFault::Transport(Box::new(fault)))?;
        (self.bend)(&mut reply);
        Ok(reply)
    }
}

const NOW: LedgerTime = LedgerTime(1_800_000_000_000);

/// A signer whose keys come from `seed`, with an empty memory that is always the same one.
fn real(seed: u8, platform: [u8; 16], bend: fn(&mut Reply)) -> Between {
    let text = format!("platform = \"{}\"\n", florin_core::id::CommandId(platform));
    let policy = Policy::parse(&text).expect("a policy without wallets");
    let memory = Memory::volatile(platform, [9; 16]).expect("a memory");
    let keys = KeyStore::demo(Seed::from_bytes([seed; 64]));
    let signer = session::Signer::new(&keys, policy, memory).unwrap_or_else(|error| panic!("{}", error.code()));
    Between { signer, bend }
}

fn at(platform: [u8; 16]) -> ports::Fence {
    ports::Fence { platform, epoch: Epoch(1), seq: Seq(5), head: Digest([5; 32]), time: NOW, known: Place::START }
}

fn keeping(file: &HeadFile, transport: Between) -> RemoteSigner<Between> {
    RemoteSigner::keeping(transport, Box::new(file.clone())).expect("the record can be read")
}

#[test]
fn a_void_receipt_comes_back_whole_and_verifies_with_the_key_of_the_first_contact() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = kept(&folder);
    let mut signer = keeping(&file, real(1, PLATFORM, |_| ()));
    let answer = signer.void_plan(&at(PLATFORM), PlanId(7)).expect("voided");
    let SignerAnswer::Voided { receipt } = answer else { panic!("{answer:?}") };
    let receipt = VoidReceipt::decode(&receipt.0).expect("a receipt");
    let known = file.load().expect("readable").expect("kept");
    assert_eq!((receipt.platform, receipt.plan), (PLATFORM, PlanId(7)));
    assert!(receipt.is_by(&known.key), "the key was learnt and is durable");
}

fn with_receipt(reply: &mut Reply, bend: impl Fn(&mut VoidReceipt)) {
    if let Outcome::Voided(receipt) = &mut reply.outcome {
        bend(receipt);
    }
}

/// What the other key says: this plan is void. It is what whoever answers on the socket can make up.
fn forged(plan: PlanId, platform: [u8; 16]) -> VoidReceipt {
    let mut other = real(2, platform, |_| ()).signer;
    let fence = Fence { platform, epoch: Epoch(1), seq: Seq(5), head: Digest([5; 32]), time: NOW };
    let reply = other.handle(&Request::VoidPlan(VoidPlan { fence, plan, known: None }), NOW).expect("voided");
    let Outcome::Voided(receipt) = reply.outcome else { panic!("{:?}", reply.outcome) };
    receipt
}

#[test]
fn a_void_receipt_without_the_known_keys_signature_over_this_plan_is_not_believed() {
    type Bend = fn(&mut Reply);
    let cases: [(&str, Bend); 5] = [
        ("void_receipt_unsigned", |reply| with_receipt(reply, |receipt| receipt.signature[3] ^= 1)),
        ("void_receipt_unsigned", |reply| with_receipt(reply, |receipt| receipt.key = KEY)),
        ("void_receipt_unsigned", |reply| with_receipt(reply, |receipt| *receipt = forged(PlanId(7), PLATFORM))),
        ("void_receipt_foreign", |reply| with_receipt(reply, |receipt| *receipt = forged(PlanId(7), OTHER_PLATFORM))),
        // A receipt of another plan under this plan's number.
        ("void_receipt_unsigned", |reply| {
            with_receipt(reply, |receipt| *receipt = VoidReceipt { plan: PlanId(7), ..forged(PlanId(8), PLATFORM) })
        }),
    ];
    for (number, (code, bend)) in cases.into_iter().enumerate() {
        let mut signer = RemoteSigner::new(real(1, PLATFORM, bend), None);
        assert_eq!(doubt_of(signer.void_plan(&at(PLATFORM), PlanId(7))), code, "case {number}");
    }
    let mut signer =
        RemoteSigner::new(real(1, PLATFORM, |reply| with_receipt(reply, |receipt| receipt.plan = PlanId(8))), None);
    let answer = signer.void_plan(&at(PLATFORM), PlanId(7));
    assert!(matches!(answer, Err(SignerFault::Malformed(_))), "about another plan: {answer:?}");
}

#[test]
fn another_key_or_platform_than_at_the_first_contact_is_not_believed_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = kept(&folder);
    keeping(&file, real(1, PLATFORM, |_| ())).status().expect("the first contact");
    assert_eq!(doubt_of(keeping(&file, real(2, PLATFORM, |_| ())).status()), "signer_key_changed");
    assert_eq!(doubt_of(keeping(&file, real(1, OTHER_PLATFORM, |_| ())).status()), "signer_platform_changed");
    keeping(&file, real(1, PLATFORM, |_| ())).status().expect("the known one is still believed");
}

#[test]
fn a_signer_of_another_platform_is_not_asked_about_plans() {
    let mut signer = RemoteSigner::new(real(1, OTHER_PLATFORM, |_| ()), None);
    assert_eq!(doubt_of(signer.void_plan(&at(PLATFORM), PlanId(7))), "signer_platform_mismatch");
}

#[test]
fn a_signer_that_speaks_otherwise_is_not_believed() {
    let mut signer = RemoteSigner::new(
        real(1, PLATFORM, |reply| {
            if let Outcome::Welcome(_) = reply.outcome {
                reply.outcome =
                    Outcome::Status(Status { highest: None, plans_signed: 0, plans_voided: 0, wallets: Vec::new() });
            }
        }),
        None,
    );
    assert!(matches!(signer.status(), Err(SignerFault::Malformed(_))));
}

#[test]
fn a_signer_is_not_asked_where_what_it_is_shown_cant_be_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = ShownFile::by_platform(folder.path());
    let mut signer = keeping(&kept(&folder), real(1, PLATFORM, |_| ())).recording(shown.clone());
    assert_eq!(signer.show(&at(PLATFORM)).expect("shown"), None);
    let file = folder.path().join("signer.shown");
    std::fs::write(&file, b"torn").expect("written");
    for _ in 0..2 {
        let later = ports::Fence { seq: Seq(6), ..at(PLATFORM) };
        assert_eq!(signer.show(&later).map_err(|fault| fault.code()), Err("signer_shown_unreadable"));
    }
    std::fs::remove_file(&file).expect("removed");
    let status = signer.status().expect("it answers");
    assert_eq!(status.seq, Seq(5), "it was not shown what was not recorded");
    assert_eq!(signer.show(&at(PLATFORM)).expect("shown"), None);
    assert_eq!(shown.last().expect("readable").map(|place| place.seq), Some(Seq(5)));
}

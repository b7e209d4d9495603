//! Signers that forgot, that are others, and that lie about what they gave up, against the real one.

use super::known::{Remembered, SharedRecord};
use super::*;
use florin_chain::bitcoin::mnemonic::Seed;
use florin_core::id::{Digest, Epoch, Seq};
use florin_engine::ports::Signer;
use florin_signer::keystore::KeyStore;
use florin_signer::memory::Memory;
use florin_signer::policy::Policy;
use florin_signer::protocol::{MemoryHead, Status, Welcome};
use florin_signer::session;
use florin_store::site::Site;
use std::collections::VecDeque;

const PLATFORM: [u8; 16] = [0x11; 16];
const OTHER_PLATFORM: [u8; 16] = [0x22; 16];
const KEY: [u8; 32] = [3; 32];

fn welcome() -> Outcome {
    Outcome::Welcome(Welcome { protocol: PROTOCOL, platform: PLATFORM, key: KEY, highest: None, demo: true })
}

/// A signer that shows these heads, one in each answer, and says of every other that it has it: a liar, as no signer of ours is.
struct Shows(VecDeque<MemoryHead>);

impl Transport for Shows {
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
        let head = self.0.pop_front().expect("one head for each question");
        let status = Status { highest: None, plans_signed: 0, plans_voided: 0, wallets: Vec::new() };
        let outcome = if matches!(request, Request::Hello(_)) { welcome() } else { Outcome::Status(status) };
        Ok(Reply { head, outcome, remembered: request.memory() })
    }
}

fn head(memory: u8, counter: u64, hash: u8) -> MemoryHead {
    MemoryHead { memory: [memory; 16], counter, hash: Digest([hash; 32]) }
}

/// What is known of the signer, kept in a folder.
fn kept(folder: &tempfile::TempDir) -> SharedRecord {
    SharedRecord::at(&Site::Folder(folder.path().to_path_buf())).expect("it opens")
}

fn shows(record: &SharedRecord, heads: &[MemoryHead]) -> RemoteSigner<Shows> {
    RemoteSigner::keeping(Shows(heads.iter().copied().collect()), Box::new(record.clone()))
}

/// A signer of whom nothing is known yet.
fn unknown(transport: Between) -> RemoteSigner<Between> {
    RemoteSigner::keeping(transport, Box::new(Remembered::default()))
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
    let record = kept(&folder);
    let mut first = shows(&record, &[head(1, 4, 4), head(1, 5, 5), head(1, 5, 5), head(1, 7, 7)]);
    for _ in 0..3 {
        first.status().expect("memory goes on");
    }
    drop((first, record));
    let forgotten = [
        (head(1, 6, 6), "signer_memory_behind"),
        (head(1, 7, 8), "signer_memory_conflict"),
        (head(2, 9, 9), "signer_memory_replaced"),
    ];
    let mut record = kept(&folder);
    for (shown, code) in forgotten {
        let mut next = shows(&record, &[shown, shown, shown, head(1, 7, 7)]);
        for _ in 0..2 {
            assert_eq!(doubt_of(next.status()), code);
        }
        // What was refused was not kept: the honest memory still follows.
        next.status().expect("memory goes on");
        assert_eq!(record.load().expect("readable").map(|known| known.head), Some(head(1, 7, 7)));
    }
}

#[test]
fn an_answer_that_vouches_for_nothing_is_not_believed_however_high_its_number_is() {
    type Bend = fn(&mut Reply);
    let bends: [Bend; 2] = [
        |reply| reply.remembered = None,
        |reply| {
            reply.remembered = reply.remembered.map(|known| MemoryHead { counter: known.counter + 1, ..known });
        },
    ];
    for bend in bends {
        let mut signer = unknown(real(1, PLATFORM, bend));
        for _ in 0..2 {
            assert_eq!(doubt_of(signer.status()), "signer_memory_unproven");
        }
    }
}

/// A place of a journal that goes on.
fn row(seq: u64, before: Option<u64>) -> ports::Fence {
    let head = |seq: u64| Digest([seq as u8; 32]);
    let known = before.map_or(Place::START, |seq| Place { seq: Seq(seq), hash: head(seq) });
    ports::Fence { platform: PLATFORM, epoch: Epoch(1), seq: Seq(seq), head: head(seq), time: NOW, known }
}

#[test]
fn an_old_memory_that_was_written_on_is_refused_by_every_node_and_by_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    // Two nodes over one journal, and a command line; each has its own handle on what is known.
    let mut north = keeping(&kept(&folder), real(1, PLATFORM, |_| ()));
    for plan in 1..=4 {
        let before = (plan > 1).then_some(plan - 1);
        assert!(matches!(north.void_plan(&row(plan, before), PlanId(plan)), Ok(SignerAnswer::Voided { .. })));
    }
    // The same signer with its memory as it was in the beginning; somebody else has it decide, until it has overtaken.
    let old = |decisions: u64| {
        let mut old = real(1, PLATFORM, |_| ());
        for seq in 1..=decisions {
            let known = (seq > 1).then(|| KnownRow { seq: Seq(seq - 1), hash: Digest([seq as u8 - 1; 32]) });
            let request = CheckpointHead { fence: fence(&row(seq, None)), known, memory: None };
            let reply = old.ask(&Request::CheckpointHead(request)).expect("it answers");
            assert!(matches!(reply.outcome, Outcome::Checkpoint(_)), "{reply:?}");
        }
        old
    };
    for (decisions, code) in [
        (0, "signer_memory_behind"),
        (3, "signer_memory_behind"),
        (4, "signer_memory_conflict"),
        (5, "signer_memory_conflict"),
        (30, "signer_memory_conflict"),
    ] {
        let mut south = keeping(&kept(&folder), old(decisions)).serving(PLATFORM);
        let at = row(decisions + 1, Some(decisions).filter(|seq| *seq > 0));
        assert_eq!(doubt_of(south.status()), code, "after {decisions}");
        assert_eq!(doubt_of(south.void_plan(&at, PlanId(9))), code);
        assert_eq!(doubt_of(south.show(&at)), code);
        assert_eq!(doubt_of(south.highest()), code, "as the command line begins");
        assert_eq!(doubt_of(south.checkpoint(fence(&at), known_row(&at))), code, "as it goes on");
        // The same swap under a node that runs, which has met it long ago.
        let whole = std::mem::replace(&mut north.transport, old(decisions));
        assert_eq!(doubt_of(north.void_plan(&at, PlanId(9))), code);
        north.transport = whole;
        north.status().expect("the whole memory is believed as ever");
    }
    // What a command line has it decide is known to the nodes at once, and the other way round.
    let mut line = RemoteSigner::keeping(&mut north.transport, Box::new(kept(&folder))).serving(PLATFORM);
    let at = row(5, Some(4));
    line.checkpoint(fence(&at), known_row(&at)).expect("it answers").expect("it signs");
    drop(line);
    assert_eq!(kept(&folder).load().expect("readable").map(|known| known.head.counter), Some(5));
    let mut south = keeping(&kept(&folder), old(4)).serving(PLATFORM);
    assert_eq!(doubt_of(south.status()), "signer_memory_behind");
    north.status().expect("it goes on");
}

/// A transport that is lent.
impl Transport for &mut Between {
    fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
        (**self).ask(request)
    }
}

#[test]
fn another_nodes_foreign_signer_is_refused_and_its_void_receipts_count_for_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut north = keeping(&kept(&folder), real(1, PLATFORM, |_| ()));
    north.show(&row(1, None)).expect("shown");
    // Another seed, and the memory of the first: only the key tells them apart.
    let mut south = keeping(&kept(&folder), real(2, PLATFORM, |_| ())).serving(PLATFORM);
    for _ in 0..2 {
        assert_eq!(doubt_of(south.void_plan(&row(2, Some(1)), PlanId(7))), "signer_key_changed");
        assert_eq!(doubt_of(south.highest()), "signer_key_changed");
    }
    // Under a node that has met the right one, the receipt itself tells: the key that is known did not sign it.
    let mut foreign = real(2, PLATFORM, |_| ());
    let shown = Request::CheckpointHead(CheckpointHead { fence: fence(&row(1, None)), known: None, memory: None });
    foreign.ask(&shown).expect("it decides what the first has decided");
    north.transport = foreign;
    assert_eq!(doubt_of(north.void_plan(&row(2, Some(1)), PlanId(7))), "void_receipt_unsigned");
    assert_eq!(kept(&folder).load().expect("readable").map(|known| known.head.counter), Some(1), "and it is not kept");
}

#[test]
fn of_two_nodes_that_meet_a_signer_first_one_learns_and_the_other_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut north, mut south) =
        (keeping(&kept(&folder), real(1, PLATFORM, |_| ())), keeping(&kept(&folder), real(2, PLATFORM, |_| ())));
    north.status().expect("the first contact of all");
    assert_eq!(doubt_of(south.status()), "signer_key_changed");
    let other = keeping(&kept(&tempfile::tempdir().expect("a folder")), real(1, OTHER_PLATFORM, |_| ()));
    let mut other = other.serving(PLATFORM);
    assert_eq!(doubt_of(other.status()), "signer_platform_mismatch", "it is not taken for the first");
}

#[test]
fn a_record_that_cant_be_read_stops_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = kept(&folder);
    let mut signer = keeping(&record, real(1, PLATFORM, |_| ()));
    signer.status().expect("the first contact");
    let file = rusqlite::Connection::open(folder.path().join("signer.sqlite3")).expect("it opens");
    file.execute("UPDATE signer SET hash = x'00'", []).expect("damaged");
    for _ in 0..2 {
        assert_eq!(signer.status().map_err(|fault| fault.code()).err(), Some("store_malformed"));
    }
    file.execute("UPDATE signer SET hash = zeroblob(32), public_key = zeroblob(32)", []).expect("written");
    assert_eq!(doubt_of(keeping(&record, real(1, PLATFORM, |_| ())).status()), "signer_key_changed");
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
    let keys = KeyStore::demo(Seed::from_bytes(&[seed; 64]));
    let signer = session::Signer::new(&keys, policy, memory).unwrap_or_else(|error| panic!("{}", error.code()));
    Between { signer, bend }
}

fn at(platform: [u8; 16]) -> ports::Fence {
    ports::Fence { platform, epoch: Epoch(1), seq: Seq(5), head: Digest([5; 32]), time: NOW, known: Place::START }
}

fn keeping(record: &SharedRecord, transport: Between) -> RemoteSigner<Between> {
    RemoteSigner::keeping(transport, Box::new(record.clone()))
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
    let reply =
        other.handle(&Request::VoidPlan(VoidPlan { fence, plan, known: None, memory: None }), NOW).expect("voided");
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
        let mut signer = unknown(real(1, PLATFORM, bend));
        assert_eq!(doubt_of(signer.void_plan(&at(PLATFORM), PlanId(7))), code, "case {number}");
    }
    let mut signer = unknown(real(1, PLATFORM, |reply| with_receipt(reply, |receipt| receipt.plan = PlanId(8))));
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
    let mut signer = unknown(real(1, OTHER_PLATFORM, |_| ()));
    assert_eq!(doubt_of(signer.void_plan(&at(PLATFORM), PlanId(7))), "signer_platform_mismatch");
}

#[test]
fn a_signer_that_speaks_otherwise_is_not_believed() {
    let mut signer = unknown(real(1, PLATFORM, |reply| {
        if let Outcome::Welcome(_) = reply.outcome {
            reply.outcome =
                Outcome::Status(Status { highest: None, plans_signed: 0, plans_voided: 0, wallets: Vec::new() });
        }
    }));
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

//! Checkpoints: the signer's signature over the journal's head, kept outside the database. Whoever has one can tell a journal that
//! was rewritten, however well its hashes fit, from the one that was signed.

use super::Common;
use super::ledger::unreadable;
use super::show::record;
use super::verify::{Findings, Missing, Why, sentence};
use crate::api::code;
use crate::config::Config;
use crate::failure::Failure;
use crate::platform::stores::open_journal_reader;
use crate::signing::known::open_record;
use crate::signing::shown::{ShownFault, ShownFile};
use crate::signing::{RemoteSigner, Transport, replace};
use clap::Args;
use florin_core::hex;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{Journal, ReadError};
use florin_engine::load::Place;
use florin_engine::ports::SignerFault;
use florin_signer::client::Client;
use florin_signer::protocol::{Checkpoint, Fence, KnownRow};
use florin_signer::refusal::Refusal;
use florin_store::archive::list;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The ending of a checkpoint's file.
const ENDING: &str = "checkpoint.json";

/// How long the signer may take: it signs one hash.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is asked at most: the platform shows it a row now and then, and not each time.
const TRIES_MAX: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The folder to write into; copy it somewhere that the database's administrators can't reach
    #[arg(default_value = "checkpoints")]
    folder: PathBuf,
}

/// Has the signer sign the head, and writes what it signed.
pub(crate) fn take(args: &CheckpointArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::read(&common.config)?;
    let mut journal = open_journal_reader(&config)?;
    let shown = ShownFile::by_checkpoint(&config.data());
    // Before anything is signed: it might name a later row.
    shown.last().map_err(unkept)?;
    let client = Client::new(config.path(&config.signer.socket), TIMEOUT);
    let kept = open_record(&config)?;
    let mut signer = RemoteSigner::keeping(client, Box::new(kept)).serving(config.platform_id());
    let checkpoint = sign(&mut signer, journal.as_mut(), config.platform_id())?;
    let fence = checkpoint.fence;
    let path = args.folder.join(format!("{:012}.{ENDING}", fence.seq.0));
    let written = std::fs::create_dir_all(&args.folder).and_then(|()| replace(&path, text(&checkpoint).as_bytes()));
    // The platform holds its journal against the last one, whatever becomes of the folder and of the signer.
    let kept = shown.raise(Place { seq: fence.seq, hash: fence.head });
    written.map_err(|fault| {
        Failure::new("export_unwritable", format!("{} can't be written", path.display())).because(fault)
    })?;
    kept.map_err(unkept)?;
    let shown = json!({
        "seq": fence.seq.0,
        "head": fence.head.to_string(),
        "signer_key": hex::encode(&checkpoint.key),
        "file": path.display().to_string(),
    });
    record(out, common.json, &shown)
}

/// The signer's signature over the head. Where it says that it has seen a later row, the platform may have shown it one in the
/// meantime, and it is asked again about what stands then.
fn sign<T: Transport>(
    signer: &mut RemoteSigner<T>,
    journal: &mut dyn Journal,
    platform: [u8; 16],
) -> Result<Checkpoint, Failure> {
    let mut tries = 1;
    loop {
        let known = known(signer, journal)?;
        let fence = head(platform, journal)?;
        match signer.checkpoint(fence, known).map_err(no_answer)? {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(refused) if refused.reason == Refusal::FenceBehind && tries < TRIES_MAX => tries += 1,
            Err(refused) => {
                let said = format!("the signer refuses to sign the head: {}", refused.reason);
                return Err(Failure::new(refused.reason.code(), said));
            }
        }
    }
}

fn unkept(fault: ShownFault) -> Failure {
    let way_out = code::way_out(fault.code()).unwrap_or("see its code in errors.md");
    Failure::new(fault.code(), "what the signer signs can't be recorded").because(fault).hint(way_out)
}

/// The signer gave no answer, or is not the one that is known: what it signs then proves nothing, and is not asked for.
fn no_answer(fault: SignerFault) -> Failure {
    let code = fault.code();
    let way_out = code::way_out(code);
    match fault {
        SignerFault::Transport(_) | SignerFault::Timeout => {
            Failure::new(code, "the signer does not answer").because(fault).hint("start it with 'florin signer serve'")
        }
        SignerFault::Unrecorded { .. } | SignerFault::Malformed(_) | SignerFault::NotBelieved { .. } => {
            Failure::new(code, "the signer is not asked for a checkpoint")
                .because(fault)
                .hint(way_out.unwrap_or("see its code in errors.md, and that signer and platform are of one build"))
        }
    }
}

/// What the journal has at the last row that the signer was shown: by it the signer knows an old copy that was written on.
fn known<T: Transport>(signer: &mut RemoteSigner<T>, journal: &mut dyn Journal) -> Result<Option<KnownRow>, Failure> {
    let highest = signer.highest().map_err(no_answer)?;
    let Some(seq) = highest.map(|fence| fence.seq).filter(|seq| *seq > Seq::START) else { return Ok(None) };
    let rows = journal.read(Seq(seq.0 - 1), 1).map_err(unreadable)?;
    Ok(rows.first().filter(|row| row.seq == seq).map(|row| KnownRow { seq, hash: row.hash }))
}

fn head(platform: [u8; 16], journal: &mut dyn Journal) -> Result<Fence, Failure> {
    let empty = || Failure::new("journal_empty", "an empty journal has no head to sign");
    let (seq, head) = journal.head().map_err(unreadable)?.ok_or_else(empty)?;
    let rows = journal.read(Seq(seq.0 - 1), 1).map_err(unreadable)?;
    let row = rows.first().filter(|row| row.hash == head).ok_or_else(empty)?;
    Ok(Fence { platform, epoch: row.epoch, seq, head, time: row.time })
}

fn text(checkpoint: &Checkpoint) -> String {
    let fence = &checkpoint.fence;
    let value = json!({
        "platform": hex::encode(&fence.platform),
        "epoch": fence.epoch.0,
        "seq": fence.seq.0,
        "head": fence.head.to_string(),
        "time_ms": fence.time.0,
        "signer_key": hex::encode(&checkpoint.key),
        "signature": hex::encode(&checkpoint.signature),
    });
    format!("{value:#}\n")
}

fn parse(text: &str) -> Option<Checkpoint> {
    fn bytes<const N: usize>(value: &Value, name: &str) -> Option<[u8; N]> {
        hex::decode(value.get(name)?.as_str()?)?.try_into().ok()
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let number = |name: &str| value.get(name)?.as_u64();
    let fence = Fence {
        platform: bytes(&value, "platform")?,
        epoch: Epoch(number("epoch")?),
        seq: Some(Seq(number("seq")?)).filter(|seq| seq.is_of_row())?,
        head: Digest(bytes(&value, "head")?),
        time: LedgerTime(number("time_ms")?),
    };
    Some(Checkpoint { fence, key: bytes(&value, "signer_key")?, signature: bytes(&value, "signature")? })
}

/// The signer's key as a person has noted it.
///
/// # Errors
/// `signer_key_invalid`.
pub(super) fn parse_key(text: &str) -> Result<[u8; 32], Failure> {
    let bytes = hex::decode(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Failure::new("signer_key_invalid", "a signer's key is 64 hexadecimal digits"))
}

/// Holds every checkpoint of a folder against the journal. `key` is the signer's, as it was noted when it was made; without it any
/// signer is believed, which shows damage and no fraud.
pub(super) fn compare(
    config: &Config,
    journal: &mut dyn Journal,
    folder: &Path,
    key: Option<[u8; 32]>,
    findings: &mut Findings,
) {
    let paths = match list(folder, ENDING) {
        Ok(paths) if paths.is_empty() => {
            return findings.misses(Missing::Checkpoints, format!("there is none in {}", folder.display()));
        }
        Ok(paths) => paths,
        Err(fault) => return findings.misses(Missing::Checkpoints, format!("{}: {fault}", folder.display())),
    };
    for path in paths {
        let name = format!("checkpoint {}", path.file_name().unwrap_or_default().to_string_lossy());
        let text = std::fs::read_to_string(&path).map_err(|fault| format!("it can't be read: {fault}"));
        let place = text.and_then(|text| judge(config, &text, key));
        match place.map(|signed| (look_up(journal, signed.place), signed.vouched)) {
            Ok((Ok(Ok(detail)), vouched)) => findings.agrees(name, format!("{detail}{vouched}")),
            Ok((Ok(Err(detail)), _)) | Err(detail) => findings.differs(name, Why::CheckpointDiffers, detail),
            Ok((Err(fault), _)) => findings.hinders(&name, "journal_unreadable_now", sentence(&fault)),
        }
    }
}

/// What a checkpoint that is the signer's says.
struct Signed {
    place: Place,
    /// Whose it is, where nobody said who the signer is.
    vouched: String,
}

fn judge(config: &Config, text: &str, key: Option<[u8; 32]>) -> Result<Signed, String> {
    let Some(checkpoint) = parse(text) else { return Err("it can't be read".into()) };
    let fence = checkpoint.fence;
    if fence.platform != config.platform_id() {
        return Err("it is of another platform".into());
    }
    if !checkpoint.is_by(&key.unwrap_or(checkpoint.key)) {
        return Err("it is not signed by the signer's key".into());
    }
    let vouched = match key {
        Some(_) => String::new(),
        None => format!(", by the key {}, for which nobody vouched: see --signer-key", hex::encode(&checkpoint.key)),
    };
    Ok(Signed { place: Place { seq: fence.seq, hash: fence.head }, vouched })
}

/// Looks the signed row up. The inner verdict is of the journal as it can be read.
fn look_up(journal: &mut dyn Journal, place: Place) -> Result<Result<String, String>, ReadError> {
    let Place { seq, hash } = place;
    let rows = journal.read(Seq(seq.0 - 1), 1)?;
    Ok(match rows.first() {
        Some(row) if row.hash == hash && row.seq == seq => Ok(format!("row {seq} is the one that was signed")),
        Some(_) => Err(format!("row {seq} is not the one that was signed")),
        None => Err(format!("row {seq} is missing")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::known::Remembered;
    use florin_chain::bitcoin::mnemonic::Seed;
    use florin_core::journal::Row;
    use florin_signer::keystore::KeyStore;
    use florin_signer::memory::Memory;
    use florin_signer::policy::Policy;
    use florin_signer::protocol::{CheckpointHead, Outcome, Reply, Request};
    use florin_signer::session;
    use florin_store::memory::MemoryJournal;

    const PLATFORM: [u8; 16] = [0x11; 16];
    const NOW: LedgerTime = LedgerTime(1_800_000_000_000);

    /// A real signer to whom a platform shows its newest row as often as this says, each time before a checkpoint is asked for.
    struct Busy {
        signer: session::Signer,
        journal: MemoryJournal,
        shows: u32,
        asked: u32,
    }

    impl Busy {
        fn new(journal: MemoryJournal, shows: u32) -> Busy {
            let text = format!("platform = \"{}\"\n", florin_core::id::CommandId(PLATFORM));
            let policy = Policy::parse(&text).expect("a policy without wallets");
            let memory = Memory::volatile(PLATFORM, [9; 16]).expect("a memory");
            let keys = KeyStore::demo(Seed::from_bytes(&[1; 64]));
            let signer = session::Signer::new(&keys, policy, memory).unwrap_or_else(|error| panic!("{}", error.code()));
            Busy { signer, journal, shows, asked: 0 }
        }

        fn answer(&mut self, request: &Request) -> Reply {
            self.signer.handle(request, NOW).expect("its memory is sound")
        }

        /// The platform appends a row and shows it.
        fn show(&mut self) {
            let before = grow(&mut self.journal);
            let fence = head(PLATFORM, &mut self.journal).expect("it has a head");
            let request = CheckpointHead { fence, known: before, memory: None };
            let reply = self.answer(&Request::CheckpointHead(request));
            assert!(matches!(reply.outcome, Outcome::Checkpoint(_)), "{reply:?}");
        }
    }

    impl Transport for Busy {
        fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
            if matches!(request, Request::CheckpointHead(_)) {
                self.asked += 1;
                if self.shows > 0 {
                    self.shows -= 1;
                    self.show();
                }
            }
            Ok(self.answer(request))
        }
    }

    /// Appends a row, and says which was the last one.
    fn grow(journal: &mut MemoryJournal) -> Option<KnownRow> {
        let last = journal.head().expect("it answers");
        let (seq, hash) = last.unwrap_or((Seq::START, Digest::ZERO));
        journal.append(&Row::seal(seq.next(), Epoch(1), NOW, hash, Vec::new())).expect("it fits");
        last.map(|(seq, hash)| KnownRow { seq, hash })
    }

    /// What comes of a checkpoint while a platform shows the signer this many rows, and how often the signer was asked for it.
    fn signed(shows: u32) -> (Result<Seq, &'static str>, u32) {
        let mut journal = MemoryJournal::default();
        let mut busy = Busy::new(journal.clone(), shows);
        busy.show();
        let mut signer = RemoteSigner::keeping(&mut busy, Box::new(Remembered::default()));
        let signed = sign(&mut signer, &mut journal, PLATFORM);
        (signed.map(|signed| signed.fence.seq).map_err(|failure| failure.code()), busy.asked)
    }

    impl Transport for &mut Busy {
        fn ask(&mut self, request: &Request) -> Result<Reply, SignerFault> {
            (**self).ask(request)
        }
    }

    #[test]
    fn a_platform_that_shows_the_signer_a_row_in_between_hinders_no_checkpoint() {
        assert_eq!(signed(0), (Ok(Seq(1)), 1));
        assert_eq!(signed(1), (Ok(Seq(2)), 2));
        assert_eq!(signed(2), (Ok(Seq(3)), 3));
    }

    #[test]
    fn a_signer_that_is_ahead_each_time_is_asked_three_times_and_refuses() {
        assert_eq!(signed(3), (Err("fence_behind"), 3));
        assert_eq!(signed(99), (Err("fence_behind"), 3));
        // A journal that was set back: nobody shows anything.
        let mut whole = MemoryJournal::default();
        let mut busy = Busy::new(whole.clone(), 0);
        (0..4).for_each(|_| busy.show());
        let mut old = MemoryJournal::default();
        old.append(&whole.read(Seq::START, 1).expect("it answers")[0]).expect("it fits");
        let mut signer = RemoteSigner::keeping(&mut busy, Box::new(Remembered::default()));
        let refused = sign(&mut signer, &mut old, PLATFORM).expect_err("it is behind");
        assert_eq!((refused.code(), busy.asked), ("fence_behind", 3));
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_and_nothing_else_is() {
        let fence =
            Fence { platform: [1; 16], epoch: Epoch(2), seq: Seq(3), head: Digest([4; 32]), time: LedgerTime(5) };
        let checkpoint = Checkpoint { fence, key: [6; 32], signature: [7; 64] };
        let text = text(&checkpoint);
        assert_eq!(parse(&text), Some(checkpoint));
        for bad in ["", "{}", "[]", &text.replace("06", "6"), &text[..40]] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let of_row = |number: &str| parse(&text.replace("\"seq\": 3", &format!("\"seq\": {number}")));
        assert_eq!(of_row("9223372036854775807").map(|found| found.fence.seq), Some(Seq::MAX));
        for bad in ["-3", "0", "9223372036854775808", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(of_row(bad), None, "{bad}");
        }
    }
}

//! What is known of the signer, kept where every node reads it. It takes nothing that a signer says for true by itself, and forgets
//! nothing: a signer with another key, another memory or an older one is told by it, whichever node asks.

use super::evidence::Evidence;
use crate::config::{Config, StoreConfig};
use crate::failure::Failure;
use crate::platform::stores::maria_server;
use florin_core::wire::Message;
use florin_engine::ports::{Cause, SignerFault};
use florin_signer::protocol::MemoryHead;
use florin_store::fault::StoreFault;
use florin_store::signer_record::{SignerRecord, SqlSignerRecord};
use florin_store::site::Site;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

/// Where earlier builds kept the record, each node for itself.
const OLD_FILE: &str = "signer.head";

florin_core::message! {
    /// What is known of the signer: who it is, and where its memory was last seen. Who it is was learnt at the first contact of
    /// all, and holds from then on.
    #[derive(Copy)]
    pub struct KnownSigner {
        /// The head of its memory.
        1: head: MemoryHead,
        /// The platform that it serves.
        2: platform: [u8; 16],
        /// The public key of its void receipts and checkpoints.
        3: key: [u8; 32],
    }
}

impl KnownSigner {
    fn of(record: SignerRecord) -> KnownSigner {
        let SignerRecord { platform, key, memory, counter, hash } = record;
        KnownSigner { head: MemoryHead { memory, counter, hash }, platform, key }
    }

    pub(crate) fn record(&self) -> SignerRecord {
        let KnownSigner { head: MemoryHead { memory, counter, hash }, platform, key } = *self;
        SignerRecord { platform, key, memory, counter, hash }
    }
}

/// Why a signer is not believed, beyond what is wrong with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It serves another platform than it did.
    #[error("it serves another platform than before")]
    PlatformChanged,
    /// It serves another platform than the one that asks.
    #[error("it serves another platform than this one")]
    PlatformMismatch,
    /// Its key is not the one that is known.
    #[error("it has another key than before")]
    KeyChanged,
    /// One was met before, and what was known of it is gone: whoever answers now could be anybody, with any memory.
    #[error("one was met before, and the record of it is gone")]
    RecordLost,
    /// Its word that a plan is given up is for another platform.
    #[error("its void receipt is for another platform")]
    ReceiptForeign,
    /// Its word that a plan is given up is not signed by the key that is known.
    #[error("its void receipt is not signed by its key")]
    ReceiptUnsigned,
}

impl Doubt {
    /// The stable code of this doubt.
    pub fn code(self) -> &'static str {
        match self {
            Doubt::PlatformChanged => "signer_platform_changed",
            Doubt::PlatformMismatch => "signer_platform_mismatch",
            Doubt::KeyChanged => "signer_key_changed",
            Doubt::RecordLost => "signer_record_lost",
            Doubt::ReceiptForeign => "void_receipt_foreign",
            Doubt::ReceiptUnsigned => "void_receipt_unsigned",
        }
    }

    pub(super) fn fault(self) -> SignerFault {
        SignerFault::NotBelieved { code: self.code(), what: self.to_string() }
    }
}

/// Why the record can't be read or written: then nothing is asked, since a signer that forgot could not be told.
#[derive(Debug, thiserror::Error)]
#[error("the record of the signer does not answer")]
pub struct KeepFault {
    /// The stable code of what is wrong below.
    pub code: &'static str,
    /// What is wrong.
    #[source]
    pub cause: Cause,
}

impl From<StoreFault> for KeepFault {
    fn from(fault: StoreFault) -> KeepFault {
        KeepFault { code: fault.code(), cause: fault.into() }
    }
}

impl From<KeepFault> for SignerFault {
    fn from(fault: KeepFault) -> SignerFault {
        SignerFault::Unrecorded { code: fault.code, cause: fault.into() }
    }
}

/// What is known of the signer, for whoever asks it.
pub trait SignerKeeper: Send {
    /// What stands, if anything.
    ///
    /// # Errors
    /// [`KeepFault`].
    fn load(&mut self) -> Result<Option<KnownSigner>, KeepFault>;
    /// Makes a record durable where nothing stands, or an earlier place of the same memory. What stands then comes back.
    ///
    /// # Errors
    /// [`KeepFault`].
    fn keep(&mut self, known: &KnownSigner) -> Result<KnownSigner, KeepFault>;
    /// Whether something beside this record shows that a signer was met before. A record with nothing beside it knows of none.
    ///
    /// # Errors
    /// [`KeepFault`].
    fn was_met(&mut self) -> Result<bool, KeepFault> {
        Ok(false)
    }
}

/// What is known of the signer, or nothing where whoever answers is the first one of all.
pub(super) fn known_or_first(keeper: &mut dyn SignerKeeper) -> Result<Option<KnownSigner>, SignerFault> {
    let known = keeper.load()?;
    if known.is_some() || !keeper.was_met()? {
        return Ok(known);
    }
    // Another node may have met it a moment ago, and shown it a row.
    keeper.load()?.map(Some).ok_or_else(|| Doubt::RecordLost.fault())
}

/// A record that lasts as long as this value and its clones: for simulations and tests.
#[derive(Debug, Clone, Default)]
pub struct Remembered(Arc<Mutex<Option<KnownSigner>>>);

impl SignerKeeper for Remembered {
    fn load(&mut self) -> Result<Option<KnownSigner>, KeepFault> {
        Ok(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&mut self, known: &KnownSigner) -> Result<KnownSigner, KeepFault> {
        let mut stands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = |stands: &KnownSigner| {
            let is_same =
                (stands.platform, stands.key, stands.head.memory) == (known.platform, known.key, known.head.memory);
            !is_same || stands.head.counter >= known.head.counter
        };
        if !stands.as_ref().is_some_and(is_taken) {
            *stands = Some(*known);
        }
        Ok(stands.unwrap_or(*known))
    }
}

/// The record beside the journal. Clones share its connection.
#[derive(Debug, Clone)]
pub struct SharedRecord(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    record: SqlSignerRecord,
    /// What failed, where nobody knows any more what is durable.
    failed: Option<&'static str>,
    /// What shows that a signer was met, where the record is gone.
    evidence: Option<Evidence>,
}

impl SharedRecord {
    /// The record at a site, with nothing beside it.
    ///
    /// # Errors
    /// Where it can't be opened.
    pub fn at(site: &Site) -> Result<SharedRecord, StoreFault> {
        SharedRecord::beside(site, None)
    }

    fn beside(site: &Site, evidence: Option<Evidence>) -> Result<SharedRecord, StoreFault> {
        let record = site.signer_record()?;
        Ok(SharedRecord(Arc::new(Mutex::new(Shared { record, failed: None, evidence }))))
    }

    /// Puts a record in place of whatever stands: a person has decided.
    pub(crate) fn replace(&mut self, known: &KnownSigner) -> Result<(), KeepFault> {
        self.locked(|record| record.replace(&known.record()))
    }

    /// After a failed write to the disk the record is not believed before a restart: it may show what is not durable.
    fn locked<A>(&self, work: impl FnOnce(&mut SqlSignerRecord) -> Result<A, StoreFault>) -> Result<A, KeepFault> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = shared.failed {
            return Err(KeepFault {
                code,
                cause: "the disk failed before; what it holds is known after a restart".into(),
            });
        }
        work(&mut shared.record).map_err(|fault| {
            shared.failed = Some(fault.code()).filter(|_| fault.is_fatal());
            fault.into()
        })
    }
}

impl SignerKeeper for SharedRecord {
    fn load(&mut self) -> Result<Option<KnownSigner>, KeepFault> {
        Ok(self.locked(SqlSignerRecord::last)?.map(KnownSigner::of))
    }

    fn keep(&mut self, known: &KnownSigner) -> Result<KnownSigner, KeepFault> {
        Ok(KnownSigner::of(self.locked(|record| record.keep(&known.record()))?))
    }

    fn was_met(&mut self) -> Result<bool, KeepFault> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.evidence.as_mut().map_or(Ok(false), Evidence::was_met)
    }
}

/// The record that the configuration's journal goes with. What an earlier build kept in this node's folder is taken over.
///
/// # Errors
/// The store's codes, `signer_head_unreadable`, `signer_head_differs`.
pub(crate) fn open_record(config: &Config) -> Result<SharedRecord, Failure> {
    let site = match &config.store {
        StoreConfig::Sqlite => Site::Folder(config.data()),
        StoreConfig::Mariadb { url_file, prefix, .. } => Site::Server(maria_server(config, url_file, prefix)?),
    };
    let mut record = SharedRecord::beside(&site, Some(Evidence::of(config))).map_err(|fault| {
        Failure::new(fault.code(), "the record of what is known of the signer can't be opened").because(fault)
    })?;
    take_over(config, &mut record)?;
    Ok(record)
}

fn take_over(config: &Config, record: &mut SharedRecord) -> Result<(), Failure> {
    let file = config.data().join(OLD_FILE);
    let unreadable = |fault: Cause| {
        Failure::new("signer_head_unreadable", format!("{} can't be read", file.display()))
            .because(std::io::Error::other(fault))
            .hint("an earlier build kept there how far the signer's memory was known; restore it, or remove it once the signer is known to be whole")
    };
    let known = match std::fs::read(&file) {
        Ok(bytes) => KnownSigner::decode(&bytes).map_err(|fault| unreadable(fault.into()))?,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(()),
        Err(fault) => return Err(unreadable(fault.into())),
    };
    let stands = record.keep(&known).map_err(|fault| unkept(&fault))?;
    let who = |known: &KnownSigner| (known.platform, known.key, known.head.memory);
    let is_other = who(&stands) != who(&known);
    if is_other || (stands.head.counter == known.head.counter && stands.head.hash != known.head.hash) {
        return Err(Failure::new(
            "signer_head_differs",
            format!("{} names another signer, or another memory of it, than the platform knows", file.display()),
        )
        .hint("find out which signer is the platform's, and remove the file once you know; 'florin signer accept' names the right one"));
    }
    match std::fs::remove_file(&file) {
        // Another process took it over at the same time, and kept the same.
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|fault| unreadable(fault.into())),
    }
}

/// A command that ends because what is known of the signer can't be read or kept.
pub(crate) fn unkept(fault: &KeepFault) -> Failure {
    Failure::new(fault.code, format!("what is known of the signer can't be read or kept: {}", fault.cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use florin_core::id::Digest;

    fn known(key: u8, counter: u64) -> KnownSigner {
        let head = MemoryHead { memory: [1; 16], counter, hash: Digest([counter as u8; 32]) };
        KnownSigner { head, platform: [7; 16], key: [key; 32] }
    }

    #[test]
    fn what_an_earlier_build_kept_is_taken_over_once_and_contradicts_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("florin.toml");
        std::fs::write(&path, config::fresh([7; 16])).expect("written");
        let config = Config::read(&path).expect("a configuration");
        std::fs::create_dir(config.data()).expect("made");
        let file = config.data().join(OLD_FILE);
        let opened = |old: Option<&[u8]>| {
            if let Some(old) = old {
                std::fs::write(&file, old).expect("written");
            }
            match open_record(&config) {
                Ok(mut record) => {
                    assert!(!file.exists(), "it is kept in one place");
                    Ok(record.load().expect("readable"))
                }
                Err(failure) => {
                    assert!(file.exists(), "a person removes it");
                    std::fs::remove_file(&file).expect("removed");
                    Err(failure.code())
                }
            }
        };
        assert_eq!(opened(None), Ok(None));
        assert_eq!(opened(Some(b"nonsense")), Err("signer_head_unreadable"));
        assert_eq!(opened(Some(&known(2, 5).encode())), Ok(Some(known(2, 5))));
        assert_eq!(opened(None), Ok(Some(known(2, 5))));
        assert_eq!(opened(Some(&known(2, 4).encode())), Ok(Some(known(2, 5))), "another node was behind");
        assert_eq!(opened(Some(&known(3, 6).encode())), Err("signer_head_differs"));
        let mut forked = known(2, 5);
        forked.head.hash = Digest([9; 32]);
        assert_eq!(opened(Some(&forked.encode())), Err("signer_head_differs"));
        assert_eq!(opened(None), Ok(Some(known(2, 5))));
    }

    #[test]
    fn nodes_that_take_it_over_at_the_same_time_all_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("florin.toml");
        std::fs::write(&path, config::fresh([7; 16])).expect("written");
        let config = Config::read(&path).expect("a configuration");
        std::fs::create_dir(config.data()).expect("made");
        // Each has a connection of its own, opened before: what is at stake is the file.
        let open = || open_record(&config).expect("nothing is to be taken over");
        let mut nodes: Vec<SharedRecord> = (0..4).map(|_| open()).collect();
        for counter in 1..=10 {
            std::fs::write(config.data().join(OLD_FILE), known(2, counter).encode()).expect("written");
            let start = std::sync::Barrier::new(nodes.len());
            std::thread::scope(|scope| {
                for record in &mut nodes {
                    let (start, config) = (&start, &config);
                    scope.spawn(move || {
                        start.wait();
                        take_over(config, record).expect("somebody takes it over");
                        assert_eq!(record.load().expect("readable"), Some(known(2, counter)));
                    });
                }
            });
            assert!(!config.data().join(OLD_FILE).exists());
        }
    }

    #[test]
    fn the_record_in_memory_keeps_what_the_one_in_a_table_keeps() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut table = SharedRecord::at(&Site::Folder(folder.path().to_path_buf())).expect("it opens");
        let mut memory = Remembered::default();
        let mut other = known(2, 9);
        other.head.memory = [5; 16];
        for record in [known(2, 0), known(2, 3), known(2, 1), known(3, 9), other, known(2, 3), known(2, 4)] {
            assert_eq!(table.keep(&record).expect("kept"), memory.keep(&record).expect("kept"), "{record:?}");
            assert_eq!(table.load().expect("readable"), memory.load().expect("readable"));
        }
        assert_eq!(table.load().expect("readable"), Some(known(2, 4)));
    }
}

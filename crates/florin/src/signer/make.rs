//! Makes a signer's folder, from a new seed or from known words: all of it or nothing. It must never replace a file, and never
//! leave keys behind whose words nobody saw.
//!
//! Everything is written and made durable in a folder of drafts first. Then the words are shown. Only then do the files get
//! their names, the keys last: a crash before that leaves drafts that nothing reads and that the next attempt removes.

use super::{Fresh, KEYS_FILE, MEMORY_FILE, POLICY_FILE, own_policy};
use crate::failure::Failure;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;
use florin_core::id::{CommandId, WalletId};
use florin_signer::keystore::{KeyStore, KeyStoreError, Purpose};
use florin_signer::memory::{Memory, MemoryError};
use florin_signer::policy::Policy;
use florin_signer::sealed::Passphrase;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The script kind of the policy's first wallet: taproot, whose signatures commit to all inputs' amounts.
pub(super) const POLICY_SCRIPT: ScriptKind = ScriptKind::Tr;

/// The files in the order in which they get their names: keys last, so that a signer with keys has everything.
const FILES: [&str; 3] = [POLICY_FILE, MEMORY_FILE, KEYS_FILE];

/// What the names of folders of drafts begin with.
const DRAFTS: &str = ".making-";

/// What the names of a database's other files end with, beside its own.
const DATABASE_ENDINGS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The steps that can fail, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Folder,
    Drafts,
    Policy,
    Memory,
    Keys,
    Place(&'static str),
    Sync,
}

/// What is asked before each step: a test lets each of them fail.
pub(super) type Fault<'a> = &'a dyn Fn(Step) -> std::io::Result<()>;

/// A folder that is being made. Unless it is finished, everything that was made is removed again.
pub(super) struct Making<'a> {
    dir: PathBuf,
    drafts: PathBuf,
    /// Folders that were not there, the outermost first.
    folders: Vec<PathBuf>,
    /// Files that have a draft.
    drafted: Vec<&'static str>,
    /// Files that got their names.
    placed: Vec<PathBuf>,
    fault: Fault<'a>,
    is_finished: bool,
}

fn unwritable(dir: &Path, fault: std::io::Error) -> Failure {
    Failure::new("signer_folder", format!("{} can't be written", dir.display())).because(fault)
}

impl<'a> Making<'a> {
    /// Begins in a folder, which is made where it is missing.
    pub(super) fn begin(dir: &Path, fault: Fault<'a>) -> Result<Making<'a>, Failure> {
        let mut making = Making {
            dir: dir.to_path_buf(),
            drafts: dir.to_path_buf(),
            folders: Vec::new(),
            drafted: Vec::new(),
            placed: Vec::new(),
            fault,
            is_finished: false,
        };
        making.make_folders().map_err(|fault| unwritable(dir, fault))?;
        super::refuse_exposed_folder(dir)?;
        Ok(making)
    }

    fn make_folders(&mut self) -> std::io::Result<()> {
        let mut missing: Vec<PathBuf> = self.dir.ancestors().map(Path::to_path_buf).collect();
        missing.retain(|folder| !folder.as_os_str().is_empty() && folder.symlink_metadata().is_err());
        (self.fault)(Step::Folder)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        for folder in missing.into_iter().rev() {
            builder.create(&folder)?;
            self.folders.push(folder);
        }
        (self.fault)(Step::Drafts)?;
        sweep(&self.dir)?;
        let drafts = self.dir.join(format!("{DRAFTS}{}", uuid::Uuid::now_v7().simple()));
        builder.create(&drafts)?;
        self.drafts = drafts;
        Ok(())
    }

    /// Refuses where one of the files stands already, whatever it is.
    pub(super) fn refuse_existing(dir: &Path, names: &[&'static str]) -> Result<(), Failure> {
        let exists = |name: &str| names.contains(&name) && dir.join(name).symlink_metadata().is_ok();
        if exists(KEYS_FILE) {
            return Err(Failure::new("sealed_exists", format!("{} has keys already", dir.display()))
                .hint("they are left as they are; name another folder"));
        }
        if exists(POLICY_FILE) {
            return Err(Failure::new("policy_exists", format!("{} has a signer's policy already", dir.display()))
                .hint(
                    "remove it where no signer ever ran with it; otherwise 'florin signer restore' goes on with it",
                ));
        }
        if exists(MEMORY_FILE) {
            return Err(Failure::new("memory_exists", format!("{} has a signer's memory already", dir.display()))
                .hint(
                    "remove it where no signer ever ran with it; otherwise 'florin signer restore' goes on with it",
                ));
        }
        Ok(())
    }

    fn draft(&mut self, name: &'static str) -> PathBuf {
        self.drafted.push(name);
        self.drafts.join(name)
    }

    pub(super) fn write_policy(&mut self, text: &str) -> Result<(), Failure> {
        let path = self.draft(POLICY_FILE);
        let written = (self.fault)(Step::Policy).and_then(|()| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|fault| unwritable(&self.dir, fault))
    }

    pub(super) fn make_memory(&mut self, platform: [u8; 16]) -> Result<(), Failure> {
        let path = self.draft(MEMORY_FILE);
        let made = (self.fault)(Step::Memory).map_err(MemoryError::Io).and_then(|()| {
            // Closed at once: only then is all of it in the one file that gets a name.
            drop(Memory::create(&path, platform)?);
            File::open(&path).and_then(|file| file.sync_all()).map_err(MemoryError::Io)
        });
        made.map_err(|fault| Failure::new(fault.code(), "the signer's memory can't be made").because(fault))
    }

    /// Seals keys; `make` is told where.
    pub(super) fn make_keys<T>(&mut self, make: impl FnOnce(&Path) -> Result<T, KeyStoreError>) -> Result<T, Failure> {
        let path = self.draft(KEYS_FILE);
        (self.fault)(Step::Keys).map_err(|fault| unwritable(&self.dir, fault))?;
        make(&path).map_err(|fault| no_keys(&self.dir, fault))
    }

    /// Gives every draft its name. Nothing is replaced: a name is a second link to the draft, and the draft then goes.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let placed = self.place();
        self.is_finished = placed.is_ok();
        if self.is_finished {
            // Where drafts stay, the next attempt removes them; what has its name is whole either way.
            let _ = remove_drafts(&self.drafts);
        }
        placed.map_err(|fault| {
            let dir = self.dir.display();
            Failure::new("signer_unfinished", format!("not all files in {dir} got their names, and nothing was made"))
                .because(fault)
                .hint("words that were shown belong to no keys: discard them")
        })
    }

    fn place(&mut self) -> std::io::Result<()> {
        for name in FILES.into_iter().filter(|name| self.drafted.contains(name)) {
            (self.fault)(Step::Place(name))?;
            let path = self.dir.join(name);
            std::fs::hard_link(self.drafts.join(name), &path)?;
            self.placed.push(path);
        }
        (self.fault)(Step::Sync)?;
        File::open(&self.dir)?.sync_all()?;
        match self.folders.first().and_then(|folder| folder.parent()) {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            Some(_) => File::open(".")?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // What can't be removed stays for people to see: this can't tell anybody any more. Keys go first.
        for path in self.placed.iter().rev() {
            let _ = std::fs::remove_file(path);
        }
        if self.drafts != self.dir {
            let _ = remove_drafts(&self.drafts);
        }
        for folder in self.folders.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Removes the drafts of attempts that were cut short. One that still runs fails then, and says so.
fn sweep(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(DRAFTS.as_bytes()) && entry.file_type()?.is_dir() {
            remove_drafts(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder of drafts and in it nothing but what may be there: files and drafts of files.
fn remove_drafts(drafts: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(drafts)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = FILES.iter().any(|file| {
            let rest = name.strip_prefix(file);
            rest.is_some_and(|rest| DATABASE_ENDINGS.contains(&rest) || rest.ends_with(".new"))
        });
        if is_ours {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir(drafts)
}

fn no_keys(dir: &Path, fault: KeyStoreError) -> Failure {
    Failure::new(fault.code(), format!("no key store could be made in {}", dir.display())).because(fault)
}

/// Refuses where a folder has keys already, before anybody is asked for words.
pub(super) fn refuse_keys(dir: &Path) -> Result<(), Failure> {
    Making::refuse_existing(dir, &[KEYS_FILE])
}

/// What a signer is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) platform: [u8; 16],
    pub(super) network: Network,
    pub(super) purpose: Purpose,
}

/// Draws a seed and prepares key store, policy and memory. Nothing has its name before [`Making::finish`].
pub(super) fn prepare<'a>(
    dir: &Path,
    wanted: Wanted,
    passphrase: &Passphrase,
    fault: Fault<'a>,
) -> Result<(Making<'a>, Fresh), Failure> {
    if wanted.purpose == Purpose::Demo && wanted.network.is_main() {
        return Err(no_keys(dir, KeyStoreError::DemoKeys));
    }
    Making::refuse_existing(dir, &FILES)?;
    let mut making = Making::begin(dir, fault)?;
    making.write_policy(&policy_text(wanted.platform, wanted.network))?;
    making.make_memory(wanted.platform)?;
    let created = making.make_keys(|path| KeyStore::create(path, passphrase, wanted.purpose))?;
    let kit = created.store.kit(wanted.network, 0).map_err(|fault| no_keys(dir, fault))?;
    let entry = kit.entries.iter().find(|entry| entry.kind == POLICY_SCRIPT).expect("a kit has every kind");
    let fresh = Fresh {
        fingerprint: kit.fingerprint.to_string(),
        external: entry.external.clone(),
        internal: entry.internal.clone(),
        words: created.mnemonic,
    };
    Ok((making, fresh))
}

/// The words to restore, and the passphrase that belongs to them: empty where there is none. There is no `Debug`.
pub(super) struct Known<'a> {
    /// The words.
    pub(super) words: &'a Mnemonic,
    /// Their own passphrase.
    pub(super) words_passphrase: &'a str,
}

/// A wallet of the policy, as its keys make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RestoredWallet {
    /// Its id.
    pub(super) id: WalletId,
    /// Its network.
    pub(super) network: Network,
    /// What its addresses are.
    pub(super) script: ScriptKind,
    /// Its account number.
    pub(super) account: u32,
    /// The descriptor of receiving addresses.
    pub(super) external: String,
    /// The descriptor of change addresses.
    pub(super) internal: String,
}

/// Whether a file stood there before, or was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It stood there and is as it was.
    Kept,
    /// It was made anew.
    Made,
}

/// What a restored signer shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restored {
    /// The master key's fingerprint: to be compared with the one that was shown with the words.
    pub(super) fingerprint: String,
    /// The wallets of the policy.
    pub(super) wallets: Vec<RestoredWallet>,
    /// The policy.
    pub(super) policy: Origin,
    /// The memory.
    pub(super) memory: Origin,
}

/// Makes keys from known words. A policy and a memory that stand there are kept; what is missing of them is made: the policy
/// for what `wanted` says, which is asked only then.
///
/// # Errors
/// `sealed_exists`; the codes of `wanted`, and of a policy or memory that stands there; `keys_demo`; then as [`super::init`].
pub(super) fn restore(
    dir: &Path,
    wanted: impl FnOnce() -> Result<([u8; 16], Network), Failure>,
    passphrase: &Passphrase,
    purpose: Purpose,
    known: &Known<'_>,
    fault: Fault<'_>,
) -> Result<Restored, Failure> {
    Making::refuse_existing(dir, &[KEYS_FILE])?;
    let stands = |name| dir.join(name).symlink_metadata().is_ok();
    let (policy, text) = if stands(POLICY_FILE) {
        (own_policy(dir)?, None)
    } else {
        let (platform, network) = wanted()?;
        let text = policy_text(platform, network);
        let policy = Policy::parse(&text).expect("the policy that this build writes is one that it reads");
        (policy, Some(text))
    };
    let is_main = policy.wallets.values().any(|wallet| wallet.network.is_main());
    if purpose == Purpose::Demo && is_main {
        return Err(no_keys(dir, KeyStoreError::DemoKeys));
    }
    let has_memory = stands(MEMORY_FILE);
    if has_memory {
        Memory::open(&dir.join(MEMORY_FILE), policy.platform)
            .map_err(|fault| Failure::new(fault.code(), "the signer's memory can't be opened").because(fault))?;
    }
    let mut making = Making::begin(dir, fault)?;
    if let Some(text) = &text {
        making.write_policy(text)?;
    }
    if !has_memory {
        making.make_memory(policy.platform)?;
    }
    let (words, own) = (known.words, known.words_passphrase);
    let store = making.make_keys(|path| KeyStore::restore(path, passphrase, purpose, words, own))?;
    let (fingerprint, wallets) = wallets(&store, &policy).map_err(|fault| no_keys(dir, fault))?;
    making.finish()?;
    let origin = |is_kept| if is_kept { Origin::Kept } else { Origin::Made };
    Ok(Restored { fingerprint, wallets, policy: origin(text.is_none()), memory: origin(has_memory) })
}

/// What the keys make of a policy's wallets, and their fingerprint, which is the same on every network.
fn wallets(store: &KeyStore, policy: &Policy) -> Result<(String, Vec<RestoredWallet>), KeyStoreError> {
    let fingerprint = store.kit(Network::Regtest, 0)?.fingerprint.to_string();
    let mut wallets = Vec::with_capacity(policy.wallets.len());
    for (id, wallet) in &policy.wallets {
        let kit = store.kit(wallet.network, wallet.account)?;
        let entry = kit.entries.into_iter().find(|entry| entry.kind == wallet.script).expect("a kit has every kind");
        wallets.push(RestoredWallet {
            id: *id,
            network: wallet.network,
            script: wallet.script,
            account: wallet.account,
            external: entry.external,
            internal: entry.internal,
        });
    }
    Ok((fingerprint, wallets))
}

fn policy_text(platform: [u8; 16], network: Network) -> String {
    format!(
        include_str!("../policy.toml"),
        platform = CommandId(platform),
        network = network.name(),
        genesis = network.genesis_hash(),
        script = POLICY_SCRIPT.name(),
    )
}

#[cfg(test)]
mod tests;

//! The platform put together: stores, engine, watchers, workers, search tables, people. It starts and stops them as one, and
//! decides nothing about money.

mod chain;
mod people;
mod projector;
mod setup;
mod start;
pub mod status;
pub mod stores;
pub(crate) mod witnesses;

pub use chain::{ChainPart, NodePart};
pub use people::{NameAnswer, PeopleStore};
pub use setup::refuse_unready;
pub use stores::Stores;

use crate::api::leadership::LeaderView;
use crate::config::{Config, StoreConfig, Trust};
use crate::failure::Failure;
use crate::signing::RemoteSigner;
use crate::signing::known::open_record;
use crate::signing::shown::ShownFile;
use crate::signing::wallets::{AskWallets, ask_wallets};
use chain::Seating;
use florin_core::id::{Digest, Seq};
use florin_engine::follower::line::Rests;
use florin_engine::lanes::Ask;
use florin_engine::load::LoadError;
use florin_engine::ports::{Clock, Signer};
use florin_engine::read_model::FeedRow;
use florin_engine::runtime::{self, Engine, EngineConfig, EngineHandle, Fatal, HeartbeatPart, Told};
use florin_engine::snapshotter::SnapshotterConfig;
use florin_engine::writer::{CoreRules, Rules, SubmitRefusal, WriterConfig};
use florin_store::fail_stop::EXIT_STORAGE;
use florin_store::fault::StoreFault;
use florin_store::projection::Projection;
use projector::Projector;
use status::{ChainStatusView, Status};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stores::Head;
use witnesses::SignerMemory;

/// This build, in `EpochStarted`, snapshots and metrics.
pub const BUILD: &str = concat!("florin ", env!("CARGO_PKG_VERSION"));

/// The chain's id: one chain is followed.
pub const CHAIN: florin_core::id::ChainId = florin_core::id::ChainId(1);

/// Snapshots are due after so many rows where nothing else is said: some seconds of folding at a restart.
pub const SNAPSHOT_ROWS: u64 = 100_000;
/// Or after so long, in milliseconds: an hour.
const SNAPSHOT_MS: u64 = 60 * 60 * 1_000;

/// After how long a row that is not known to be written is an alarm, and the node no healthy one. A busy disk's worst syncs
/// take half a second, and a database's server starts again within seconds.
pub const APPEND_LATE_MS: u64 = 5_000;

/// How long the journal must be quiet before another node takes the lead over, where it can't see the leader's signs of
/// life. A leader ticks every second.
const QUIET_MS: u64 = 5_000;

/// How often a leader leaves a sign of life, and a follower looks: several times within [`CONFIRMED_MS`].
const BEAT_MS: u64 = 250;

/// How old a leader's last confirmed sign of life may be for account reads to be answered. A follower waits longer
/// ([`crate::config::TAKEOVER_MS_MIN`]).
pub const CONFIRMED_MS: u64 = 1_000;

/// How long a start may take to lead.
const LEAD_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether this process leads.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long the signer may take to answer.
const SIGNER_TIMEOUT: Duration = Duration::from_secs(30);

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Makes a way to the signer.
pub type ConnectSigner = Box<dyn FnOnce() -> Box<dyn Signer> + Send>;

/// Everything that a platform is put together from. The demo and tests bring their own; `florin serve` takes those that
/// the configuration names.
pub struct Parts {
    /// This node's name.
    pub node: String,
    /// The journal's id, where the journal is empty.
    pub platform: [u8; 16],
    /// SHA-256 of the configuration.
    pub config: Digest,
    /// How far nodes are believed.
    pub trust: Trust,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where everything is kept.
    pub stores: Stores,
    /// The chain that is followed; without one only the ledger runs.
    pub chain: Option<ChainPart>,
    /// The signer; without one nothing is signed.
    pub signer: Option<ConnectSigner>,
    /// Asks the signer which wallets it has keys for; without it no wallet that signs can be registered.
    pub wallets: Option<AskWallets>,
    /// The rules.
    pub rules: Box<dyn Rules>,
    /// Whether this node takes the lead as soon as it starts: where it is the only one.
    pub leads_at_once: bool,
    /// How long the journal must be quiet before this node takes the lead over, where it can't see the leader's signs of
    /// life; never where absent.
    pub lead_after_quiet_ms: Option<u64>,
    /// How long they must stand still before it does, where it can.
    pub takeover_ms: u64,
    /// How old a confirmation may be for account reads to be answered; shorter than `takeover_ms`.
    pub confirmed_ms: u64,
    /// After how many rows a snapshot is due.
    pub snapshot_rows: u64,
    /// Where others reach this node's interface, where the configuration says so.
    pub url: Option<String>,
    /// Hears why the process must end.
    pub fatal: Arc<dyn Fn(&Fatal) + Send + Sync>,
}

impl Parts {
    /// The parts that a configuration names. Nodes are asked for the block at which following starts.
    ///
    /// # Errors
    /// What is not ready for the network ([`refuse_unready`]); stores that can't be opened; a start that no node knows.
    pub fn of(config: &Config) -> Result<Parts, Failure> {
        refuse_unready(config)?;
        // First, with its folder's lock: a second process says so, whatever else is wrong.
        let mut stores = Stores::open(config)?;
        let chain = ChainPart::of(config)?;
        let socket = config.path(&config.signer.socket);
        let client = florin_signer::client::Client::new(socket, SIGNER_TIMEOUT);
        let record = open_record(config)?;
        let shown = ShownFile::by_platform(&config.data());
        stores.witnesses.push(Box::new(SignerMemory::new(config.path(&config.signer.socket), config.platform_id())));
        stores.witnesses.push(Box::new(shown.clone()));
        stores.witnesses.push(Box::new(ShownFile::by_checkpoint(&config.data())));
        let wallets = ask_wallets(client.clone(), record.clone(), config.platform_id());
        let remote = RemoteSigner::keeping(client, Box::new(record)).serving(config.platform_id()).recording(shown);
        let remote: Box<dyn Signer> = Box::new(remote);
        Ok(Parts {
            node: config.platform.node.clone(),
            platform: config.platform_id(),
            config: setup::config_hash(config),
            trust: config.bitcoin.trust,
            clock: Arc::new(SystemClock),
            stores,
            chain: Some(chain),
            signer: Some(Box::new(move || remote)),
            wallets: Some(wallets),
            rules: Box::new(CoreRules),
            leads_at_once: matches!(config.store, StoreConfig::Sqlite),
            lead_after_quiet_ms: Some(QUIET_MS),
            takeover_ms: config.takeover_ms(),
            confirmed_ms: CONFIRMED_MS,
            snapshot_rows: config.platform.snapshot_rows.unwrap_or(SNAPSHOT_ROWS),
            url: config.api.url.clone(),
            fatal: Arc::new(end_process),
        })
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Parts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Ends the process: what it would say or write next could not be relied on. The next one starts from the journal.
fn end_process(fatal: &Fatal) {
    let exit_code = exit_code(fatal);
    tracing::error!(code = fatal.code(), exit_code, "the process ends");
    std::process::exit(exit_code);
}

/// The exit code of a process whose engine can't go on, though its storage does what it should: `EX_SOFTWARE` of BSD's sysexits. It may
/// be started again at once: a start reads the journal before it appends anything, and where that is not in order it says so and ends.
pub const EXIT_ENGINE: i32 = 70;

/// The exit code for what ends the process. [`EXIT_STORAGE`] is for a failed storage alone: nobody may start anything on that disk
/// before somebody has looked at it.
pub(crate) fn exit_code(fatal: &Fatal) -> i32 {
    match fatal {
        Fatal::Storage(_) => EXIT_STORAGE,
        Fatal::Fold(_) | Fatal::OtherPlatform | Fatal::Contradicted(_) | Fatal::Panicked { .. } => EXIT_ENGINE,
    }
}

/// A running platform.
pub struct Platform {
    engine: EngineHandle,
    node: String,
    trust: Trust,
    chain_name: Option<String>,
    wallets: Option<AskWallets>,
    people: PeopleStore,
    head: Mutex<Head>,
    search: Mutex<Projection>,
    projector: Projector,
    /// What is known of nodes that hang.
    rests: Vec<Rests>,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Platform({:?})", self.engine)
    }
}

impl Platform {
    /// Starts everything, waits until this node leads, and defines assets and chain where the journal is empty.
    ///
    /// # Errors
    /// `journal_…` where no state can be loaded or the journal is not the one that was known, `not_leading` where this node can't take the lead in time and no other
    /// is expected to have it, `start_unknown` and `start_height_mismatch` where the nodes don't have the chain's start, `setup_refused`.
    pub fn start(parts: Parts) -> Result<Platform, Failure> {
        let Parts { node, platform, config, trust, clock, stores, chain, signer, rules, .. } = parts;
        let Stores { journal, history, past, lookup, feed, snapshots, projection, search, people, .. } = stores;
        let Stores { heartbeat, is_storage_failure, shown, left, witnesses, .. } = stores;
        let heartbeat = HeartbeatPart {
            store: heartbeat,
            url: parts.url,
            beat_ms: BEAT_MS,
            still_ms: parts.takeover_ms,
            confirmed_ms: parts.confirmed_ms,
        };
        let followed = chain.clone();
        let chain_name = chain.as_ref().map(ChainPart::name);
        let Seating { followers, workers, rests } = chain::seats(chain, signer.map(|connect| connect()), shown, left)?;
        let engine_config = EngineConfig {
            writer: WriterConfig { node: node.clone(), build: BUILD.to_owned(), config, platform_if_new: platform },
            snapshots: SnapshotterConfig {
                rows_max: parts.snapshot_rows,
                time_max_ms: SNAPSHOT_MS,
                build: BUILD.to_owned(),
            },
            is_first_to_lead: parts.leads_at_once,
            lead_after_quiet_ms: parts.lead_after_quiet_ms,
            follow_ms: 100,
            retry_ms: 20,
            append_late_ms: APPEND_LATE_MS,
            stop_ms: 10_000,
        };
        let runtime_parts = runtime::Parts {
            clock: Arc::clone(&clock),
            journal,
            history,
            past,
            snapshots,
            witnesses,
            rules,
            followers,
            workers,
            heartbeat: Some(heartbeat),
            is_storage_failure,
            fatal: parts.fatal,
        };
        let engine = Engine::start(runtime_parts, engine_config).map_err(|fault| match fault {
            LoadError::Contradicted(found) => witnesses::refusal(&found),
            LoadError::Unreadable(found) => witnesses::unread(found),
            LoadError::OtherPlatform { found } => other_platform(found),
            fault => Failure::new(fault.code(), "the journal can't be loaded").because(fault),
        })?;
        let projector = Projector::start(feed, projection)?;
        let platform = Platform {
            engine,
            node,
            trust,
            chain_name,
            wallets: parts.wallets,
            people: PeopleStore::new(people, clock),
            head: Mutex::new(Head::new(lookup)),
            search: Mutex::new(search),
            projector,
            rests,
        };
        platform.set_up(followed.as_ref(), parts.leads_at_once)?;
        Ok(platform)
    }

    /// Waits for the lead, and makes an empty journal ready.
    fn set_up(&self, chain: Option<&ChainPart>, is_alone: bool) -> Result<(), Failure> {
        let end = std::time::Instant::now() + LEAD_MAX;
        while !self.engine.is_leading() && std::time::Instant::now() < end {
            std::thread::sleep(LOOK_AGAIN);
            // With others about, one of them may lead, and has set up what there is to set up.
            if !is_alone && self.engine.read(setup::is_done) && !self.engine.is_leading() {
                return Ok(());
            }
        }
        if !self.engine.is_leading() {
            return Err(Failure::new("not_leading", "this node could not take the lead")
                .hint("another process may hold the journal; see the log"));
        }
        // Once the journal says where the chain starts, nobody is asked whether it does.
        if let Some(chain) = chain.filter(|_| !self.engine.read(|state| state.chains().contains_key(&CHAIN))) {
            start::confirm(chain)?;
        }
        setup::define(&self.engine, chain.map(|chain| chain.network), chain.map(|chain| &chain.start))
    }

    /// Looks at the durable state. Others wait meanwhile: look briefly.
    pub fn read<T>(&self, look: impl FnOnce(&florin_core::state::State) -> T) -> T {
        self.engine.read(look)
    }

    /// The last row that is folded.
    pub fn at(&self) -> Seq {
        self.engine.at()
    }

    /// Whether this node follows another one, or waits for the lead.
    pub fn is_following(&self) -> bool {
        self.engine.is_following()
    }

    /// Whether this node is sure enough that it knows the newest rows to say what customers have.
    pub fn is_current(&self) -> bool {
        self.engine.certainty().is_current
    }

    /// The other node that leads, where one is known to live.
    pub fn leader(&self) -> Option<LeaderView> {
        self.engine.leader().map(|beat| LeaderView { node: beat.node, url: beat.url })
    }

    /// Asks; `tell` hears the answer once.
    pub fn submit(&self, ask: Ask, tell: impl FnOnce(Result<Told, SubmitRefusal>) + Send + 'static) {
        self.engine.submit(ask, Box::new(tell));
    }

    /// Up to `count_max` rows after `after`.
    ///
    /// # Errors
    /// `journal_…` where the journal can't be read.
    pub fn feed(&self, after: Seq, count_max: usize) -> Result<Vec<FeedRow>, Failure> {
        let rows = self.engine.events_since(after, count_max);
        rows.map_err(|fault| Failure::new(fault.code(), "the journal can't be read").because(fault))
    }

    /// The names of customers.
    pub fn people(&self) -> &PeopleStore {
        &self.people
    }

    /// Asks the signer which wallets it has keys for; `None` where there is no signer.
    pub(crate) fn ask_wallets(&self) -> Option<AskWallets> {
        self.wallets.clone()
    }

    /// The engine's own handle.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// The hash of a durable row; `None` where the journal does not answer.
    pub fn row_hash(&self, seq: Seq) -> Option<Digest> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).hash(seq)
    }

    /// Asks the search tables, where finished records live on.
    ///
    /// # Errors
    /// The store's codes.
    pub fn search<T>(&self, ask: impl FnOnce(&mut Projection) -> Result<T, StoreFault>) -> Result<T, Failure> {
        let answer = ask(&mut self.search.lock().unwrap_or_else(PoisonError::into_inner));
        answer.map_err(|fault| Failure::new(fault.code(), "the search tables can't be read").because(fault))
    }

    /// Has the projector look for new rows now: somebody waits for them.
    pub fn hasten_projector(&self) {
        self.projector.hasten();
    }

    /// Up to where the search tables are written.
    pub fn projected(&self) -> Seq {
        self.projector.at()
    }

    /// How the platform stands.
    pub fn status(&self) -> Status {
        let engine = self.engine.status();
        let name = self.chain_name.clone().unwrap_or_default();
        let chains = engine.followers.iter().map(|follower| ChainStatusView::new(&name, follower)).collect();
        let mut alarms: Vec<florin_engine::alarm::Alarm> = engine.alarms.into_values().flatten().collect();
        alarms.extend(self.projector.alarm());
        Status {
            node: self.node.clone(),
            build: BUILD.to_owned(),
            leading: self.engine.is_leading(),
            answers_account_reads: engine.certainty.is_current,
            confirmed_age: engine.certainty.age,
            leader: engine.leader.map(|beat| LeaderView { node: beat.node, url: beat.url }),
            trust: match self.trust {
                Trust::Quorum => "quorum",
                Trust::Single => "single",
            },
            chains,
            projected: Some(self.projector.at()),
            waiting: engine.waiting,
            appending: engine.appending,
            snapshots: engine.snapshots,
            quarantined: engine.quarantined.len(),
            alarms,
        }
    }

    /// Stops: takes nothing more in and finishes what it has. Says whether all of it became durable in time.
    pub fn stop(&self) -> bool {
        // A node that hangs keeps nobody from ending.
        self.rests.iter().for_each(Rests::close);
        let done = self.engine.stop();
        self.projector.stop();
        done
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A journal keeps the id that it was begun with: intents that operators approved and the signer's memory name it.
fn other_platform(found: [u8; 16]) -> Failure {
    let found = florin_core::id::CommandId(found);
    Failure::new(
        "platform_id_changed",
        format!("the journal is that of platform {found}, and nothing was written to it"),
    )
    .hint("platform.id in florin.toml never changes; use another data folder for another platform")
}

/// Makes a folder that its owner alone may enter.
///
/// # Errors
/// `folder_unwritable`.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|fault| Failure::new("folder_unwritable", format!("{} can't be made", path.display())).because(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_storage_ends_with_the_code_that_nobody_may_start_after() {
        let storage = Fatal::Storage(florin_core::journal::AppendError::Unknown("the disk".into()));
        let panicked = Fatal::Panicked { thread: "writer".into(), what: "a rule".into() };
        let codes = [storage, panicked, Fatal::OtherPlatform].map(|fatal| exit_code(&fatal));
        assert_eq!(codes, [74, 70, 70]);
    }
}

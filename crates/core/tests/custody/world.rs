//! A platform in memory: a state, a shadow that folds what it decided, and the auditor.

use crate::auditor::Auditor;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep};
use florin_core::command::{Command, Origin, Outcome, Request, UNARCHIVE_BYTES_MAX};
use florin_core::custody::{
    Archived, ArchivedHead, Beneficiary, Block, BlockRef, Branch, Chain, ChainFamily, Deposit, DepositStatus, KeyPath,
    Wallet, WalletTier,
};
use florin_core::decide::{Refusal, Verdict, unarchive_from};
use florin_core::event::{DepositArchived, EpochStarted, Event};
use florin_core::id::{
    AssetId, BlockHash, ChainId, CommandId, CustomerId, Digest, Epoch, Height, LedgerTime, WalletId,
};
use florin_core::journal::{EVENTS_MAX, Entry, SnapshotChunk};
use florin_core::snapshot;
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};
use std::collections::BTreeMap;

pub const START_MS: u64 = 1_700_000_000_000;
pub const BTC: AssetId = AssetId(1);
pub const EUR: AssetId = AssetId(2);
pub const CHAIN: ChainId = ChainId(1);
pub const HOT: WalletId = WalletId(1);
pub const OLD: WalletId = WalletId(2);
pub const ANN: CustomerId = CustomerId([0xa; 16]);
pub const BEN: CustomerId = CustomerId([0xb; 16]);
/// Where following starts.
pub const START_HEIGHT: u32 = 100;

pub struct World {
    pub state: State,
    pub shadow: State,
    pub auditor: Auditor,
    pub now: LedgerTime,
    pub last: Vec<Event>,
    /// What left the state, oldest first, with the head before each.
    pub archived: Vec<(ArchivedHead, Archived)>,
    /// Whether credited deposits of blocks that have left leave at once, as those of the first builds did.
    pub leaves_at_once: bool,
    /// How many parts more than it must one command puts back, where they fit.
    pub parts_more: u32,
    decided: u64,
    next_id: u64,
}

impl World {
    /// A coin with its chain and policy, two customers, two wallets.
    pub fn new() -> World {
        let mut world = World {
            state: State::default(),
            shadow: State::default(),
            auditor: Auditor::default(),
            now: LedgerTime(START_MS),
            last: Vec::new(),
            archived: Vec::new(),
            leaves_at_once: false,
            parts_more: 0,
            decided: 0,
            next_id: 0,
        };
        let started = Event::EpochStarted(EpochStarted {
            epoch: Epoch(1),
            node: "a".to_owned(),
            build: "test".to_owned(),
            format: 1,
            config: Digest([1; 32]),
            platform: [7; 16],
        });
        world.state.apply(&started);
        world.shadow.apply(&started);
        let asset = |id, code: &str, kind, chain| Asset { id, code: code.to_owned(), decimals: 8, kind, chain };
        world.done(Command::DefineAsset(asset(BTC, "BTC", AssetKind::Coin, Some(CHAIN))));
        world.done(Command::DefineAsset(asset(EUR, "EUR", AssetKind::Fiat, None)));
        world.done(Command::DefineChain { chain: chain(), start: start() });
        world.done(Command::SetAssetPolicy(policy()));
        world.done(Command::RegisterWallet(wallet(HOT)));
        world.done(Command::RegisterWallet(wallet(OLD)));
        world.done(Command::OpenCustomer(ANN));
        world.done(Command::OpenCustomer(BEN));
        world
    }

    /// Decides what a watcher or worker says.
    pub fn run(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.decide(&Request { origin: Origin::Internal, command })
    }

    /// Decides what somebody outside asks, under a fresh id.
    pub fn ask(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.next_id += 1;
        let id = id_at(self.now.0, self.next_id);
        self.decide(&Request { origin: Origin::Request { id, request: Digest([9; 32]) }, command })
    }

    fn decide(&mut self, request: &Request) -> Result<Outcome, Refusal> {
        let seq = self.state.counters().seq.next();
        self.state.begin_row(seq, self.now);
        self.shadow.begin_row(seq, self.now);
        let (events, outcome) = match self.state.decide(request, self.now)? {
            Verdict::Decided { events, outcome } => (events, outcome),
            Verdict::Repeated(outcome) => return Ok(outcome),
        };
        assert!(events.len() <= EVENTS_MAX, "{} events of {:?}", events.len(), request.command);
        let (command, hash) = match request.origin {
            Origin::Request { id, request } => (Some(id), Some(request)),
            Origin::Session { .. } | Origin::Internal => (None, None),
        };
        let entry = Entry { command, request: hash, events, outcome: Some(outcome.clone()) };
        let size = entry.encode().len();
        assert!(size < florin_core::journal::ROW_BYTES_MAX, "{size} bytes do not fit a row");
        entry.events.iter().for_each(|event| self.fold(event));
        self.shadow.apply_entry(&Entry { events: Vec::new(), ..entry.clone() });
        self.auditor.fold(&entry.events);
        self.last = entry.events;
        if self.leaves_at_once {
            self.let_leave();
        }
        self.decided += 1;
        if self.decided.is_multiple_of(50) {
            self.check_fold();
        }
        Ok(outcome)
    }

    /// Does what builds did that put nothing back, and what the present ones leave to the next block that leaves.
    fn let_leave(&mut self) {
        let Some(chain) = self.state.chains().get(&CHAIN) else { return };
        let Some(oldest) = chain.blocks.keys().next() else { return };
        let is_left = |deposit: &&Deposit| {
            deposit.status == DepositStatus::Credited && deposit.at.is_some_and(|at| at.height < *oldest)
        };
        let left = self.state.deposits().values().filter(is_left).map(|deposit| deposit.outpoint);
        let events: Vec<Event> = left.map(|outpoint| Event::DepositArchived(DepositArchived { outpoint })).collect();
        for event in &events {
            self.state.apply(event);
            self.fold(event);
            *self.auditor.moves.entry("deposit left at once".to_owned()).or_insert(0) += 1;
        }
        self.auditor.fold(&events);
    }

    /// Folds an event, and keeps what leaves the state by it. Whether it was archived the state says itself.
    fn fold(&mut self, event: &Event) {
        let state = &self.shadow;
        let record = match event {
            Event::BlockArchived(gone) => {
                state.chains()[&CHAIN].blocks.get(&gone.at.height).cloned().map(Archived::Block)
            }
            Event::DepositArchived(gone) => state.deposits().get(&gone.outpoint).cloned().map(Archived::Deposit),
            Event::WithdrawalArchived(gone) => {
                state.withdrawals().get(&gone.withdrawal).cloned().map(Archived::Withdrawal)
            }
            Event::PlanArchived(gone) => state.plans().get(&gone.plan).cloned().map(Archived::Plan),
            Event::CoinRemoved(gone) => state.coins().get(&gone.outpoint).cloned().map(Archived::Coin),
            _ => None,
        };
        let head = |state: &State| state.chains().get(&CHAIN).map(|chain| chain.archived);
        let before = head(state);
        self.shadow.apply(event);
        let after = head(&self.shadow);
        if let (Some(before), Some(after)) = (before, after) {
            if after.count > before.count {
                self.archived.push((before, record.expect("what left was there")));
            }
            self.archived.truncate(after.count as usize);
            assert_eq!(self.archived.len() as u64, after.count);
        }
    }

    /// Puts back what the next command may, of the records that left last.
    pub fn unarchive(&mut self) {
        let records: Vec<Archived> = self.archived.iter().map(|(_, record)| record.clone()).collect();
        // A build that can do this has another rule.
        self.leaves_at_once = false;
        let mut from = unarchive_from(&records);
        let size = |from: usize| records[from..].iter().map(|record| record.encode().len()).sum::<usize>();
        for _ in 0..self.parts_more {
            let more = unarchive_from(&records[..from]);
            from = if size(more) < UNARCHIVE_BYTES_MAX / 2 { more } else { from };
        }
        let below = self.archived[from].0.digest;
        self.done(Command::Unarchive { chain: CHAIN, below, records: records[from..].to_vec() });
    }

    /// All booked blocks by height, also those that left the state.
    pub fn blocks(&self) -> BTreeMap<u32, Block> {
        let archived = self.archived.iter().filter_map(|(_, record)| match record {
            Archived::Block(block) => Some(block),
            _ => None,
        });
        let kept = self.state.chains()[&CHAIN].blocks.values();
        archived.chain(kept).map(|block| (block.at.height.0, block.clone())).collect()
    }

    /// Folding the events gives the state that deciding gave; and from here on a state read from a snapshot decides, so that what
    /// is derived and not restated is tested too.
    pub fn check_fold(&mut self) {
        let chunks = snapshot::chunks(&self.state);
        assert!(chunks == snapshot::chunks(&self.shadow), "decide and fold disagree");
        let mut read = State::default();
        for chunk in &chunks {
            SnapshotChunk::decode(&chunk.0).unwrap().events.iter().for_each(|event| read.apply(event));
        }
        assert!(chunks == snapshot::chunks(&read), "a snapshot does not give the state back");
        self.state = read;
    }

    /// Runs what must not be refused.
    pub fn done(&mut self, command: Command) -> Outcome {
        let text = format!("{command:?}");
        self.run(command).unwrap_or_else(|refusal| panic!("{text}: {}", refusal.code()))
    }

    /// Hands out the wallet's next address.
    pub fn address(&mut self, wallet: WalletId, beneficiary: Beneficiary) -> KeyPath {
        let index = self.state.wallets()[&wallet].next_external;
        let path = KeyPath { wallet, branch: Branch::External, index };
        let (branch, script) = (path.branch, script_of(path));
        self.done(Command::IssueAddress { wallet, branch, index, script, beneficiary });
        path
    }

    pub fn tip(&self) -> &Block {
        self.state.chains()[&CHAIN].tip().unwrap()
    }
}

/// A script that no other key path has.
pub fn script_of(path: KeyPath) -> Bytes {
    let branch = if path.branch == Branch::External { 0 } else { 1 };
    Bytes(format!("ours/{}/{branch}/{}", path.wallet, path.index).into_bytes())
}

/// The signer's word that it never signs a plan.
pub fn void(plan: florin_core::id::PlanId) -> Command {
    Command::RecordVoid { plan, receipt: Bytes(vec![0x76, 1]) }
}

pub fn outside(name: &str) -> Bytes {
    Bytes(format!("outside/{name}").into_bytes())
}

/// A UUIDv7 of this time.
pub fn id_at(ms: u64, number: u64) -> CommandId {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    id[6] = 0x70;
    id[8..].copy_from_slice(&number.to_be_bytes());
    id[8] = 0x80;
    CommandId(id)
}

pub fn chain() -> Chain {
    Chain {
        id: CHAIN,
        family: ChainFamily::Bitcoin,
        name: "bitcoin-regtest".to_owned(),
        genesis: BlockHash([0xee; 32]),
        coin: BTC,
        coinbase_maturity: 10,
    }
}

pub fn start() -> Block {
    let at = BlockRef { height: Height(START_HEIGHT), hash: BlockHash([1; 32]) };
    Block { chain: CHAIN, at, previous: BlockHash([0; 32]), time_s: 1_700_000_000 }
}

pub fn policy() -> AssetPolicy {
    let step = |from, confirmations| DepthStep { amount_from: Amount::new(from), confirmations };
    AssetPolicy {
        asset: BTC,
        depths: vec![step(0, 2), step(10_000, 3), step(1_000_000, 6)],
        deposit_min: Amount::new(100),
        withdrawal_min: Amount::new(200),
        withdrawal_fee: Amount::new(50),
        automatic_max: Amount::new(20_000),
        final_confirmations: 4,
        missing_ms: 100_000,
        intent_ms: 200_000,
        network_fee_max: Amount::new(1_000),
        kept_blocks: None,
    }
}

pub fn wallet(id: WalletId) -> Wallet {
    Wallet {
        id,
        chain: CHAIN,
        generation: 1,
        tier: WalletTier::Hot,
        birthday: Height(0),
        descriptor_external: format!("wpkh(x{id}/0/*)"),
        descriptor_internal: format!("wpkh(x{id}/1/*)"),
        retired: false,
        next_external: 0,
        next_internal: 0,
    }
}

//! The engine on one thread, with the core's own rules: a journal in memory, a chain, a wallet, customers.

use crate::common::{Fault, Rows, command_id, config, customer};
use crate::network::{Blocks, FakeNode};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::header::Checkpoint;
use florin_chain::bitcoin::keys::{self, AccountSecrets, ScriptKind};
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep};
use florin_core::command::{Command, Origin, Outcome, PART_COST_MAX, Request};
use florin_core::custody::{Beneficiary, Block, BlockRef, Branch, Chain, ChainFamily, Wallet, WalletTier};
use florin_core::id::{AssetId, BlockHash, ChainId, Digest, Height, WalletId};
use florin_core::ledger::{Account, Owner};
use florin_core::state::State;
use florin_engine::audit::check_books;
use florin_engine::follower::{Follower, FollowerConfig};
use florin_engine::lanes::Ask;
use florin_engine::load::{Loaded, catch_up};
use florin_engine::read_model::ReadModel;
use florin_engine::workers::Worker;
use florin_engine::writer::{Answer, CoreRules, Ticket, Writer};

pub const CHAIN: ChainId = ChainId(1);
pub const BTC: AssetId = AssetId(1);
pub const WALLET: WalletId = WalletId(1);

pub fn secrets(kind: ScriptKind) -> AccountSecrets {
    AccountSecrets::derive(Network::Regtest, &[7; 64], kind, 0, &[1; 32]).expect("the seed has a length")
}

pub struct Platform {
    pub rows: Rows,
    pub writer: Writer,
    pub model: ReadModel,
    pub now_ms: u64,
    tickets: u64,
}

impl Platform {
    pub fn new(genesis: BlockHash, kind: ScriptKind) -> Platform {
        Platform::starting_at(genesis, first_block(genesis), kind)
    }

    /// One whose journal begins with a later block than the chain.
    pub fn starting_at(genesis: BlockHash, start: Block, kind: ScriptKind) -> Platform {
        let mut platform = Platform {
            rows: Rows::default(),
            writer: Writer::new(config("a"), Box::new(CoreRules)),
            model: ReadModel::new(Loaded::empty()),
            now_ms: 1_700_000_000_000,
            tickets: 0,
        };
        platform.writer.take_lead(Loaded::empty(), platform.now_ms);
        for command in definitions(genesis, start, kind) {
            platform.must(Ask::internal(command));
        }
        for number in 1..=2 {
            platform.must(Ask::internal(Command::OpenCustomer(customer(number))));
        }
        platform
    }

    /// The same journal, as another process finds it.
    pub fn restarted(self) -> Platform {
        let Platform { rows, now_ms, .. } = self;
        let loaded = catch_up(&mut rows.clone(), Loaded::empty()).expect("its rows are right");
        let (writer, model) = (Writer::new(config("b"), Box::new(CoreRules)), ReadModel::new(loaded.clone()));
        let mut platform = Platform { rows, writer, model, now_ms, tickets: 0 };
        platform.writer.take_lead(loaded, now_ms);
        platform.ask(Vec::new());
        platform
    }

    pub fn state(&self) -> &State {
        self.model.state()
    }

    /// Asks, makes it durable, folds it; gives the answers in order.
    pub fn ask(&mut self, asks: Vec<Ask>) -> Vec<Answer> {
        let first = self.tickets + 1;
        for ask in asks {
            self.tickets += 1;
            self.writer.submit(Ticket(self.tickets), ask).expect("the writer leads");
        }
        loop {
            self.writer.decide_waiting(self.now_ms);
            let Some(sealed) = self.writer.next_row() else { break };
            if let Some(durable) = self.writer.appended(self.rows.append_with(&sealed.row, Fault::None)) {
                self.model.fold(&durable).expect("it follows");
            }
        }
        let mut replies = self.writer.take_replies();
        replies.sort_by_key(|reply| reply.ticket);
        assert_eq!(replies.len() as u64, self.tickets + 1 - first, "everyone is answered");
        let faults = check_books(self.state());
        assert_eq!(faults, [], "the books balance after every step");
        replies.into_iter().map(|reply| reply.answer).collect()
    }

    pub fn must(&mut self, ask: Ask) -> Outcome {
        let shown = format!("{ask:?}");
        match self.ask(vec![ask]).remove(0) {
            Answer::Done(outcome) => outcome,
            other => panic!("{shown} was answered {other:?}"),
        }
    }

    pub fn request(&mut self, number: u64, command: Command) -> Outcome {
        self.must(Ask::Request(Request { origin: self.origin(number), command }))
    }

    fn origin(&self, number: u64) -> Origin {
        let mut id = command_id(number);
        id.0[..6].copy_from_slice(&self.now_ms.to_be_bytes()[2..]);
        Origin::Request { id, request: Digest([1; 32]) }
    }

    /// A new address of the wallet, for a customer.
    pub fn address(&mut self, number: u64, whose: u64) -> bitcoin::ScriptBuf {
        let (wallet, branch, beneficiary) = (WALLET, Branch::External, Beneficiary::Customer(customer(whose)));
        let ask = Ask::NextAddress { origin: self.origin(number), wallet, branch, beneficiary };
        let Outcome::Address(issued) = self.must(ask) else { panic!("an address was asked for") };
        bitcoin::ScriptBuf::from_bytes(issued.script.0)
    }

    /// One step of a worker, and what came of what it asked.
    pub fn step(&mut self, worker: &mut dyn Worker) -> Vec<Answer> {
        self.now_ms += 1_000;
        let asks = worker.step(&self.model, self.now_ms);
        self.ask(asks)
    }

    /// Steps until a worker asks for nothing more.
    pub fn settle(&mut self, worker: &mut dyn Worker) {
        for _ in 0..2_000 {
            if self.step(worker).is_empty() {
                return;
            }
        }
        panic!("the worker comes to no end; it says {:?}", worker.alarms());
    }

    /// Lets time pass as it does where a ticker runs: ledger time goes no further than a minute beyond a tick.
    pub fn wait(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        self.must(Ask::internal(Command::Tick));
        while self.state().counters().time.0 < end_ms {
            self.now_ms = (self.now_ms + 60_000).min(end_ms);
            self.must(Ask::internal(Command::Tick));
        }
    }

    pub fn tip(&self) -> BlockRef {
        self.state().chains()[&CHAIN].tip().expect("the chain has a start").at
    }

    pub fn available(&self, whose: u64) -> u128 {
        let account = self.state().ledger().account_of(&Owner::Customer(customer(whose)), BTC);
        account.map_or(0, |account| Account::available(account).units())
    }
}

pub fn first_block(genesis: BlockHash) -> Block {
    let at = BlockRef { height: Height(0), hash: genesis };
    Block { chain: CHAIN, at, previous: BlockHash([0; 32]), time_s: 0 }
}

pub fn definitions(genesis: BlockHash, start: Block, kind: ScriptKind) -> Vec<Command> {
    let account = secrets(kind).public(&[1; 32]);
    let text = |branch| Descriptor::of_account(&account, branch).expect("the account has branches").to_string();
    let chain = Chain {
        id: CHAIN,
        family: ChainFamily::Bitcoin,
        name: "bitcoin-regtest".to_owned(),
        genesis,
        coin: BTC,
        coinbase_maturity: 100,
    };
    vec![
        Command::DefineAsset(Asset {
            id: BTC,
            code: "BTC".to_owned(),
            decimals: 8,
            kind: AssetKind::Coin,
            chain: Some(CHAIN),
        }),
        Command::DefineChain { chain, start },
        Command::SetAssetPolicy(AssetPolicy {
            asset: BTC,
            depths: vec![DepthStep { amount_from: Amount::ZERO, confirmations: 3 }],
            deposit_min: Amount::new(1_000),
            withdrawal_min: Amount::new(1_000),
            withdrawal_fee: Amount::new(500),
            automatic_max: Amount::new(10_000_000_000),
            final_confirmations: 6,
            missing_ms: 3_600_000,
            intent_ms: 3_600_000,
            network_fee_max: Amount::new(100_000),
            kept_blocks: None,
        }),
        Command::RegisterWallet(Wallet {
            id: WALLET,
            chain: CHAIN,
            generation: 1,
            tier: WalletTier::Hot,
            birthday: Height(0),
            descriptor_external: text(keys::Branch::External),
            descriptor_internal: text(keys::Branch::Internal),
            retired: false,
            next_external: 0,
            next_internal: 0,
        }),
    ]
}

pub fn follower_config(quorum: usize) -> FollowerConfig {
    FollowerConfig {
        chain: CHAIN,
        network: Network::Regtest,
        checkpoint: Checkpoint::genesis(Network::Regtest),
        headers_max: 10_000,
        quorum,
        split_blocks_max: 2,
        stale_ms: 60_000,
        tip_age_max_ms: None,
        part_cost_max: PART_COST_MAX,
    }
}

/// A platform, blocks, and two nodes of which both must agree.
pub fn world() -> (Platform, Blocks, Vec<FakeNode>, Follower) {
    world_of(ScriptKind::Wpkh)
}

/// The same, with a wallet of another kind.
pub fn world_of(kind: ScriptKind) -> (Platform, Blocks, Vec<FakeNode>, Follower) {
    let blocks = Blocks::new();
    let nodes: Vec<FakeNode> = (0..2).map(|_| FakeNode::new(&blocks)).collect();
    let seats = ["a", "b"].iter().zip(&nodes).map(|(name, node)| node.seat(name)).collect();
    let follower = Follower::new(follower_config(2), seats, [3; 16]).expect("the checkpoint is the genesis block");
    (Platform::new(blocks.genesis(), kind), blocks, nodes, follower)
}

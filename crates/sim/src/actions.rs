//! What happens in a run: one action after another, drawn from the seed. Customers, operators, the outside world, and everything that goes wrong.

use crate::ports::{SignerTrouble, lock};
use crate::world::{START_HEIGHT, Sent, World};
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, WPubkeyHash};
use florin_core::amount::Amount;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, Origin, PlainTransfer, Request};
use florin_core::custody::{Beneficiary, Branch, WithdrawalStatus};
use florin_core::id::{AccountId, AssetId, CommandId, CustomerId, Digest, QuoteId, SessionId, WalletId};
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};
use florin_devnet::fault::Lie;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::Content;
use florin_devnet::network::NodeId;
use florin_engine::lanes::Ask;
use florin_signer::approve::{ShownIntent, approve};
use florin_store::memory::AppendFault;

/// The platform's assets in a run.
pub const BTC: AssetId = AssetId(1);
/// See [`BTC`].
pub const EUR: AssetId = AssetId(2);
/// A plain ledger's unit.
pub const UNIT: AssetId = AssetId(3);
/// The one wallet.
pub const WALLET: WalletId = WalletId(1);

impl World {
    /// Sends a command with a fresh id.
    pub fn ask(&mut self, command: Command) -> CommandId {
        let (id, request) = self.new_id();
        let ask = Ask::Request(Request { origin: Origin::Request { id, request }, command });
        self.send(Sent { ask, id: Some(id) });
        id
    }

    fn state<T>(&self, look: impl FnOnce(&State) -> T) -> Option<T> {
        self.process.as_ref().map(|process| look(process.model().state()))
    }

    fn customer(&mut self) -> Option<CustomerId> {
        self.rng.pick(&self.customers).copied()
    }

    /// One action of customers and operators.
    pub fn customers_act(&mut self) {
        match self.rng.below(20) {
            0 => {
                let id = CustomerId(self.rng.bytes());
                self.ask(Command::OpenCustomer(id));
            }
            1..=3 => self.ask_address(),
            4 | 5 => self.ask_receipt(),
            6 => self.ask_price(),
            7..=9 => self.ask_quote(),
            10..=12 => self.ask_accept(),
            13..=16 => self.ask_withdrawal(),
            17 => self.ask_cancel(),
            18 => self.ask_approve(),
            _ => self.ask_transfers(),
        }
    }

    fn ask_address(&mut self) {
        let Some(customer) = self.customer() else { return };
        let beneficiary = if self.rng.chance(15) { Beneficiary::INVENTORY } else { Beneficiary::Customer(customer) };
        let (id, request) = self.new_id();
        let origin = Origin::Request { id, request };
        let ask = Ask::NextAddress { origin, wallet: WALLET, branch: Branch::External, beneficiary };
        self.send(Sent { ask, id: Some(id) });
    }

    fn ask_receipt(&mut self) {
        let Some(customer) = self.customer() else { return };
        let beneficiary = if self.rng.chance(40) { Beneficiary::INVENTORY } else { Beneficiary::Customer(customer) };
        // Few enough references that some come twice.
        let reference = format!("REF-{}", self.rng.below(400));
        let amount = Amount::new(u128::from(self.rng.between(0, 5_000_000)));
        self.ask(Command::BookBankReceipt { reference, asset: EUR, amount, beneficiary });
    }

    fn ask_price(&mut self) {
        let quote_units = Amount::new(u128::from(self.rng.between(4_000_000, 8_000_000)));
        let price = Price {
            pair: Pair { base: BTC, quote: EUR },
            quote_units,
            base_units: Amount::new(100_000_000),
            as_of: self.ledger_time(),
            age_max_ms: self.rng.between(1, 120_000),
            spread_bp: self.rng.below(200) as u32,
            quote_ms: self.rng.between(1, 30_000),
        };
        self.ask(Command::SetPrice(price));
    }

    fn ask_quote(&mut self) {
        let Some(customer) = self.customer() else { return };
        let side = if self.rng.chance(60) { Side::Buy } else { Side::Sell };
        let amount = Amount::new(u128::from(self.rng.below(2_000_000)));
        let (base, quote) = if self.rng.chance(50) { (Some(amount), None) } else { (None, Some(amount)) };
        self.ask(Command::RequestQuote { customer, pair: Pair { base: BTC, quote: EUR }, side, base, quote });
    }

    fn ask_accept(&mut self) {
        let offered =
            self.state(|state| state.quotes().values().map(|quote| (quote.customer, quote.id)).collect::<Vec<_>>());
        let Some((mut customer, quote)) = offered.and_then(|quotes| self.rng.pick(&quotes).copied()) else { return };
        if self.rng.chance(5) {
            customer = CustomerId(self.rng.bytes());
        }
        self.ask(Command::AcceptQuote { customer, quote });
    }

    fn ask_withdrawal(&mut self) {
        let rich = self.state(|state| {
            let have = |customer: &&CustomerId| {
                let owner = florin_core::ledger::Owner::Customer(**customer);
                state.ledger().account_of(&owner, BTC).is_some_and(|account| account.available().units() > 20_000)
            };
            self.customers.iter().filter(have).copied().collect::<Vec<_>>()
        });
        let rich = rich.and_then(|rich| self.rng.pick(&rich).copied());
        let Some(customer) = rich.or_else(|| self.customer()) else { return };
        let amount = Amount::new(u128::from(match self.rng.below(10) {
            0 => self.rng.below(3_000),
            1 => self.rng.between(20_000_000, 60_000_000),
            _ => self.rng.between(3_000, 3_000_000),
        }));
        let script = self.destination();
        self.ask(Command::RequestWithdrawal { customer, asset: BTC, amount, script, wallet: WALLET });
    }

    /// A script that is paid once in a run at most, so that payments can be counted; or, now and then, one of our own.
    fn destination(&mut self) -> Bytes {
        if self.rng.chance(7) {
            let ours = self.state(|state| state.scripts().keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            if let Some(script) = self.rng.pick(&ours) {
                return script.clone();
            }
        }
        Bytes(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(self.rng.bytes())).into_bytes())
    }

    fn withdrawals_in(&self, wanted: &[WithdrawalStatus]) -> Vec<florin_core::custody::Withdrawal> {
        let found = self.state(|state| {
            let all = state.withdrawals().values();
            all.filter(|withdrawal| wanted.contains(&withdrawal.status)).cloned().collect()
        });
        found.unwrap_or_default()
    }

    fn ask_cancel(&mut self) {
        let all = self.withdrawals_in(WithdrawalStatus::ALL);
        let Some(withdrawal) = self.rng.pick(&all).map(|withdrawal| withdrawal.id) else { return };
        self.ask(Command::CancelWithdrawal { withdrawal });
    }

    /// The operator approves one of the withdrawals that wait for it.
    pub fn ask_approve(&mut self) {
        let waiting = self.withdrawals_in(&[WithdrawalStatus::AwaitingApproval]);
        let Some(withdrawal) = self.rng.pick(&waiting) else { return };
        let Ok(shown) = ShownIntent::read(&withdrawal.intent.encode()) else { return };
        let (withdrawal, approval) = (withdrawal.id, approve(&shown, &self.operator));
        self.ask(Command::ApproveWithdrawal { withdrawal, approval, complete: true });
    }

    fn ask_transfers(&mut self) {
        let accounts = self.state(|state| state.ledger().accounts().len() as u64).unwrap_or(0);
        let sessions = [SessionId([1; 16]), SessionId([2; 16])];
        let session = sessions[self.rng.below(2) as usize];
        let last = self.state(|state| state.sessions().get(&session).copied()).flatten().unwrap_or(0);
        let count = self.rng.between(1, 5);
        let transfer = |world: &mut World| PlainTransfer {
            debit: AccountId(world.rng.below(accounts + 1)),
            credit: AccountId(world.rng.below(accounts + 1)),
            amount: Amount::new(u128::from(world.rng.below(1_000))),
        };
        let transfers = (0..count).map(|_| transfer(self)).collect();
        // Sometimes one too few or too many.
        let sequence = if self.rng.chance(10) { last + self.rng.below(3) } else { last + 1 };
        let origin = Origin::Session { session, sequence };
        let ask = Ask::Request(Request { origin, command: Command::PostTransfers(transfers) });
        self.send(Sent { ask, id: None });
    }

    /// A request that was sent before comes again: the same, or another one under its id.
    pub fn repeat(&mut self) {
        if let Some(sent) = self.again.pop_front() {
            self.count("sent again");
            self.send(sent);
            return;
        }
        let known = self
            .state(|state| state.remembered().values().map(|known| (known.command, known.request)).collect::<Vec<_>>());
        let Some((id, request)) = known.and_then(|known| self.rng.pick(&known).copied()) else { return };
        let request = if self.rng.chance(50) { request } else { Digest(self.rng.bytes()) };
        let ask = Ask::Request(Request { origin: Origin::Request { id, request }, command: Command::ConfirmTime });
        self.send(Sent { ask, id: Some(id) });
    }

    /// One action of the world outside.
    pub fn world_acts(&mut self) {
        match self.rng.below(12) {
            0..=4 => self.mine(),
            5 => self.fork(),
            6..=9 => self.outside_pays(),
            10 => self.outside_replaces(),
            _ => {
                lock(&self.network).settle();
            }
        }
    }

    /// A block on the tip of a node that is not faulty.
    pub fn mine(&mut self) {
        let node = self.honest_node();
        let mut network = lock(&self.network);
        if network.mine(node, &mut self.miner, 1).is_ok() {
            network.settle();
        }
        drop(network);
        self.count("block mined");
    }

    fn honest_node(&mut self) -> NodeId {
        let network = lock(&self.network);
        let honest: Vec<NodeId> = network.ids().filter(|id| !network.is_faulty(*id)).collect();
        drop(network);
        self.rng.pick(&honest).copied().unwrap_or(NodeId(0))
    }

    fn fork(&mut self) {
        let deep = self.rng.chance(10);
        let depth = if deep { self.rng.between(4, 9) } else { self.rng.between(1, 3) } as u32;
        let node = self.honest_node();
        let content = match self.rng.below(3) {
            0 => Content::Mempool,
            1 => self.double_spend(node).map_or(Content::Empty, |tx| Content::Transactions(vec![tx])),
            _ => Content::Empty,
        };
        let mut network = lock(&self.network);
        // What came before the first journalled block is nobody's to take back.
        let height = network.node(node).height().saturating_sub(depth);
        if height < START_HEIGHT {
            return;
        }
        let Some(parent) = network.node(node).tree().at(height) else { return };
        let miner = &mut self.miner;
        // A conflicting payment may be impossible on that branch: then there is no fork.
        let forked = network.with_node(node, |node| miner.mine_on(node, parent, depth + 1, content).is_ok());
        network.settle();
        drop(network);
        if forked {
            self.count(format!("fork of {depth}"));
        }
    }

    fn double_spend(&mut self, node: NodeId) -> Option<bitcoin::Transaction> {
        let last = self.last_payment.clone()?;
        let network = lock(&self.network);
        self.outside.double_spend(network.node(node), &last, FeeRate::from_sat_per_kvb(20_000)).ok()
    }

    fn outside_pays(&mut self) {
        let ours = self.auditor.issued().iter().filter(|(path, _)| path.1 == 1);
        let ours: Vec<Vec<u8>> = ours.map(|(_, script)| script.clone()).collect();
        let count = if self.rng.chance(5) { 30 } else { self.rng.between(1, 2) };
        let mut payments = Vec::new();
        for _ in 0..count {
            let Some(script) = self.rng.pick(&ours).cloned() else { return };
            let amount = match self.rng.below(10) {
                0 => self.rng.between(400, 2_000),
                1 => self.rng.between(50_000_000, 300_000_000),
                _ => self.rng.between(10_000, 10_000_000),
            };
            payments.push((ScriptBuf::from_bytes(script), amount));
        }
        let node = self.honest_node();
        let rate = FeeRate::from_sat_per_kvb(self.rng.between(1_000, 5_000));
        let mut network = lock(&self.network);
        let Ok(tx) = self.outside.pay(network.node(node), &payments, rate) else { return };
        if network.send(node, tx.clone()).is_ok() {
            network.settle();
            drop(network);
            self.last_payment = Some(tx);
            self.count("outside payment");
        }
    }

    fn outside_replaces(&mut self) {
        let Some(last) = self.last_payment.clone() else { return };
        let node = self.honest_node();
        let rate = FeeRate::from_sat_per_kvb(self.rng.between(10_000, 40_000));
        let is_double = self.rng.chance(50);
        let mut network = lock(&self.network);
        let tx = match is_double {
            true => self.outside.double_spend(network.node(node), &last, rate),
            false => self.outside.replace(network.node(node), &last, rate),
        };
        let Ok(tx) = tx else { return };
        if network.send(node, tx.clone()).is_ok() {
            network.settle();
            drop(network);
            self.last_payment = Some(tx);
            self.count(if is_double { "payment double spent" } else { "payment replaced" });
        }
    }

    /// Something goes wrong.
    pub fn trouble(&mut self) {
        match self.rng.below(12) {
            0..=2 => {
                let edges = self.rng.below(40);
                self.chaos.arm(edges);
            }
            3 => self.crash_now(),
            4 | 5 => {
                let faults = [AppendFault::UnknownWritten, AppendFault::UnknownNotWritten, AppendFault::Fenced];
                let fault = faults[self.rng.below(3) as usize];
                self.rows.script([Some(fault)]);
                self.count(format!("append {fault:?}").to_lowercase());
            }
            6 => {
                let troubles = [SignerTrouble::Unheard, SignerTrouble::LostReply];
                let trouble = troubles[self.rng.below(2) as usize];
                self.trouble_signer(trouble);
            }
            7 => {
                if self.snapshots.spoil() {
                    self.count("snapshot spoilt");
                }
            }
            _ => self.trouble_node(),
        }
    }

    fn crash_now(&mut self) {
        if self.process.is_some() {
            self.crash();
        }
    }

    /// At most one node is faulty at a time: the quorum is two of three.
    fn trouble_node(&mut self) {
        self.heal_nodes();
        let id = NodeId(self.rng.below(crate::world::NODES as u64) as usize);
        let kind = self.rng.below(8);
        let lost = self.rng.between(1, 3) as u32;
        let forged = self.forgery();
        let mut network = lock(&self.network);
        let what = match (kind, forged) {
            (0, _) => {
                network.freeze(id);
                "node frozen"
            }
            (1, _) => {
                network.stop(id);
                "node stopped"
            }
            (2, _) => {
                network.lose_replies(id, lost);
                "node replies lost"
            }
            (3, _) => {
                network.partition(&[&[id]]);
                "node cut off"
            }
            (4, Some((script, value_sat))) => {
                network.lie(id, Lie::ForgedBlock { script, value_sat });
                "node forges a block"
            }
            (5, Some((script, value_sat))) => {
                network.lie(id, Lie::ForgedBlockWithoutWork { script, value_sat });
                "node forges a block without work"
            }
            (6, _) => {
                network.lie(id, Lie::PrivateBlocks(lost));
                "node shows private blocks"
            }
            _ => {
                let txids: Vec<bitcoin::Txid> = network.node(id).mempool().iter().map(|(txid, _)| *txid).collect();
                txids.first().map(|txid| network.evict(id, txid));
                "node evicts"
            }
        };
        drop(network);
        self.count(what);
    }

    fn forgery(&mut self) -> Option<(ScriptBuf, u64)> {
        let scripts: Vec<Vec<u8>> = self.auditor.issued().iter().map(|(_, script)| script.clone()).collect();
        let script = self.rng.pick(&scripts)?.clone();
        Some((ScriptBuf::from_bytes(script), self.rng.between(100_000, 5_000_000_000)))
    }

    /// Every node is up, honest and connected again.
    pub fn heal_nodes(&mut self) {
        let mut network = lock(&self.network);
        for id in network.ids() {
            if network.is_faulty(id) {
                network.thaw(id);
                network.start(id);
                network.stop_lying(id);
            }
        }
        network.heal();
        network.settle();
    }

    /// Time passes; now and then the clock jumps, and an operator confirms a jump some time later.
    pub fn time_passes(&mut self) {
        let jump = self.rng.chance(3);
        let ms = if jump { self.rng.between(61_000, 7_200_000) } else { self.rng.between(1, 8_000) };
        self.clock.set(self.now_ms() + ms);
        let seconds = self.now_ms() / 1_000;
        lock(&self.network).set_clock(seconds);
        if jump {
            self.count("clock jumped");
        }
        let jumped = self.state(|state| state.counters().jumped_to.is_some()).unwrap_or(false);
        if jumped && self.rng.chance(30) {
            self.ask(Command::ConfirmTime);
        }
    }

    /// An operator halts something, or ends a halt.
    pub fn operator_halts(&mut self) {
        let halts = self.state(|state| state.halts().clone()).unwrap_or_default();
        if let Some(halt) = self.rng.pick(&halts).filter(|halt| halt.reason == HaltReason::Operator) {
            let halt = halt.clone();
            self.ask(Command::Resume(halt));
            return;
        }
        let action = HaltAction::ALL[self.rng.below(HaltAction::ALL.len() as u64) as usize];
        let asset = if self.rng.chance(80) { Some(BTC) } else { None };
        self.ask(Command::Halt(Halt { asset, action, reason: HaltReason::Operator }));
    }

    /// An id that nobody offered, so that what is unknown is refused.
    pub fn unknown_quote(&mut self) {
        let (customer, quote) = (CustomerId(self.rng.bytes()), QuoteId(self.rng.bytes()));
        self.ask(Command::AcceptQuote { customer, quote });
    }
}

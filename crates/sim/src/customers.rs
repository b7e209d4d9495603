//! What customers, bulk callers and operators ask for, drawn from the step's sequence.

use crate::ports::lock;
use crate::setup::{BTC, EUR, WALLET, WALLET_STILL};
use crate::world::{START_MS, Sent, World};
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, WPubkeyHash};
use florin_core::amount::Amount;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, Origin, PlainTransfer, Request};
use florin_core::custody::{Approval, Beneficiary, Branch, WithdrawalStatus};
use florin_core::id::{AccountId, CommandId, CustomerId, Digest, SessionId, WithdrawalId};
use florin_core::ledger::{HouseAccount, Owner};
use florin_core::state::{ClockDoubt, State};
use florin_core::wire::{Bytes, Message};
use florin_engine::lanes::Ask;
use florin_signer::approve::{ShownIntent, approve};

/// One of the run's bulk sessions, which began with it.
pub(crate) fn session(number: u8) -> SessionId {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&START_MS.to_be_bytes()[2..]);
    (id[6], id[8], id[15]) = (0x70, 0x80, number);
    SessionId(id)
}

impl World {
    /// Sends a command with a fresh id.
    pub fn ask(&mut self, command: Command) -> CommandId {
        let (id, request) = self.new_id();
        let ask = Ask::Request(Request { origin: Origin::Request { id, request }, command });
        self.send(Sent { ask, id: Some(id) });
        id
    }

    /// Looks at the state that everyone but the writer sees.
    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> Option<T> {
        self.process.as_ref().map(|process| look(process.model().state()))
    }

    /// A customer.
    pub fn customer(&mut self) -> Option<CustomerId> {
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
                let owner = Owner::Customer(**customer);
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
    pub fn destination(&mut self) -> Bytes {
        if self.rng.chance(7) {
            // Not those of another chain: what is sent there is for whoever holds its keys, again and again.
            let ours = self.state(|state| {
                let all = state.scripts().iter().filter(|(_, path)| path.wallet != WALLET_STILL);
                all.map(|(script, _)| script.clone()).collect::<Vec<_>>()
            });
            let ours = ours.unwrap_or_default();
            if let Some(script) = self.rng.pick(&ours) {
                return script.clone();
            }
        }
        Bytes(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(self.rng.bytes())).into_bytes())
    }

    /// Withdrawals that stand at one of these places.
    pub fn withdrawals_in(&self, wanted: &[WithdrawalStatus]) -> Vec<florin_core::custody::Withdrawal> {
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
        let Some(id) = self.rng.pick(&waiting).map(|withdrawal| withdrawal.id) else { return };
        if let Some(approve) = self.approval_of(id) {
            self.ask(approve);
        }
    }

    /// The operator's approval of a withdrawal that waits for it.
    pub fn approval_of(&self, id: WithdrawalId) -> Option<Command> {
        let waiting = self.withdrawals_in(&[WithdrawalStatus::AwaitingApproval]);
        let withdrawal = waiting.iter().find(|withdrawal| withdrawal.id == id)?;
        let shown = ShownIntent::read(&withdrawal.intent.encode()).ok()?;
        let approval = approve(&shown, &self.operator);
        Some(Command::ApproveWithdrawal { withdrawal: id, approval, complete: true })
    }

    fn ask_transfers(&mut self) {
        let accounts = self.state(|state| state.ledger().accounts().len() as u64).unwrap_or(0);
        let session = session(1 + self.rng.below(2) as u8);
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

    /// A request that was sent before comes again: the same, another one under its id, or an old one.
    pub fn repeat(&mut self) {
        if let Some(sent) = self.again.pop_front() {
            self.count("fault answer lost, sent again");
            self.send(sent);
            return;
        }
        match self.rng.below(10) {
            0..=3 => self.send_twice(),
            4 => self.send_out_of_order(),
            5..=8 => self.send_known(),
            _ => self.send_at_a_wrong_time(),
        }
    }

    /// What waits in the process is sent by an impatient sender once more.
    fn send_twice(&mut self) {
        let waiting: Vec<Sent> = self.waiting.values().map(|(_, sent)| sent.clone()).collect();
        let sent = match self.rng.pick(&waiting) {
            Some(sent) => sent.clone(),
            None => {
                let customer = CustomerId(self.rng.bytes());
                let (id, request) = self.new_id();
                let origin = Origin::Request { id, request };
                let ask = Ask::Request(Request { origin, command: Command::OpenCustomer(customer) });
                let sent = Sent { ask, id: Some(id) };
                self.send(sent.clone());
                sent
            }
        };
        self.send(sent);
        self.count("fault command sent twice");
    }

    /// Two sequences of a session, the later one first.
    fn send_out_of_order(&mut self) {
        let session = session(3);
        let last = self.state(|state| state.sessions().get(&session).copied()).flatten().unwrap_or(0);
        for sequence in [last + 2, last + 1] {
            let transfer = PlainTransfer { debit: AccountId(0), credit: AccountId(1), amount: Amount::new(1) };
            let origin = Origin::Session { session, sequence };
            let ask = Ask::Request(Request { origin, command: Command::PostTransfers(vec![transfer]) });
            self.send(Sent { ask, id: None });
        }
        self.count("fault commands out of order");
    }

    fn send_known(&mut self) {
        let known = self
            .state(|state| state.remembered().values().map(|known| (known.command, known.request)).collect::<Vec<_>>());
        let Some((id, request)) = known.and_then(|known| self.rng.pick(&known).copied()) else { return };
        let is_same = self.rng.chance(50);
        let request = if is_same { request } else { Digest(self.rng.bytes()) };
        let ask = Ask::Request(Request { origin: Origin::Request { id, request }, command: Command::ConfirmTime });
        self.send(Sent { ask, id: Some(id) });
    }

    /// Sessions of senders whose clocks are wrong, of long ago, and one that is no session.
    fn send_in_a_wrong_session(&mut self) {
        let mut session = session(4);
        match self.rng.below(3) {
            0 => session.0[6] = 0x40,
            1 => session.0[..6].copy_from_slice(&(self.now_ms() + 86_400_000).to_be_bytes()[2..]),
            _ => session.0[..6].copy_from_slice(&(self.now_ms() - 172_800_000).to_be_bytes()[2..]),
        }
        let origin = Origin::Session { session, sequence: 1 };
        let ask = Ask::Request(Request { origin, command: Command::PostTransfers(Vec::new()) });
        self.send(Sent { ask, id: None });
    }

    /// Ids of senders whose clocks are wrong, and one that is no id.
    fn send_at_a_wrong_time(&mut self) {
        if self.rng.chance(40) {
            self.send_in_a_wrong_session();
            return;
        }
        let (mut id, request) = self.new_id();
        match self.rng.below(3) {
            0 => id.0[6] = 0x40,
            1 => id.0[..6].copy_from_slice(&(self.now_ms() + 3_600_000).to_be_bytes()[2..]),
            _ => id.0[..6].copy_from_slice(&(self.now_ms() - 172_800_000).to_be_bytes()[2..]),
        }
        let ask = Ask::Request(Request { origin: Origin::Request { id, request }, command: Command::Tick });
        self.send(Sent { ask, id: Some(id) });
    }

    /// An operator halts, resumes, confirms the clock, approves, proves what can never confirm, or looks after the wallet.
    pub fn operator_acts(&mut self) {
        let noted = self.state(|state| state.clock_noted()).flatten();
        if noted.is_some() && self.rng.chance(50) {
            if noted == Some(ClockDoubt::Behind) {
                let network_ms = lock(&self.network).clock() * 1_000;
                self.clock.set(network_ms.max(self.now_ms()));
                self.count("operator sets the clock right");
            }
            self.ask(Command::ConfirmTime);
            return;
        }
        match self.rng.below(12) {
            10 | 11 => self.operator_corrects(),
            0..=2 => self.operator_halts(),
            3 => self.operator_proves(),
            4..=6 => self.ask_approve(),
            7 => self.approve_wrongly(),
            _ => self.operator_resumes(),
        }
    }

    /// Moves what was booked wrongly, between customers and the house.
    fn operator_corrects(&mut self) {
        let side = |world: &mut World| match world.rng.below(8) {
            0 => Owner::House(HouseAccount::Inventory),
            1 => Owner::House(HouseAccount::Fees),
            2 => Owner::House(HouseAccount::Spread),
            _ => Owner::Customer(world.customer().unwrap_or(CustomerId([0; 16]))),
        };
        let (debit, mut credit) = (side(self), side(self));
        let asset = if self.rng.chance(60) { BTC } else { EUR };
        if asset == EUR && self.rng.chance(20) {
            credit = Owner::House(HouseAccount::Bank);
        }
        let had = self.state(|state| state.ledger().account_of(&debit, asset).map(|account| account.credit_balance()));
        let had = had.flatten().map_or(1_000, |had| had.units()).min(1 << 60) as u64;
        let amount = Amount::new(u128::from(self.rng.below(had + 2)));
        // Few enough references that some come twice.
        let reference = format!("CASE-{}", self.rng.below(200));
        self.ask(Command::BookCorrection { reference, asset, amount, debit, credit });
    }

    /// Ends a halt that the platform set, after looking into it; all that a deep reorganisation halted together.
    fn operator_resumes(&mut self) {
        let halts = self.state(|state| state.halts().clone()).unwrap_or_default();
        let is_watchers = |reason| matches!(reason, HaltReason::ChainSplit | HaltReason::Stale);
        let halts: Vec<Halt> = halts.into_iter().filter(|halt| !is_watchers(halt.reason)).collect();
        let Some(picked) = self.rng.pick(&halts).cloned() else { return };
        let is_of_it = |halt: &Halt| halt.reason == HaltReason::DeepReorganisation && halt.reason == picked.reason;
        for halt in halts.iter().filter(|halt| **halt == picked || is_of_it(halt)) {
            self.ask(Command::Resume(halt.clone()));
        }
    }

    /// Somebody who is no operator approves, and says that this is enough: the signer has to notice.
    fn approve_wrongly(&mut self) {
        let waiting = self.withdrawals_in(&[WithdrawalStatus::AwaitingApproval]);
        let Some(withdrawal) = self.rng.pick(&waiting).map(|withdrawal| withdrawal.id) else { return };
        let approval = Approval { key: self.rng.bytes(), signature: self.rng.bytes() };
        self.ask(Command::ApproveWithdrawal { withdrawal, approval, complete: true });
    }

    fn operator_halts(&mut self) {
        let halts = self.state(|state| state.halts().clone()).unwrap_or_default();
        if let Some(halt) = self.rng.pick(&halts).filter(|halt| halt.reason == HaltReason::Operator) {
            let halt = halt.clone();
            self.ask(Command::Resume(halt));
            return;
        }
        let action = HaltAction::ALL[self.rng.below(HaltAction::ALL.len() as u64) as usize];
        let asset = match self.rng.below(10) {
            0..=5 => Some(BTC),
            6..=7 => Some(EUR),
            _ => None,
        };
        self.ask(Command::Halt(Halt { asset, action, reason: HaltReason::Operator }));
    }
}

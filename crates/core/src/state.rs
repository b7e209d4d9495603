//! The state: the fold of all events. It changes by [`State::apply`] alone, and can restate itself as events.

use crate::asset::{Asset, AssetPolicy, Halt, HaltAction};
use crate::broker::{Pair, Price, Quote};
use crate::command::{EPOCH_GAP_MAX_MS, Outcome, TIME_JUMP_MAX_MS};
use crate::custody::{
    Address, Archived, ArchivedHead, Block, Chain, Coin, Deposit, KeyPath, OutPoint, Plan, Wallet, Withdrawal,
};
use crate::event::{BlockPartBooked, Counters, Customer, Event, Remembered, Unarchived};
use crate::id::{
    AssetId, ChainId, CommandId, CustomerId, Digest, Epoch, Height, HoldId, LedgerTime, PlanId, QuoteId, Seq,
    SessionId, WalletId, WithdrawalId,
};
use crate::index::Index;
use crate::journal::{Batch, Entry, Row};
use crate::ledger::Ledger;
use crate::wire::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A followed chain: its definition and the blocks that may still be taken back.
#[derive(Debug, Clone)]
pub struct ChainState {
    /// The definition.
    pub chain: Chain,
    /// Journalled blocks by height, the tip last.
    pub blocks: BTreeMap<Height, Block>,
    /// The block that is being booked in parts.
    pub part: Option<BlockPartBooked>,
    /// What is known of the records that left the state.
    pub archived: ArchivedHead,
}

impl ChainState {
    /// The journalled tip; `None` only between the definition and its first block, which are one command.
    pub fn tip(&self) -> Option<&Block> {
        self.blocks.values().next_back()
    }
    /// How many blocks confirm one at `height`, itself counted; 0 above the tip.
    pub fn confirmations(&self, height: Height) -> u32 {
        self.tip().map_or(0, |tip| (tip.at.height.0 + 1).saturating_sub(height.0))
    }
}

/// Which way a clock lies further from the last tick than ledger time follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockDoubt {
    /// It shows a later time.
    Ahead,
    /// It shows an earlier time.
    Behind,
}

/// Everything that decides about money. Maps are ordered, so that walking them is the same on every machine.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) counters: Counters,
    pub(crate) assets: BTreeMap<AssetId, Asset>,
    pub(crate) policies: BTreeMap<AssetId, AssetPolicy>,
    pub(crate) halts: Vec<Halt>,
    pub(crate) ledger: Ledger,
    pub(crate) customers: BTreeMap<CustomerId, Customer>,
    pub(crate) bank_references: BTreeSet<String>,
    pub(crate) corrections: BTreeSet<String>,
    pub(crate) sessions: BTreeMap<SessionId, u64>,
    pub(crate) remembered: BTreeMap<CommandId, Remembered>,
    pub(crate) chains: BTreeMap<ChainId, ChainState>,
    pub(crate) wallets: BTreeMap<WalletId, Wallet>,
    pub(crate) addresses: BTreeMap<KeyPath, Address>,
    pub(crate) scripts: BTreeMap<Bytes, KeyPath>,
    pub(crate) coins: BTreeMap<OutPoint, Coin>,
    pub(crate) deposits: BTreeMap<OutPoint, Deposit>,
    pub(crate) withdrawals: BTreeMap<WithdrawalId, Withdrawal>,
    pub(crate) plans: BTreeMap<PlanId, Plan>,
    pub(crate) prices: BTreeMap<Pair, Price>,
    pub(crate) quotes: BTreeMap<QuoteId, Quote>,
    pub(crate) quote_of: BTreeMap<CustomerId, QuoteId>,
    pub(crate) quote_expiries: BTreeSet<(LedgerTime, QuoteId)>,
    pub(crate) index: Index,
}

impl Default for State {
    fn default() -> Self {
        let counters = Counters {
            seq: Seq::START,
            epoch: Epoch(0),
            time: LedgerTime(0),
            ticked: LedgerTime(0),
            jumped_to: None,
            next_hold: HoldId(1),
            next_plan: PlanId(1),
            platform: [0; 16],
            forgotten_until: LedgerTime(0),
        };
        State {
            counters,
            assets: BTreeMap::new(),
            policies: BTreeMap::new(),
            halts: Vec::new(),
            ledger: Ledger::default(),
            customers: BTreeMap::new(),
            bank_references: BTreeSet::new(),
            corrections: BTreeSet::new(),
            sessions: BTreeMap::new(),
            remembered: BTreeMap::new(),
            chains: BTreeMap::new(),
            wallets: BTreeMap::new(),
            addresses: BTreeMap::new(),
            scripts: BTreeMap::new(),
            coins: BTreeMap::new(),
            deposits: BTreeMap::new(),
            withdrawals: BTreeMap::new(),
            plans: BTreeMap::new(),
            prices: BTreeMap::new(),
            quotes: BTreeMap::new(),
            quote_of: BTreeMap::new(),
            quote_expiries: BTreeSet::new(),
            index: Index::default(),
        }
    }
}

macro_rules! readers {
    ($($(#[$meta:meta])* $name:ident: $type:ty),* $(,)?) => {
        impl State {
            $($(#[$meta])* pub fn $name(&self) -> &$type { &self.$name })*
        }
    };
}

readers! {
    /// Counters and clocks.
    counters: Counters,
    /// Assets by id.
    assets: BTreeMap<AssetId, Asset>,
    /// Policies by asset.
    policies: BTreeMap<AssetId, AssetPolicy>,
    /// Halts in force, in the order they were set.
    halts: Vec<Halt>,
    /// Accounts and holds.
    ledger: Ledger,
    /// Customers by id.
    customers: BTreeMap<CustomerId, Customer>,
    /// Bulk sessions with the highest sequence executed.
    sessions: BTreeMap<SessionId, u64>,
    /// Followed chains.
    chains: BTreeMap<ChainId, ChainState>,
    /// Wallets by id.
    wallets: BTreeMap<WalletId, Wallet>,
    /// Issued addresses by key path.
    addresses: BTreeMap<KeyPath, Address>,
    /// Issued scripts and where their keys are.
    scripts: BTreeMap<Bytes, KeyPath>,
    /// Coins by outpoint.
    coins: BTreeMap<OutPoint, Coin>,
    /// Deposits that are not archived.
    deposits: BTreeMap<OutPoint, Deposit>,
    /// Withdrawals that are not archived.
    withdrawals: BTreeMap<WithdrawalId, Withdrawal>,
    /// Plans that are not archived.
    plans: BTreeMap<PlanId, Plan>,
    /// The newest price of each pair.
    prices: BTreeMap<Pair, Price>,
    /// Quotes that stand.
    quotes: BTreeMap<QuoteId, Quote>,
    /// Remembered commands.
    remembered: BTreeMap<CommandId, Remembered>,
}

impl State {
    /// Whether an action is halted for an asset, by a halt of its own or one of all assets.
    pub fn is_halted(&self, asset: AssetId, action: HaltAction) -> bool {
        self.halts.iter().any(|halt| halt.action == action && halt.asset.is_none_or(|halted| halted == asset))
    }

    /// The asset with this code.
    pub fn asset_by_code(&self, code: &str) -> Option<&Asset> {
        self.assets.values().find(|asset| asset.code == code)
    }

    /// Folds a durable row whose link and hash were checked by [`Row::open`].
    ///
    /// # Panics
    /// Where the row contradicts the state: the journal is corrupt, or this build is wrong. Either way nothing may go on.
    pub fn apply_row(&mut self, row: &Row, batch: &Batch) {
        self.begin_row(row.seq, row.time);
        for entry in &batch.entries {
            self.apply_entry(entry);
        }
        assert_eq!(self.counters.epoch, row.epoch, "a row is written under the epoch that is in force");
    }

    /// Moves to a new row: its number and its ledger time.
    pub fn begin_row(&mut self, seq: Seq, time: LedgerTime) {
        assert_eq!(seq, self.counters.seq.next(), "rows are folded in order");
        assert!(time >= self.counters.time, "ledger time never runs backwards");
        self.counters.seq = seq;
        self.counters.time = time;
    }

    /// The ledger time of a row that is begun while the clock shows `clock`: not before the last row's, and not further
    /// beyond the last tick than [`TIME_JUMP_MAX_MS`]. What was stamped once can't be taken back, so a clock that is wrong
    /// for a moment must not take the ledger along.
    pub fn row_time(&self, clock: LedgerTime) -> LedgerTime {
        let Counters { time, ticked, .. } = self.counters;
        let latest = if ticked == LedgerTime(0) { clock } else { ticked.plus_ms(TIME_JUMP_MAX_MS) };
        clock.min(latest).max(time)
    }

    /// Whether ledger time follows a clock: `None` within [`TIME_JUMP_MAX_MS`] of the last tick, and before the first one.
    pub fn clock_doubt(&self, clock: LedgerTime) -> Option<ClockDoubt> {
        let ticked = self.counters.ticked;
        if ticked == LedgerTime(0) {
            None
        } else if clock.since_ms(ticked) > TIME_JUMP_MAX_MS {
            Some(ClockDoubt::Ahead)
        } else if ticked.since_ms(clock) > TIME_JUMP_MAX_MS {
            Some(ClockDoubt::Behind)
        } else {
            None
        }
    }

    /// What is noted of the clock and not settled: while there is something, ledger time may be wrong, and nothing is
    /// decided that only its expiry would forbid.
    pub fn clock_noted(&self) -> Option<ClockDoubt> {
        // While a jump stands nothing ticks, so that what it was measured from is still there.
        let to = self.counters.jumped_to?;
        Some(if to < self.counters.ticked { ClockDoubt::Behind } else { ClockDoubt::Ahead })
    }

    /// Whether [`crate::command::Command::SeeClock`] with this clock would note a jump.
    pub fn is_clock_news(&self, clock: LedgerTime) -> bool {
        let doubt = self.clock_doubt(clock);
        doubt.is_some() && doubt != self.clock_noted()
    }

    /// The ledger time of the row that starts an epoch while the clock shows `clock`. The clock is believed unless a jump
    /// waits for an operator or nobody wrote for more than [`EPOCH_GAP_MAX_MS`]: then ledger time stands still until
    /// somebody confirms it. An empty journal has no time to compare with, and nothing to lose.
    pub fn epoch_time(&self, clock: LedgerTime) -> LedgerTime {
        let Counters { time, jumped_to, .. } = self.counters;
        let is_believed = jumped_to.is_none() && clock.since_ms(time) <= EPOCH_GAP_MAX_MS;
        if time == LedgerTime(0) || is_believed { clock.max(time) } else { time }
    }

    /// Folds one command's events and remembers its answer.
    pub fn apply_entry(&mut self, entry: &Entry) {
        for event in &entry.events {
            self.apply(event);
        }
        if let (Some(command), Some(request), Some(outcome)) = (entry.command, entry.request, &entry.outcome) {
            self.remember(command, request, outcome, self.counters.time);
        }
    }

    /// Remembers a command's answer, so that its repetition gets the same.
    pub(crate) fn remember(&mut self, command: CommandId, request: Digest, outcome: &Outcome, at: LedgerTime) {
        self.remembered.insert(command, Remembered { command, request, outcome: outcome.clone(), at });
    }

    /// Folds one event. Total: every event that `decide` emits applies, and it reads no clock and no rule.
    ///
    /// # Panics
    /// Where the event contradicts the state.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::EpochStarted(_)
            | Event::Ticked(_)
            | Event::TimeJumped(_)
            | Event::TimeConfirmed(_)
            | Event::SessionAdvanced(_)
            | Event::Forgotten(_)
            | Event::SessionForgotten(_)
            | Event::RestateCounters(_)
            | Event::RestateRemembered(_) => self.apply_system(event),
            Event::AssetDefined(_) | Event::AssetPolicySet(_) | Event::Halted(_) | Event::Resumed(_) => {
                self.apply_asset(event)
            }
            Event::AccountOpened(_)
            | Event::TransfersPosted(_)
            | Event::HoldPlaced(_)
            | Event::HoldPosted(_)
            | Event::HoldReleased(_)
            | Event::BankReceiptBooked(_)
            | Event::CorrectionBooked(_)
            | Event::CustomerSet(_)
            | Event::RestateAccount(_)
            | Event::RestateHold(_) => self.apply_ledger(event),
            Event::ChainDefined(_)
            | Event::WalletRegistered(_)
            | Event::AddressIssued(_)
            | Event::WalletRetired(_)
            | Event::BlockConnected(_)
            | Event::BlockDisconnected(_)
            | Event::BlockPartBooked(_)
            | Event::BlockArchived(_)
            | Event::Unarchived(_)
            | Event::RestateArchived(_)
            | Event::RestateWallet(_)
            | Event::RestateAddress(_) => self.apply_chain(event),
            Event::CoinReceived(_)
            | Event::CoinSpent(_)
            | Event::CoinUnspent(_)
            | Event::CoinRemoved(_)
            | Event::DepositSeen(_)
            | Event::DepositMoved(_)
            | Event::DepositArchived(_)
            | Event::RestateCoin(_) => self.apply_coin(event),
            Event::WithdrawalRequested(_)
            | Event::WithdrawalApproved(_)
            | Event::WithdrawalMoved(_)
            | Event::WithdrawalArchived(_)
            | Event::SigningRequested(_)
            | Event::PlanSigned(_)
            | Event::PlanBumped(_)
            | Event::PlanMoved(_)
            | Event::PlanArchived(_)
            | Event::RestatePlan(_)
            | Event::RestateWithdrawal(_) => self.apply_withdrawal(event),
            Event::PriceSet(_) | Event::QuoteOffered(_) | Event::QuoteEnded(_) => self.apply_broker(event),
        }
    }

    fn apply_system(&mut self, event: &Event) {
        match event {
            Event::EpochStarted(started) => {
                assert_eq!(started.epoch.0, self.counters.epoch.0 + 1, "epochs are counted without gaps");
                self.counters.epoch = started.epoch;
                if self.counters.jumped_to.is_none() {
                    // Nobody wrote between two epochs: that time passed is no jump of the clock.
                    self.counters.ticked = self.counters.time;
                }
                self.counters.platform = started.platform;
            }
            Event::Ticked(tick) => {
                self.counters.ticked = tick.until;
                // Nothing ticks while a jump stands, unless the clock has come back to the time it was behind.
                self.counters.jumped_to = None;
            }
            Event::TimeJumped(jump) => self.counters.jumped_to = Some(jump.to),
            Event::TimeConfirmed(_) => self.counters.jumped_to = None,
            Event::SessionAdvanced(advance) => {
                self.sessions.insert(advance.session, advance.sequence);
            }
            Event::Forgotten(forgotten) => {
                self.remembered.remove(&forgotten.command).expect("what is forgotten was remembered");
                let until = LedgerTime(forgotten.command.unix_ms() + 1);
                self.counters.forgotten_until = self.counters.forgotten_until.max(until);
            }
            Event::SessionForgotten(forgotten) => {
                self.sessions.remove(&forgotten.session).expect("a session that is forgotten was known");
            }
            Event::RestateCounters(counters) => self.counters = counters.clone(),
            Event::RestateRemembered(remembered) => {
                self.remembered.insert(remembered.command, remembered.clone());
            }
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn apply_asset(&mut self, event: &Event) {
        match event {
            Event::AssetDefined(asset) => {
                let before = self.assets.insert(asset.id, asset.clone());
                assert!(before.is_none(), "an asset's definition never changes");
            }
            Event::AssetPolicySet(policy) => {
                self.policies.insert(policy.asset, policy.clone());
            }
            Event::Halted(halt) => self.halts.push(halt.clone()),
            Event::Resumed(halt) => self.halts.retain(|other| other != halt),
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn apply_ledger(&mut self, event: &Event) {
        match event {
            Event::AccountOpened(account) | Event::RestateAccount(account) => self.ledger.insert(account.clone()),
            Event::TransfersPosted(posted) => posted.transfers.iter().for_each(|transfer| self.ledger.post(transfer)),
            Event::HoldPlaced(hold) => {
                self.counters.next_hold = HoldId(hold.id.0 + 1);
                self.ledger.place(hold.clone());
            }
            Event::HoldPosted(posted) => self.ledger.post_hold(posted.hold, posted.amount),
            Event::HoldReleased(released) => self.ledger.release(released.hold),
            Event::RestateHold(hold) => self.ledger.restate_hold(hold.clone()),
            Event::BankReceiptBooked(receipt) => {
                let new = self.bank_references.insert(receipt.reference.clone());
                assert!(new, "a bank reference is booked once");
            }
            Event::CorrectionBooked(correction) => {
                let new = self.corrections.insert(correction.reference.clone());
                assert!(new, "a correction's reference is booked once");
            }
            Event::CustomerSet(customer) => {
                self.customers.insert(customer.id, customer.clone());
            }
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn apply_chain(&mut self, event: &Event) {
        match event {
            Event::ChainDefined(chain) => {
                let archived = ArchivedHead::empty(chain.id);
                let state = ChainState { chain: chain.clone(), blocks: BTreeMap::new(), part: None, archived };
                assert!(self.chains.insert(chain.id, state).is_none(), "a chain's definition never changes");
            }
            Event::WalletRegistered(wallet) => {
                assert!(self.wallets.insert(wallet.id, wallet.clone()).is_none(), "a wallet is registered once");
            }
            Event::RestateWallet(wallet) => {
                self.wallets.insert(wallet.id, wallet.clone());
            }
            Event::WalletRetired(retired) => self.wallet_mut(retired.wallet).retired = true,
            Event::AddressIssued(address) => {
                let wallet = self.wallet_mut(address.path.wallet);
                let next = match address.path.branch {
                    crate::custody::Branch::External => &mut wallet.next_external,
                    crate::custody::Branch::Internal => &mut wallet.next_internal,
                };
                assert_eq!(*next, address.path.index, "no index is handed out twice");
                *next += 1;
                self.insert_address(address);
            }
            Event::RestateAddress(address) => self.insert_address(address),
            Event::BlockConnected(block) => {
                let chain = self.chain_mut(block.chain);
                if let Some(tip) = chain.tip() {
                    assert!(
                        tip.at.hash == block.previous && tip.at.height.0 + 1 == block.at.height.0,
                        "a block extends the tip"
                    );
                }
                chain.part = None;
                chain.blocks.insert(block.at.height, block.clone());
            }
            Event::BlockPartBooked(part) => self.chain_mut(part.block.chain).part = Some(part.clone()),
            Event::BlockDisconnected(gone) => {
                let chain = self.chain_mut(gone.chain);
                if chain.part.take_if(|part| part.block.at == gone.at).is_some() {
                    return;
                }
                let tip = chain.blocks.pop_last().expect("a chain that goes back has a tip").1;
                assert_eq!(tip.at, gone.at, "only the tip is disconnected");
            }
            Event::BlockArchived(archived) => {
                let first =
                    self.chain_mut(archived.chain).blocks.pop_first().expect("an archived block was journalled").1;
                assert_eq!(first.at, archived.at, "blocks are archived oldest first");
                self.note_archived(archived.chain, &Archived::Block(first));
            }
            Event::Unarchived(back) => self.unarchive(back),
            Event::RestateArchived(head) => self.chain_mut(head.chain).archived = *head,
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn apply_coin(&mut self, event: &Event) {
        match event {
            Event::CoinReceived(coin) => {
                assert!(self.coins.insert(coin.outpoint, coin.clone()).is_none(), "an output arrives once");
                self.index.insert_coin(coin);
                self.mark_used(&coin.path);
            }
            Event::RestateCoin(coin) => {
                self.index.insert_coin(coin);
                self.coins.insert(coin.outpoint, coin.clone());
            }
            Event::CoinSpent(spend) => {
                self.reindex_coin(spend.outpoint, |state| {
                    let before = state.coin_mut(spend.outpoint).spent.replace(spend.spent.clone());
                    assert!(before.is_none(), "a coin is spent once");
                });
            }
            Event::CoinUnspent(coin) => {
                self.reindex_coin(coin.outpoint, |state| {
                    state.coin_mut(coin.outpoint).spent.take().expect("only a spent coin comes back");
                });
            }
            Event::CoinRemoved(coin) => {
                let mut removed = None;
                self.reindex_coin(coin.outpoint, |state| removed = state.coins.remove(&coin.outpoint));
                let removed = removed.expect("a removed coin was there");
                // One that is taken back with its block leaves unspent, and comes again by itself.
                if removed.spent.is_some() {
                    self.note_archived(coin.outpoint.chain, &Archived::Coin(removed));
                }
            }
            Event::DepositSeen(deposit) => {
                assert!(
                    self.deposits.insert(deposit.outpoint, deposit.clone()).is_none(),
                    "a deposit is first seen once"
                );
                self.index.insert_deposit(deposit);
            }
            Event::DepositMoved(moved) => {
                let deposit = self.deposits.get_mut(&moved.outpoint).expect("a deposit that moves is known");
                self.index.remove_deposit(deposit);
                deposit.status = moved.status;
                deposit.at = moved.at;
                deposit.hold = moved.hold;
                deposit.missing_since = moved.missing_since;
                deposit.debited = moved.debited;
                deposit.due = moved.due;
                self.index.insert_deposit(deposit);
            }
            Event::DepositArchived(archived) => {
                let deposit = self.deposits.remove(&archived.outpoint).expect("an archived deposit was there");
                self.index.remove_deposit(&deposit);
                if deposit.status == crate::custody::DepositStatus::Credited {
                    self.note_archived(archived.outpoint.chain, &Archived::Deposit(deposit));
                }
            }
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn apply_withdrawal(&mut self, event: &Event) {
        match event {
            Event::WithdrawalRequested(withdrawal) => {
                assert!(
                    self.withdrawals.insert(withdrawal.id, withdrawal.clone()).is_none(),
                    "a withdrawal is requested once"
                );
                self.index.insert_withdrawal(withdrawal);
            }
            Event::RestateWithdrawal(withdrawal) => {
                self.index.insert_withdrawal(withdrawal);
                self.withdrawals.insert(withdrawal.id, withdrawal.clone());
            }
            Event::WithdrawalApproved(approved) => {
                self.withdrawal_mut(approved.withdrawal).approvals.push(approved.approval.clone());
            }
            Event::WithdrawalMoved(moved) => {
                let withdrawal =
                    self.withdrawals.get_mut(&moved.withdrawal).expect("a withdrawal is requested before its events");
                self.index.remove_withdrawal(withdrawal);
                withdrawal.status = moved.status;
                withdrawal.hold = moved.hold;
                withdrawal.plan = moved.plan;
                withdrawal.paid = moved.paid.clone();
                self.index.insert_withdrawal(withdrawal);
            }
            Event::WithdrawalArchived(archived) => {
                let withdrawal =
                    self.withdrawals.remove(&archived.withdrawal).expect("an archived withdrawal was there");
                self.index.remove_withdrawal(&withdrawal);
                if withdrawal.plan.is_some() {
                    let chain = self.wallet_mut(withdrawal.intent.wallet).chain;
                    self.note_archived(chain, &Archived::Withdrawal(withdrawal));
                }
            }
            Event::SigningRequested(plan) => {
                for input in &plan.inputs {
                    let before = self.coin_mut(*input).reserved.replace(plan.id);
                    assert!(before.is_none(), "a coin is reserved by one plan");
                }
                self.counters.next_plan = PlanId(plan.id.0 + 1);
                self.plans.insert(plan.id, plan.clone());
                self.index_plan(plan.id);
            }
            Event::RestatePlan(plan) => {
                self.plans.insert(plan.id, plan.clone());
                self.index_plan(plan.id);
            }
            Event::PlanSigned(signed) => {
                let plan = self.plan_mut(signed.plan);
                let version = plan.versions.get_mut(signed.version as usize).expect("a signed version was planned");
                version.signed = Some(signed.signed.clone());
                version.txid = Some(signed.txid);
            }
            Event::PlanBumped(bumped) => self.plan_mut(bumped.plan).versions.push(bumped.version.clone()),
            Event::PlanMoved(moved) => {
                self.unindex_plan(moved.plan);
                let plan = self.plan_mut(moved.plan);
                plan.status = moved.status;
                plan.paid = moved.paid.clone();
                if matches!(moved.status, crate::custody::PlanStatus::Voided | crate::custody::PlanStatus::Conflicted) {
                    self.unreserve(moved.plan);
                }
                self.index_plan(moved.plan);
            }
            Event::PlanArchived(archived) => {
                self.unindex_plan(archived.plan);
                let plan = self.plans.remove(&archived.plan).expect("an archived plan was there");
                if matches!(plan.status, crate::custody::PlanStatus::Final | crate::custody::PlanStatus::Conflicted) {
                    self.note_archived(plan.anchor.chain, &Archived::Plan(plan));
                }
            }
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn apply_broker(&mut self, event: &Event) {
        match event {
            Event::PriceSet(price) => {
                self.prices.insert(price.pair, price.clone());
            }
            Event::QuoteOffered(quote) => {
                let before = self.quote_of.insert(quote.customer, quote.id);
                assert!(before.is_none(), "a customer has one live quote");
                self.quote_expiries.insert((quote.expiry, quote.id));
                self.quotes.insert(quote.id, quote.clone());
            }
            Event::QuoteEnded(ended) => {
                let quote = self.quotes.remove(&ended.quote).expect("a quote that ends was there");
                self.quote_of.remove(&quote.customer);
                self.quote_expiries.remove(&(quote.expiry, quote.id));
            }
            _ => unreachable!("dispatched by apply"),
        }
    }

    fn note_archived(&mut self, chain: ChainId, record: &Archived) {
        let archived = &mut self.chain_mut(chain).archived;
        *archived = archived.with(record);
    }

    fn unarchive(&mut self, back: &Unarchived) {
        let chain = self.chain_mut(back.chain);
        chain.archived =
            chain.archived.without(back.below, &back.records).expect("what comes back is what left the state last");
        // The last one first, as they follow upon each other.
        for record in back.records.iter().rev() {
            match record {
                Archived::Block(block) => {
                    let blocks = &mut self.chain_mut(back.chain).blocks;
                    let follows = |(_, oldest): (&Height, &Block)| oldest.previous == block.at.hash;
                    assert!(blocks.first_key_value().is_some_and(follows), "a block comes back below the one after it");
                    blocks.insert(block.at.height, block.clone());
                }
                Archived::Deposit(deposit) => {
                    self.index.insert_deposit(deposit);
                    let before = self.deposits.insert(deposit.outpoint, deposit.clone());
                    assert!(before.is_none(), "a deposit that comes back was gone");
                }
                Archived::Withdrawal(withdrawal) => {
                    self.index.insert_withdrawal(withdrawal);
                    let before = self.withdrawals.insert(withdrawal.id, withdrawal.clone());
                    assert!(before.is_none(), "a withdrawal that comes back was gone");
                }
                Archived::Plan(plan) => {
                    assert!(self.plans.insert(plan.id, plan.clone()).is_none(), "a plan that comes back was gone");
                    self.index_plan(plan.id);
                }
                Archived::Coin(coin) => {
                    self.index.insert_coin(coin);
                    assert!(
                        self.coins.insert(coin.outpoint, coin.clone()).is_none(),
                        "a coin that comes back was gone"
                    );
                }
            }
        }
    }

    fn unreserve(&mut self, plan: PlanId) {
        let inputs = self.plan_mut(plan).inputs.clone();
        for input in inputs {
            // An input that a foreign transaction has taken for good is no coin of ours any more.
            if let Some(coin) = self.coins.get_mut(&input) {
                coin.reserved = None;
            }
        }
    }

    fn insert_address(&mut self, address: &Address) {
        let before = self.scripts.insert(address.script.clone(), address.path);
        assert!(before.is_none(), "a script is handed out once");
        self.index.insert_address(address);
        self.addresses.insert(address.path, address.clone());
    }

    fn chain_mut(&mut self, id: ChainId) -> &mut ChainState {
        self.chains.get_mut(&id).expect("a chain is defined before its events")
    }
    fn wallet_mut(&mut self, id: WalletId) -> &mut Wallet {
        self.wallets.get_mut(&id).expect("a wallet is registered before its events")
    }
    fn coin_mut(&mut self, outpoint: OutPoint) -> &mut Coin {
        self.coins.get_mut(&outpoint).expect("a coin arrives before its events")
    }
    fn withdrawal_mut(&mut self, id: WithdrawalId) -> &mut Withdrawal {
        self.withdrawals.get_mut(&id).expect("a withdrawal is requested before its events")
    }
    fn plan_mut(&mut self, id: PlanId) -> &mut Plan {
        self.plans.get_mut(&id).expect("a plan is proposed before its events")
    }

    /// Says the whole state as events that, folded from nothing, give it back byte for byte.
    pub fn restate(&self, mut say: impl FnMut(Event)) {
        self.assets.values().for_each(|asset| say(Event::AssetDefined(asset.clone())));
        self.policies.values().for_each(|policy| say(Event::AssetPolicySet(policy.clone())));
        self.halts.iter().for_each(|halt| say(Event::Halted(halt.clone())));
        self.ledger.accounts().iter().for_each(|account| say(Event::RestateAccount(account.clone())));
        self.ledger.holds().values().for_each(|hold| say(Event::RestateHold(hold.clone())));
        self.customers.values().for_each(|customer| say(Event::CustomerSet(customer.clone())));
        for reference in &self.bank_references {
            say(Event::BankReceiptBooked(crate::event::BankReceiptBooked { reference: reference.clone() }));
        }
        for reference in &self.corrections {
            say(Event::CorrectionBooked(crate::event::CorrectionBooked { reference: reference.clone() }));
        }
        for (&session, &sequence) in &self.sessions {
            say(Event::SessionAdvanced(crate::event::SessionAdvanced { session, sequence }));
        }
        self.remembered.values().for_each(|remembered| say(Event::RestateRemembered(remembered.clone())));
        for chain in self.chains.values() {
            say(Event::ChainDefined(chain.chain.clone()));
            chain.blocks.values().for_each(|block| say(Event::BlockConnected(block.clone())));
            chain.part.iter().for_each(|part| say(Event::BlockPartBooked(part.clone())));
            say(Event::RestateArchived(chain.archived));
        }
        self.wallets.values().for_each(|wallet| say(Event::RestateWallet(wallet.clone())));
        self.addresses.values().for_each(|address| say(Event::RestateAddress(address.clone())));
        self.coins.values().for_each(|coin| say(Event::RestateCoin(coin.clone())));
        self.deposits.values().for_each(|deposit| say(Event::DepositSeen(deposit.clone())));
        self.withdrawals.values().for_each(|withdrawal| say(Event::RestateWithdrawal(withdrawal.clone())));
        self.plans.values().for_each(|plan| say(Event::RestatePlan(plan.clone())));
        self.prices.values().for_each(|price| say(Event::PriceSet(price.clone())));
        self.quotes.values().for_each(|quote| say(Event::QuoteOffered(quote.clone())));
        // Last: some of the above move counters, and these are what they shall be.
        say(Event::RestateCounters(self.counters.clone()));
    }
}

//! Deciding: a request becomes events or a refusal. Nothing here asks anybody; all that is known stands in state, command and time.
//!
//! Decisions emit into a `Draft`, which folds each event as it is emitted: later steps of one command see what earlier
//! ones did, and `decide` and `apply` can't drift apart, since `decide` changes state through `apply` alone. Every
//! refusal comes before the first event, so a refused command has changed nothing.

mod admin;
mod block;
mod broker;
mod correction;
mod deposit;
mod ledger;
mod plan;
mod withdrawal;

pub use admin::{
    AdminRefusal, CHAIN_NAME_MAX, CONFIRMATIONS_MAX, DEPTH_STEPS_MAX, TICK_CUSTODY_EVENTS, TICK_FORGET_EVENTS, TICK_MS,
    TICK_QUOTE_EVENTS, TICK_SESSION_EVENTS,
};
pub use block::settle::KEPT_BLOCKS;
pub use block::unarchive::unarchive_from;
pub use block::{BlockRefusal, OUTPUT_AMOUNT_MAX};
pub use broker::{
    ACCEPT_BAND_PERCENT, AcceptQuoteRefusal, PRICE_AGE_MAX_MS, PRICE_BAND, PRICE_UNITS_MAX, PriceRefusal, QUOTE_MS_MAX,
    QuoteRefusal, SPREAD_BP_MAX,
};
pub use correction::CorrectionRefusal;
pub use deposit::{
    AddressRefusal, DESCRIPTOR_MAX, REPLACED_KEPT_MS, SCRIPT_MAX, SEEN_PER_ADDRESS_MAX, SEEN_PER_CHAIN_MAX,
    UNUSED_ADDRESSES_MAX,
};
pub use ledger::{AccountRefusal, BankReceiptRefusal, REFERENCE_MAX, TRANSFERS_MAX, TransferRefusal};
pub use plan::{PlanRefusal, RECEIPT_MAX, SIGNED_MAX, UNSIGNED_MAX, VOIDED_KEPT};
pub use withdrawal::{APPROVALS_MAX, ApprovalRefusal, CLOSED_KEPT_MS, CancelRefusal, WithdrawalRefusal};

use crate::amount::Amount;
use crate::asset::{Halt, HaltAction, HaltReason};
use crate::command::{
    Command, ID_AHEAD_MS, Origin, Outcome, REMEMBER_MAX, REMEMBER_MS, Request, SESSION_MS, SESSIONS_MAX,
};
use crate::event::{Event, Forgotten, HoldPosted, HoldReleased, SessionAdvanced, TransfersPosted};
use crate::id::{AccountId, AssetId, CommandId, HoldId, LedgerTime, SessionId};
use crate::ledger::{Account, Hold, Owner, Transfer, TransferReason};
use crate::state::{ClockDoubt, State};

/// Why a request was not executed. Each kind of command has its own closed list, most precise reason first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request's id or sequence.
    #[error(transparent)]
    Origin(#[from] OriginRefusal),
    /// Definitions, policies, halts, time.
    #[error(transparent)]
    Admin(#[from] AdminRefusal),
    /// Opening accounts and customers.
    #[error(transparent)]
    Account(#[from] AccountRefusal),
    /// A bulk caller's transfers.
    #[error(transparent)]
    Transfer(#[from] TransferRefusal),
    /// A bank receipt.
    #[error(transparent)]
    BankReceipt(#[from] BankReceiptRefusal),
    /// A correction.
    #[error(transparent)]
    Correction(#[from] CorrectionRefusal),
    /// Wallets and addresses.
    #[error(transparent)]
    Address(#[from] AddressRefusal),
    /// A block or a mempool's view.
    #[error(transparent)]
    Block(#[from] BlockRefusal),
    /// A price.
    #[error(transparent)]
    Price(#[from] PriceRefusal),
    /// A request for a quote.
    #[error(transparent)]
    Quote(#[from] QuoteRefusal),
    /// The acceptance of a quote.
    #[error(transparent)]
    AcceptQuote(#[from] AcceptQuoteRefusal),
    /// A withdrawal.
    #[error(transparent)]
    Withdrawal(#[from] WithdrawalRefusal),
    /// An approval.
    #[error(transparent)]
    Approval(#[from] ApprovalRefusal),
    /// A cancellation.
    #[error(transparent)]
    Cancel(#[from] CancelRefusal),
    /// A plan, its signature, or its end.
    #[error(transparent)]
    Plan(#[from] PlanRefusal),
}

impl Refusal {
    /// The stable code of this refusal, as APIs show it and docs/errors.md lists it.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Origin(refusal) => refusal.code(),
            Refusal::Admin(refusal) => refusal.code(),
            Refusal::Account(refusal) => refusal.code(),
            Refusal::Transfer(refusal) => refusal.code(),
            Refusal::BankReceipt(refusal) => refusal.code(),
            Refusal::Correction(refusal) => refusal.code(),
            Refusal::Address(refusal) => refusal.code(),
            Refusal::Block(refusal) => refusal.code(),
            Refusal::Price(refusal) => refusal.code(),
            Refusal::Quote(refusal) => refusal.code(),
            Refusal::AcceptQuote(refusal) => refusal.code(),
            Refusal::Withdrawal(refusal) => refusal.code(),
            Refusal::Approval(refusal) => refusal.code(),
            Refusal::Cancel(refusal) => refusal.code(),
            Refusal::Plan(refusal) => refusal.code(),
        }
    }
}

/// Declares a closed list of refusals: variant, stable code, text for people. The order is the order of precedence.
macro_rules! refusals {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $code:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
        pub enum $name { $($(#[$variant_meta])* #[error($text)] $variant),* }
        impl $name {
            /// Every refusal, in order of precedence.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $($name::$variant => $code),* }
            }
        }
    };
}
pub(crate) use refusals;

refusals! {
    /// Why a request's id or sequence is refused, whatever it asks.
    pub enum OriginRefusal {
        /// Not a UUIDv7.
        InvalidId => "id_invalid", "a command's id is a UUID of version 7";
        /// The same id came with another request.
        Mismatch => "idempotency_mismatch", "this id was used for another request";
        /// Older than [`REMEMBER_MS`], or than what is remembered: it may have been executed, so it never is again.
        Expired => "id_expired", "the command's id is older than what is remembered; use a new one";
        /// Its time lies ahead of ours.
        Ahead => "id_ahead", "the command's id lies in the future; check the sender's clock";
        /// Not a UUIDv7.
        SessionInvalid => "session_invalid", "a session's id is a UUID of version 7";
        /// The sequence was executed already.
        SequenceDone => "sequence_done", "this sequence of the session was executed already";
        /// Older than [`SESSION_MS`]. As long as the session is known, a sequence that was executed is not refused so.
        SessionExpired => "session_expired", "the session is too old for new sequences; begin another";
        /// Its time lies ahead of ours.
        SessionAhead => "session_ahead", "the session's id lies in the future; check the sender's clock";
        /// [`SESSIONS_MAX`] are known, and this is another.
        SessionsFull => "sessions_full", "too many sessions are known; use one of them, or wait until they are old";
        /// A sequence before it is missing.
        SequenceGap => "sequence_gap", "a sequence before this one is missing";
    }
}

/// What came of a request that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was executed: these are its events, already folded.
    Decided {
        /// The events.
        events: Vec<Event>,
        /// The answer.
        outcome: Outcome,
    },
    /// It was executed before; this was its answer.
    Repeated(Outcome),
}

/// A decision under way: the state with everything emitted so far folded in.
pub(crate) struct Draft<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) now: LedgerTime,
    pub(crate) id: Option<CommandId>,
    pub(crate) events: Vec<Event>,
}

impl Draft<'_> {
    /// Emits an event and folds it.
    pub(crate) fn emit(&mut self, event: Event) {
        self.state.apply(&event);
        self.events.push(event);
    }

    /// The owner's account of an asset; opened where it does not exist. Not for plain accounts.
    pub(crate) fn account(&mut self, owner: Owner, asset: AssetId) -> AccountId {
        if let Some(account) = self.state.ledger.account_of(&owner, asset) {
            return account.id;
        }
        let rule = owner.rule().expect("plain accounts are opened by their callers");
        let id = self.state.ledger.next_account();
        self.emit(Event::AccountOpened(Account::new(id, owner, asset, rule)));
        id
    }

    /// What the owner may spend of an asset.
    pub(crate) fn available(&self, owner: &Owner, asset: AssetId) -> Amount {
        self.state.ledger.account_of(owner, asset).map_or(Amount::ZERO, Account::available)
    }

    /// Posts linked transfers; those of nothing are left out.
    pub(crate) fn post(&mut self, transfers: impl IntoIterator<Item = Transfer>) {
        let transfers: Vec<Transfer> = transfers.into_iter().filter(|transfer| !transfer.amount.is_zero()).collect();
        if !transfers.is_empty() {
            self.emit(Event::TransfersPosted(TransfersPosted { transfers }));
        }
    }

    /// Places a hold of more than nothing.
    pub(crate) fn hold(
        &mut self,
        debit: AccountId,
        credit: AccountId,
        amount: Amount,
        reason: TransferReason,
    ) -> HoldId {
        let id = self.state.counters.next_hold;
        self.emit(Event::HoldPlaced(Hold { id, transfer: Transfer { debit, credit, amount, reason } }));
        id
    }

    /// Posts part or all of a hold; the rest is released.
    pub(crate) fn post_hold(&mut self, hold: HoldId, amount: Amount) {
        self.emit(Event::HoldPosted(HoldPosted { hold, amount }));
    }

    /// Forgets the smallest remembered id where memory is full.
    fn make_room_to_remember(&mut self) {
        if self.state.remembered.len() < REMEMBER_MAX {
            return;
        }
        if let Some((&command, _)) = self.state.remembered.first_key_value() {
            self.emit(Event::Forgotten(Forgotten { command }));
        }
    }

    /// Halts an action for an asset, unless it is halted for this reason.
    pub(crate) fn halt(&mut self, asset: AssetId, action: HaltAction, reason: HaltReason) {
        let halt = Halt { asset: Some(asset), action, reason };
        if !self.state.halts.contains(&halt) {
            self.emit(Event::Halted(halt));
        }
    }

    /// Halts all that relies on a chain's depth: what counted as final is not.
    pub(crate) fn halt_for_reorganisation(&mut self, asset: AssetId) {
        for action in [HaltAction::Credit, HaltAction::Withdraw, HaltAction::Sign] {
            self.halt(asset, action, HaltReason::DeepReorganisation);
        }
    }

    /// Releases a hold.
    pub(crate) fn release(&mut self, hold: HoldId) {
        self.emit(Event::HoldReleased(HoldReleased { hold }));
    }
}

impl State {
    /// Decides a request at ledger time `now`, and folds what it decides: its events, and for a request from outside its
    /// answer, exactly as [`State::apply_entry`] does from the journal. `now` is the ledger time of the row that will hold it.
    ///
    /// # Errors
    /// First the request's origin ([`OriginRefusal`]), then its command's own list. A refusal has changed nothing.
    pub fn decide(&mut self, request: &Request, now: LedgerTime) -> Result<Verdict, Refusal> {
        if let Some(outcome) = self.check_origin(&request.origin, now)? {
            return Ok(Verdict::Repeated(outcome));
        }
        let id = match request.origin {
            Origin::Request { id, .. } => Some(id),
            Origin::Session { .. } | Origin::Internal => None,
        };
        let mut draft = Draft { state: self, now, id, events: Vec::new() };
        let outcome = match execute(&mut draft, &request.command) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                assert!(draft.events.is_empty(), "a refusal comes before the first event");
                return Err(refusal);
            }
        };
        if let Origin::Session { session, sequence } = request.origin {
            draft.emit(Event::SessionAdvanced(SessionAdvanced { session, sequence }));
        }
        if let Origin::Request { id, request } = request.origin {
            draft.make_room_to_remember();
            draft.state.remember(id, request, &outcome, now);
        }
        let events = draft.events;
        Ok(Verdict::Decided { events, outcome })
    }

    fn check_origin(&self, origin: &Origin, now: LedgerTime) -> Result<Option<Outcome>, OriginRefusal> {
        match origin {
            Origin::Internal => Ok(None),
            Origin::Session { session, sequence } => self.check_session(*session, *sequence, now).map(|()| None),
            Origin::Request { id, request } => {
                if !id.is_v7() {
                    return Err(OriginRefusal::InvalidId);
                }
                if let Some(remembered) = self.remembered.get(id) {
                    let same = remembered.request == *request;
                    return if same { Ok(Some(remembered.outcome.clone())) } else { Err(OriginRefusal::Mismatch) };
                }
                // Where the clock is behind ledger time, so are those of honest senders: operators have to get in all the same.
                let is_behind = self.clock_noted() == Some(ClockDoubt::Behind);
                let clock = self.counters.jumped_to.filter(|_| is_behind).map_or(now, |shown| shown.min(now));
                let is_old = clock.since_ms(LedgerTime(id.unix_ms())) >= REMEMBER_MS;
                if is_old || id.unix_ms() < self.counters.forgotten_until.0 {
                    return Err(OriginRefusal::Expired);
                }
                if id.unix_ms() > now.0.saturating_add(ID_AHEAD_MS) {
                    return Err(OriginRefusal::Ahead);
                }
                Ok(None)
            }
        }
    }

    /// Whether a sequence is a session's next. A session's own time decides whether it still takes any, so that one that was
    /// forgotten can't begin again.
    fn check_session(&self, session: SessionId, sequence: u64, now: LedgerTime) -> Result<(), OriginRefusal> {
        if !session.is_v7() {
            return Err(OriginRefusal::SessionInvalid);
        }
        let known = self.sessions.get(&session).copied();
        let last = known.unwrap_or(0);
        if sequence <= last {
            return Err(OriginRefusal::SequenceDone);
        }
        let began = LedgerTime(session.unix_ms());
        if now.since_ms(began) >= SESSION_MS {
            return Err(OriginRefusal::SessionExpired);
        }
        if began.since_ms(now) > ID_AHEAD_MS {
            return Err(OriginRefusal::SessionAhead);
        }
        if known.is_none() && self.sessions.len() >= SESSIONS_MAX {
            return Err(OriginRefusal::SessionsFull);
        }
        if sequence - last > 1 { Err(OriginRefusal::SequenceGap) } else { Ok(()) }
    }
}

fn execute(draft: &mut Draft<'_>, command: &Command) -> Result<Outcome, Refusal> {
    Ok(match command {
        Command::Tick => admin::tick(draft)?,
        Command::ConfirmTime => admin::confirm_time(draft)?,
        Command::SeeClock { clock } => admin::see_clock(draft, *clock)?,
        Command::DefineAsset(asset) => admin::define_asset(draft, asset)?,
        Command::SetAssetPolicy(policy) => admin::set_asset_policy(draft, policy)?,
        Command::Halt(halt) => admin::halt(draft, halt)?,
        Command::Resume(halt) => admin::resume(draft, halt)?,
        Command::DefineChain { chain, start } => admin::define_chain(draft, chain, start)?,
        Command::RegisterWallet(wallet) => deposit::register_wallet(draft, wallet)?,
        Command::RetireWallet(wallet) => deposit::retire_wallet(draft, *wallet)?,
        Command::OpenCustomer(customer) => ledger::open_customer(draft, *customer)?,
        Command::OpenAccount { owner, asset, rule } => ledger::open_account(draft, owner, *asset, *rule)?,
        Command::PostTransfers(transfers) => ledger::post_transfers(draft, transfers)?,
        Command::BookBankReceipt { reference, asset, amount, beneficiary } => {
            ledger::book_bank_receipt(draft, reference, *asset, *amount, beneficiary)?
        }
        Command::BookCorrection { reference, asset, amount, debit, credit } => {
            correction::book(draft, reference, *asset, *amount, (debit, credit))?
        }
        Command::IssueAddress { wallet, branch, index, script, beneficiary } => {
            let path = crate::custody::KeyPath { wallet: *wallet, branch: *branch, index: *index };
            deposit::issue_address(draft, path, script, beneficiary)?
        }
        Command::ConnectBlock(block) => block::connect(draft, block)?,
        Command::DisconnectBlock { chain, hash } => block::disconnect(draft, *chain, *hash)?,
        Command::Unarchive { chain, below, records } => block::unarchive::unarchive(draft, *chain, *below, records)?,
        Command::SeeReceipts { chain, receipts } => deposit::see_receipts(draft, *chain, receipts)?,
        Command::LoseReceipts { chain, outpoints } => deposit::lose_receipts(draft, *chain, outpoints)?,
        Command::SeePlan { plan, txid } => plan::see(draft, *plan, *txid)?,
        Command::SetPrice(price) => broker::set_price(draft, price)?,
        Command::RequestQuote { customer, pair, side, base, quote } => {
            broker::request_quote(draft, *customer, *pair, *side, (*base, *quote))?
        }
        Command::AcceptQuote { customer, quote } => broker::accept_quote(draft, *customer, *quote)?,
        Command::RequestWithdrawal { customer, asset, amount, script, wallet } => {
            withdrawal::request(draft, *customer, *asset, *amount, script, *wallet)?
        }
        Command::ApproveWithdrawal { withdrawal, approval, complete } => {
            withdrawal::approve(draft, *withdrawal, approval, *complete)?
        }
        Command::CancelWithdrawal { withdrawal } => withdrawal::cancel(draft, *withdrawal)?,
        Command::ProposePlan(proposal) => plan::propose(draft, proposal)?,
        Command::RecordSigned { plan, version, signed, txid } => {
            plan::record_signed(draft, *plan, *version, signed, *txid)?
        }
        Command::ProveConflict { plan, input, by } => block::conflict::prove(draft, *plan, *input, by)?,
        Command::RecordVoid { plan, receipt } => plan::record_void(draft, *plan, receipt)?,
    })
}

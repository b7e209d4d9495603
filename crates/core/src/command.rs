//! Commands: what may be asked of the platform. Everything from outside the core (time, randomness, prices, chain facts) comes in with them.

use crate::amount::Amount;
use crate::asset::{Asset, AssetPolicy, Halt};
use crate::broker::{Pair, Price, Side};
use crate::custody::{
    Approval, Archived, Beneficiary, Block, Branch, Chain, KeyPath, OutPoint, Payment, PlanVersion, Wallet,
};
use crate::id::{
    AssetId, BlockHash, ChainId, CommandId, CustomerId, Digest, LedgerTime, PlanId, QuoteId, SessionId, TxId, WalletId,
    WithdrawalId,
};
use crate::ledger::{BalanceRule, Owner, TransferReason};
use crate::wire::Bytes;

/// Who asks, and how a repetition is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Somebody outside: the id is remembered with the request's hash and the answer.
    Request {
        /// The command's id, a UUIDv7.
        id: CommandId,
        /// SHA-256 of the request; a customer's name is no part of what is hashed.
        request: Digest,
    },
    /// A bulk caller: sequences of a session are executed once each, in order. A session takes them for [`SESSION_MS`].
    Session {
        /// The session, a UUIDv7 of when it began.
        session: SessionId,
        /// One more than the last.
        sequence: u64,
    },
    /// A watcher or worker of ours: its commands are repeatable by what they say.
    Internal,
}

/// A command with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub origin: Origin,
    /// What is asked.
    pub command: Command,
}

/// An output that pays one of our scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub txid: TxId,
    /// The output.
    pub vout: u32,
    /// What it pays.
    pub amount: Amount,
    /// The key whose script it pays, byte for byte.
    pub path: KeyPath,
    /// Whether it was mined.
    pub coinbase: bool,
}

/// A transaction that spends coins of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// The transaction.
    pub txid: TxId,
    /// The coins of ours that it spends.
    pub inputs: Vec<OutPoint>,
    /// All its outputs: a malleated twin of ours is known by them.
    pub outputs: Vec<(Bytes, Amount)>,
    /// What all its inputs hold, ours or not; `None` where others' inputs are not known.
    pub fee: Option<Amount>,
}

/// A block, checked against the header chain by whoever says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectBlock {
    /// The block. It extends the journalled tip.
    pub block: Block,
    /// What it pays us, in block order.
    pub receipts: Vec<Receipt>,
    /// What of ours it spends, in block order.
    pub spends: Vec<Spend>,
    /// Whether another command follows with more of the same block.
    pub more: bool,
}

impl Receipt {
    /// How many events a receipt may cause: an account or two, the coin, its booking, the hold, the deposit.
    pub const COST: usize = 6;
}

impl Spend {
    /// How many events a spend may cause: the coins, and as many payments as a plan of ours may have among its outputs.
    pub fn cost(&self) -> usize {
        5 + self.inputs.len() + self.outputs.len().min(PLAN_PAYMENTS_MAX + 1)
    }
}

impl ConnectBlock {
    /// How many events the receipts and spends may cause; at most [`PART_COST_MAX`] in one command. What is more comes in
    /// parts, in block order. A transaction that spends coins of ours keeps its inputs and receipts in one part; one too
    /// large for that is none of ours, and is split as several spends of the same transaction.
    pub fn cost(&self) -> usize {
        let spends: usize = self.spends.iter().map(Spend::cost).sum();
        self.receipts.len().saturating_mul(Receipt::COST).saturating_add(spends)
    }
}

/// What one command may book of a block, as [`ConnectBlock::cost`] counts. The rest of the events that a command may emit is
/// for what the block makes final.
pub const PART_COST_MAX: usize = 3_300;

/// The most withdrawals that one plan pays: with as many inputs it stays a standard transaction of Bitcoin (100,000 virtual
/// bytes, about 68 an input and 43 an output), and confirming it stays far below a command's events.
pub const PLAN_PAYMENTS_MAX: usize = 250;

/// The most that the records of one [`Command::Unarchive`] may have, encoded, in bytes, and 80 for each deposit: with its halts, and
/// the end of what a mempool shows in the place of those deposits, they fit a row.
pub const UNARCHIVE_BYTES_MAX: usize = crate::journal::ROW_BYTES_MAX - 64 * 1024;

/// The most inputs of one plan; see [`PLAN_PAYMENTS_MAX`].
pub const PLAN_INPUTS_MAX: usize = 250;

/// A plan that a worker made, ready to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposePlan {
    /// The wallet that pays.
    pub wallet: WalletId,
    /// The withdrawals paid, in order of their outputs.
    pub withdrawals: Vec<WithdrawalId>,
    /// The coins spent.
    pub inputs: Vec<OutPoint>,
    /// The input that every version spends; one of `inputs`.
    pub anchor: OutPoint,
    /// The first version.
    pub version: PlanVersion,
}

/// One transfer of a bulk caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainTransfer {
    /// The account debited.
    pub debit: crate::id::AccountId,
    /// The account credited.
    pub credit: crate::id::AccountId,
    /// More than nothing.
    pub amount: Amount,
}

/// What may be asked. Each has its own closed list of refusals, in [`crate::decide::Refusal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Time passes.
    Tick,
    /// An operator confirms a clock that jumped.
    ConfirmTime,
    /// The clock shows a time that ledger time does not follow, or one that it follows again after the clock was behind.
    SeeClock {
        /// What it shows.
        clock: LedgerTime,
    },
    /// Defines an asset.
    DefineAsset(Asset),
    /// Sets an asset's policy.
    SetAssetPolicy(AssetPolicy),
    /// Halts an action.
    Halt(Halt),
    /// Ends a halt.
    Resume(Halt),
    /// Follows a chain. Its first journalled block is `start`: nothing before it concerns us.
    DefineChain {
        /// The chain.
        chain: Chain,
        /// Where following starts.
        start: Block,
    },
    /// Registers a wallet.
    RegisterWallet(Wallet),
    /// Retires a wallet.
    RetireWallet(WalletId),
    /// Opens a customer.
    OpenCustomer(CustomerId),
    /// Opens a plain ledger's account.
    OpenAccount {
        /// Its owner: [`Owner::Plain`] only.
        owner: Owner,
        /// Its asset.
        asset: AssetId,
        /// What its balance may be.
        rule: BalanceRule,
    },
    /// Posts linked transfers between plain accounts: all of them or none.
    PostTransfers(Vec<PlainTransfer>),
    /// Books money that arrived at the bank.
    BookBankReceipt {
        /// The bank's reference: unique for ever.
        reference: String,
        /// The asset, of kind fiat.
        asset: AssetId,
        /// What arrived.
        amount: Amount,
        /// Whom it is for: a customer, or the house's inventory.
        beneficiary: Beneficiary,
    },
    /// Puts right what was booked wrongly, by a new transfer: no entry is ever changed or removed.
    BookCorrection {
        /// The operator's reference, of a voucher or a case: unique for ever.
        reference: String,
        /// The asset; not a plain one.
        asset: AssetId,
        /// How much moves.
        amount: Amount,
        /// Who gives: a customer, or the house's inventory, fees or spread.
        debit: Owner,
        /// Who gets: as the giver, or for money the bank.
        credit: Owner,
    },
    /// Hands out a wallet's next address. The script comes with the command: the engine derives it for the index that the
    /// writer is about to hand out.
    IssueAddress {
        /// The wallet.
        wallet: WalletId,
        /// Which branch.
        branch: Branch,
        /// The index that the script was derived for.
        index: u32,
        /// The script.
        script: Bytes,
        /// Whom it is for.
        beneficiary: Beneficiary,
    },
    /// A block extends the chain.
    ConnectBlock(ConnectBlock),
    /// The tip is not part of the best chain any more.
    DisconnectBlock {
        /// The chain.
        chain: ChainId,
        /// The tip's hash.
        hash: BlockHash,
    },
    /// Puts records back that left the state last, so that the only block left may be taken back.
    Unarchive {
        /// The chain.
        chain: ChainId,
        /// The link of the record that left before the first of these; zero where none did.
        below: Digest,
        /// The records, in the order in which they had left, as many as fit: at most [`UNARCHIVE_BYTES_MAX`], and some 2,000 deposits.
        records: Vec<Archived>,
    },
    /// What the mempool shows: unconfirmed payments to us.
    SeeReceipts {
        /// The chain.
        chain: ChainId,
        /// The payments.
        receipts: Vec<Receipt>,
    },
    /// Unconfirmed payments that are gone: replaced, conflicted or dropped.
    LoseReceipts {
        /// The chain.
        chain: ChainId,
        /// The outputs.
        outpoints: Vec<OutPoint>,
    },
    /// A transaction of ours is in a mempool.
    SeePlan {
        /// The plan.
        plan: PlanId,
        /// The transaction.
        txid: TxId,
    },
    /// Sets a price.
    SetPrice(Price),
    /// Asks for a quote. Exactly one of the amounts is given.
    RequestQuote {
        /// For whom.
        customer: CustomerId,
        /// Which assets.
        pair: Pair,
        /// Which way.
        side: Side,
        /// How much base, or
        base: Option<Amount>,
        /// how much quote.
        quote: Option<Amount>,
    },
    /// Accepts a quote.
    AcceptQuote {
        /// By whom.
        customer: CustomerId,
        /// Which.
        quote: QuoteId,
    },
    /// Asks for a withdrawal. Its id is the command's.
    RequestWithdrawal {
        /// By whom.
        customer: CustomerId,
        /// Of which asset.
        asset: AssetId,
        /// What arrives.
        amount: Amount,
        /// The output script paid, decoded from the address by the edge.
        script: Bytes,
        /// The wallet that pays.
        wallet: WalletId,
    },
    /// Adds an operator's approval.
    ApproveWithdrawal {
        /// Which.
        withdrawal: WithdrawalId,
        /// The approval.
        approval: Approval,
        /// Whether, in the edge's view of the signer's policy, it has all approvals now.
        complete: bool,
    },
    /// Takes a withdrawal back before signing is requested.
    CancelWithdrawal {
        /// Which.
        withdrawal: WithdrawalId,
    },
    /// Reserves a plan's inputs and requests signing.
    ProposePlan(ProposePlan),
    /// The signer's bytes for a version of a plan.
    RecordSigned {
        /// The plan.
        plan: PlanId,
        /// The version.
        version: u32,
        /// The signed transaction.
        signed: Bytes,
        /// Its id.
        txid: TxId,
    },
    /// An operator's word that a plan can never confirm: a transaction in a final block took an input of the transaction that
    /// made one of the plan's inputs, and that input is gone.
    ProveConflict {
        /// The plan.
        plan: PlanId,
        /// Its input that can never be had.
        input: OutPoint,
        /// The transaction that took its place, and its block.
        by: Payment,
    },
    /// The signer has durably voided a plan, unsigned.
    RecordVoid {
        /// The plan.
        plan: PlanId,
        /// The signer's signed word for it, as it came and after the caller has verified it: kept for audits.
        receipt: Bytes,
    },
}

crate::message! {
    /// An address that was handed out.
    pub struct IssuedAddress {
        /// Where its key is.
        1: path: KeyPath,
        /// Its script.
        2: script: Bytes,
    }
}

crate::oneof! {
    /// A command's answer, as it is remembered.
    pub enum Outcome {
        /// Done; there is no more to say.
        1: Done(bool),
        /// An address was handed out.
        2: Address(IssuedAddress),
        /// A quote was offered; the record is in the state while it lives.
        3: Quote(Box<crate::broker::Quote>),
        /// A withdrawal was accepted.
        4: Withdrawal(WithdrawalId),
        /// An account was opened.
        5: Account(crate::id::AccountId),
        /// An exchange was done.
        6: Exchanged(Box<crate::broker::Quote>),
        /// A plan was accepted.
        7: Plan(PlanId),
    }
}

/// Reasons that are only used by bulk ledgers; a constant so that no caller can claim another.
pub const PLAIN_REASON: TransferReason = TransferReason::Plain;

/// When a remembered command may be forgotten: 24 hours of ledger time.
pub const REMEMBER_MS: u64 = 24 * 60 * 60 * 1000;

/// How many commands are remembered at most. Measured, each takes 213 bytes, 245 with an address and 421 with a quote, in tree nodes
/// that are half empty because ids come in order: some 200 to 400 MiB for each copy of the state. A leader has two, the writer's
/// and the read model's.
pub const REMEMBER_MAX: usize = 1_000_000;

/// How long after the time in its id a session takes new sequences: 24 hours of ledger time. Whoever has more to send begins
/// another.
pub const SESSION_MS: u64 = 24 * 60 * 60 * 1000;

/// How long after the time in its id it is known what a session has executed: a day more, so that whoever lost the last
/// answers of a session still learns what became of them.
pub const SESSION_KEPT_MS: u64 = 2 * SESSION_MS;

/// How many sessions are known at most. Ten thousand are more than any number of bulk callers needs, and half a megabyte.
pub const SESSIONS_MAX: usize = 10_000;

/// How far a command's own time may lie ahead of ledger time.
pub const ID_AHEAD_MS: u64 = 10 * 60 * 1000;

/// How far the clock may lie from the last tick, either way, without counting as a jump. Ledger time never lies further
/// beyond the last tick than this, until an operator confirms the clock.
pub const TIME_JUMP_MAX_MS: u64 = 60_000;

/// The longest time without a writer after which the next one's clock is believed: a day, as long as commands are remembered.
/// Whoever starts a platform again within a day should not have to say that time has passed; after a longer gap all that
/// is remembered would be forgotten at once by one clock's word.
pub const EPOCH_GAP_MAX_MS: u64 = REMEMBER_MS;

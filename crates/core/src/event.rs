//! Events: the facts that the journal is made of. A published event never changes meaning; new meanings get new tags.

use crate::amount::Amount;
use crate::asset::{Asset, AssetPolicy, Halt};
use crate::broker::{Price, Quote};
use crate::command::Outcome;
use crate::custody::{
    Address, Approval, Archived, ArchivedHead, Block, BlockRef, Chain, Coin, Deposit, DepositStatus, OutPoint, Payment,
    Plan, PlanVersion, Spent, Wallet, Withdrawal, WithdrawalStatus,
};
use crate::id::{
    ChainId, CommandId, CustomerId, Digest, Epoch, HoldId, LedgerTime, PlanId, QuoteId, Seq, SessionId, WalletId,
    WithdrawalId,
};
use crate::ledger::{Account, Hold, Transfer};
use crate::wire::Bytes;

crate::message! {
    /// A writer took the lead. Always a row of its own; only with it is the fate of its predecessor's last append settled.
    pub struct EpochStarted {
        /// The new epoch, one more than the last.
        1: epoch: Epoch,
        /// The node that leads, as its configuration names it.
        2: node: String,
        /// Its build.
        3: build: String,
        /// The newest event format it writes.
        4: format: u32,
        /// SHA-256 of its configuration.
        5: config: Digest,
        /// The journal's id, the same in every epoch: it names the platform in intents.
        6: platform: [u8; 16],
    }
}

crate::message! {
    /// Time passed, and what waits for time may go on.
    pub struct Ticked {
        /// The ledger time up to which time-driven work is judged.
        1: until: LedgerTime,
    }
}

crate::message! {
    /// The clock jumped by more than it may, ahead or back; time-driven work stands still until an operator confirms a clock
    /// that is ahead, or the next [`Ticked`] says that one that was behind has caught up.
    pub struct TimeJumped {
        /// The last tick.
        1: from: LedgerTime,
        /// What the clock says.
        2: to: LedgerTime,
    }
}

crate::message! {
    /// Nothing more to say than that it happened.
    pub struct Nothing {}
}

crate::message! {
    /// Linked transfers: all of them, or none.
    pub struct TransfersPosted {
        /// In order.
        1: transfers: Vec<Transfer>,
    }
}

crate::message! {
    /// Part or all of a hold was posted; the rest is released.
    pub struct HoldPosted {
        /// The hold, which is gone now.
        1: hold: HoldId,
        /// What was posted, at most what it reserved.
        2: amount: Amount,
    }
}

crate::message! {
    /// A hold was given back.
    pub struct HoldReleased {
        /// The hold, which is gone now.
        1: hold: HoldId,
    }
}

crate::message! {
    /// A customer was opened or changed.
    pub struct Customer {
        /// The customer.
        1: id: CustomerId,
        /// When the record was opened.
        2: opened: LedgerTime,
        /// How many reasons forbid withdrawals now, such as deposits that are missing.
        3: freezes: u32,
    }
}

crate::message! {
    /// A bulk caller's session moved on.
    pub struct SessionAdvanced {
        /// The session.
        1: session: SessionId,
        /// The highest sequence executed.
        2: sequence: u64,
    }
}

crate::message! {
    /// What a bulk caller's session has executed was forgotten; its id is too old to be used again.
    pub struct SessionForgotten {
        /// The session.
        1: session: SessionId,
    }
}

crate::message! {
    /// The chain's tip went back by one block, or what was booked of an incomplete block is taken back.
    pub struct BlockDisconnected {
        /// The chain.
        1: chain: ChainId,
        /// The block that is gone.
        2: at: BlockRef,
    }
}

crate::message! {
    /// A coin was spent in a block.
    pub struct CoinSpent {
        /// The coin.
        1: outpoint: OutPoint,
        /// How.
        2: spent: Spent,
    }
}

crate::message! {
    /// A coin's record changed back or ended.
    pub struct CoinChanged {
        /// The coin.
        1: outpoint: OutPoint,
    }
}

crate::message! {
    /// A deposit moved on.
    pub struct DepositMoved {
        /// The deposit.
        1: outpoint: OutPoint,
        /// Where it stands now.
        2: status: DepositStatus,
        /// Its block, if it has one now.
        3: at: Option<BlockRef>,
        /// Its hold, if it has one now.
        4: hold: Option<HoldId>,
        /// Since when it is missing or replaced, if it is.
        5: missing_since: Option<LedgerTime>,
        /// What was debited so far.
        6: debited: Amount,
        /// The height of the tip at which it is deep enough, if that is known now.
        7: due: Option<crate::id::Height>,
    }
}

crate::message! {
    /// An operator approved a withdrawal. The signer, not the ledger, judges the signature.
    pub struct WithdrawalApproved {
        /// The withdrawal.
        1: withdrawal: WithdrawalId,
        /// The approval.
        2: approval: Approval,
    }
}

crate::message! {
    /// A withdrawal moved on.
    pub struct WithdrawalMoved {
        /// The withdrawal.
        1: withdrawal: WithdrawalId,
        /// Where it stands now.
        2: status: WithdrawalStatus,
        /// Its hold, if it has one now.
        3: hold: Option<HoldId>,
        /// Its plan, if it has one now.
        4: plan: Option<PlanId>,
        /// The confirmed payment, if there is one now.
        5: paid: Option<Payment>,
    }
}

crate::message! {
    /// The signer signed a version of a plan. Written before anything is broadcast.
    pub struct PlanSigned {
        /// The plan.
        1: plan: PlanId,
        /// Which version, from 0.
        2: version: u32,
        /// The signed transaction.
        3: signed: Bytes,
        /// Its id.
        4: txid: crate::id::TxId,
    }
}

crate::message! {
    /// A plan got another version.
    pub struct PlanBumped {
        /// The plan.
        1: plan: PlanId,
        /// The version.
        2: version: PlanVersion,
    }
}

crate::message! {
    /// A plan moved on.
    pub struct PlanMoved {
        /// The plan.
        1: plan: PlanId,
        /// Where it stands now.
        2: status: crate::custody::PlanStatus,
        /// The confirmed payment, if there is one now, or the transaction that made every version impossible.
        3: paid: Option<Payment>,
        /// The signer's signed word that it never signs the plan, where that ended it.
        4: receipt: Option<Bytes>,
    }
}

crate::message! {
    /// A quote ended: used, replaced or expired.
    pub struct QuoteEnded {
        /// The quote.
        1: quote: QuoteId,
        /// Whether its exchange was done.
        2: accepted: bool,
    }
}

crate::message! {
    /// A finished record left the state; it lives on in the journal and the search tables.
    pub struct WithdrawalArchived {
        /// The withdrawal.
        1: withdrawal: WithdrawalId,
    }
}

crate::message! {
    /// A finished record left the state.
    pub struct DepositArchived {
        /// The deposit.
        1: outpoint: OutPoint,
    }
}

crate::message! {
    /// A finished plan left the state, and with it the coins it spent.
    pub struct PlanArchived {
        /// The plan.
        1: plan: PlanId,
    }
}

crate::message! {
    /// A block is older than anything that may be taken back, and left the state.
    pub struct BlockArchived {
        /// The chain.
        1: chain: ChainId,
        /// The block.
        2: at: BlockRef,
    }
}

crate::message! {
    /// The records of a chain that left the state last are in it again: a reorganisation reaches below the blocks that were kept.
    pub struct Unarchived {
        /// The chain.
        1: chain: ChainId,
        /// The link of the record that left before the first of these; zero where none did.
        2: below: Digest,
        /// The records, in the order in which they had left.
        3: records: Vec<Archived>,
    }
}

crate::message! {
    /// A bank receipt was booked; its reference is used up.
    pub struct BankReceiptBooked {
        /// The bank's reference, unique for ever.
        1: reference: String,
    }
}

crate::message! {
    /// A correction was booked; its reference is used up.
    pub struct CorrectionBooked {
        /// The operator's reference, unique for ever among corrections.
        1: reference: String,
    }
}

crate::message! {
    /// A remembered command, so that its repetition gets the same answer.
    pub struct Remembered {
        /// The command.
        1: command: CommandId,
        /// SHA-256 of the request.
        2: request: Digest,
        /// Its answer.
        3: outcome: Outcome,
        /// When it was executed.
        4: at: LedgerTime,
    }
}

crate::message! {
    /// A remembered command was forgotten; its id is too old to be used again.
    pub struct Forgotten {
        /// The command.
        1: command: CommandId,
    }
}

crate::message! {
    /// The counters and clocks of the state.
    pub struct Counters {
        /// The last row folded.
        1: seq: Seq,
        /// The epoch.
        2: epoch: Epoch,
        /// The ledger time.
        3: time: LedgerTime,
        /// The last tick.
        4: ticked: LedgerTime,
        /// Where the clock jumped to, while that is not settled; before the last tick where it jumped back.
        5: jumped_to: Option<LedgerTime>,
        /// The next hold.
        6: next_hold: HoldId,
        /// The next plan.
        7: next_plan: PlanId,
        /// The journal's id.
        8: platform: [u8; 16],
        /// Commands with an id below this time are refused as expired.
        9: forgotten_until: LedgerTime,
    }
}

crate::message! {
    /// Part of a block with very many receipts is booked; the next part follows in a command of its own.
    pub struct BlockPartBooked {
        /// The block that is being connected.
        1: block: Block,
        /// How many of its receipts and spends are booked.
        2: booked: u32,
        /// Whether it is being taken back: then it is never completed, and the next commands take back the rest.
        3: undoing: bool,
    }
}

crate::message! {
    /// A wallet takes no new addresses from now on; it is watched for ever.
    pub struct WalletRetired {
        /// The wallet.
        1: wallet: WalletId,
    }
}

crate::oneof! {
    /// A fact. Tags are for ever. Those above 1000 restate: they appear in snapshots only, and fold into the record they carry.
    pub enum Event {
        /// A writer took the lead.
        1: EpochStarted(EpochStarted),
        /// Time passed.
        2: Ticked(Ticked),
        /// The clock jumped.
        3: TimeJumped(TimeJumped),
        /// An operator confirmed the clock.
        4: TimeConfirmed(Nothing),
        /// A bulk session moved on.
        5: SessionAdvanced(SessionAdvanced),
        /// A remembered command was forgotten.
        6: Forgotten(Forgotten),
        /// A bulk session was forgotten.
        7: SessionForgotten(SessionForgotten),

        /// An asset was defined.
        10: AssetDefined(Asset),
        /// An asset's policy was set.
        11: AssetPolicySet(AssetPolicy),
        /// Something was halted.
        12: Halted(Halt),
        /// A halt ended.
        13: Resumed(Halt),

        /// An account was opened, with empty sums.
        20: AccountOpened(Account),
        /// Transfers were posted.
        21: TransfersPosted(TransfersPosted),
        /// A hold was placed.
        22: HoldPlaced(Hold),
        /// A hold was posted.
        23: HoldPosted(HoldPosted),
        /// A hold was released.
        24: HoldReleased(HoldReleased),
        /// A bank receipt was booked.
        25: BankReceiptBooked(BankReceiptBooked),
        /// A customer was opened, or its record changed.
        26: CustomerSet(Customer),
        /// A correction was booked.
        27: CorrectionBooked(CorrectionBooked),

        /// A chain is followed.
        30: ChainDefined(Chain),
        /// A wallet was registered.
        31: WalletRegistered(Wallet),
        /// An address was handed out.
        32: AddressIssued(Address),
        /// A wallet was retired.
        33: WalletRetired(WalletRetired),

        /// The chain's tip went forward by one block.
        40: BlockConnected(Block),
        /// The chain's tip went back by one block.
        41: BlockDisconnected(BlockDisconnected),
        /// Part of a block was booked.
        42: BlockPartBooked(BlockPartBooked),
        /// A coin arrived in a block.
        43: CoinReceived(Coin),
        /// A coin was spent in a block.
        44: CoinSpent(CoinSpent),
        /// A spend was taken back with its block.
        45: CoinUnspent(CoinChanged),
        /// A coin is gone: its block was taken back, or its spend is final.
        46: CoinRemoved(CoinChanged),
        /// A block became final.
        47: BlockArchived(BlockArchived),
        /// Archived records are in the state again.
        48: Unarchived(Unarchived),

        /// A payment to an address of ours was seen for the first time.
        50: DepositSeen(Deposit),
        /// A deposit moved on.
        51: DepositMoved(DepositMoved),
        /// A finished deposit left the state.
        52: DepositArchived(DepositArchived),

        /// A withdrawal was accepted and its funds held.
        60: WithdrawalRequested(Withdrawal),
        /// A withdrawal was approved by an operator.
        61: WithdrawalApproved(WithdrawalApproved),
        /// A withdrawal moved on.
        62: WithdrawalMoved(WithdrawalMoved),
        /// A finished withdrawal left the state.
        63: WithdrawalArchived(WithdrawalArchived),
        /// Inputs were reserved and signing requested.
        64: SigningRequested(Plan),
        /// The signer signed.
        65: PlanSigned(PlanSigned),
        /// A plan got another version.
        66: PlanBumped(PlanBumped),
        /// A plan moved on.
        67: PlanMoved(PlanMoved),
        /// A finished plan left the state.
        68: PlanArchived(PlanArchived),

        /// A price was set.
        70: PriceSet(Price),
        /// A quote was offered; an older one of the same customer ended before.
        71: QuoteOffered(Quote),
        /// A quote ended.
        72: QuoteEnded(QuoteEnded),

        /// Restates the counters.
        1001: RestateCounters(Counters),
        /// Restates an account with its sums.
        1002: RestateAccount(Account),
        /// Restates a coin, also a reserved or spent one.
        1003: RestateCoin(Coin),
        /// Restates a plan.
        1004: RestatePlan(Plan),
        /// Restates a withdrawal.
        1005: RestateWithdrawal(Withdrawal),
        /// Restates a remembered command.
        1006: RestateRemembered(Remembered),
        /// Restates a wallet with its counters.
        1007: RestateWallet(Wallet),
        /// Restates an address without moving its wallet's counters.
        1008: RestateAddress(Address),
        /// Restates a hold without moving its accounts' sums.
        1009: RestateHold(Hold),
        /// Restates what is known of a chain's archived records.
        1010: RestateArchived(ArchivedHead),
    }
}

impl Event {
    /// Whether it stands in snapshots only: in a row it would put a record in place whatever happened before.
    pub fn is_restating(&self) -> bool {
        matches!(
            self,
            Event::RestateCounters(_)
                | Event::RestateAccount(_)
                | Event::RestateCoin(_)
                | Event::RestatePlan(_)
                | Event::RestateWithdrawal(_)
                | Event::RestateRemembered(_)
                | Event::RestateWallet(_)
                | Event::RestateAddress(_)
                | Event::RestateHold(_)
                | Event::RestateArchived(_)
        )
    }
}

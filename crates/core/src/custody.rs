//! Custody's records: chains, wallets, addresses, coins, deposits, withdrawals, plans and intents. The rules that move them
//! are in [`crate::decide`].

use crate::amount::Amount;
use crate::id::{
    AssetId, BlockHash, ChainId, CustomerId, Digest, Height, HoldId, LedgerTime, PlanId, TxId, WalletId, WithdrawalId,
};
use crate::wire::{Bytes, Message};
use sha2::{Digest as _, Sha256};

crate::choice! {
    /// A family of chains.
    pub enum ChainFamily {
        /// Bitcoin and its like: unspent outputs, proof of work.
        Bitcoin = 1,
        /// Ethereum and its like: accounts and nonces.
        Evm = 2,
    }
}

crate::message! {
    /// A chain that is followed. It never changes.
    pub struct Chain {
        /// Its id.
        1: id: ChainId,
        /// Its family.
        2: family: ChainFamily,
        /// Its name, such as `bitcoin-regtest`.
        3: name: String,
        /// Its first block.
        4: genesis: BlockHash,
        /// Its coin.
        5: coin: AssetId,
        /// Confirmations before a coinbase output may be spent, and so credited.
        6: coinbase_maturity: u32,
    }
}

crate::message! {
    /// A block of a chain.
    #[derive(Copy, PartialOrd, Ord)]
    pub struct BlockRef {
        /// Its height.
        1: height: Height,
        /// Its hash.
        2: hash: BlockHash,
    }
}

crate::message! {
    /// A block that we have booked, kept so that it can be taken back.
    pub struct Block {
        /// Its chain.
        1: chain: ChainId,
        /// Height and hash.
        2: at: BlockRef,
        /// The hash of the block before it.
        3: previous: BlockHash,
        /// The block's own time in Unix seconds; for people only, nothing is decided by it.
        4: time_s: u64,
    }
}

crate::message! {
    /// An output of a transaction on one chain.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    pub struct OutPoint {
        /// The chain.
        1: chain: ChainId,
        /// The transaction.
        2: txid: TxId,
        /// The output's place in it, from 0.
        3: vout: u32,
    }
}

crate::choice! {
    /// How near a wallet's keys are to the network.
    pub enum WalletTier {
        /// Signs by itself, within limits.
        Hot = 1,
        /// Signs when people approve.
        Warm = 2,
        /// Signs offline.
        Cold = 3,
    }
}

crate::message! {
    /// A wallet: data that lets anyone derive its addresses and nobody spend. Retired generations are watched for ever.
    pub struct Wallet {
        /// Its id.
        1: id: WalletId,
        /// The chain it lives on.
        2: chain: ChainId,
        /// Counted from 1: a replaced key set is a new generation, and a new wallet.
        3: generation: u32,
        /// How near its keys are.
        4: tier: WalletTier,
        /// The first block that may concern it.
        5: birthday: Height,
        /// The output descriptor of receiving addresses, with origin, `/0/*` and checksum (BIP-380).
        6: descriptor_external: String,
        /// The output descriptor of change addresses, with origin, `/1/*` and checksum.
        7: descriptor_internal: String,
        /// Whether new addresses are handed out from it.
        8: retired: bool,
        /// The next receiving index.
        9: next_external: u32,
        /// The next change index.
        10: next_internal: u32,
    }
}

crate::choice! {
    /// A wallet's two branches (BIP-44).
    pub enum Branch {
        /// Receiving addresses, `/0`.
        External = 1,
        /// Change, `/1`.
        Internal = 2,
    }
}

crate::message! {
    /// Where in a wallet a script stands.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    pub struct KeyPath {
        /// The wallet.
        1: wallet: WalletId,
        /// The branch.
        2: branch: Branch,
        /// The index in it.
        3: index: u32,
    }
}

crate::oneof! {
    /// Whom coins on an address are for.
    #[derive(PartialOrd, Ord)]
    pub enum Beneficiary {
        /// A customer.
        1: Customer(CustomerId),
        /// The house: `true` for its inventory, `false` for its own change.
        2: House(bool),
    }
}

impl Beneficiary {
    /// The house's inventory.
    pub const INVENTORY: Beneficiary = Beneficiary::House(true);
    /// Change of our own spends.
    pub const CHANGE: Beneficiary = Beneficiary::House(false);
}

crate::message! {
    /// A script that was handed out. Coins count as ours only if their script equals one of these, byte for byte.
    pub struct Address {
        /// Where its key is.
        1: path: KeyPath,
        /// Its output script.
        2: script: Bytes,
        /// Whom it is for.
        3: beneficiary: Beneficiary,
        /// When it was handed out.
        4: issued: LedgerTime,
        /// Whether a coin ever arrived on it, even if a reorganisation took that coin back.
        5: used: bool,
    }
}

crate::message! {
    /// How a coin was spent.
    pub struct Spent {
        /// By which transaction.
        1: txid: TxId,
        /// In which block.
        2: at: BlockRef,
        /// The plan that meant it; absent where the journal knows of none.
        3: plan: Option<PlanId>,
        /// Withdrawals of the plan that reserves this coin which the transaction, though it is not that plan's, pays all the
        /// same: they are never refunded. Said of one of its inputs.
        4: paid: Vec<WithdrawalId>,
    }
}

crate::message! {
    /// An unspent output of ours, or one whose spend is not final yet.
    pub struct Coin {
        /// Which output.
        1: outpoint: OutPoint,
        /// In smallest units.
        2: amount: Amount,
        /// Its key.
        3: path: KeyPath,
        /// Whom it was for when it arrived. Once credited, coins are common property of the wallet.
        4: beneficiary: Beneficiary,
        /// Whether it was mined: then it is spendable only when mature.
        5: coinbase: bool,
        /// The block it arrived in.
        6: at: BlockRef,
        /// The plan that reserves it.
        7: reserved: Option<PlanId>,
        /// How it was spent, while that may still be taken back.
        8: spent: Option<Spent>,
        /// Whether its arrival was credited to suspense: nobody we know is owed it.
        9: suspense: bool,
    }
}

crate::choice! {
    /// Where a deposit stands.
    pub enum DepositStatus {
        /// In a mempool, or in a block that was taken back. Counts for nothing.
        Seen = 1,
        /// In a block, not deep enough.
        Pending = 2,
        /// Spendable.
        Credited = 3,
        /// Was spendable; its block was taken back. The amount is frozen.
        Missing = 4,
        /// Was missing for too long, or conflicted for good: debited.
        Reversed = 5,
        /// Never was credited and never will be: another transaction took its inputs, or it was dropped.
        Replaced = 6,
    }
}

crate::message! {
    /// A payment to one of our addresses: one output, credited at most once.
    pub struct Deposit {
        /// The output.
        1: outpoint: OutPoint,
        /// Whom it is for.
        2: beneficiary: Beneficiary,
        /// What it pays.
        3: amount: Amount,
        /// Where it stands.
        4: status: DepositStatus,
        /// Its block, while it has one.
        5: at: Option<BlockRef>,
        /// The pending transfer that announces it, or, while missing, the one that freezes the customer's funds.
        6: hold: Option<HoldId>,
        /// When it was first seen.
        7: seen: LedgerTime,
        /// Since when it is missing, or replaced.
        8: missing_since: Option<LedgerTime>,
        /// What was debited when it was reversed; less than `amount` where funds did not reach.
        9: debited: Amount,
        /// Whether it was mined.
        10: coinbase: bool,
        /// The address it paid.
        11: path: KeyPath,
        /// The height of the tip at which a pending deposit is deep enough, by the policy when this was written; absent for
        /// what is below the smallest deposit and so only accrues.
        12: due: Option<Height>,
    }
}

crate::choice! {
    /// Where a withdrawal stands.
    pub enum WithdrawalStatus {
        /// Funds are held; operators must approve.
        AwaitingApproval = 1,
        /// Funds are held; it waits for a plan.
        Queued = 2,
        /// Inputs are reserved and signing is requested: from here on it can only be paid, voided or conflicted.
        Signing = 3,
        /// Signed bytes are in the journal; they are broadcast until seen.
        Signed = 4,
        /// In a mempool.
        Broadcast = 5,
        /// In a block.
        Confirmed = 6,
        /// Deep enough to be for ever.
        Final = 7,
        /// Taken back before signing was requested; funds released.
        Cancelled = 8,
        /// Provably can never be paid; funds returned.
        Refunded = 9,
    }
}

crate::message! {
    /// An operator's signature over an intent's digest.
    pub struct Approval {
        /// The operator's Ed25519 public key.
        1: key: [u8; 32],
        /// The signature over [`Intent::digest`].
        2: signature: [u8; 64],
    }
}

crate::message! {
    /// A withdrawal.
    pub struct Withdrawal {
        /// Its id.
        1: id: WithdrawalId,
        /// Whose.
        2: customer: CustomerId,
        /// Of which asset.
        3: asset: AssetId,
        /// What arrives.
        4: amount: Amount,
        /// What it costs on top.
        5: fee: Amount,
        /// The output script it pays.
        6: script: Bytes,
        /// Where it stands.
        7: status: WithdrawalStatus,
        /// The hold over amount and fee, until it is posted or released.
        8: hold: Option<HoldId>,
        /// What the signer is asked to allow.
        9: intent: Intent,
        /// Operators' approvals, in order of arrival.
        10: approvals: Vec<Approval>,
        /// The plan that pays it.
        11: plan: Option<PlanId>,
        /// When it was requested.
        12: requested: LedgerTime,
        /// The transaction that paid it, and its block.
        13: paid: Option<Payment>,
    }
}

crate::message! {
    /// A confirmed payment.
    pub struct Payment {
        /// The transaction.
        1: txid: TxId,
        /// Its block.
        2: at: BlockRef,
    }
}

crate::message! {
    /// What the signer is asked to allow, in the one encoding that operators approve and the signer checks.
    pub struct Intent {
        /// The platform: the journal's id.
        1: platform: [u8; 16],
        /// The wallet that pays.
        2: wallet: WalletId,
        /// The chain's first block: it names the network beyond doubt.
        3: genesis: BlockHash,
        /// The asset.
        4: asset: AssetId,
        /// The output script paid.
        5: script: Bytes,
        /// What arrives.
        6: amount: Amount,
        /// The most network fee that a transaction paying it may carry.
        7: fee_max: Amount,
        /// Not to be signed after this time.
        8: expiry: LedgerTime,
        /// The withdrawal it is for.
        9: withdrawal: WithdrawalId,
    }
}

impl Intent {
    /// SHA-256 over a domain and the canonical encoding: what operators sign.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"florin/intent/1");
        hash.update(self.encode());
        Digest(hash.finalize().into())
    }
}

crate::choice! {
    /// Where a plan stands.
    pub enum PlanStatus {
        /// The signer is asked; there is no way back but its word.
        Signing = 1,
        /// At least one version is signed.
        Signed = 2,
        /// A version is in a block.
        Confirmed = 3,
        /// A version is final.
        Final = 4,
        /// The signer has durably given up on it, unsigned.
        Voided = 5,
        /// Another transaction has taken one of its inputs, or what would have made one, for good.
        Conflicted = 6,
    }
}

crate::message! {
    /// A payment's place in a plan.
    pub struct PlanPayment {
        /// The withdrawal paid.
        1: withdrawal: WithdrawalId,
        /// The output that pays it.
        2: vout: u32,
    }
}

crate::message! {
    /// A plan's change.
    pub struct PlanChange {
        /// The output.
        1: vout: u32,
        /// Its index in the wallet's internal branch.
        2: index: u32,
        /// Its script.
        3: script: Bytes,
        /// Its amount.
        4: amount: Amount,
    }
}

crate::message! {
    /// One version of a plan; a bump adds another. All spend the anchor, so any two conflict.
    pub struct PlanVersion {
        /// The unsigned transaction, in the chain's own encoding.
        1: unsigned: Bytes,
        /// The network fee it pays.
        2: fee: Amount,
        /// Its change.
        3: change: Option<PlanChange>,
        /// The outputs that pay withdrawals.
        4: payments: Vec<PlanPayment>,
        /// The signed transaction.
        5: signed: Option<Bytes>,
        /// Its id once signed. A malleated twin may confirm under another.
        6: txid: Option<TxId>,
    }
}

crate::message! {
    /// A plan: which coins pay which withdrawals.
    pub struct Plan {
        /// Its id.
        1: id: PlanId,
        /// The wallet that pays.
        2: wallet: WalletId,
        /// Reserved inputs. Every version spends all of them, so without one of them none can confirm.
        3: inputs: Vec<OutPoint>,
        /// The input that every version spends.
        4: anchor: OutPoint,
        /// The versions, oldest first; at least one.
        5: versions: Vec<PlanVersion>,
        /// Where it stands.
        6: status: PlanStatus,
        /// The confirmed payment, or the transaction that made every version impossible.
        7: paid: Option<Payment>,
    }
}

crate::oneof! {
    /// A record that left the state because it was done with for as long as its block stands.
    pub enum Archived {
        /// A block below those that are kept.
        1: Block(Block),
        /// A credited deposit.
        2: Deposit(Deposit),
        /// A withdrawal that a plan ended.
        3: Withdrawal(Withdrawal),
        /// A final or conflicted plan.
        4: Plan(Plan),
        /// A spent coin.
        5: Coin(Coin),
    }
}

crate::message! {
    /// What remains in the state of a chain's archived records: enough to know them again, in the order in which they left. They
    /// come back the last one first, with [`crate::command::Command::Unarchive`].
    #[derive(Copy)]
    pub struct ArchivedHead {
        /// The chain.
        1: chain: ChainId,
        /// How many there are.
        2: count: u64,
        /// The last one's link, see [`ArchivedHead::with`]; [`Digest::ZERO`] where there is none.
        3: digest: Digest,
    }
}

impl ArchivedHead {
    /// A chain of which nothing left.
    pub fn empty(chain: ChainId) -> ArchivedHead {
        ArchivedHead { chain, count: 0, digest: Digest::ZERO }
    }

    /// The head when one record more has left: SHA-256 over a domain, the link before and the record's encoding.
    #[must_use]
    pub fn with(self, record: &Archived) -> ArchivedHead {
        let mut hash = Sha256::new();
        hash.update(b"florin/archived/1");
        hash.update(self.digest.0);
        hash.update(record.encode());
        ArchivedHead { count: self.count + 1, digest: Digest(hash.finalize().into()), ..self }
    }

    /// The head before `records` left, the last of which is this one's last and whose first followed upon the link `below`;
    /// `None` where they are others.
    pub fn without(self, below: Digest, records: &[Archived]) -> Option<ArchivedHead> {
        let count = self.count.checked_sub(records.len() as u64)?;
        let before = ArchivedHead { count, digest: below, ..self };
        let is_first = (count == 0) == (below == Digest::ZERO);
        (is_first && records.iter().fold(before, ArchivedHead::with) == self).then_some(before)
    }
}

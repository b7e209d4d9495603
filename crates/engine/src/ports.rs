//! The ports: what the engine asks of clocks, nodes, signers, price sources and stores, in the core's own types. Nothing
//! here performs any of it. The journal's port is [`florin_core::journal::Journal`].
//!
//! What comes in through a port is never trusted: nodes lie and lag, signers refuse, stores lose connections.

use crate::load::{FoldError, Place};
use crate::unarchive::Gathered;
use florin_core::broker::Price;
use florin_core::custody::{Approval, ArchivedHead, Intent, OutPoint};
use florin_core::id::{BlockHash, Digest, Epoch, Height, LedgerTime, PlanId, Seq, TxId, WalletId};
use florin_core::journal::{ReadError, SnapshotHeader};
use florin_core::wire::Bytes;

/// What went wrong below a port, for people; the engine never decides by it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The time, as the machine knows it.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970. It may jump, also backwards.
    fn now_ms(&self) -> u64;
}

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeFault {
    /// The node could not be reached, or the connection broke.
    #[error("the node can't be reached")]
    Transport(#[source] Cause),
    /// The file with our user and password can't be read, so that the node was not asked.
    #[error("the file with the node's user and password can't be read")]
    Credentials(#[source] Cause),
    /// The node does not take our user and password.
    #[error("the node refuses our user and password")]
    Forbidden,
    /// The node sends us to another address. Nobody goes there: it could be one that only this machine reaches.
    #[error("the node sends us to another address, which is not asked")]
    Redirected,
    /// The node did not answer in time. What it was asked to do may have been done.
    #[error("the node did not answer in time")]
    Timeout,
    /// The node answered something that is not an answer.
    #[error("the node's answer can't be read: {what}")]
    Malformed {
        /// What was wrong with it.
        what: String,
    },
    /// The node said no, with its own code and words.
    #[error("the node refused ({code}): {reason}")]
    Refused {
        /// The node's own number.
        code: i64,
        /// The node's own words.
        reason: String,
    },
}

impl NodeFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            NodeFault::Transport(_) => "node_unreachable",
            NodeFault::Credentials(_) => "node_credentials_unreadable",
            NodeFault::Forbidden => "node_forbidden",
            NodeFault::Redirected => "node_redirects",
            NodeFault::Timeout => "node_timeout",
            NodeFault::Malformed { .. } => "node_answer_malformed",
            NodeFault::Refused { .. } => "node_refused",
        }
    }
}

/// What a node says of itself and its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// The network's name in the node's own words, such as `regtest`.
    pub network: String,
    /// The hash of block 0: names the network beyond doubt.
    pub genesis: BlockHash,
    /// The height of its active chain's last block.
    pub height: Height,
    /// That block's hash.
    pub tip: BlockHash,
    /// The lowest block whose bytes it still has, where it prunes.
    pub pruned_below: Option<Height>,
    /// Whether it still fetches the chain and knows that its tip is old.
    pub is_syncing: bool,
}

/// What became of a transaction handed to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendResult {
    /// The node took it in.
    Sent,
    /// The node has it already, in its mempool or its chain.
    AlreadyKnown,
    /// The node does not want it.
    Rejected {
        /// The node's own words, such as `bad-txns-inputs-missingorspent`.
        reason: String,
    },
}

/// What a node thinks of a transaction without taking it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestAccept {
    /// It would take it in.
    Accepted,
    /// It would not.
    Rejected {
        /// The node's own words.
        reason: String,
    },
}

/// A blockchain node. `None` says "I do not have it", which is not a fault: it lags, prunes, or never saw it.
pub trait Node: Send {
    /// Says that [`Node::info`] comes next, so that several nodes can be asked at once; whoever answers at once ignores it.
    fn prepare(&mut self) {}
    /// What the node says of itself.
    ///
    /// # Errors
    /// Any [`NodeFault`], here and below.
    fn info(&mut self) -> Result<NodeInfo, NodeFault>;
    /// The hash of the active chain's block at a height.
    fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault>;
    /// The 80 bytes of a block's header.
    fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault>;
    /// The bytes of a block; `None` also while they are on their way, where the same question asked later gets them.
    fn block(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault>;
    /// The ids of all transactions that wait; `None` while they are listed, where a later question gets them.
    fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault>;
    /// The bytes of a transaction: of one that waits, or, given its block, of one that is in it.
    fn transaction(&mut self, txid: TxId, block: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault>;
    /// Hands a signed transaction to the network.
    fn send(&mut self, transaction: &[u8]) -> Result<SendResult, NodeFault>;
    /// Asks whether the node would take a transaction in.
    fn test_accept(&mut self, transaction: &[u8]) -> Result<TestAccept, NodeFault>;
    /// The fee rate in satoshi for 1,000 virtual bytes with which a transaction gets into one of the next `blocks` blocks;
    /// `None` where the node has seen too little to say.
    fn fee_estimate(&mut self, blocks: u16) -> Result<Option<u64>, NodeFault>;
}

/// Where the journal stands as the asker knows it. The signer keeps the highest and refuses lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The journal's id.
    pub platform: [u8; 16],
    /// The epoch in force.
    pub epoch: Epoch,
    /// The last durable row known to the asker.
    pub seq: Seq,
    /// That row's hash.
    pub head: Digest,
    /// Its ledger time.
    pub time: LedgerTime,
    /// The row that the signer was shown last, as the asker's journal has it; [`Place::START`] where it was shown none.
    pub known: Place,
}

/// An intent with what operators said to it, and the output that fulfils it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentToSign {
    /// What is to be allowed.
    pub intent: Intent,
    /// Operators' signatures over it.
    pub approvals: Vec<Approval>,
    /// The output that pays it.
    pub vout: u32,
}

/// What the signer is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// Where the journal stands.
    pub fence: Fence,
    /// The plan.
    pub plan: PlanId,
    /// Its version, from 0.
    pub version: u32,
    /// The wallet that pays.
    pub wallet: WalletId,
    /// The input that every version of the plan spends.
    pub anchor: OutPoint,
    /// Every output that is not change, with its intent.
    pub intents: Vec<IntentToSign>,
    /// The transaction to sign, as a PSBT (BIP-174) with key origins and, but for taproot, full previous transactions. It is
    /// never longer than what the chain's code reads.
    pub psbt: Vec<u8>,
}

/// What the signer says to a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerAnswer {
    /// Signed, now or earlier: for one plan and version always the same bytes.
    Signed {
        /// The signed transaction.
        signed: Bytes,
        /// Its id.
        txid: TxId,
    },
    /// Durably given up, unsigned: this plan is never signed.
    Voided {
        /// The signer's signed word for it. Whoever implements [`Signer`] has verified it: it allows the money of a plan to
        /// be given back, and the journal keeps it.
        receipt: Bytes,
    },
    /// Neither.
    Refused(SignerRefusal),
}

/// Why the signer does not sign a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerRefusal {
    /// The signer's own code, such as `limit_payment`.
    pub code: String,
    /// Whether asking again for the same plan can end otherwise.
    pub standing: Standing,
    /// What must be left out for the rest to have a chance.
    pub culprit: Culprit,
}

/// Whether asking again for a refused plan can end otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can, with time.
    Passing,
    /// It can't: the plan is to be given up.
    Lasting,
}

/// What must be left out of a refused plan for the rest to have a chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The payment at this position of the request's intents.
    Payment(u32),
    /// The payments without approvals, as a whole.
    Automatic,
    /// The coin at this position of the transaction's inputs.
    Coin(u32),
    /// Something that the refusal does not name.
    Plan,
    /// Nothing: another plan would fare no better, or the plan had its answer before.
    Nobody,
}

/// What the signer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerStatus {
    /// The highest epoch it was shown.
    pub epoch: Epoch,
    /// The highest row it was shown.
    pub seq: Seq,
    /// That row's hash.
    pub head: Digest,
    /// Whether its keys can be used now.
    pub is_unlocked: bool,
}

/// Why the signer gave no answer. Whatever it was asked to do may have been done: asking again is safe by its contract.
#[derive(Debug, thiserror::Error)]
pub enum SignerFault {
    /// The signer could not be reached, or the connection broke.
    #[error("the signer can't be reached")]
    Transport(#[source] Cause),
    /// The signer did not answer in time.
    #[error("the signer did not answer in time")]
    Timeout,
    /// What it was to be shown can't be kept on this machine, where a start holds the journal against it: it is not asked.
    #[error("the signer is not asked")]
    Unrecorded {
        /// The stable code of what is wrong below.
        code: &'static str,
        /// What is wrong.
        #[source]
        cause: Cause,
    },
    /// The signer answered something that is not an answer.
    #[error("the signer's answer can't be read")]
    Malformed(#[source] Cause),
    /// The signer is not the one that was known, or its word is not its own: nothing it says counts until people know why.
    #[error("the signer is not believed: {what}")]
    NotBelieved {
        /// The stable code of the doubt, such as `signer_memory_behind`.
        code: &'static str,
        /// What was wrong.
        what: String,
    },
}

impl SignerFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            SignerFault::Transport(_) => "signer_unreachable",
            SignerFault::Timeout => "signer_timeout",
            SignerFault::Malformed(_) => "signer_answer_malformed",
            SignerFault::Unrecorded { code, .. } | SignerFault::NotBelieved { code, .. } => code,
        }
    }
}

/// The signer: another process that decodes and judges everything itself.
pub trait Signer: Send {
    /// Asks for a plan's signature.
    ///
    /// # Errors
    /// Any [`SignerFault`], here and below.
    fn sign_plan(&mut self, request: &SignRequest) -> Result<SignerAnswer, SignerFault>;
    /// Asks the signer to give up on a plan for ever. [`SignerAnswer::Signed`] says that it is too late.
    fn void_plan(&mut self, fence: &Fence, plan: PlanId) -> Result<SignerAnswer, SignerFault>;
    /// Shows the signer where the journal stands, so that it knows an older copy from then on; its refusal, if it refuses.
    fn show(&mut self, fence: &Fence) -> Result<Option<SignerRefusal>, SignerFault>;
    /// What the signer says of itself.
    fn status(&mut self) -> Result<SignerStatus, SignerFault>;
}

/// Why there are no prices.
#[derive(Debug, thiserror::Error)]
#[error("the source of prices does not answer")]
pub struct PriceFault(#[source] pub Cause);

/// A source of prices.
pub trait Prices: Send {
    /// The newest price of every pair it knows.
    ///
    /// # Errors
    /// [`PriceFault`].
    fn newest(&mut self) -> Result<Vec<Price>, PriceFault>;
}

/// Why snapshots can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the store of snapshots does not answer")]
pub struct SnapshotFault(#[source] pub Cause);

/// Where snapshots are kept. They only save time: whoever finds none, or a bad one, reads the journal from its start.
pub trait Snapshots: Send {
    /// The snapshot with the highest sequence number, as it was put.
    ///
    /// # Errors
    /// [`SnapshotFault`], here and below.
    fn newest(&mut self) -> Result<Option<(SnapshotHeader, Vec<Bytes>)>, SnapshotFault>;
    /// Keeps a snapshot. Until all of it is durable, [`Snapshots::newest`] gives the one before.
    fn put(&mut self, header: &SnapshotHeader, chunks: &[Bytes]) -> Result<(), SnapshotFault>;
}

/// Why records that left the state can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PastFault {
    /// The journal does not answer.
    #[error("the journal can't be read now")]
    Read(#[source] ReadError),
    /// Its oldest rows are not there: they were moved into an archive that this process does not see.
    #[error("the journal's rows before row {first} are not there, and no archive that can be read has them")]
    Missing {
        /// The first row there is.
        first: Seq,
    },
    /// The journal holds a row that is wrong.
    #[error(transparent)]
    Fold(FoldError),
    /// No row leads to what the state knows of the records that left it: the journal has other rows than those it was folded from.
    #[error("the journal's rows do not lead to what the state knows of the records that left it")]
    NotFound,
}

impl PastFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            PastFault::Read(_) => "journal_unreadable_now",
            PastFault::Missing { .. } => "journal_gap",
            PastFault::Fold(error) => error.code(),
            PastFault::NotFound => "archived_not_found",
        }
    }
}

/// The records that left the state with their blocks. To find them can take as long as to read the whole journal.
pub trait Past: Send {
    /// The last records of a chain that lead to a head, `records_max` at most or not many more, and at least as many as one command
    /// puts back; `None` while they are looked for, where the same question asked later gets them.
    ///
    /// # Errors
    /// [`PastFault`].
    fn last_archived(&mut self, head: &ArchivedHead, records_max: usize) -> Result<Option<Gathered>, PastFault>;
    /// How far it has read for the question that waits.
    fn row(&self) -> Seq;
    /// Nobody waits for it any more: what was read is forgotten.
    fn leave(&mut self);
}

/// A leader's sign of life. It lies outside the journal, so that followers notice soon when its leader is gone, and it never
/// decides who leads: only the journal does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The leader, as its configuration names it.
    pub node: String,
    /// Where callers reach it, where its configuration says so.
    pub url: Option<String>,
    /// Its epoch. A claim bears the epoch that its node is about to begin.
    pub epoch: Epoch,
    /// Counts the epoch's signs of life from 1, so that each differs from the one before; 0 is a claim: its node is about to
    /// take the lead, and leads only once the journal says so.
    pub number: u64,
    /// Whether it is the last one: its node has given up the lead in good order and appends nothing more.
    pub is_last: bool,
}

/// What became of a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatAnswer {
    /// It stands.
    Confirmed,
    /// Another one stands in its place.
    Superseded(Beat),
}

/// Why the store of signs of life gave no answer. What it was asked to do may have been done.
#[derive(Debug, thiserror::Error)]
#[error("the store of signs of life does not answer ({code})")]
pub struct HeartbeatFault {
    /// The store's stable code.
    pub code: &'static str,
    /// What went wrong.
    #[source]
    pub cause: Cause,
}

/// Where the leader leaves signs of life and followers look for them. It may hang: only one thread ever waits for it.
pub trait Heartbeat: Send {
    /// Leaves one, unless a newer epoch's stands.
    ///
    /// # Errors
    /// [`HeartbeatFault`], here and below: then nothing is confirmed.
    fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault>;
    /// Leaves one in place of exactly the one that was seen, `None` for the place before the first, whatever their epochs.
    fn replace(&mut self, seen: Option<&Beat>, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault>;
    /// The one that stands; `None` before the first.
    fn last(&mut self) -> Result<Option<Beat>, HeartbeatFault>;
}

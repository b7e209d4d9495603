//! Assets and the policy under which each is handled.

use crate::amount::Amount;
use crate::id::{AssetId, ChainId};

crate::choice! {
    /// What an asset is.
    pub enum AssetKind {
        /// A chain's own coin.
        Coin = 1,
        /// Money at a bank.
        Fiat = 2,
        /// A plain ledger's unit.
        Plain = 3,
    }
}

crate::message! {
    /// An asset's definition. It never changes: a redenomination or fork is a new asset.
    pub struct Asset {
        /// Its id.
        1: id: AssetId,
        /// Its code, such as `BTC`: 2 to 12 of `A-Z` and `0-9`.
        2: code: String,
        /// Decimals of the unit people name; amounts are in 10^-decimals of it.
        3: decimals: u8,
        /// What it is.
        4: kind: AssetKind,
        /// The chain whose coin it is.
        5: chain: Option<ChainId>,
    }
}

crate::message! {
    /// From this amount on, a deposit waits for this many confirmations.
    pub struct DepthStep {
        /// The smallest amount it applies to; the first step's is zero.
        1: amount_from: Amount,
        /// Confirmations, at least 1; the block itself counts as one.
        2: confirmations: u32,
    }
}

crate::message! {
    /// How an asset is handled; replaced as a whole by `AssetPolicySet`.
    pub struct AssetPolicy {
        /// The asset.
        1: asset: AssetId,
        /// Growing amounts, growing depths.
        2: depths: Vec<DepthStep>,
        /// Below this, a deposit is accrued and not credited.
        3: deposit_min: Amount,
        /// The smallest withdrawal.
        4: withdrawal_min: Amount,
        /// What a withdrawal costs the customer.
        5: withdrawal_fee: Amount,
        /// Above this, a withdrawal needs operators' approvals.
        6: automatic_max: Amount,
        /// Confirmations after which a withdrawal's transaction is final.
        7: final_confirmations: u32,
        /// How long a credited deposit that vanished in a reorganisation may stay away before it is debited, in milliseconds.
        8: missing_ms: u64,
        /// Until when after its request a withdrawal may be signed, in milliseconds.
        9: intent_ms: u64,
        /// The most network fee one plan may pay.
        10: network_fee_max: Amount,
        /// How many blocks of the coin's chain the state keeps, to take them back without the journal's history; absent for
        /// [`crate::decide::KEPT_BLOCKS`]. Never fewer than any depth above.
        11: kept_blocks: Option<u32>,
    }
}

crate::choice! {
    /// What a halt stops.
    pub enum HaltAction {
        /// Crediting deposits.
        Credit = 1,
        /// Quoting and accepting quotes.
        Quote = 2,
        /// Accepting withdrawals.
        Withdraw = 3,
        /// Planning and signing.
        Sign = 4,
    }
}

crate::choice! {
    /// Why something is halted.
    pub enum HaltReason {
        /// An operator said so.
        Operator = 1,
        /// The nodes disagree or contradict themselves.
        ChainSplit = 2,
        /// The chain's view is older than it may be.
        Stale = 3,
        /// A spend of ours that the journal does not know.
        ForeignSpend = 4,
        /// Engine and signer disagree about the past.
        SignerFenced = 5,
        /// A reorganisation reached deeper than what was final.
        DeepReorganisation = 6,
        /// Books and chain disagree.
        BooksDisagree = 7,
    }
}

crate::message! {
    /// A halt of one action, for one asset or for all.
    pub struct Halt {
        /// The asset; all of them where absent.
        1: asset: Option<AssetId>,
        /// What is stopped.
        2: action: HaltAction,
        /// Why.
        3: reason: HaltReason,
    }
}

//! The ledger: accounts with posted and pending sums, transfers, holds. It knows amounts and limits, not why money moves.

use crate::amount::Amount;
use crate::id::{AccountId, AssetId, CustomerId, HoldId, WalletId};

crate::choice! {
    /// The platform's own accounts; each exists once per asset. Left of the equation (debit) stand coins and claims, right
    /// (credit) what is owed and what is the house's.
    pub enum HouseAccount {
        /// Money at the bank. Debit.
        Bank = 1,
        /// The house's own coins and cash, which quotes are filled from. Credit.
        Inventory = 2,
        /// Fees earned. Credit.
        Fees = 3,
        /// What quotes earned over the price they were made from. Credit.
        Spread = 4,
        /// Network fees paid. Debit.
        NetworkFees = 5,
        /// Received in a block that is not deep enough yet. Credit.
        Clearing = 6,
        /// Has left customers' accounts and not yet the wallets. Credit.
        InFlight = 7,
        /// Coins that belong to nobody we know. Credit.
        Suspense = 8,
        /// What customers owe after a reversal. Debit.
        Receivables = 9,
        /// Coins that were credited and then lost by a reorganisation. Debit.
        Shortfall = 10,
        /// Opening entries of bulk ledgers. Free.
        Opening = 11,
    }
}

crate::oneof! {
    /// Whose account it is.
    #[derive(PartialOrd, Ord)]
    pub enum Owner {
        /// A customer's: what we owe them.
        1: Customer(CustomerId),
        /// The house's.
        2: House(HouseAccount),
        /// The coins of one wallet: what the chain holds for us.
        3: Custody(WalletId),
        /// An account of a plain ledger.
        4: Plain(u64),
    }
}

crate::choice! {
    /// What an account's balance may be.
    pub enum BalanceRule {
        /// Credits minus debits, posted and pending debits both counted, never falls below zero.
        CreditNormal = 1,
        /// Debits minus credits, pending credits counted, never falls below zero.
        DebitNormal = 2,
        /// Either sign.
        Free = 3,
    }
}

crate::choice! {
    /// Why a transfer was made; for people and statements, never for decisions.
    pub enum TransferReason {
        /// A plain ledger's transfer.
        Plain = 1,
        /// Coins arrived in a wallet.
        CoinReceived = 2,
        /// A deposit became spendable.
        DepositCredited = 3,
        /// A reorganisation took coins back.
        CoinLost = 4,
        /// A credited deposit that vanished was debited.
        DepositReversed = 5,
        /// A bank receipt.
        BankReceipt = 6,
        /// One side of an exchange.
        Exchange = 7,
        /// The house's margin in an exchange.
        Spread = 8,
        /// A withdrawal left the customer's account.
        Withdrawal = 9,
        /// The fee of a withdrawal.
        WithdrawalFee = 10,
        /// A withdrawal left a wallet.
        CoinSpent = 11,
        /// The network's fee.
        NetworkFee = 12,
        /// Coins moved between our own wallets, change included.
        Internal = 13,
        /// An earlier transfer taken back.
        Reversal = 14,
        /// Coins that nobody we know sent or took.
        Unattributed = 15,
    }
}

crate::message! {
    /// A movement of one asset from one account (debit) to another (credit).
    #[derive(Copy)]
    pub struct Transfer {
        /// The account debited.
        1: debit: AccountId,
        /// The account credited; another one, of the same asset.
        2: credit: AccountId,
        /// More than nothing.
        3: amount: Amount,
        /// Why.
        4: reason: TransferReason,
    }
}

crate::message! {
    /// An account and its sums.
    pub struct Account {
        /// Its place.
        1: id: AccountId,
        /// Whose it is.
        2: owner: Owner,
        /// Of which asset.
        3: asset: AssetId,
        /// What its balance may be.
        4: rule: BalanceRule,
        /// All debits posted.
        5: debits_posted: Amount,
        /// All credits posted.
        6: credits_posted: Amount,
        /// Debits of open holds.
        7: debits_pending: Amount,
        /// Credits of open holds.
        8: credits_pending: Amount,
    }
}

crate::message! {
    /// A pending transfer: reserved on the debit side, announced on the credit side, spendable on neither.
    pub struct Hold {
        /// Its name.
        1: id: HoldId,
        /// The movement it reserves.
        2: transfer: Transfer,
    }
}

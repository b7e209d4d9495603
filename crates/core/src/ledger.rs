//! The ledger: accounts with posted and pending sums, transfers, holds. It knows amounts and limits, not why money moves.

use crate::amount::Amount;
use crate::id::{AccountId, AssetId, CustomerId, HoldId, WalletId};
use std::collections::BTreeMap;

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
        /// An operator put right what was booked wrongly.
        Correction = 16,
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

impl Owner {
    /// The balance rule of this owner's account; `None` for plain accounts, whose rule their opener chooses.
    pub fn rule(&self) -> Option<BalanceRule> {
        match self {
            Owner::Customer(_) => Some(BalanceRule::CreditNormal),
            Owner::Custody(_) => Some(BalanceRule::DebitNormal),
            Owner::Plain(_) => None,
            Owner::House(account) => Some(match account {
                HouseAccount::Inventory | HouseAccount::InFlight | HouseAccount::Suspense => BalanceRule::CreditNormal,
                HouseAccount::Bank | HouseAccount::Receivables | HouseAccount::Shortfall => BalanceRule::DebitNormal,
                // A deposit that is pending again after a reorganisation announces coins that clearing does not hold.
                HouseAccount::Clearing
                | HouseAccount::Fees
                | HouseAccount::Spread
                | HouseAccount::NetworkFees
                | HouseAccount::Opening => BalanceRule::Free,
            }),
        }
    }
}

impl Account {
    /// An account with empty sums.
    pub fn new(id: AccountId, owner: Owner, asset: AssetId, rule: BalanceRule) -> Account {
        let zero = Amount::ZERO;
        Account {
            id,
            owner,
            asset,
            rule,
            debits_posted: zero,
            credits_posted: zero,
            debits_pending: zero,
            credits_pending: zero,
        }
    }

    /// What may be spent: the posted balance on the account's normal side less what holds reserve, zero if that is negative.
    /// Nothing pending on the other side counts. A free account has no bound: [`Amount::MAX`].
    pub fn available(&self) -> Amount {
        match self.rule {
            BalanceRule::CreditNormal => {
                self.credits_posted.saturating_sub(self.debits_posted).saturating_sub(self.debits_pending)
            }
            BalanceRule::DebitNormal => {
                self.debits_posted.saturating_sub(self.credits_posted).saturating_sub(self.credits_pending)
            }
            BalanceRule::Free => Amount::MAX,
        }
    }

    /// How much may be debited now: what its rule leaves, and what its sum of debits can still hold.
    #[inline]
    pub fn debit_room(&self) -> Amount {
        let sum = Amount::MAX.saturating_sub(self.debits_posted);
        if self.rule == BalanceRule::CreditNormal { sum.min(self.available()) } else { sum }
    }

    /// How much may be credited now: what its rule leaves, and what its sum of credits can still hold.
    #[inline]
    pub fn credit_room(&self) -> Amount {
        let sum = Amount::MAX.saturating_sub(self.credits_posted);
        if self.rule == BalanceRule::DebitNormal { sum.min(self.available()) } else { sum }
    }

    /// The posted balance on the credit side; zero where debits prevail.
    pub fn credit_balance(&self) -> Amount {
        self.credits_posted.saturating_sub(self.debits_posted)
    }

    /// The posted balance on the debit side; zero where credits prevail.
    pub fn debit_balance(&self) -> Amount {
        self.debits_posted.saturating_sub(self.credits_posted)
    }

    fn is_within_rule(&self) -> bool {
        let covers = |have: Amount, owe: Amount, held: Amount| owe.checked_add(held).is_some_and(|sum| sum <= have);
        match self.rule {
            BalanceRule::CreditNormal => covers(self.credits_posted, self.debits_posted, self.debits_pending),
            BalanceRule::DebitNormal => covers(self.debits_posted, self.credits_posted, self.credits_pending),
            BalanceRule::Free => true,
        }
    }
}

/// All accounts and holds. Its methods are the only way their sums change; each asserts what every transfer promises.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    by_owner: BTreeMap<(Owner, AssetId), AccountId>,
    holds: BTreeMap<HoldId, Hold>,
}

impl Ledger {
    /// The account, if it exists.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(usize::try_from(id.0).ok()?)
    }
    /// The owner's account of an asset, if it was opened.
    pub fn account_of(&self, owner: &Owner, asset: AssetId) -> Option<&Account> {
        self.by_owner.get(&(owner.clone(), asset)).and_then(|id| self.account(*id))
    }
    /// How much may be debited from the owner's account of an asset; an account not yet opened follows its owner's rule.
    pub fn debit_room_of(&self, owner: &Owner, asset: AssetId) -> Amount {
        match (self.account_of(owner, asset), owner.rule()) {
            (Some(account), _) => account.debit_room(),
            (None, Some(BalanceRule::CreditNormal)) => Amount::ZERO,
            (None, _) => Amount::MAX,
        }
    }
    /// How much may be credited to the owner's account of an asset; an account not yet opened follows its owner's rule.
    pub fn credit_room_of(&self, owner: &Owner, asset: AssetId) -> Amount {
        match (self.account_of(owner, asset), owner.rule()) {
            (Some(account), _) => account.credit_room(),
            (None, Some(BalanceRule::DebitNormal)) => Amount::ZERO,
            (None, _) => Amount::MAX,
        }
    }
    /// Every account, in order of id.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }
    /// All accounts of one owner, in order of asset.
    pub fn accounts_of<'a>(&'a self, owner: &Owner) -> impl Iterator<Item = &'a Account> + use<'a> {
        let range = (owner.clone(), AssetId(0))..=(owner.clone(), AssetId(u32::MAX));
        self.by_owner.range(range).filter_map(|(_, id)| self.account(*id))
    }
    /// Open holds, in order of id.
    pub fn holds(&self) -> &BTreeMap<HoldId, Hold> {
        &self.holds
    }
    /// The id that the next opened account gets.
    pub fn next_account(&self) -> AccountId {
        AccountId(self.accounts.len() as u64)
    }

    /// # Panics
    /// Where the account's id is not the next one, or its owner has an account of the asset: the journal is corrupt.
    pub(crate) fn insert(&mut self, account: Account) {
        assert_eq!(account.id, self.next_account(), "accounts are numbered without gaps");
        let before = self.by_owner.insert((account.owner.clone(), account.asset), account.id);
        assert_eq!(before, None, "an owner has one account of an asset");
        self.accounts.push(account);
    }

    /// # Panics
    /// Where the transfer breaks what a transfer promises: the journal is corrupt.
    #[inline]
    pub(crate) fn post(&mut self, transfer: &Transfer) {
        let (debit, credit) = self.sides(transfer);
        debit.debits_posted = sum(debit.debits_posted, transfer.amount);
        credit.credits_posted = sum(credit.credits_posted, transfer.amount);
        assert!(debit.is_within_rule() && credit.is_within_rule(), "a transfer keeps both balances within their rules");
    }

    /// # Panics
    /// As [`Ledger::post`], and where the hold's id is in use.
    pub(crate) fn place(&mut self, hold: Hold) {
        let (debit, credit) = self.sides(&hold.transfer);
        debit.debits_pending = sum(debit.debits_pending, hold.transfer.amount);
        credit.credits_pending = sum(credit.credits_pending, hold.transfer.amount);
        assert!(debit.is_within_rule() && credit.is_within_rule(), "a hold keeps both balances within their rules");
        self.restate_hold(hold);
    }

    /// Posts `amount` of a hold and releases the rest.
    ///
    /// # Panics
    /// Where there is no such hold, or it reserves less.
    pub(crate) fn post_hold(&mut self, id: HoldId, amount: Amount) {
        let transfer = self.take_hold(id);
        assert!(amount <= transfer.amount, "a hold posts at most what it reserves");
        if !amount.is_zero() {
            self.post(&Transfer { amount, ..transfer });
        }
    }

    /// # Panics
    /// Where there is no such hold.
    pub(crate) fn release(&mut self, id: HoldId) {
        self.take_hold(id);
    }

    /// Puts a hold back without touching sums: they are restated with the accounts.
    pub(crate) fn restate_hold(&mut self, hold: Hold) {
        let before = self.holds.insert(hold.id, hold);
        assert!(before.is_none(), "a hold's id is used once");
    }

    fn take_hold(&mut self, id: HoldId) -> Transfer {
        let transfer = self.holds.remove(&id).expect("a hold is open until it is posted or released").transfer;
        let (debit, credit) = self.sides(&transfer);
        debit.debits_pending = difference(debit.debits_pending, transfer.amount);
        credit.credits_pending = difference(credit.credits_pending, transfer.amount);
        transfer
    }

    #[inline]
    fn sides(&mut self, transfer: &Transfer) -> (&mut Account, &mut Account) {
        let indices = [transfer.debit.0 as usize, transfer.credit.0 as usize];
        let [debit, credit] =
            self.accounts.get_disjoint_mut(indices).expect("a transfer names two accounts that exist");
        assert!(debit.asset == credit.asset, "a transfer stays within one asset");
        assert!(!transfer.amount.is_zero(), "a transfer moves something");
        (debit, credit)
    }
}

fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).expect("an account's sums stay within 128 bits")
}

fn difference(a: Amount, b: Amount) -> Amount {
    a.checked_sub(b).expect("a pending sum covers its holds")
}

//! An auditor that believes events and nothing else: it adds up accounts, coins, deposits and withdrawals by itself and says
//! where they disagree. It reads events in the core's own types (events, owners, transfers, statuses), and shares no rule with what
//! it judges: nothing here asks the ledger, the state or a decision.

use florin_core::custody::{Archived, Beneficiary, DepositStatus, OutPoint, WithdrawalStatus};
use florin_core::event::Event;
use florin_core::id::{CustomerId, WalletId, WithdrawalId};
use florin_core::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone)]
struct Sums {
    owner: Owner,
    asset: u32,
    posted: i128,
    held: u128,
    announced: u128,
}

#[derive(Clone)]
struct Paid {
    customer: CustomerId,
    status: WithdrawalStatus,
    total: i128,
    hold: Option<u64>,
    to: Option<CustomerId>,
}

#[derive(Clone)]
pub struct Owed {
    pub beneficiary: Beneficiary,
    pub amount: u128,
    pub status: DepositStatus,
    pub debited: u128,
    hold: Option<u64>,
}

/// Books kept from events. Credit balances are positive.
#[derive(Clone, Default)]
pub struct Auditor {
    accounts: Vec<Sums>,
    holds: BTreeMap<u64, (Transfer, u128)>,
    pub coins: BTreeMap<OutPoint, (WalletId, u128, bool)>,
    pub deposits: BTreeMap<OutPoint, Owed>,
    left: BTreeMap<OutPoint, Owed>,
    /// Spent coins that left.
    gone: BTreeMap<OutPoint, (WalletId, u128, bool)>,
    withdrawals: BTreeMap<WithdrawalId, Paid>,
    /// Which customer each script was handed out to.
    scripts: BTreeMap<Vec<u8>, Beneficiary>,
    /// What corrections gave to each owner, less what they took.
    corrected: BTreeMap<Owner, i128>,
    pub credits: BTreeMap<OutPoint, u32>,
    /// First credits since the last look.
    pub credited: Vec<OutPoint>,
    /// Blocks whose booking is not complete.
    open_parts: bool,
    pub blocks: i64,
    /// How often a status followed another.
    pub moves: BTreeMap<String, u32>,
}

impl Auditor {
    /// Adds events up, checking after each what holds after each.
    pub fn fold(&mut self, events: &[Event]) {
        for event in events {
            self.fold_one(event);
        }
        self.check();
    }

    fn fold_one(&mut self, event: &Event) {
        match event {
            Event::AccountOpened(account) => {
                assert_eq!(account.id.0 as usize, self.accounts.len());
                let (owner, asset) = (account.owner.clone(), account.asset.0);
                self.accounts.push(Sums { owner, asset, posted: 0, held: 0, announced: 0 });
            }
            Event::TransfersPosted(posted) => {
                posted.transfers.iter().for_each(|transfer| self.post(transfer, transfer.amount.units()))
            }
            Event::HoldPlaced(hold) => {
                let amount = hold.transfer.amount.units();
                assert!(amount > 0, "a hold of nothing");
                self.accounts[hold.transfer.debit.0 as usize].held += amount;
                self.accounts[hold.transfer.credit.0 as usize].announced += amount;
                assert!(self.holds.insert(hold.id.0, (hold.transfer, amount)).is_none());
                self.check_account(hold.transfer.debit.0 as usize);
            }
            Event::HoldPosted(posted) => {
                let transfer = self.drop_hold(posted.hold.0);
                self.post(&transfer, posted.amount.units());
            }
            Event::HoldReleased(released) => drop(self.drop_hold(released.hold.0)),
            Event::AddressIssued(address) => {
                self.scripts.insert(address.script.0.clone(), address.beneficiary.clone());
            }
            Event::BlockConnected(_) => {
                self.open_parts = false;
                self.blocks += 1;
            }
            Event::BlockPartBooked(_) => self.open_parts = true,
            Event::BlockDisconnected(_) => {
                self.open_parts = false;
                self.blocks -= 1;
            }
            _ => self.fold_custody(event),
        }
    }

    fn fold_custody(&mut self, event: &Event) {
        match event {
            Event::CoinReceived(coin) => {
                let record = (coin.path.wallet, coin.amount.units(), false);
                assert!(self.coins.insert(coin.outpoint, record).is_none(), "a coin arrived twice");
            }
            Event::CoinSpent(spent) => {
                let coin = self.coins.get_mut(&spent.outpoint).expect("a spent coin was there");
                assert!(!std::mem::replace(&mut coin.2, true), "a coin was spent twice");
            }
            Event::CoinUnspent(coin) => {
                let coin = self.coins.get_mut(&coin.outpoint).expect("an unspent coin was there");
                assert!(std::mem::replace(&mut coin.2, false), "a coin came back that was not spent");
            }
            Event::CoinRemoved(coin) => {
                let coin_was = self.coins.remove(&coin.outpoint).expect("a removed coin was there");
                if coin_was.2 {
                    self.gone.insert(coin.outpoint, coin_was);
                }
            }
            Event::DepositSeen(deposit) => {
                let owed = Owed {
                    beneficiary: deposit.beneficiary.clone(),
                    amount: deposit.amount.units(),
                    status: deposit.status,
                    debited: 0,
                    hold: deposit.hold.map(|hold| hold.0),
                };
                assert_ne!(deposit.status, DepositStatus::Credited, "credited at first sight");
                assert!(self.deposits.insert(deposit.outpoint, owed).is_none());
            }
            Event::DepositMoved(moved) => self.move_deposit(moved),
            Event::Unarchived(back) => back.records.iter().for_each(|record| self.come_back(record)),
            Event::DepositArchived(archived) => {
                let owed = self.deposits.remove(&archived.outpoint).expect("an archived deposit was there");
                if owed.status == DepositStatus::Credited {
                    self.left.insert(archived.outpoint, owed);
                }
            }
            Event::WithdrawalRequested(withdrawal) => {
                let is_internal = withdrawal.status == WithdrawalStatus::Final;
                let to = match self.scripts.get(&withdrawal.script.0) {
                    Some(Beneficiary::Customer(customer)) if is_internal => Some(*customer),
                    _ => None,
                };
                let paid = Paid {
                    customer: withdrawal.customer,
                    status: withdrawal.status,
                    total: (withdrawal.amount.units() + withdrawal.fee.units()) as i128,
                    hold: withdrawal.hold.map(|hold| hold.0),
                    to,
                };
                self.withdrawals.insert(withdrawal.id, paid);
            }
            Event::Halted(halt) => *self.moves.entry(format!("halt {:?}", halt.reason)).or_insert(0) += 1,
            Event::PlanMoved(moved) => {
                *self.moves.entry(format!("plan {:?}", moved.status)).or_insert(0) += 1;
            }
            Event::WithdrawalMoved(moved) => {
                let paid = self.withdrawals.get_mut(&moved.withdrawal).expect("a withdrawal that moves was requested");
                let ended = matches!(paid.status, WithdrawalStatus::Cancelled | WithdrawalStatus::Refunded);
                assert!(!ended, "{:?} is for ever, and became {:?}", paid.status, moved.status);
                let step = format!("withdrawal {:?} {:?}", paid.status, moved.status);
                *self.moves.entry(step).or_insert(0) += 1;
                paid.status = moved.status;
                paid.hold = moved.hold.map(|hold| hold.0);
            }
            _ => {}
        }
    }

    /// What left comes back as it was.
    fn come_back(&mut self, record: &Archived) {
        match record {
            Archived::Coin(coin) => {
                let back = (coin.path.wallet, coin.amount.units(), coin.spent.is_some());
                assert_eq!(self.gone.remove(&coin.outpoint), Some(back), "a coin comes back that did not leave");
                assert!(self.coins.insert(coin.outpoint, back).is_none(), "a coin came back that was there");
            }
            Archived::Deposit(deposit) => {
                let owed = self.left.remove(&deposit.outpoint).expect("a deposit that comes back had left");
                assert_eq!((owed.amount, owed.status), (deposit.amount.units(), deposit.status));
                assert!(self.deposits.insert(deposit.outpoint, owed).is_none(), "a deposit came back that was there");
            }
            Archived::Withdrawal(withdrawal) => {
                assert_eq!(self.withdrawals[&withdrawal.id].status, withdrawal.status);
            }
            Archived::Plan(_) => *self.moves.entry("plan came back".to_owned()).or_insert(0) += 1,
            Archived::Block(_) => *self.moves.entry("block came back".to_owned()).or_insert(0) += 1,
        }
    }

    fn move_deposit(&mut self, moved: &florin_core::event::DepositMoved) {
        let owed = self.deposits.get_mut(&moved.outpoint).expect("a deposit that moves was seen");
        if moved.status == DepositStatus::Credited {
            match owed.status {
                DepositStatus::Pending => {
                    *self.credits.entry(moved.outpoint).or_insert(0) += 1;
                    assert_eq!(self.credits[&moved.outpoint], 1, "credited twice");
                    self.credited.push(moved.outpoint);
                }
                DepositStatus::Missing | DepositStatus::Reversed => {
                    assert_eq!(self.credits.get(&moved.outpoint), Some(&1), "came back and never was credited");
                }
                status => panic!("{status:?} became credited"),
            }
        }
        let step = format!("deposit {:?} {:?}", owed.status, moved.status);
        *self.moves.entry(step).or_insert(0) += 1;
        owed.status = moved.status;
        owed.debited = moved.debited.units();
        owed.hold = moved.hold.map(|hold| hold.0);
    }

    fn post(&mut self, transfer: &Transfer, amount: u128) {
        let (debit, credit) = (transfer.debit.0 as usize, transfer.credit.0 as usize);
        assert_eq!(self.accounts[debit].asset, self.accounts[credit].asset, "a transfer between assets");
        self.accounts[debit].posted -= amount as i128;
        self.accounts[credit].posted += amount as i128;
        if transfer.reason == TransferReason::Correction {
            for (side, given) in [(debit, -(amount as i128)), (credit, amount as i128)] {
                *self.corrected.entry(self.accounts[side].owner.clone()).or_insert(0) += given;
            }
            *self.moves.entry("correction".to_owned()).or_insert(0) += 1;
        }
        self.check_account(debit);
        self.check_account(credit);
    }

    fn drop_hold(&mut self, id: u64) -> Transfer {
        let (transfer, amount) = self.holds.remove(&id).expect("a hold ends once");
        self.accounts[transfer.debit.0 as usize].held -= amount;
        self.accounts[transfer.credit.0 as usize].announced -= amount;
        transfer
    }

    /// I2, and the like for the house: nobody's balance is on the wrong side, with what is held counted.
    fn check_account(&self, index: usize) {
        let Sums { owner, posted, held, .. } = &self.accounts[index];
        let spare = posted - *held as i128;
        match owner {
            Owner::Customer(_) => assert!(spare >= 0, "{owner:?} is below zero: {posted} with {held} held"),
            Owner::Custody(_) => assert!(*posted <= 0, "{owner:?} owes coins"),
            Owner::House(HouseAccount::InFlight | HouseAccount::Suspense | HouseAccount::Inventory) => {
                assert!(spare >= 0, "{owner:?} is below zero: {posted}");
            }
            Owner::House(HouseAccount::Shortfall | HouseAccount::Receivables | HouseAccount::Bank) => {
                assert!(*posted <= 0, "{owner:?} is above zero: {posted}");
            }
            Owner::House(_) | Owner::Plain(_) => {}
        }
    }

    fn sum(&self, is_in: impl Fn(&Owner) -> bool) -> i128 {
        self.accounts.iter().filter(|account| is_in(&account.owner)).map(|account| account.posted).sum()
    }

    /// The credit balance of an owner; negative where debits prevail.
    pub fn balance(&self, owner: &Owner) -> i128 {
        self.sum(|other| other == owner)
    }

    /// All balances that are not zero.
    pub fn balances(&self) -> Vec<(Owner, i128)> {
        let mut all: Vec<_> = self.accounts.iter().map(|account| (account.owner.clone(), account.posted)).collect();
        all.retain(|(_, posted)| *posted != 0);
        all.sort();
        all
    }

    fn house(&self, house: HouseAccount) -> i128 {
        self.balance(&Owner::House(house))
    }

    fn check(&self) {
        let assets: BTreeSet<u32> = self.accounts.iter().map(|account| account.asset).collect();
        for asset in assets {
            let total: i128 =
                self.accounts.iter().filter(|account| account.asset == asset).map(|account| account.posted).sum();
            assert_eq!(total, 0, "I1: debits and credits differ");
        }
        if !self.open_parts {
            self.check_coins();
        }
        self.check_equation();
        self.check_customers();
        self.check_holds();
    }

    /// I3, first equation.
    fn check_coins(&self) {
        let mut unspent: BTreeMap<WalletId, i128> = BTreeMap::new();
        for (wallet, amount, spent) in self.coins.values() {
            *unspent.entry(*wallet).or_insert(0) += if *spent { 0 } else { *amount as i128 };
        }
        for account in &self.accounts {
            if let Owner::Custody(wallet) = &account.owner {
                assert_eq!(-account.posted, unspent.remove(wallet).unwrap_or(0), "I3: coins of {wallet} and custody");
            }
        }
        assert!(unspent.values().all(|sum| *sum == 0), "I3: coins without custody: {unspent:?}");
    }

    /// I3, second equation.
    fn check_equation(&self) {
        let have = -self.sum(|owner| matches!(owner, Owner::Custody(_))) - self.house(HouseAccount::Bank);
        let owe = self.sum(|owner| matches!(owner, Owner::Customer(_)))
            + self.house(HouseAccount::Inventory)
            + self.house(HouseAccount::Fees)
            + self.house(HouseAccount::Spread)
            + self.house(HouseAccount::Clearing)
            + self.house(HouseAccount::InFlight)
            + self.house(HouseAccount::Suspense);
        let lost = -self.house(HouseAccount::NetworkFees)
            - self.house(HouseAccount::Receivables)
            - self.house(HouseAccount::Shortfall);
        assert_eq!(have, owe - lost, "I3: coins and what is owed");
    }

    /// Every customer's balance again from what deposits and withdrawals became, and from corrections.
    fn check_customers(&self) {
        let mut due: BTreeMap<CustomerId, i128> = BTreeMap::new();
        for owed in self.deposits.values().chain(self.left.values()) {
            let Beneficiary::Customer(customer) = &owed.beneficiary else { continue };
            *due.entry(*customer).or_insert(0) += match owed.status {
                DepositStatus::Credited | DepositStatus::Missing => owed.amount as i128,
                DepositStatus::Reversed => (owed.amount - owed.debited) as i128,
                DepositStatus::Seen | DepositStatus::Pending | DepositStatus::Replaced => 0,
            };
        }
        for paid in self.withdrawals.values() {
            let is_back = matches!(paid.status, WithdrawalStatus::Cancelled | WithdrawalStatus::Refunded);
            if paid.hold.is_none() && !is_back {
                *due.entry(paid.customer).or_insert(0) -= paid.total;
                paid.to.into_iter().for_each(|to| *due.entry(to).or_insert(0) += paid.total);
            }
        }
        for (owner, given) in &self.corrected {
            if let Owner::Customer(customer) = owner {
                *due.entry(*customer).or_insert(0) += given;
            }
        }
        for account in &self.accounts {
            if let Owner::Customer(customer) = &account.owner {
                // What was debited and stayed short is owed as a receivable: the customer keeps no more than was had.
                let due = due.remove(customer).unwrap_or(0);
                assert_eq!(account.posted, due, "the balance of {customer}");
            }
        }
        assert!(due.values().all(|sum| *sum == 0), "money without an account: {due:?}");
    }

    fn check_holds(&self) {
        let of_deposits = self.deposits.values().filter_map(|owed| owed.hold);
        let of_withdrawals = self.withdrawals.values().filter_map(|paid| paid.hold);
        let named: Vec<u64> = of_deposits.chain(of_withdrawals).collect();
        let distinct: BTreeSet<u64> = named.iter().copied().collect();
        assert_eq!(named.len(), distinct.len(), "two records name one hold");
        assert_eq!(distinct, self.holds.keys().copied().collect(), "holds are open withdrawals and announced deposits");
        for owed in self.deposits.values() {
            assert!(owed.status != DepositStatus::Pending || owed.hold.is_some(), "pending and not announced");
            assert!(owed.status != DepositStatus::Credited || owed.hold.is_none());
        }
    }

    /// Where a withdrawal stands.
    pub fn withdrawals(&self) -> impl Iterator<Item = (&WithdrawalId, WithdrawalStatus)> {
        self.withdrawals.iter().map(|(id, paid)| (id, paid.status))
    }
}

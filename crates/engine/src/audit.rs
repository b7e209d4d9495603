//! Whether the journal is right: every row, every link, the fold, and the books at the end. It reads and judges; it repairs nothing.

pub mod addresses;
mod archived;
mod movements;
mod plans;
mod records;
mod sum;

use crate::caught::caught;
use crate::load::{FoldError, Place, READ_ROWS_MAX};
use archived::Archived;
use florin_core::amount::Amount;
use florin_core::custody::{Beneficiary, BlockRef, OutPoint, Plan, PlanStatus};
use florin_core::id::{AccountId, AssetId, ChainId, Digest, HoldId, PlanId, Seq, TxId, WalletId, WithdrawalId};
use florin_core::journal::{Journal, ReadError, Row, SnapshotHeader};
use florin_core::ledger::{Account, BalanceRule, HouseAccount, Owner};
use florin_core::snapshot;
use florin_core::state::State;
use std::collections::{BTreeMap, BTreeSet};
use sum::Sum;

/// What a journal was found to be.
#[derive(Debug)]
pub struct JournalReport {
    /// The last row that is right.
    pub head: Place,
    /// Rows that are right.
    pub rows: u64,
    /// Commands and the engine's own entries in them.
    pub entries: u64,
    /// Events in them.
    pub events: u64,
    /// The first row that is wrong, and why.
    pub wrong: Option<FoldError>,
    /// Why the row behind `head` could not be read, where the store failed there.
    pub unreadable: Option<ReadError>,
    /// Whether the snapshot that was given is the state at its row; absent where none was given or its row was not reached.
    pub snapshot_matches: Option<bool>,
    /// The state after the last row that is right; absent where the wrong row broke it while it was folded.
    pub state: Option<State>,
    /// What records that left the state until then still stand for in the books.
    archived: Archived,
}

/// Reads the whole journal: checks numbers, links and hashes, folds every row, and compares the state with a snapshot's.
/// `progress` hears the number of rows now and then.
///
/// # Errors
/// Only where the journal can't be read. What is wrong in it is in the report.
pub fn verify_journal(
    journal: &mut dyn Journal,
    snapshot: Option<&SnapshotHeader>,
    progress: impl FnMut(u64),
) -> Result<JournalReport, ReadError> {
    let mut matches = None;
    let mut report = judge_journal(
        journal,
        |row, state| {
            if let Some(header) = snapshot.filter(|header| header.seq == row.seq) {
                matches = Some(header.row_hash == row.hash && header.state_hash == snapshot::hash(state));
            }
        },
        progress,
    );
    report.snapshot_matches = matches;
    report.unreadable.take().map_or(Ok(report), Err)
}

/// As [`verify_journal`], and never without a report: a row that can't be read ends it like one that is wrong. `seen` gets each
/// row that is right, with the state after it.
pub fn judge_journal(
    journal: &mut dyn Journal,
    mut seen: impl FnMut(&Row, &State),
    progress: impl FnMut(u64),
) -> JournalReport {
    judge_rows(journal, |at| seen(at.row, at.state), progress)
}

/// A row that is right, and what the journal up to it folds to.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The row.
    pub row: &'a Row,
    /// The state after it.
    pub state: &'a State,
    archived: &'a Archived,
}

impl Seen<'_> {
    /// As [`JournalReport::check_books`], after this row.
    pub fn check_books(&self) -> Vec<BookFault> {
        check(self.state, Some(self.archived))
    }
}

/// As [`judge_journal`], for whoever judges the books after each row.
pub fn judge_rows(
    journal: &mut dyn Journal,
    mut seen: impl FnMut(Seen<'_>),
    mut progress: impl FnMut(u64),
) -> JournalReport {
    let mut report = JournalReport {
        head: Place::START,
        rows: 0,
        entries: 0,
        events: 0,
        wrong: None,
        unreadable: None,
        snapshot_matches: None,
        state: Some(State::default()),
        archived: Archived::default(),
    };
    loop {
        // One bad row spoils all that are read with it; row by row the bad one is found.
        let read = journal.read(report.head.seq, READ_ROWS_MAX).or_else(|_| journal.read(report.head.seq, 1));
        let rows = match read {
            Ok(rows) => rows,
            Err(fault) => {
                report.unreadable = Some(fault);
                return report;
            }
        };
        if rows.is_empty() {
            return report;
        }
        for row in &rows {
            if let Err(wrong) = report.add(row) {
                report.wrong = Some(wrong);
                return report;
            }
            if let Some(state) = &report.state {
                seen(Seen { row, state, archived: &report.archived });
            }
        }
        progress(report.rows);
    }
}

impl JournalReport {
    fn add(&mut self, row: &Row) -> Result<(), FoldError> {
        let batch = row.open(self.head.seq, self.head.hash)?;
        let mut state = self.state.take().expect("the state is there until a row breaks it");
        let archived = &mut self.archived;
        caught(|| archived.fold(&mut state, row, &batch))
            .map_err(|what| FoldError::Contradiction { seq: row.seq, what })?;
        self.state = Some(state);
        self.head = Place { seq: row.seq, hash: row.hash };
        self.rows += 1;
        self.entries += batch.entries.len() as u64;
        self.events += batch.entries.iter().map(|entry| entry.events.len() as u64).sum::<u64>();
        Ok(())
    }

    /// What is wrong in the books after the last row. As [`check_books`], and exact in every account: what left the state on the
    /// way was counted.
    pub fn check_books(&self) -> Vec<BookFault> {
        self.state.as_ref().map(|state| check(state, Some(&self.archived))).unwrap_or_default()
    }

    /// The hash of the state after the last row.
    pub fn state_hash(&self) -> Option<Digest> {
        self.state.as_ref().map(snapshot::hash)
    }

    /// The number of the first row that is wrong, or can't be read.
    pub fn wrong_seq(&self) -> Option<Seq> {
        let unreadable = self.unreadable.as_ref().map(|_| self.head.seq.next());
        self.wrong.as_ref().map(FoldError::seq).or(unreadable)
    }
}

/// Something in the books that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookFault {
    /// Debits and credits of an asset differ.
    #[error("asset {asset}: debits are {} and credits {}", debits.units(), credits.units())]
    Unbalanced {
        /// The asset.
        asset: AssetId,
        /// All debits.
        debits: Amount,
        /// All credits.
        credits: Amount,
    },
    /// Debits and credits of an asset differ and exceed 128 bits, or its coins do.
    #[error("asset {asset}: its sums exceed what can be counted")]
    Overflow {
        /// The asset.
        asset: AssetId,
    },
    /// An account's pending sums are not those of the open holds.
    #[error("account {account}: its pending sums are not those of its holds")]
    Pending {
        /// The account.
        account: AccountId,
    },
    /// An account that must not be below zero is.
    #[error("account {account}: its balance breaks its rule")]
    BelowZero {
        /// The account.
        account: AccountId,
    },
    /// A wallet's account is not the sum of its unspent coins.
    #[error("wallet {wallet}: its coins hold {} and its account says {}", coins.units(), account.units())]
    Custody {
        /// The wallet.
        wallet: WalletId,
        /// The sum of its unspent coins.
        coins: Amount,
        /// The account's debit balance.
        account: Amount,
    },
    /// One of the house's accounts is not what the records say that it stands for.
    #[error(
        "asset {asset}: the house's account {} holds {} in debit and {} in credit, and the records say {}",
        house.name(), debit.units(), credit.units(), records.units()
    )]
    Records {
        /// The asset.
        asset: AssetId,
        /// The account.
        house: HouseAccount,
        /// Its debit balance.
        debit: Amount,
        /// Its credit balance.
        credit: Amount,
        /// The sum of the records, on the account's own side.
        records: Amount,
    },
    /// A hold is not the one withdrawal's or deposit's that names it, or nothing names it, or what is named is not open.
    #[error("hold {hold}: it is not that of one open withdrawal or deposit, of its amount and between its accounts")]
    Hold {
        /// The hold.
        hold: HoldId,
        /// Of which asset, as far as that can be said.
        asset: Option<AssetId>,
    },
    /// A withdrawal is not where the plan stands that pays it, or one of the two does not name the other.
    #[error("withdrawal {withdrawal}: it does not stand where {} does", plan.map_or("a plan of its own".to_owned(), |plan| format!("plan {plan}")))]
    Plan {
        /// The withdrawal.
        withdrawal: WithdrawalId,
        /// The plan that pays it, as far as one says so.
        plan: Option<PlanId>,
        /// Of which asset, as far as that can be said.
        asset: Option<AssetId>,
    },
    /// A plan was ended as impossible while all its inputs were there.
    #[error("plan {plan}: it was ended as impossible, and nobody had taken an input of it")]
    Conflict {
        /// The plan.
        plan: PlanId,
        /// Of which asset.
        asset: AssetId,
    },
    /// A row moved money that nothing in it stands for, or less than what stands in it.
    #[error(
        "asset {asset}: row {row} moves {} from {} to {}, and what stands beside it says {}",
        moved.units(), named(debit), named(credit), said.units()
    )]
    Movement {
        /// The row.
        row: Seq,
        /// The asset.
        asset: AssetId,
        /// Who gave it.
        debit: Owner,
        /// Who got it.
        credit: Owner,
        /// How much; the most that an amount holds where it is more.
        moved: Amount,
        /// How much the row's other events stand for, likewise.
        said: Amount,
    },
    /// An account was opened with something in it.
    #[error("account {account}: it was opened with sums that nobody posted")]
    Opened {
        /// The account.
        account: AccountId,
        /// Of which asset.
        asset: AssetId,
    },
}

fn named(owner: &Owner) -> String {
    match owner {
        Owner::Customer(customer) => format!("customer {customer}"),
        Owner::House(house) => format!("the house's {}", house.name()),
        Owner::Custody(wallet) => format!("wallet {wallet}"),
        Owner::Plain(number) => format!("plain account {number}"),
    }
}

impl BookFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            BookFault::Unbalanced { .. } => "books_unbalanced",
            BookFault::Overflow { .. } => "books_overflow",
            BookFault::Pending { .. } => "books_pending",
            BookFault::BelowZero { .. } => "books_below_zero",
            BookFault::Custody { .. } => "books_custody",
            BookFault::Records { .. } => "books_records",
            BookFault::Hold { .. } => "books_hold",
            BookFault::Plan { .. } => "books_plan",
            BookFault::Conflict { .. } => "books_conflict",
            BookFault::Movement { .. } => "books_movement",
            BookFault::Opened { .. } => "books_opened",
        }
    }

    /// Whose books it is in; `None` where that can't be said.
    pub fn asset(&self, state: &State) -> Option<AssetId> {
        match self {
            BookFault::Unbalanced { asset, .. }
            | BookFault::Overflow { asset }
            | BookFault::Records { asset, .. }
            | BookFault::Conflict { asset, .. }
            | BookFault::Movement { asset, .. }
            | BookFault::Opened { asset, .. } => Some(*asset),
            BookFault::Pending { account } | BookFault::BelowZero { account } => {
                state.ledger().account(*account).map(|account| account.asset)
            }
            BookFault::Custody { wallet, .. } => {
                let wallet = state.wallets().get(wallet)?;
                state.chains().get(&wallet.chain).map(|of_chain| of_chain.chain.coin)
            }
            BookFault::Hold { asset, .. } | BookFault::Plan { asset, .. } => *asset,
        }
    }
}

/// Checks the books of a state, each rule by sums of its own over the accounts, holds, coins and records.
///
/// A state alone does not say what stood in records that have left it; [`JournalReport::check_books`], which has read the whole
/// journal, knows that as well, and finds more in suspense and shortfall once blocks were archived. Nor does a state say how its
/// sums came about: which row moved money without a reason is found with the journal alone.
pub fn check_books(state: &State) -> Vec<BookFault> {
    check(state, None)
}

fn check(state: &State, archived: Option<&Archived>) -> Vec<BookFault> {
    let mut faults = Vec::new();
    let mut by_asset: BTreeMap<AssetId, [Sum; 2]> = BTreeMap::new();
    for account in state.ledger().accounts() {
        let [debits, credits] = by_asset.entry(account.asset).or_default();
        debits.add(account.debits_posted);
        credits.add(account.credits_posted);
        if !is_within_rule(account) {
            faults.push(BookFault::BelowZero { account: account.id });
        }
    }
    for (asset, [debits, credits]) in by_asset {
        if debits != credits {
            faults.push(match (debits.amount(), credits.amount()) {
                (Some(debits), Some(credits)) => BookFault::Unbalanced { asset, debits, credits },
                _ => BookFault::Overflow { asset },
            });
        }
    }
    check_holds(state, &mut faults);
    check_custody(state, &mut faults);
    records::check_house(state, archived, &mut faults);
    records::check_hold_records(state, &mut faults);
    plans::check_plans(state, &mut faults);
    faults.extend(archived.into_iter().flat_map(|archived| archived.faults.iter().cloned()));
    faults
}

/// Whether what an account has covers what it owes and what is held of it, by the rule of whoever owns it.
fn is_within_rule(account: &Account) -> bool {
    let Account { debits_posted, credits_posted, debits_pending, credits_pending, .. } = *account;
    let covers = |have: Amount, owe: Amount, held: Amount| owe.checked_add(held).is_some_and(|owe| owe <= have);
    match account.owner.rule().unwrap_or(account.rule) {
        BalanceRule::CreditNormal => covers(credits_posted, debits_posted, debits_pending),
        BalanceRule::DebitNormal => covers(debits_posted, credits_posted, credits_pending),
        BalanceRule::Free => true,
    }
}

fn check_holds(state: &State, faults: &mut Vec<BookFault>) {
    // Accounts are numbered from 0 without gaps, and a hold is between two of them.
    let accounts = state.ledger().accounts();
    let mut pending = vec![[Sum::default(); 2]; accounts.len()];
    for hold in state.ledger().holds().values() {
        for (account, side) in [(hold.transfer.debit, 0), (hold.transfer.credit, 1)] {
            match usize::try_from(account.0).ok().and_then(|index| pending.get_mut(index)) {
                Some(sums) => sums[side].add(hold.transfer.amount),
                None => faults.push(BookFault::Pending { account }),
            }
        }
    }
    for (account, expected) in accounts.iter().zip(pending) {
        if expected != [account.debits_pending, account.credits_pending].map(Sum::from) {
            faults.push(BookFault::Pending { account: account.id });
        }
    }
}

/// What plans paid back to each wallet in a block that is being taken back, where the plan's own confirmation is taken back already
/// and the coin that it paid back is not yet.
///
/// A plan's confirmation moves what it paid and its fee; its change is a coin that nothing is booked for, because it never left the
/// wallet. A block too large for one command is taken back spends first: from then until the change is removed with the block's
/// receipts, inputs and change are both coins, and the books have the inputs alone. Forward there is no such time: a plan and its
/// change are booked by one command or not at all. At a tip this is empty.
pub fn change_being_undone(state: &State) -> BTreeMap<WalletId, Option<Amount>> {
    let parts = state.chains().values().filter_map(|chain| chain.part.as_ref());
    let undone: BTreeSet<(ChainId, BlockRef)> =
        parts.filter(|part| part.undoing).map(|part| (part.block.chain, part.block.at)).collect();
    let mut change: BTreeMap<WalletId, Option<Amount>> = BTreeMap::new();
    if undone.is_empty() {
        return change;
    }
    let confirmed = |plan: &&Plan| matches!(plan.status, PlanStatus::Confirmed | PlanStatus::Final);
    let confirmed = state.plans().values().filter(confirmed);
    let confirmed: BTreeSet<(ChainId, TxId)> =
        confirmed.filter_map(|plan| Some((plan.anchor.chain, plan.paid.as_ref()?.txid))).collect();
    // Spent or not: the spend of change in the same block is booked, or taken back, for itself.
    for coin in state.coins().values() {
        let OutPoint { chain, txid, .. } = coin.outpoint;
        let is_change = coin.beneficiary == Beneficiary::CHANGE && !coin.suspense;
        if is_change && undone.contains(&(chain, coin.at)) && !confirmed.contains(&(chain, txid)) {
            let sum = change.entry(coin.path.wallet).or_insert(Some(Amount::ZERO));
            *sum = sum.and_then(|sum| sum.checked_add(coin.amount));
        }
    }
    change
}

/// At a tip each wallet's account is the sum of its unspent coins; between two tips the coins are more by what
/// [`change_being_undone`] says, and by nothing else.
fn check_custody(state: &State, faults: &mut Vec<BookFault>) {
    let change = change_being_undone(state);
    let mut coins: BTreeMap<WalletId, Option<Amount>> = BTreeMap::new();
    for coin in state.coins().values().filter(|coin| coin.spent.is_none()) {
        let held = coins.entry(coin.path.wallet).or_insert(Some(Amount::ZERO));
        *held = held.and_then(|held| held.checked_add(coin.amount));
    }
    for wallet in state.wallets().values() {
        let Some(chain) = state.chains().get(&wallet.chain) else { continue };
        let asset = chain.chain.coin;
        let account = state.ledger().account_of(&Owner::Custody(wallet.id), asset);
        let account = account.map_or(Amount::ZERO, Account::debit_balance);
        let of =
            |sums: &BTreeMap<WalletId, Option<Amount>>| sums.get(&wallet.id).copied().unwrap_or(Some(Amount::ZERO));
        let expected = of(&change).and_then(|change| account.checked_add(change));
        match (of(&coins), expected) {
            (Some(held), Some(expected)) if held == expected => {}
            (Some(coins), Some(_)) => faults.push(BookFault::Custody { wallet: wallet.id, coins, account }),
            (None, _) | (_, None) => faults.push(BookFault::Overflow { asset }),
        }
    }
}

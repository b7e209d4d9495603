//! The books of each asset in one table: who holds what on which side, and whether all of it is what coins and records say. It only adds up, and leaves the judging to the engine's audit; what is wrong is shown and never put right.

use crate::api::view::money;
use florin_core::amount::Amount;
use florin_core::asset::Asset;
use florin_core::custody::Wallet;
use florin_core::id::{AssetId, WalletId};
use florin_core::ledger::{Account, HouseAccount, Owner};
use florin_core::state::State;
use florin_engine::audit::{BookFault, check_books};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// All books.
#[derive(Debug, Serialize, ToSchema)]
pub struct BooksReport {
    /// Whether every rule of the books holds.
    pub balanced: bool,
    /// What does not hold.
    pub faults: Vec<BookFaultView>,
    /// The books of each asset.
    pub items: Vec<BooksView>,
}

/// A rule of the books that does not hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookFaultView {
    /// Its stable code.
    pub code: String,
    /// In words.
    pub detail: String,
}

/// The books of one asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct BooksView {
    /// The asset's code.
    pub asset: String,
    /// Whether every rule of the books holds for it.
    pub balanced: bool,
    /// All balances on the debit side: coins, money at the bank, claims, costs.
    pub debits: String,
    /// All balances on the credit side: what is owed, and what is the house's.
    pub credits: String,
    /// What each kind of account holds.
    pub lines: Vec<LineView>,
    /// Each wallet's books beside its coins.
    pub wallets: Vec<WalletBooksView>,
}

/// What one kind of account holds.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineView {
    /// `customers`, `custody`, `plain`, or the house account's name.
    pub account: String,
    /// `debit` or `credit`.
    pub side: String,
    /// How much.
    pub amount: String,
}

/// A wallet's books beside its coins.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalletBooksView {
    /// The wallet.
    pub wallet: u32,
    /// What its custody account holds.
    pub books: String,
    /// What its unspent coins hold.
    pub coins: String,
    /// Whether they are what they must be to each other, to the unit: equal, but while a block is taken back in parts.
    pub equal: bool,
}

/// The word under which an owner's accounts are added up.
pub(crate) fn line_of(owner: &Owner) -> String {
    match owner {
        Owner::Customer(_) => "customers".to_owned(),
        Owner::House(account) => account.name(),
        Owner::Custody(_) => "custody".to_owned(),
        Owner::Plain(_) => "plain".to_owned(),
    }
}

/// What is wrong in the books of each asset. One judgement for the table, the metric and whoever verifies.
pub struct Judged {
    faults: Vec<BookFault>,
    /// Assets with a fault; `None` stands for one that can't be said.
    wrong: BTreeSet<Option<AssetId>>,
}

/// Holds a state against the rules of the audit.
pub fn judge(state: &State) -> Judged {
    let faults = check_books(state);
    let wrong = faults.iter().map(|fault| fault.asset(state)).collect();
    Judged { faults, wrong }
}

impl Judged {
    /// Whether nothing is wrong with an asset. A fault of no asset may be any's.
    pub fn is_balanced(&self, asset: AssetId) -> bool {
        !self.wrong.contains(&None) && !self.wrong.contains(&Some(asset))
    }

    fn has_coins(&self, of: WalletId) -> bool {
        let lacks = |fault: &BookFault| matches!(fault, BookFault::Custody { wallet, .. } if *wallet == of);
        !self.faults.iter().any(lacks)
    }
}

/// Sums of one line: debits and credits posted.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    debits: Amount,
    credits: Amount,
}

fn add(sum: Amount, amount: Amount) -> Amount {
    // Sums beyond 128 bits can't be shown.
    sum.checked_add(amount).unwrap_or(Amount::MAX)
}

/// All books, and the rules of the audit held against them.
pub fn report(state: &State) -> BooksReport {
    let judged = judge(state);
    let items: Vec<BooksView> = state.assets().values().map(|asset| books(state, asset, &judged)).collect();
    let fault = |fault: &BookFault| BookFaultView { code: fault.code().to_owned(), detail: fault.to_string() };
    let faults: Vec<BookFaultView> = judged.faults.iter().map(fault).collect();
    BooksReport { balanced: faults.is_empty(), faults, items }
}

/// The books of an asset.
fn books(state: &State, asset: &Asset, judged: &Judged) -> BooksView {
    let show = |amount: Amount| money(state, asset.id, amount);
    let (mut debits, mut credits) = (Amount::ZERO, Amount::ZERO);
    let mut lines: BTreeMap<String, Sums> = BTreeMap::new();
    for account in state.ledger().accounts().iter().filter(|account| account.asset == asset.id) {
        let line = lines.entry(line_of(&account.owner)).or_default();
        line.debits = add(line.debits, account.debits_posted);
        line.credits = add(line.credits, account.credits_posted);
        debits = add(debits, account.debit_balance());
        credits = add(credits, account.credit_balance());
    }
    let wallets = wallets_of(state, asset).map(|wallet| wallet_books(state, asset, wallet, judged)).collect();
    let line = |(account, sums): (String, Sums)| {
        let is_debit = sums.debits > sums.credits;
        let (more, less) = if is_debit { (sums.debits, sums.credits) } else { (sums.credits, sums.debits) };
        let side = if is_debit { "debit" } else { "credit" };
        LineView { account, side: side.to_owned(), amount: show(more.saturating_sub(less)) }
    };
    BooksView {
        asset: asset.code.clone(),
        balanced: judged.is_balanced(asset.id),
        debits: show(debits),
        credits: show(credits),
        lines: lines.into_iter().map(line).collect(),
        wallets,
    }
}

fn wallets_of<'a>(state: &'a State, asset: &'a Asset) -> impl Iterator<Item = &'a Wallet> {
    state.wallets().values().filter(|wallet| asset.chain == Some(wallet.chain))
}

fn wallet_books(state: &State, asset: &Asset, wallet: &Wallet, judged: &Judged) -> WalletBooksView {
    let account = state.ledger().account_of(&Owner::Custody(wallet.id), asset.id);
    let books = account.map_or(Amount::ZERO, Account::debit_balance);
    let unspent = state.coins().values().filter(|coin| coin.path.wallet == wallet.id && coin.spent.is_none());
    let coins = unspent.fold(Amount::ZERO, |sum, coin| add(sum, coin.amount));
    WalletBooksView {
        wallet: wallet.id.0,
        books: money(state, asset.id, books),
        coins: money(state, asset.id, coins),
        equal: judged.has_coins(wallet.id),
    }
}

/// The sum of one kind of house account, for metrics.
pub(crate) fn house_balance(state: &State, asset: &Asset, account: HouseAccount) -> (Amount, Amount) {
    let found = state.ledger().account_of(&Owner::House(account), asset.id);
    found.map_or((Amount::ZERO, Amount::ZERO), |found| (found.debit_balance(), found.credit_balance()))
}

//! The books of each asset in one table: who holds what on which side, and whether custody equals the coins. It only adds up; what is wrong is shown and never put right.

use crate::api::view::money;
use florin_core::amount::Amount;
use florin_core::asset::Asset;
use florin_core::custody::Wallet;
use florin_core::ledger::{Account, BalanceRule, HouseAccount, Owner};
use florin_core::state::State;
use serde::Serialize;
use std::collections::BTreeMap;
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
    /// Whether debits equal credits, and every wallet's books its coins.
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
    /// Whether they are equal, to the unit.
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

/// Sums of one line: debits and credits posted.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    debits: Amount,
    credits: Amount,
}

fn add(sum: Amount, amount: Amount) -> Amount {
    // Sums beyond 128 bits can't be shown; saturated they can't be equal to anything right.
    sum.checked_add(amount).unwrap_or(Amount::MAX)
}

/// Whether an account's balance is where its rule says.
fn within_rule(account: &Account) -> bool {
    match account.rule {
        BalanceRule::CreditNormal => account.credits_posted >= account.debits_posted,
        BalanceRule::DebitNormal => account.debits_posted >= account.credits_posted,
        BalanceRule::Free => true,
    }
}

/// All books, and the rules of the audit held against them.
pub fn report(state: &State) -> BooksReport {
    let fault = |fault: florin_engine::audit::BookFault| BookFaultView {
        code: fault.code().to_owned(),
        detail: fault.to_string(),
    };
    let faults: Vec<BookFaultView> = florin_engine::audit::check_books(state).into_iter().map(fault).collect();
    let items: Vec<BooksView> = state.assets().values().map(|asset| books(state, asset)).collect();
    BooksReport { balanced: faults.is_empty() && items.iter().all(|asset| asset.balanced), faults, items }
}

/// The books of an asset.
pub fn books(state: &State, asset: &Asset) -> BooksView {
    let show = |amount: Amount| money(state, asset.id, amount);
    let (mut debits, mut credits, mut posted) = (Amount::ZERO, Amount::ZERO, Sums::default());
    let mut lines: BTreeMap<String, Sums> = BTreeMap::new();
    let mut sound = true;
    for account in state.ledger().accounts().iter().filter(|account| account.asset == asset.id) {
        let line = lines.entry(line_of(&account.owner)).or_default();
        line.debits = add(line.debits, account.debits_posted);
        line.credits = add(line.credits, account.credits_posted);
        posted.debits = add(posted.debits, account.debits_posted);
        posted.credits = add(posted.credits, account.credits_posted);
        debits = add(debits, account.debit_balance());
        credits = add(credits, account.credit_balance());
        sound &= within_rule(account);
    }
    let wallets: Vec<WalletBooksView> =
        wallets_of(state, asset).map(|wallet| wallet_books(state, asset, wallet)).collect();
    let balanced = sound && posted.debits == posted.credits && wallets.iter().all(|wallet| wallet.equal);
    let line = |(account, sums): (String, Sums)| {
        let is_debit = sums.debits > sums.credits;
        let (more, less) = if is_debit { (sums.debits, sums.credits) } else { (sums.credits, sums.debits) };
        let side = if is_debit { "debit" } else { "credit" };
        LineView { account, side: side.to_owned(), amount: show(more.saturating_sub(less)) }
    };
    BooksView {
        asset: asset.code.clone(),
        balanced,
        debits: show(debits),
        credits: show(credits),
        lines: lines.into_iter().map(line).collect(),
        wallets,
    }
}

fn wallets_of<'a>(state: &'a State, asset: &'a Asset) -> impl Iterator<Item = &'a Wallet> {
    state.wallets().values().filter(|wallet| asset.chain == Some(wallet.chain))
}

fn wallet_books(state: &State, asset: &Asset, wallet: &Wallet) -> WalletBooksView {
    let account = state.ledger().account_of(&Owner::Custody(wallet.id), asset.id);
    let books = account.map_or(Amount::ZERO, Account::debit_balance);
    let unspent = state.coins().values().filter(|coin| coin.path.wallet == wallet.id && coin.spent.is_none());
    let coins = unspent.fold(Amount::ZERO, |sum, coin| add(sum, coin.amount));
    WalletBooksView {
        wallet: wallet.id.0,
        books: money(state, asset.id, books),
        coins: money(state, asset.id, coins),
        equal: books == coins,
    }
}

/// The sum of one kind of house account, for metrics.
pub(crate) fn house_balance(state: &State, asset: &Asset, account: HouseAccount) -> (Amount, Amount) {
    let found = state.ledger().account_of(&Owner::House(account), asset.id);
    found.map_or((Amount::ZERO, Amount::ZERO), |found| (found.debit_balance(), found.credit_balance()))
}

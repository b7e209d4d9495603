//! Questions to the search tables. Lists come newest first, in an order that a record keeps whatever becomes of it; history comes oldest
//! first, addresses in order of their keys. A page is one walk down an index. Lists are as of a row that the caller names: the tables may be
//! further than he is. Nothing here knows what the state still holds.

use super::fold::{ACCOUNT, QUOTE_ACCEPTED, QUOTE_ENDED, QUOTE_OPEN, read_account};
use super::{POSITIONS_MAX, Place, Projection};
use crate::fault::StoreFault;
use crate::record::{Cell, Cells, NUMBER_MAX};
use florin_core::amount::Amount;
use florin_core::broker::Quote;
use florin_core::custody::{
    Archived, Beneficiary, BlockRef, Branch, DepositStatus, KeyPath, OutPoint, WithdrawalStatus,
};
use florin_core::event::Event;
use florin_core::id::{
    AccountId, AssetId, BlockHash, ChainId, CommandId, CustomerId, Height, HoldId, LedgerTime, PlanId, QuoteId, Seq,
    TxId, WalletId, WithdrawalId,
};
use florin_core::ledger::{Account, Owner, TransferReason};
use florin_core::wire::Bytes;

/// The most records of one page.
pub const PAGE_MAX: u32 = 1_000;

/// A page of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only what is older than this; `None` for the first page.
    pub before: Option<Place>,
    /// How many; more than [`PAGE_MAX`] counts as that.
    pub count: u32,
}

/// How much of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many; more than [`PAGE_MAX`] counts as that.
    pub count: u32,
    /// Only what began in this row or before. What comes later takes nobody's place.
    pub until: Seq,
}

impl Extent {
    /// Of all that the tables have.
    pub fn of_all(count: u32) -> Extent {
        Extent { count, until: Seq(u64::MAX) }
    }
}

/// What history can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A command, and what it made: a withdrawal, a quote; or a customer, a session. These ids never collide.
    Uuid([u8; 16]),
    /// A transaction or a block.
    Hash([u8; 32]),
    /// An output: a coin, a deposit.
    OutPoint(OutPoint),
    /// An account: its opening and its holds. Its transfers have a list of their own.
    Account(AccountId),
    /// A hold.
    Hold(HoldId),
    /// A plan.
    Plan(PlanId),
    /// A wallet.
    Wallet(WalletId),
}

impl Subject {
    /// The key under which events are found; the forms differ in length or in their first byte.
    pub(super) fn key(&self) -> Vec<u8> {
        let tagged = |tag: u8, number: u64| [&[tag][..], &number.to_be_bytes()].concat();
        match self {
            Subject::Uuid(id) => id.to_vec(),
            Subject::Hash(hash) => hash.to_vec(),
            Subject::OutPoint(outpoint) => {
                [&outpoint.chain.0.to_be_bytes()[..], &outpoint.txid.0, &outpoint.vout.to_be_bytes()].concat()
            }
            Subject::Account(id) => tagged(b'a', id.0),
            Subject::Hold(id) => tagged(b'h', id.0),
            Subject::Plan(id) => tagged(b'p', id.0),
            Subject::Wallet(id) => tagged(b'w', id.0.into()),
        }
    }
}

/// A key's place, as bytes that both databases sort as [`KeyPath`] is sorted.
pub(super) fn path_key(path: &KeyPath) -> Vec<u8> {
    [&path.wallet.0.to_be_bytes()[..], &[path.branch as u8], &path.index.to_be_bytes()].concat()
}

fn outpoint(outpoint: OutPoint) -> Vec<Subject> {
    vec![Subject::OutPoint(outpoint), Subject::Hash(outpoint.txid.0)]
}

fn of_archived(record: &Archived) -> Vec<Subject> {
    match record {
        Archived::Block(block) => vec![Subject::Hash(block.at.hash.0)],
        Archived::Deposit(deposit) => outpoint(deposit.outpoint),
        Archived::Withdrawal(withdrawal) => vec![Subject::Uuid(withdrawal.id.0)],
        Archived::Plan(plan) => vec![Subject::Plan(plan.id)],
        Archived::Coin(coin) => outpoint(coin.outpoint),
    }
}

fn beneficiary(beneficiary: &Beneficiary) -> Option<Subject> {
    match beneficiary {
        Beneficiary::Customer(id) => Some(Subject::Uuid(id.0)),
        Beneficiary::House(_) => None,
    }
}

/// Whom and what an event is about, beside its command.
pub(super) fn subjects(event: &Event) -> Vec<Subject> {
    let uuid = |id: [u8; 16]| vec![Subject::Uuid(id)];
    match event {
        Event::SessionAdvanced(advanced) => uuid(advanced.session.0),
        Event::Forgotten(forgotten) => uuid(forgotten.command.0),
        Event::AccountOpened(account) => match account.owner {
            Owner::Customer(id) => vec![Subject::Account(account.id), Subject::Uuid(id.0)],
            Owner::House(_) | Owner::Custody(_) | Owner::Plain(_) => vec![Subject::Account(account.id)],
        },
        Event::HoldPlaced(hold) => {
            vec![Subject::Hold(hold.id), Subject::Account(hold.transfer.debit), Subject::Account(hold.transfer.credit)]
        }
        Event::HoldPosted(posted) => vec![Subject::Hold(posted.hold)],
        Event::HoldReleased(released) => vec![Subject::Hold(released.hold)],
        Event::CustomerSet(customer) => uuid(customer.id.0),
        Event::WalletRegistered(wallet) => vec![Subject::Wallet(wallet.id)],
        Event::WalletRetired(retired) => vec![Subject::Wallet(retired.wallet)],
        Event::AddressIssued(address) => {
            std::iter::once(Subject::Wallet(address.path.wallet)).chain(beneficiary(&address.beneficiary)).collect()
        }
        Event::BlockConnected(block) => vec![Subject::Hash(block.at.hash.0)],
        Event::BlockDisconnected(gone) => vec![Subject::Hash(gone.at.hash.0)],
        Event::BlockPartBooked(part) => vec![Subject::Hash(part.block.at.hash.0)],
        Event::BlockArchived(archived) => vec![Subject::Hash(archived.at.hash.0)],
        Event::Unarchived(back) => back.records.iter().flat_map(of_archived).collect(),
        Event::CoinReceived(coin) => outpoint(coin.outpoint),
        Event::CoinSpent(spent) => {
            let by = [Subject::Hash(spent.spent.txid.0)];
            outpoint(spent.outpoint).into_iter().chain(by).chain(spent.spent.plan.map(Subject::Plan)).collect()
        }
        Event::CoinUnspent(coin) | Event::CoinRemoved(coin) => outpoint(coin.outpoint),
        Event::DepositSeen(deposit) => {
            outpoint(deposit.outpoint).into_iter().chain(beneficiary(&deposit.beneficiary)).collect()
        }
        Event::DepositMoved(moved) => {
            outpoint(moved.outpoint).into_iter().chain(moved.hold.map(Subject::Hold)).collect()
        }
        Event::DepositArchived(archived) => outpoint(archived.outpoint),
        Event::WithdrawalRequested(withdrawal) => {
            [Subject::Uuid(withdrawal.id.0), Subject::Uuid(withdrawal.customer.0)]
                .into_iter()
                .chain(withdrawal.hold.map(Subject::Hold))
                .collect()
        }
        Event::WithdrawalApproved(approved) => uuid(approved.withdrawal.0),
        Event::WithdrawalMoved(moved) => {
            let paid = moved.paid.as_ref().map(|paid| Subject::Hash(paid.txid.0));
            std::iter::once(Subject::Uuid(moved.withdrawal.0))
                .chain(paid)
                .chain(moved.plan.map(Subject::Plan))
                .collect()
        }
        Event::WithdrawalArchived(archived) => uuid(archived.withdrawal.0),
        Event::SigningRequested(plan) => {
            let payments = plan.versions.iter().flat_map(|version| &version.payments);
            let paid = payments.map(|payment| Subject::Uuid(payment.withdrawal.0));
            let inputs = plan.inputs.iter().copied().map(Subject::OutPoint);
            std::iter::once(Subject::Plan(plan.id)).chain(paid).chain(inputs).collect()
        }
        Event::PlanSigned(signed) => vec![Subject::Plan(signed.plan), Subject::Hash(signed.txid.0)],
        Event::PlanBumped(bumped) => vec![Subject::Plan(bumped.plan)],
        Event::PlanMoved(moved) => {
            let paid = moved.paid.as_ref().map(|paid| Subject::Hash(paid.txid.0));
            std::iter::once(Subject::Plan(moved.plan)).chain(paid).collect()
        }
        Event::PlanArchived(archived) => vec![Subject::Plan(archived.plan)],
        Event::QuoteOffered(quote) => vec![Subject::Uuid(quote.id.0), Subject::Uuid(quote.customer.0)],
        Event::QuoteEnded(ended) => uuid(ended.quote.0),
        // About the platform, or about more accounts than a key each would be worth.
        _ => Vec::new(),
    }
}

/// A posted transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRecord {
    /// Where in the journal.
    pub place: Place,
    /// When.
    pub at: LedgerTime,
    /// The account debited.
    pub debit: AccountId,
    /// The account credited.
    pub credit: AccountId,
    /// How much.
    pub amount: Amount,
    /// Why.
    pub reason: TransferReason,
}

/// Where a deposit stands in lists: by when it was first seen, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DepositKey {
    /// When it was first seen.
    pub seen: LedgerTime,
    /// The output.
    pub outpoint: OutPoint,
}

/// A deposit as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositRecord {
    /// Where in the journal it was first seen.
    pub place: Place,
    /// Where it last changed.
    pub changed: Place,
    /// The output.
    pub outpoint: OutPoint,
    /// The customer; `None` for the house.
    pub customer: Option<CustomerId>,
    /// What it pays.
    pub amount: Amount,
    /// Where it stands.
    pub status: DepositStatus,
    /// Its block, while it has one.
    pub at: Option<BlockRef>,
    /// When it was first seen.
    pub seen: LedgerTime,
    /// What was debited when it was reversed.
    pub debited: Amount,
    /// The address it paid.
    pub path: KeyPath,
}

/// A withdrawal as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawalRecord {
    /// Where in the journal it was requested.
    pub place: Place,
    /// Where it last changed.
    pub changed: Place,
    /// Its id.
    pub id: WithdrawalId,
    /// Whose.
    pub customer: CustomerId,
    /// Of which asset.
    pub asset: AssetId,
    /// What arrives.
    pub amount: Amount,
    /// What it costs on top.
    pub fee: Amount,
    /// The output script it pays.
    pub script: Bytes,
    /// Where it stands.
    pub status: WithdrawalStatus,
    /// The plan that pays it.
    pub plan: Option<PlanId>,
    /// When it was requested.
    pub requested: LedgerTime,
    /// The transaction that paid it, and its block.
    pub paid: Option<(TxId, BlockRef)>,
}

/// What became of a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuoteStatus {
    /// It stands, if it has not expired.
    Open,
    /// Its exchange was done.
    Accepted,
    /// It expired, or a newer one took its place.
    Ended,
}

/// A quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteRecord {
    /// Where in the journal it was offered.
    pub place: Place,
    /// As it was offered.
    pub quote: Quote,
    /// What became of it.
    pub status: QuoteStatus,
}

/// An event of something's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Where in the journal.
    pub place: Place,
    /// When.
    pub at: LedgerTime,
    /// The command that it is an answer to, if any.
    pub command: Option<CommandId>,
    /// What happened.
    pub event: Event,
}

/// Conditions that all have to hold, as SQL and values.
#[derive(Default)]
struct Filter {
    conditions: Vec<&'static str>,
    values: Vec<Cell>,
}

impl Filter {
    fn with(mut self, condition: &'static str, value: Option<Cell>) -> Filter {
        if let Some(value) = value {
            self.conditions.push(condition);
            self.values.push(value);
        }
        self
    }

    fn of(self, customer: Option<CustomerId>) -> Filter {
        self.with("customer = ?", customer.map(|id| Cell::bytes(&id.0)))
    }

    /// Begun in a row or before.
    fn until(self, row: Seq) -> Filter {
        // Beyond what a column holds there is nothing.
        let last = Place::new(row, POSITIONS_MAX - 1).map_or(NUMBER_MAX, Place::to_number);
        self.with("place <= ?", Some(Cell::Number(last)))
    }

    /// Before a deposit, in lists.
    fn before(mut self, key: Option<DepositKey>) -> Filter {
        let Some(DepositKey { seen, outpoint }) = key else { return self };
        let seen = Cell::Number(seen.0.min(NUMBER_MAX));
        // The second condition says it all; by the first alone MariaDB finds where to begin.
        self = self
            .with("seen_ms <= ?", Some(seen.clone()))
            .with("(seen_ms, chain, txid, vout) < (?, ?, ?, ?)", Some(seen));
        let OutPoint { chain, txid, vout } = outpoint;
        self.values.extend([Cell::Number(chain.0.into()), Cell::bytes(&txid.0), Cell::Number(vout.into())]);
        self
    }

    fn sql(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions.join(" AND ")) }
    }
}

fn limit(count: u32) -> u32 {
    count.min(PAGE_MAX)
}

fn list_sql((table, columns, order): (&str, &str, &str), filter: &Filter, count: u32) -> String {
    format!("SELECT {columns} FROM {table}{} ORDER BY {order} LIMIT {}", filter.sql(), limit(count))
}

fn place(row: &mut Cells, column: &'static str) -> Result<Place, StoreFault> {
    Ok(Place(row.number(column)?))
}

fn block_ref(row: &mut Cells) -> Result<Option<BlockRef>, StoreFault> {
    let height = row.optional(|row| row.small("height"))?;
    let hash = row.optional(|row| row.fixed("block"))?;
    Ok(height.zip(hash).map(|(height, hash)| BlockRef { height: Height(height), hash: BlockHash(hash) }))
}

impl Projection {
    /// A page of a list, by `order`.
    fn page<T>(
        &mut self,
        list: (&'static str, &str, &str),
        filter: Filter,
        extent: Extent,
        read: impl Fn(Cells) -> Result<T, StoreFault>,
    ) -> Result<Vec<T>, StoreFault> {
        self.list(list, filter.until(extent.until), extent.count, read)
    }

    /// What a filter lets through, by `order`.
    fn list<T>(
        &mut self,
        list: (&'static str, &str, &str),
        filter: Filter,
        count: u32,
        read: impl Fn(Cells) -> Result<T, StoreFault>,
    ) -> Result<Vec<T>, StoreFault> {
        let sql = list_sql(list, &filter, count);
        self.database.query(list.0, &sql, filter.values)?.into_iter().map(read).collect()
    }

    /// All accounts after one, by number: for comparing their sums with the state's.
    ///
    /// # Errors
    /// Where the store fails or holds what we never wrote; so with every question here.
    pub fn accounts_after(&mut self, after: Option<AccountId>, count: u32) -> Result<Vec<Account>, StoreFault> {
        let filter = Filter::default().with("id > ?", after.map(|id| Cell::Number(id.0)));
        let sql = format!("{ACCOUNT}{} ORDER BY id LIMIT {}", filter.sql(), limit(count));
        self.database.query("accounts", &sql, filter.values)?.into_iter().map(read_account).collect()
    }

    /// Transfers into and out of an account.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn transfers(&mut self, account: AccountId, page: Page) -> Result<Vec<TransferRecord>, StoreFault> {
        let before = || page.before.map(|place| Cell::Number(place.to_number()));
        let side =
            |condition| Filter::default().with(condition, Some(Cell::Number(account.0))).with("place < ?", before());
        let (debits, credits) = (side("debit = ?"), side("credit = ?"));
        let count = limit(page.count);
        // Each side is one walk down an index; a condition on both at once would be a walk over the table.
        let half = |filter: &Filter, name: &str| {
            let columns = "place, at_ms, debit, credit, amount, reason";
            let sql = filter.sql();
            format!("SELECT * FROM (SELECT {columns} FROM transfers{sql} ORDER BY place DESC LIMIT {count}) AS {name}")
        };
        let sql = format!(
            "SELECT * FROM ({} UNION ALL {}) AS both_sides ORDER BY place DESC LIMIT {count}",
            half(&debits, "debits"),
            half(&credits, "credits")
        );
        let values = [debits.values, credits.values].concat();
        let rows = self.database.query("transfers", &sql, values)?;
        rows.into_iter().map(read_transfer).collect()
    }

    /// Deposits, of one customer or all, by when they were first seen.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn deposits(
        &mut self,
        customer: Option<CustomerId>,
        before: Option<DepositKey>,
        extent: Extent,
    ) -> Result<Vec<DepositRecord>, StoreFault> {
        let filter = Filter::default().of(customer).before(before);
        self.page(DEPOSITS, filter, extent, read_deposit)
    }

    /// One deposit, finished ones included.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn deposit(&mut self, outpoint: OutPoint) -> Result<Option<DepositRecord>, StoreFault> {
        let filter = Filter::default()
            .with("chain = ?", Some(Cell::Number(outpoint.chain.0.into())))
            .with("txid = ?", Some(Cell::bytes(&outpoint.txid.0)))
            .with("vout = ?", Some(Cell::Number(outpoint.vout.into())));
        Ok(self.list(DEPOSITS, filter, 1, read_deposit)?.pop())
    }

    /// Withdrawals, of one customer or all, by id, which is the order of their requests.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn withdrawals(
        &mut self,
        customer: Option<CustomerId>,
        before: Option<WithdrawalId>,
        extent: Extent,
    ) -> Result<Vec<WithdrawalRecord>, StoreFault> {
        let filter = Filter::default().of(customer).with("id < ?", before.map(|id| Cell::bytes(&id.0)));
        self.page(WITHDRAWALS, filter, extent, read_withdrawal)
    }

    /// One withdrawal, finished ones included.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn withdrawal(&mut self, id: WithdrawalId) -> Result<Option<WithdrawalRecord>, StoreFault> {
        let filter = Filter::default().with("id = ?", Some(Cell::bytes(&id.0)));
        Ok(self.list(WITHDRAWALS, filter, 1, read_withdrawal)?.pop())
    }

    /// A customer's quotes, by id, which is the order of their requests.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn quotes(
        &mut self,
        customer: CustomerId,
        before: Option<QuoteId>,
        extent: Extent,
    ) -> Result<Vec<QuoteRecord>, StoreFault> {
        let filter = Filter::default().of(Some(customer)).with("id < ?", before.map(|id| Cell::bytes(&id.0)));
        self.page(QUOTES, filter, extent, read_quote)
    }

    /// One quote, those that ended included.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn quote(&mut self, id: QuoteId) -> Result<Option<QuoteRecord>, StoreFault> {
        let filter = Filter::default().with("id = ?", Some(Cell::bytes(&id.0)));
        Ok(self.list(QUOTES, filter, 1, read_quote)?.pop())
    }

    /// Where a customer's addresses stand, in order of wallet, branch and index.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn addresses(
        &mut self,
        customer: CustomerId,
        after: Option<KeyPath>,
        extent: Extent,
    ) -> Result<Vec<KeyPath>, StoreFault> {
        let filter =
            Filter::default().of(Some(customer)).with("path > ?", after.map(|path| Cell::Bytes(path_key(&path))));
        self.page(ADDRESSES, filter, extent, read_path)
    }

    /// What happened to something, oldest first, after a place.
    ///
    /// # Errors
    /// As [`Projection::accounts_after`].
    pub fn history(
        &mut self,
        subject: Subject,
        after: Option<Place>,
        count: u32,
    ) -> Result<Vec<EventRecord>, StoreFault> {
        let filter = Filter::default()
            .with("mentions.subject = ?", Some(Cell::Bytes(subject.key())))
            .with("mentions.place > ?", after.map(|place| Cell::Number(place.to_number())));
        let sql = format!(
            "SELECT events.place, at_ms, command, payload FROM mentions
             JOIN events ON events.place = mentions.place{} ORDER BY mentions.place LIMIT {}",
            filter.sql(),
            limit(count)
        );
        let read = |mut row: Cells| {
            Ok(EventRecord {
                place: place(&mut row, "place")?,
                at: LedgerTime(row.number("at_ms")?),
                command: row.optional(|row| Ok(CommandId(row.fixed("command")?)))?,
                event: row.message("payload")?,
            })
        };
        self.database.query("events", &sql, filter.values)?.into_iter().map(read).collect()
    }
}

/// Table, columns and order of a list.
const ADDRESSES: (&str, &str, &str) = ("addresses", "path", "path");
const DEPOSITS: (&str, &str, &str) = (
    "deposits",
    "place, changed, chain, txid, vout, customer, amount, status, height, block, seen_ms, debited, wallet, branch, address",
    "seen_ms DESC, chain DESC, txid DESC, vout DESC",
);
const WITHDRAWALS: (&str, &str, &str) = (
    "withdrawals",
    "place, changed, id, customer, asset, amount, fee, script, status, plan, requested_ms, txid, height, block",
    "id DESC",
);
const QUOTES: (&str, &str, &str) = ("quotes", "place, payload, status", "id DESC");

fn read_transfer(mut row: Cells) -> Result<TransferRecord, StoreFault> {
    Ok(TransferRecord {
        place: place(&mut row, "place")?,
        at: LedgerTime(row.number("at_ms")?),
        debit: AccountId(row.number("debit")?),
        credit: AccountId(row.number("credit")?),
        amount: row.amount("amount")?,
        reason: row.choice("reason", TransferReason::ALL, |reason| reason as u64)?,
    })
}

fn read_deposit(mut row: Cells) -> Result<DepositRecord, StoreFault> {
    Ok(DepositRecord {
        place: place(&mut row, "place")?,
        changed: place(&mut row, "changed")?,
        outpoint: OutPoint {
            chain: ChainId(row.small("chain")?),
            txid: TxId(row.fixed("txid")?),
            vout: row.small("vout")?,
        },
        customer: row.optional(|row| Ok(CustomerId(row.fixed("customer")?)))?,
        amount: row.amount("amount")?,
        status: row.choice("status", DepositStatus::ALL, |status| status as u64)?,
        at: block_ref(&mut row)?,
        seen: LedgerTime(row.number("seen_ms")?),
        debited: row.amount("debited")?,
        path: KeyPath {
            wallet: WalletId(row.small("wallet")?),
            branch: row.choice("branch", Branch::ALL, |branch| branch as u64)?,
            index: row.small("address")?,
        },
    })
}

fn read_path(mut row: Cells) -> Result<KeyPath, StoreFault> {
    let malformed = StoreFault::Malformed { table: "addresses", column: "path" };
    let key: [u8; 9] = row.fixed("path")?;
    let [w0, w1, w2, w3, branch, i0, i1, i2, i3] = key;
    let branch = Branch::ALL.iter().copied().find(|known| *known as u8 == branch).ok_or(malformed)?;
    Ok(KeyPath {
        wallet: WalletId(u32::from_be_bytes([w0, w1, w2, w3])),
        branch,
        index: u32::from_be_bytes([i0, i1, i2, i3]),
    })
}

fn read_quote(mut row: Cells) -> Result<QuoteRecord, StoreFault> {
    let states =
        [(QUOTE_OPEN, QuoteStatus::Open), (QUOTE_ACCEPTED, QuoteStatus::Accepted), (QUOTE_ENDED, QuoteStatus::Ended)];
    Ok(QuoteRecord {
        place: place(&mut row, "place")?,
        quote: row.message("payload")?,
        status: row.choice("status", &states, |(number, _)| number)?.1,
    })
}

fn read_withdrawal(mut row: Cells) -> Result<WithdrawalRecord, StoreFault> {
    Ok(WithdrawalRecord {
        place: place(&mut row, "place")?,
        changed: place(&mut row, "changed")?,
        id: WithdrawalId(row.fixed("id")?),
        customer: CustomerId(row.fixed("customer")?),
        asset: AssetId(row.small("asset")?),
        amount: row.amount("amount")?,
        fee: row.amount("fee")?,
        script: Bytes(row.bytes("script")?),
        status: row.choice("status", WithdrawalStatus::ALL, |status| status as u64)?,
        plan: row.optional(|row| Ok(PlanId(row.number("plan")?)))?,
        requested: LedgerTime(row.number("requested_ms")?),
        paid: {
            let txid = row.optional(|row| Ok(TxId(row.fixed("txid")?)))?;
            txid.zip(block_ref(&mut row)?)
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;

    #[test]
    fn a_page_is_one_walk_down_an_index() {
        let tables = Projection::temporary().expect("there is room");
        let Database::Sqlite(connection) = &tables.database else { panic!("it is SQLite") };
        let filter = || Filter::default().of(Some(CustomerId([7; 16])));
        let key =
            DepositKey { seen: LedgerTime(5), outpoint: OutPoint { chain: ChainId(1), txid: TxId([1; 32]), vout: 0 } };
        let id = || Some(Cell::bytes(&[1; 16]));
        for (list, filter, walk) in [
            (DEPOSITS, Filter::default().before(Some(key)), "SEARCH deposits USING INDEX deposits_seen (seen_ms<?)"),
            (DEPOSITS, filter().before(Some(key)), "INDEX deposits_of_customer (customer=? AND seen_ms<?)"),
            (DEPOSITS, Filter::default(), "SCAN deposits USING INDEX deposits_seen"),
            (WITHDRAWALS, Filter::default().with("id < ?", id()), "INDEX sqlite_autoindex_withdrawals_1 (id<?)"),
            (WITHDRAWALS, filter().with("id < ?", id()), "INDEX withdrawals_of_customer (customer=? AND id<?)"),
            (WITHDRAWALS, Filter::default(), "SCAN withdrawals USING INDEX sqlite_autoindex_withdrawals_1"),
            (QUOTES, filter().with("id < ?", id()), "INDEX quotes_of_customer (customer=? AND id<?)"),
            (ADDRESSES, filter().with("path > ?", id()), "INDEX sqlite_autoindex_addresses_1 (customer=? AND path>?)"),
        ] {
            let filter = filter.until(Seq(3));
            let sql = format!("EXPLAIN QUERY PLAN {}", list_sql(list, &filter, 9));
            let mut statement = connection.prepare(&sql).expect("a statement");
            let values = rusqlite::params_from_iter(filter.values.iter().map(crate::sqlite::to_sql));
            let steps = statement.query_map(values, |row| row.get(3)).expect("a plan");
            let steps: Vec<String> = steps.collect::<Result<_, _>>().expect("a plan");
            // A step more would sort, or look at another table.
            assert!(steps.len() == 1 && steps[0].contains(walk), "{sql}: {steps:?}");
        }
    }
}

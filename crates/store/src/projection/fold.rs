//! Events into tables, within one transaction that is not this module's. Whatever an event does not say stays as it is.

use super::query::{Subject, path_key, subjects};
use super::{Place, ProjectionError};
use crate::database::Database;
use crate::fault::StoreFault;
use crate::record::{Cell, Cells};
use florin_core::amount::Amount;
use florin_core::broker::Quote;
use florin_core::custody::{Address, Archived, Beneficiary, Block, BlockRef, Deposit, Payment, Plan, Withdrawal};
use florin_core::event::{DepositMoved, Event, PlanSigned, WithdrawalMoved};
use florin_core::id::{AccountId, AssetId, CommandId, HoldId, LedgerTime, Seq};
use florin_core::ledger::{Account, BalanceRule, Hold, Owner, Transfer, TransferReason};
use florin_core::wire::Message;
use std::collections::BTreeMap;

/// Accounts read by one query.
const ACCOUNTS_MAX: usize = 500;

/// States of a quote in its table.
pub(super) const QUOTE_OPEN: u64 = 1;
pub(super) const QUOTE_ACCEPTED: u64 = 2;
pub(super) const QUOTE_ENDED: u64 = 3;

/// One row's fold. What is only ever added is gathered and written at the end, many at a time, and so are accounts' sums.
pub(super) struct Fold<'a> {
    database: &'a mut Database,
    seq: Seq,
    time: LedgerTime,
    event_count: u64,
    transfer_count: u64,
    events: Vec<Cell>,
    mentions: Vec<Cell>,
    transfers: Vec<Cell>,
    addresses: Vec<Cell>,
    accounts: BTreeMap<AccountId, Account>,
}

fn number(value: u64) -> Cell {
    Cell::Number(value)
}

fn block_cells(at: Option<BlockRef>) -> [Cell; 2] {
    let height = Cell::optional(at, |at| number(at.height.0.into()));
    [height, Cell::optional(at, |at| Cell::bytes(&at.hash.0))]
}

fn payment_cells(paid: Option<&Payment>) -> [Cell; 3] {
    let [height, block] = block_cells(paid.map(|paid| paid.at));
    [Cell::optional(paid, |paid| Cell::bytes(&paid.txid.0)), height, block]
}

impl<'a> Fold<'a> {
    pub(super) fn new(database: &'a mut Database, seq: Seq, time: LedgerTime) -> Fold<'a> {
        Fold {
            database,
            seq,
            time,
            event_count: 0,
            transfer_count: 0,
            events: Vec::new(),
            mentions: Vec::new(),
            transfers: Vec::new(),
            addresses: Vec::new(),
            accounts: BTreeMap::new(),
        }
    }

    fn place(&self, position: u64) -> Result<Cell, ProjectionError> {
        let place = Place::new(self.seq, position).ok_or(StoreFault::OutOfRange { what: "a place in the journal" })?;
        Ok(number(place.to_number()))
    }

    /// Where the event in hand stands.
    fn here(&self) -> Result<Cell, ProjectionError> {
        self.place(self.event_count.saturating_sub(1))
    }

    /// Keeps an event for history. Comes before [`Fold::event`], which does the rest.
    pub(super) fn log(&mut self, event: &Event, command: Option<CommandId>) -> Result<(), ProjectionError> {
        let place = self.place(self.event_count)?;
        let mut keys: Vec<Vec<u8>> = subjects(event).iter().map(Subject::key).collect();
        keys.extend(command.map(|id| Subject::Uuid(id.0).key()));
        keys.sort_unstable();
        keys.dedup();
        self.mentions.extend(keys.into_iter().flat_map(|key| [Cell::Bytes(key), place.clone()]));
        let command = Cell::optional(command, |id| Cell::bytes(&id.0));
        self.events.extend([place, number(self.time.0), command, Cell::Bytes(event.encode())]);
        Ok(())
    }

    /// Folds one event.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), ProjectionError> {
        self.event_count += 1;
        match event {
            Event::AccountOpened(account) | Event::RestateAccount(account) => {
                self.accounts.insert(account.id, account.clone());
                Ok(())
            }
            Event::TransfersPosted(posted) => self.transfers(&posted.transfers),
            Event::HoldPlaced(hold) => self.hold_placed(hold),
            Event::RestateHold(hold) => self.put_hold(hold),
            Event::HoldPosted(posted) => self.hold_ended(posted.hold, Some(posted.amount)),
            Event::HoldReleased(released) => self.hold_ended(released.hold, None),
            Event::AddressIssued(address) | Event::RestateAddress(address) => self.address(address),
            Event::BlockConnected(block) => self.block(block),
            Event::BlockDisconnected(gone) => {
                let values = vec![number(gone.chain.0.into()), Cell::bytes(&gone.at.hash.0)];
                self.change("UPDATE blocks SET connected = 0 WHERE chain = ? AND hash = ?", values).map(|_| ())
            }
            Event::DepositSeen(deposit) => self.deposit(deposit),
            Event::DepositMoved(moved) => self.deposit_moved(moved),
            Event::Unarchived(back) => self.unarchived(&back.records),
            Event::WithdrawalRequested(withdrawal) | Event::RestateWithdrawal(withdrawal) => {
                self.withdrawal(withdrawal)
            }
            Event::WithdrawalMoved(moved) => self.withdrawal_moved(moved),
            Event::SigningRequested(plan) | Event::RestatePlan(plan) => self.plan(plan),
            Event::PlanSigned(signed) => self.plan_signed(signed),
            Event::PlanMoved(moved) => {
                let status = moved.status as u64;
                let values = vec![number(status), self.here()?, number(moved.plan.0)];
                self.change_one("plans", "UPDATE plans SET status = ?, changed = ? WHERE id = ?", values)
            }
            Event::QuoteOffered(quote) => self.quote(quote),
            Event::QuoteEnded(ended) => {
                let status = if ended.accepted { QUOTE_ACCEPTED } else { QUOTE_ENDED };
                let values = vec![number(status), Cell::bytes(&ended.quote.0)];
                self.change_one("quotes", "UPDATE quotes SET status = ? WHERE id = ?", values)
            }
            // The rest has no table of its own and is found by history.
            _ => Ok(()),
        }
    }

    /// Writes what was gathered.
    pub(super) fn finish(self) -> Result<(), ProjectionError> {
        let database = self.database;
        database.insert_many("INSERT INTO events (place, at_ms, command, payload)", 4, self.events)?;
        database.insert_many("INSERT INTO mentions (subject, place)", 2, self.mentions)?;
        database.insert_many(
            "INSERT INTO transfers (place, at_ms, debit, credit, amount, reason)",
            6,
            self.transfers,
        )?;
        database.insert_many("INSERT INTO addresses (customer, path, place)", 3, self.addresses)?;
        let accounts = self.accounts.values().flat_map(account_cells).collect();
        database.insert_many(
            "REPLACE INTO accounts (id, owner, customer, asset, rule, debits_posted, credits_posted, debits_pending,
             credits_pending)",
            9,
            accounts,
        )?;
        Ok(())
    }

    fn change(&mut self, sql: &str, values: Vec<Cell>) -> Result<u64, ProjectionError> {
        Ok(self.database.execute(sql, values)?)
    }

    fn change_one(&mut self, table: &'static str, sql: &str, values: Vec<Cell>) -> Result<(), ProjectionError> {
        match self.change(sql, values)? {
            1 => Ok(()),
            _ => Err(ProjectionError::Missing { seq: self.seq, table }),
        }
    }

    /// Has all these accounts at hand.
    fn load(&mut self, ids: impl Iterator<Item = AccountId>) -> Result<(), ProjectionError> {
        let mut missing: Vec<AccountId> = ids.filter(|id| !self.accounts.contains_key(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        for ids in missing.chunks(ACCOUNTS_MAX) {
            let sql = format!("{ACCOUNT} WHERE id IN ({})", vec!["?"; ids.len()].join(", "));
            let values = ids.iter().map(|id| number(id.0)).collect();
            for row in self.database.query("accounts", &sql, values)? {
                let account = read_account(row)?;
                self.accounts.insert(account.id, account);
            }
        }
        Ok(())
    }

    /// Records that come back are in their tables still; but a mempool may have shown a deposit anew, as if it had never been
    /// credited.
    fn unarchived(&mut self, records: &[Archived]) -> Result<(), ProjectionError> {
        let deposits = records.iter().filter_map(|record| match record {
            Archived::Deposit(deposit) => Some(deposit),
            Archived::Block(_) | Archived::Withdrawal(_) | Archived::Plan(_) | Archived::Coin(_) => None,
        });
        deposits
            .map(|deposit| DepositMoved {
                outpoint: deposit.outpoint,
                status: deposit.status,
                at: deposit.at,
                hold: deposit.hold,
                missing_since: deposit.missing_since,
                debited: deposit.debited,
                due: deposit.due,
            })
            .try_for_each(|stands| self.deposit_moved(&stands))
    }

    fn account(&mut self, id: AccountId) -> Result<&mut Account, ProjectionError> {
        let missing = ProjectionError::Missing { seq: self.seq, table: "accounts" };
        self.accounts.get_mut(&id).ok_or(missing)
    }

    fn transfers(&mut self, transfers: &[Transfer]) -> Result<(), ProjectionError> {
        self.load(transfers.iter().flat_map(|transfer| [transfer.debit, transfer.credit]))?;
        transfers.iter().try_for_each(|transfer| self.post(transfer))
    }

    fn post(&mut self, transfer: &Transfer) -> Result<(), ProjectionError> {
        let bounds = || ProjectionError::Sums(self.seq);
        let (seq_bounds, add) = (bounds(), |sum: Amount| sum.checked_add(transfer.amount));
        let debit = self.account(transfer.debit)?;
        let Some(sum) = add(debit.debits_posted) else { return Err(seq_bounds) };
        debit.debits_posted = sum;
        let credit = self.account(transfer.credit)?;
        let Some(sum) = add(credit.credits_posted) else { return Err(seq_bounds) };
        credit.credits_posted = sum;
        let place = self.place(self.transfer_count)?;
        self.transfer_count += 1;
        let reason = transfer.reason as u64;
        self.transfers.extend([
            place,
            number(self.time.0),
            number(transfer.debit.0),
            number(transfer.credit.0),
            Cell::amount(transfer.amount),
            number(reason),
        ]);
        Ok(())
    }

    fn put_hold(&mut self, hold: &Hold) -> Result<(), ProjectionError> {
        let Transfer { debit, credit, amount, reason } = hold.transfer;
        let reason = reason as u64;
        let values = vec![number(hold.id.0), number(debit.0), number(credit.0), Cell::amount(amount), number(reason)];
        self.change("REPLACE INTO holds (id, debit, credit, amount, reason) VALUES (?, ?, ?, ?, ?)", values)?;
        Ok(())
    }

    fn hold_placed(&mut self, hold: &Hold) -> Result<(), ProjectionError> {
        self.put_hold(hold)?;
        self.pending(&hold.transfer, |sum, amount| sum.checked_add(amount))
    }

    fn pending(
        &mut self,
        transfer: &Transfer,
        change: impl Fn(Amount, Amount) -> Option<Amount>,
    ) -> Result<(), ProjectionError> {
        let seq = self.seq;
        let change = |sum| change(sum, transfer.amount).ok_or(ProjectionError::Sums(seq));
        self.load([transfer.debit, transfer.credit].into_iter())?;
        let debit = self.account(transfer.debit)?;
        debit.debits_pending = change(debit.debits_pending)?;
        let credit = self.account(transfer.credit)?;
        credit.credits_pending = change(credit.credits_pending)?;
        Ok(())
    }

    fn hold_ended(&mut self, id: HoldId, posted: Option<Amount>) -> Result<(), ProjectionError> {
        let sql = "SELECT debit, credit, amount, reason FROM holds WHERE id = ?";
        let Some(mut row) = self.database.query("holds", sql, vec![number(id.0)])?.into_iter().next() else {
            return Err(ProjectionError::Missing { seq: self.seq, table: "holds" });
        };
        let transfer = Transfer {
            debit: AccountId(row.number("debit")?),
            credit: AccountId(row.number("credit")?),
            amount: row.amount("amount")?,
            reason: row.choice("reason", TransferReason::ALL, |reason| reason as u64)?,
        };
        self.pending(&transfer, |sum, amount| sum.checked_sub(amount))?;
        self.change("DELETE FROM holds WHERE id = ?", vec![number(id.0)])?;
        posted.map_or(Ok(()), |amount| self.post(&Transfer { amount, ..transfer }))
    }

    /// The house's own are in no list.
    fn address(&mut self, address: &Address) -> Result<(), ProjectionError> {
        if let Beneficiary::Customer(id) = address.beneficiary {
            let place = self.here()?;
            self.addresses.extend([Cell::bytes(&id.0), Cell::bytes(&path_key(&address.path)), place]);
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), ProjectionError> {
        let values = vec![
            number(block.chain.0.into()),
            Cell::bytes(&block.at.hash.0),
            self.here()?,
            number(block.at.height.0.into()),
            Cell::bytes(&block.previous.0),
            number(block.time_s),
        ];
        let sql = "REPLACE INTO blocks (chain, hash, place, height, previous, time_s, connected)
            VALUES (?, ?, ?, ?, ?, ?, 1)";
        self.change(sql, values).map(|_| ())
    }

    fn deposit(&mut self, deposit: &Deposit) -> Result<(), ProjectionError> {
        let customer = match deposit.beneficiary {
            Beneficiary::Customer(id) => Cell::bytes(&id.0),
            Beneficiary::House(_) => Cell::Null,
        };
        let [height, block] = block_cells(deposit.at);
        let (status, branch) = (deposit.status as u64, deposit.path.branch as u64);
        let values = vec![
            number(deposit.outpoint.chain.0.into()),
            Cell::bytes(&deposit.outpoint.txid.0),
            number(deposit.outpoint.vout.into()),
            self.here()?,
            self.here()?,
            customer,
            Cell::amount(deposit.amount),
            number(status),
            height,
            block,
            number(deposit.seen.0),
            Cell::amount(deposit.debited),
            number(deposit.path.wallet.0.into()),
            number(branch),
            number(deposit.path.index.into()),
        ];
        let sql = "REPLACE INTO deposits (chain, txid, vout, place, changed, customer, amount, status, height, block,
            seen_ms, debited, wallet, branch, address) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.change(sql, values).map(|_| ())
    }

    fn deposit_moved(&mut self, moved: &DepositMoved) -> Result<(), ProjectionError> {
        let [height, block] = block_cells(moved.at);
        let status = moved.status as u64;
        let values = vec![
            number(status),
            height,
            block,
            Cell::amount(moved.debited),
            self.here()?,
            number(moved.outpoint.chain.0.into()),
            Cell::bytes(&moved.outpoint.txid.0),
            number(moved.outpoint.vout.into()),
        ];
        let sql = "UPDATE deposits SET status = ?, height = ?, block = ?, debited = ?, changed = ?
            WHERE chain = ? AND txid = ? AND vout = ?";
        self.change_one("deposits", sql, values)
    }

    fn withdrawal(&mut self, withdrawal: &Withdrawal) -> Result<(), ProjectionError> {
        let [txid, height, block] = payment_cells(withdrawal.paid.as_ref());
        let status = withdrawal.status as u64;
        let values = vec![
            Cell::bytes(&withdrawal.id.0),
            self.here()?,
            self.here()?,
            Cell::bytes(&withdrawal.customer.0),
            number(withdrawal.asset.0.into()),
            Cell::amount(withdrawal.amount),
            Cell::amount(withdrawal.fee),
            Cell::bytes(&withdrawal.script.0),
            number(status),
            Cell::optional(withdrawal.plan, |plan| number(plan.0)),
            number(withdrawal.requested.0),
            txid,
            height,
            block,
        ];
        let sql = "REPLACE INTO withdrawals (id, place, changed, customer, asset, amount, fee, script, status, plan,
            requested_ms, txid, height, block) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.change(sql, values).map(|_| ())
    }

    fn withdrawal_moved(&mut self, moved: &WithdrawalMoved) -> Result<(), ProjectionError> {
        let [txid, height, block] = payment_cells(moved.paid.as_ref());
        let plan = Cell::optional(moved.plan, |plan| number(plan.0));
        let status = moved.status as u64;
        let values = vec![number(status), plan, txid, height, block, self.here()?, Cell::bytes(&moved.withdrawal.0)];
        let sql = "UPDATE withdrawals SET status = ?, plan = ?, txid = ?, height = ?, block = ?, changed = ?
            WHERE id = ?";
        self.change_one("withdrawals", sql, values)
    }

    fn plan(&mut self, plan: &Plan) -> Result<(), ProjectionError> {
        let signed = plan.versions.iter().rev().find_map(|version| version.txid);
        let status = plan.status as u64;
        let values = vec![
            number(plan.id.0),
            self.here()?,
            self.here()?,
            number(plan.wallet.0.into()),
            number(status),
            Cell::optional(signed, |txid| Cell::bytes(&txid.0)),
        ];
        let sql = "REPLACE INTO plans (id, place, changed, wallet, status, txid) VALUES (?, ?, ?, ?, ?, ?)";
        self.change(sql, values).map(|_| ())
    }

    fn plan_signed(&mut self, signed: &PlanSigned) -> Result<(), ProjectionError> {
        let values = vec![Cell::bytes(&signed.txid.0), self.here()?, number(signed.plan.0)];
        self.change_one("plans", "UPDATE plans SET txid = ?, changed = ? WHERE id = ?", values)
    }

    fn quote(&mut self, quote: &Quote) -> Result<(), ProjectionError> {
        let values = vec![
            Cell::bytes(&quote.id.0),
            self.here()?,
            Cell::bytes(&quote.customer.0),
            Cell::Bytes(quote.encode()),
            number(QUOTE_OPEN),
        ];
        let sql = "REPLACE INTO quotes (id, place, customer, payload, status) VALUES (?, ?, ?, ?, ?)";
        self.change(sql, values).map(|_| ())
    }
}

pub(super) const ACCOUNT: &str = "SELECT id, owner, asset, rule, debits_posted, credits_posted, debits_pending,
    credits_pending FROM accounts";

fn account_cells(account: &Account) -> [Cell; 9] {
    let customer = match account.owner {
        Owner::Customer(id) => Cell::bytes(&id.0),
        Owner::House(_) | Owner::Custody(_) | Owner::Plain(_) => Cell::Null,
    };
    let rule = account.rule as u64;
    [
        number(account.id.0),
        Cell::Bytes(account.owner.encode()),
        customer,
        number(account.asset.0.into()),
        number(rule),
        Cell::amount(account.debits_posted),
        Cell::amount(account.credits_posted),
        Cell::amount(account.debits_pending),
        Cell::amount(account.credits_pending),
    ]
}

pub(super) fn read_account(mut row: Cells) -> Result<Account, StoreFault> {
    Ok(Account {
        id: AccountId(row.number("id")?),
        owner: row.message("owner")?,
        asset: AssetId(row.small("asset")?),
        rule: row.choice("rule", BalanceRule::ALL, |rule| rule as u64)?,
        debits_posted: row.amount("debits_posted")?,
        credits_posted: row.amount("credits_posted")?,
        debits_pending: row.amount("debits_pending")?,
        credits_pending: row.amount("credits_pending")?,
    })
}

//! The auditor: folds the journal's raw rows by the published schema, holds them against the invariants after each row, and compares them with what the chain really holds. It imports nothing that it judges: neither the platform's types nor its decoder, its fold or its chain code.

pub mod chain;
pub mod proto;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use proto::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A row as a store holds it.
#[derive(Debug, Clone, Copy)]
pub struct RawRow<'a> {
    /// Its number.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Its ledger time.
    pub time_ms: u64,
    /// The hash of the row before.
    pub previous: [u8; 32],
    /// Its batch, encoded.
    pub payload: &'a [u8],
    /// Its hash.
    pub hash: [u8; 32],
}

/// A transaction's output: id in wire order, and index.
pub type Output = ([u8; 32], u64);

/// Where a key is: wallet, branch, index.
pub type Path = (u64, u64, u64);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Customer([u8; 16]),
    House(u64),
    Custody(u64),
    Plain(u64),
}

#[derive(Debug, Clone)]
struct Account {
    owner: Owner,
    asset: u64,
    debits: u128,
    credits: u128,
    debits_held: u128,
    credits_held: u128,
}

#[derive(Debug, Clone, Copy)]
struct Movement {
    debit: u64,
    credit: u64,
    amount: u128,
}

#[derive(Debug, Clone)]
struct Coin {
    amount: u128,
    wallet: u64,
    is_spent: bool,
}

#[derive(Debug, Clone)]
struct Deposit {
    status: u64,
    credits: u32,
}

/// A withdrawal as the journal tells it.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// The script it pays.
    pub script: Vec<u8>,
    /// What arrives there.
    pub amount: u128,
    /// Where it stands, by the schema's numbers.
    pub status: u64,
    /// The plan that pays it.
    pub plan: Option<u64>,
}

#[derive(Debug, Clone)]
struct Plan {
    row: u64,
    wallet: u64,
    inputs: BTreeSet<Output>,
    anchor: Output,
    withdrawals: BTreeSet<Vec<u8>>,
}

/// The schema's numbers for where a withdrawal stands.
pub mod withdrawal_status {
    /// In a block.
    pub const CONFIRMED: u64 = 6;
    /// For ever in a block, or settled in the books.
    pub const FINAL: u64 = 7;
    /// Taken back before signing.
    pub const CANCELLED: u64 = 8;
    /// Money returned because it can never be paid.
    pub const REFUNDED: u64 = 9;
}

/// The schema's numbers for where a deposit stands.
mod deposit_status {
    pub const SEEN: u64 = 1;
    pub const PENDING: u64 = 2;
    pub const CREDITED: u64 = 3;
    pub const MISSING: u64 = 4;
    pub const REVERSED: u64 = 5;
    pub const REPLACED: u64 = 6;
}

/// What the auditor has read so far.
#[derive(Debug, Default)]
pub struct Auditor {
    seq: u64,
    hash: [u8; 32],
    time_ms: u64,
    epoch: u64,
    accounts: BTreeMap<u64, Account>,
    holds: BTreeMap<u64, Movement>,
    coins: BTreeMap<Output, Coin>,
    deposits: BTreeMap<Output, Deposit>,
    withdrawals: BTreeMap<Vec<u8>, Withdrawal>,
    plans: BTreeMap<u64, Plan>,
    scripts: BTreeMap<Vec<u8>, Path>,
    next_index: BTreeMap<(u64, u64), u64>,
    issued: Vec<(Path, Vec<u8>)>,
    blocks: Vec<(u64, [u8; 32])>,
    /// Whether a block is booked in part: then the books are between two tips.
    is_between: bool,
    commands: BTreeMap<[u8; 16], u64>,
    counts: BTreeMap<String, u64>,
}

impl Auditor {
    /// The last row read.
    pub fn seq(&self) -> u64 {
        self.seq
    }
    /// The journal's tip of the chain: height and hash in wire order.
    pub fn tip(&self) -> Option<(u64, [u8; 32])> {
        self.blocks.last().copied()
    }
    /// Whether the books are between two tips, with a block booked in part.
    pub fn is_between(&self) -> bool {
        self.is_between
    }
    /// The row in which a command stands.
    pub fn row_of(&self, command: &[u8; 16]) -> Option<u64> {
        self.commands.get(command).copied()
    }
    /// Withdrawals by id.
    pub fn withdrawals(&self) -> &BTreeMap<Vec<u8>, Withdrawal> {
        &self.withdrawals
    }
    /// Scripts in the order they were handed out, with their paths.
    pub fn issued(&self) -> &[(Path, Vec<u8>)] {
        &self.issued
    }
    /// How often each thing worth counting was seen.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
    /// Unspent coins with their amounts.
    pub fn unspent(&self) -> BTreeMap<Output, u128> {
        self.coins.iter().filter(|(_, coin)| !coin.is_spent).map(|(output, coin)| (*output, coin.amount)).collect()
    }
    /// Whether a script was handed out.
    pub fn is_ours(&self, script: &[u8]) -> bool {
        self.scripts.contains_key(script)
    }

    /// Reads the next row and checks everything that must hold after it.
    ///
    /// # Errors
    /// A sentence that names row and rule.
    pub fn read(&mut self, row: RawRow<'_>) -> Result<(), String> {
        let place = |fault: String| format!("row {}: {fault}", row.seq);
        self.link(&row).map_err(place)?;
        let batch = Message::read(row.payload).map_err(place)?;
        for entry in batch.messages(1).map_err(place)? {
            self.entry(&entry, row.seq).map_err(place)?;
        }
        self.check().map_err(place)
    }

    fn link(&mut self, row: &RawRow<'_>) -> Result<(), String> {
        if row.seq != self.seq + 1 {
            return Err(format!("it follows row {}", self.seq));
        }
        if row.previous != self.hash {
            return Err("its link to the row before is broken".into());
        }
        let mut engine = sha256::HashEngine::default();
        engine.input(b"florin/journal-row/1");
        for number in [row.seq, row.epoch, row.time_ms] {
            engine.input(&number.to_be_bytes());
        }
        engine.input(&row.previous);
        engine.input(&(row.payload.len() as u64).to_be_bytes());
        engine.input(row.payload);
        if sha256::Hash::from_engine(engine).to_byte_array() != row.hash {
            return Err("its hash is not that of its content".into());
        }
        if row.time_ms < self.time_ms {
            return Err("ledger time runs backwards".into());
        }
        (self.seq, self.hash, self.time_ms) = (row.seq, row.hash, row.time_ms);
        if row.epoch != self.epoch && row.epoch != self.epoch + 1 {
            return Err(format!("epoch {} follows epoch {}", row.epoch, self.epoch));
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Message<'_>, row: u64) -> Result<(), String> {
        if let Some(command) = entry.maybe_bytes(1) {
            let command: [u8; 16] = command.try_into().map_err(|_| "a command's id has 16 bytes")?;
            if let Some(before) = self.commands.insert(command, row) {
                return Err(format!("a command was executed twice, first in row {before}"));
            }
        }
        for event in entry.messages(3)? {
            let (tag, body) = event.only()?;
            self.event(tag, &body, row).map_err(|fault| format!("event {tag}: {fault}"))?;
        }
        Ok(())
    }

    fn event(&mut self, tag: u64, body: &Message<'_>, row: u64) -> Result<(), String> {
        *self.counts.entry(format!("event {tag}")).or_default() += 1;
        match tag {
            1 => self.epoch = body.number(1)?,
            20 => self.account_opened(body)?,
            21 => {
                for transfer in body.messages(1)? {
                    let movement = self.movement(&transfer)?;
                    self.post(movement)?;
                }
            }
            22 => {
                let movement = self.movement(&body.message(2)?)?;
                self.account(movement.debit)?.debits_held += movement.amount;
                self.account(movement.credit)?.credits_held += movement.amount;
                if self.holds.insert(body.number(1)?, movement).is_some() {
                    return Err("a hold's id is used twice".into());
                }
            }
            23 => {
                let amount = body.amount(2)?;
                let movement = self.end_hold(body.number(1)?)?;
                if amount > movement.amount {
                    return Err("a hold posts more than it reserved".into());
                }
                self.post(Movement { amount, ..movement })?;
            }
            24 => {
                self.end_hold(body.number(1)?)?;
            }
            32 => self.address_issued(body)?,
            40 => {
                self.is_between = false;
                self.blocks.push((body.message(2)?.number(1)?, fixed(body.message(2)?.bytes(2)?)?));
            }
            42 => self.is_between = true,
            41 => self.block_disconnected(body)?,
            43 => self.coin_received(body)?,
            44 | 45 => {
                let is_spent = tag == 44;
                let coin =
                    self.coins.get_mut(&output(&body.message(1)?)?).ok_or("an unknown coin was spent or returned")?;
                if coin.is_spent == is_spent {
                    return Err("a coin is spent twice, or returned unspent".into());
                }
                coin.is_spent = is_spent;
            }
            46 => {
                self.coins.remove(&output(&body.message(1)?)?).ok_or("an unknown coin was removed")?;
            }
            50 => {
                let deposit = Deposit { status: body.number(4)?, credits: 0 };
                self.deposits.insert(output(&body.message(1)?)?, deposit);
            }
            51 => self.deposit_moved(body)?,
            60 => {
                let withdrawal = Withdrawal {
                    script: body.bytes(6)?.to_vec(),
                    amount: body.amount(4)?,
                    status: body.number(7)?,
                    plan: None,
                };
                if self.withdrawals.insert(body.bytes(1)?.to_vec(), withdrawal).is_some() {
                    return Err("a withdrawal is requested twice".into());
                }
            }
            62 => self.withdrawal_moved(body)?,
            64 => self.signing_requested(body, row)?,
            65 => self.plan_signed(body, row)?,
            _ => {}
        }
        Ok(())
    }

    fn account(&mut self, id: u64) -> Result<&mut Account, String> {
        self.accounts.get_mut(&id).ok_or_else(|| format!("there is no account {id}"))
    }

    fn account_opened(&mut self, body: &Message<'_>) -> Result<(), String> {
        let owner = body.message(2)?;
        let owner = match owner.only_tag() {
            Some(1) => Owner::Customer(fixed(owner.bytes(1)?)?),
            Some(2) => Owner::House(owner.number(2)?),
            Some(3) => Owner::Custody(owner.number(3)?),
            Some(4) => Owner::Plain(owner.number(4)?),
            _ => return Err("an account's owner is unknown".into()),
        };
        let (id, asset) = (body.number(1)?, body.number(3)?);
        if self.accounts.values().any(|account| account.owner == owner && account.asset == asset) {
            return Err("an owner has two accounts of one asset".into());
        }
        let account = Account { owner, asset, debits: 0, credits: 0, debits_held: 0, credits_held: 0 };
        match self.accounts.insert(id, account) {
            None => Ok(()),
            Some(_) => Err("an account's id is used twice".into()),
        }
    }

    fn movement(&mut self, transfer: &Message<'_>) -> Result<Movement, String> {
        let movement =
            Movement { debit: transfer.number(1)?, credit: transfer.number(2)?, amount: transfer.amount(3)? };
        let assets = (self.account(movement.debit)?.asset, self.account(movement.credit)?.asset);
        if assets.0 != assets.1 || movement.debit == movement.credit || movement.amount == 0 {
            return Err("a transfer moves nothing, or between assets, or to itself".into());
        }
        Ok(movement)
    }

    fn post(&mut self, movement: Movement) -> Result<(), String> {
        self.account(movement.debit)?.debits += movement.amount;
        self.account(movement.credit)?.credits += movement.amount;
        Ok(())
    }

    fn end_hold(&mut self, id: u64) -> Result<Movement, String> {
        let movement = self.holds.remove(&id).ok_or_else(|| format!("hold {id} is not open"))?;
        self.account(movement.debit)?.debits_held -= movement.amount;
        self.account(movement.credit)?.credits_held -= movement.amount;
        Ok(movement)
    }

    fn address_issued(&mut self, body: &Message<'_>) -> Result<(), String> {
        let path = path(&body.message(1)?)?;
        let next = self.next_index.entry((path.0, path.1)).or_default();
        if *next != path.2 {
            return Err(format!("index {} was handed out where {next} comes next", path.2));
        }
        *next += 1;
        let script = body.bytes(2)?.to_vec();
        if self.scripts.insert(script.clone(), path).is_some() {
            return Err("a script was handed out twice".into());
        }
        self.issued.push((path, script));
        Ok(())
    }

    fn block_disconnected(&mut self, body: &Message<'_>) -> Result<(), String> {
        let at = (body.message(2)?.number(1)?, fixed(body.message(2)?.bytes(2)?)?);
        match self.blocks.last() {
            Some(tip) if *tip == at => {
                self.blocks.pop();
                Ok(())
            }
            // What was booked of a block that never was completed is taken back: the tip stays.
            Some(tip) if at.0 == tip.0 + 1 => {
                self.is_between = false;
                Ok(())
            }
            _ => Err("a block that is not the tip was disconnected".into()),
        }
    }

    fn coin_received(&mut self, body: &Message<'_>) -> Result<(), String> {
        let coin = Coin { amount: body.amount(2)?, wallet: body.message(3)?.number(1)?, is_spent: false };
        match self.coins.insert(output(&body.message(1)?)?, coin) {
            None => Ok(()),
            Some(_) => Err("an output arrived twice".into()),
        }
    }

    fn deposit_moved(&mut self, body: &Message<'_>) -> Result<(), String> {
        use deposit_status::*;
        let deposit = self.deposits.get_mut(&output(&body.message(1)?)?).ok_or("an unknown deposit moved")?;
        let (from, to) = (deposit.status, body.number(2)?);
        let is_allowed = match from {
            SEEN => matches!(to, SEEN | PENDING | REPLACED),
            PENDING => matches!(to, SEEN | PENDING | CREDITED | REPLACED),
            CREDITED => matches!(to, CREDITED | MISSING),
            MISSING => matches!(to, CREDITED | REVERSED),
            REVERSED => matches!(to, CREDITED | REVERSED),
            REPLACED => matches!(to, SEEN | PENDING),
            _ => false,
        };
        if !is_allowed {
            return Err(format!("a deposit went from {from} to {to}"));
        }
        deposit.status = to;
        if from == PENDING && to == CREDITED {
            deposit.credits += 1;
        }
        if deposit.credits > 1 {
            return Err("a deposit was credited twice".into());
        }
        *self.counts.entry(format!("deposit {from} to {to}")).or_default() += 1;
        Ok(())
    }

    fn withdrawal_moved(&mut self, body: &Message<'_>) -> Result<(), String> {
        use withdrawal_status::*;
        let withdrawal = self.withdrawals.get_mut(body.bytes(1)?).ok_or("an unknown withdrawal moved")?;
        let (from, to) = (withdrawal.status, body.number(2)?);
        if matches!(from, FINAL | CANCELLED | REFUNDED) && from != to {
            return Err(format!("a withdrawal that had ended in {from} went to {to}"));
        }
        withdrawal.status = to;
        withdrawal.plan = body.maybe_number(4);
        *self.counts.entry(format!("withdrawal {from} to {to}")).or_default() += 1;
        Ok(())
    }

    fn signing_requested(&mut self, body: &Message<'_>, row: u64) -> Result<(), String> {
        let inputs: BTreeSet<Output> = body.messages(3)?.iter().map(output).collect::<Result<_, _>>()?;
        let anchor = output(&body.message(4)?)?;
        if !inputs.contains(&anchor) {
            return Err("a plan does not spend its own anchor".into());
        }
        for input in &inputs {
            if self.coins.get(input).is_none_or(|coin| coin.is_spent) {
                return Err("a plan spends what is not there".into());
            }
        }
        let first = body.messages(5)?.into_iter().next().ok_or("a plan has no version")?;
        let withdrawals =
            first.messages(4)?.iter().map(|payment| payment.bytes(1).map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        let plan = Plan { row, wallet: body.number(2)?, inputs, anchor, withdrawals };
        match self.plans.insert(body.number(1)?, plan) {
            None => Ok(()),
            Some(_) => Err("a plan's id is used twice".into()),
        }
    }

    fn plan_signed(&mut self, body: &Message<'_>, row: u64) -> Result<(), String> {
        let plan = self.plans.get(&body.number(1)?).ok_or("a plan was signed that nobody requested")?;
        if plan.row >= row {
            return Err("a plan was signed before its request was durable".into());
        }
        let spend = chain::Spend::read(body.bytes(3)?)?;
        if !spend.inputs.is_subset(&plan.inputs) || !spend.inputs.contains(&plan.anchor) {
            return Err("a signed transaction spends other coins than its plan".into());
        }
        let mut owed: Vec<(&[u8], u128)> = Vec::new();
        for id in &plan.withdrawals {
            let withdrawal = self.withdrawals.get(id).ok_or("a plan pays an unknown withdrawal")?;
            owed.push((&withdrawal.script, withdrawal.amount));
        }
        for (script, amount) in &spend.outputs {
            if let Some(at) = owed.iter().position(|(owed_script, owed)| owed_script == script && owed == amount) {
                owed.swap_remove(at);
            } else if self.scripts.get(script).is_none_or(|path| (path.0, path.1) != (plan.wallet, 2)) {
                return Err("a signed transaction pays somebody who is owed nothing".into());
            }
        }
        if owed.is_empty() { Ok(()) } else { Err("a signed transaction leaves a withdrawal out".into()) }
    }

    /// Conservation, no overdraft, and custody equal to coins, per asset and wallet.
    fn check(&self) -> Result<(), String> {
        let mut sums: BTreeMap<u64, (u128, u128)> = BTreeMap::new();
        let mut custody: BTreeMap<u64, u128> = BTreeMap::new();
        for (id, account) in &self.accounts {
            let sum = sums.entry(account.asset).or_default();
            sum.0 += account.debits;
            sum.1 += account.credits;
            match account.owner {
                Owner::Customer(_) if account.credits < account.debits + account.debits_held => {
                    return Err(format!("customer account {id} is overdrawn"));
                }
                Owner::Custody(wallet) => {
                    let balance = account.debits.checked_sub(account.credits).ok_or("custody is negative")?;
                    *custody.entry(wallet).or_default() += balance;
                }
                Owner::Customer(_) | Owner::House(_) | Owner::Plain(_) => {}
            }
        }
        if let Some((asset, sum)) = sums.iter().find(|(_, sum)| sum.0 != sum.1) {
            return Err(format!("asset {asset} has {} in debits and {} in credits", sum.0, sum.1));
        }
        let mut held: BTreeMap<u64, u128> = BTreeMap::new();
        for coin in self.coins.values().filter(|coin| !coin.is_spent) {
            *held.entry(coin.wallet).or_default() += coin.amount;
        }
        for wallet in custody.keys().chain(held.keys()) {
            let (books, coins) = (custody.get(wallet).copied().unwrap_or(0), held.get(wallet).copied().unwrap_or(0));
            if books != coins {
                return Err(format!("wallet {wallet} has {coins} in coins and {books} in the books"));
            }
        }
        Ok(())
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{} bytes where {N} belong", bytes.len()))
}

fn output(message: &Message<'_>) -> Result<Output, String> {
    Ok((fixed(message.bytes(2)?)?, message.number(3)?))
}

fn path(message: &Message<'_>) -> Result<Path, String> {
    Ok((message.number(1)?, message.number(2)?, message.number(3)?))
}

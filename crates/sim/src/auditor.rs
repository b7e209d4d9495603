//! The auditor: folds the journal's raw rows by the published schema, holds them against the invariants after each row, and compares them with what the chain really holds. It imports nothing that it judges: neither the platform's types nor its decoder, its fold or its chain code.

mod archived;
mod books;
pub mod broker;
pub mod chain;
mod correction;
mod custody;
pub mod derive;
pub mod proto;
mod time;

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
    /// In which height's block it is spent.
    spent_at: Option<u64>,
    /// What spent it that no plan meant.
    taken: Option<Taken>,
    is_suspense: bool,
    is_coinbase: bool,
    /// Whether a plan of ours paid it back: then its arrival is booked with that plan's confirmation.
    is_change: bool,
    said: archived::Said,
}

/// A spend that no plan meant.
#[derive(Debug, Clone)]
struct Taken {
    txid: [u8; 32],
    /// Withdrawals that it pays all the same.
    pays: BTreeSet<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Deposit {
    amount: u128,
    status: u64,
    hold: Option<u64>,
    debited: u128,
    is_coinbase: bool,
    credits: u32,
    /// The height of its block, while it has one.
    height: Option<u64>,
    said: archived::Said,
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
    /// What it costs on top.
    pub fee: u128,
    /// Its hold, while it has one.
    pub hold: Option<u64>,
    said: archived::Said,
}

impl Withdrawal {
    /// Whether its money has left the customer and not yet the wallets.
    fn is_in_flight(&self) -> bool {
        use withdrawal_status::{BROADCAST, QUEUED, SIGNING};
        self.status == QUEUED && self.hold.is_none() || (SIGNING..=BROADCAST).contains(&self.status)
    }
}

#[derive(Debug, Clone)]
struct Plan {
    row: u64,
    status: u64,
    wallet: u64,
    inputs: BTreeSet<Output>,
    anchor: Output,
    withdrawals: BTreeSet<Vec<u8>>,
    /// The transaction that confirmed it, or ended it.
    paid: Option<[u8; 32]>,
    said: archived::Said,
}

/// The schema's numbers for where a withdrawal stands.
pub mod withdrawal_status {
    /// Operators must approve.
    pub const AWAITING: u64 = 1;
    /// It waits for a plan.
    pub const QUEUED: u64 = 2;
    /// A signature is wanted.
    pub const SIGNING: u64 = 3;
    /// There is one.
    pub const SIGNED: u64 = 4;
    /// In a mempool.
    pub const BROADCAST: u64 = 5;
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

/// The chain that is compared with nodes.
const FOLLOWED: u64 = 1;

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
    /// Withdrawals that ended as paid by what no plan meant: by which transaction, and how much.
    paid_by_others: BTreeMap<Vec<u8>, ([u8; 32], u128)>,
    scripts: BTreeMap<Vec<u8>, Path>,
    next_index: BTreeMap<(u64, u64), u64>,
    issued: Vec<(Path, Vec<u8>)>,
    /// The journal's chain, from its first block to its tip.
    blocks: Vec<(u64, [u8; 32])>,
    /// What left with its block, and can come back.
    left: archived::Left,
    /// Whether a block is booked in part: then the books are between two tips.
    is_between: bool,
    commands: BTreeMap<[u8; 16], u64>,
    counts: BTreeMap<String, u64>,
    /// Chains and their coins.
    coins_of_chains: BTreeMap<u64, u64>,
    wallets: BTreeMap<u64, Wallet>,
    policies: BTreeMap<u64, Policy>,
    /// Halts in force: asset, action, reason.
    halts: BTreeSet<(Option<u64>, u64, u64)>,
    freezes: BTreeMap<Vec<u8>, u64>,
    quotes: BTreeMap<Vec<u8>, broker::Quote>,
    /// Quotes that the command being read executed.
    exchanged: Vec<broker::Quote>,
    /// What the command being read debited and credited to each account.
    moved: BTreeMap<u64, (u128, u128)>,
    /// References of corrections.
    corrections: BTreeSet<Vec<u8>>,
    /// Corrections that the command being read booked, and transfers that it made for them.
    corrections_booked: usize,
    corrections_moved: usize,
    time: time::Time,
    /// Whether the command being read booked a spend that no plan meant.
    is_robbed: bool,
    /// Whether the command being read took a final withdrawal back.
    is_undone: bool,
}

/// A wallet: its chain, and the derivers of its two branches.
#[derive(Debug, Clone)]
struct Wallet {
    chain: u64,
    branches: [derive::Deriver; 2],
}

/// What a policy says of depths and fees.
#[derive(Debug, Clone)]
struct Policy {
    depths: Vec<(u128, u64)>,
    deposit_min: u128,
    final_confirmations: u64,
    network_fee_max: u128,
    kept_blocks: u64,
}

/// The schema's numbers for what a halt stops, and the reason that a robbery has.
mod halt {
    pub const CREDIT: u64 = 1;
    pub const WITHDRAW: u64 = 3;
    pub const SIGN: u64 = 4;
    pub const FOREIGN_SPEND: u64 = 4;
    pub const DEEP_REORGANISATION: u64 = 6;
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
    /// The spend that no plan meant by which a withdrawal is paid now, if there is one.
    fn foreign_payer(&self, id: &[u8]) -> Option<[u8; 32]> {
        let taken = self.coins_and_left().filter_map(|coin| coin.taken.as_ref());
        let mut payers = taken.filter(|taken| taken.pays.contains(id));
        payers.next().map(|taken| taken.txid)
    }
    /// What each spend that no plan meant has taken, and what it has paid of withdrawals that ended by it.
    fn foreign_sums(&self) -> BTreeMap<[u8; 32], (u128, u128)> {
        let mut sums: BTreeMap<[u8; 32], (u128, u128)> = BTreeMap::new();
        for coin in self.coins_and_left() {
            if let Some(taken) = &coin.taken {
                sums.entry(taken.txid).or_default().0 += coin.amount;
            }
        }
        for (txid, amount) in self.paid_by_others.values() {
            sums.entry(*txid).or_default().1 += amount;
        }
        sums
    }
    /// Unspent coins with their amounts.
    pub fn unspent(&self) -> BTreeMap<Output, u128> {
        self.coins.iter().filter(|(_, coin)| !coin.is_spent).map(|(output, coin)| (*output, coin.amount)).collect()
    }
    /// Every account's sums: debits, credits, debits held, credits held.
    pub fn sums(&self) -> BTreeMap<u64, [u128; 4]> {
        let sums = |account: &Account| [account.debits, account.credits, account.debits_held, account.credits_held];
        self.accounts.iter().map(|(id, account)| (*id, sums(account))).collect()
    }
    /// Where each deposit stands, by the schema's numbers.
    pub fn deposits(&self) -> BTreeMap<Output, u64> {
        self.deposits.iter().map(|(output, deposit)| (*output, deposit.status)).collect()
    }
    /// Where a script's key is, if it was handed out.
    pub fn path_of(&self, script: &[u8]) -> Option<Path> {
        self.scripts.get(script).copied()
    }
    /// Whether a script was handed out on the followed chain.
    pub fn is_ours(&self, script: &[u8]) -> bool {
        self.scripts.get(script).is_some_and(|path| self.is_followed(path))
    }
    fn is_followed(&self, path: &Path) -> bool {
        self.wallets.get(&path.0).is_some_and(|wallet| wallet.chain == FOLLOWED)
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
        let command = entry.maybe_bytes(1).map(fixed).transpose()?;
        self.begin_entry(command);
        if let Some(before) = command.and_then(|command| self.commands.insert(command, row)) {
            return Err(format!("a command was executed twice, first in row {before}"));
        }
        for event in entry.messages(3)? {
            let (tag, body) = event.only()?;
            self.event(tag, &body, row).map_err(|fault| format!("event {tag}: {fault}"))?;
        }
        self.check_halts()?;
        self.check_corrections()?;
        self.check_exchanges()
    }

    fn event(&mut self, tag: u64, body: &Message<'_>, row: u64) -> Result<(), String> {
        *self.counts.entry(format!("event {tag}")).or_default() += 1;
        match tag {
            1 => self.epoch_started(body)?,
            2 => self.ticked(body)?,
            3 | 4 => self.time_jumped(tag == 3),
            11 => self.policy_set(body)?,
            12 => {
                self.halts.insert((body.maybe_number(1), body.number(2)?, body.number(3)?));
            }
            13 => self.resumed(body)?,
            20 => self.account_opened(body)?,
            21 => {
                for transfer in body.messages(1)? {
                    let movement = self.movement(&transfer)?;
                    self.post(movement)?;
                    if transfer.number(4)? == correction::REASON {
                        self.correction_moved(movement)?;
                    }
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
            26 => {
                self.freezes.insert(body.bytes(1)?.to_vec(), body.maybe_number(3).unwrap_or(0));
            }
            27 => self.correction_booked(body)?,
            30 => {
                self.coins_of_chains.insert(body.number(1)?, body.number(5)?);
            }
            31 => self.wallet_registered(body)?,
            32 => self.address_issued(body)?,
            // Only one chain is followed; another one stands still at its first block.
            40 if body.number(1)? != FOLLOWED => {}
            40 => {
                self.is_between = false;
                self.blocks.push((body.message(2)?.number(1)?, fixed(body.message(2)?.bytes(2)?)?));
            }
            42 => self.is_between = true,
            41 => self.block_disconnected(body)?,
            43 => self.coin_received(body)?,
            44 | 45 => self.coin_spent_or_returned(body, tag == 44)?,
            46 => self.coin_removed(body)?,
            47 => self.block_left(body)?,
            48 => self.came_back(body)?,
            50 => self.deposit_seen(body)?,
            51 => self.deposit_moved(body)?,
            52 => self.deposit_left(body)?,
            60 => self.withdrawal_requested(body)?,
            62 => self.withdrawal_moved(body)?,
            64 => self.signing_requested(body, row)?,
            63 => self.withdrawal_left(body)?,
            65 => self.plan_signed(body, row)?,
            67 => self.plan_moved(body)?,
            68 => self.plan_left(body)?,
            70 => self.judge_time("a price was set", |_| true)?,
            71 => self.quote_offered(body)?,
            72 => self.quote_ended(body)?,
            // Sessions, what is remembered, definitions, references, retired wallets, approvals and further versions: nothing here
            // is judged by them.
            5 | 6 | 7 | 10 | 25 | 33 | 61 | 66 => {}
            _ => return Err("no event of this number is known".into()),
        }
        Ok(())
    }

    fn resumed(&mut self, body: &Message<'_>) -> Result<(), String> {
        let was_in_force = self.halts.remove(&(body.maybe_number(1), body.number(2)?, body.number(3)?));
        if was_in_force { Ok(()) } else { Err("a halt ended that was not in force".into()) }
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
        let too_large = "an account's sum exceeds 128 bits";
        let debit = self.account(movement.debit)?;
        debit.debits = debit.debits.checked_add(movement.amount).ok_or(too_large)?;
        let credit = self.account(movement.credit)?;
        credit.credits = credit.credits.checked_add(movement.amount).ok_or(too_large)?;
        let moved = self.moved.entry(movement.debit).or_default();
        moved.0 = moved.0.saturating_add(movement.amount);
        let moved = self.moved.entry(movement.credit).or_default();
        moved.1 = moved.1.saturating_add(movement.amount);
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
        let wallet = self.wallets.get(&path.0).ok_or("an address is of an unknown wallet")?;
        let deriver = wallet.branches.get(path.1.wrapping_sub(1) as usize).ok_or("an address is on no branch")?;
        if deriver.script(path.2)? != script {
            return Err(format!("the script at {path:?} is not the one that its descriptor gives"));
        }
        if self.scripts.insert(script.clone(), path).is_some() {
            return Err("a script was handed out twice".into());
        }
        self.issued.push((path, script));
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

//! Records that leave with the last block that is kept of theirs, and come back last first where a reorganisation reaches below
//! it: exactly as they had left, while all is halted. Nothing is booked by either.

use super::custody::plan_status;
use super::proto::Message;
use super::{Auditor, Coin, Deposit, FOLLOWED, Output, Plan, Withdrawal, deposit_status, fixed, output};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use std::collections::BTreeMap;

/// How many blocks are kept where a policy says nothing of it: two weeks of Bitcoin.
pub(super) const KEPT_BLOCKS: u64 = 2_016;

/// The schema's numbers of a record's fields that are held against it when it comes back. Left out is what other events change
/// in passing: which plan reserves a coin, who approved a withdrawal, a plan's versions.
pub(super) const COIN: &[u64] = &[1, 2, 3, 4, 5, 6, 8, 9];
/// See [`COIN`].
pub(super) const DEPOSIT: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// See [`COIN`].
pub(super) const WITHDRAWAL: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13];
/// See [`COIN`].
pub(super) const PLAN: &[u64] = &[1, 2, 3, 4, 6, 7];

/// The fields of a record that an event changes, with the event's own numbers for them.
pub(super) const COIN_SPENT: &[(u64, u64)] = &[(8, 2)];
/// See [`COIN_SPENT`].
pub(super) const DEPOSIT_MOVED: &[(u64, u64)] = &[(4, 2), (5, 3), (6, 4), (8, 5), (9, 6), (12, 7)];
/// See [`COIN_SPENT`].
pub(super) const WITHDRAWAL_MOVED: &[(u64, u64)] = &[(7, 2), (8, 3), (11, 4), (13, 5)];
/// See [`COIN_SPENT`].
pub(super) const PLAN_MOVED: &[(u64, u64)] = &[(6, 2), (7, 3)];

/// What the journal last said of a record's fields, as it stood there.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(BTreeMap<u64, Vec<u8>>);

impl Said {
    /// What a record says of these fields.
    pub(super) fn new(record: &Message<'_>, fields: &[u64]) -> Said {
        Said(fields.iter().map(|field| (*field, record.part(*field))).collect())
    }

    /// An event changes some of them.
    pub(super) fn moved(&mut self, event: &Message<'_>, fields: &[(u64, u64)]) {
        for (of_record, of_event) in fields {
            self.0.insert(*of_record, event.part(*of_event));
        }
    }

    /// The first field of which a record says something else.
    fn differs(&self, record: &Message<'_>) -> Option<u64> {
        self.0.iter().find(|(field, said)| record.part(**field) != **said).map(|(field, _)| *field)
    }
}

/// A record that left.
#[derive(Debug)]
enum Record {
    Block,
    Deposit(Output, Deposit),
    Withdrawal(Vec<u8>, Withdrawal),
    Plan(u64, Plan),
    Coin(Output, Coin),
}

/// All that left, in the order in which it did.
#[derive(Debug, Default)]
pub(super) struct Left {
    records: Vec<Record>,
    /// How many of them are blocks: the chain's first ones.
    blocks: usize,
    /// Digests that the journal named, each with the number of records up to it.
    links: BTreeMap<usize, [u8; 32]>,
}

fn link(below: [u8; 32], record: &[u8]) -> [u8; 32] {
    let mut engine = sha256::HashEngine::default();
    engine.input(b"florin/archived/1");
    engine.input(&below);
    engine.input(record);
    sha256::Hash::from_engine(engine).to_byte_array()
}

impl Auditor {
    /// How many blocks have not left.
    pub(super) fn blocks_kept(&self) -> usize {
        self.blocks.len() - self.left.blocks
    }

    /// Coins, also those that left.
    pub(super) fn coins_and_left(&self) -> impl Iterator<Item = &Coin> {
        let left = self.left.records.iter().filter_map(|record| match record {
            Record::Coin(_, coin) => Some(coin),
            Record::Block | Record::Deposit(..) | Record::Withdrawal(..) | Record::Plan(..) => None,
        });
        self.coins.values().chain(left)
    }

    /// Plans, also those that left.
    pub(super) fn plans_and_left(&self) -> impl Iterator<Item = &Plan> {
        let left = self.left.records.iter().filter_map(|record| match record {
            Record::Plan(_, plan) => Some(plan),
            Record::Block | Record::Deposit(..) | Record::Withdrawal(..) | Record::Coin(..) => None,
        });
        self.plans.values().chain(left)
    }

    /// Withdrawals, also those that left.
    pub(super) fn withdrawals_and_left(&self) -> impl Iterator<Item = (&Vec<u8>, &Withdrawal)> {
        let left = self.left.records.iter().filter_map(|record| match record {
            Record::Withdrawal(id, withdrawal) => Some((id, withdrawal)),
            Record::Block | Record::Deposit(..) | Record::Plan(..) | Record::Coin(..) => None,
        });
        self.withdrawals.iter().chain(left)
    }

    /// One that is spent left with the block that spent it; one that is not was taken back with the block that brought it.
    pub(super) fn coin_removed(&mut self, body: &Message<'_>) -> Result<(), String> {
        let at = output(&body.message(1)?)?;
        let coin = self.coins.remove(&at).ok_or("an unknown coin was removed")?;
        if coin.is_spent {
            self.left.records.push(Record::Coin(at, coin));
        }
        Ok(())
    }

    /// Those that were not credited count for nothing, and never come back.
    pub(super) fn deposit_left(&mut self, body: &Message<'_>) -> Result<(), String> {
        let at = output(&body.message(1)?)?;
        let deposit = self.deposits.remove(&at).ok_or("an unknown deposit was archived")?;
        match deposit.status {
            deposit_status::CREDITED => self.left.records.push(Record::Deposit(at, deposit)),
            deposit_status::SEEN | deposit_status::REPLACED => {}
            status => return Err(format!("a deposit in {status} was archived")),
        }
        Ok(())
    }

    /// Those that never had a plan were settled in the books or given back: no block takes that back.
    pub(super) fn withdrawal_left(&mut self, body: &Message<'_>) -> Result<(), String> {
        let id = body.bytes(1)?.to_vec();
        let withdrawal = self.withdrawals.remove(&id).ok_or("an unknown withdrawal was archived")?;
        if withdrawal.plan.is_some() {
            self.left.records.push(Record::Withdrawal(id, withdrawal));
        }
        Ok(())
    }

    /// One that the signer gave up is gone for ever.
    pub(super) fn plan_left(&mut self, body: &Message<'_>) -> Result<(), String> {
        let id = body.number(1)?;
        let plan = self.plans.remove(&id).ok_or("an unknown plan was archived")?;
        match plan.status {
            plan_status::FINAL | plan_status::CONFLICTED => self.left.records.push(Record::Plan(id, plan)),
            plan_status::VOIDED => {}
            status => return Err(format!("a plan in {status} was archived")),
        }
        Ok(())
    }

    /// A block leaves when it is the oldest one and deeper than those that are kept, and nothing that goes with it stays.
    pub(super) fn block_left(&mut self, body: &Message<'_>) -> Result<(), String> {
        if body.number(1)? != FOLLOWED {
            return Err("a block of a chain that stands still was archived".into());
        }
        let at = (body.message(2)?.number(1)?, fixed(body.message(2)?.bytes(2)?)?);
        if self.blocks.get(self.left.blocks) != Some(&at) {
            return Err("a block that is not the oldest one was archived".into());
        }
        let kept = self.policy().map_or(KEPT_BLOCKS, |policy| policy.kept_blocks);
        let above = self.blocks_kept() as u64 - 1;
        if above <= kept {
            return Err(format!("a block was archived with {above} blocks above it, and {kept} are kept"));
        }
        if self.coins.values().any(|coin| coin.spent_at.is_some_and(|height| height <= at.0)) {
            return Err("a block was archived, and a coin that it spent was not".into());
        }
        let is_credited = |deposit: &Deposit| deposit.status == deposit_status::CREDITED;
        let is_old = |deposit: &Deposit| deposit.height.is_some_and(|height| height <= at.0);
        if self.deposits.values().any(|deposit| is_credited(deposit) && is_old(deposit)) {
            return Err("a block was archived, and a deposit that was credited for it was not".into());
        }
        self.left.blocks += 1;
        self.left.records.push(Record::Block);
        Ok(())
    }

    /// What left last comes back, as far as the event says, while one block is left and everything is halted.
    pub(super) fn came_back(&mut self, body: &Message<'_>) -> Result<(), String> {
        if body.number(1)? != FOLLOWED || self.blocks_kept() != 1 || self.is_between {
            return Err("records came back while there were blocks to take back, or one was booked in part".into());
        }
        let encoded: Vec<&[u8]> = body.all_bytes(3).collect();
        let count = self.left.records.len().checked_sub(encoded.len()).ok_or("more came back than had left")?;
        if encoded.is_empty() {
            return Err("nothing came back".into());
        }
        for record in encoded.iter().rev() {
            let (tag, record) = Message::read(record)?.only()?;
            let left = self.left.records.pop().ok_or("more came back than had left")?;
            self.put_back(left, tag, &record)?;
        }
        self.check_links(body, &encoded, count)?;
        // As after every end of what was final, all has to be halted.
        self.is_undone = true;
        *self.counts.entry("reorganisation below the kept blocks".into()).or_default() += 1;
        Ok(())
    }

    /// The digests that the journal names of records that left are of one chain.
    fn check_links(&mut self, body: &Message<'_>, encoded: &[&[u8]], count: usize) -> Result<(), String> {
        let mut digest = body.maybe_bytes(2).map_or(Ok([0; 32]), fixed)?;
        if (count == 0) != (digest == [0; 32]) {
            return Err("the digest below what came back is not that of nothing, or is".into());
        }
        for (place, record) in (count..).zip(encoded) {
            if self.left.links.get(&place).is_some_and(|known| *known != digest) {
                return Err("the digest below what came back is another than before".into());
            }
            if place == count {
                self.left.links.insert(place, digest);
            }
            digest = link(digest, record);
        }
        if self.left.links.get(&(count + encoded.len())).is_some_and(|known| *known != digest) {
            return Err("what came back has another digest than it had".into());
        }
        // What leaves from now on is something else.
        self.left.links.retain(|place, _| *place <= count);
        Ok(())
    }

    fn put_back(&mut self, left: Record, tag: u64, record: &Message<'_>) -> Result<(), String> {
        let same = |said: &Said| match said.differs(record) {
            Some(field) => Err(format!("a record {tag} came back with another field {field} than it had left with")),
            None => Ok(()),
        };
        let (what, before) = match (tag, left) {
            (1, Record::Block) => {
                let at = (record.message(2)?.number(1)?, fixed(record.message(2)?.bytes(2)?)?);
                self.left.blocks -= 1;
                if self.blocks[self.left.blocks] != at {
                    return Err("another block came back than had left".into());
                }
                ("block", false)
            }
            (2, Record::Deposit(at, deposit)) => {
                same(&deposit.said)?;
                ("deposit", self.deposits.insert(at, deposit).is_some())
            }
            (3, Record::Withdrawal(id, withdrawal)) => {
                same(&withdrawal.said)?;
                ("withdrawal", self.withdrawals.insert(id, withdrawal).is_some())
            }
            (4, Record::Plan(id, plan)) => {
                same(&plan.said)?;
                ("plan", self.plans.insert(id, plan).is_some())
            }
            (5, Record::Coin(at, coin)) => {
                same(&coin.said)?;
                ("coin", self.coins.insert(at, coin).is_some())
            }
            _ => return Err(format!("a record {tag} came back where another kind had left")),
        };
        if before {
            return Err(format!("a {what} came back in the place of another"));
        }
        *self.counts.entry(format!("came back: {what}")).or_default() += 1;
        Ok(())
    }
}

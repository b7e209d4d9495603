//! Records that left the state and come back, last first, for a reorganisation that reaches below the blocks that are kept. Never
//! believes a record: the state knows them by their digest.

use super::BlockRefusal;
use crate::command::{Outcome, UNARCHIVE_BYTES_MAX};
use crate::custody::{Archived, Deposit, DepositStatus, OutPoint, PlanStatus};
use crate::decide::Draft;
use crate::event::{DepositArchived, Event, Unarchived};
use crate::id::{ChainId, Digest, PlanId, WithdrawalId};
use crate::journal::EVENTS_MAX;
use crate::state::State;
use crate::wire::Message;
use std::collections::BTreeSet;

/// Puts records back. Nothing is booked: they say what they said when they left.
pub(in crate::decide) fn unarchive(
    draft: &mut Draft<'_>,
    chain: ChainId,
    below: Digest,
    records: &[Archived],
) -> Result<Outcome, BlockRefusal> {
    let of_chain = draft.state.chains.get(&chain).ok_or(BlockRefusal::ChainUnknown)?;
    match &of_chain.part {
        Some(part) if part.undoing => return Err(BlockRefusal::BlockUndoing),
        Some(_) => return Err(BlockRefusal::PartPending),
        None => {}
    }
    if of_chain.blocks.len() != 1 {
        return Err(BlockRefusal::BlocksKept);
    }
    if of_chain.archived.count == 0 {
        return Err(BlockRefusal::ReorganisationTooDeep);
    }
    let mut room = Room::default();
    if !records.iter().all(|record| room.takes(record)) {
        return Err(BlockRefusal::TooMany);
    }
    if records.is_empty() || of_chain.archived.without(below, records).is_none() {
        return Err(BlockRefusal::ArchivedOther);
    }
    if !is_whole(records) {
        return Err(BlockRefusal::ArchivedIncomplete);
    }
    if records.iter().any(|record| is_present(draft.state, record)) {
        return Err(BlockRefusal::ArchivedPresent);
    }
    let asset = of_chain.chain.coin;
    draft.halt_for_reorganisation(asset);
    for record in records {
        let Archived::Deposit(Deposit { outpoint, .. }) = record else { continue };
        // A mempool showed it anew, which counts for nothing: the record of its block is the one to go on with.
        if let Some(seen) = draft.state.deposits.get(outpoint).cloned() {
            seen.hold.into_iter().for_each(|hold| draft.release(hold));
            draft.emit(Event::DepositArchived(DepositArchived { outpoint: *outpoint }));
        }
    }
    draft.emit(Event::Unarchived(Unarchived { chain, below, records: records.to_vec() }));
    Ok(Outcome::Done(true))
}

/// The most deposits that one command puts back: what a mempool shows in the place of each takes two events to end.
const DEPOSITS_MAX: usize = EVENTS_MAX / 2 - 8;

/// The room in a row that those two events take, in bytes.
const STAND_IN_BYTES: usize = 80;

/// How much of one command's room is taken.
#[derive(Default)]
struct Room {
    bytes: usize,
    deposits: usize,
}

impl Room {
    /// Takes the room of one record more; whether there is that much.
    fn takes(&mut self, record: &Archived) -> bool {
        let is_deposit = matches!(record, Archived::Deposit(_));
        self.deposits += usize::from(is_deposit);
        self.bytes += record.encode().len() + if is_deposit { STAND_IN_BYTES } else { 0 };
        self.bytes <= UNARCHIVE_BYTES_MAX && self.deposits <= DEPOSITS_MAX
    }
}

/// Whether the state has a record in the place of one that left.
fn is_present(state: &State, record: &Archived) -> bool {
    match record {
        Archived::Block(_) => false,
        Archived::Deposit(deposit) => {
            let present = state.deposits.get(&deposit.outpoint);
            present.is_some_and(|it| !matches!(it.status, DepositStatus::Seen | DepositStatus::Replaced))
        }
        Archived::Withdrawal(withdrawal) => state.withdrawals.contains_key(&withdrawal.id),
        Archived::Plan(plan) => state.plans.contains_key(&plan.id),
        Archived::Coin(coin) => state.coins.contains_key(&coin.outpoint),
    }
}

/// What names a record that others name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Plan(PlanId),
    Withdrawal(WithdrawalId),
    Coin(OutPoint),
}

/// Records that are gathered, and what they name that is not among them. They left together, so together they come back.
#[derive(Default)]
struct Gathered {
    have: BTreeSet<Name>,
    missing: BTreeSet<Name>,
}

impl Gathered {
    fn add(&mut self, record: &Archived) {
        match record {
            Archived::Block(_) | Archived::Deposit(_) => {}
            Archived::Withdrawal(withdrawal) => {
                self.has(Name::Withdrawal(withdrawal.id));
                withdrawal.plan.into_iter().for_each(|plan| self.needs(Name::Plan(plan)));
            }
            Archived::Plan(plan) => {
                self.has(Name::Plan(plan.id));
                let payments = plan.versions.iter().flat_map(|version| &version.payments);
                payments.for_each(|payment| self.needs(Name::Withdrawal(payment.withdrawal)));
                if plan.status == PlanStatus::Final {
                    plan.inputs.iter().for_each(|input| self.needs(Name::Coin(*input)));
                }
            }
            Archived::Coin(coin) => {
                self.has(Name::Coin(coin.outpoint));
                let by = coin.spent.as_ref().and_then(|spent| spent.plan);
                by.into_iter().for_each(|plan| self.needs(Name::Plan(plan)));
            }
        }
    }

    fn has(&mut self, name: Name) {
        self.missing.remove(&name);
        self.have.insert(name);
    }

    fn needs(&mut self, name: Name) {
        if !self.have.contains(&name) {
            self.missing.insert(name);
        }
    }
}

/// Whether records name no others: what a plan spent and paid left with it.
fn is_whole(records: &[Archived]) -> bool {
    let mut gathered = Gathered::default();
    records.iter().for_each(|record| gathered.add(record));
    gathered.missing.is_empty()
}

/// Where the part begins that one [`crate::command::Command::Unarchive`] puts back of `records`, in the order in which they left:
/// down to the last block among them, or as far as one command may. At the end where not even the last ones fit.
pub fn unarchive_from(records: &[Archived]) -> usize {
    let (mut gathered, mut room) = (Gathered::default(), Room::default());
    let mut from = records.len();
    for (index, record) in records.iter().enumerate().rev() {
        if !room.takes(record) {
            break;
        }
        gathered.add(record);
        if gathered.missing.is_empty() {
            from = index;
            if matches!(record, Archived::Block(_)) {
                break;
            }
        }
    }
    from
}

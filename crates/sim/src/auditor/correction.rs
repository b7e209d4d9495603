//! Corrections: what an operator may move by hand, and that it is one transfer, under a reference of its own.

use super::proto::Message;
use super::{Auditor, Movement, Owner};

/// The schema's number of a transfer's reason.
pub(super) const REASON: u64 = 16;

/// The schema's numbers of the house's accounts that a correction may touch; the first is only given to.
mod house {
    pub const BANK: u64 = 1;
    pub const INVENTORY: u64 = 2;
    pub const FEES: u64 = 3;
    pub const SPREAD: u64 = 4;
}

impl Auditor {
    pub(super) fn correction_booked(&mut self, body: &Message<'_>) -> Result<(), String> {
        self.corrections_booked += 1;
        *self.counts.entry("a correction is booked".to_owned()).or_default() += 1;
        if self.corrections.insert(body.bytes(1)?.to_vec()) {
            Ok(())
        } else {
            Err("a correction's reference is booked twice".into())
        }
    }

    /// After the transfer is posted.
    pub(super) fn correction_moved(&mut self, movement: Movement) -> Result<(), String> {
        self.corrections_moved += 1;
        let is_free = |owner: &Owner| {
            matches!(owner, Owner::Customer(_) | Owner::House(house::INVENTORY | house::FEES | house::SPREAD))
        };
        let giver = self.account(movement.debit)?.clone();
        if !is_free(&giver.owner) || giver.credits < giver.debits {
            return Err(format!(
                "a correction took from {:?}, and left {} of {}",
                giver.owner, giver.debits, giver.credits
            ));
        }
        let is_coin = self.coins_of_chains.values().any(|&coin| coin == giver.asset);
        let taker = &self.account(movement.credit)?.owner;
        let leaves_bank = *taker == Owner::House(house::BANK) && !is_coin;
        if is_free(taker) || leaves_bank { Ok(()) } else { Err(format!("a correction gave to {taker:?}")) }
    }

    /// At the end of a command.
    pub(super) fn check_corrections(&mut self) -> Result<(), String> {
        let (booked, moved) = (self.corrections_booked, self.corrections_moved);
        (self.corrections_booked, self.corrections_moved) = (0, 0);
        if booked == moved && booked <= 1 {
            Ok(())
        } else {
            Err(format!("{booked} corrections were booked, and {moved} transfers made for them"))
        }
    }
}

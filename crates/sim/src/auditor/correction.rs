//! Corrections: what an operator may move by hand, and that it is one transfer, under a reference of its own.

use super::proto::Message;
use super::{Account, Auditor, Movement, Owner, halt};

/// The schema's number of a transfer's reason.
pub(super) const REASON: u64 = 16;

/// The schema's numbers of the house's accounts that a correction may touch, of which the bank is only given to, and of what the
/// network took.
mod house {
    pub const BANK: u64 = 1;
    pub const INVENTORY: u64 = 2;
    pub const FEES: u64 = 3;
    pub const SPREAD: u64 = 4;
    pub const NETWORK_FEES: u64 = 5;
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
        if giver.owner == Owner::House(house::FEES) && giver.credits - giver.debits < self.network_fees(giver.asset) {
            return Err("a correction gave fees away that the network has taken".into());
        }
        let taker = &self.account(movement.credit)?.owner.clone();
        let is_halted = [None, Some(giver.asset)]
            .iter()
            .any(|asset| self.halts.iter().any(|(halted, action, _)| halted == asset && *action == halt::CREDIT));
        if is_halted && matches!(taker, Owner::Customer(_)) {
            return Err("a customer was credited by a correction while crediting was halted".into());
        }
        let leaves_bank = *taker == Owner::House(house::BANK) && !is_coin;
        if is_free(taker) || leaves_bank { Ok(()) } else { Err(format!("a correction gave to {taker:?}")) }
    }

    /// What the network has taken of an asset, less what came back.
    fn network_fees(&self, asset: u64) -> u128 {
        let is_it = |account: &&Account| account.asset == asset && account.owner == Owner::House(house::NETWORK_FEES);
        self.accounts.values().find(is_it).map_or(0, |account| account.debits.saturating_sub(account.credits))
    }

    /// At the end of a command.
    pub(super) fn check_corrections(&mut self) -> Result<(), String> {
        let (booked, moved) = (self.corrections_booked, self.corrections_moved);
        (self.corrections_booked, self.corrections_moved) = (0, 0);
        let is_one_transfer = booked == 1 && moved == 1 && self.moved.len() == 2;
        if is_one_transfer || (booked, moved) == (0, 0) {
            Ok(())
        } else {
            let touched = self.moved.len();
            Err(format!("{booked} corrections were booked, {moved} transfers made for them, {touched} accounts moved"))
        }
    }
}

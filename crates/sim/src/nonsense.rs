//! What makes no sense, from outside and from inside: each such command has to be refused for its own reason and change nothing. It only asks.

mod definitions;
mod money;
pub(crate) mod proposals;
mod watcher;

use crate::world::World;
use florin_core::amount::Amount;
use florin_core::command::{Command, Origin, Request};
use florin_core::id::CustomerId;
use florin_engine::lanes::Ask;

/// A customer whom nobody opened.
const NOBODY: CustomerId = CustomerId([0xee; 16]);

fn units(units: u128) -> Amount {
    Amount::new(units)
}

impl World {
    /// Somebody outside asks for something that must be refused.
    ///
    /// # Errors
    /// Where it is not refused, or changes something.
    pub fn nonsense(&mut self) -> Result<(), String> {
        if !self.rest()? {
            return Ok(());
        }
        let commands = match self.rng.below(7) {
            0 => self.wrong_assets(),
            1 => self.wrong_policies(),
            2 => self.wrong_chains(),
            3 => self.wrong_wallets(),
            4 => self.wrong_accounts(),
            5 => self.wrong_quotes(),
            _ => self.wrong_withdrawals(),
        };
        let Some(command) = self.rng.pick(&commands).cloned() else { return Ok(()) };
        let ask = self.request(command);
        self.refuse(ask)
    }

    /// A watcher or worker of ours that is broken, or not ours, asks for something that must be refused.
    ///
    /// # Errors
    /// Where it is not refused, or changes something.
    pub fn hostile(&mut self) -> Result<(), String> {
        if !self.rest()? {
            return Ok(());
        }
        let commands = match self.rng.below(5) {
            0 => self.wrong_blocks(),
            1 => self.wrong_sightings(),
            2 => self.wrong_words_of_signers(),
            3 => self.wrong_proposals(),
            _ => self.commands_without_ids(),
        };
        self.refuse_one_of(&commands)
    }

    /// Uses states that are rare and short: what can be refused in no other.
    ///
    /// # Errors
    /// Where it is not refused, or changes something.
    pub fn use_the_moment(&mut self) -> Result<(), String> {
        // The long ones only now and then: to ask, everything has to come to rest first.
        let is_short = self.state(World::has_a_short_moment).unwrap_or(false);
        let is_long = self.state(World::has_a_long_moment).unwrap_or(false);
        let percent = if is_short { 40 } else { 3 };
        if !(is_short || is_long) || !self.rng.chance(percent) || !self.rest()? {
            return Ok(());
        }
        let mut commands = self.commands_of_the_moment()?;
        commands.extend(self.proposals_of_the_moment());
        self.refuse_one_of(&commands)
    }

    fn refuse_one_of(&mut self, commands: &[Command]) -> Result<(), String> {
        let Some(command) = self.rng.pick(commands).cloned() else { return Ok(()) };
        self.count("fault hostile command");
        self.refuse(Ask::internal(command))
    }

    /// What only a request with an id may ask for; and sequences of a session that were there before, or come too early.
    fn commands_without_ids(&mut self) -> Vec<Command> {
        let session = crate::customers::session(1);
        let last = self.state(|state| state.sessions().get(&session).copied()).flatten().unwrap_or(0);
        let sequence = if self.rng.chance(50) { last } else { last + 7 };
        let request = Request { origin: Origin::Session { session, sequence }, command: Command::ConfirmTime };
        // Answered in a later turn: it changes nothing either way.
        let _ = self.send(crate::world::Sent { ask: Ask::Request(request), id: None });
        self.commands_that_need_ids()
    }
}

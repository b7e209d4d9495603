//! Time: what is priced, quoted and exchanged is judged by what the world's clock showed when it was decided, and not by the ledger's own word for it.

use super::Auditor;
use super::proto::Message;
use std::collections::{BTreeMap, BTreeSet};

/// How far the clock may lie from the last tick, either way, without counting as a jump: decision 0006.
const LEASH_MS: u64 = 60_000;

/// How long a row may take commands that are all judged at its one time.
const ROW_MS: u64 = 1_000;

/// What the journal says of time, and what the clock showed meanwhile.
#[derive(Debug, Default)]
pub(super) struct Time {
    ticked_ms: u64,
    is_jumped: bool,
    /// By command and ledger time, what the clock showed when it was decided. A process that died may have been first.
    decisions: BTreeMap<([u8; 16], u64), BTreeSet<u64>>,
    /// Those of the command being read.
    clocks: BTreeSet<u64>,
}

impl Auditor {
    /// Whoever saw a command being decided says at what ledger time that was, and what the world's clock showed.
    pub fn decided(&mut self, command: [u8; 16], time_ms: u64, clock_ms: u64) {
        self.time.decisions.entry((command, time_ms)).or_default().insert(clock_ms);
    }

    pub(super) fn begin_entry(&mut self, command: Option<[u8; 16]>) {
        let found = command.and_then(|command| self.time.decisions.remove(&(command, self.time_ms)));
        self.time.clocks = found.unwrap_or_default();
    }

    pub(super) fn epoch_started(&mut self, body: &Message<'_>) -> Result<(), String> {
        self.epoch = body.number(1)?;
        if !self.time.is_jumped {
            self.time.ticked_ms = self.time_ms;
        }
        Ok(())
    }

    pub(super) fn ticked(&mut self, body: &Message<'_>) -> Result<(), String> {
        self.time.ticked_ms = body.number(1)?;
        self.time.is_jumped = false;
        Ok(())
    }

    pub(super) fn time_jumped(&mut self, is_jumped: bool) {
        self.time.is_jumped = is_jumped;
    }

    /// Fails where something that rests on time was decided while nobody knew the time, or by a clock for which it was too late.
    pub(super) fn judge_time(&self, what: &str, is_good: impl Fn(u64) -> bool) -> Result<(), String> {
        let time = &self.time;
        if time.is_jumped {
            return Err(format!("{what} while a jump of the clock stands"));
        }
        let followed = time.ticked_ms.saturating_sub(LEASH_MS)..=time.ticked_ms.saturating_add(LEASH_MS);
        if time.clocks.iter().any(|clock| followed.contains(clock) && is_good(clock.saturating_sub(ROW_MS))) {
            return Ok(());
        }
        let (clocks, ticked, row) = (&time.clocks, time.ticked_ms, self.time_ms);
        Err(format!("{what} when the clock showed {clocks:?}, the last tick was at {ticked} and ledger time {row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(clock_ms: u64, expiry_ms: u64, is_jumped: bool) -> bool {
        let mut auditor = Auditor { time_ms: 1_000_000, ..Auditor::default() };
        auditor.time = Time { ticked_ms: 1_000_000, is_jumped, ..Time::default() };
        auditor.decided([1; 16], 1_000_000, clock_ms);
        auditor.begin_entry(Some([1; 16]));
        auditor.judge_time("a quote was accepted", |clock| clock < expiry_ms).is_ok()
    }

    #[test]
    fn what_rests_on_time_is_judged_by_the_clock_of_its_decision() {
        assert!(judged(1_004_999, 1_004_000, false), "a row takes commands for a second");
        assert!(!judged(1_005_000, 1_004_000, false), "the quote is dead, whatever ledger time says");
        assert!(!judged(1_000_000, 1_004_000, true), "nobody knows the time");
        assert!(judged(940_000, 1_004_000, false));
        assert!(!judged(939_999, 1_004_000, false), "the clock went back");
        assert!(judged(1_060_000, 2_000_000, false));
        assert!(!judged(1_060_001, 2_000_000, false), "the clock jumped");
    }

    #[test]
    fn a_command_that_nobody_saw_being_decided_is_not_good() {
        let mut auditor = Auditor::default();
        auditor.decided([1; 16], 5, 5);
        auditor.begin_entry(Some([1; 16]));
        assert!(auditor.judge_time("it", |_| true).is_err(), "it was seen at another ledger time");
        auditor.begin_entry(None);
        assert!(auditor.judge_time("it", |_| true).is_err());
    }
}

//! Reorganisations that reach below the blocks which the state keeps: what left the state is found in the journal and put back, block
//! by block, so that it can be taken back like everything else. It asks; the core knows every record by its digest, and believes none.

use super::{DISCONNECTS_MAX, Follower, HALTED};
use crate::alarm::Alarms;
use crate::lanes::Ask;
use crate::ports::{Past, PastFault};
use crate::unarchive::Gathered;
use florin_core::asset::{Halt, HaltReason};
use florin_core::command::Command;
use florin_core::custody::{Archived, ArchivedHead, Block, BlockRef};
use florin_core::decide::unarchive_from;
use florin_core::id::{AssetId, BlockHash, ChainId};
use florin_core::state::{ChainState, State};
use std::time::{Duration, Instant};

/// Records held at once: those of some years of a small platform, some days of a large one. When they are used up, the journal
/// is read again, up to those below them.
pub const RECORDS_MAX: usize = 200_000;

/// How long to wait after the records could not be had, in milliseconds: the journal may have been read for hours until then.
pub const RETRY_MS: u64 = 10_000;

/// From here on a round through the nodes was slow: one that takes its time over every answer, and is not left aside for that, takes
/// seconds of each. Then more of the journal is read before the next one, or hours would go by where minutes are enough.
const WAITED_MIN: Duration = Duration::from_secs(1);
/// The longest that is read for that: whoever stops the process waits for it.
const WAITED_MAX: Duration = Duration::from_secs(5);

/// Where records that left the state come from, and those that are needed now.
#[derive(Default)]
pub(super) struct Deep {
    past: Option<Box<dyn Past>>,
    records_max: usize,
    /// What the last look found missing.
    wanted: Option<ArchivedHead>,
    have: Option<Gathered>,
    /// How many records there were when they were gathered.
    had: usize,
    is_reading: bool,
    fault: Option<Fault>,
}

/// Why the records could not be had, and when. It stands until they are there: to find the same again may take as long as to read the
/// whole journal.
struct Fault {
    words: String,
    at_ms: u64,
    /// Whether any answer of the journal ends it.
    is_silence: bool,
}

impl std::fmt::Debug for Deep {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Deep(wants {:?}, has {})", self.wanted, self.have.as_ref().map_or(0, |have| have.records().len()))
    }
}

impl Deep {
    pub(super) fn reading(past: Box<dyn Past>, records_max: usize) -> Deep {
        Deep { past: Some(past), records_max, ..Deep::default() }
    }

    /// Whether there may be an older block to go back to: one left the state, and as far as is known what left is not all on
    /// another branch.
    pub(super) fn may_reach(&mut self, head: ArchivedHead, is_active: impl Fn(BlockHash) -> bool) -> bool {
        if let Some(have) = &mut self.have
            && !have.follow(head)
        {
            self.have = None;
        }
        let has_fork = |have: &Gathered| have.blocks().iter().any(|at| is_active(at.hash));
        self.past.is_some() && head.count > 0 && self.have.as_ref().is_none_or(has_fork)
    }

    /// Forgets everything: the tip is on the best chain.
    pub(super) fn rest(&mut self) {
        self.past.iter_mut().for_each(|past| past.leave());
        (self.wanted, self.have, self.is_reading, self.fault) = (None, None, false, None);
    }

    /// Whether a question for records waits that only has to be asked again.
    pub(super) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Looks for what the last look found missing, for about as long as the nodes were waited for. Says whether it is there.
    pub(super) fn read(&mut self, now_ms: u64, waited: Duration) -> bool {
        self.is_reading = false;
        let (Some(past), Some(head)) = (&mut self.past, self.wanted.take()) else { return false };
        if self.fault.as_ref().is_some_and(|fault| now_ms.abs_diff(fault.at_ms) < RETRY_MS) {
            return false;
        }
        let slow = if waited < WAITED_MIN { Duration::ZERO } else { waited.min(WAITED_MAX) };
        let begun = Instant::now();
        let answer = loop {
            let answer = past.last_archived(&head, self.records_max);
            if !matches!(answer, Ok(None)) || begun.elapsed() >= slow {
                break answer;
            }
        };
        self.is_reading = matches!(answer, Ok(None));
        match answer {
            Ok(have) => {
                self.fault = self.fault.take().filter(|fault| have.is_none() && !fault.is_silence);
                self.had = have.as_ref().map_or(0, |have| have.records().len());
                self.have = have;
            }
            Err(fault) => {
                let is_silence = matches!(fault, PastFault::Read(_));
                self.fault = Some(Fault { words: words(&fault), at_ms: now_ms, is_silence });
            }
        }
        self.have.is_some()
    }

    /// Says why the records can't be had, while that is so.
    pub(super) fn say_fault(&self, alarms: &mut Alarms, chain: ChainId, now_ms: u64) {
        if let Some(fault) = &self.fault {
            alarms.say(now_ms, "archived_unreadable", chain, &fault.words);
        }
    }
}

/// What a fault says, with its code and all that caused it, in one line.
fn words(fault: &PastFault) -> String {
    let mut text = format!("the records of older blocks can't be found ({}): {fault}", fault.code());
    let mut source = std::error::Error::source(fault);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether everything that rests on the chain is stopped for people to look.
fn is_halted(state: &State, coin: AssetId) -> bool {
    let reason = HaltReason::DeepReorganisation;
    HALTED.iter().all(|&action| state.halts().contains(&Halt { asset: Some(coin), action, reason }))
}

/// The commands that take back the only block that is left and those before it, down to the one that `is_active` knows: its records
/// are put back first, then it goes. Each is refused where the one before it was. Empty where not even one command's records are here.
fn takes_back(only: &Block, have: &Gathered, is_active: impl Fn(BlockHash) -> bool) -> Vec<Command> {
    let (chain, records) = (only.chain, have.records());
    let (mut top, mut end) = (only.at.hash, records.len());
    let mut commands = Vec::new();
    while commands.len() < 2 * DISCONNECTS_MAX {
        let from = unarchive_from(&records[..end]);
        if from == end {
            break;
        }
        commands.push(Command::Unarchive { chain, below: have.below(from), records: records[from..end].to_vec() });
        end = from;
        let Some(Archived::Block(block)) = records.get(from) else { continue };
        commands.push(Command::DisconnectBlock { chain, hash: top });
        top = block.at.hash;
        if is_active(top) {
            break;
        }
    }
    commands
}

impl Follower {
    /// Whether the records of older blocks are known and lead to the best chain, so that the journal goes back from its tip.
    pub(super) fn goes_below(&self) -> bool {
        self.deep.have.is_some()
    }

    /// No block that the state keeps is on the best chain. The halts are asked for beside this; nothing is read or taken back before
    /// all of them stand.
    pub(super) fn go_below(&mut self, state: &State, chain: &ChainState, now_ms: u64, asks: &mut Vec<Ask>) {
        let (id, tip) = (self.config.chain, self.cursor.map_or(0, |tip| tip.height.0));
        let say = |alarms: &mut Alarms, detail: String| alarms.say(now_ms, "reorganisation_below_kept", id, detail);
        if !is_halted(state, chain.chain.coin) {
            let detail =
                "no block that the state keeps is on the best chain: the asset stops before older ones are looked for";
            return say(&mut self.alarms, detail.to_owned());
        }
        let Some(have) = &self.deep.have else {
            self.deep.wanted = Some(chain.archived);
            let row = self.deep.past.as_ref().map_or(0, |past| past.row().0);
            say(
                &mut self.alarms,
                format!(
                    "no block that the state keeps is on the best chain: the journal is read for older ones, as far as row {row}"
                ),
            );
            return self.deep.say_fault(&mut self.alarms, id, now_ms);
        };
        let is_active = |hash: BlockHash| self.is_active(hash);
        let fork = have.blocks().iter().rev().find(|at| is_active(at.hash)).map_or(0, |at: &BlockRef| at.height.0);
        let count = tip.saturating_sub(fork);
        let detail = format!(
            "the best chain leaves the journal's after block {fork}: {count} blocks are still to be taken back"
        );
        let hashes = chain.blocks.values().rev().map(|block| block.at.hash);
        let commands: Vec<Command> = match chain.blocks.values().next() {
            Some(only) if chain.blocks.len() == 1 => takes_back(only, have, is_active),
            _ => {
                let hashes = hashes.take(chain.blocks.len().saturating_sub(1)).take(DISCONNECTS_MAX);
                hashes.map(|hash| Command::DisconnectBlock { chain: id, hash }).collect()
            }
        };
        let (is_used_up, is_fresh) = (commands.is_empty(), have.records().len() == self.deep.had);
        let is_lacking = is_used_up && have.has_more_below() && !is_fresh;
        say(&mut self.alarms, detail);
        if is_lacking {
            self.deep.have = None;
            self.deep.wanted = Some(chain.archived);
        } else if is_used_up {
            let what = "what left the state together is more than one command puts back";
            self.alarms.say(now_ms, "archived_part_too_large", id, what);
        }
        asks.extend(commands.into_iter().map(Ask::internal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::Seq;
    use std::sync::{Arc, Mutex};

    /// A journal that has no more to say after so many questions.
    struct Long(Arc<Mutex<u32>>);

    impl Past for Long {
        fn last_archived(&mut self, _: &ArchivedHead, _: usize) -> Result<Option<Gathered>, PastFault> {
            let mut left = self.0.lock().unwrap();
            *left = left.checked_sub(1).ok_or(PastFault::NotFound)?;
            Ok(None)
        }
        fn row(&self) -> Seq {
            Seq::START
        }
        fn leave(&mut self) {}
    }

    #[test]
    fn more_is_read_at_once_where_nodes_were_waited_for() {
        let head = ArchivedHead::empty(ChainId(1));
        for (waited, read) in [(Duration::ZERO, 1), (WAITED_MIN / 2, 1), (WAITED_MAX, 40), (2 * WAITED_MAX, 40)] {
            let left = Arc::new(Mutex::new(40));
            let mut deep = Deep::reading(Box::new(Long(Arc::clone(&left))), 10);
            deep.wanted = Some(head);
            assert!(!deep.read(5, waited));
            assert_eq!((40 - *left.lock().unwrap(), deep.is_reading()), (read, read == 1), "{waited:?}");
        }
    }
}

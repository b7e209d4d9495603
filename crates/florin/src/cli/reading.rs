//! A journal that says how far it is read while a platform starts. It says nothing where that is soon done, nothing any more once
//! there was no further row to read, and changes nothing of what is read.

use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use std::time::Duration;

/// After how long it is said for the first time: before that nobody wonders.
const FIRST: Duration = Duration::from_secs(2);

/// And how often after that.
const EVERY: Duration = Duration::from_secs(5);

/// What is said, and when.
struct Saying {
    /// How long the start has taken until now.
    now: Box<dyn FnMut() -> Duration + Send>,
    /// Says the row that was read last, and the journal's last one.
    say: Box<dyn FnMut(Seq, Seq) + Send>,
    /// When it is said next.
    due: Duration,
    /// The journal's last row, once it was asked for.
    end: Option<Seq>,
}

/// A journal, and what is said of it until it was read to its end.
pub(super) struct Reading {
    journal: Box<dyn Journal>,
    saying: Option<Saying>,
}

impl Reading {
    /// A journal that is about to be read to its end. `now` says how long that has taken, `say` hears the row that was read last
    /// and the journal's last one.
    pub(super) fn new(
        journal: Box<dyn Journal>,
        now: impl FnMut() -> Duration + Send + 'static,
        say: impl FnMut(Seq, Seq) + Send + 'static,
    ) -> Reading {
        let saying = Saying { now: Box::new(now), say: Box::new(say), due: FIRST, end: None };
        Reading { journal, saying: Some(saying) }
    }

    fn say(&mut self, at: Seq) {
        let Some(saying) = &mut self.saying else { return };
        let now = (saying.now)();
        if now < saying.due {
            return;
        }
        saying.due = now + EVERY;
        // Rows that come while it is read are few beside those that were there.
        saying.end = saying.end.or_else(|| self.journal.head().ok().flatten().map(|(seq, _)| seq));
        if let Some(end) = saying.end.filter(|end| at < *end) {
            (saying.say)(at, end);
        }
    }
}

impl Journal for Reading {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        self.journal.append(row)
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let rows = self.journal.read(after, count_max)?;
        match rows.last() {
            Some(row) => self.say(row.seq),
            None => self.saying = None,
        }
        Ok(rows)
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.journal.head()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::{Epoch, LedgerTime};
    use florin_store::memory::MemoryJournal;
    use std::sync::{Arc, Mutex};

    /// Reads a journal of ten rows two at a time, with some seconds before each look, and once more afterwards; gives what was said.
    fn said(seconds: u64) -> Vec<(u64, u64)> {
        let mut journal = MemoryJournal::new();
        let mut previous = Digest::ZERO;
        for seq in 1..=10u64 {
            let row = Row::seal(Seq(seq), Epoch(1), LedgerTime(seq), previous, vec![1]);
            journal.append(&row).expect("appended");
            previous = row.hash;
        }
        let whole = journal.rows();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut passed, hears) = (Duration::ZERO, Arc::clone(&said));
        let now = move || {
            passed += Duration::from_secs(seconds);
            passed
        };
        let say = move |at: Seq, end: Seq| hears.lock().expect("one thread").push((at.0, end.0));
        let mut reading = Reading::new(Box::new(journal.reader()), now, say);
        let (mut read, mut at) = (Vec::new(), Seq::START);
        loop {
            let rows = reading.read(at, 2).expect("readable");
            let Some(last) = rows.last() else { break };
            at = last.seq;
            read.extend(rows);
        }
        assert_eq!(read, whole, "nothing of it is changed");
        assert_eq!(reading.read(Seq::START, 2).expect("readable"), whole[..2]);
        said.lock().expect("one thread").clone()
    }

    #[test]
    fn a_long_reading_is_said_from_time_to_time_until_its_end() {
        assert_eq!(said(0), [], "short work says nothing");
        assert_eq!(said(1), [(4, 10)], "and no more before the next time");
        assert_eq!(said(2), [(2, 10), (8, 10)]);
        assert_eq!(
            said(5),
            [(2, 10), (4, 10), (6, 10), (8, 10)],
            "the end is no progress, nor what is read afterwards"
        );
    }
}

//! Holds the journal against what was written down outside of it: whoever once saw a row durable names it, and a journal that
//! lacks the row, or has another one in its place, is an older copy or a fork. It must never lead then, and nothing is repaired here.
//!
//! A witness that knows less than the journal is usual: readers lag, and crashes take their last rows back. Rows are linked by
//! their hashes, so that one row that is the same on both sides vouches for all before it, and one look-up is enough.

use crate::load::{LoadError, Place};
use crate::ports::Cause;
use florin_core::id::Seq;
use florin_core::journal::{Journal, ReadError};

/// Why a witness can't be heard.
#[derive(Debug, thiserror::Error)]
pub enum WitnessFault {
    /// It can't be reached, as a signer that does not run. It says nothing, and stops nothing.
    #[error("it does not answer ({code})")]
    Silent {
        /// The stable code of what is wrong below.
        code: &'static str,
        /// What is wrong.
        #[source]
        cause: Cause,
    },
    /// It is there, and what it knows can't be read: it may know of rows that the journal lacks. Crashes leave nothing like
    /// that, so it is damage, and nobody leads before a person has looked.
    #[error("what it knows can't be read ({code})")]
    Unreadable {
        /// The stable code of what is wrong below.
        code: &'static str,
        /// What is wrong.
        #[source]
        cause: Cause,
    },
}

impl WitnessFault {
    /// The stable code of what is wrong below.
    pub fn code(&self) -> &'static str {
        match self {
            WitnessFault::Silent { code, .. } | WitnessFault::Unreadable { code, .. } => code,
        }
    }
}

/// A witness whose word is there and can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{witness} can't be read")]
pub struct Unreadable {
    /// Which.
    pub witness: &'static str,
    /// Why.
    #[source]
    pub fault: WitnessFault,
}

impl Unreadable {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }
}

/// Something durable outside of the journal that names one of its rows.
pub trait Witness: Send {
    /// What it is, in words that go on with "names row 7": `the snapshot`.
    fn name(&self) -> &'static str;
    /// The newest row that it names; `None` where it names none.
    ///
    /// # Errors
    /// [`WitnessFault`].
    fn newest(&mut self) -> Result<Option<Place>, WitnessFault>;
}

/// What a journal and a witness do not agree on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The journal ends before a row that was durable once.
    #[error("{witness} names row {row}, and the journal ends at row {end}: it is an older copy")]
    Behind {
        /// Who says so.
        witness: &'static str,
        /// The row.
        row: Seq,
        /// The journal's last one.
        end: Seq,
    },
    /// The journal has another row in the place of one that was durable once.
    #[error("{witness} names another row {row} than the journal has: an older copy was written on")]
    Forked {
        /// Who says so.
        witness: &'static str,
        /// The row.
        row: Seq,
    },
}

impl Contradiction {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Contradiction::Behind { .. } => "journal_behind",
            Contradiction::Forked { .. } => "journal_forked",
        }
    }
}

/// Looks one row up: `None` where the journal agrees that it is one of its own. Nothing can be said of rows that are no longer
/// kept in the journal itself, but for the last of them, which the first one that is kept names.
///
/// # Errors
/// Where the journal does not answer.
pub fn compare(
    journal: &mut dyn Journal,
    witness: &'static str,
    place: Place,
) -> Result<Option<Contradiction>, ReadError> {
    let row = place.seq;
    let Some(before) = row.0.checked_sub(1) else { return Ok(None) };
    let forked = |is_same: bool| Ok((!is_same).then_some(Contradiction::Forked { witness, row }));
    let end = journal.head()?.map_or(Seq::START, |(seq, _)| seq);
    match journal.read(Seq(before), 1)?.first() {
        Some(found) if found.seq == row => forked(found.hash == place.hash),
        Some(found) if found.seq == row.next() => forked(found.previous == place.hash),
        Some(_) => Ok(None),
        None => Ok(Some(Contradiction::Behind { witness, row, end })),
    }
}

/// What witnesses said.
#[derive(Debug, Default)]
pub struct Heard {
    named: Vec<(&'static str, Place)>,
    /// The first one whose word can't be read.
    unreadable: Option<Unreadable>,
}

/// Hears all witnesses. One that can't be reached says nothing: the platform runs without its signer, too, and whoever signs
/// later compares again.
pub fn hear(witnesses: &mut [Box<dyn Witness>]) -> Heard {
    let mut heard = Heard::default();
    for witness in witnesses {
        match witness.newest() {
            Ok(place) => heard.named.extend(place.map(|place| (witness.name(), place))),
            Err(WitnessFault::Silent { code, cause }) => {
                let (who, cause) = (witness.name(), cause.to_string());
                tracing::warn!(who, code, cause, "the journal is not held against what can't be asked");
            }
            Err(fault @ WitnessFault::Unreadable { .. }) => {
                heard.unreadable.get_or_insert(Unreadable { witness: witness.name(), fault });
            }
        }
    }
    heard
}

impl Heard {
    /// Holds the journal against what was said before: what is appended meanwhile contradicts nobody.
    ///
    /// # Errors
    /// Where the journal does not answer; where nobody contradicts it whose word can be read, and somebody's can't.
    pub fn contradiction(self, journal: &mut dyn Journal) -> Result<Option<Contradiction>, LoadError> {
        for (witness, place) in &self.named {
            let found = compare(journal, witness, *place)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.unreadable.map_or(Ok(None), |unreadable| Err(LoadError::Unreadable(unreadable)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::{Digest, Epoch, LedgerTime};
    use florin_core::journal::{AppendError, Row};

    /// Rows that are kept from some row on.
    struct Kept(Vec<Row>);

    impl Journal for Kept {
        fn append(&mut self, _: &Row) -> Result<(), AppendError> {
            Err(AppendError::Fenced)
        }
        fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
            Ok(self.0.iter().filter(|row| row.seq > after).take(count_max).cloned().collect())
        }
        fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
            Ok(self.0.last().map(|row| (row.seq, row.hash)))
        }
    }

    fn rows(count: u64, fork: u8) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for seq in 1..=count {
            let previous = rows.last().map_or(Digest::ZERO, |row| row.hash);
            rows.push(Row::seal(Seq(seq), Epoch(1), LedgerTime(seq), previous, vec![fork]));
        }
        rows
    }

    fn place(row: &Row) -> Place {
        Place { seq: row.seq, hash: row.hash }
    }

    #[test]
    fn a_row_that_is_there_and_no_row_at_all_contradict_nothing() {
        let rows = rows(5, 0);
        for row in &rows {
            assert_eq!(compare(&mut Kept(rows.clone()), "x", place(row)).unwrap(), None);
        }
        assert_eq!(compare(&mut Kept(rows), "x", Place::START).unwrap(), None);
        assert_eq!(compare(&mut Kept(Vec::new()), "x", Place::START).unwrap(), None);
    }

    #[test]
    fn a_missing_row_and_another_one_are_told_apart() {
        let (ours, other) = (rows(5, 0), rows(7, 1));
        let found = compare(&mut Kept(ours.clone()), "x", place(&other[6])).unwrap();
        assert_eq!(found, Some(Contradiction::Behind { witness: "x", row: Seq(7), end: Seq(5) }));
        assert_eq!(found.map(|found| found.code()), Some("journal_behind"));
        let found = compare(&mut Kept(ours), "x", place(&other[4])).unwrap();
        assert_eq!(found, Some(Contradiction::Forked { witness: "x", row: Seq(5) }));
        assert_eq!(found.map(|found| found.code()), Some("journal_forked"));
        let found = compare(&mut Kept(Vec::new()), "x", place(&other[0])).unwrap();
        assert_eq!(found, Some(Contradiction::Behind { witness: "x", row: Seq(1), end: Seq::START }));
    }

    #[test]
    fn of_rows_that_are_no_longer_kept_the_last_is_known_by_its_hash() {
        let (ours, other) = (rows(5, 0), rows(5, 1));
        let mut kept = Kept(ours[3..].to_vec());
        assert_eq!(compare(&mut kept, "x", place(&ours[2])).unwrap(), None);
        assert!(matches!(compare(&mut kept, "x", place(&other[2])).unwrap(), Some(Contradiction::Forked { .. })));
        assert_eq!(compare(&mut kept, "x", place(&other[1])).unwrap(), None, "nobody can tell any more");
    }

    /// A witness that says the same again and again.
    struct Says(Result<Option<Place>, fn() -> WitnessFault>);

    fn silent() -> WitnessFault {
        WitnessFault::Silent { code: "silent", cause: "a test's fault".into() }
    }

    fn torn() -> WitnessFault {
        WitnessFault::Unreadable { code: "torn", cause: "a test's fault".into() }
    }

    impl Witness for Says {
        fn name(&self) -> &'static str {
            "somebody"
        }
        fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
            self.0.map_err(|fault| fault())
        }
    }

    #[test]
    fn one_witness_against_the_journal_is_enough_and_one_that_is_silent_is_none() {
        let (ours, other) = (rows(5, 0), rows(9, 0));
        let mut agreeing: Vec<Box<dyn Witness>> =
            vec![Box::new(Says(Ok(None))), Box::new(Says(Err(silent))), Box::new(Says(Ok(Some(place(&ours[1])))))];
        assert_eq!(hear(&mut agreeing).contradiction(&mut Kept(ours.clone())).unwrap(), None);
        agreeing.push(Box::new(Says(Ok(Some(place(&other[8]))))));
        let found = hear(&mut agreeing).contradiction(&mut Kept(ours)).unwrap();
        assert_eq!(found, Some(Contradiction::Behind { witness: "somebody", row: Seq(9), end: Seq(5) }));
    }

    #[test]
    fn one_whose_word_is_there_and_cant_be_read_is_not_taken_for_silent() {
        let (ours, other) = (rows(5, 0), rows(9, 0));
        let mut witnesses: Vec<Box<dyn Witness>> =
            vec![Box::new(Says(Err(torn))), Box::new(Says(Err(silent))), Box::new(Says(Ok(Some(place(&ours[1])))))];
        let judged = hear(&mut witnesses).contradiction(&mut Kept(ours.clone()));
        assert_eq!(judged.map_err(|error| error.code()), Err("torn"));
        witnesses.push(Box::new(Says(Ok(Some(place(&other[8]))))));
        let judged = hear(&mut witnesses).contradiction(&mut Kept(ours)).unwrap();
        assert_eq!(judged.map(|found| found.code()), Some("journal_behind"), "what is known comes first");
    }
}

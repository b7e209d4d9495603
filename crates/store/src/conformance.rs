//! What every journal has to do, as checks that run on each store and on the model in memory. It knows no store.
//!
//! A store's test file says where fresh journals come from and gets one test for each check:
//!
//! ```ignore
//! florin_store::journal_conformance!(|| MyFixture::fresh());
//! ```

use crate::memory::MemoryJournal;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{AppendError, Journal, ROW_BYTES_MAX, Row};

/// A journal under test, empty at first, and handles on it.
pub trait Fixture: Sync {
    /// Another writing handle on the same journal, with a connection of its own.
    fn open(&self) -> Box<dyn Journal>;
    /// A reading handle on the same journal.
    fn open_reader(&self) -> Box<dyn Journal>;
}

/// Makes one test of each check. The argument makes a fresh, empty [`Fixture`] each time it is called.
#[macro_export]
macro_rules! journal_conformance {
    ($make:expr) => {
        $crate::journal_conformance!(@each $make;
            an_empty_journal_has_no_rows
            rows_come_back_as_they_were_appended
            the_first_row_is_number_one
            a_gap_is_fenced
            a_foreign_predecessor_is_fenced
            the_same_row_again_is_durable
            another_row_at_a_taken_number_is_fenced
            unsound_rows_are_fenced
            the_largest_row_fits
            reading_pages_through
            rows_outlive_their_handle
            a_reader_sees_rows_and_appends_none
            one_of_two_racing_writers_wins_each_row
            the_same_row_from_two_writers_is_stored_once
            an_append_of_unknown_fate_settles_in_every_order
            random_sequences_match_the_model
        );
    };
    (@each $make:expr; $($check:ident)*) => {$(
        #[test]
        fn $check() {
            let fixture = ($make)();
            $crate::conformance::$check(&fixture);
        }
    )*};
}

/// Attempts to settle an unknown append before a check fails. Each may already have waited for a lock.
const SETTLE_MAX: usize = 20;

/// Numbers from a seed, the same on every machine: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound.max(1)
    }

    /// That many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.next_u64().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}

/// A row after the given head. Stores do not look into payloads, so any bytes will do.
pub fn row_after(head: Option<(Seq, Digest)>, epoch: u64, payload: Vec<u8>) -> Row {
    let (seq, previous) = head.unwrap_or((Seq::START, Digest::ZERO));
    Row::seal(seq.next(), Epoch(epoch), LedgerTime(1_700_000_000_000 + seq.0), previous, payload)
}

/// Appends `count` rows and returns them.
pub fn fill(journal: &mut dyn Journal, count: usize) -> Vec<Row> {
    let mut rows = Vec::with_capacity(count);
    for index in 0..count {
        let row = row_after(journal.head().expect("the journal answers"), 1, format!("row {index}").into_bytes());
        journal.append(&row).expect("a row after the head is appended");
        rows.push(row);
    }
    rows
}

fn all(journal: &mut dyn Journal) -> Vec<Row> {
    journal.read(Seq::START, usize::MAX).expect("the journal answers")
}

fn assert_fenced(journal: &mut dyn Journal, row: &Row, why: &str) {
    let answer = journal.append(row);
    assert!(matches!(answer, Err(AppendError::Fenced)), "{why}: {answer:?}");
}

/// Nothing is in a new journal.
pub fn an_empty_journal_has_no_rows(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    assert_eq!(journal.head().expect("the journal answers"), None);
    assert_eq!(all(&mut *journal), []);
}

/// Every field of a row survives, also at the ends of its range, also an empty payload.
pub fn rows_come_back_as_they_were_appended(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let payloads: [&[u8]; 4] = [b"", &[0], &[0, 255, 0, 92, 39], "Gro\u{df} \u{1f600}".as_bytes()];
    let numbers = [0, 1, 1 << 32, i64::MAX as u64];
    let mut rows: Vec<Row> = Vec::new();
    for (payload, number) in payloads.into_iter().zip(numbers) {
        let (seq, previous) = rows.last().map_or((Seq::START, Digest::ZERO), |row| (row.seq, row.hash));
        let row = Row::seal(seq.next(), Epoch(number), LedgerTime(number), previous, payload.to_vec());
        journal.append(&row).expect("a row after the head is appended");
        assert_eq!(journal.head().expect("the journal answers"), Some((row.seq, row.hash)));
        rows.push(row);
    }
    assert_eq!(all(&mut *journal), rows);
}

/// An empty journal takes row 1 only, and that without a predecessor.
pub fn the_first_row_is_number_one(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let second = row_after(Some((Seq(1), Digest([7; 32]))), 1, vec![1]);
    assert_fenced(&mut *journal, &second, "row 2 of an empty journal");
    let zero = Row::seal(Seq(0), Epoch(1), LedgerTime(1), Digest::ZERO, vec![1]);
    assert_fenced(&mut *journal, &zero, "row 0");
    let linked = Row::seal(Seq(1), Epoch(1), LedgerTime(1), Digest([7; 32]), vec![1]);
    assert_fenced(&mut *journal, &linked, "row 1 with a predecessor");
    assert_eq!(all(&mut *journal), []);
    fill(&mut *journal, 1);
}

/// A number may not be left out.
pub fn a_gap_is_fenced(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let rows = fill(&mut *journal, 3);
    let ahead = row_after(Some((Seq(4), rows[2].hash)), 1, vec![1]);
    assert_fenced(&mut *journal, &ahead, "row 5 after row 3");
    assert_eq!(all(&mut *journal), rows);
}

/// The predecessor counts by hash, not by number alone; an older row is no predecessor either.
pub fn a_foreign_predecessor_is_fenced(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let rows = fill(&mut *journal, 3);
    for previous in [Digest([9; 32]), Digest::ZERO, rows[1].hash] {
        let foreign = row_after(Some((Seq(3), previous)), 1, vec![1]);
        assert_fenced(&mut *journal, &foreign, "row 4 on a foreign row 3");
    }
    assert_eq!(all(&mut *journal), rows);
}

/// Repeating a row settles its fate, whether it is the last or an older one, and changes nothing.
pub fn the_same_row_again_is_durable(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let rows = fill(&mut *journal, 3);
    let mut other = fixture.open();
    for row in rows.iter().rev() {
        journal.append(row).expect("a row that is there is durable");
        other.append(row).expect("a row that is there is durable, whoever asks");
    }
    assert_eq!(all(&mut *journal), rows);
}

/// What stands, stands.
pub fn another_row_at_a_taken_number_is_fenced(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let rows = fill(&mut *journal, 3);
    let before = [None, Some((rows[0].seq, rows[0].hash)), Some((rows[1].seq, rows[1].hash))];
    for head in before {
        for epoch in [1, 2] {
            assert_fenced(&mut *journal, &row_after(head, epoch, b"another".to_vec()), "a number that is taken");
        }
    }
    assert_eq!(all(&mut *journal), rows);
}

/// A row with a wrong hash, with too much in it, or with numbers that no column holds can never be appended.
pub fn unsound_rows_are_fenced(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let rows = fill(&mut *journal, 1);
    let head = Some((rows[0].seq, rows[0].hash));
    let mut torn = row_after(head, 1, vec![1, 2, 3]);
    torn.payload[1] ^= 1;
    assert_fenced(&mut *journal, &torn, "a row whose content does not match its hash");
    assert_fenced(&mut *journal, &row_after(head, 1, vec![1; ROW_BYTES_MAX + 1]), "a row that is too large");
    assert_fenced(&mut *journal, &row_after(head, u64::MAX, vec![1]), "an epoch beyond 63 bits");
    let late = Row::seal(Seq(2), Epoch(1), LedgerTime(u64::MAX), rows[0].hash, vec![1]);
    assert_fenced(&mut *journal, &late, "a time beyond 63 bits");
    assert_eq!(all(&mut *journal), rows);
}

/// A row of exactly [`ROW_BYTES_MAX`] is stored whole.
pub fn the_largest_row_fits(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let mut rows = Vec::new();
    for seed in 0..3 {
        let head = journal.head().expect("the journal answers");
        let row = row_after(head, 1, Random::new(seed).bytes(ROW_BYTES_MAX));
        journal.append(&row).expect("the largest row is appended");
        rows.push(row);
    }
    assert!(all(&mut *journal) == rows, "the largest rows come back whole");
}

/// Pages of any size join without gap or overlap.
pub fn reading_pages_through(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let rows = fill(&mut *journal, 10);
    for count_max in [1, 3, 10, 11] {
        let mut read = Vec::new();
        loop {
            let after = read.last().map_or(Seq::START, |row: &Row| row.seq);
            let page = journal.read(after, count_max).expect("the journal answers");
            assert!(page.len() <= count_max, "a page of {} where {count_max} were asked", page.len());
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert_eq!(read, rows, "pages of {count_max}");
    }
    for (after, count_max) in [(Seq(10), 5), (Seq(11), 5), (Seq(u64::MAX), 5), (Seq::START, 0)] {
        assert_eq!(journal.read(after, count_max).expect("the journal answers"), [], "after {after}");
    }
}

/// Another handle, opened later, goes on where the first ended.
pub fn rows_outlive_their_handle(fixture: &dyn Fixture) {
    let mut rows = fill(&mut *fixture.open(), 3);
    let mut journal = fixture.open();
    assert_eq!(all(&mut *journal), rows);
    rows.extend(fill(&mut *journal, 2));
    drop(journal);
    assert_eq!(all(&mut *fixture.open()), rows);
}

/// A reading handle follows the writer row by row; appending through it is refused, also of a row that would fit.
pub fn a_reader_sees_rows_and_appends_none(fixture: &dyn Fixture) {
    let mut journal = fixture.open();
    let mut reader = fixture.open_reader();
    assert_eq!(reader.head().expect("the reader answers"), None);
    for _ in 0..5 {
        let row = fill(&mut *journal, 1).remove(0);
        assert_eq!(reader.head().expect("the reader answers"), Some((row.seq, row.hash)));
        let after = Seq(row.seq.0 - 1);
        assert_eq!(reader.read(after, 10).expect("the reader answers"), [row]);
    }
    let rows = all(&mut *journal);
    let fitting = row_after(journal.head().expect("the journal answers"), 1, vec![1]);
    assert_fenced(&mut *reader, &fitting, "an append through a reader");
    assert_eq!(all(&mut *journal), rows);
}

/// Appends until the fate is known: what the engine does on an unknown answer.
fn settle(journal: &mut dyn Journal, row: &Row) -> bool {
    for _ in 0..SETTLE_MAX {
        match journal.append(row) {
            Ok(()) => return true,
            Err(AppendError::Fenced) => return false,
            Err(AppendError::Unknown(_)) => {}
        }
    }
    panic!("the fate of row {} stays unknown", row.seq)
}

/// Two writers append whatever they like after the head they see. Each row is one writer's, and that one was told so.
pub fn one_of_two_racing_writers_wins_each_row(fixture: &dyn Fixture) {
    const ATTEMPTS: usize = 60;
    let start = std::sync::Barrier::new(2);
    // Opened one after the other: a store may answer "busy" to one who opens while another does.
    let (mine, others) = (fixture.open(), fixture.open());
    let race = |writer: u64, mut journal: Box<dyn Journal>| {
        let mut won = Vec::new();
        start.wait();
        for attempt in 0..ATTEMPTS {
            let head = journal.head().expect("the journal answers");
            let row = row_after(head, writer, format!("{writer} {attempt}").into_bytes());
            if settle(&mut *journal, &row) {
                won.push(row);
            }
        }
        won
    };
    let mut won = std::thread::scope(|scope| {
        let other = scope.spawn(|| race(2, others));
        let mut won = race(1, mine);
        won.extend(other.join().expect("the other writer ends"));
        won
    });
    won.sort_by_key(|row| row.seq);
    let rows = all(&mut *fixture.open());
    assert!(rows.len() >= ATTEMPTS, "a round without a winner: {} rows", rows.len());
    assert_eq!(won, rows, "what the writers were told is what stands");
    assert_linked(&rows);
}

/// A row's fate is settled by appending it again even while its first append is still under way elsewhere.
pub fn the_same_row_from_two_writers_is_stored_once(fixture: &dyn Fixture) {
    const ROUNDS: u64 = 30;
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..ROUNDS {
        rows.push(row_after(rows.last().map(|row| (row.seq, row.hash)), 1, vec![round as u8; 64]));
    }
    let round = std::sync::Barrier::new(2);
    let (mine, others) = (fixture.open(), fixture.open());
    let write = |mut journal: Box<dyn Journal>| {
        for row in &rows {
            round.wait();
            assert!(settle(&mut *journal, row), "row {} was called another's", row.seq);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| write(others));
        write(mine);
    });
    assert_eq!(all(&mut *fixture.open()), rows);
}

/// What becomes of the first append of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is answered.
    Answered,
    /// It arrives, and its answer is lost.
    Written,
    /// It never arrives.
    Lost,
    /// Its answer is lost, and it arrives when the next row stands.
    Late,
}

/// Every order of the fates of three rows' first appends, each played by a connection of its own: the writer appends the same
/// row again until it is answered, every row stands once, and one that arrives late changes nothing.
pub fn an_append_of_unknown_fate_settles_in_every_order(fixture: &dyn Fixture) {
    const FATES: [Fate; 4] = [Fate::Answered, Fate::Written, Fate::Lost, Fate::Late];
    let (mut journal, mut lost) = (fixture.open(), fixture.open());
    let mut rows: Vec<Row> = Vec::new();
    for order in 0..FATES.len().pow(3) {
        let mut late: Option<Row> = None;
        for position in 0..3 {
            let fate = FATES[order / FATES.len().pow(position) % FATES.len()];
            let row = row_after(rows.last().map(|row| (row.seq, row.hash)), 1, order.to_be_bytes().to_vec());
            if fate == Fate::Written {
                assert!(settle(&mut *lost, &row), "order {order}: row {} arrives", row.seq);
            }
            assert!(settle(&mut *journal, &row), "order {order}: row {} was called another's", row.seq);
            rows.push(row.clone());
            if let Some(late) = late.take() {
                assert!(settle(&mut *lost, &late), "order {order}: row {} stands already", late.seq);
            }
            late = (fate == Fate::Late).then_some(row);
        }
        // What a writer before this one sent arrives when another row has its place.
        let before = rows.len().checked_sub(2).map(|index| (rows[index].seq, rows[index].hash));
        assert_fenced(&mut *lost, &row_after(before, 9, vec![9]), "another row of the same number");
        let head = rows.last().map(|row| (row.seq, row.hash));
        assert_eq!(journal.head().expect("the journal answers"), head, "order {order}");
    }
    assert_eq!(all(&mut *fixture.open()), rows);
}

/// Checks numbers and links of all rows, from the first on.
///
/// # Panics
/// At the first row that does not follow upon the one before it.
pub fn assert_linked(rows: &[Row]) {
    let mut head = (Seq::START, Digest::ZERO);
    for row in rows {
        assert_eq!(row.seq, head.0.next(), "a gap in the numbers");
        assert_eq!(row.previous, head.1, "row {} does not link", row.seq);
        assert_eq!(row.hash, row.computed_hash(), "row {} is not what its hash says", row.seq);
        head = (row.seq, row.hash);
    }
}

/// A random row: mostly one that fits, else one that fails in a random way.
fn random_row(random: &mut Random, known: &[Row]) -> Row {
    let last = known.last().map(|row| (row.seq, row.hash));
    let size = match random.below(10) {
        0 => random.below(40_000),
        _ => random.below(200),
    };
    let payload = random.bytes(size as usize);
    match random.below(10) {
        0..5 => row_after(last, random.below(3), payload),
        5 if !known.is_empty() => known[random.below(known.len() as u64) as usize].clone(),
        6 if !known.is_empty() => {
            let older = &known[random.below(known.len() as u64) as usize];
            row_after(Some((older.seq, older.hash)), random.below(3), payload)
        }
        7 => row_after(last.map(|(seq, _)| (seq, Digest([random.below(256) as u8; 32]))), 1, payload),
        8 => row_after(Some((Seq(random.below(known.len() as u64 + 4)), Digest::ZERO)), 1, payload),
        _ => {
            let mut torn = row_after(last, 1, payload);
            torn.hash.0[random.below(32) as usize] ^= 1;
            torn
        }
    }
}

/// Random appends, repetitions, reads and reopenings give the same answers as the model.
pub fn random_sequences_match_the_model(fixture: &dyn Fixture) {
    const STEPS: usize = 400;
    let seed = 0x0f10_0001;
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    let mut model = MemoryJournal::new();
    let mut journal = fixture.open();
    let (mut accepted, mut fenced) = (0, 0);
    for step in 0..STEPS {
        match random.below(10) {
            0 => journal = fixture.open(),
            1 | 2 => {
                let (after, count) = (Seq(random.below(STEPS as u64 / 2)), random.below(20) as usize);
                let expected = model.read(after, count).expect("the model answers");
                assert_eq!(journal.read(after, count).expect("the journal answers"), expected, "step {step}");
            }
            _ => {
                let row = random_row(&mut random, &model.rows());
                let expected = model.append(&row).is_ok();
                assert_eq!(settle(&mut *journal, &row), expected, "step {step}, row {}", row.seq);
                accepted += usize::from(expected);
                fenced += usize::from(!expected);
            }
        }
        let head = journal.head().expect("the journal answers");
        assert_eq!(head, model.head().expect("the model answers"), "step {step}");
    }
    assert!(accepted > STEPS / 4 && fenced > STEPS / 10, "a run that tries too little: {accepted}, {fenced}");
    assert_eq!(all(&mut *journal), model.rows());
}

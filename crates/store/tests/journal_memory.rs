//! The conformance suite on the model in memory, and the model's own faults.

use florin_core::id::Seq;
use florin_core::journal::{AppendError, Journal};
use florin_store::conformance::{Fixture, fill, row_after};
use florin_store::fault::StoreFault;
use florin_store::memory::{AppendFault, MemoryJournal};

struct Memory(MemoryJournal);

impl Fixture for Memory {
    fn open(&self) -> Box<dyn Journal> {
        Box::new(self.0.clone())
    }
    fn open_reader(&self) -> Box<dyn Journal> {
        Box::new(self.0.reader())
    }
}

florin_store::journal_conformance!(|| Memory(MemoryJournal::new()));

#[test]
fn scripted_faults_come_once_each_and_in_order() {
    let mut journal = MemoryJournal::new();
    journal.script([
        None,
        Some(AppendFault::UnknownWritten),
        Some(AppendFault::UnknownNotWritten),
        Some(AppendFault::Fenced),
        Some(AppendFault::Storage),
    ]);
    let first = row_after(None, 1, vec![1]);
    journal.append(&first).expect("the first append goes through");
    let second = row_after(Some((first.seq, first.hash)), 1, vec![2]);
    assert!(matches!(journal.append(&second), Err(AppendError::Unknown(_))));
    assert_eq!(journal.rows().len(), 2, "written, though nobody was told");
    let third = row_after(Some((second.seq, second.hash)), 1, vec![3]);
    assert!(matches!(journal.append(&third), Err(AppendError::Unknown(_))));
    assert!(matches!(journal.append(&third), Err(AppendError::Fenced)));
    let storage = journal.append(&third).expect_err("the storage fails");
    assert_eq!(StoreFault::of_append(&storage).map(StoreFault::is_fatal), Some(true));
    assert_eq!(journal.rows().len(), 2, "none of the three was written");
    journal.append(&third).expect("the script has ended");
}

#[test]
fn reads_fail_while_they_are_told_to() {
    let mut journal = MemoryJournal::new();
    fill(&mut journal, 1);
    journal.fail_reads();
    let error = journal.clone().read(Seq::START, 1).expect_err("reads fail");
    assert_eq!(StoreFault::of_read(&error).map(StoreFault::code), Some("store_connection_lost"));
    assert!(journal.head().is_err());
    journal.heal_reads();
    assert_eq!(journal.read(Seq::START, 9).expect("reads are healed").len(), 1);
}

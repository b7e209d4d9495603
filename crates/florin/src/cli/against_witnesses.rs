//! Whoever names a row of the journal from outside of it, held against the journal: what the signer was shown, by the records on
//! this machine and by its own memory. The same that a start compares; here nothing is refused, only told.

use super::verify::{Findings, Why, sentence};
use crate::config::Config;
use crate::platform::witnesses::SignerMemory;
use crate::signing::shown::ShownFile;
use florin_core::id::Seq;
use florin_core::journal::{Journal, ReadError};
use florin_engine::audit::JournalReport;
use florin_engine::load::Place;
use florin_engine::witness::{self, Witness, WitnessFault};

/// Asks each for the newest row that it names, and looks the row up.
pub(super) fn compare(config: &Config, journal: &mut dyn Journal, report: &JournalReport, findings: &mut Findings) {
    let data = config.data();
    let mut memory = SignerMemory::new(config.path(&config.signer.socket), config.platform_id());
    let (mut platform, mut checkpoint) = (ShownFile::by_platform(&data), ShownFile::by_checkpoint(&data));
    let witnesses: [&mut dyn Witness; 3] = [&mut memory, &mut platform, &mut checkpoint];
    for witness in witnesses {
        let name = witness.name();
        // First the witness and then the journal: what is appended meanwhile contradicts nobody.
        match witness.newest() {
            Err(fault @ WitnessFault::Silent { .. }) => findings.skips(name, sentence(&fault)),
            Err(fault @ WitnessFault::Unreadable { .. }) => {
                findings.differs(name, Why::Fault(fault.code()), sentence(&fault));
            }
            Ok(None) => findings.skips(name, "it names no row of this journal so far"),
            Ok(Some(place)) => judge(journal, name, place, report, findings),
        }
    }
}

fn judge(journal: &mut dyn Journal, name: &'static str, place: Place, report: &JournalReport, findings: &mut Findings) {
    match witness::compare(journal, name, place).and_then(|found| Ok((found, is_kept(journal, place)?))) {
        Err(fault) => findings.hinders(name, "journal_unreadable_now", sentence(&fault)),
        Ok((Some(found), _)) => findings.differs(name, Why::Fault(found.code()), found.to_string()),
        Ok((None, is_kept)) => match report.wrong_seq().filter(|wrong| *wrong <= place.seq) {
            // The row is the same, and does not vouch for those before it.
            Some(wrong) => {
                findings.skips(name, format!("it names row {}, and row {wrong} of the journal is wrong", place.seq));
            }
            None if is_kept => findings.agrees(name, format!("row {} is the one that it names", place.seq)),
            None => findings.skips(name, format!("row {} is no longer kept in the journal", place.seq)),
        },
    }
}

/// Whether the journal still has a row, or the next one, which names it.
fn is_kept(journal: &mut dyn Journal, place: Place) -> Result<bool, ReadError> {
    Ok(journal.read(Seq::START, 1)?.first().is_some_and(|first| first.seq <= place.seq.next()))
}

//! The addresses held against the descriptors of their wallets: each script that was handed out is derived again, and one that is
//! another is named with the row that handed it out.

use super::progress::Progress;
use super::verify::{Findings, sentence};
use florin_core::id::Seq;
use florin_core::journal::Journal;
use florin_engine::audit::JournalReport;
use florin_engine::audit::addresses::{AddressFault, AddressReport, check_addresses, issuing_rows};
use std::collections::BTreeMap;

/// An address that is wrong, and the row that handed it out, as far as the journal can be read for it.
#[derive(Debug)]
pub(super) struct WrongAddress {
    pub(super) fault: AddressFault,
    pub(super) row: Option<Seq>,
}

impl WrongAddress {
    /// What is wrong, in words.
    pub(super) fn sentence(&self) -> String {
        let what = sentence(&self.fault);
        self.row.map_or_else(|| what.clone(), |row| format!("row {row}: {what}"))
    }
}

/// Derives the addresses of the rows that are right.
pub(super) fn compare(
    journal: &mut dyn Journal,
    report: &JournalReport,
    findings: &mut Findings,
    progress: &mut Progress,
) -> Vec<WrongAddress> {
    let Some(state) = &report.state else {
        findings.skips("addresses", "there is no state that they could be taken from");
        return Vec::new();
    };
    let total = state.addresses().len() as u64;
    let done = |done| progress.part("addresses: script", done, total);
    let AddressReport { derived, unknown, wrong } = check_addresses(state, done);
    if unknown > 0 {
        findings.skips("addresses", format!("{unknown} are of chains whose addresses this build does not derive"));
    }
    if wrong.is_empty() {
        findings.agrees("addresses", format!("{derived} scripts are those of their wallets' descriptors"));
        return Vec::new();
    }
    let paths = wrong.iter().map(AddressFault::path).collect();
    // Without its row an address is named all the same.
    let rows = issuing_rows(journal, report.head.seq, &paths).unwrap_or_else(|_| BTreeMap::new());
    wrong.into_iter().map(|fault| WrongAddress { row: rows.get(&fault.path()).copied(), fault }).collect()
}

//! Whether the scripts that were handed out are those that their wallets' descriptors give. It derives them again; it never hands
//! one out.

use crate::load::READ_ROWS_MAX;
use crate::scripts::{ScriptFault, Scripts};
use florin_core::custody::{Branch, KeyPath};
use florin_core::event::Event;
use florin_core::hex;
use florin_core::id::Seq;
use florin_core::journal::{Batch, Journal, ReadError};
use florin_core::state::State;
use florin_core::wire::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Addresses that are named at most: one is enough to stop for, and a wrong descriptor makes all of its addresses wrong.
pub const ADDRESS_FAULTS_MAX: usize = 100;

/// An address that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// The descriptor gives another script: whoever has our keys can't spend what is paid to it.
    #[error("wallet {}, {} index {}: script {script} was handed out, and the descriptor gives {derived}", path.wallet, branch_name(path.branch), path.index)]
    NotDerived {
        /// Where its key should be.
        path: KeyPath,
        /// The script that was handed out.
        script: String,
        /// The one that the descriptor gives.
        derived: String,
    },
    /// The descriptor gives none.
    #[error("wallet {}, {} index {}: no script can be derived", path.wallet, branch_name(path.branch), path.index)]
    Underivable {
        /// Where its key should be.
        path: KeyPath,
        /// Why not.
        #[source]
        source: ScriptFault,
    },
}

fn branch_name(branch: Branch) -> &'static str {
    match branch {
        Branch::External => "receiving",
        Branch::Internal => "change",
    }
}

impl AddressFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            AddressFault::NotDerived { .. } => "address_not_derived",
            AddressFault::Underivable { source, .. } => source.code(),
        }
    }

    /// Where the key should be.
    pub fn path(&self) -> KeyPath {
        match self {
            AddressFault::NotDerived { path, .. } | AddressFault::Underivable { path, .. } => *path,
        }
    }
}

/// What came of deriving all addresses again.
#[derive(Debug, Default)]
pub struct AddressReport {
    /// Those whose script is the descriptor's.
    pub derived: u64,
    /// Those of chains whose addresses this build does not derive.
    pub unknown: u64,
    /// Those that are wrong, [`ADDRESS_FAULTS_MAX`] at most.
    pub wrong: Vec<AddressFault>,
}

/// Derives every address of a state again. `progress` hears how many are done.
pub fn check_addresses(state: &State, mut progress: impl FnMut(u64)) -> AddressReport {
    let mut scripts = Scripts::default();
    let mut report = AddressReport::default();
    for (done, (path, address)) in (0..).zip(state.addresses()) {
        progress(done);
        if report.wrong.len() == ADDRESS_FAULTS_MAX {
            break;
        }
        let Some(wallet) = state.wallets().get(&path.wallet) else { continue };
        match scripts.at(state, wallet, path.branch, path.index) {
            Ok(derived) if derived == address.script => report.derived += 1,
            Ok(derived) => {
                let (script, derived) = (hex::encode(&address.script.0), hex::encode(&derived.0));
                report.wrong.push(AddressFault::NotDerived { path: *path, script, derived });
            }
            // What no build derives was not derived by the one that handed it out either; that is for another one to judge.
            Err(ScriptFault::Family | ScriptFault::Network) => report.unknown += 1,
            Err(source) => report.wrong.push(AddressFault::Underivable { path: *path, source }),
        }
    }
    report
}

/// The rows that handed out the addresses at `paths`, as far as rows up to `end` say so.
///
/// # Errors
/// Where the journal can't be read.
pub fn issuing_rows(
    journal: &mut dyn Journal,
    end: Seq,
    paths: &BTreeSet<KeyPath>,
) -> Result<BTreeMap<KeyPath, Seq>, ReadError> {
    let (mut found, mut at) = (BTreeMap::new(), Seq::START);
    while at < end && found.len() < paths.len() {
        let rows = journal.read(at, READ_ROWS_MAX)?;
        let Some(last) = rows.last() else { break };
        at = last.seq;
        for row in rows.iter().filter(|row| row.seq <= end) {
            let batch = Batch::decode(&row.payload).unwrap_or(Batch { entries: Vec::new() });
            for event in batch.entries.iter().flat_map(|entry| &entry.events) {
                if let Event::AddressIssued(address) = event
                    && paths.contains(&address.path)
                {
                    found.insert(address.path, row.seq);
                }
            }
        }
    }
    Ok(found)
}

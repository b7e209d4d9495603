//! Ends the process when the disk below a journal fails. It never retries, and never hands such a fault on.

use crate::fault::StoreFault;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};

/// The exit code of a process whose storage failed: `EX_IOERR` of BSD's sysexits.
pub const EXIT_STORAGE: i32 = 74;

/// A journal that exits with [`EXIT_STORAGE`] on a fault after which nobody can say what the disk holds.
///
/// Production wraps its SQLite journal in it. Whatever was not acknowledged before stays unacknowledged; the next process
/// reads the file from the start and settles the last row's fate as after any crash.
#[derive(Debug)]
pub struct FailStop<J>(pub J);

fn stop_if_fatal(fault: Option<&StoreFault>) {
    if let Some(fault) = fault.filter(|fault| fault.is_fatal()) {
        tracing::error!(
            code = fault.code(),
            cause = std::error::Error::source(fault).map(tracing::field::display),
            "the journal's storage failed; the process ends"
        );
        std::process::exit(EXIT_STORAGE);
    }
}

impl<J: Journal> Journal for FailStop<J> {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        self.0.append(row).inspect_err(|error| stop_if_fatal(StoreFault::of_append(error)))
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.0.read(after, count_max).inspect_err(|error| stop_if_fatal(StoreFault::of_read(error)))
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.0.head().inspect_err(|error| stop_if_fatal(StoreFault::of_read(error)))
    }
}

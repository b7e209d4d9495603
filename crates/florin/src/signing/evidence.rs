//! What shows that a signer was met before, where the record of it is gone: the rows that it was shown from this machine, and plans in the journal. It never says who that signer was.

use super::known::KeepFault;
use super::shown::{ShownFault, ShownFile};
use crate::config::Config;
use crate::failure::Failure;
use crate::platform::stores::open_journal_reader;
use florin_core::event::Event;
use florin_core::id::Seq;
use florin_core::journal::{Batch, Journal, Row};
use florin_core::wire::Message;

/// Rows that are read at a time.
const READ_ROWS: usize = 1_000;

/// What there is to look at, and how far it was looked through.
#[derive(Debug)]
pub(super) struct Evidence {
    config: Config,
    /// The last row that was looked at: without a plan up to there.
    at: Seq,
    is_found: bool,
}

impl Evidence {
    /// What goes with a configuration's journal.
    pub(super) fn of(config: &Config) -> Evidence {
        Evidence { config: config.clone(), at: Seq::START, is_found: false }
    }

    /// Whether a signer was met before. Plans alone are no signatures, but where a platform plans its signer has been asked who it is.
    ///
    /// # Errors
    /// Where nobody knows: a record of what was shown, or the journal, that can't be read.
    pub(super) fn was_met(&mut self) -> Result<bool, KeepFault> {
        if !self.is_found {
            let data = self.config.data();
            self.is_found = is_shown(&ShownFile::by_platform(&data))?
                || is_shown(&ShownFile::by_checkpoint(&data))?
                || self.has_plan()?;
        }
        Ok(self.is_found)
    }

    fn has_plan(&mut self) -> Result<bool, KeepFault> {
        let closed = |fault: Failure| KeepFault { code: fault.code(), cause: fault.to_string().into() };
        let mut journal = open_journal_reader(&self.config).map_err(closed)?;
        first_plan(journal.as_mut(), &mut self.at)
    }
}

fn is_shown(file: &ShownFile) -> Result<bool, KeepFault> {
    let unread = |fault: ShownFault| KeepFault { code: fault.code(), cause: fault.into() };
    Ok(file.last().map_err(unread)?.is_some())
}

/// Whether a plan stands in the journal after `at`, which goes on to the last row that has none before it.
fn first_plan(journal: &mut dyn Journal, at: &mut Seq) -> Result<bool, KeepFault> {
    loop {
        let rows = journal
            .read(*at, READ_ROWS)
            .map_err(|fault| KeepFault { code: "journal_unreadable_now", cause: fault.into() })?;
        if rows.is_empty() {
            return Ok(false);
        }
        for row in &rows {
            if is_planning(row)? {
                return Ok(true);
            }
            *at = row.seq;
        }
    }
}

fn is_planning(row: &Row) -> Result<bool, KeepFault> {
    let batch =
        Batch::decode(&row.payload).map_err(|fault| KeepFault { code: "journal_unreadable", cause: fault.into() })?;
    let mut events = batch.entries.iter().flat_map(|entry| &entry.events);
    Ok(events.any(|event| matches!(event, Event::SigningRequested(_))))
}

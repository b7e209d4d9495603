//! The last row that the signer was shown from this machine, kept beside the journal and not in it: where the journal is set
//! back while the signer is away, this still says so. It is evidence for a start, and decides nothing.
//!
//! The platform and the command line have a file each, so that neither writes over the other.

use super::replace;
use florin_core::id::{Digest, Seq};
use florin_core::wire::Message;
use florin_engine::load::Place;
use florin_engine::witness::{Witness, WitnessFault};
use std::path::{Path, PathBuf};

florin_core::message! {
    /// A row of the journal that the signer was shown.
    #[derive(Copy)]
    pub struct ShownRow {
        /// Its number.
        1: seq: Seq,
        /// Its hash.
        2: hash: Digest,
    }
}

/// The record in a small file.
#[derive(Debug, Clone)]
pub struct ShownFile {
    path: PathBuf,
    name: &'static str,
}

impl ShownFile {
    /// What the platform showed the signer, in the platform's data folder.
    pub fn by_platform(data: &Path) -> ShownFile {
        ShownFile { path: data.join("signer.shown"), name: "the record of what the signer was shown" }
    }

    /// The last checkpoint that the signer signed, in the same folder.
    pub fn by_checkpoint(data: &Path) -> ShownFile {
        ShownFile { path: data.join("checkpoint.shown"), name: "the last checkpoint" }
    }

    /// The row, if one was ever shown.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn last(&self) -> std::io::Result<Option<Place>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => {
                let row = ShownRow::decode(&bytes).map_err(std::io::Error::other)?;
                Ok(Some(Place { seq: row.seq, hash: row.hash }))
            }
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Makes a row durable here that is about to be shown, unless a later one is.
    ///
    /// # Errors
    /// Faults of the file.
    pub fn raise(&self, place: Place) -> std::io::Result<()> {
        // One that can't be read is made anew: it is evidence, and what is shown now is better evidence.
        if self.last().ok().flatten().is_some_and(|last| last.seq >= place.seq) {
            return Ok(());
        }
        replace(&self.path, &ShownRow { seq: place.seq, hash: place.hash }.encode())
    }
}

impl Witness for ShownFile {
    fn name(&self) -> &'static str {
        self.name
    }

    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        self.last().map_err(|fault| WitnessFault { code: "signer_shown_unreadable", cause: fault.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_rises_and_never_falls() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = ShownFile::by_platform(folder.path());
        let place = |seq, hash| Place { seq: Seq(seq), hash: Digest([hash; 32]) };
        assert_eq!(file.last().expect("readable"), None);
        for (raised, kept) in [(place(7, 7), place(7, 7)), (place(6, 6), place(7, 7)), (place(9, 9), place(9, 9))] {
            file.raise(raised).expect("kept");
            assert_eq!(file.newest().expect("readable"), Some(kept));
        }
        std::fs::write(&file.path, b"nonsense").expect("written");
        assert_eq!(file.newest().map_err(|fault| fault.code), Err("signer_shown_unreadable"));
        file.raise(place(3, 3)).expect("kept");
        assert_eq!(file.newest().expect("readable"), Some(place(3, 3)));
    }
}

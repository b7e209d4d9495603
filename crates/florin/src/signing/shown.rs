//! The last row that the signer was shown from this machine, kept beside the journal and not in it: where the journal is set
//! back while the signer is away, this still says so. It is evidence for a start, and decides nothing.
//!
//! The platform and the command line have a file each, so that neither writes over the other.

use super::replace;
use florin_core::id::{Digest, Seq};
use florin_core::wire::Message;
use florin_engine::load::Place;
use florin_engine::witness::{Witness, WitnessFault};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
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

/// Who keeps a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Platform,
    CommandLine,
}

/// Why the record can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ShownFault {
    /// It is there and can't be read. It is replaced as a whole, so that no crash leaves it torn: somebody or the disk has
    /// damaged it, and nobody knows which row it named.
    #[error("{} can't be read", .file.path.display())]
    Unreadable {
        /// Which.
        file: ShownFile,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It can't be replaced.
    #[error("{} can't be written", .file.path.display())]
    Unwritable {
        /// Which.
        file: ShownFile,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl ShownFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            ShownFault::Unreadable { file, .. } => match file.keeper {
                Keeper::Platform => "signer_shown_unreadable",
                Keeper::CommandLine => "checkpoint_shown_unreadable",
            },
            ShownFault::Unwritable { .. } => "shown_unwritable",
        }
    }
}

/// The record in a small file.
#[derive(Debug, Clone)]
pub struct ShownFile {
    path: PathBuf,
    keeper: Keeper,
}

impl ShownFile {
    /// What the platform showed the signer, in the platform's data folder.
    pub fn by_platform(data: &Path) -> ShownFile {
        ShownFile { path: data.join("signer.shown"), keeper: Keeper::Platform }
    }

    /// The last checkpoint that the signer signed, in the same folder.
    pub fn by_checkpoint(data: &Path) -> ShownFile {
        ShownFile { path: data.join("checkpoint.shown"), keeper: Keeper::CommandLine }
    }

    /// The row, if one was ever shown.
    ///
    /// # Errors
    /// [`ShownFault::Unreadable`], also where it says what was never written.
    pub fn last(&self) -> Result<Option<Place>, ShownFault> {
        let unreadable = |cause| ShownFault::Unreadable { file: self.clone(), cause };
        match std::fs::read(&self.path) {
            Ok(bytes) => match ShownRow::decode(&bytes) {
                Ok(row) if row.seq.is_of_row() => Ok(Some(Place { seq: row.seq, hash: row.hash })),
                // Row 0 would agree with every journal, and one past the last with none.
                Ok(row) => Err(unreadable(std::io::Error::other(format!("no row has the number {}", row.seq)))),
                Err(fault) => Err(unreadable(std::io::Error::other(fault))),
            },
            Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(unreadable(fault)),
        }
    }

    /// Makes a row durable here that is about to be shown, unless a later one is.
    ///
    /// # Errors
    /// [`ShownFault`]. One that can't be read stays as it is: it may have named a later row than this one.
    pub fn raise(&self, place: Place) -> Result<(), ShownFault> {
        let is_kept = |last: Option<Place>| last.is_some_and(|last| last.seq >= place.seq);
        if !place.seq.is_of_row() || is_kept(self.last()?) {
            return Ok(());
        }
        let unwritable = |cause| ShownFault::Unwritable { file: self.clone(), cause };
        // Nobody writes an earlier row over a later one between a look and a write.
        let _turn = self.wait_for_turn().map_err(unwritable)?;
        if is_kept(self.last()?) {
            return Ok(());
        }
        let row = ShownRow { seq: place.seq, hash: place.hash };
        replace(&self.path, &row.encode()).map_err(unwritable)
    }

    /// Waits until nobody else writes; it lasts as long as the file is open, and no longer than the process.
    fn wait_for_turn(&self) -> std::io::Result<File> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".lock");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        loop {
            match file.lock() {
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                locked => return locked.map(|()| file),
            }
        }
    }
}

impl Witness for ShownFile {
    fn name(&self) -> &'static str {
        match self.keeper {
            Keeper::Platform => "the record of what the signer was shown",
            Keeper::CommandLine => "the last checkpoint",
        }
    }

    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        self.last().map_err(|fault| WitnessFault::Unreadable { code: fault.code(), cause: fault.into() })
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
    }

    #[test]
    fn many_who_raise_it_at_once_all_succeed_and_it_never_falls() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = ShownFile::by_checkpoint(folder.path());
        let place = |seq: u64| Place { seq: Seq(seq), hash: Digest([seq as u8; 32]) };
        file.raise(place(1)).expect("kept");
        let (writers, rounds) = (8, 15);
        std::thread::scope(|scope| {
            for writer in 0..writers {
                let file = &file;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let raised = place(2 + round * writers + writer);
                        file.raise(raised).expect("nobody is in another's way");
                        let stands = file.last().expect("never torn").expect("kept");
                        assert!(stands.seq >= raised.seq, "{stands:?} after {raised:?}");
                        assert_eq!(stands, place(stands.seq.0));
                    }
                });
            }
        });
        assert_eq!(file.last().expect("readable"), Some(place(1 + rounds * writers)));
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["checkpoint.shown", "checkpoint.shown.lock"], "no draft is left");
    }

    #[test]
    fn a_record_that_cant_be_read_is_neither_believed_nor_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = ShownRow { seq: Seq(7), hash: Digest([7; 32]) }.encode();
        let of = |seq| ShownRow { seq: Seq(seq), hash: Digest([7; 32]) }.encode();
        let damages = [whole[..20].to_vec(), Vec::new(), b"nonsense".to_vec(), of(0), of(1 << 63), of(u64::MAX)];
        for (mut file, code) in [
            (ShownFile::by_platform(folder.path()), "signer_shown_unreadable"),
            (ShownFile::by_checkpoint(folder.path()), "checkpoint_shown_unreadable"),
        ] {
            for damage in &damages {
                std::fs::write(&file.path, damage).expect("written");
                let fault = file.newest().expect_err("damaged");
                assert!(matches!(fault, WitnessFault::Unreadable { .. }), "{fault:?}");
                assert_eq!(fault.code(), code);
                let place = Place { seq: Seq(9), hash: Digest([9; 32]) };
                assert_eq!(file.raise(place).map_err(|fault| fault.code()), Err(code));
                assert_eq!(std::fs::read(&file.path).expect("readable"), *damage, "it is left for a person");
            }
            std::fs::write(&file.path, of(i64::MAX as u64)).expect("written");
            assert_eq!(file.newest().expect("readable").map(|place| place.seq), Some(Seq::MAX));
        }
    }
}

//! The lock of a data folder: one process at a time uses its files. It spares operators a second process started by mistake;
//! it never decides who may write, which the journal does, also where this lock was got around.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The file's name within the folder.
pub const FILE: &str = "lock";

/// The most bytes that are read of who holds the lock.
const HOLDER_BYTES_MAX: u64 = 512;

/// How often it is looked again who holds the lock, where the file names nobody or a process that is gone: then the holder
/// has just got it and is about to write its name.
const LOOKS_MAX: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A lock of the operating system on a folder's lock file, until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    // Closing the file gives the lock up. The file itself stays: removed, it would be another one that the next process locks.
    _file: File,
}

/// Who holds a lock, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process number.
    pub pid: u32,
    /// Its node's name.
    pub node: String,
}

/// Why a folder is not locked.
#[derive(Debug, thiserror::Error)]
pub enum FolderLockError {
    /// Another process holds the lock.
    #[error("{}", in_use(.0.as_ref()))]
    InUse(Option<Holder>),
    /// The lock file can't be opened or locked.
    #[error("the lock file can't be used")]
    Fault(#[source] std::io::Error),
}

impl FolderLockError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            FolderLockError::InUse(_) => "data_folder_in_use",
            FolderLockError::Fault(_) => "data_folder_unlockable",
        }
    }
}

fn in_use(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, node }) => format!("process {pid} uses it, as node '{node}'"),
        None => "another process uses it".to_owned(),
    }
}

impl FolderLock {
    /// Locks a folder for this process, which runs the node `node`. It never waits for the holder.
    ///
    /// # Errors
    /// [`FolderLockError`].
    pub fn take(folder: &Path, node: &str) -> Result<FolderLock, FolderLockError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut holder = None;
        for _ in 0..LOOKS_MAX {
            let mut file = options.open(folder.join(FILE)).map_err(FolderLockError::Fault)?;
            match file.try_lock() {
                Ok(()) => {
                    let said = format!("{}\n{node}\n", std::process::id());
                    let written = file.set_len(0).and_then(|()| file.write_all(said.as_bytes()));
                    return written.map(|()| FolderLock { _file: file }).map_err(FolderLockError::Fault);
                }
                Err(TryLockError::Error(fault)) => return Err(FolderLockError::Fault(fault)),
                Err(TryLockError::WouldBlock) => holder = read(&mut file).filter(is_alive),
            }
            if holder.is_some() {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(FolderLockError::InUse(holder))
    }
}

/// Who the file says that holds it. Whatever stands there is only shown.
fn read(file: &mut File) -> Option<Holder> {
    let mut bytes = Vec::new();
    file.take(HOLDER_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Half of a number is no number: the line has to be whole.
    let (pid, rest) = text.split_once('\n')?;
    let node = rest.lines().next().unwrap_or_default().chars().filter(|letter| !letter.is_control()).collect();
    Some(Holder { pid: pid.parse().ok()?, node })
}

/// Whether a process still runs, as far as this system tells.
fn is_alive(holder: &Holder) -> bool {
    let processes = Path::new("/proc");
    !processes.join("self").exists() || processes.join(holder.pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_who_is_named_until_it_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = FolderLock::take(folder.path(), "one").expect("nobody holds it");
        let error = FolderLock::take(folder.path(), "two").expect_err("it is held");
        assert_eq!(error.code(), "data_folder_in_use");
        assert_eq!(error.to_string(), format!("process {} uses it, as node 'one'", std::process::id()));
        drop(held);
        let held = FolderLock::take(folder.path(), "two").expect("it was let go");
        let error = FolderLock::take(folder.path(), "three").expect_err("it is held");
        assert!(error.to_string().ends_with("as node 'two'"), "{error}");
        drop(held);
    }

    #[test]
    fn what_stands_in_the_file_of_a_lock_that_is_held_is_not_believed_blindly() {
        let folder = tempfile::tempdir().expect("a folder");
        let _held = FolderLock::take(folder.path(), "one").expect("nobody holds it");
        for (text, said) in [
            ("", "another process uses it".to_owned()),
            ("12", "another process uses it".to_owned()),
            ("4294967295\nghost\n", "another process uses it".to_owned()),
            ("-1\nghost\n", "another process uses it".to_owned()),
            (
                &format!("{}\n\u{1b}[2Jx\n", std::process::id()),
                format!("process {} uses it, as node '[2Jx'", std::process::id()),
            ),
        ] {
            std::fs::write(folder.path().join(FILE), text).expect("it is ours");
            assert_eq!(FolderLock::take(folder.path(), "two").expect_err("it is held").to_string(), said, "{text:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = FolderLock::take(&folder.path().join("none"), "one").expect_err("there is none");
        assert_eq!(error.code(), "data_folder_unlockable");
    }
}

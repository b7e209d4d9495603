//! All SQL of Florin: journal, snapshots, search tables, people, what is known of the signer; SQLite and MariaDB behind one set of types.
//!
//! Nothing here decides about money, and nothing here is asynchronous: a handle blocks, and is owned by one thread.
//!
//! Faults are [`fault::StoreFault`]. One of them ends the process: after a failed write to the disk nobody can say what the
//! disk holds, so [`fail_stop::FailStop`] wraps a journal and exits instead of handing such a fault on.

pub mod archive;
pub mod conformance;
pub mod fail_stop;
pub mod fault;
pub mod folder_lock;
pub mod heartbeat;
pub mod maria;
pub mod memory;
pub mod people;
pub mod projection;
pub mod retention;
pub mod segment;
pub mod signer_record;
pub mod site;
pub mod snapshots;
pub mod sqlite;

mod database;
mod record;

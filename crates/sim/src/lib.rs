//! Seeds in, whole-platform runs out: forks, crashes, lost replies, lying nodes, failing stores; and an auditor of its own.
//!
//! Nothing links this crate. It never reads a clock or a random source: a seed is the whole of a run.

pub mod agree;
pub mod ailments;
pub mod archive;
pub mod auditor;
pub mod chaos;
pub mod coverage;
pub mod customers;
pub mod drive;
pub mod faults;
pub mod lost;
pub mod nonsense;
pub mod outside;
pub mod ports;
pub mod process;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod setup;
pub mod shrink;
pub mod signer;
pub mod thief;
pub mod world;

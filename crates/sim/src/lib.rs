//! Seeds in, whole-platform runs out: forks, crashes, lost replies, lying nodes, failing stores; and an auditor of its own.
//!
//! Nothing links this crate. It never reads a clock or a random source: a seed is the whole of a run.

pub mod actions;
pub mod auditor;
pub mod chaos;
pub mod nonsense;
pub mod ports;
pub mod process;
pub mod rng;
pub mod run;
pub mod world;

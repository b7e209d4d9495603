//! The engine: the single writer, the read model, the watchers and workers, and the ports through which they meet the world.
//!
//! Every part is a plain struct with synchronous steps over synchronous [`ports`]: the simulator drives them one by one on
//! one thread, and [`runtime`] puts the same structs on threads. Nothing here knows SQL, HTTP or a private key, and
//! nothing here decides about money: that is the core's alone.
//!
//! | question | module |
//! |---|---|
//! | who decides, and when may anyone be told | [`writer`], [`lanes`] |
//! | when does a follower take over | [`leadership`] |
//! | where does a process start | [`load`] |
//! | what does everyone else see | [`read_model`], [`snapshotter`] |
//! | what do the chains say | [`follower`] |
//! | what does the platform do by itself | [`workers`] |
//! | is the journal right | [`audit`] |
//! | is it the one that was known | [`witness`] |
//! | what was in the state once | [`unarchive`] |
//! | which panics are answered | [`caught`] |

pub mod alarm;
pub mod audit;
pub mod caught;
pub mod follower;
pub mod lanes;
pub mod leadership;
pub mod load;
pub mod ports;
pub mod read_model;
pub mod runtime;
pub mod scripts;
pub mod snapshotter;
pub mod terms;
pub mod unarchive;
pub mod witness;
pub mod workers;
pub mod writer;

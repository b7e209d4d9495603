//! Custody's rules seen from outside: every refusal and its rank, scripted scenes, and seeded random runs on a model chain whose
//! auditor computes everything from events alone. Never reaches into the crate.

// Clippy knows tests, and not the functions that they call.
#![allow(clippy::unwrap_used)]

mod auditor;
mod bounds;
mod conflicts;
mod corrections;
mod deep;
mod model;
mod random;
mod refusals;
mod scenes;
mod scenes_of_withdrawals;
mod script;
mod sightings;
mod world;

//! Every money rule of Florin: commands in, events out, state as their fold.
//!
//! ```text
//! decide(&mut state, request, now) -> events | refusal      a refusal changes nothing
//! apply(&mut state, event)                                   the only way state changes
//! ```
//!
//! This crate never does I/O, never asks a clock or a random source, never uses a float, and never iterates a hash table:
//! the same events give the same state, byte for byte, on every machine.

pub mod amount;
pub mod asset;
pub mod broker;
pub mod command;
pub mod custody;
pub mod decide;
pub mod event;
pub mod hex;
pub mod id;
mod index;
pub mod journal;
pub mod ledger;
pub mod snapshot;
pub mod state;
pub mod wire;

//! The Bitcoin family: every rule that needs no node and no clock; it must never perform I/O or hold money state.
//!
//! | question | module |
//! |---|---|
//! | derive | [`mnemonic`], [`keys`], [`descriptor`], [`mod@derive`] |
//! | address | [`address`] |
//! | scan | [`scan`], [`watch`] |
//! | plan | [`plan`], [`weight`], [`psbt`], [`sign`] |
//! | decode | [`check`], [`verify`] |
//! | finality | [`header`] |

pub mod address;
pub mod check;
pub mod derive;
pub mod descriptor;
mod hash;
pub mod header;
pub mod keys;
pub mod mnemonic;
pub mod network;
pub mod plan;
pub mod psbt;
pub mod scan;
pub mod sign;
pub mod verify;
pub mod watch;
pub mod weight;

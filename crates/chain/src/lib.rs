//! What chains are: keys, descriptors, addresses, headers, blocks, plans and their checks.
//!
//! This crate is pure: it does no I/O and reads no clock and no source of randomness. Entropy, random draws, times and
//! what a node said are arguments. A chain family is one module that answers the same six questions: how keys are
//! derived, how addresses are written, what a block means for a set of watched scripts, how a payment is planned, how a
//! signer reads a transaction by itself, and when something is final. [`bitcoin`] is the first; others sit beside it.

pub mod bitcoin;

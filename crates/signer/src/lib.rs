//! Keys and signatures: key store, policy, intents, approvals, durable memory; it must never serve HTTP or follow a chain.
//!
//! The signer is a process of its own, under another user or on another machine. What asks it for signatures is not
//! trusted: the signer decodes each transaction by itself, holds it against intents, its own policy and its own memory,
//! and answers with the signed bytes or with one typed refusal. **An engine wholly in an attacker's hands gets at most
//! the automatic limits of the policy.**
//!
//! | question | module |
//! |---|---|
//! | where randomness comes from | [`entropy`] |
//! | how secrets lie on disk | [`sealed`], [`keystore`] |
//! | how they leave memory | [`stack`], and wiping when dropped |
//! | what may be signed | [`policy`], [`refusal`] |
//! | what was signed | [`memory`] |
//! | what is asked and answered | [`protocol`], [`session`], [`judge`], [`spend`] |
//! | how people approve | [`approve`] |
//! | how it is reached, and by whom | [`server`], [`client`], [`peer`] |

pub mod approve;
pub mod client;
pub mod entropy;
pub mod judge;
pub mod keystore;
pub mod memory;
pub mod peer;
pub mod policy;
pub mod protocol;
pub mod refusal;
pub mod sealed;
pub mod server;
pub mod session;
pub mod spend;
pub mod stack;

//! Nodes: how the engine's port to a chain is served by a real node's interface.

pub mod bitcoind;
pub mod rpc;

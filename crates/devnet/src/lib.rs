//! Owns a Bitcoin network in process: nodes that check everything alone, a miner, forks and faults, and the nodes' own JSON-RPC.
//! Must never use the platform's code: it judges what the platform makes.

pub mod bitcoind;
pub mod checks;
pub mod coins;
pub mod fault;
pub mod fees;
pub mod http;
pub mod mempool;
pub mod miner;
pub mod network;
pub mod node;
pub mod outside;
pub mod params;
pub mod policy;
pub mod reject;
pub mod rpc;
pub mod script;
pub mod tree;

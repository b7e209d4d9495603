//! The HTTP interface and the command line, held against a whole platform in process: SQLite files in a folder of its own, one node that never answers. Blocks are told to the engine directly: what the nodes say is others' business, but for plans, which need a signer and a chain that forks.

mod approvals;
mod assets;
mod chain;
mod cli;
mod connections;
mod documents;
mod edges;
mod forged;
mod forgotten;
mod leadership;
mod names;
mod pages;
mod panics;
mod plans;
mod prune;
mod refusals;
mod rollback;
mod routes;
mod signer;
mod support;
mod verify;
mod waiting;
mod wallets;

//! The platform as one program: configuration, stores, nodes, signer and engine put together, the HTTP interface, and the command line.
//!
//! This crate decides nothing about money: it carries requests to the engine and answers back.

pub mod api;
pub mod approve;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod failure;
mod log;
pub mod node;
pub mod panics;
pub mod platform;
pub mod secret;
mod signals;
pub mod signer;
pub mod signing;
pub mod terminal;

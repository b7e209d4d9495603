//! The core's rules seen from outside: every refusal and its rank, what each decision books, and that folding a decision's
//! events gives the state that deciding gave. Never reaches into the crate.

mod admin;
mod broker;
mod codes;
mod correction;
mod fold;
mod golden;
mod holds;
mod ids;
mod ledger;
mod origin;
mod samples;
mod schema;
mod story;
mod time;
mod wire;
mod world;

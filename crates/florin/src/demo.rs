//! The demo: the whole platform on a network in process, and a visible story from a fresh seed to a confirmed withdrawal.

pub mod stage;
pub mod story;
pub mod world;

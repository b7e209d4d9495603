//! Where a process dies: before or after an effect, at a moment drawn from the seed. After the moment nothing that the dying process asks for happens any more.
//!
//! These are the effects of what a seed steps: the writer, the workers and what they keep. The others belong to threads of the
//! running platform that follow the machine's clock, which no seed can step: the search tables, the signs of life, and the files
//! themselves (of rows, snapshots, and what is known of the signer), which can be torn in themselves. Among them is the record of
//! the last row that the signer was shown: it has no port, and is written just before a question to the signer. The kill tests of
//! `florin` end whole processes in all of these.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// On which side of an effect a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The effect has not happened.
    Before,
    /// The effect has happened, and nobody in the process knows.
    After,
}

#[derive(Debug, Default)]
struct State {
    /// How many more edges the process survives; `None`: all.
    countdown: Option<u64>,
    /// An edge that it does not survive.
    fatal: Option<(&'static str, Edge)>,
    is_dead: bool,
}

/// The effects of a process, at the edges of which it may die.
pub const EFFECTS: [&str; 6] = ["append", "node call", "past", "signer call", "signer head", "snapshot"];

/// One process' fate, shared by all its ports; and how all processes of the run died.
#[derive(Debug, Clone, Default)]
pub struct Chaos {
    state: Arc<Mutex<State>>,
    strikes: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Chaos {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process dies at the `edges`-th edge from now, counted from 0.
    pub fn arm(&self, edges: u64) {
        self.lock().countdown = Some(edges);
    }

    /// The process dies at the next such edge.
    pub fn arm_at(&self, effect: &'static str, edge: Edge) {
        self.lock().fatal = Some((effect, edge));
    }

    /// The process lives on.
    pub fn disarm(&self) {
        let mut state = self.lock();
        (state.countdown, state.fatal) = (None, None);
    }

    /// Whether the process is dead.
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// The fate of a new process.
    #[must_use]
    pub fn of_another(&self) -> Chaos {
        Chaos { state: Arc::default(), strikes: self.strikes.clone() }
    }

    /// A fault strikes: what was prepared happens to whoever is in its way.
    pub fn strike(&self, what: impl Into<String>) {
        *self.strikes.lock().unwrap_or_else(PoisonError::into_inner).entry(what.into()).or_default() += 1;
    }

    /// How often processes died, by effect and edge, and how often other faults struck them.
    pub fn strikes(&self) -> BTreeMap<String, u64> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An effect is about to happen, or has happened: says whether the process lives.
    pub fn pass(&self, effect: &str, edge: Edge) -> bool {
        let mut state = self.lock();
        if state.is_dead {
            return false;
        }
        let is_fatal = state.fatal == Some((effect, edge));
        match state.countdown {
            _ if is_fatal => {
                state.is_dead = true;
                self.note(effect, edge);
                false
            }
            Some(0) => {
                state.countdown = None;
                state.is_dead = true;
                self.note(effect, edge);
                false
            }
            Some(edges) => {
                state.countdown = Some(edges - 1);
                true
            }
            None => true,
        }
    }

    fn note(&self, effect: &str, edge: Edge) {
        self.strike(format!("crash {edge:?} {effect}").to_lowercase());
    }
}

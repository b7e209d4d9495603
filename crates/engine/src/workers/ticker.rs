//! Makes time pass in the journal. It says that time passed, never what follows from it.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::lanes::Ask;
use florin_core::command::Command;

/// Asks for a tick when the last one is old enough.
#[derive(Debug)]
pub struct Ticker {
    tick_ms: u64,
    alarms: Alarms,
}

impl Ticker {
    /// A ticker that ticks every `tick_ms` milliseconds of the machine's clock.
    pub fn new(tick_ms: u64) -> Ticker {
        Ticker { tick_ms, alarms: Alarms::default() }
    }
}

impl Worker for Ticker {
    fn name(&self) -> &'static str {
        "ticker"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        let counters = see(view, |model| model.state().counters().clone());
        self.alarms.settle();
        if let Some(to) = counters.jumped_to {
            let detail = format!("the clock jumped to {}; an operator has to confirm it", to.0);
            self.alarms.say(now_ms, "clock_jumped", "clock", detail);
        }
        let is_due = now_ms.saturating_sub(counters.ticked.0) >= self.tick_ms;
        if is_due && counters.jumped_to.is_none() { vec![Ask::internal(Command::Tick)] } else { Vec::new() }
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}

//! Takes prices from their source into the journal. It never makes one up: without a source, prices grow old and quotes stop.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::lanes::Ask;
use crate::ports::Prices;
use florin_core::command::Command;

/// Sets the prices that have changed.
pub struct Pricing {
    source: Box<dyn Prices>,
    alarms: Alarms,
}

impl std::fmt::Debug for Pricing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Pricing({} alarms)", self.alarms.all().len())
    }
}

impl Pricing {
    /// A worker that has asked for nothing yet.
    pub fn new(source: Box<dyn Prices>) -> Pricing {
        Pricing { source, alarms: Alarms::default() }
    }
}

impl Worker for Pricing {
    fn name(&self) -> &'static str {
        "pricing"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        self.alarms.settle();
        let prices = match self.source.newest() {
            Ok(prices) => prices,
            Err(fault) => {
                self.alarms.say(now_ms, "prices_unreachable", "prices", &fault);
                return Vec::new();
            }
        };
        see(view, |model| {
            let known = model.state().prices();
            let new = prices.into_iter().filter(|price| known.get(&price.pair) != Some(price));
            new.map(|price| Ask::internal(Command::SetPrice(price))).collect()
        })
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}

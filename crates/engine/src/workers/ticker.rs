//! Makes time pass in the journal. It says that time passed, never what follows from it.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::lanes::Ask;
use florin_core::command::{Command, TIME_JUMP_MAX_MS};
use florin_core::id::LedgerTime;

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
        if counters.jumped_to.is_some() {
            return Vec::new();
        }
        let passed_ms = now_ms.saturating_sub(counters.ticked.0);
        if counters.ticked != LedgerTime(0) && passed_ms > TIME_JUMP_MAX_MS {
            // No row is stamped with such a time, so a tick would not see it.
            return vec![Ask::internal(Command::SeeClock { clock: LedgerTime(now_ms) })];
        }
        if passed_ms >= self.tick_ms { vec![Ask::internal(Command::Tick)] } else { Vec::new() }
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Loaded, Place};
    use crate::read_model::ReadModel;
    use florin_core::command::{Origin, Request};
    use florin_core::event::{Event, Ticked};
    use florin_core::state::State;

    fn model(events: &[Event]) -> ReadModel {
        let mut state = State::default();
        events.iter().for_each(|event| state.apply(event));
        ReadModel::new(Loaded { state, place: Place::START })
    }

    #[test]
    fn a_clock_within_a_minute_of_the_last_tick_ticks_and_one_beyond_is_only_noted() {
        let mut ticker = Ticker::new(1_000);
        let model = model(&[Event::Ticked(Ticked { until: LedgerTime(5_000) })]);
        let mut step = |now_ms| ticker.step(&model, now_ms);
        let ask = |command| vec![Ask::Request(Request { origin: Origin::Internal, command })];
        assert_eq!(step(4_000), []);
        assert_eq!(step(5_999), []);
        assert_eq!(step(6_000), ask(Command::Tick));
        assert_eq!(step(5_000 + TIME_JUMP_MAX_MS), ask(Command::Tick));
        let clock = LedgerTime(5_001 + TIME_JUMP_MAX_MS);
        assert_eq!(step(clock.0), ask(Command::SeeClock { clock }));
    }

    #[test]
    fn a_jump_that_waits_for_an_operator_is_shown_and_not_asked_again() {
        let mut ticker = Ticker::new(1_000);
        let jumped =
            florin_core::event::TimeJumped { from: LedgerTime(5_000), to: LedgerTime(6_001 + TIME_JUMP_MAX_MS) };
        let model = model(&[Event::Ticked(Ticked { until: LedgerTime(5_000) }), Event::TimeJumped(jumped)]);
        assert_eq!(ticker.step(&model, 6_002 + TIME_JUMP_MAX_MS), []);
        assert_eq!(ticker.alarms().iter().map(|alarm| alarm.code).collect::<Vec<_>>(), ["clock_jumped"]);
    }
}

//! Makes time pass in the journal. It says that time passed, never what follows from it.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::lanes::Ask;
use florin_core::command::Command;
use florin_core::id::LedgerTime;
use florin_core::state::ClockDoubt;

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
        let clock = LedgerTime(now_ms);
        let (ticked, to, noted, is_news) = see(view, |model| {
            let (state, counters) = (model.state(), model.state().counters());
            (counters.ticked, counters.jumped_to, state.clock_noted(), state.is_clock_news(clock))
        });
        self.alarms.settle();
        if let (Some(to), Some(noted)) = (to, noted) {
            let detail = match noted {
                ClockDoubt::Ahead => format!("the clock jumped to {}; an operator has to confirm it", to.0),
                ClockDoubt::Behind => {
                    format!("the clock went back to {}; nothing goes on before it shows {} again", to.0, ticked.0)
                }
            };
            self.alarms.say(now_ms, "clock_jumped", "clock", detail);
        }
        let has_caught_up = noted == Some(ClockDoubt::Behind) && clock >= ticked;
        if is_news || has_caught_up {
            // No row is stamped with a time that is not followed, so a tick would not see it.
            return vec![Ask::internal(Command::SeeClock { clock })];
        }
        if noted.is_some() {
            return Vec::new();
        }
        let passed_ms = now_ms.saturating_sub(ticked.0);
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
    use florin_core::command::TIME_JUMP_MAX_MS;
    use florin_core::command::{Origin, Request};
    use florin_core::event::{Event, Ticked};
    use florin_core::state::State;

    fn model(events: &[Event]) -> ReadModel {
        let mut state = State::default();
        events.iter().for_each(|event| state.apply(event));
        ReadModel::new(Loaded { state, place: Place::START })
    }

    const TICKED: u64 = 1_700_000_000_000;

    fn ask(command: Command) -> Vec<Ask> {
        vec![Ask::Request(Request { origin: Origin::Internal, command })]
    }

    #[test]
    fn a_clock_within_a_minute_of_the_last_tick_ticks_and_one_beyond_is_only_noted() {
        let mut ticker = Ticker::new(1_000);
        let model = model(&[Event::Ticked(Ticked { until: LedgerTime(TICKED) })]);
        let mut step = |now_ms| ticker.step(&model, now_ms);
        assert_eq!(step(TICKED - TIME_JUMP_MAX_MS), []);
        assert_eq!(step(TICKED + 999), []);
        assert_eq!(step(TICKED + 1_000), ask(Command::Tick));
        assert_eq!(step(TICKED + TIME_JUMP_MAX_MS), ask(Command::Tick));
        for clock in [TICKED + TIME_JUMP_MAX_MS + 1, TICKED - TIME_JUMP_MAX_MS - 1].map(LedgerTime) {
            assert_eq!(step(clock.0), ask(Command::SeeClock { clock }));
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_shown_until_it_has_caught_up() {
        let mut ticker = Ticker::new(1_000);
        let (from, to) = (LedgerTime(TICKED), LedgerTime(TICKED - TIME_JUMP_MAX_MS - 1));
        let jumped = florin_core::event::TimeJumped { from, to };
        let model = model(&[Event::Ticked(Ticked { until: from }), Event::TimeJumped(jumped)]);
        for now_ms in [to.0, TICKED - 1] {
            assert_eq!(ticker.step(&model, now_ms), []);
            assert_eq!(ticker.alarms().iter().map(|alarm| alarm.code).collect::<Vec<_>>(), ["clock_jumped"]);
        }
        for clock in [from, from.plus_ms(TIME_JUMP_MAX_MS + 1)] {
            assert_eq!(ticker.step(&model, clock.0), ask(Command::SeeClock { clock }));
        }
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

//! Makes a failing run small: the fewest steps, of the fewest kinds, after which the same thing is still wrong. It judges nothing itself; it only runs again.

use crate::run::{Invariant, Report, run};
use crate::schedule::{Kind, Schedule};
use std::collections::BTreeSet;

/// Runs after which shrinking ends with what it has: some minutes.
pub const RUNS_MAX: usize = 300;

/// What a failure is known by: its sentence without the numbers in it, and whether it came only when all faults were off.
fn sort_of(report: &Report) -> Option<String> {
    let wrong = report.wrong.as_ref()?;
    let words = wrong.what.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|word| word.len() > 2);
    // Hashes in hexadecimal and the like differ from run to run.
    let words: Vec<&str> = words.filter(|word| !word.bytes().all(|byte| byte.is_ascii_hexdigit())).take(6).collect();
    Some(words.join(" "))
}

struct Shrinking {
    wanted: String,
    best: Report,
    extra: Option<Invariant>,
    runs_left: usize,
}

impl Shrinking {
    /// Whether a smaller schedule fails in the same way; then it is the best one from now on.
    fn fails(&mut self, schedule: Schedule) -> bool {
        if self.runs_left == 0 {
            return false;
        }
        self.runs_left -= 1;
        let report = run(&schedule, self.extra);
        let is_same = sort_of(&report).as_deref() == Some(self.wanted.as_str());
        if is_same {
            self.best = report;
        }
        is_same
    }

    fn steps(&self) -> Vec<u64> {
        let schedule = &self.best.schedule;
        match &schedule.only {
            Some(only) => only.iter().copied().collect(),
            None => (1..=schedule.actions).collect(),
        }
    }

    fn with_steps(&self, steps: &[u64]) -> Schedule {
        Schedule { only: Some(steps.iter().copied().collect()), ..self.best.schedule.clone() }
    }

    /// Nothing after the step that failed is needed.
    fn cut_the_end(&mut self) {
        let at = self.best.wrong.as_ref().map_or(u64::MAX, |wrong| wrong.step);
        let kept: Vec<u64> = self.steps().into_iter().filter(|step| *step <= at).collect();
        let schedule = self.with_steps(&kept);
        self.fails(schedule);
    }

    /// Whole kinds of actions, the rarest first.
    fn leave_kinds_out(&mut self) {
        let mut kinds: Vec<Kind> = Kind::ALL.to_vec();
        kinds.sort_by_key(|kind| kind.weight());
        for kind in kinds {
            let mut schedule = self.best.schedule.clone();
            schedule.without.insert(kind);
            self.fails(schedule);
        }
    }

    /// Parts of the steps, halves first, then ever smaller ones (delta debugging, Zeller and Hildebrandt 2002).
    fn leave_steps_out(&mut self) {
        let mut size = self.steps().len().div_ceil(2);
        while size > 0 && self.runs_left > 0 {
            let mut at = 0;
            while at < self.steps().len() && self.runs_left > 0 {
                let steps = self.steps();
                let end = (at + size).min(steps.len());
                let rest: Vec<u64> = steps[..at].iter().chain(&steps[end..]).copied().collect();
                let schedule = self.with_steps(&rest);
                if !self.fails(schedule) {
                    at = end;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Steps of kinds that are left out need not be named.
    fn drop_idle_steps(&mut self) {
        let schedule = &self.best.schedule;
        let is_done = |step: &u64| {
            let kind = Kind::draw(&mut crate::rng::Rng::of_step(schedule.seed, *step));
            !schedule.without.contains(&kind)
        };
        let kept: Vec<u64> = self.steps().into_iter().filter(is_done).collect();
        let schedule = self.with_steps(&kept);
        self.fails(schedule);
    }
}

/// The smallest run found that fails as `report` does; the report itself where it does not fail.
pub fn shrink(report: &Report, extra: Option<Invariant>, runs_max: usize) -> Report {
    let Some(wanted) = sort_of(report) else { return report.clone() };
    let mut shrinking = Shrinking { wanted, best: report.clone(), extra, runs_left: runs_max };
    shrinking.cut_the_end();
    shrinking.leave_kinds_out();
    shrinking.drop_idle_steps();
    shrinking.leave_steps_out();
    shrinking.best
}

/// The steps of a schedule with their kinds, for people.
pub fn story(schedule: &Schedule) -> Vec<(u64, Kind)> {
    let steps: BTreeSet<u64> = match &schedule.only {
        Some(only) => only.clone(),
        None => (1..=schedule.actions).collect(),
    };
    let kind = |step: &u64| (*step, Kind::draw(&mut crate::rng::Rng::of_step(schedule.seed, *step)));
    steps.iter().map(kind).filter(|(_, kind)| !schedule.without.contains(kind)).collect()
}

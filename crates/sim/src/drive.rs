//! Drives the process that acts: starts it, gives it turns, buries it, lets another take over. Never decides anything itself.

use crate::ports::lock;
use crate::process::Process;
use crate::setup;
use crate::world::{Sent, World};
use florin_core::command::{Command, Origin, Request};
use florin_engine::lanes::Ask;
use florin_engine::load::LoadError;
use florin_engine::writer::{Answer, Appended, Role};

/// Turns after which a process that can work has done what waited.
const TURNS_MAX: usize = 12;

impl World {
    /// Starts a process, unless the journal can't be read now.
    ///
    /// # Errors
    /// Where it does not start for another reason, or starts without what was acknowledged.
    pub fn start(&mut self) -> Result<(), String> {
        self.chaos = self.chaos.of_another();
        self.signer.chaos = self.chaos.clone();
        self.snapshots.chaos = self.chaos.clone();
        let workers = setup::workers(self);
        let (journal, snapshots, clock) = (self.journal(), self.snapshots.clone(), self.clock.clone());
        let number = self.processes + 1;
        let is_spoilt = self.snapshots.is_spoilt();
        match Process::start(number, self.writer_config(), journal, snapshots, workers, clock) {
            Ok(process) if process.model().at().0 < self.acknowledged => {
                let at = process.model().at();
                Err(format!("row {} was acknowledged, and a process starts at {at}", self.acknowledged))
            }
            Ok(process) => {
                self.processes = number;
                self.process = Some(process);
                if is_spoilt {
                    self.count("fault snapshot spoilt");
                }
                self.count(if number == 1 { "start" } else { "restart after a crash" });
                Ok(())
            }
            Err(LoadError::Read(_)) if self.is_unreadable => {
                self.count("start refused: the journal can't be read");
                Ok(())
            }
            Err(fault) => Err(format!("the platform does not start: {fault}")),
        }
    }

    /// A second process starts while the first believes that it leads.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn start_rival(&mut self) -> Result<(), String> {
        let Some(first) = self.process.take() else { return Ok(()) };
        self.start()?;
        if self.process.is_some() {
            self.count("fault second writer");
            self.rival = Some(first);
        } else {
            self.act_as(first);
        }
        Ok(())
    }

    fn act_as(&mut self, process: Process) {
        self.chaos = process.chaos.clone();
        self.signer.chaos = self.chaos.clone();
        self.snapshots.chaos = self.chaos.clone();
        self.process = Some(process);
    }

    /// The other process acts for a while.
    pub fn swap_writers(&mut self) {
        let Some(rival) = self.rival.take() else { return };
        self.rival = self.process.take();
        self.act_as(rival);
    }

    /// The other process dies.
    pub fn end_rival(&mut self) {
        if let Some(rival) = self.rival.take() {
            self.forget(rival.number);
        }
    }

    /// The process that acts dies: what waited in it is gone, and whoever sent it does not know what became of it. Another
    /// that still runs acts from now on.
    pub fn crash(&mut self) {
        if let Some(process) = self.process.take() {
            self.forget(process.number);
            self.count("fault crash");
        }
        if let Some(rival) = self.rival.take() {
            self.act_as(rival);
        }
    }

    fn forget(&mut self, number: u64) {
        let (of_it, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, (process, _))| *process == number);
        self.waiting = others.into_iter().collect();
        self.again.extend(of_it.into_iter().map(|(_, (_, sent))| sent));
    }

    /// A process whose moment has come is gone.
    ///
    /// # Errors
    /// What the auditor finds in what it left behind.
    pub fn bury(&mut self) -> Result<(), String> {
        if self.chaos.is_dead() {
            self.crash();
            self.audit()?;
        }
        Ok(())
    }

    /// One turn of the process: decide, append, fold.
    ///
    /// # Errors
    /// What is wrong.
    pub fn turn(&mut self) -> Result<(), String> {
        let now_ms = self.now_ms();
        let Some(process) = &mut self.process else { return Ok(()) };
        let led = process.writer().role() == Role::Leading;
        process.decide(now_ms);
        process.send_row();
        // What is decided while a row is in flight goes into the next one.
        process.decide(now_ms);
        let fate = process.settle();
        let head = self.rows.rows().last().map(|row| row.epoch);
        if fate == Some(Appended::Fenced) && led && head.is_some_and(|head| head > process.epoch()) {
            self.count("fault second writer noticed");
        }
        self.bury()?;
        self.take_answers()?;
        self.mend(now_ms)?;
        self.bury()
    }

    /// What a process does for itself between two rows: recovers, leads again, writes a snapshot.
    fn mend(&mut self, now_ms: u64) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if process.recover()? {
            self.count("recovered from a panic");
        } else if process.writer().role() == Role::Following {
            match process.lead_again(now_ms) {
                Ok(()) => self.count("led again"),
                Err(LoadError::Read(_)) if self.is_unreadable => self.count("not led: the journal can't be read"),
                Err(fault) => return Err(format!("the journal does not fold: {fault}")),
            }
        } else {
            process.snapshot(now_ms);
        }
        Ok(())
    }

    /// One step of a worker; the follower, which has the most to do, in half of all cases.
    ///
    /// # Errors
    /// What is wrong.
    pub fn step_worker(&mut self) -> Result<(), String> {
        let count = self.process.as_ref().map_or(0, |process| process.workers().len());
        if count == 0 {
            return Ok(());
        }
        let index = if self.rng.chance(50) { 0 } else { self.rng.below(count as u64) as usize };
        self.step_worker_at(index)
    }

    /// One step of the worker at a place.
    ///
    /// # Errors
    /// What is wrong.
    pub fn step_worker_at(&mut self, index: usize) -> Result<(), String> {
        let now_ms = self.now_ms();
        if let Some(process) = &mut self.process {
            lock(&self.node_faults).told.clear();
            process.step_worker(index, now_ms);
            if let Some(found) = process.contradiction(index) {
                return Err(format!("the journal was never set back, and a worker says: {found}"));
            }
            if process.workers()[index].alarms().iter().any(|alarm| alarm.code == "withdrawal_goes_first") {
                self.count("a withdrawal is not overtaken");
            }
        }
        self.hold_names(index)?;
        let struck = std::mem::take(&mut *lock(&self.signer.struck));
        for what in struck {
            self.count(what);
            if what.starts_with("fault signer dies") {
                self.count("restart of the signer");
            }
        }
        let refused = std::mem::take(&mut *lock(&self.signer.refused));
        for code in refused {
            self.count("fault signer refuses");
            self.count(format!("signer refused {code}"));
        }
        self.bury()
    }

    /// Gives turns until nothing waits; says whether that came.
    ///
    /// # Errors
    /// What is wrong.
    pub fn rest(&mut self) -> Result<bool, String> {
        let now_ms = self.now_ms();
        // A jump of the clock that no row tells of is work, too.
        let is_idle = |process: &Process| {
            let writer = process.writer();
            writer.role() == Role::Leading && process.is_idle() && !writer.doubts_clock(now_ms)
        };
        for _ in 0..TURNS_MAX {
            if self.process.as_ref().is_none_or(is_idle) {
                break;
            }
            self.turn()?;
        }
        Ok(self.process.as_ref().is_some_and(is_idle))
    }

    /// Asks as somebody who waits for the answer; `None` where it did not come.
    ///
    /// # Errors
    /// What is wrong.
    pub fn ask_and_wait(&mut self, ask: Ask) -> Result<Option<Answer>, String> {
        let id = match ask.origin() {
            Origin::Request { id, .. } => Some(*id),
            Origin::Session { .. } | Origin::Internal => None,
        };
        let Some(ticket) = self.send(Sent { ask, id }) else { return Ok(None) };
        // Something that is no answer, until there is one.
        self.awaited.insert(ticket, Answer::NotCommitted);
        for _ in 0..TURNS_MAX {
            self.turn()?;
            if !self.waiting.contains_key(&ticket) {
                break;
            }
        }
        Ok(self.awaited.remove(&ticket).filter(|answer| *answer != Answer::NotCommitted))
    }

    /// A command as somebody outside sends it, with a fresh id.
    pub fn request(&mut self, command: Command) -> Ask {
        let (id, request) = self.new_id();
        Ask::Request(Request { origin: Origin::Request { id, request }, command })
    }

    /// Waits for a command of an operator.
    ///
    /// # Errors
    /// What is wrong.
    pub fn command_and_wait(&mut self, command: Command) -> Result<Option<Answer>, String> {
        let ask = self.request(command);
        self.ask_and_wait(ask)
    }

    /// Asks in a moment of rest for something that must be refused and change nothing.
    ///
    /// # Errors
    /// Where it is not refused, or changes something.
    pub fn refuse(&mut self, ask: Ask) -> Result<(), String> {
        if !self.rest()? {
            return Ok(());
        }
        let now_ms = self.now_ms();
        let Some(process) = &mut self.process else { return Ok(()) };
        let before = process.writer().durable();
        let Some((answer, is_unchanged)) = process.probe(ask.clone(), now_ms) else { return Ok(()) };
        let is_same_row = process.writer().durable() == before;
        self.count_answer(&answer);
        match answer {
            Answer::Refused(_) if is_unchanged && is_same_row => Ok(()),
            Answer::Refused(refusal) => Err(format!("a command refused with '{refusal}' changed something: {ask:?}")),
            Answer::Quarantined => self.mend(now_ms),
            answer => Err(format!("a command that must be refused was answered with {answer:?}: {ask:?}")),
        }
    }
}

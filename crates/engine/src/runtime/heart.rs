//! The leader's signs of life, and the look-out for those of others. One thread alone ever waits for their store, so that a
//! store that hangs costs account reads and nothing else. It never decides who leads, and never touches the journal's rows.

use super::{Shared, lock};
use crate::alarm::Alarm;
use crate::leadership::{Chance, JournalSight, Moment, Patience, Watch};
use crate::load::READ_ROWS_MAX;
use crate::ports::{Beat, BeatAnswer, Heartbeat, HeartbeatFault};
use florin_core::id::{Epoch, Seq};
use florin_core::journal::ReadError;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The signs of life of a platform whose journal several processes may write.
pub struct HeartbeatPart {
    /// Where they are.
    pub store: Box<dyn Heartbeat>,
    /// Where callers reach this process; followers tell it.
    pub url: Option<String>,
    /// How often a leader leaves one and a follower looks, in milliseconds.
    pub beat_ms: u64,
    /// How long they must stand still, and the journal with them, before a follower tries to lead, in milliseconds. More
    /// than `confirmed_ms`, by more than two steady clocks drift apart in that time.
    pub still_ms: u64,
    /// How old a confirmation may be for account reads to be answered, in milliseconds.
    pub confirmed_ms: u64,
}

/// How sure a process is that it knows the newest rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certainty {
    /// Whether it is sure enough to say what customers have.
    pub is_current: bool,
    /// For how long it has not been confirmed; `None` where it never was, or where no signs of life are kept.
    pub age: Option<Duration>,
}

/// How the writer's thread stands, as far as signs of life are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Follows,
    Leads(Epoch),
}

/// What the threads say to each other about leadership.
pub(super) struct Heart {
    /// How long the journal must be quiet before this process tries to lead; `None`: it never does.
    quiet: Option<Duration>,
    /// `None` where no signs of life are kept.
    limits: Option<Limits>,
    part: Part,
    /// When it was last certain that no row was missing here: a leader's sign of life was confirmed, or a follower read the
    /// journal to its end.
    confirmed: Option<Moment>,
    /// A newer epoch than ours that stands in the journal.
    superseded: Option<Epoch>,
    watch: Watch,
    /// The leadership that is to be claimed.
    wanted: Option<Claim>,
    /// Since when, by the steady clock, the store is being asked.
    asking: Option<Duration>,
    /// The leadership that was claimed, and when.
    claimed: Option<(Epoch, Moment)>,
    /// The last fault, and since when, in Unix milliseconds, there is nothing else.
    fault: Option<(&'static str, u64)>,
    /// Whether there is something to do before the cadence says so.
    is_due: bool,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    patience: Patience,
    confirmed: Duration,
}

/// How the thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is durable and nothing more is appended: others need not wait.
    Release,
    /// Something may be under way: others wait as after a crash.
    Leave,
}

impl Heart {
    /// Begins as a follower that began to read the journal at `began`.
    pub(super) fn new(part: Option<&HeartbeatPart>, quiet_ms: Option<u64>, began: Moment) -> Heart {
        let quiet = quiet_ms.map(Duration::from_millis);
        let limits = |part: &HeartbeatPart| Limits {
            patience: Patience { still: Duration::from_millis(part.still_ms), quiet: quiet.unwrap_or(Duration::MAX) },
            confirmed: Duration::from_millis(part.confirmed_ms),
        };
        Heart {
            quiet,
            limits: part.map(limits),
            part: Part::Follows,
            confirmed: Some(began),
            superseded: None,
            watch: Watch::default(),
            wanted: None,
            asking: None,
            claimed: None,
            fault: None,
            is_due: false,
            end: None,
        }
    }

    /// How sure this process is, at `now`.
    pub(super) fn certainty(&self, now: Moment) -> Certainty {
        let age = self.confirmed.map(|confirmed| confirmed.age(now));
        let is_current = self.limits.is_none_or(|limits| age.is_some_and(|age| age <= limits.confirmed));
        Certainty { is_current, age }
    }

    /// The writer leads, by a row that was made at `took`.
    pub(super) fn leads(&mut self, epoch: Epoch, took: Option<Moment>) {
        self.turn(Part::Leads(epoch));
        // Whoever leads by another row waits longer after this one than it counts here.
        self.confirmed = took;
        self.is_due = true;
    }

    /// The writer was told that it leads no more.
    pub(super) fn follows(&mut self) {
        self.turn(Part::Follows);
        self.confirmed = None;
    }

    fn turn(&mut self, part: Part) {
        self.part = part;
        self.superseded = None;
        self.watch = Watch::default();
        (self.wanted, self.claimed) = (None, None);
    }

    /// A follower that began at `began` has read the journal to its end.
    pub(super) fn has_followed(&mut self, began: Moment) {
        if self.part == Part::Follows && self.end.is_none() {
            self.confirmed = Some(began);
        }
    }

    /// Whether a newer epoch than that of the writer, which leads, stands in the journal.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.is_some()
    }

    /// Whether a follower may try to lead now. Where the signs of life can be written, it claims the lead there first: an
    /// old leader that wakes up learns of it before the first row that it does not know.
    pub(super) fn may_lead(&mut self, journal: JournalSight, now: Moment) -> bool {
        let Some(quiet) = self.quiet else { return false };
        let Some(Limits { patience, .. }) = self.limits else { return journal.quiet >= quiet };
        let next = Epoch(journal.epoch.0 + 1);
        if let Some((epoch, claimed)) = self.claimed.take()
            && epoch == next
            && claimed.age(now) < patience.still / 2
        {
            tracing::info!(epoch = next.0, "this node takes the lead that it has claimed");
            return true;
        }
        if self.asking.is_some_and(|since| now.steady.saturating_sub(since) >= patience.still) {
            // A store that hangs says no more than one that fails.
            self.watch.failed();
        }
        match self.watch.chance(journal, patience, now.steady) {
            None => {
                self.wanted = None;
                false
            }
            Some(Chance::Quiet) => {
                tracing::info!(epoch = next.0, "the journal is quiet; this node tries to lead");
                true
            }
            Some(chance) => {
                let wanted = Claim { epoch: next, seen: self.watch.beat().cloned() };
                if self.wanted.as_ref() != Some(&wanted) {
                    tracing::info!(epoch = next.0, ?chance, "this node claims the lead");
                }
                self.wanted = Some(wanted);
                self.is_due = true;
                false
            }
        }
    }

    /// Whether an attempt to lead that began at `began` took so long that what it rests on may not hold any more: half of
    /// the time that others wait before they replace a claim.
    pub(super) fn is_late(&self, began: Moment, now: Moment) -> bool {
        self.limits.is_some_and(|limits| began.age(now) >= limits.patience.still / 2)
    }

    /// For how long what witnesses said holds where the journal has not grown since: an attempt that came too late because of
    /// them can make its claim anew without waiting for them again, and one that was silent is soon asked again.
    pub(super) fn vouched_for(&self) -> Duration {
        self.limits.map_or(Duration::ZERO, |limits| limits.patience.still * 4)
    }

    /// The node that leads, where it is known to live.
    pub(super) fn leader(&self) -> Option<Beat> {
        let limits = self.limits.filter(|_| self.part == Part::Follows)?;
        self.watch.leader(limits.patience).cloned()
    }

    /// What needs somebody's eyes.
    pub(super) fn alarms(&self, now: Moment) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let subject = || "heartbeat".to_owned();
        if let Some((code, since_ms)) = self.fault {
            let detail = format!("the store of signs of life does not answer ({code})");
            alarms.push(Alarm { code: "heartbeat_failing", subject: subject(), detail, since_ms });
        }
        let certainty = self.certainty(now);
        if !certainty.is_current {
            let detail = "this node can't tell whether another one leads by now; account reads are refused".to_owned();
            let since_ms = self.confirmed.map_or(now.wall_ms, |confirmed| confirmed.wall_ms);
            alarms.push(Alarm { code: "reads_unconfirmed", subject: subject(), detail, since_ms });
        }
        alarms
    }

    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
        self.is_due = true;
        // From here on others may lead.
        self.confirmed = None;
    }

    fn confirm(&mut self, epoch: Epoch, began: Moment) {
        self.fault = None;
        if self.part == Part::Leads(epoch) && self.superseded.is_none() && self.end.is_none() {
            self.confirmed = Some(began);
        }
    }

    fn fail(&mut self, fault: &HeartbeatFault, now_ms: u64) {
        let since_ms = self.fault.map_or(now_ms, |(_, since_ms)| since_ms);
        if self.fault.is_none() {
            let cause = fault.cause.to_string();
            tracing::warn!(code = fault.code, cause, "the store of signs of life does not answer");
        }
        self.fault = Some((fault.code, since_ms));
        self.watch.failed();
    }

    /// A follower's look at the sign of life that stands. One that moved is nobody's to replace.
    fn saw(&mut self, beat: Option<Beat>, began: Moment, ended: Moment) {
        self.watch.saw(beat, began.steady, ended.steady);
        if self.wanted.as_ref().is_some_and(|wanted| wanted.seen.as_ref() != self.watch.beat()) {
            self.wanted = None;
        }
    }

    /// What is to be done now.
    fn task(&self) -> Task {
        match (self.end, self.part) {
            (Some(End::Release), Part::Leads(epoch)) if self.superseded.is_none() => Task::End(Some(epoch)),
            (Some(_), _) => Task::End(None),
            (None, Part::Leads(epoch)) => Task::Beat(epoch),
            (None, Part::Follows) => self.wanted.clone().map_or(Task::Look, Task::Claim),
        }
    }
}

/// A leadership that is to be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    epoch: Epoch,
    /// The sign of life that was judged to stand still, or to be its leader's last: exactly that one is replaced.
    seen: Option<Beat>,
}

/// What the thread does next.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Look,
    Claim(Claim),
    Beat(Epoch),
    End(Option<Epoch>),
}

/// The thread.
pub(super) struct Beating {
    part: HeartbeatPart,
    node: String,
    /// The epoch of the last sign of life of ours, and its number.
    last: (Epoch, u64),
}

impl Beating {
    pub(super) fn new(part: HeartbeatPart, node: String) -> Beating {
        Beating { part, node, last: (Epoch(0), 0) }
    }

    pub(super) fn run(mut self, shared: &Arc<Shared>) {
        while !shared.is_dead.load(Ordering::Acquire) {
            match task(shared) {
                Task::Look => self.look(shared),
                Task::Claim(claim) => self.claim(shared, &claim),
                Task::Beat(epoch) => self.beat(shared, epoch),
                Task::End(None) => return,
                Task::End(Some(epoch)) => {
                    let beat = Beat { is_last: true, ..self.next(epoch) };
                    if let Err(fault) = self.part.store.beat(&beat) {
                        tracing::warn!(code = fault.code, "others are not told that this node leaves; they wait");
                    }
                    return;
                }
            }
            self.rest(shared);
        }
    }

    /// Sleeps for the cadence, or until there is something new to do.
    fn rest(&self, shared: &Shared) {
        let cadence = Duration::from_millis(self.part.beat_ms);
        let mut heart = lock(&shared.heart);
        heart.asking = None;
        let waited = shared.heart_bell.wait_timeout_while(heart, cadence, |heart| !heart.is_due);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_due = false;
    }

    fn next(&mut self, epoch: Epoch) -> Beat {
        let number = if self.last.0 == epoch { self.last.1 + 1 } else { 1 };
        self.last = (epoch, number);
        self.sign(epoch, number)
    }

    fn sign(&self, epoch: Epoch, number: u64) -> Beat {
        Beat { node: self.node.clone(), url: self.part.url.clone(), epoch, number, is_last: false }
    }

    fn look(&mut self, shared: &Shared) {
        let began = shared.moment();
        let found = self.part.store.last();
        let ended = shared.moment();
        let mut heart = lock(&shared.heart);
        match found {
            Ok(beat) => {
                heart.fault = None;
                if heart.part == Part::Follows {
                    heart.saw(beat, began, ended);
                }
            }
            Err(fault) => heart.fail(&fault, ended.wall_ms),
        }
    }

    /// Says that this node is about to lead, in place of exactly what it has judged: had the old leader woken up meanwhile, or
    /// another follower been faster, it finds something else there and waits.
    fn claim(&mut self, shared: &Shared, claim: &Claim) {
        let epoch = claim.epoch;
        let began = shared.moment();
        let answer = self.part.store.replace(claim.seen.as_ref(), &self.sign(epoch, 0));
        let ended = shared.moment();
        let mut heart = lock(&shared.heart);
        heart.wanted = None;
        match answer {
            Ok(BeatAnswer::Confirmed) if heart.part == Part::Follows => {
                heart.saw(Some(self.sign(epoch, 0)), began, ended);
                heart.claimed = Some((epoch, began));
            }
            Ok(BeatAnswer::Confirmed) => {}
            Ok(BeatAnswer::Superseded(other)) => heart.saw(Some(other), began, ended),
            Err(fault) => heart.fail(&fault, ended.wall_ms),
        }
    }

    fn beat(&mut self, shared: &Shared, epoch: Epoch) {
        let began = shared.moment();
        let beat = self.next(epoch);
        match self.part.store.beat(&beat) {
            Ok(BeatAnswer::Confirmed) => lock(&shared.heart).confirm(epoch, began),
            Ok(BeatAnswer::Superseded(other)) => self.doubt(shared, epoch, &other, began),
            Err(fault) => lock(&shared.heart).fail(&fault, began.wall_ms),
        }
    }

    /// Another's sign of life stands: nothing is certain any more. Whether it leads, the journal knows. Where the journal has
    /// no such epoch and the sign stands still, it is a claim that came to nothing, or was left by another journal.
    fn doubt(&mut self, shared: &Shared, epoch: Epoch, other: &Beat, began: Moment) {
        let still = {
            let mut heart = lock(&shared.heart);
            if heart.part != Part::Leads(epoch) {
                return;
            }
            heart.confirmed = None;
            heart.fault = None;
            heart.watch.saw(Some(other.clone()), began.steady, shared.moment().steady);
            heart.watch.still()
        };
        match newest_epoch(shared) {
            Ok(newest) if newest > epoch => {
                tracing::warn!(node = other.node, epoch = newest.0, "another node leads by the journal");
                let mut heart = lock(&shared.heart);
                if heart.part == Part::Leads(epoch) {
                    heart.superseded = Some(newest);
                }
                drop(heart);
                shared.news.notify_all();
            }
            Ok(_) if still >= Duration::from_millis(self.part.still_ms) => {
                tracing::warn!(node = other.node, epoch = other.epoch.0, "a sign of life of no leader is replaced");
                let began = shared.moment();
                let own = self.next(epoch);
                match self.part.store.replace(Some(other), &own) {
                    Ok(BeatAnswer::Confirmed) => lock(&shared.heart).confirm(epoch, began),
                    Ok(BeatAnswer::Superseded(_)) => {}
                    Err(fault) => lock(&shared.heart).fail(&fault, began.wall_ms),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the journal can't be asked who leads"),
        }
    }
}

/// What is to be done now; from then on the store is being asked.
fn task(shared: &Shared) -> Task {
    let now = shared.moment();
    let mut heart = lock(&shared.heart);
    heart.asking = Some(now.steady);
    heart.task()
}

/// The newest epoch among the rows behind those that are known here; 0 where there are none.
fn newest_epoch(shared: &Shared) -> Result<Epoch, ReadError> {
    let mut at: Seq = lock(&shared.writer).durable;
    let mut newest = Epoch(0);
    loop {
        let rows = lock(&shared.history).read(at, READ_ROWS_MAX)?;
        newest = rows.iter().map(|row| row.epoch).fold(newest, Epoch::max);
        match rows.last() {
            Some(last) if rows.len() == READ_ROWS_MAX => at = last.seq,
            Some(_) | None => return Ok(newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { still: Duration::from_secs(2), quiet: Duration::from_secs(5) };

    fn at(seconds: u64) -> Moment {
        Moment { steady: Duration::from_secs(seconds), wall_ms: 1_000 * seconds }
    }

    fn beat(number: u64) -> Option<Beat> {
        Some(Beat { node: "a".to_owned(), url: None, epoch: Epoch(3), number, is_last: false })
    }

    /// A follower that has judged sign of life 9 to stand still.
    fn judging() -> Heart {
        let limits = Limits { patience: PATIENCE, confirmed: Duration::from_secs(1) };
        let mut heart = Heart { limits: Some(limits), ..Heart::new(None, Some(5_000), at(0)) };
        (0..=3).for_each(|second| heart.saw(beat(9), at(second), at(second)));
        assert!(!heart.may_lead(JournalSight { epoch: Epoch(3), quiet: PATIENCE.still }, at(3)));
        heart
    }

    #[test]
    fn the_sign_of_life_that_was_judged_is_the_one_that_is_replaced() {
        let mut heart = judging();
        assert_eq!(heart.task(), Task::Claim(Claim { epoch: Epoch(4), seen: beat(9) }));
        heart.saw(beat(9), at(4), at(4));
        assert_eq!(heart.task(), Task::Claim(Claim { epoch: Epoch(4), seen: beat(9) }), "it stands still");
    }

    #[test]
    fn one_that_moved_after_it_was_judged_is_not_replaced() {
        let mut heart = judging();
        // The look began before the judgement, and its answer came after it.
        heart.saw(beat(10), at(2), at(4));
        assert_eq!(heart.task(), Task::Look);
        assert!(!heart.may_lead(JournalSight { epoch: Epoch(3), quiet: PATIENCE.still }, at(4)));
        assert_eq!(heart.task(), Task::Look);
    }

    #[test]
    fn a_store_that_hangs_is_no_better_than_one_that_fails() {
        let limits = Limits { patience: PATIENCE, confirmed: Duration::from_secs(1) };
        let mut heart = Heart { limits: Some(limits), ..Heart::new(None, Some(5_000), at(0)) };
        let quiet = JournalSight { epoch: Epoch(3), quiet: PATIENCE.quiet };
        assert!(!heart.may_lead(quiet, at(5)), "nobody has looked");
        heart.asking = Some(at(5).steady);
        assert!(!heart.may_lead(quiet, at(6)), "the look may be answered yet");
        assert!(heart.may_lead(quiet, at(7)));
    }
}

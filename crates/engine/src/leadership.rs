//! When a follower may try to take the lead over, and how old what this process knows may be. It judges by this machine's
//! own clocks alone, never compares those of two machines, and decides nothing: who leads is said by the journal.

use crate::ports::Beat;
use florin_core::id::{Epoch, Seq};
use std::time::Duration;

/// A moment of this process, on both of its machine's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the steady clock, since the process began.
    pub steady: Duration,
    /// By the time of day, in Unix milliseconds.
    pub wall_ms: u64,
}

impl Moment {
    /// How long ago this was at `now`: the longer of what the two clocks say.
    ///
    /// The steady clock may stand while the machine sleeps, and the time of day goes on; a jump of the latter only makes
    /// something look older than it is until it is confirmed again.
    pub fn age(self, now: Moment) -> Duration {
        let steady = now.steady.saturating_sub(self.steady);
        steady.max(Duration::from_millis(now.wall_ms.abs_diff(self.wall_ms)))
    }
}

/// How long things must stand still before a follower tries to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The leader's signs of life, and the journal with them.
    pub still: Duration,
    /// The journal alone, where nobody can say how the signs of life stand.
    pub quiet: Duration,
}

/// The journal as a follower has read it to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalSight {
    /// The leadership in force; 0 for an empty journal.
    pub epoch: Epoch,
    /// For how long it has not grown.
    pub quiet: Duration,
}

/// How long a look at the journal may take to count as one at a moment: a leader appends every second, so one that takes as long
/// may have been held up with the appends of a leader that lives.
pub const LOOK_MAX: Duration = Duration::from_secs(1);

/// The journal's growth as a follower sees it, by its steady clock: a jump of the time of day neither starts nor stops a leader.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet {
    /// The last row, and since when it is known to be the last.
    last: Option<(Seq, Duration)>,
}

impl Quiet {
    /// Takes in the journal's last row, from a look that began and ended at these times, and says for how long the journal was
    /// seen not to grow.
    pub fn saw(&mut self, at: Seq, began: Duration, ended: Duration) -> Duration {
        let is_long = ended.saturating_sub(began) >= LOOK_MAX;
        let since = match self.last {
            Some((seq, since)) if seq == at && !is_long => since,
            Some(_) | None => ended,
        };
        self.last = Some((at, since));
        began.saturating_sub(since)
    }

    /// The journal could not be read. What keeps this process from reading it may keep a leader from writing it, so that the
    /// time counts for nothing.
    pub fn failed(&mut self) {
        self.last = None;
    }
}

/// Why a follower may try to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    /// Nobody has ever led.
    Absent,
    /// The leader said that it leaves.
    Released,
    /// The leader's signs of life stand still, and the journal with them.
    Still,
    /// The journal does not grow, and how the signs of life stand can't be learnt.
    Quiet,
}

/// The sign of life that stands, as it was seen.
#[derive(Debug, Clone)]
struct Sighting {
    beat: Option<Beat>,
    /// When the first look that showed it had ended: it stood by then.
    since: Duration,
    /// When the last look that showed it began: it stood still then.
    checked: Duration,
}

/// What one process has seen of the signs of life of others.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    sighting: Option<Sighting>,
    /// Whether one was seen to give way to another: somebody is alive.
    has_moved: bool,
    /// Whether a look has failed since the last that did not.
    is_blind: bool,
}

impl Watch {
    /// Takes in the sign of life that stands, from a look that began and ended at these times of the steady clock.
    pub fn saw(&mut self, beat: Option<Beat>, began: Duration, ended: Duration) {
        self.is_blind = false;
        match &mut self.sighting {
            Some(sighting) if sighting.beat == beat => sighting.checked = sighting.checked.max(began),
            before => {
                self.has_moved |= before.is_some();
                *before = Some(Sighting { beat, since: ended, checked: ended });
            }
        }
    }

    /// A look has failed, or takes so long that it is as good as failed.
    pub fn failed(&mut self) {
        self.is_blind = true;
    }

    /// For how long the sign of life that stands was seen to stand still. Time in which nobody could look does not count.
    pub fn still(&self) -> Duration {
        self.sighting.as_ref().map_or(Duration::ZERO, |sighting| sighting.checked.saturating_sub(sighting.since))
    }

    /// The sign of life that stands; `None` where none was seen.
    pub fn beat(&self) -> Option<&Beat> {
        self.sighting.as_ref()?.beat.as_ref()
    }

    /// The sign of life of a leader that lives, as far as is known.
    pub fn leader(&self, patience: Patience) -> Option<&Beat> {
        let lives = self.has_moved && self.still() < patience.still;
        self.beat().filter(|beat| lives && beat.number > 0 && !beat.is_last)
    }

    /// Whether a follower may try to lead at `now` of the steady clock, and why.
    pub fn chance(&self, journal: JournalSight, patience: Patience, now: Duration) -> Option<Chance> {
        let is_quiet = (journal.quiet >= patience.quiet.max(patience.still)).then_some(Chance::Quiet);
        // That nobody has looked yet, or for long, is no sign of anything: somebody must have tried.
        let is_blind = is_quiet.filter(|_| self.is_blind);
        let Some(sighting) = &self.sighting else { return is_blind };
        if now.saturating_sub(sighting.checked) >= patience.still {
            return is_blind;
        }
        match &sighting.beat {
            None if journal.epoch == Epoch(0) => Some(Chance::Absent),
            // An older build leads and leaves no signs, or one died before its first.
            None => is_quiet,
            // One of another epoch says nothing about who leads now.
            Some(beat) if beat.is_last && beat.epoch == journal.epoch => Some(Chance::Released),
            Some(_) => (self.still() >= patience.still && journal.quiet >= patience.still).then_some(Chance::Still),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { still: Duration::from_secs(2), quiet: Duration::from_secs(5) };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn beat(epoch: u64, number: u64) -> Option<Beat> {
        Some(Beat { node: "a".to_owned(), url: None, epoch: Epoch(epoch), number, is_last: false })
    }

    fn journal(epoch: u64, quiet_s: u64) -> JournalSight {
        JournalSight { epoch: Epoch(epoch), quiet: s(quiet_s) }
    }

    /// A watch that looks once a second, each look within its second.
    fn watch(seen: &[Option<Beat>]) -> Watch {
        let mut watch = Watch::default();
        for (second, beat) in (0u64..).zip(seen) {
            watch.saw(beat.clone(), s(second), s(second));
        }
        watch
    }

    #[test]
    fn both_the_signs_of_life_and_the_journal_have_to_stand_still() {
        let still = watch(&[beat(3, 9), beat(3, 9), beat(3, 9)]);
        assert_eq!(still.chance(journal(3, 2), PATIENCE, s(2)), Some(Chance::Still));
        assert_eq!(still.chance(journal(3, 1), PATIENCE, s(2)), None, "the journal grew a second ago");
        let beating = watch(&[beat(3, 8), beat(3, 9), beat(3, 10)]);
        assert_eq!(beating.chance(journal(3, 60), PATIENCE, s(2)), None, "a leader with nothing to write");
        let young = watch(&[beat(3, 9), beat(3, 9)]);
        assert_eq!(young.chance(journal(3, 60), PATIENCE, s(1)), None);
    }

    #[test]
    fn time_in_which_nobody_could_look_is_no_standstill() {
        let mut watch = watch(&[beat(3, 9), beat(3, 9)]);
        assert_eq!(watch.chance(journal(3, 4), PATIENCE, s(9)), None, "the store was silent for eight seconds");
        assert_eq!(watch.chance(journal(3, 60), PATIENCE, s(9)), None, "nobody tried to look");
        watch.failed();
        assert_eq!(watch.chance(journal(3, 5), PATIENCE, s(9)), Some(Chance::Quiet), "only the journal can be asked");
        assert_eq!(watch.chance(journal(3, 4), PATIENCE, s(9)), None);
        watch.saw(beat(3, 40), s(10), s(12));
        assert_eq!((watch.still(), watch.chance(journal(3, 60), PATIENCE, s(12))), (s(0), None));
        assert_eq!(watch.chance(journal(3, 60), PATIENCE, s(20)), None, "the last look did not fail");
        watch.saw(beat(3, 40), s(13), s(30));
        assert_eq!(watch.still(), s(1), "it stood when the look began; the answer was long under way");
    }

    #[test]
    fn time_in_which_the_journal_could_not_be_read_is_no_quiet() {
        let mut quiet = Quiet::default();
        let ms = Duration::from_millis;
        assert_eq!(quiet.saw(Seq(7), s(1), s(1)), s(0));
        assert_eq!(quiet.saw(Seq(7), s(3), s(3)), s(2));
        assert_eq!(quiet.saw(Seq(8), s(4), s(4)), s(0), "it grew");
        assert_eq!(quiet.saw(Seq(8), s(6), s(6)), s(2));
        quiet.failed();
        assert_eq!(quiet.saw(Seq(8), s(20), s(20)), s(0), "nobody knows what kept it from growing");
        assert_eq!(quiet.saw(Seq(8), s(22), s(22) + ms(999)), s(2));
        assert_eq!(quiet.saw(Seq(8), s(23), s(30)), s(0), "the answer was long under way");
        assert_eq!(quiet.saw(Seq(8), s(31), s(31)), s(1));
    }

    #[test]
    fn a_leader_that_leaves_is_followed_at_once_and_only_by_its_own_epochs_word() {
        let mut last = beat(3, 9);
        last.as_mut().unwrap().is_last = true;
        let watch = watch(&[beat(3, 8), last]);
        assert_eq!(watch.chance(journal(3, 0), PATIENCE, s(1)), Some(Chance::Released));
        assert_eq!(watch.chance(journal(4, 1), PATIENCE, s(1)), None, "another has led since");
        assert_eq!(watch.leader(PATIENCE), None);
    }

    #[test]
    fn without_any_sign_of_life_an_empty_journal_is_led_at_once_and_another_when_it_is_quiet() {
        let absent = watch(&[None]);
        assert_eq!(absent.chance(journal(0, 0), PATIENCE, s(0)), Some(Chance::Absent));
        assert_eq!(absent.chance(journal(1, 4), PATIENCE, s(0)), None);
        assert_eq!(absent.chance(journal(1, 5), PATIENCE, s(0)), Some(Chance::Quiet));
        let mut blind = Watch::default();
        assert_eq!(blind.chance(journal(0, 60), PATIENCE, s(0)), None, "nobody has looked yet");
        blind.failed();
        assert_eq!(blind.chance(journal(0, 4), PATIENCE, s(0)), None);
        assert_eq!(blind.chance(journal(0, 5), PATIENCE, s(0)), Some(Chance::Quiet));
    }

    #[test]
    fn a_leader_is_known_once_it_was_seen_to_live() {
        let node = |watch: &Watch| watch.leader(PATIENCE).map(|beat| beat.number);
        assert_eq!(node(&watch(&[beat(3, 9)])), None, "it may be what a dead one left");
        assert_eq!(node(&watch(&[beat(3, 9), beat(3, 10)])), Some(10));
        assert_eq!(node(&watch(&[beat(3, 9), beat(4, 0)])), None, "a claim is no leadership");
        assert_eq!(node(&watch(&[beat(3, 9), beat(3, 10), beat(3, 10), beat(3, 10)])), None);
    }

    #[test]
    fn age_is_the_longer_of_what_both_clocks_say() {
        let moment = |steady_s, wall_ms| Moment { steady: s(steady_s), wall_ms };
        assert_eq!(moment(5, 1_000).age(moment(7, 3_000)), s(2));
        assert_eq!(moment(5, 1_000).age(moment(5, 61_000)), s(60), "the machine slept");
        assert_eq!(moment(5, 61_000).age(moment(6, 1_000)), s(60), "the time of day was set back");
    }
}

//! Alarms: what stands still or contradicts itself, why, and since when. They inform people; nothing is decided by them.

use std::collections::BTreeMap;

/// Something that needs somebody's eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The stable code of its kind, such as `signer_unreachable`.
    pub code: &'static str,
    /// What it is about, such as `plan 7` or `node a`.
    pub subject: String,
    /// In words.
    pub detail: String,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
}

/// The alarms of one part, by kind and subject. A round says again what still holds; what is not said again is over.
#[derive(Debug, Clone, Default)]
pub struct Alarms {
    standing: BTreeMap<(&'static str, String), Alarm>,
    said: BTreeMap<(&'static str, String), Alarm>,
}

impl Alarms {
    /// Says that something holds at `now_ms`.
    pub fn say(&mut self, now_ms: u64, code: &'static str, subject: impl ToString, detail: impl ToString) {
        let (subject, detail) = (subject.to_string(), detail.to_string());
        let key = (code, subject.clone());
        let since_ms = self.standing.get(&key).map_or(now_ms, |alarm| alarm.since_ms);
        if !self.standing.contains_key(&key) && !self.said.contains_key(&key) {
            tracing::warn!(code, subject, detail, "alarm");
        }
        self.said.insert(key, Alarm { code, subject, detail, since_ms });
    }

    /// Begins a new round: what was said since the last one stands, everything else is over.
    pub fn settle(&mut self) {
        for (code, subject) in self.standing.keys().filter(|key| !self.said.contains_key(*key)) {
            tracing::info!(code, subject, "alarm is over");
        }
        self.standing = std::mem::take(&mut self.said);
    }

    /// What stands, by kind and subject: what the last round said, and this one so far.
    pub fn all(&self) -> Vec<Alarm> {
        let mut all = self.standing.clone();
        all.extend(self.said.iter().map(|(key, alarm)| (key.clone(), alarm.clone())));
        all.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_stand_while_they_are_said_again_and_keep_their_beginning() {
        let mut alarms = Alarms::default();
        let standing =
            |alarms: &Alarms| alarms.all().into_iter().map(|alarm| (alarm.code, alarm.since_ms)).collect::<Vec<_>>();
        alarms.say(5, "a", 1, "first");
        assert_eq!(standing(&alarms), [("a", 5)]);
        alarms.settle();
        alarms.say(9, "a", 1, "again");
        alarms.say(9, "b", 1, "other");
        assert_eq!(standing(&alarms), [("a", 5), ("b", 9)]);
        alarms.settle();
        alarms.say(12, "b", 1, "other");
        alarms.settle();
        assert_eq!(standing(&alarms), [("b", 9)]);
        alarms.settle();
        assert_eq!(standing(&alarms), []);
    }
}

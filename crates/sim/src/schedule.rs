//! Which kind of thing happens in which step, and which steps a run leaves out. A step draws from a sequence of its own, so leaving one out does not change what the others draw.

use crate::rng::Rng;
use std::collections::BTreeSet;

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident => $weight:literal, $name:literal;)*) => {
        /// Kinds of actions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$meta])* $kind),* }
        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];
            /// In how many of a thousand steps it happens.
            pub fn weight(self) -> u64 { match self { $(Kind::$kind => $weight),* } }
            /// Its name on the command line.
            pub fn name(self) -> &'static str { match self { $(Kind::$kind => $name),* } }
        }
    };
}

kinds! {
    /// The process has a turn.
    Turn => 243, "turn";
    /// A worker has a step.
    Worker => 210, "worker";
    /// A customer or operator asks for something.
    Customer => 185, "customer";
    /// A block is mined.
    Mine => 70, "mine";
    /// Somebody outside pays us.
    Pay => 60, "pay";
    /// A fork.
    Fork => 10, "fork";
    /// A fork that takes a credited deposit back.
    ForkCredited => 7, "fork-credited";
    /// Somebody outside replaces a payment, or spends it twice.
    Replace => 14, "replace";
    /// Messages arrive everywhere.
    Settle => 10, "settle";
    /// Time passes.
    Time => 60, "time";
    /// Something is sent again, or twice.
    Repeat => 20, "repeat";
    /// An operator halts, resumes, approves.
    Operator => 15, "operator";
    /// Somebody outside asks for what must be refused.
    Nonsense => 16, "nonsense";
    /// A hostile part of ours asks for what must be refused.
    Hostile => 28, "hostile";
    /// The process dies, now or soon.
    Crash => 14, "crash";
    /// The journal fails.
    Journal => 8, "journal";
    /// The signer fails.
    Signer => 10, "signer";
    /// A node fails or lies.
    Node => 14, "node";
    /// A second writer starts.
    Rival => 2, "rival";
    /// A rule panics.
    Panic => 2, "panic";
    /// Somebody who has our keys spends our coins, or changes a signature.
    Thief => 2, "thief";
}

/// Steps at which a scenario is played instead: late enough that there are deposits, early enough that much follows.
pub const SCENARIO_STEPS: [u64; 4] = [250, 700, 1_150, 1_600];

impl Kind {
    /// Draws a kind.
    pub fn draw(rng: &mut Rng) -> Kind {
        let total = Kind::ALL.iter().map(|kind| kind.weight()).sum();
        let mut left = rng.below(total);
        for kind in Kind::ALL {
            match left.checked_sub(kind.weight()) {
                Some(rest) => left = rest,
                None => return *kind,
            }
        }
        Kind::Turn
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The seed.
    pub seed: u64,
    /// How many steps.
    pub actions: u64,
    /// The only steps that are done; all of them where absent.
    pub only: Option<BTreeSet<u64>>,
    /// Kinds that are left out.
    pub without: BTreeSet<Kind>,
}

impl Schedule {
    /// All steps of a seed.
    pub fn whole(seed: u64, actions: u64) -> Schedule {
        Schedule { seed, actions, only: None, without: BTreeSet::new() }
    }

    /// Whether a step is done. It is counted from 1.
    pub fn has(&self, step: u64) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&step))
    }

    /// How to run it again on the command line.
    pub fn command_line(&self) -> String {
        let mut line = format!("florin-sim --seed {} --actions {}", self.seed, self.actions);
        for kind in &self.without {
            line.push_str(&format!(" --without {}", kind.name()));
        }
        if let Some(only) = &self.only {
            line.push_str(&format!(" --only {}", ranges(only)));
        }
        line
    }
}

/// Steps as text: `3,17-40`; `none` for no step at all.
pub fn ranges(steps: &BTreeSet<u64>) -> String {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for &step in steps {
        match all.last_mut() {
            Some(last) if last.1 + 1 == step => last.1 = step,
            _ => all.push((step, step)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    if all.is_empty() { "none".into() } else { all.iter().map(text).collect::<Vec<_>>().join(",") }
}

/// Reads [`ranges`]; `None` for anything else.
pub fn parse_ranges(text: &str) -> Option<BTreeSet<u64>> {
    let mut steps = BTreeSet::new();
    if text == "none" {
        return Some(steps);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last - first > 1_000_000 {
            return None;
        }
        steps.extend(first..=last);
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_written() {
        for text in ["none", "1", "3,17-40", "1-2,4,6-9"] {
            assert_eq!(ranges(&parse_ranges(text).expect("it is well formed")), text);
        }
        for text in ["", "a", "3-1", "1,,2", "1-99999999"] {
            assert_eq!(parse_ranges(text), None, "{text}");
        }
    }

    #[test]
    fn kinds_are_drawn_by_their_weights_and_found_by_their_names() {
        let mut rng = Rng::new(1);
        let drawn: BTreeSet<Kind> = (0..20_000).map(|_| Kind::draw(&mut rng)).collect();
        assert_eq!(drawn.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| Kind::parse(kind.name()) == Some(*kind)));
        assert_eq!(Kind::parse("other"), None);
        assert_eq!(Kind::ALL.iter().map(|kind| kind.weight()).sum::<u64>(), 1_000);
    }
}

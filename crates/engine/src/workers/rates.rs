//! One fee rate from what several nodes say. It asks nobody, and lets no fewer failure groups than the quorum set it.

use std::collections::BTreeMap;

/// What nodes say, by their failure groups, in satoshi for 1,000 virtual bytes.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<String, Vec<u64>>);

impl Rates {
    /// Notes what a node of a group says.
    pub(super) fn hear(&mut self, group: &str, rate: u64) {
        self.0.entry(group.to_owned()).or_default().push(rate);
    }

    /// How many groups have said anything.
    pub(super) fn groups(&self) -> usize {
        self.0.len()
    }

    /// The middle one of the groups' rates, or the highest that `quorum` groups reach, where that is lower; of two in the
    /// middle the lower one. A group has one rate, the middle of its nodes'. `None` where fewer than `quorum` groups speak.
    ///
    /// So no fewer groups than the quorum make a payment dearer than others find right. They can make it cheaper where just a
    /// quorum speaks: then it waits, which loses nothing.
    pub(super) fn agreed(&self, quorum: usize) -> Option<u64> {
        let quorum = quorum.max(1);
        let mut rates: Vec<u64> = self.0.values().filter_map(|of_group| middle(of_group)).collect();
        rates.sort_unstable();
        let highest = rates.len().checked_sub(quorum)?;
        rates.get(highest.min((rates.len() - 1) / 2)).copied()
    }
}

/// The middle one, or the lower of two.
fn middle(rates: &[u64]) -> Option<u64> {
    let mut rates = rates.to_vec();
    rates.sort_unstable();
    rates.get(rates.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(quorum: usize, said: &[(&str, u64)]) -> Option<u64> {
        let mut rates = Rates::default();
        said.iter().for_each(|(group, rate)| rates.hear(group, *rate));
        rates.agreed(quorum)
    }

    #[test]
    fn fewer_groups_than_the_quorum_agree_on_nothing() {
        assert_eq!(agreed(1, &[]), None);
        assert_eq!(agreed(0, &[]), None);
        assert_eq!(agreed(2, &[("a", 9)]), None);
        assert_eq!(agreed(2, &[("a", 9), ("a", 8), ("a", 7)]), None, "nodes of one group have one voice");
        assert_eq!(agreed(3, &[("a", 9), ("b", 8)]), None);
    }

    #[test]
    fn the_middle_of_the_groups_is_taken_and_the_lower_of_two() {
        assert_eq!(agreed(1, &[("a", 9)]), Some(9));
        assert_eq!(agreed(1, &[("a", 9), ("b", 7)]), Some(7));
        assert_eq!(agreed(2, &[("a", 9), ("b", 7)]), Some(7));
        assert_eq!(agreed(2, &[("a", 1), ("b", 7), ("c", 9)]), Some(7));
        assert_eq!(agreed(2, &[("a", 1), ("b", 7), ("c", 8), ("d", 9)]), Some(7));
    }

    #[test]
    fn a_group_has_one_rate_however_many_nodes_it_has() {
        assert_eq!(agreed(2, &[("a", 900), ("a", 901), ("a", 902), ("b", 7), ("c", 8)]), Some(8));
        assert_eq!(agreed(1, &[("a", 6), ("a", 8), ("a", 900)]), Some(8));
        assert_eq!(agreed(1, &[("a", 6), ("a", 900)]), Some(6));
    }

    /// Every set of up to five groups, each honest or lying, against the rule itself.
    #[test]
    fn fewer_groups_than_the_quorum_never_raise_the_rate_above_what_all_others_say() {
        for count in 1..=5usize {
            for quorum in 1..=count {
                for liars in (0..1u32 << count).filter(|liars| (liars.count_ones() as usize) < quorum) {
                    let name = |group: usize| ["a", "b", "c", "d", "e"][group];
                    let rate = |group: usize| if (liars >> group) & 1 == 1 { 1_000 } else { 10 + group as u64 };
                    let said: Vec<_> = (0..count).map(|group| (name(group), rate(group))).collect();
                    let honest = said.iter().map(|(_, rate)| *rate).filter(|rate| *rate < 1_000).max();
                    assert!((Some(10)..=honest).contains(&agreed(quorum, &said)), "{quorum} of {said:?}");
                }
            }
        }
    }
}

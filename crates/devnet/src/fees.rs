//! Owns fee rates and the order in which a miner would take dependent transactions; must never use a float.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;

/// A fee rate in satoshi per 1,000 virtual bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeeRate(u64);

impl FeeRate {
    /// A rate of so many satoshi per 1,000 virtual bytes.
    pub const fn from_sat_per_kvb(sat: u64) -> Self {
        Self(sat)
    }

    /// Satoshi per 1,000 virtual bytes.
    pub const fn sat_per_kvb(self) -> u64 {
        self.0
    }

    /// The fee for so many virtual bytes, rounded up: a node never asks less than its rate.
    pub fn fee_sat(self, vsize: u64) -> u64 {
        let fee = (u128::from(self.0) * u128::from(vsize)).div_ceil(1_000);
        u64::try_from(fee).expect("a rate and a size within money's range")
    }

    /// The rate that a fee for so many virtual bytes amounts to, rounded down.
    pub fn of(fee_sat: u64, vsize: u64) -> Self {
        Self(u64::try_from(u128::from(fee_sat) * 1_000 / u128::from(vsize.max(1))).unwrap_or(u64::MAX))
    }
}

/// A transaction as far as the order of mining goes.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its fee in satoshi.
    pub fee_sat: u64,
    /// Its weight, raised where signature operations make it dearer.
    pub weight: u64,
    /// Parents come before children in this order.
    pub order: u64,
    /// Unconfirmed transactions whose outputs it spends.
    pub parents: BTreeSet<Txid>,
}

/// Transactions that are best mined together, in an order that puts parents first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The transactions.
    pub txids: Vec<Txid>,
    /// Their fees in satoshi.
    pub fee_sat: u64,
    /// Their weight.
    pub weight: u64,
}

impl Chunk {
    /// Compares two by fee for weight.
    pub fn cmp_rate(&self, other: &Self) -> Ordering {
        cmp_rate((self.fee_sat, self.weight), (other.fee_sat, other.weight))
    }
}

fn cmp_rate(left: (u64, u64), right: (u64, u64)) -> Ordering {
    (u128::from(left.0) * u128::from(right.1)).cmp(&(u128::from(right.0) * u128::from(left.1)))
}

/// Transactions and their dependencies.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The transactions by id. Parents that are not in the map do not count.
    pub items: BTreeMap<Txid, Item>,
}

impl Graph {
    /// All transactions connected with this one through parents and children, itself included.
    pub fn cluster(&self, start: &Txid) -> BTreeSet<Txid> {
        self.cluster_with(start, &self.children())
    }

    fn cluster_with(&self, start: &Txid, children: &BTreeMap<Txid, Vec<Txid>>) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(txid) = open.pop() {
            let Some(item) = self.items.get(&txid) else { continue };
            if found.insert(txid) {
                open.extend(item.parents.iter().copied());
                open.extend(children.get(&txid).into_iter().flatten().copied());
            }
        }
        found
    }

    /// The clusters, each once.
    pub fn clusters(&self) -> Vec<BTreeSet<Txid>> {
        let children = self.children();
        let mut seen = BTreeSet::new();
        let mut clusters = Vec::new();
        for txid in self.items.keys() {
            if !seen.contains(txid) {
                let cluster = self.cluster_with(txid, &children);
                seen.extend(cluster.iter().copied());
                clusters.push(cluster);
            }
        }
        clusters
    }

    fn children(&self) -> BTreeMap<Txid, Vec<Txid>> {
        let mut children: BTreeMap<Txid, Vec<Txid>> = BTreeMap::new();
        for (txid, item) in &self.items {
            for parent in &item.parents {
                children.entry(*parent).or_default().push(*txid);
            }
        }
        children
    }

    /// All chunks of all clusters, best first; equal rates by the ids, so that the order never depends on chance.
    pub fn chunks(&self) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = self.clusters().iter().flat_map(|cluster| self.linearize(cluster)).collect();
        chunks.sort_by(|left, right| right.cmp_rate(left));
        chunks
    }

    /// The chunks of one cluster, best first: again and again the transaction whose set of ancestors pays best is taken with its ancestors.
    /// bitcoind searches further for an optimal order; for chains, pairs and fans the results are the same.
    pub fn linearize(&self, cluster: &BTreeSet<Txid>) -> Vec<Chunk> {
        let mut rest = cluster.clone();
        let mut chunks: Vec<Chunk> = Vec::new();
        while !rest.is_empty() {
            let mut best: Option<Chunk> = None;
            for txid in &rest {
                let candidate = self.with_ancestors(txid, &rest);
                let better = best.as_ref().is_none_or(|best| {
                    candidate.cmp_rate(best).then(best.weight.cmp(&candidate.weight)) == Ordering::Greater
                });
                if better {
                    best = Some(candidate);
                }
            }
            let next = best.expect("the rest is not empty");
            for txid in &next.txids {
                rest.remove(txid);
            }
            push_chunk(&mut chunks, next);
        }
        chunks
    }

    fn with_ancestors(&self, txid: &Txid, among: &BTreeSet<Txid>) -> Chunk {
        let mut set = BTreeSet::new();
        let mut open = vec![*txid];
        while let Some(txid) = open.pop() {
            if among.contains(&txid) && set.insert(txid) {
                open.extend(self.items[&txid].parents.iter().copied());
            }
        }
        let mut txids: Vec<Txid> = set.into_iter().collect();
        txids.sort_by_key(|txid| self.items[txid].order);
        let fee_sat = txids.iter().map(|txid| self.items[txid].fee_sat).sum();
        let weight = txids.iter().map(|txid| self.items[txid].weight).sum();
        Chunk { txids, fee_sat, weight }
    }
}

/// Adds a chunk; where it pays better than the one before, the two are one.
fn push_chunk(chunks: &mut Vec<Chunk>, mut next: Chunk) {
    while let Some(last) = chunks.last() {
        if next.cmp_rate(last) != Ordering::Greater {
            break;
        }
        let mut merged = chunks.pop().expect("there is a last one");
        merged.txids.append(&mut next.txids);
        merged.fee_sat += next.fee_sat;
        merged.weight += next.weight;
        next = merged;
    }
    chunks.push(next);
}

/// True where mining from the new chunks is worth more for some block size and less for none.
/// Both must be sorted best first.
pub fn improves(new: &[Chunk], old: &[Chunk]) -> bool {
    let (new, old) = (diagram(new), diagram(old));
    let mut better = false;
    for &(weight, fee) in &new {
        match compare_at(&old, weight, fee) {
            Ordering::Less => return false,
            Ordering::Greater => better = true,
            Ordering::Equal => {}
        }
    }
    for &(weight, fee) in &old {
        match compare_at(&new, weight, fee) {
            Ordering::Greater => return false,
            Ordering::Less => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// Summed weights and fees after each chunk, from nothing.
fn diagram(chunks: &[Chunk]) -> Vec<(u64, u64)> {
    let mut points = vec![(0, 0)];
    for chunk in chunks {
        let &(weight, fee) = points.last().expect("never empty");
        points.push((weight + chunk.weight, fee + chunk.fee_sat));
    }
    points
}

/// Compares a fee with a diagram's at a weight; between points the diagram is a straight line, after the last it is flat.
fn compare_at(points: &[(u64, u64)], weight: u64, fee: u64) -> Ordering {
    let after = points.partition_point(|&(at, _)| at < weight);
    if after == points.len() {
        return fee.cmp(&points[points.len() - 1].1);
    }
    let (end_weight, end_fee) = points[after];
    if end_weight == weight {
        return fee.cmp(&end_fee);
    }
    let (start_weight, start_fee) = points[after - 1];
    let span = u128::from(end_weight - start_weight);
    let line = u128::from(start_fee) * span + u128::from(end_fee - start_fee) * u128::from(weight - start_weight);
    (u128::from(fee) * span).cmp(&line)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    fn id(number: u8) -> Txid {
        Txid::from_byte_array([number; 32])
    }

    fn graph(items: &[(u8, u64, u64, &[u8])]) -> Graph {
        let item = |&(number, fee_sat, weight, parents): &(u8, u64, u64, &[u8])| {
            let parents = parents.iter().map(|&parent| id(parent)).collect();
            (id(number), Item { fee_sat, weight, order: u64::from(number), parents })
        };
        Graph { items: items.iter().map(item).collect() }
    }

    #[test]
    fn child_that_pays_for_its_parent_forms_one_chunk_with_it() {
        let chunks = graph(&[(1, 100, 400, &[]), (2, 5_000, 400, &[1]), (3, 1_000, 400, &[])]).chunks();
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[0].txids, vec![id(1), id(2)]);
        assert_eq!(chunks[1].txids, vec![id(3)]);
    }

    #[test]
    fn cheap_child_is_a_chunk_of_its_own_after_its_parent() {
        let chunks = graph(&[(1, 5_000, 400, &[]), (2, 100, 400, &[1])]).chunks();
        assert_eq!(chunks.iter().map(|chunk| chunk.txids.len()).collect::<Vec<_>>(), vec![1, 1]);
    }

    #[test]
    fn diagram_improves_only_where_it_is_nowhere_below() {
        let chunk = |fee_sat, weight| Chunk { txids: vec![], fee_sat, weight };
        assert!(improves(&[chunk(200, 100)], &[chunk(100, 100)]));
        assert!(!improves(&[chunk(100, 100)], &[chunk(100, 100)]));
        // More in total, but less for the first part of a block.
        assert!(!improves(&[chunk(300, 400)], &[chunk(200, 100)]));
        assert!(improves(&[chunk(300, 100)], &[chunk(200, 100), chunk(10, 100)]));
    }

    #[test]
    fn fee_of_a_rate_rounds_up() {
        assert_eq!(FeeRate::from_sat_per_kvb(100).fee_sat(141), 15);
        assert_eq!(FeeRate::from_sat_per_kvb(1_000).fee_sat(141), 141);
        assert_eq!(FeeRate::of(141, 141).sat_per_kvb(), 1_000);
    }
}

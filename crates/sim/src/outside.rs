//! What the world outside does: miners, forks, payments, replacements and double spends.

use crate::ports::lock;
use crate::world::{START_HEIGHT, World};
use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash;
use florin_core::custody::DepositStatus;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::Content;
use florin_devnet::network::NodeId;

/// The depth at which a transaction counts as final by the policy of every run.
pub const FINAL_DEPTH: u32 = 5;

impl World {
    /// A block on the tip of a node that is not faulty.
    pub fn mine(&mut self) {
        // Now and then one that holds a changed transaction of ours, where there is one that can be changed.
        if self.rng.chance(10) && self.malleate() {
            return;
        }
        let node = self.honest_node();
        // Now and then a miner pays us its reward.
        let is_ours = self.rng.chance(4);
        let ours: Vec<Vec<u8>> = self
            .auditor
            .issued()
            .iter()
            .filter(|(path, _)| *path < (2, 0, 0))
            .map(|(_, script)| script.clone())
            .collect();
        let reward = self.rng.pick(&ours).filter(|_| is_ours).cloned();
        let before = self.miner.script().clone();
        if let Some(reward) = reward {
            self.miner.set_script(ScriptBuf::from_bytes(reward));
            self.count("block mined for us");
        }
        let mut network = lock(&self.network);
        if network.mine(node, &mut self.miner, 1).is_ok() {
            network.settle();
        }
        drop(network);
        self.miner.set_script(before);
        self.count("block mined");
    }

    /// A node without a fault that its callers could notice.
    pub fn honest_node(&mut self) -> NodeId {
        let network = lock(&self.network);
        let honest: Vec<NodeId> = network.ids().filter(|id| !network.is_faulty(*id)).collect();
        drop(network);
        self.rng.pick(&honest).copied().unwrap_or(NodeId(0))
    }

    /// A fork of some blocks, with or without what was in them.
    pub fn fork(&mut self) {
        let depth = match self.rng.below(20) {
            0 => self.depth_below_kept(),
            1 | 2 => self.rng.between(4, 9) as u32,
            _ => self.rng.between(1, 3) as u32,
        };
        let node = self.honest_node();
        let content = match self.rng.below(3) {
            0 => Content::Mempool,
            1 => self.double_spend(node, depth).map_or(Content::Empty, |tx| Content::Transactions(vec![tx])),
            _ => Content::Empty,
        };
        let height = lock(&self.network).node(node).height().saturating_sub(depth);
        self.fork_at(node, height, content);
    }

    /// Mines a branch on the block at `height` that is longer than the chain. A conflicting payment may be impossible on that
    /// branch: then there is no fork, and `false`.
    pub fn fork_at(&mut self, node: NodeId, height: u32, content: Content) -> bool {
        let mut network = lock(&self.network);
        let depth = network.node(node).height().saturating_sub(height);
        // What came before the first journalled block is nobody's to take back.
        if height < START_HEIGHT {
            return false;
        }
        let Some(parent) = network.node(node).tree().at(height) else { return false };
        let miner = &mut self.miner;
        let forked = network.with_node(node, |node| miner.mine_on(node, parent, depth + 1, content).is_ok());
        network.settle();
        drop(network);
        if forked {
            self.count("fault fork");
            self.count(format!("fork of {depth}"));
            if depth >= FINAL_DEPTH {
                self.count("fault fork deeper than final");
            }
            if self.conditions.kept_blocks.is_some_and(|kept| depth > kept) {
                self.count("fault fork deeper than what is kept");
            }
        }
        forked
    }

    /// A fork that takes back the block of a deposit which is credited, and now and then spends its coins elsewhere for good.
    pub fn fork_credited(&mut self) {
        if self.rng.chance(10) && self.fork_planned() {
            return;
        }
        let node = self.honest_node();
        let height = lock(&self.network).node(node).height();
        let depth_max = self.rng.between(2, 7) as u32;
        let credited = self.state(|state| {
            let all = state.deposits().values().filter(|deposit| deposit.status == DepositStatus::Credited);
            let recent = all.filter_map(|deposit| Some((deposit.at?.height.0, deposit.outpoint.txid)));
            recent.filter(|(at, _)| *at <= height && at + depth_max > height).collect::<Vec<_>>()
        });
        let Some((at, txid)) = credited.and_then(|credited| self.rng.pick(&credited).copied()) else { return };
        let payment = self.payments.iter().find(|tx| tx.compute_txid().to_byte_array() == txid.0).cloned();
        let rate = FeeRate::from_sat_per_kvb(20_000);
        let double = payment.filter(|_| self.rng.chance(60)).and_then(|payment| {
            let network = lock(&self.network);
            self.outside.double_spend(network.node(node), &payment, rate).ok()
        });
        let is_double = double.is_some();
        let content = double.map_or(Content::Empty, |tx| Content::Transactions(vec![tx]));
        if self.fork_at(node, at.saturating_sub(1), content) {
            self.count(if is_double { "fault double spend after credit" } else { "fault reorganisation after credit" });
        }
    }

    /// A depth for which blocks are needed that have left the platform's state, where it keeps few.
    pub fn depth_below_kept(&mut self) -> u32 {
        let kept = self.conditions.kept_blocks.unwrap_or(FINAL_DEPTH);
        kept + self.rng.between(1, 12) as u32
    }

    /// A payment that takes the place of the last one, or, in a deep fork, of any that is remembered.
    fn double_spend(&mut self, node: NodeId, depth: u32) -> Option<bitcoin::Transaction> {
        let is_deep = self.conditions.kept_blocks.is_some_and(|kept| depth > kept);
        let any = self.rng.below(self.payments.len().max(1) as u64) as usize;
        let last = if is_deep { self.payments.get(any) } else { self.payments.back() }?.clone();
        let network = lock(&self.network);
        self.outside.double_spend(network.node(node), &last, FeeRate::from_sat_per_kvb(20_000)).ok()
    }

    /// Somebody pays one or a few of our addresses; now and then also one of our change addresses.
    pub fn outside_pays(&mut self) {
        let count = if self.rng.chance(5) { 30 } else { self.rng.between(1, 2) };
        self.outside_pays_to(count);
    }

    /// Somebody pays so many outputs to our addresses in one transaction.
    pub fn outside_pays_to(&mut self, count: u64) {
        let with_change = self.rng.chance(3);
        // Coins on a change address of an open plan could be taken for that plan's own.
        let ours = self.auditor.issued().iter().filter(|(path, _)| path.0 != 2 && (path.1 == 1 || with_change));
        let ours: Vec<Vec<u8>> = ours.map(|(_, script)| script.clone()).collect();
        let mut payments = Vec::new();
        for _ in 0..count {
            let Some(script) = self.rng.pick(&ours).cloned() else { return };
            let kind = if count > 100 { 9 } else { self.rng.below(10) };
            let amount = match kind {
                0 => self.rng.between(600, 2_000),
                9 if count > 100 => self.rng.between(2_000, 5_000),
                1 => self.rng.between(50_000_000, 300_000_000),
                _ => self.rng.between(10_000, 10_000_000),
            };
            payments.push((ScriptBuf::from_bytes(script), amount));
        }
        let node = self.honest_node();
        let rate = FeeRate::from_sat_per_kvb(self.rng.between(1_000, 5_000));
        let mut network = lock(&self.network);
        let Ok(tx) = self.outside.pay(network.node(node), &payments, rate) else { return };
        if network.send(node, tx.clone()).is_ok() {
            network.settle();
            drop(network);
            self.remember_payment(tx);
            self.count("outside payment");
        }
    }

    /// Somebody replaces a payment, or spends it twice while it waits.
    pub fn outside_replaces(&mut self) {
        let Some(last) = self.payments.back().cloned() else { return };
        let node = self.honest_node();
        let rate = FeeRate::from_sat_per_kvb(self.rng.between(10_000, 40_000));
        let is_double = self.rng.chance(50);
        let mut network = lock(&self.network);
        let tx = match is_double {
            true => self.outside.double_spend(network.node(node), &last, rate),
            false => self.outside.replace(network.node(node), &last, rate),
        };
        let Ok(tx) = tx else { return };
        if network.send(node, tx.clone()).is_ok() {
            network.settle();
            drop(network);
            self.remember_payment(tx);
            self.count(if is_double { "fault payment double spent" } else { "fault payment replaced" });
        }
    }
}

//! What goes wrong: processes die, the journal, the signer and the nodes fail or lie, rules panic, clocks run wrong.

use crate::chaos::{EFFECTS, Edge};
use crate::ports::{AppendFault, lock};
use crate::signer::SignerTrouble;
use crate::world::{NODES, World};
use bitcoin::ScriptBuf;
use florin_core::command::Command;
use florin_core::journal::Journal;
use florin_devnet::fault::Lie;
use florin_devnet::fees::FeeRate;
use florin_devnet::network::NodeId;

impl World {
    /// The process dies: at once, at one of the next edges, at the next of a kind, or with the power of its machine.
    pub fn trouble_process(&mut self) {
        match self.rng.below(10) {
            0 | 1 => {
                let effect = EFFECTS[self.rng.below(EFFECTS.len() as u64) as usize];
                self.chaos.arm_at(effect, if self.rng.chance(50) { Edge::Before } else { Edge::After });
            }
            2..=6 => {
                let edges = self.rng.below(40);
                self.chaos.arm(edges);
            }
            7 => self.crash(),
            _ => self.cut_power(),
        }
    }

    /// The power fails while a row is on its way: the row is there afterwards, or it is not. What was acknowledged before is there;
    /// a snapshot that was not written out may be gone.
    fn cut_power(&mut self) {
        let now_ms = self.now_ms();
        let Some(process) = &mut self.process else { return };
        process.decide(now_ms);
        process.send_row();
        if let Some(sealed) = process.intercept_row() {
            // Another writer may have been first; then the row is not kept, as at a store that refuses it.
            let is_kept = self.rng.chance(50) && self.rows.clone().append(&sealed.row).is_ok();
            self.count(if is_kept { "fault power cut, row kept" } else { "fault power cut, row lost" });
        }
        if self.rng.chance(50) && self.snapshots.lose() {
            self.count("snapshot lost");
        }
        self.crash();
    }

    /// The journal fails: an append's fate is unknown, another writer seems to lead, nothing can be read, a snapshot rots. What
    /// comes of it is counted when it strikes.
    ///
    /// # Errors
    /// What is wrong.
    pub fn trouble_journal(&mut self) -> Result<(), String> {
        match self.rng.below(8) {
            0..=4 => {
                let faults = [AppendFault::UnknownWritten, AppendFault::UnknownNotWritten, AppendFault::Fenced];
                let fault = faults[self.rng.below(3) as usize];
                lock(&self.append_faults).push_back(fault);
            }
            5 | 6 => {
                self.rows.fail_reads();
                self.is_unreadable = true;
                if self.rng.chance(50) {
                    self.crash();
                }
            }
            _ => {
                if self.snapshots.spoil() {
                    self.count("fault snapshot spoilt");
                }
            }
        }
        Ok(())
    }

    /// The journal can be read again after some tries.
    pub fn heal_journal_sometimes(&mut self) {
        if self.is_unreadable && self.rng.chance(50) {
            self.rows.heal_reads();
            self.is_unreadable = false;
        }
    }

    /// The signer does not hear, is not heard, dies, or answers with an old memory.
    pub fn trouble_the_signer(&mut self) {
        use SignerTrouble::{DiesAfter, DiesBefore, DiesWithin, LostReply, OldMemory, Unheard};
        let troubles = [Unheard, LostReply, DiesBefore, DiesWithin, DiesAfter, OldMemory];
        let trouble = troubles[self.rng.below(troubles.len() as u64) as usize];
        self.trouble_signer(trouble);
    }

    /// One of the next decisions panics half way; it is counted when it does.
    pub fn trouble_rules(&mut self) {
        let decisions = self.rng.between(1, 6);
        if let Some(process) = &self.process {
            process.fuse.light(decisions);
        }
    }

    /// At most one node is faulty at a time: the quorum is two of three.
    pub fn trouble_node(&mut self) {
        if self.rng.chance(25) {
            self.trouble_all_nodes();
            return;
        }
        self.heal_nodes();
        let id = NodeId(self.rng.below(NODES as u64) as usize);
        let kind = self.rng.below(12);
        let lost = self.rng.between(1, 3) as u32;
        let forged = self.forgery();
        let coin = self.auditor.unspent().into_keys().next_back();
        let mut network = lock(&self.network);
        let what = match (kind, forged, coin) {
            (0, _, _) => {
                network.freeze(id);
                "fault node frozen"
            }
            (1, _, _) => {
                network.stop(id);
                "fault node stopped"
            }
            (2, _, _) => {
                network.lose_replies(id, lost);
                "fault node replies lost"
            }
            (3, _, _) => {
                let others: Vec<NodeId> = network.ids().filter(|other| *other != id).collect();
                network.partition(&[&[id], &others]);
                "fault node cut off"
            }
            (4, Some((script, value_sat)), _) => {
                network.lie(id, Lie::ForgedBlock { script, value_sat });
                "fault node forges a block"
            }
            (5, Some((script, value_sat)), _) => {
                network.lie(id, Lie::ForgedBlockWithoutWork { script, value_sat });
                "fault node forges a block without work"
            }
            (6, Some((_, value_sat)), Some((txid, vout))) => {
                let txid = <bitcoin::Txid as bitcoin::hashes::Hash>::from_byte_array(txid);
                let outpoint = bitcoin::OutPoint::new(txid, vout as u32);
                network.lie(id, Lie::AlteredAmount { outpoint, value_sat });
                "fault node altered amount"
            }
            (7, _, _) => {
                network.lie(id, Lie::InflatedConfirmations(lost * 3));
                "fault node inflates confirmations"
            }
            (8, _, _) => {
                network.lie(id, Lie::PrivateBlocks(lost));
                "fault node shows private blocks"
            }
            (9, _, _) => {
                for other in network.ids().filter(|other| *other != id) {
                    network.set_delay(other, id, u64::from(lost) * 20);
                }
                "fault node delayed"
            }
            (10, _, _) => {
                network.set_clock_skew(id, i64::from(lost) * 600 - 1_200);
                "fault node clock skewed"
            }
            _ => {
                let txids: Vec<bitcoin::Txid> = network.node(id).mempool().iter().map(|(txid, _)| *txid).collect();
                txids.first().map(|txid| network.evict(id, txid));
                "fault node evicts"
            }
        };
        drop(network);
        self.count(what);
    }

    /// What befalls all nodes at once: a transaction falls out of every mempool, or fees are out of proportion.
    fn trouble_all_nodes(&mut self) {
        let pick = self.rng.draw();
        let kind = self.rng.below(5);
        let mut network = lock(&self.network);
        let ids: Vec<NodeId> = network.ids().collect();
        let what = if kind < 2 {
            let txids: Vec<bitcoin::Txid> = network.node(ids[0]).mempool().iter().map(|(txid, _)| *txid).collect();
            let Some(txid) = txids.get(pick as usize % txids.len().max(1)) else { return };
            for id in &ids {
                network.evict(*id, txid);
            }
            "fault evicted everywhere"
        } else {
            let (rate, what) = match kind {
                2 => (pick % 1_000, "fault fee estimate below band"),
                3 => (200_000 + pick % 1_000_000, "fault fee estimate above cap"),
                _ => (1_000 + pick % 50_000, "fault fee estimate in band"),
            };
            for id in &ids {
                network.with_node(*id, |node| node.set_estimate(Some(FeeRate::from_sat_per_kvb(rate))));
            }
            what
        };
        drop(network);
        self.count(what);
    }

    fn forgery(&mut self) -> Option<(ScriptBuf, u64)> {
        let scripts: Vec<Vec<u8>> = self.auditor.issued().iter().map(|(_, script)| script.clone()).collect();
        let script = self.rng.pick(&scripts)?.clone();
        Some((ScriptBuf::from_bytes(script), self.rng.between(100_000, 5_000_000_000)))
    }

    /// Every node is up, honest and connected again.
    pub fn heal_nodes(&mut self) {
        let mut network = lock(&self.network);
        for id in network.ids() {
            if network.is_faulty(id) {
                network.thaw(id);
                network.start(id);
                network.stop_lying(id);
            }
            network.set_clock_skew(id, 0);
        }
        network.heal();
        network.settle();
    }

    /// Time passes. Now and then the clock jumps, and now and then it is set back.
    pub fn time_passes(&mut self) {
        match self.rng.below(100) {
            0..=2 => {
                let ms = self.rng.between(61_000, 7_200_000);
                self.pass(ms);
                self.count("fault clock jumped");
            }
            3..=5 => {
                // The platform's own clock, and not the network's.
                self.clock.set(self.now_ms() - self.rng.between(1, 120_000));
                self.count("fault clock set back");
            }
            _ => {
                let ms = self.rng.between(1, 8_000);
                self.pass(ms);
            }
        }
        let jumped = self.state(|state| state.counters().jumped_to.is_some()).unwrap_or(false);
        if jumped && self.rng.chance(30) {
            self.ask(Command::ConfirmTime);
        }
    }

    /// Lets so much time pass everywhere.
    pub fn pass(&mut self, ms: u64) {
        self.clock.set(self.now_ms() + ms);
        let mut network = lock(&self.network);
        let seconds = network.clock().max(self.clock.now_ms() / 1_000);
        network.set_clock(seconds);
    }
}

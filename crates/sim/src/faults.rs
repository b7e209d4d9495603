//! What goes wrong: processes die, the journal, the signer and the nodes fail or lie, rules panic, clocks run wrong.

use crate::ailments::Ailment;
use crate::chaos::{EFFECTS, Edge};
use crate::ports::{AppendFault, lock};
use crate::signer::SignerTrouble;
use crate::world::{NODES, World};
use bitcoin::{OutPoint, ScriptBuf};
use florin_core::command::Command;
use florin_core::journal::Journal;
use florin_devnet::fault::Lie;
use florin_devnet::fees::FeeRate;
use florin_devnet::network::NodeId;
use florin_devnet::params::BLOCK_FUTURE_MAX_SECONDS;

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
                    self.count("prepared snapshot spoilt");
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

    /// At most one node is faulty at a time: the quorum is two of three. What comes of it is counted when it strikes.
    pub fn trouble_node(&mut self) {
        if self.rng.chance(25) {
            self.trouble_all_nodes();
            return;
        }
        self.heal_nodes();
        let mut id = NodeId(self.rng.below(NODES as u64) as usize);
        let kind = self.rng.below(13);
        let few = self.rng.between(1, 3) as u32;
        if kind == 6 && self.rng.chance(50) {
            // The first one is asked for bytes first.
            id = NodeId(0);
        }
        let ailment = match kind {
            0..=3 => self.trouble_messages(id, kind, few),
            4..=8 => self.make_a_liar(id, kind, few),
            9 => {
                let mut network = lock(&self.network);
                for other in network.ids().filter(|other| *other != id) {
                    network.set_delay(other, id, u64::from(few) * 20);
                }
                Some(Ailment::Delayed)
            }
            10 | 11 => {
                // Blocks are refused that are of a time more than two hours ahead of a node's clock.
                let skew_s = BLOCK_FUTURE_MAX_SECONDS.cast_signed() + i64::from(few) * 300;
                let is_ahead = kind == 10;
                lock(&self.network).set_clock_skew(id, if is_ahead { skew_s } else { -skew_s });
                Some(if is_ahead { Ailment::ClockAhead } else { Ailment::ClockBehind })
            }
            _ => {
                let mut network = lock(&self.network);
                let txid = network.node(id).mempool().iter().map(|(txid, _)| *txid).next();
                txid.map(|txid| {
                    network.evict(id, &txid);
                    Ailment::Evicted(txid)
                })
            }
        };
        let Some(ailment) = ailment else { return };
        lock(&self.node_faults).ailing = Some((id, ailment));
        self.count(format!("prepared {}", ailment.name()));
    }

    fn trouble_messages(&mut self, id: NodeId, kind: u64, few: u32) -> Option<Ailment> {
        let mut network = lock(&self.network);
        Some(match kind {
            0 => {
                network.freeze(id);
                Ailment::Frozen
            }
            1 => {
                network.stop(id);
                Ailment::Stopped
            }
            2 => {
                network.lose_replies(id, few);
                Ailment::LosesReplies
            }
            _ => {
                let others: Vec<NodeId> = network.ids().filter(|other| *other != id).collect();
                network.partition(&[&[id], &others]);
                Ailment::CutOff
            }
        })
    }

    fn make_a_liar(&mut self, id: NodeId, kind: u64, few: u32) -> Option<Ailment> {
        let (lie, ailment) = match kind {
            4 | 5 => {
                let (script, value_sat) = self.forgery()?;
                if kind == 4 {
                    (Lie::ForgedBlock { script, value_sat }, Ailment::ForgesBlock)
                } else {
                    (Lie::ForgedBlockWithoutWork { script, value_sat }, Ailment::ForgesBlockWithoutWork)
                }
            }
            6 => {
                let (outpoint, value_sat) = (self.asked_for_soon(id)?, self.rng.between(100_000, 5_000_000_000));
                (Lie::AlteredAmount { outpoint, value_sat }, Ailment::AltersAmount)
            }
            7 => return Some(Ailment::InflatesHeight(few * 3)),
            _ => (Lie::PrivateBlocks(few), Ailment::ShowsPrivateBlocks),
        };
        lock(&self.network).lie(id, lie);
        Some(ailment)
    }

    /// An output of a transaction that the platform has yet to read: one that waits, and is in one of the next blocks then.
    fn asked_for_soon(&mut self, id: NodeId) -> Option<OutPoint> {
        self.outside_pays();
        let network = lock(&self.network);
        let mempool = network.node(id).mempool();
        let newest = mempool.iter().max_by_key(|(txid, entry)| (entry.order, **txid)).map(|(txid, _)| *txid);
        newest.map(|txid| OutPoint { txid, vout: 0 })
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
            lock(&self.node_faults).evict_everywhere(&network, *txid);
            "evicted everywhere"
        } else {
            let (rate, what) = match kind {
                2 => (pick % 1_000, "fee estimate below band"),
                3 => (200_000 + pick % 1_000_000, "fee estimate above cap"),
                _ => (1_000 + pick % 50_000, "fee estimate in band"),
            };
            for id in &ids {
                network.with_node(*id, |node| node.set_estimate(Some(FeeRate::from_sat_per_kvb(rate))));
            }
            lock(&self.node_faults).everywhere.estimates = Some(what);
            what
        };
        drop(network);
        self.count(format!("prepared {what}"));
    }

    fn forgery(&mut self) -> Option<(ScriptBuf, u64)> {
        let scripts: Vec<Vec<u8>> = self.auditor.issued().iter().map(|(_, script)| script.clone()).collect();
        let script = self.rng.pick(&scripts)?.clone();
        Some((ScriptBuf::from_bytes(script), self.rng.between(100_000, 5_000_000_000)))
    }

    /// Every node is up, honest and connected again.
    pub fn heal_nodes(&mut self) {
        lock(&self.node_faults).ailing = None;
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

//! Coins of plans that a deep fork takes away for ever: how the world outside brings that about, and what an operator who looks at the chain can prove of it. The operator believes nodes alone, and never guesses.

use crate::nonsense::proposals::{lacks_an_input, wrong_proofs};
use crate::ports::lock;
use crate::setup::CHAIN;
use crate::world::World;
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Transaction, Txid};
use florin_core::command::Command;
use florin_core::custody::{BlockRef, Payment, Plan, PlanStatus};
use florin_core::id::{BlockHash, Height, TxId};
use florin_core::state::ChainState;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::Content;
use florin_devnet::network::NodeId;
use florin_devnet::node::Node;
use florin_engine::lanes::Ask;
use std::collections::{BTreeMap, BTreeSet};

/// How deep a fork for a plan's coins is at most: far beyond what counts as final, and beyond the fewest blocks that are kept.
const DEPTH_MAX: u32 = 30;

/// Every transaction that a node knows from blocks, those beside its chain as well.
struct Known {
    txs: BTreeMap<Txid, Transaction>,
    /// Where those of its chain are.
    blocks: BTreeMap<Txid, BlockRef>,
    /// Who spends an output, on its chain or beside it.
    spenders: BTreeMap<OutPoint, BTreeSet<Txid>>,
}

impl Known {
    fn look(node: &Node) -> Known {
        let mut known = Known { txs: BTreeMap::new(), blocks: BTreeMap::new(), spenders: BTreeMap::new() };
        for (hash, entry) in node.tree().iter() {
            let Some(block) = &entry.block else { continue };
            let at = BlockRef { height: Height(entry.height), hash: BlockHash(hash.to_byte_array()) };
            for tx in &block.txdata {
                let txid = tx.compute_txid();
                if node.tree().is_active(hash) {
                    known.blocks.insert(txid, at);
                }
                for input in &tx.input {
                    known.spenders.entry(input.previous_output).or_default().insert(txid);
                }
                known.txs.insert(txid, tx.clone());
            }
        }
        known
    }

    /// The lost transactions that an absent output needs, those that need no other one last.
    fn lost(&self, outpoint: OutPoint) -> Vec<&Transaction> {
        let (mut found, mut waiting) = (Vec::new(), vec![outpoint.txid]);
        let mut seen = BTreeSet::new();
        while let Some(txid) = waiting.pop() {
            let Some(tx) = self.txs.get(&txid).filter(|_| !self.blocks.contains_key(&txid) && seen.insert(txid)) else {
                continue;
            };
            found.push(tx);
            waiting.extend(tx.input.iter().map(|input| input.previous_output.txid));
        }
        found
    }

    /// The transaction of the chain that took an input of one that an absent output needs, and its block: then that output can
    /// never be.
    fn taker(&self, outpoint: OutPoint) -> Option<Payment> {
        let inputs = self.lost(outpoint).into_iter().flat_map(|tx| &tx.input);
        let spenders = inputs.filter_map(|input| self.spenders.get(&input.previous_output)).flatten();
        let mut on_chain = spenders.filter_map(|txid| Some((txid, self.blocks.get(txid)?)));
        on_chain.next().map(|(txid, at)| Payment { txid: TxId(txid.to_byte_array()), at: *at })
    }
}

fn of_node(outpoint: &florin_core::custody::OutPoint) -> OutPoint {
    OutPoint::new(Txid::from_byte_array(outpoint.txid.0), outpoint.vout)
}

impl World {
    /// Open plans that lack an input, with what they lack.
    fn lacking(&self) -> Vec<(Plan, Vec<florin_core::custody::OutPoint>)> {
        self.state(|state| {
            let lacking = state.plans().values().filter(|plan| lacks_an_input(state, plan));
            let absent = |plan: &Plan| {
                plan.inputs.iter().filter(|input| !state.coins().contains_key(input)).copied().collect::<Vec<_>>()
            };
            lacking.map(|plan| (plan.clone(), absent(plan))).collect()
        })
        .unwrap_or_default()
    }

    /// A fork that takes a coin of a plan away, open or paid, and spends what paid it elsewhere for good.
    pub fn fork_planned(&mut self) -> bool {
        let node = self.honest_node();
        let network = self.network.clone();
        let (height, known) = {
            let network = lock(&network);
            (network.node(node).height(), Known::look(network.node(node)))
        };
        let planned = self.state(|state| {
            let is_wanted = |plan: &&Plan| !matches!(plan.status, PlanStatus::Voided | PlanStatus::Conflicted);
            let inputs = state.plans().values().filter(is_wanted).flat_map(|plan| &plan.inputs);
            let coins = inputs.filter_map(|input| state.coins().get(input)).filter(|coin| !coin.coinbase);
            let recent = coins.filter(|coin| coin.at.height.0 + DEPTH_MAX > height);
            recent.map(|coin| (coin.at.height.0, of_node(&coin.outpoint).txid)).collect::<BTreeSet<_>>()
        });
        // The newest first: then the least is taken back besides.
        for (at, txid) in planned.unwrap_or_default().into_iter().rev() {
            let Some(payment) = known.txs.get(&txid) else { continue };
            let rate = FeeRate::from_sat_per_kvb(20_000);
            let double = self.outside.double_spend(lock(&network).node(node), payment, rate);
            let Ok(double) = double else { continue };
            if self.fork_at(node, at.saturating_sub(1), Content::Transactions(vec![double])) {
                self.count("fault input of a plan taken away");
                return true;
            }
        }
        false
    }

    /// Operators with proofs that prove nothing.
    ///
    /// # Errors
    /// Where one is believed.
    pub fn refuse_proofs(&mut self) -> Result<(), String> {
        for (plan, _) in self.lacking() {
            let proofs = self.state(|state| wrong_proofs(state, &plan)).unwrap_or_default();
            for proof in proofs {
                self.refuse(Ask::internal(proof))?;
            }
        }
        Ok(())
    }

    /// What an operator can prove now: of each open plan that lacks an input, where another transaction is final in the place of
    /// that input.
    pub fn proofs(&mut self) -> Vec<Command> {
        let lacking = self.lacking();
        if lacking.is_empty() {
            return Vec::new();
        }
        let node = self.honest_node();
        let known = Known::look(lock(&self.network).node(node));
        // One that has left the state can only be looked up at nodes.
        let is_final = |at: &BlockRef| {
            let depth = self.state(|state| {
                let is_known = |chain: &&ChainState| match chain.blocks.get(&at.height) {
                    Some(block) => block.at == *at,
                    None => chain.blocks.keys().next().is_some_and(|oldest| at.height < *oldest),
                };
                let chain = state.chains().get(&CHAIN).filter(is_known);
                chain.map_or(0, |chain| chain.confirmations(at.height))
            });
            depth.is_some_and(|depth| depth >= crate::outside::FINAL_DEPTH)
        };
        let proof = |(plan, absent): &(Plan, Vec<florin_core::custody::OutPoint>)| {
            let found = absent.iter().find_map(|input| Some((*input, known.taker(of_node(input))?)));
            let (input, by) = found.filter(|(_, by)| is_final(&by.at))?;
            Some(Command::ProveConflict { plan: plan.id, input, by })
        };
        lacking.iter().filter_map(proof).collect()
    }

    /// The operator proves what can be proved. It is counted when it is believed.
    pub fn operator_proves(&mut self) {
        for proof in self.proofs() {
            let id = self.ask(proof);
            self.proofs_sent.insert(id);
        }
    }

    /// Whoever made a payment that a plan needs and that is in no block sends it again, or what took its place before. Without that
    /// such a plan would stay open for ever, as it has to.
    pub fn outside_sends_again(&mut self) {
        let absent: Vec<OutPoint> = self.lacking().iter().flat_map(|(_, absent)| absent).map(of_node).collect();
        if absent.is_empty() {
            return;
        }
        let node = NodeId(0);
        let mut network = lock(&self.network);
        let known = Known::look(network.node(node));
        let mut sent = false;
        for outpoint in absent.into_iter().filter(|outpoint| known.taker(*outpoint).is_none()) {
            // First what they need themselves.
            for tx in known.lost(outpoint).into_iter().rev() {
                let takers = tx.input.iter().filter_map(|input| known.spenders.get(&input.previous_output)).flatten();
                for txid in takers {
                    sent |= network.send(node, known.txs[txid].clone()).is_ok();
                }
            }
        }
        network.settle();
        drop(network);
        if sent {
            self.count("a lost payment is sent again");
        }
    }
}

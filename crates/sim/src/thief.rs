//! Somebody who has our keys, and a miner who changes signatures: spends of our coins that no plan of the journal meant, and twins of those that it did.

use crate::ports::lock;
use crate::world::World;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::{All, Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Amount, CompressedPublicKey, NetworkKind, OutPoint, PrivateKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Txid, Witness, absolute, transaction,
};
use florin_core::custody::{Plan, PlanStatus, Withdrawal};
use florin_devnet::miner::Content;
use florin_devnet::network::NodeId;
use florin_devnet::outside::AddressForm;
use std::collections::{BTreeMap, BTreeSet};

/// The most coins that a thief takes at once: beyond it the transaction would be too large.
const LOOT_MAX: usize = 400;

struct Loot {
    outpoint: OutPoint,
    output: TxOut,
    key: PrivateKey,
}

impl World {
    /// Changes a signature of ours where that is possible, or takes our coins.
    pub fn thief_acts(&mut self) {
        if !self.malleate() && self.rng.chance(30) && !(self.rng.chance(50) && self.steal_and_pay(PlanStatus::Signed)) {
            let node = self.honest_node();
            self.steal(node, &BTreeSet::new(), Vec::new());
        }
    }

    /// The same theft, which pays some of what a plan in this status pays all the same. Says whether there was such a plan, and the
    /// theft. Of a signed plan everybody knows; of one that is not signed only who reads our journal.
    pub fn steal_and_pay(&mut self, status: PlanStatus) -> bool {
        let open = self.state(|state| {
            let open = state.plans().values().filter(|plan| plan.status == status);
            let of_plan = |plan: &Plan| {
                let outpoint = |input: &florin_core::custody::OutPoint| {
                    OutPoint::new(Txid::from_byte_array(input.txid.0), input.vout)
                };
                let payments = plan.versions.first().into_iter().flat_map(|version| &version.payments);
                let owed = payments.filter_map(|payment| state.withdrawals().get(&payment.withdrawal)).cloned();
                (plan.inputs.iter().map(outpoint).collect::<BTreeSet<_>>(), owed.collect::<Vec<_>>())
            };
            open.map(of_plan).collect::<Vec<_>>()
        });
        let node = self.honest_node();
        // Without a coin of the plan it would be a gift.
        let is_there = |input: &OutPoint| lock(&self.network).node(node).coins().get(input).is_some();
        let hit = open.unwrap_or_default().into_iter().rev().find(|(inputs, _)| inputs.iter().all(is_there));
        let Some((inputs, mut owed)) = hit else { return false };
        // Rather all than some: then it is the plan but for its coins.
        if self.rng.chance(30) {
            owed.truncate(1);
        }
        let pay = |withdrawal: &Withdrawal| {
            let value = Amount::from_sat(withdrawal.amount.units() as u64);
            TxOut { value, script_pubkey: ScriptBuf::from_bytes(withdrawal.script.0.clone()) }
        };
        let paid: Vec<TxOut> = owed.iter().map(pay).collect();
        let is_done = !paid.is_empty() && self.steal(node, &inputs, paid);
        if is_done {
            self.count("fault payment by a thief in a plan's place");
        }
        is_done
    }

    /// Takes all coins of the hot wallet that the chain holds, or where those are too many only the wanted ones. Pays these outputs
    /// with them, and keeps the rest.
    fn steal(&mut self, node: NodeId, wanted: &BTreeSet<OutPoint>, mut outputs: Vec<TxOut>) -> bool {
        let scripts: BTreeMap<ScriptBuf, (u64, u64)> = self
            .auditor
            .issued()
            .iter()
            .filter(|(path, _)| path.0 == 1)
            .map(|(path, script)| (ScriptBuf::from_bytes(script.clone()), (path.1, path.2)))
            .collect();
        let mut loot: Vec<Loot> = {
            let network = lock(&self.network);
            let node = network.node(node);
            let height = node.height();
            let coins = node.coins().of_scripts(&scripts.keys().cloned().collect());
            let is_mature = |coin: &florin_devnet::coins::Coin| !coin.is_coinbase || height + 1 >= coin.height + 100;
            let coins = coins.into_iter().filter(|(_, coin)| is_mature(coin));
            coins
                .map(|(outpoint, coin)| {
                    let key = self.key(scripts[&coin.output.script_pubkey]);
                    Loot { outpoint, output: coin.output, key }
                })
                .collect()
        };
        if loot.len() > LOOT_MAX {
            loot.retain(|loot| wanted.contains(&loot.outpoint));
        }
        if loot.is_empty() || loot.len() > LOOT_MAX {
            return false;
        }
        let total: u64 = loot.iter().map(|loot| loot.output.value.to_sat()).sum();
        let spent: u64 = outputs.iter().map(|output| output.value.to_sat()).sum();
        let fee = 300 * loot.len() as u64 + 50 * outputs.len() as u64;
        let Some(value) = total.checked_sub(fee + spent).filter(|value| *value > 1_000) else { return false };
        let theirs = TxOut { value: Amount::from_sat(value), script_pubkey: self.outside.script(AddressForm::Taproot) };
        outputs.push(theirs);
        let tx = sign(&loot, outputs);
        let is_mined = self.mine_exactly(node, tx);
        if is_mined {
            self.count("fault foreign spend");
        }
        is_mined
    }

    /// The key at a branch and index of the hot wallet.
    fn key(&self, (branch, index): (u64, u64)) -> PrivateKey {
        let secp = Secp256k1::new();
        let step = |step: u32| ChildNumber::from_hardened_idx(step).expect("a small index");
        let plain = |step: u64| ChildNumber::from_normal_idx(step as u32).expect("a small index");
        let purpose = self.conditions.kind.purpose();
        let path = [step(purpose), step(1), step(0), plain(branch - 1), plain(index)];
        let root = Xpriv::new_master(NetworkKind::Test, &self.stolen_seed).expect("the seed is one");
        let key = root.derive_priv(&secp, &DerivationPath::from(path.to_vec())).expect("play keys derive");
        key.to_priv()
    }

    /// Mines a transaction of ours with another signature, and so under another id. Only signatures outside of the witness are part
    /// of an id.
    pub fn malleate(&mut self) -> bool {
        let signed = self.state(|state| {
            let open = state.plans().values().filter(|plan| plan.status == PlanStatus::Signed);
            let signed = open.filter_map(|plan| plan.versions.first()?.signed.clone());
            signed.collect::<Vec<_>>()
        });
        let Some(signed) = signed.and_then(|signed| self.rng.pick(&signed).cloned()) else { return false };
        let Ok(tx) = deserialize::<Transaction>(&signed.0) else { return false };
        let Some(twin) = self.twin(&tx) else { return false };
        let node = self.honest_node();
        let is_mined = self.mine_exactly(node, twin);
        if is_mined {
            self.count("fault malleated twin");
        }
        is_mined
    }

    /// The same transaction with its first signature made with another nonce; `None` where the signature is in a witness. A miner
    /// could also take the other of the two values that make a signature valid, but the simulated nodes do not.
    fn twin(&self, tx: &Transaction) -> Option<Transaction> {
        let secp = Secp256k1::new();
        let mut twin = tx.clone();
        let input = tx.input.first()?;
        let key = input.script_sig.instructions().nth(1)?.ok()?.push_bytes()?.as_bytes().to_vec();
        let public = CompressedPublicKey::from_slice(&key).ok()?;
        let script = ScriptBuf::new_p2pkh(&public.pubkey_hash());
        let path = self.auditor.path_of(script.as_bytes())?;
        let all = EcdsaSighashType::All;
        let hash = SighashCache::new(tx).legacy_signature_hash(0, &script, all.to_u32()).ok()?;
        let message = Message::from_digest(hash.to_byte_array());
        let signature = secp.sign_ecdsa_with_noncedata(&message, &self.key((path.1, path.2)).inner, &[7; 32]);
        let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
        let push = ScriptBuf::builder().push_slice(signature.serialize()).push_slice(public.to_bytes());
        twin.input.first_mut()?.script_sig = push.into_script();
        (twin.compute_txid() != tx.compute_txid()).then_some(twin)
    }

    /// A block on a node's tip that holds this transaction alone.
    fn mine_exactly(&mut self, node: NodeId, tx: Transaction) -> bool {
        let mut network = lock(&self.network);
        let tip = network.node(node).tip();
        let miner = &mut self.miner;
        let content = Content::Transactions(vec![tx]);
        let is_mined = network.with_node(node, |node| miner.mine_on(node, tip, 1, content).is_ok());
        network.settle();
        is_mined
    }
}

fn sign(loot: &[Loot], output: Vec<TxOut>) -> Transaction {
    let secp = Secp256k1::new();
    let input = |loot: &Loot| TxIn {
        previous_output: loot.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let mut tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: loot.iter().map(input).collect(),
        output,
    };
    let spent: Vec<TxOut> = loot.iter().map(|loot| loot.output.clone()).collect();
    for (index, coin) in loot.iter().enumerate() {
        let (script_sig, witness) = satisfy(&secp, &tx, index, &spent, &coin.key);
        tx.input[index].script_sig = script_sig;
        tx.input[index].witness = witness;
    }
    tx
}

fn satisfy(
    secp: &Secp256k1<All>,
    tx: &Transaction,
    index: usize,
    spent: &[TxOut],
    key: &PrivateKey,
) -> (ScriptBuf, Witness) {
    const HOLDS: &str = "the index is in range and the sighash type a plain one";
    let script = &spent[index].script_pubkey;
    let mut cache = SighashCache::new(tx);
    let public = CompressedPublicKey::from_private_key(secp, key).expect("our keys are compressed");
    let all = EcdsaSighashType::All;
    let ecdsa = |hash: [u8; 32]| {
        bitcoin::ecdsa::Signature::sighash_all(secp.sign_ecdsa(&Message::from_digest(hash), &key.inner))
    };
    let push = |script: &ScriptBuf| PushBytesBuf::try_from(script.to_bytes()).expect("22 bytes");
    if script.is_p2tr() {
        let kind = TapSighashType::Default;
        let hash = cache.taproot_key_spend_signature_hash(index, &Prevouts::All(spent), kind).expect(HOLDS);
        let pair = Keypair::from_secret_key(secp, &key.inner).tap_tweak(secp, None).to_keypair();
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash.to_byte_array()), &pair);
        let signature = bitcoin::taproot::Signature { signature, sighash_type: kind };
        (ScriptBuf::new(), Witness::p2tr_key_spend(&signature))
    } else if script.is_p2pkh() {
        let hash = cache.legacy_signature_hash(index, script, all.to_u32()).expect(HOLDS);
        let signature = ecdsa(hash.to_byte_array());
        let satisfied = ScriptBuf::builder().push_slice(signature.serialize()).push_slice(public.to_bytes());
        (satisfied.into_script(), Witness::new())
    } else {
        let inner = ScriptBuf::new_p2wpkh(&public.wpubkey_hash());
        let hash = cache.p2wpkh_signature_hash(index, &inner, spent[index].value, all).expect(HOLDS);
        let witness = Witness::p2wpkh(&ecdsa(hash.to_byte_array()), &public.0);
        let is_nested = script.is_p2sh();
        let outer =
            if is_nested { ScriptBuf::builder().push_slice(push(&inner)).into_script() } else { ScriptBuf::new() };
        (outer, witness)
    }
}

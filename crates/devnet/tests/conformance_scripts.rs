//! Owns the comparison of scripts of many keys, locks and leaves: what bitcoind lets into a block the model does, and what it refuses the model refuses.

mod common;

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::Keypair;
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, PublicKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute};
use common::{Pair, RATE};
use florin_devnet::outside::AddressForm;
use miniscript::Descriptor;
use serde_json::Value;

/// Three keys, of which some sign.
struct Keys {
    secp: Secp256k1<All>,
    secrets: Vec<SecretKey>,
}

impl Keys {
    fn new() -> Self {
        let secrets = (1..=3).map(|number| SecretKey::from_slice(&[number; 32]).expect("a key")).collect();
        Self { secp: Secp256k1::new(), secrets }
    }

    fn public(&self, index: usize) -> PublicKey {
        PublicKey::new(self.secrets[index].public_key(&self.secp))
    }

    /// A descriptor with A, B and C replaced by the keys.
    fn descriptor(&self, text: &str) -> Descriptor<PublicKey> {
        let mut text = text.to_owned();
        for (index, name) in ["<A>", "<B>", "<C>"].into_iter().enumerate() {
            text = text.replace(name, &self.public(index).to_string());
        }
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}

/// How an output is spent.
#[derive(Clone)]
struct Spend {
    version: i32,
    sequence: Sequence,
    lock_time: absolute::LockTime,
    signers: Vec<usize>,
}

impl Spend {
    fn by(signers: &[usize]) -> Self {
        Self {
            version: 2,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            lock_time: absolute::LockTime::ZERO,
            signers: signers.to_vec(),
        }
    }

    fn after_blocks(mut self, blocks: u16) -> Self {
        self.sequence = Sequence::from_height(blocks);
        self
    }

    fn at_height(mut self, height: u32) -> Self {
        self.lock_time = absolute::LockTime::from_height(height).expect("a height");
        self
    }
}

/// Signs a spend of a descriptor's output by script, and lets the descriptor put the witness together.
fn signed(keys: &Keys, desc: &Descriptor<PublicKey>, coin: (OutPoint, TxOut), spend: &Spend) -> Option<Transaction> {
    let (previous_output, spent) = coin;
    let input =
        TxIn { previous_output, script_sig: ScriptBuf::new(), sequence: spend.sequence, witness: Witness::new() };
    let change = ScriptBuf::new_p2wpkh(&keys.public(0).wpubkey_hash().expect("compressed"));
    let output = TxOut { value: spent.value - Amount::from_sat(5_000), script_pubkey: change };
    let (version, lock_time) = (Version(spend.version), spend.lock_time);
    let mut tx = Transaction { version, lock_time, input: vec![input], output: vec![output] };
    let mut ecdsa = BTreeMap::new();
    let mut schnorr = BTreeMap::new();
    for &index in &spend.signers {
        let cache = || SighashCache::new(&tx);
        let kind = EcdsaSighashType::All;
        if let Descriptor::Tr(tr) = desc {
            for (_, leaf) in tr.iter_scripts() {
                let leaf = TapLeafHash::from_script(&leaf.encode(), LeafVersion::TapScript);
                let outputs = [spent.clone()];
                let prevouts = Prevouts::All(&outputs);
                let hash = cache().taproot_script_spend_signature_hash(0, &prevouts, leaf, TapSighashType::Default);
                let message = Message::from_digest(hash.expect("in range").to_byte_array());
                let pair = Keypair::from_secret_key(&keys.secp, &keys.secrets[index]);
                let signature = keys.secp.sign_schnorr_no_aux_rand(&message, &pair);
                let sighash_type = TapSighashType::Default;
                schnorr.insert((keys.public(index), leaf), bitcoin::taproot::Signature { signature, sighash_type });
            }
            continue;
        }
        let code = desc.script_code().expect("a script");
        let is_segwit = desc.desc_type().segwit_version().is_some();
        let message = if is_segwit {
            Message::from(cache().p2wsh_signature_hash(0, &code, spent.value, kind).expect("in range"))
        } else {
            Message::from(cache().legacy_signature_hash(0, &code, kind.to_u32()).expect("in range"))
        };
        let signature = keys.secp.sign_ecdsa(&message, &keys.secrets[index]);
        ecdsa.insert(keys.public(index), bitcoin::ecdsa::Signature::sighash_all(signature));
    }
    // Locks are satisfied on purpose whatever the transaction says: the nodes shall judge.
    let preimage: BTreeMap<sha256::Hash, [u8; 32]> = BTreeMap::from([(sha256::Hash::hash(&[7; 32]), [7; 32])]);
    let locks = (Sequence::from_height(65_535), absolute::LockTime::from_height(400_000_000).expect("a height"));
    let mut filled = tx.input[0].clone();
    desc.satisfy(&mut filled, ((ecdsa, schnorr), (Preimages(preimage), locks))).ok()?;
    tx.input[0] = filled;
    Some(tx)
}

struct Preimages(BTreeMap<sha256::Hash, [u8; 32]>);

impl miniscript::Satisfier<PublicKey> for Preimages {
    fn lookup_sha256(&self, hash: &sha256::Hash) -> Option<[u8; 32]> {
        self.0.get(hash).copied()
    }
}

/// Funds a descriptor, spends it, and hands a block with the spend to both. True where both take it.
#[track_caller]
fn both(pair: &mut Pair, keys: &Keys, text: &str, spend: &Spend, spoil: impl FnOnce(&mut Transaction)) -> bool {
    let desc = keys.descriptor(text);
    let script = desc.script_pubkey();
    let funding = pair.wallet.pay(&pair.model, &[(script, 100_000)], RATE).expect("funds");
    let block = pair.miner.mine_with(&pair.model, vec![funding.clone()], 0).block;
    assert_eq!(pair.submit(&block), Value::Null);
    pair.mine(10);
    let coin = (OutPoint::new(funding.compute_txid(), 0), funding.output[0].clone());
    let mut tx = signed(keys, &desc, coin, spend).unwrap_or_else(|| panic!("{text} can be satisfied"));
    spoil(&mut tx);
    let block = pair.miner.mine_with(&pair.model, vec![tx], 0).block;
    let params = serde_json::json!([bitcoin::consensus::encode::serialize_hex(&block)]);
    let real = pair.ask_real("submitblock", params.clone()).expect("a word");
    let model = pair.ask_model("submitblock", params).expect("a word");
    assert_eq!(model.is_null(), real.is_null(), "{text}: the model says {model}, bitcoind {real}");
    pair.same_tip();
    real.is_null()
}

#[test]
fn scripts_of_many_keys_are_judged_alike() {
    let (mut pair, keys) = (Pair::funded(120), Keys::new());
    let sha = sha256::Hash::hash(&[7; 32]);
    let with_hash = format!("wsh(and_v(v:pk(<A>),sha256({sha})))");
    for text in [
        "sh(multi(2,<A>,<B>,<C>))",
        "wsh(multi(2,<A>,<B>,<C>))",
        "sh(wsh(multi(1,<A>,<B>)))",
        "wsh(sortedmulti(2,<B>,<A>))",
        "wsh(or_d(pk(<A>),and_v(v:pkh(<B>),older(5))))",
        "tr(<C>,pk(<A>))",
        "tr(<C>,{pk(<A>),multi_a(2,<A>,<B>)})",
        &with_hash,
        "wsh(pk(<A>))",
        "sh(pkh(<A>))",
    ] {
        let spend = Spend::by(&[0, 1]);
        assert!(both(&mut pair, &keys, text, &spend, |_| {}), "{text}");
        let spoiled = both(&mut pair, &keys, text, &spend, |tx| tx.output[0].value -= Amount::from_sat(1));
        assert!(!spoiled, "{text}: the signatures are of another amount");
        let stripped = both(&mut pair, &keys, text, &spend, |tx| {
            tx.input[0].witness = Witness::new();
            tx.input[0].script_sig = ScriptBuf::new();
        });
        assert!(!stripped, "{text}");
    }
    pair.same_coins();
}

#[test]
fn locks_in_scripts_are_judged_alike() {
    let (mut pair, keys) = (Pair::funded(120), Keys::new());
    let older = "wsh(and_v(v:pk(<A>),older(5)))";
    let spend = Spend::by(&[0]);
    assert!(both(&mut pair, &keys, older, &spend.clone().after_blocks(5), |_| {}));
    assert!(both(&mut pair, &keys, older, &spend.clone().after_blocks(11), |_| {}));
    assert!(!both(&mut pair, &keys, older, &spend.clone().after_blocks(4), |_| {}), "the input waits too short");
    assert!(!both(&mut pair, &keys, older, &spend.clone().after_blocks(12), |_| {}), "longer than it has waited");
    assert!(!both(&mut pair, &keys, older, &spend, |_| {}), "the input does not wait at all");
    let mut version_1 = spend.clone().after_blocks(5);
    version_1.version = 1;
    assert!(!both(&mut pair, &keys, older, &version_1, |_| {}), "version 1 has no relative locks");

    let after = "wsh(and_v(v:pk(<A>),after(100)))";
    assert!(both(&mut pair, &keys, after, &spend.clone().at_height(100), |_| {}));
    assert!(!both(&mut pair, &keys, after, &spend.clone().at_height(99), |_| {}));
    assert!(!both(&mut pair, &keys, after, &spend, |_| {}), "no lock time");
    let mut is_final = spend.clone().at_height(100);
    is_final.sequence = Sequence::MAX;
    assert!(!both(&mut pair, &keys, after, &is_final, |_| {}), "a final input ignores the lock time");
    let leaf = "tr(<C>,and_v(v:pk(<A>),older(5)))";
    assert!(both(&mut pair, &keys, leaf, &spend.clone().after_blocks(6), |_| {}));
    assert!(!both(&mut pair, &keys, leaf, &spend.clone().after_blocks(2), |_| {}));
}

#[test]
fn mempools_take_scripts_of_many_keys_alike() {
    let (mut pair, keys) = (Pair::funded(120), Keys::new());
    for text in ["wsh(multi(2,<A>,<B>,<C>))", "sh(multi(2,<A>,<B>,<C>))", "tr(<C>,pk(<A>))"] {
        let desc = keys.descriptor(text);
        let funding = pair.wallet.pay(&pair.model, &[(desc.script_pubkey(), 100_000)], RATE).expect("funds");
        pair.send(&funding).expect("both take it");
        let coin = (OutPoint::new(funding.compute_txid(), 0), funding.output[0].clone());
        let tx = signed(&keys, &desc, coin, &Spend::by(&[0, 1])).expect("can be satisfied");
        pair.send(&tx).unwrap_or_else(|error| panic!("{text}: {error}"));
        pair.mine_real(1, AddressForm::Taproot);
    }
    pair.same_coins();
}

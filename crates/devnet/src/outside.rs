//! Owns a small wallet that stands for the world outside the platform, in demo and tests; must never hold keys of value: its seed is an argument
//! and its signatures are deterministic.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::key::{Keypair, TapTweak, TweakedKeypair, UntweakedPublicKey};
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    Address, Amount, CompressedPublicKey, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute, transaction,
};
use thiserror::Error;

use crate::coins::Coin;
use crate::fees::FeeRate;
use crate::node::Node;
use crate::params::COINBASE_MATURITY;
use crate::policy::dust_limit_sat;

/// The forms of address the wallet has, one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressForm {
    /// Pay to public key hash.
    Legacy,
    /// Pay to witness public key hash, nested in a script hash.
    Nested,
    /// Pay to witness public key hash.
    Segwit,
    /// Pay to taproot, key path.
    Taproot,
}

/// All forms, for loops.
pub const ADDRESS_FORMS: [AddressForm; 4] =
    [AddressForm::Legacy, AddressForm::Nested, AddressForm::Segwit, AddressForm::Taproot];

/// The sequence of all inputs: no relative lock, and replaceable by signal (BIP-125).
const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// Why the wallet makes no transaction.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WalletError {
    /// Its spendable coins do not cover amount and fee.
    #[error("the coins do not cover {needed_sat} sat")]
    InsufficientFunds {
        /// What would be needed.
        needed_sat: u64,
    },
    /// An input of the transaction to replace is not the wallet's, or unknown.
    #[error("an input is not this wallet's")]
    NotOurs,
}

/// A wallet with one key and one address of each form.
#[derive(Clone, Debug)]
pub struct OutsideWallet {
    secp: Secp256k1<All>,
    key: SecretKey,
}

/// An output to spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spendable {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value and script.
    pub output: TxOut,
}

impl OutsideWallet {
    /// The wallet of a seed; different seeds give different keys.
    ///
    /// # Panics
    /// Where the seed's hash is no key, which happens for none of 2^127 seeds.
    pub fn new(seed: [u8; 32]) -> Self {
        let mut engine = sha256::Hash::engine();
        engine.input(b"florin/devnet/outside-wallet");
        engine.input(&seed);
        let hash = sha256::Hash::from_engine(engine).to_byte_array();
        let key = SecretKey::from_slice(&hash).expect("a hash is below the curve's order and not zero");
        Self { secp: Secp256k1::new(), key }
    }

    fn public_key(&self) -> PublicKey {
        self.key.public_key(&self.secp)
    }

    fn tweaked(&self) -> TweakedKeypair {
        Keypair::from_secret_key(&self.secp, &self.key).tap_tweak(&self.secp, None)
    }

    /// The wallet's output script of a form.
    pub fn script(&self, form: AddressForm) -> ScriptBuf {
        let key = CompressedPublicKey(self.public_key());
        match form {
            AddressForm::Legacy => ScriptBuf::new_p2pkh(&key.pubkey_hash()),
            AddressForm::Nested => ScriptBuf::new_p2sh(&ScriptBuf::new_p2wpkh(&key.wpubkey_hash()).script_hash()),
            AddressForm::Segwit => ScriptBuf::new_p2wpkh(&key.wpubkey_hash()),
            AddressForm::Taproot => {
                let (internal, _) = self.public_key().x_only_public_key();
                ScriptBuf::new_p2tr(&self.secp, UntweakedPublicKey::from(internal), None)
            }
        }
    }

    /// The wallet's regtest address of a form.
    pub fn address(&self, form: AddressForm) -> Address {
        Address::from_script(&self.script(form), Network::Regtest).expect("each form has an address")
    }

    fn form_of(&self, script: &ScriptBuf) -> Option<AddressForm> {
        ADDRESS_FORMS.into_iter().find(|form| self.script(*form) == *script)
    }

    /// Outputs the wallet may spend now: in the node's chain, mature, and not spent by a transaction that waits there. Largest first.
    pub fn spendable(&self, node: &Node) -> Vec<Spendable> {
        let scripts = ADDRESS_FORMS.into_iter().map(|form| self.script(form)).collect();
        let next = node.height() + 1;
        let mature = |coin: &Coin| !coin.is_coinbase || next - coin.height >= COINBASE_MATURITY;
        let coins = node.coins().of_scripts(&scripts).into_iter();
        let mut found: Vec<Spendable> = coins
            .filter(|(outpoint, coin)| mature(coin) && node.mempool().spender(outpoint).is_none())
            .map(|(outpoint, coin)| Spendable { outpoint, output: coin.output })
            .collect();
        found.sort_by_key(|spendable| (std::cmp::Reverse(spendable.output.value), spendable.outpoint));
        found
    }

    /// What the wallet may spend now, in satoshi.
    pub fn balance_sat(&self, node: &Node) -> u64 {
        self.spendable(node).iter().map(|spendable| spendable.output.value.to_sat()).sum()
    }

    /// Pays scripts at a fee rate, from the largest outputs first; change goes to the segwit address.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`].
    pub fn pay(&self, node: &Node, payments: &[(ScriptBuf, u64)], rate: FeeRate) -> Result<Transaction, WalletError> {
        let mut chosen = Vec::new();
        let mut needed_sat = payments.iter().map(|(_, sat)| sat).sum();
        for spendable in self.spendable(node) {
            chosen.push(spendable);
            match self.spend(&chosen, payments, rate) {
                Ok(tx) => return Ok(tx),
                Err(WalletError::InsufficientFunds { needed_sat: more }) => needed_sat = more,
                Err(error @ WalletError::NotOurs) => return Err(error),
            }
        }
        Err(WalletError::InsufficientFunds { needed_sat })
    }

    /// Spends exactly these outputs to scripts at a fee rate; the rest is change.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], or an output that is not the wallet's.
    pub fn spend(
        &self,
        from: &[Spendable],
        payments: &[(ScriptBuf, u64)],
        rate: FeeRate,
    ) -> Result<Transaction, WalletError> {
        let total_in: u64 = from.iter().map(|spendable| spendable.output.value.to_sat()).sum();
        let total_out: u64 = payments.iter().map(|(_, sat)| sat).sum();
        let pay =
            |(script, sat): &(ScriptBuf, u64)| TxOut { value: Amount::from_sat(*sat), script_pubkey: script.clone() };
        let mut outputs: Vec<TxOut> = payments.iter().map(pay).collect();
        outputs.push(TxOut { value: Amount::ZERO, script_pubkey: self.script(AddressForm::Segwit) });
        // Signatures have one length but for a byte; the fee is taken from a signed draft with a byte more for each input.
        let draft = self.sign(unsigned(from, outputs.clone()), from)?;
        let fee_sat = rate.fee_sat(draft.vsize() as u64 + from.len() as u64);
        let needed_sat = total_out + fee_sat;
        let change = total_in.checked_sub(needed_sat).ok_or(WalletError::InsufficientFunds { needed_sat })?;
        let last = outputs.last_mut().expect("the change is there");
        if change >= dust_limit_sat(last) {
            last.value = Amount::from_sat(change);
        } else {
            outputs.pop();
        }
        if outputs.is_empty() {
            return Err(WalletError::InsufficientFunds { needed_sat });
        }
        self.sign(unsigned(from, outputs), from)
    }

    /// The outputs of a wallet's transaction as what they were before it, found in the node's chain or mempool.
    fn inputs_of(&self, node: &Node, tx: &Transaction) -> Result<Vec<Spendable>, WalletError> {
        let find = |input: &TxIn| {
            let outpoint = input.previous_output;
            let chain = node.coins().get(&outpoint).map(|coin| coin.output.clone());
            let output = chain.or_else(|| past_output(node, &outpoint)).ok_or(WalletError::NotOurs)?;
            self.form_of(&output.script_pubkey).ok_or(WalletError::NotOurs)?;
            Ok(Spendable { outpoint, output })
        };
        tx.input.iter().map(find).collect()
    }

    /// The same payments from the same outputs at a higher fee rate, taken from the change (BIP-125).
    ///
    /// # Errors
    /// Inputs that are not the wallet's, or a change that does not cover the fee.
    pub fn replace(&self, node: &Node, tx: &Transaction, rate: FeeRate) -> Result<Transaction, WalletError> {
        let change = self.script(AddressForm::Segwit);
        let payments: Vec<(ScriptBuf, u64)> = tx
            .output
            .iter()
            .filter(|output| output.script_pubkey != change)
            .map(|output| (output.script_pubkey.clone(), output.value.to_sat()))
            .collect();
        self.spend(&self.inputs_of(node, tx)?, &payments, rate)
    }

    /// The same outputs spent to the wallet itself: once it is mined, the payment can never be.
    /// Finds the outputs also where the payment is in the chain already, so that a fork can hold it.
    ///
    /// # Errors
    /// Inputs that are not the wallet's, or that do not cover the fee.
    pub fn double_spend(&self, node: &Node, tx: &Transaction, rate: FeeRate) -> Result<Transaction, WalletError> {
        self.spend(&self.inputs_of(node, tx)?, &[], rate)
    }

    /// Signs all inputs.
    ///
    /// # Errors
    /// [`WalletError::NotOurs`].
    pub fn sign(&self, mut tx: Transaction, from: &[Spendable]) -> Result<Transaction, WalletError> {
        let spent: Vec<TxOut> = from.iter().map(|spendable| spendable.output.clone()).collect();
        for index in 0..from.len() {
            let (script_sig, witness) = self.satisfy(&tx, index, &spent)?;
            tx.input[index].script_sig = script_sig;
            tx.input[index].witness = witness;
        }
        Ok(tx)
    }

    fn satisfy(&self, tx: &Transaction, index: usize, spent: &[TxOut]) -> Result<(ScriptBuf, Witness), WalletError> {
        const HOLDS: &str = "the index is in range and the sighash type a plain one";
        let output = &spent[index];
        let form = self.form_of(&output.script_pubkey).ok_or(WalletError::NotOurs)?;
        let mut cache = SighashCache::new(tx);
        let key = self.public_key();
        let segwit = self.script(AddressForm::Segwit);
        match form {
            AddressForm::Legacy => {
                let all = EcdsaSighashType::All.to_u32();
                let hash = cache.legacy_signature_hash(index, &output.script_pubkey, all).expect(HOLDS);
                let signature = self.ecdsa(Message::from_digest(hash.to_byte_array()));
                let script = ScriptBuf::builder().push_slice(signature.serialize()).push_slice(key.serialize());
                Ok((script.into_script(), Witness::new()))
            }
            AddressForm::Nested | AddressForm::Segwit => {
                let all = EcdsaSighashType::All;
                let hash = cache.p2wpkh_signature_hash(index, &segwit, output.value, all).expect(HOLDS);
                let signature = self.ecdsa(Message::from_digest(hash.to_byte_array()));
                let nested = form == AddressForm::Nested;
                let push = || bitcoin::script::PushBytesBuf::try_from(segwit.to_bytes()).expect("22 bytes");
                let script =
                    if nested { ScriptBuf::builder().push_slice(push()).into_script() } else { ScriptBuf::new() };
                Ok((script, Witness::p2wpkh(&signature, &key)))
            }
            AddressForm::Taproot => {
                let prevouts = Prevouts::All(spent);
                let kind = TapSighashType::Default;
                let hash = cache.taproot_key_spend_signature_hash(index, &prevouts, kind).expect(HOLDS);
                let message = Message::from_digest(hash.to_byte_array());
                let signature = self.secp.sign_schnorr_no_aux_rand(&message, &self.tweaked().to_keypair());
                let signature = bitcoin::taproot::Signature { signature, sighash_type: kind };
                Ok((ScriptBuf::new(), Witness::p2tr_key_spend(&signature)))
            }
        }
    }

    fn ecdsa(&self, message: Message) -> bitcoin::ecdsa::Signature {
        bitcoin::ecdsa::Signature::sighash_all(self.secp.sign_ecdsa(&message, &self.key))
    }
}

fn unsigned(from: &[Spendable], output: Vec<TxOut>) -> Transaction {
    let input = |spendable: &Spendable| TxIn {
        previous_output: spendable.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: SEQUENCE,
        witness: Witness::new(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: from.iter().map(input).collect(),
        output,
    }
}

/// An output of a transaction in the mempool or in any block of the active chain, spent or not.
fn past_output(node: &Node, outpoint: &OutPoint) -> Option<TxOut> {
    if let Some(entry) = node.mempool().get(&outpoint.txid) {
        return entry.tx.output.get(outpoint.vout as usize).cloned();
    }
    let blocks = (0..=node.height()).rev().filter_map(|height| node.tree().at(height));
    blocks
        .filter_map(|hash| node.tree().get(&hash)?.block.clone())
        .flat_map(|block| block.txdata.clone())
        .find(|tx| tx.compute_txid() == outpoint.txid)
        .and_then(|tx| tx.output.get(outpoint.vout as usize).cloned())
}

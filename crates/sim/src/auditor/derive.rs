//! Derives scripts from a wallet's published descriptors, with rust-bitcoin alone: what was handed out can be found again from the backup.

use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{CompressedPublicKey, ScriptBuf};
use std::str::FromStr;

/// What a descriptor's scripts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Pkh,
    Nested,
    Wpkh,
    Tr,
}

/// One branch of a wallet.
#[derive(Debug, Clone)]
pub struct Deriver {
    form: Form,
    branch: Xpub,
    secp: Secp256k1<VerifyOnly>,
}

impl Deriver {
    /// Reads a descriptor such as `tr([01020304/86'/1'/0']tpub…/0/*)#checksum` (BIP-380 and those after it).
    ///
    /// # Errors
    /// A sentence.
    pub fn read(descriptor: &str) -> Result<Deriver, String> {
        let bare = descriptor.split('#').next().unwrap_or_default();
        let forms = [("sh(wpkh(", Form::Nested), ("wpkh(", Form::Wpkh), ("pkh(", Form::Pkh), ("tr(", Form::Tr)];
        let found = forms.iter().find_map(|(start, form)| Some((*form, bare.strip_prefix(start)?)));
        let (form, rest) = found.ok_or("a descriptor is of no known form")?;
        let key = rest.split_once(']').map_or(rest, |(_, key)| key).trim_end_matches(')');
        let mut steps = key.split('/');
        let account = steps.next().unwrap_or_default();
        let account = Xpub::from_str(account).map_err(|fault| format!("a descriptor's key can't be read: {fault}"))?;
        let secp = Secp256k1::verification_only();
        let mut branch = account;
        for step in steps.take_while(|step| *step != "*") {
            let step = ChildNumber::from_str(step).map_err(|fault| format!("a descriptor's step: {fault}"))?;
            branch = branch.ckd_pub(&secp, step).map_err(|fault| format!("a descriptor's branch: {fault}"))?;
        }
        Ok(Deriver { form, branch, secp })
    }

    /// The script at an index.
    ///
    /// # Errors
    /// A sentence.
    pub fn script(&self, index: u64) -> Result<Vec<u8>, String> {
        let index = u32::try_from(index).ok().and_then(|index| ChildNumber::from_normal_idx(index).ok());
        let key = self.branch.ckd_pub(&self.secp, index.ok_or("an index is too high")?);
        let key = CompressedPublicKey(key.map_err(|fault| format!("there is no key: {fault}"))?.public_key);
        let script = match self.form {
            Form::Pkh => ScriptBuf::new_p2pkh(&key.pubkey_hash()),
            Form::Wpkh => ScriptBuf::new_p2wpkh(&key.wpubkey_hash()),
            Form::Nested => ScriptBuf::new_p2sh(&ScriptBuf::new_p2wpkh(&key.wpubkey_hash()).script_hash()),
            Form::Tr => ScriptBuf::new_p2tr(&self.secp, key.0.x_only_public_key().0, None),
        };
        Ok(script.to_bytes())
    }
}

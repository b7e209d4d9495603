//! What an operator does on a machine of their own: keep a key, read an intent in plain words, sign it. It must never
//! sign anything that it could not show.

use crate::entropy::{EntropyError, random_bytes};
use crate::sealed::{self, Content, Cost, Label, Passphrase, SealedError};
use crate::stack;
use bitcoin::Script;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use florin_chain::bitcoin::address::address_text;
use florin_chain::bitcoin::network::Network;
use florin_core::custody::{Approval, Intent};
use florin_core::id::{BlockHash, LedgerTime};
use florin_core::wire::{Message, WireError};
use std::path::Path;

/// Decimals of bitcoin.
const BITCOIN_DECIMALS: u8 = 8;
/// Latest expiry that is shown: the end of the year 9999.
const EXPIRY_MS_MAX: u64 = 253_402_300_799_999;

/// An operator's open key, wiped when dropped. There is no `Debug`.
pub struct OperatorKey(Box<SigningKey>);

/// Why an intent was not approved, most precise reason first.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// The bytes are not an intent in canonical form.
    #[error("this is not an intent")]
    Intent(#[from] WireError),
    /// The intent names a network that this build does not know.
    #[error("the intent is for a network that this build does not know")]
    NetworkUnknown,
    /// The script has no address: there is nothing a person could compare.
    #[error("the intent pays a script that has no address")]
    AddressNone,
    /// The expiry is no date.
    #[error("the intent's expiry is no date before the year 10000")]
    ExpiryInvalid,
    /// The key's file.
    #[error("the operator's key can't be used")]
    Sealed(#[from] SealedError),
    /// The system's randomness failed.
    #[error("no randomness")]
    Entropy(#[from] EntropyError),
}

impl ApproveError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            ApproveError::Intent(error) => error.code(),
            ApproveError::NetworkUnknown => "intent_network_unknown",
            ApproveError::AddressNone => "intent_address_none",
            ApproveError::ExpiryInvalid => "intent_expiry_invalid",
            ApproveError::Sealed(error) => error.code(),
            ApproveError::Entropy(error) => error.code(),
        }
    }
}

impl OperatorKey {
    /// Draws a new key and seals it into a new file.
    ///
    /// # Errors
    /// [`ApproveError::Entropy`], [`ApproveError::Sealed`]; nothing is left behind then.
    pub fn create(path: &Path, passphrase: &Passphrase) -> Result<OperatorKey, ApproveError> {
        stack::wiped(|| {
            let secret = random_bytes::<32>()?;
            let label = Label { content: Content::OperatorKey, demo: false, cost: Cost::LEAST };
            sealed::create(path, passphrase, label, secret.as_slice())?;
            Ok(OperatorKey::from_secret(&secret))
        })
    }

    /// Opens a key.
    ///
    /// # Errors
    /// [`ApproveError::Sealed`], which tells a wrong passphrase from a damaged file.
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<OperatorKey, ApproveError> {
        stack::wiped(|| {
            let (_, secret) = sealed::open(path, passphrase, Content::OperatorKey)?;
            let secret = secret.as_slice().try_into().map_err(|_| SealedError::HeaderInvalid)?;
            Ok(OperatorKey::from_secret(secret))
        })
    }

    /// A key that lives in memory only, for simulations.
    pub fn from_secret(secret: &[u8; 32]) -> OperatorKey {
        OperatorKey(stack::wiped(|| Box::new(SigningKey::from_bytes(secret))))
    }

    /// The public key, as the signer's policy pins it.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The public key in the policy's text form.
    pub fn public_text(&self) -> String {
        self.public().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An intent that was read and can be shown; only such a one can be approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownIntent {
    intent: Intent,
    network: Network,
    address: String,
    expiry: String,
}

impl ShownIntent {
    /// Reads an intent's canonical bytes.
    ///
    /// # Errors
    /// The variants of [`ApproveError`] from `Intent` to `ExpiryInvalid`, in that order.
    pub fn read(intent: &[u8]) -> Result<ShownIntent, ApproveError> {
        let intent = Intent::decode(intent)?;
        let network = network_of(&intent.genesis).ok_or(ApproveError::NetworkUnknown)?;
        let address = address_text(network, Script::from_bytes(&intent.script.0)).ok_or(ApproveError::AddressNone)?;
        let expiry = utc_text(intent.expiry).ok_or(ApproveError::ExpiryInvalid)?;
        Ok(ShownIntent { intent, network, address, expiry })
    }

    /// The intent.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }
}

/// What an operator is shown before signing: one fact a line.
impl std::fmt::Display for ShownIntent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let intent = &self.intent;
        let amount = |amount: florin_core::amount::Amount| amount.format(BITCOIN_DECIMALS);
        let platform = florin_core::id::CommandId(intent.platform);
        writeln!(out, "network      {}", self.network.name())?;
        writeln!(out, "pay to       {}", self.address)?;
        writeln!(out, "amount       {} BTC", amount(intent.amount))?;
        writeln!(out, "fee at most  {} BTC", amount(intent.fee_max))?;
        writeln!(out, "not after    {}", self.expiry)?;
        writeln!(out, "withdrawal   {}", intent.withdrawal)?;
        writeln!(out, "from wallet  {}", intent.wallet)?;
        writeln!(out, "asset        {}", intent.asset)?;
        writeln!(out, "platform     {platform}")?;
        writeln!(out, "digest       {}", intent.digest())
    }
}

/// Signs the digest of an intent that was shown.
pub fn approve(shown: &ShownIntent, key: &OperatorKey) -> Approval {
    let signature = stack::wiped(|| key.0.sign(&shown.intent.digest().0).to_bytes());
    Approval { key: key.public(), signature }
}

/// Whether an approval is a signature over exactly this intent by the key that it names. Whose key that is, and whether it
/// counts, only the signer's policy says.
pub fn is_over(approval: &Approval, intent: &Intent) -> bool {
    let signature = Signature::from_bytes(&approval.signature);
    VerifyingKey::from_bytes(&approval.key).is_ok_and(|key| key.verify_strict(&intent.digest().0, &signature).is_ok())
}

pub(crate) fn network_of(genesis: &BlockHash) -> Option<Network> {
    use bitcoin::hashes::Hash;
    Network::ALL.into_iter().find(|network| network.genesis_hash().to_byte_array() == genesis.0)
}

/// `2026-11-22 12:46:03 UTC`. Civil dates from days by H. Hinnant's era arithmetic ("chrono-Compatible Low-Level Date
/// Algorithms"): a year that begins in March has its leap day last.
fn utc_text(time: LedgerTime) -> Option<String> {
    if time.0 > EXPIRY_MS_MAX {
        return None;
    }
    let seconds = time.0 / 1000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use expect_test::expect;
    use florin_core::amount::Amount;
    use florin_core::id::{AssetId, WalletId, WithdrawalId};
    use florin_core::wire::Bytes;

    fn intent() -> Intent {
        let mut script = vec![0, 20];
        script.extend([0x75; 20]);
        Intent {
            platform: [1; 16],
            wallet: WalletId(3),
            genesis: BlockHash(Network::Regtest.genesis_hash().to_byte_array()),
            asset: AssetId(2),
            script: Bytes(script),
            amount: Amount::new(123_456_789),
            fee_max: Amount::new(10_000),
            expiry: LedgerTime(1_795_351_563_000),
            withdrawal: WithdrawalId([9; 16]),
        }
    }

    fn code(change: impl Fn(&mut Intent)) -> &'static str {
        let mut intent = intent();
        change(&mut intent);
        ShownIntent::read(&intent.encode()).err().map_or("ok", |error| error.code())
    }

    #[test]
    fn an_intent_is_shown_whole() {
        let shown = ShownIntent::read(&intent().encode()).expect("an intent");
        expect![[r#"
            network      regtest
            pay to       bcrt1qw46h2at4w46h2at4w46h2at4w46h2at4zdn3gn
            amount       1.23456789 BTC
            fee at most  0.00010000 BTC
            not after    2026-11-22 12:46:03 UTC
            withdrawal   09090909-0909-0909-0909-090909090909
            from wallet  3
            asset        2
            platform     01010101-0101-0101-0101-010101010101
            digest       00e72498951ca97cfc6dbedec0adcc900c814c35707c61621e5b4b2c7bcc3bd9
        "#]]
        .assert_eq(&shown.to_string());
    }

    #[test]
    fn what_cannot_be_shown_cannot_be_signed() {
        assert_eq!(code(|_| ()), "ok");
        assert_eq!(code(|intent| intent.genesis = BlockHash([0; 32])), "intent_network_unknown");
        assert_eq!(code(|intent| intent.script = Bytes(vec![0x6a, 1, 1])), "intent_address_none");
        assert_eq!(code(|intent| intent.expiry = LedgerTime(EXPIRY_MS_MAX + 1)), "intent_expiry_invalid");
        let mut longer = intent().encode();
        longer.push(0);
        assert_eq!(ShownIntent::read(&longer).err().map(|error| error.code()), Some("wire_unexpected_field"));
        for end in 0..intent().encode().len() {
            assert!(ShownIntent::read(&intent().encode()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_999, "2024-02-29 23:59:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
            (EXPIRY_MS_MAX, "9999-12-31 23:59:59 UTC"),
        ];
        for (time, text) in cases {
            assert_eq!(utc_text(LedgerTime(time)).as_deref(), Some(text));
        }
    }

    #[test]
    fn an_approval_is_over_this_intent_and_by_this_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("anna");
        let passphrase = Passphrase::new("a long passphrase".to_owned()).expect("long enough");
        let created = OperatorKey::create(&path, &passphrase).expect("created");
        let key = OperatorKey::open(&path, &passphrase).expect("opened");
        assert_eq!(key.public(), created.public());
        assert_eq!(key.public_text().len(), 64);
        let shown = ShownIntent::read(&intent().encode()).expect("an intent");
        let approval = approve(&shown, &key);
        assert!(is_over(&approval, &intent()));
        assert!(!is_over(&approval, &Intent { amount: Amount::new(1), ..intent() }));
        let other = OperatorKey::from_secret(&[7; 32]).public();
        assert!(!is_over(&Approval { key: other, ..approval.clone() }, &intent()));
        for byte in 0..64 {
            let mut bent = approval.clone();
            bent.signature[byte] ^= 1;
            assert!(!is_over(&bent, &intent()), "byte {byte}");
        }
        assert!(!is_over(&Approval { key: [0xff; 32], ..approval }, &intent()), "no key at all");
    }
}

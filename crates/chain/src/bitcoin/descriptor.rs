//! Output descriptors (BIP-380 ff.) of single-key wallets, as strict text; it must never accept a private key.
//!
//! The form is `FUNCTION([fingerprint/path]xpub/steps/*)#checksum` with `pkh`, `sh(wpkh(…))`, `wpkh` or `tr`. The
//! checksum and the key origin are required; the last step is an unhardened `*`. What is written always uses `h` for
//! hardened steps, so that the same descriptor has one text.

use crate::bitcoin::derive::{DerivedScript, ScriptDeriver};
use crate::bitcoin::keys::{
    AccountPublic, AddressIndex, Branch, KeyError, KeyOrigin, PATH_STEPS_MAX, ScriptKind, VERIFIER, parse_xpub,
};
use crate::bitcoin::network::Network;
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpub};

/// Longest text that is read as a descriptor; ours have about 150 characters.
pub const DESCRIPTOR_TEXT_MAX: usize = 512;

/// The characters of a descriptor in the groups of the checksum (BIP-380).
const INPUT_CHARSET: &[u8] =
    b"0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
/// The characters of the checksum (BIP-380, those of BIP-173).
const CHECKSUM_CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// The generator of the checksum's code (BIP-380).
const GENERATOR: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];
/// Characters of a checksum.
const CHECKSUM_SIZE: usize = 8;

/// Why text is not a descriptor we can watch, most precise reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// The text is longer than [`DESCRIPTOR_TEXT_MAX`].
    #[error("the descriptor is too long")]
    TooLong,
    /// The text has a character that no descriptor has.
    #[error("the descriptor has a character that is not allowed")]
    Character,
    /// The text has a private key. It is not checked further, so that nobody is told to add a checksum to it.
    #[error("the descriptor has a private key; only public keys are accepted here")]
    PrivateKey,
    /// There is no `#` and checksum.
    #[error("the descriptor has no checksum")]
    ChecksumMissing,
    /// The checksum is wrong: a character was mistaken.
    #[error("the descriptor's checksum is wrong")]
    ChecksumInvalid,
    /// The function is not `pkh`, `sh(wpkh(…))`, `wpkh` or `tr` with a single key.
    #[error("the descriptor is not pkh, sh(wpkh), wpkh or tr with a single key")]
    FunctionUnknown,
    /// There is no key origin before the key.
    #[error("the descriptor has no key origin")]
    OriginMissing,
    /// The key origin is not eight hexadecimal digits and a path.
    #[error("the descriptor's key origin is invalid")]
    OriginInvalid,
    /// The extended public key is refused.
    #[error("the descriptor's key is refused")]
    Key(#[source] KeyError),
    /// A step after the key is hardened, which public keys cannot derive.
    #[error("the descriptor has a hardened step after its public key")]
    StepHardened,
    /// A step after the key is not a number below 2^31, or there are too many.
    #[error("the descriptor's path is invalid")]
    StepInvalid,
    /// The last step is not `*`.
    #[error("the descriptor is not ranged: its last step must be *")]
    NotRanged,
}

impl DescriptorError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            DescriptorError::TooLong => "descriptor_too_long",
            DescriptorError::Character => "descriptor_character_invalid",
            DescriptorError::PrivateKey => "descriptor_private_key",
            DescriptorError::ChecksumMissing => "descriptor_checksum_missing",
            DescriptorError::ChecksumInvalid => "descriptor_checksum_invalid",
            DescriptorError::FunctionUnknown => "descriptor_function_unknown",
            DescriptorError::OriginMissing => "descriptor_origin_missing",
            DescriptorError::OriginInvalid => "descriptor_origin_invalid",
            DescriptorError::Key(error) => error.code(),
            DescriptorError::StepHardened => "descriptor_step_hardened",
            DescriptorError::StepInvalid => "descriptor_step_invalid",
            DescriptorError::NotRanged => "descriptor_not_ranged",
        }
    }
}

/// A ranged descriptor of one key: everything public about one branch of a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    network: Network,
    kind: ScriptKind,
    origin: KeyOrigin,
    xpub: Xpub,
    steps: Vec<AddressIndex>,
    branch: Xpub,
}

impl Descriptor {
    /// The descriptor of one branch of an account.
    ///
    /// # Errors
    /// [`KeyError::NoKeyAtIndex`] inside [`DescriptorError::Key`], for one account in 2^127.
    pub fn of_account(account: &AccountPublic, branch: Branch) -> Result<Descriptor, DescriptorError> {
        let step = AddressIndex::new(branch.step()).expect("0 and 1 are below 2^31");
        Descriptor::new(account.network, account.kind, account.origin.clone(), account.xpub, vec![step])
    }

    /// Reads a descriptor of `network`.
    ///
    /// # Errors
    /// The variants of [`DescriptorError`], in their order.
    pub fn parse(network: Network, text: &str) -> Result<Descriptor, DescriptorError> {
        if text.len() > DESCRIPTOR_TEXT_MAX {
            return Err(DescriptorError::TooLong);
        }
        if !text.bytes().all(|byte| INPUT_CHARSET.contains(&byte)) {
            return Err(DescriptorError::Character);
        }
        if has_private_key(text) {
            return Err(DescriptorError::PrivateKey);
        }
        let body = checked_body(text)?;
        let (kind, key) = split_function(body)?;
        let (origin, key) = split_origin(key)?;
        let mut parts = key.split('/');
        let xpub = parse_xpub(network, parts.next().unwrap_or("")).map_err(DescriptorError::Key)?;
        let steps = parse_steps(&parts.collect::<Vec<_>>())?;
        Descriptor::new(network, kind, origin, xpub, steps)
    }

    fn new(
        network: Network,
        kind: ScriptKind,
        origin: KeyOrigin,
        xpub: Xpub,
        steps: Vec<AddressIndex>,
    ) -> Result<Descriptor, DescriptorError> {
        let path: Vec<ChildNumber> = steps.iter().map(|step| ChildNumber::from(step.get())).collect();
        let branch = xpub.derive_pub(&*VERIFIER, &path).map_err(|_| DescriptorError::Key(KeyError::NoKeyAtIndex))?;
        Ok(Descriptor { network, kind, origin, xpub, steps, branch })
    }

    /// The network whose addresses this descriptor derives.
    pub fn network(&self) -> Network {
        self.network
    }

    /// What its addresses are.
    pub fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// Where the account key comes from.
    pub fn origin(&self) -> &KeyOrigin {
        &self.origin
    }

    /// The extended public key as written, before the steps.
    pub fn xpub(&self) -> &Xpub {
        &self.xpub
    }

    /// The steps between the written key and `*`.
    pub fn steps(&self) -> &[AddressIndex] {
        &self.steps
    }

    /// The account this descriptor belongs to and the branch of it, when its steps are exactly `/0` or `/1`.
    pub fn account(&self) -> Option<(AccountPublic, Branch)> {
        let [step] = self.steps.as_slice() else { return None };
        let branch = Branch::from_step(step.get())?;
        let account =
            AccountPublic { network: self.network, kind: self.kind, origin: self.origin.clone(), xpub: self.xpub };
        Some((account, branch))
    }

    /// The fast way to its scripts; keep it while addresses are derived.
    pub fn deriver(&self) -> ScriptDeriver {
        ScriptDeriver::new(self.kind, &self.branch)
    }

    /// One script. For many, keep a [`Descriptor::deriver`].
    ///
    /// # Errors
    /// [`KeyError::NoKeyAtIndex`], for one index in 2^127.
    pub fn script(&self, index: AddressIndex) -> Result<DerivedScript, KeyError> {
        self.deriver().script(index)
    }

    /// The path from the master key to the key at `index`, as a PSBT names it.
    pub fn full_path(&self, index: AddressIndex) -> DerivationPath {
        let below = self.steps.iter().chain([&index]).map(|step| ChildNumber::from(step.get()));
        self.origin.path.extend(below.collect::<Vec<_>>())
    }
}

/// The one text of this descriptor, with its checksum.
impl std::fmt::Display for Descriptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (open, close) = match self.kind {
            ScriptKind::Pkh => ("pkh(", ")"),
            ScriptKind::ShWpkh => ("sh(wpkh(", "))"),
            ScriptKind::Wpkh => ("wpkh(", ")"),
            ScriptKind::Tr => ("tr(", ")"),
        };
        let mut text = format!("{open}[{}", self.origin.fingerprint);
        for step in &self.origin.path {
            text.push('/');
            text.push_str(&match step {
                ChildNumber::Normal { index } => index.to_string(),
                ChildNumber::Hardened { index } => format!("{index}h"),
            });
        }
        text.push_str(&format!("]{}", self.xpub));
        for step in &self.steps {
            text.push_str(&format!("/{}", step.get()));
        }
        text.push_str(&format!("/*{close}"));
        write!(formatter, "{text}#{}", checksum(&text).expect("only characters of descriptors were written"))
    }
}

/// The checksum of a descriptor's text before `#` (BIP-380), `None` when a character is not allowed.
pub fn checksum(text: &str) -> Option<String> {
    let mut state = 1u64;
    let (mut class, mut class_count) = (0u64, 0);
    for byte in text.bytes() {
        let position = INPUT_CHARSET.iter().position(|allowed| *allowed == byte)? as u64;
        state = checksum_step(state, position & 31);
        class = class * 3 + (position >> 5);
        class_count += 1;
        if class_count == 3 {
            state = checksum_step(state, class);
            (class, class_count) = (0, 0);
        }
    }
    if class_count > 0 {
        state = checksum_step(state, class);
    }
    for _ in 0..CHECKSUM_SIZE {
        state = checksum_step(state, 0);
    }
    state ^= 1;
    let symbol = |place: usize| (state >> (5 * (CHECKSUM_SIZE - 1 - place))) as usize & 31;
    Some((0..CHECKSUM_SIZE).map(|place| CHECKSUM_CHARSET[symbol(place)] as char).collect())
}

fn checksum_step(state: u64, value: u64) -> u64 {
    let top = state >> 35;
    let mut next = ((state & 0x7_ffff_ffff) << 5) ^ value;
    for (bit, generator) in GENERATOR.into_iter().enumerate() {
        if top >> bit & 1 == 1 {
            next ^= generator;
        }
    }
    next
}

/// Whether a key expression in the text is private: an extended private key, or a key in wallet import format.
fn has_private_key(text: &str) -> bool {
    let body = text.split('#').next().unwrap_or("");
    body.split(['(', ')', ']', '[', '/', ',', '{', '}']).any(|word| {
        let extended = word.len() > 100 && word.get(1..4) == Some("prv");
        extended || (matches!(word.len(), 51 | 52) && bitcoin::PrivateKey::from_wif(word).is_ok())
    })
}

fn checked_body(text: &str) -> Result<&str, DescriptorError> {
    let (body, given) = text.split_once('#').ok_or(DescriptorError::ChecksumMissing)?;
    if given.is_empty() {
        return Err(DescriptorError::ChecksumMissing);
    }
    if checksum(body).as_deref() != Some(given) {
        return Err(DescriptorError::ChecksumInvalid);
    }
    Ok(body)
}

fn split_function(body: &str) -> Result<(ScriptKind, &str), DescriptorError> {
    let forms = [
        (ScriptKind::Pkh, "pkh(", ")"),
        (ScriptKind::ShWpkh, "sh(wpkh(", "))"),
        (ScriptKind::Wpkh, "wpkh(", ")"),
        (ScriptKind::Tr, "tr(", ")"),
    ];
    forms
        .into_iter()
        .find_map(|(kind, open, close)| Some((kind, body.strip_prefix(open)?.strip_suffix(close)?)))
        .filter(|(_, key)| !key.contains(['(', ')', ',', '{', '}']))
        .ok_or(DescriptorError::FunctionUnknown)
}

fn split_origin(key: &str) -> Result<(KeyOrigin, &str), DescriptorError> {
    let inside = key.strip_prefix('[').ok_or(DescriptorError::OriginMissing)?;
    let (origin, key) = inside.split_once(']').ok_or(DescriptorError::OriginInvalid)?;
    let mut parts = origin.split('/');
    let fingerprint = parts.next().unwrap_or("");
    if fingerprint.len() != 8 || !fingerprint.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(DescriptorError::OriginInvalid);
    }
    let fingerprint: Fingerprint = fingerprint.parse().map_err(|_| DescriptorError::OriginInvalid)?;
    let steps: Vec<ChildNumber> =
        parts.map(|step| parse_origin_step(step).ok_or(DescriptorError::OriginInvalid)).collect::<Result<_, _>>()?;
    if steps.len() > PATH_STEPS_MAX {
        return Err(DescriptorError::OriginInvalid);
    }
    Ok((KeyOrigin { fingerprint, path: DerivationPath::from(steps) }, key))
}

fn parse_origin_step(step: &str) -> Option<ChildNumber> {
    match step.strip_suffix(['h', '\'']) {
        Some(number) => ChildNumber::from_hardened_idx(parse_number(number)?.get()).ok(),
        None => ChildNumber::from_normal_idx(parse_number(step)?.get()).ok(),
    }
}

fn parse_steps(parts: &[&str]) -> Result<Vec<AddressIndex>, DescriptorError> {
    if let Some(hardened) = parts.iter().find_map(|step| step.strip_suffix(['h', '\''])) {
        let number = hardened == "*" || parse_number(hardened).is_some();
        return Err(if number { DescriptorError::StepHardened } else { DescriptorError::StepInvalid });
    }
    let (Some(last), steps) = (parts.last(), &parts[..parts.len().saturating_sub(1)]) else {
        return Err(DescriptorError::NotRanged);
    };
    let steps: Option<Vec<AddressIndex>> = steps.iter().map(|step| parse_number(step)).collect();
    let steps = steps.filter(|steps| steps.len() <= PATH_STEPS_MAX).ok_or(DescriptorError::StepInvalid)?;
    match *last {
        "*" => Ok(steps),
        number if parse_number(number).is_some() => Err(DescriptorError::NotRanged),
        _ => Err(DescriptorError::StepInvalid),
    }
}

/// A decimal number below 2^31 without sign or leading zero, so that each path has one text.
fn parse_number(text: &str) -> Option<AddressIndex> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain { None } else { text.parse().ok().and_then(AddressIndex::new) }
}

//! The signer's own policy: one TOML file that the engine can't touch. It must never guess: what it does not know, it
//! refuses with the line.

use crate::judge::AMOUNT_SAT_MAX;
use bitcoin::hashes::Hash;
use ed25519_dalek::VerifyingKey;
use florin_chain::bitcoin::keys::{ScriptKind, account_path};
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::id::{AssetId, BlockHash, CommandId, WalletId};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// Longest policy file in bytes.
pub const POLICY_SIZE_MAX: usize = 64 * 1024;
/// Most operators, and most approvals of one intent.
pub const OPERATORS_MAX: usize = 64;
/// Most wallets.
pub const WALLETS_MAX: usize = 1_000;
/// Longest operator name in bytes.
const NAME_SIZE_MAX: usize = 64;

/// What the signer may do by itself, and what it needs people for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The platform it serves: the journal's id.
    pub platform: [u8; 16],
    /// Operators whose approvals count, by public key.
    pub operators: BTreeMap<[u8; 32], Operator>,
    /// How many distinct operators must approve what exceeds the automatic limits; `None` without operators: then
    /// nothing ever does.
    pub threshold: Option<usize>,
    /// The wallets it signs for.
    pub wallets: BTreeMap<WalletId, WalletPolicy>,
    /// Who may ask.
    pub callers: Callers,
}

/// Who may ask, beside the signer's own user and root. Asking alone gives nobody more than the limits; but it uses them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Callers {
    /// The group whose members reach the socket; without one only the signer's own user does.
    pub group: Option<u32>,
    /// The one user of that group who is answered; without one every member is.
    pub user: Option<u32>,
}

impl Callers {
    /// Whether a user who reached the socket is answered, where the signer acts as `own`.
    pub fn admits(&self, user: u32, own: u32) -> bool {
        user == own || user == ROOT || self.user.is_none_or(|only| only == user)
    }
}

/// The user who may do everything on a machine anyway.
const ROOT: u32 = 0;
/// The number that means "no user" and "leave it as it is" to the system's calls.
const NOBODY_AT_ALL: u32 = u32::MAX;

/// A pinned operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name, for people.
    pub name: String,
    /// The key.
    pub key: VerifyingKey,
}

/// One wallet's policy. All amounts are in satoshi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletPolicy {
    /// Its network.
    pub network: Network,
    /// Its asset: the network's coin.
    pub asset: AssetId,
    /// What its addresses are.
    pub script: ScriptKind,
    /// Its account number below the seed.
    pub account: u32,
    /// The most that one transaction may pay in fees.
    pub fee_max: Amount,
    /// The most that fees may be of what a transaction pays, in hundredths of a percent.
    pub fee_share_max_bp: u32,
    /// The highest fee rate in satoshi per 1,000 virtual bytes.
    pub fee_rate_max: u64,
    /// What it signs without people.
    pub automatic: Limits,
}

impl WalletPolicy {
    /// The first block of the wallet's network.
    pub fn genesis(&self) -> BlockHash {
        BlockHash(self.network.genesis_hash().to_byte_array())
    }
}

/// Automatic limits, in satoshi. Windows slide, by the signer's clock: in *any* stretch of that length no more is signed
/// for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One payment.
    pub payment: Amount,
    /// An hour, fees included.
    pub hour: Amount,
    /// A day, fees included.
    pub day: Amount,
    /// A day to one destination script.
    pub destination_day: Amount,
}

/// Why a policy was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PolicyError {
    /// The line, counted from 1.
    pub line: usize,
    /// Why.
    pub reason: PolicyReason,
}

/// Why a policy was refused, most precise reason first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyReason {
    /// Longer than [`POLICY_SIZE_MAX`].
    #[error("the file is longer than {POLICY_SIZE_MAX} bytes")]
    TooLong,
    /// A key that no policy has.
    #[error("{0}")]
    KeyUnknown(String),
    /// Not TOML, a key missing, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// Not a UUID in lower case with hyphens.
    #[error("the platform is a UUID in lower case, with hyphens")]
    Platform,
    /// Not one of main, test, signet, regtest.
    #[error("a network is one of main, test, signet, regtest")]
    Network,
    /// Not the genesis hash of that network.
    #[error("this is not the hash of that network's first block")]
    Genesis,
    /// Named twice.
    #[error("this is said twice")]
    Repeated,
    /// A wallet's network is not among the networks allowed.
    #[error("the wallet's network is not among the networks allowed")]
    NetworkNotAllowed,
    /// More operators or wallets than a policy holds.
    #[error("there are too many of these")]
    TooMany,
    /// Not a name of 1 to 64 printable ASCII characters.
    #[error("a name has 1 to 64 printable ASCII characters")]
    Name,
    /// Not an Ed25519 public key: 64 lower-case hexadecimal digits of a point of full order.
    #[error("an operator's key is an Ed25519 public key in 64 hexadecimal digits")]
    OperatorKey,
    /// The threshold is not between 1 and the number of operators, or one stands without the other.
    #[error("the threshold is between 1 and the number of operators, and absent without operators")]
    Threshold,
    /// The platform's user without its group, or a number that no user and no group has.
    #[error(
        "platform_uid and platform_gid are numbers below 4294967295, and platform_uid stands only beside platform_gid"
    )]
    PlatformUser,
    /// Not one of pkh, sh_wpkh, wpkh, tr.
    #[error("a script is one of pkh, sh_wpkh, wpkh, tr")]
    Script,
    /// An account number is 2^31 or more.
    #[error("an account is below 2^31")]
    Account,
    /// Two wallets share keys: each would lend the other its limits.
    #[error("another wallet has the same network, script and account")]
    KeysShared,
    /// Not satoshi in digits, or more than will ever exist.
    #[error("an amount is a whole number of satoshi in quotes, such as \"50000\"")]
    Amount,
    /// More than 10,000 hundredths of a percent.
    #[error("a share is at most 10000 hundredths of a percent")]
    Share,
}

impl PolicyReason {
    /// The stable code of this reason.
    pub fn code(&self) -> &'static str {
        match self {
            PolicyReason::TooLong => "policy_too_long",
            PolicyReason::KeyUnknown(_) => "policy_key_unknown",
            PolicyReason::Syntax(_) => "policy_syntax",
            PolicyReason::Platform => "policy_platform_invalid",
            PolicyReason::Network => "policy_network_invalid",
            PolicyReason::Genesis => "policy_genesis_mismatch",
            PolicyReason::Repeated => "policy_repeated",
            PolicyReason::NetworkNotAllowed => "policy_network_not_allowed",
            PolicyReason::TooMany => "policy_too_many",
            PolicyReason::Name => "policy_name_invalid",
            PolicyReason::OperatorKey => "policy_operator_key_invalid",
            PolicyReason::Threshold => "policy_threshold_invalid",
            PolicyReason::PlatformUser => "policy_platform_user_invalid",
            PolicyReason::Script => "policy_script_invalid",
            PolicyReason::Account => "policy_account_invalid",
            PolicyReason::KeysShared => "policy_keys_shared",
            PolicyReason::Amount => "policy_amount_invalid",
            PolicyReason::Share => "policy_share_invalid",
        }
    }
}

impl PolicyError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    platform: Spanned<String>,
    threshold: Option<Spanned<u32>>,
    platform_gid: Option<Spanned<u32>>,
    platform_uid: Option<Spanned<u32>>,
    #[serde(default, rename = "network")]
    networks: Vec<NetworkTable>,
    #[serde(default, rename = "operator")]
    operators: Vec<OperatorTable>,
    #[serde(default, rename = "wallet")]
    wallets: Vec<WalletTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    name: Spanned<String>,
    genesis: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorTable {
    name: Spanned<String>,
    key: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WalletTable {
    id: Spanned<u32>,
    network: Spanned<String>,
    asset: u32,
    script: Spanned<String>,
    account: Spanned<u32>,
    fee_max_sat: Spanned<String>,
    fee_share_max_bp: Spanned<u32>,
    fee_rate_max_sat_kvb: Spanned<String>,
    automatic: AutomaticTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AutomaticTable {
    payment_sat: Spanned<String>,
    hour_sat: Spanned<String>,
    day_sat: Spanned<String>,
    destination_day_sat: Spanned<String>,
}

/// Turns places in the text into lines.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn refuse<T>(&self, at: &Spanned<T>, reason: PolicyReason) -> PolicyError {
        PolicyError { line: self.line(at.span().start), reason }
    }
    fn line(&self, offset: usize) -> usize {
        1 + self.0.as_bytes()[..offset.min(self.0.len())].iter().filter(|byte| **byte == b'\n').count()
    }
    fn amount(&self, text: &Spanned<String>) -> Result<Amount, PolicyError> {
        let amount =
            Amount::parse(text.get_ref(), 0).ok().filter(|amount| amount.units() <= u128::from(AMOUNT_SAT_MAX));
        amount.ok_or_else(|| self.refuse(text, PolicyReason::Amount))
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`]: first what makes it no TOML of this shape, then the first value in the order of the file's
    /// description (platform, networks, operators, threshold, the platform's user, wallets) that is not allowed.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let lines = Lines(text);
        if text.len() > POLICY_SIZE_MAX {
            return Err(PolicyError { line: 1, reason: PolicyReason::TooLong });
        }
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| lines.line(span.start));
            let message = error.message().to_owned();
            let unknown = message.starts_with("unknown field");
            PolicyError {
                line,
                reason: if unknown { PolicyReason::KeyUnknown(message) } else { PolicyReason::Syntax(message) },
            }
        })?;
        // The journal's id is written as all ids of the platform are.
        let platform = CommandId::parse(file.platform.get_ref())
            .ok_or_else(|| lines.refuse(&file.platform, PolicyReason::Platform))?
            .0;
        let networks = read_networks(&lines, &file.networks)?;
        let operators = read_operators(&lines, &file.operators)?;
        let threshold = read_threshold(&lines, file.threshold.as_ref(), operators.len())?;
        let callers = read_callers(&lines, file.platform_gid.as_ref(), file.platform_uid.as_ref())?;
        let wallets = read_wallets(&lines, &file.wallets, &networks)?;
        Ok(Policy { platform, operators, threshold, wallets, callers })
    }
}

fn read_networks(lines: &Lines<'_>, tables: &[NetworkTable]) -> Result<Vec<Network>, PolicyError> {
    let mut networks = Vec::new();
    for table in tables {
        let network =
            Network::parse(table.name.get_ref()).ok_or_else(|| lines.refuse(&table.name, PolicyReason::Network))?;
        if *table.genesis.get_ref() != network.genesis_hash().to_string() {
            return Err(lines.refuse(&table.genesis, PolicyReason::Genesis));
        }
        if networks.contains(&network) {
            return Err(lines.refuse(&table.name, PolicyReason::Repeated));
        }
        networks.push(network);
    }
    Ok(networks)
}

fn read_operators(lines: &Lines<'_>, tables: &[OperatorTable]) -> Result<BTreeMap<[u8; 32], Operator>, PolicyError> {
    let mut operators: BTreeMap<[u8; 32], Operator> = BTreeMap::new();
    for table in tables {
        let name = table.name.get_ref();
        if operators.len() == OPERATORS_MAX {
            return Err(lines.refuse(&table.name, PolicyReason::TooMany));
        }
        if !(1..=NAME_SIZE_MAX).contains(&name.len()) || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(lines.refuse(&table.name, PolicyReason::Name));
        }
        let key = read_key(table.key.get_ref()).ok_or_else(|| lines.refuse(&table.key, PolicyReason::OperatorKey))?;
        if operators.values().any(|operator| operator.name == *name) {
            return Err(lines.refuse(&table.name, PolicyReason::Repeated));
        }
        if operators.insert(key.to_bytes(), Operator { name: name.clone(), key }).is_some() {
            return Err(lines.refuse(&table.key, PolicyReason::Repeated));
        }
    }
    Ok(operators)
}

/// Keys of small order are refused: one signature of theirs fits many messages.
fn read_key(text: &str) -> Option<VerifyingKey> {
    let bytes: [u8; 32] = read_hex(text)?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak() && key.to_bytes() == bytes)
}

pub(crate) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn read_threshold(
    lines: &Lines<'_>,
    given: Option<&Spanned<u32>>,
    operators: usize,
) -> Result<Option<usize>, PolicyError> {
    match given {
        None if operators == 0 => Ok(None),
        None => Err(PolicyError { line: 1, reason: PolicyReason::Threshold }),
        Some(given) => match usize::try_from(*given.get_ref()) {
            Ok(count) if (1..=operators).contains(&count) => Ok(Some(count)),
            _ => Err(lines.refuse(given, PolicyReason::Threshold)),
        },
    }
}

fn read_callers(
    lines: &Lines<'_>,
    group: Option<&Spanned<u32>>,
    user: Option<&Spanned<u32>>,
) -> Result<Callers, PolicyError> {
    for given in [group, user].into_iter().flatten() {
        if *given.get_ref() == NOBODY_AT_ALL {
            return Err(lines.refuse(given, PolicyReason::PlatformUser));
        }
    }
    match (group, user) {
        // Nobody of another user would reach the socket: a policy that names one means something else.
        (None, Some(user)) => Err(lines.refuse(user, PolicyReason::PlatformUser)),
        (group, user) => Ok(Callers { group: group.map(|it| *it.get_ref()), user: user.map(|it| *it.get_ref()) }),
    }
}

fn read_wallets(
    lines: &Lines<'_>,
    tables: &[WalletTable],
    networks: &[Network],
) -> Result<BTreeMap<WalletId, WalletPolicy>, PolicyError> {
    let mut wallets: BTreeMap<WalletId, WalletPolicy> = BTreeMap::new();
    for table in tables {
        if wallets.len() == WALLETS_MAX {
            return Err(lines.refuse(&table.id, PolicyReason::TooMany));
        }
        let wallet = read_wallet(lines, table, networks)?;
        let same_keys = |other: &WalletPolicy| {
            // Test networks share coin type 1, so one account's keys are the same on all of them (SLIP-44).
            let path = |wallet: &WalletPolicy| (wallet.network.coin_type(), wallet.script, wallet.account);
            path(other) == path(&wallet)
        };
        if wallets.values().any(same_keys) {
            return Err(lines.refuse(&table.id, PolicyReason::KeysShared));
        }
        if wallets.insert(WalletId(*table.id.get_ref()), wallet).is_some() {
            return Err(lines.refuse(&table.id, PolicyReason::Repeated));
        }
    }
    Ok(wallets)
}

fn read_wallet(lines: &Lines<'_>, table: &WalletTable, networks: &[Network]) -> Result<WalletPolicy, PolicyError> {
    let network =
        Network::parse(table.network.get_ref()).ok_or_else(|| lines.refuse(&table.network, PolicyReason::Network))?;
    if !networks.contains(&network) {
        return Err(lines.refuse(&table.network, PolicyReason::NetworkNotAllowed));
    }
    let script =
        ScriptKind::parse(table.script.get_ref()).ok_or_else(|| lines.refuse(&table.script, PolicyReason::Script))?;
    let account = *table.account.get_ref();
    if account_path(network, script, account).is_err() {
        return Err(lines.refuse(&table.account, PolicyReason::Account));
    }
    let fee_max = lines.amount(&table.fee_max_sat)?;
    let fee_share_max_bp = *table.fee_share_max_bp.get_ref();
    if fee_share_max_bp > 10_000 {
        return Err(lines.refuse(&table.fee_share_max_bp, PolicyReason::Share));
    }
    let fee_rate_max = lines.amount(&table.fee_rate_max_sat_kvb)?.units();
    let automatic = Limits {
        payment: lines.amount(&table.automatic.payment_sat)?,
        hour: lines.amount(&table.automatic.hour_sat)?,
        day: lines.amount(&table.automatic.day_sat)?,
        destination_day: lines.amount(&table.automatic.destination_day_sat)?,
    };
    Ok(WalletPolicy {
        network,
        asset: AssetId(table.asset),
        script,
        account,
        fee_max,
        fee_share_max_bp,
        fee_rate_max: u64::try_from(fee_rate_max).expect("amounts in a policy are below 2^51"),
        automatic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"platform = "00010203-0405-0607-0809-0a0b0c0d0e0f"
threshold = 1

[[network]]
name = "regtest"
genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"

[[operator]]
name = "anna"
key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

[[wallet]]
id = 1
network = "regtest"
asset = 2
script = "wpkh"
account = 0
fee_max_sat = "100000"
fee_share_max_bp = 1000
fee_rate_max_sat_kvb = "500000"
[wallet.automatic]
payment_sat = "1000000"
hour_sat = "2000000"
day_sat = "5000000"
destination_day_sat = "1500000"
"#;

    fn check(from: &str, to: &str) -> (usize, &'static str) {
        assert!(GOOD.contains(from), "{from}");
        match Policy::parse(&GOOD.replacen(from, to, 1)) {
            Ok(_) => (0, "ok"),
            Err(error) => (error.line, error.code()),
        }
    }

    #[test]
    fn a_policy_is_read_as_written() {
        let policy = Policy::parse(GOOD).expect("a good policy");
        assert_eq!(policy.platform, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!((policy.threshold, policy.operators.len()), (Some(1), 1));
        let wallet = &policy.wallets[&WalletId(1)];
        assert_eq!((wallet.network, wallet.script, wallet.account), (Network::Regtest, ScriptKind::Wpkh, 0));
        assert_eq!((wallet.asset, wallet.fee_share_max_bp, wallet.fee_rate_max), (AssetId(2), 1000, 500_000));
        assert_eq!(wallet.fee_max, Amount::new(100_000));
        let [payment, hour, day, destination_day] = [1_000_000, 2_000_000, 5_000_000, 1_500_000].map(Amount::new);
        assert_eq!(wallet.automatic, Limits { payment, hour, day, destination_day });
    }

    #[test]
    fn every_mistake_is_refused_with_its_line() {
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let operator = &GOOD[GOOD.find("[[operator]]").expect("there")..GOOD.find("[[wallet]]").expect("there")];
        let wallet = &GOOD[GOOD.find("[[wallet]]").expect("there")..];
        let twice = |part: &str| part.repeat(2);
        let cases: [(&str, &str, usize, &str); 31] = [
            ("account = 0", "account = 0\nkeys = 1", 18, "policy_key_unknown"),
            ("payment_sat", "payment_satoshi", 22, "policy_key_unknown"),
            ("[wallet.automatic]", "[wallet.automatic", 21, "policy_syntax"),
            ("account = 0\n", "", 12, "policy_syntax"),
            ("asset = 2", "asset = \"2\"", 15, "policy_syntax"),
            ("asset = 2", "asset = -1", 15, "policy_syntax"),
            ("payment_sat = \"1000000\"", "payment_sat = 1000000", 22, "policy_syntax"),
            ("00010203", "0001020X", 1, "policy_platform_invalid"),
            ("name = \"regtest\"", "name = \"mainnet\"", 5, "policy_network_invalid"),
            ("0f9188", "1f9188", 6, "policy_genesis_mismatch"),
            ("name = \"regtest\"", "name = \"main\"", 6, "policy_genesis_mismatch"),
            ("name = \"anna\"", "name = \"\"", 9, "policy_name_invalid"),
            (key, &key.to_uppercase(), 10, "policy_operator_key_invalid"),
            (key, &format!("01{}", "00".repeat(31)), 10, "policy_operator_key_invalid"),
            (key, &"00".repeat(31), 10, "policy_operator_key_invalid"),
            (operator, &twice(operator), 13, "policy_repeated"),
            ("threshold = 1", "threshold = 0", 2, "policy_threshold_invalid"),
            ("threshold = 1", "threshold = 2", 2, "policy_threshold_invalid"),
            ("threshold = 1\n", "", 1, "policy_threshold_invalid"),
            (operator, "", 2, "policy_threshold_invalid"),
            ("threshold = 1", "threshold = 1\nplatform_uid = 1001", 3, "policy_platform_user_invalid"),
            ("threshold = 1", "threshold = 1\nplatform_gid = 4294967295", 3, "policy_platform_user_invalid"),
            (
                "threshold = 1",
                "threshold = 1\nplatform_gid = 7\nplatform_uid = 4294967295",
                4,
                "policy_platform_user_invalid",
            ),
            ("threshold = 1", "threshold = 1\nplatform_gid = \"florin\"", 3, "policy_syntax"),
            ("network = \"regtest\"", "network = \"main\"", 14, "policy_network_not_allowed"),
            ("script = \"wpkh\"", "script = \"p2wpkh\"", 16, "policy_script_invalid"),
            ("account = 0", "account = 2147483648", 17, "policy_account_invalid"),
            (wallet, &twice(wallet), 27, "policy_keys_shared"),
            ("\"100000\"", "\"0.1\"", 18, "policy_amount_invalid"),
            ("day_sat = \"5000000\"", "day_sat = \"2100000000000001\"", 24, "policy_amount_invalid"),
            ("_bp = 1000", "_bp = 10001", 19, "policy_share_invalid"),
        ];
        for (from, to, line, code) in cases {
            assert_eq!(check(from, to), (line, code), "{from} -> {to}");
        }
        let other = wallet.replace("account = 0", "account = 1");
        assert_eq!(check(wallet, &format!("{wallet}{other}")), (27, "policy_repeated"));
        assert_eq!(
            Policy::parse(&" ".repeat(POLICY_SIZE_MAX + 1)).map_err(|error| error.code()),
            Err("policy_too_long")
        );
    }

    #[test]
    fn callers_are_those_that_the_policy_names() {
        let callers = |text: &str| {
            let text = GOOD.replacen("threshold = 1", &format!("threshold = 1\n{text}"), 1);
            Policy::parse(&text).expect("a good policy").callers
        };
        let (own, platform, other) = (41, 42, 43);
        let admitted = |callers: Callers| [own, ROOT, platform, other].map(|user| callers.admits(user, own));
        // Without a group the socket's mode keeps everybody else away before it comes to this.
        assert_eq!(callers(""), Callers::default());
        assert_eq!(callers("platform_gid = 7"), Callers { group: Some(7), user: None });
        assert_eq!(admitted(callers("platform_gid = 7")), [true; 4]);
        let only = callers("platform_gid = 7\nplatform_uid = 42");
        assert_eq!(only, Callers { group: Some(7), user: Some(platform) });
        assert_eq!(admitted(only), [true, true, true, false]);
    }

    #[test]
    fn every_cut_is_a_policy_or_a_refusal() {
        for end in 0..=GOOD.len() {
            let _ = Policy::parse(&GOOD[..end]).map_err(|error| assert!(error.line >= 1 && error.line <= 26));
        }
    }
}

//! What a configuration may say: the range of every number, the form of every address and name, and what contradicts itself. It changes nothing and asks nobody.

use super::{BitcoinConfig, Config, NodeConfig, StoreConfig, TAKEOVER_MS_MAX, TAKEOVER_MS_MIN, Trust, URL_BYTES_MAX};
use crate::failure::Failure;
use florin_chain::bitcoin::network::Network;
use florin_core::id::{BlockHash, CommandId};
use florin_engine::terms::core_hash;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use ureq::http::Uri;

/// The longest name of a node or group, in bytes: a label in metrics and a column in tables.
const NAME_BYTES_MAX: usize = 64;
/// The longest path that is read, in bytes: Linux's own limit.
const PATH_BYTES_MAX: usize = 4_095;
/// The longest path of a Unix socket, in bytes, its end included in the 108 that Linux has room for.
const SOCKET_BYTES_MAX: usize = 107;
/// The longest prefix of database names: MariaDB's own limit is 64 for a whole name, and ours go on behind it.
const PREFIX_BYTES_MAX: usize = 32;
/// How many nodes are asked: they are asked one after another, and each may take its time.
const NODES_MAX: usize = 32;
/// What else this machine is called in its own list of names, as systems are installed (RFC 6761, section 6.3, and Debian's and
/// Red Hat's `/etc/hosts`).
const LOCAL_NAMES: [&str; 6] =
    ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];
/// The highest block at which following starts: two centuries of blocks, so that a time in seconds is not taken for a height.
const START_HEIGHT_MAX: u32 = 10_000_000;
/// The highest fee rate that may be allowed, in satoshi per 1,000 virtual bytes: ten times what the network ever asked for in
/// its worst hours. A greater one is a slip of the keyboard.
const FEE_RATE_MAX_SAT_KVB: u64 = 20_000_000;
/// The shortest time without a block after which the asset may stop: an hour between two blocks comes several times a month.
const STALE_S_MIN: u64 = 600;
/// The longest: a month.
const STALE_S_MAX: u64 = 30 * 24 * 60 * 60;
/// The fewest rows after which a snapshot may be due: a platform that nobody uses writes a row a second.
const SNAPSHOT_ROWS_MIN: u64 = 10;
/// The most: folding them takes minutes at a start.
const SNAPSHOT_ROWS_MAX: u64 = 10_000_000;
/// Blocks of a retarget period (Bitcoin's consensus rules).
const PERIOD: u32 = 2_016;

fn wrong(text: String) -> Failure {
    Failure::new("config_invalid", text)
}

fn expect(holds: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(wrong(text())) }
}

pub(super) fn check(config: &Config) -> Result<(), Failure> {
    expect(CommandId::parse(&config.platform.id).is_some(), || {
        "platform.id: a UUID in lower case, as 'florin init' draws it".into()
    })?;
    check_name("platform.node", &config.platform.node)?;
    check_paths(config)?;
    if let Some(rows) = config.platform.snapshot_rows {
        expect((SNAPSHOT_ROWS_MIN..=SNAPSHOT_ROWS_MAX).contains(&rows), || {
            format!("platform.snapshot_rows: {SNAPSHOT_ROWS_MIN} to {SNAPSHOT_ROWS_MAX}, not {rows}")
        })?;
    }
    let takeover_ms = config.takeover_ms();
    expect((TAKEOVER_MS_MIN..=TAKEOVER_MS_MAX).contains(&takeover_ms), || {
        format!("store.takeover_ms: {TAKEOVER_MS_MIN} to {TAKEOVER_MS_MAX}, not {takeover_ms}")
    })?;
    if let StoreConfig::Mariadb { prefix, .. } = &config.store {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_prefix = (1..=PREFIX_BYTES_MAX).contains(&prefix.len()) && prefix.bytes().all(is_letter);
        expect(is_prefix, || format!("store.prefix: 1 to {PREFIX_BYTES_MAX} of a to z, 0 to 9 and _, not '{prefix}'"))?;
    }
    if let Some(url) = &config.api.url {
        address("api.url", url, &["http", "https"])?;
    }
    check_bitcoin(&config.bitcoin)
}

fn check_bitcoin(bitcoin: &BitcoinConfig) -> Result<(), Failure> {
    let network = Network::parse(&bitcoin.network).filter(|network| network.name() == bitcoin.network);
    expect(network.is_some(), || {
        format!("bitcoin.network: '{}' is not one of main, test, signet, regtest", bitcoin.network)
    })?;
    check_nodes(&bitcoin.node)?;
    check_quorum(bitcoin)?;
    let (floor, cap) = (bitcoin.fee_floor_sat_kvb, bitcoin.fee_cap_sat_kvb);
    expect((1..=FEE_RATE_MAX_SAT_KVB).contains(&cap), || {
        format!("bitcoin.fee_cap_sat_kvb: 1 to {FEE_RATE_MAX_SAT_KVB}, not {cap}")
    })?;
    expect((1..=cap).contains(&floor), || {
        format!("bitcoin.fee_floor_sat_kvb: 1 to fee_cap_sat_kvb, which is {cap}, not {floor}")
    })?;
    let stale_s = bitcoin.stale_s;
    let is_regtest = bitcoin.network == Network::Regtest.name();
    expect(stale_s > 0 || is_regtest, || "bitcoin.stale_s: may be 0 on regtest only".into())?;
    expect(stale_s == 0 || (STALE_S_MIN..=STALE_S_MAX).contains(&stale_s), || {
        format!("bitcoin.stale_s: {STALE_S_MIN} to {STALE_S_MAX}, or 0 on regtest, not {stale_s}")
    })?;
    start_hash(bitcoin).map(|_| ())
}

fn check_quorum(bitcoin: &BitcoinConfig) -> Result<(), Failure> {
    let groups: BTreeSet<&str> = bitcoin.node.iter().map(|node| node.group.as_str()).collect();
    let (quorum, count) = (bitcoin.quorum, groups.len());
    expect(quorum > 0, || "bitcoin.quorum: at least 1".into())?;
    expect(quorum <= count, || format!("bitcoin.quorum: {quorum} of {count} failure groups can't be reached"))?;
    expect(quorum > 1 || bitcoin.trust == Trust::Single, || {
        "bitcoin.trust: a quorum of one group believes whatever that group says; say trust = \"single\" to accept it"
            .into()
    })?;
    expect(quorum == 1 || bitcoin.trust == Trust::Quorum, || {
        format!(
            "bitcoin.trust: \"single\" is for a quorum of one group, and bitcoin.quorum is {quorum}; say trust = \"quorum\""
        )
    })
}

fn check_nodes(nodes: &[NodeConfig]) -> Result<(), Failure> {
    expect((1..=NODES_MAX).contains(&nodes.len()), || {
        format!("bitcoin.node: 1 to {NODES_MAX} nodes are followed, not {}", nodes.len())
    })?;
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeMap::new());
    for node in nodes {
        check_name("bitcoin.node.name", &node.name)?;
        check_name("bitcoin.node.group", &node.group)?;
        let address = address("bitcoin.node.url", &node.url, &["http"])?;
        expect(names.insert(&node.name), || format!("bitcoin.node.name: two nodes are named '{}'", node.name))?;
        let twin = addresses.insert(one_spelling("bitcoin.node.url", address)?, &node.url);
        expect(twin.is_none(), || {
            let (twin, url) = (twin.map_or("", String::as_str), &node.url);
            format!("bitcoin.node.url: '{twin}' and '{url}' lead to one node, and one node has one voice")
        })?;
    }
    Ok(())
}

/// The same for all spellings of an address that lead to one node: those of this machine, an IPv4 address within IPv6, a wallet's
/// path, which bitcoind answers like any other. What another name stands for is not asked: that takes a name server's time, and
/// may be another machine tomorrow.
fn one_spelling(key: &str, (host, port, path): (String, u16, String)) -> Result<(String, u16, String), Failure> {
    let bare = host.strip_suffix('.').unwrap_or(&host);
    let inner = bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(bare);
    // Every other address of 127.0.0.0/8 may have a node of its own on the same port.
    let is_local = |ip: IpAddr| ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || ip.is_unspecified();
    let host = match inner.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if is_local(ip) => "localhost".to_owned(),
        Ok(ip) => ip.to_string(),
        Err(_) if LOCAL_NAMES.contains(&bare) || bare.ends_with(".localhost") => "localhost".to_owned(),
        Err(_) => bare.to_owned(),
    };
    // Systems read 127.1 and 0x7f000001 as addresses; no name ends in a number (RFC 3696, section 2).
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    expect(!is_number || host.parse::<Ipv4Addr>().is_ok(), || {
        format!("{key}: an IPv4 address is four numbers from 0 to 255, such as 127.0.0.1, not '{host}'")
    })?;
    let path = if path == "/wallet" || path.starts_with("/wallet/") { String::new() } else { path };
    Ok((host, port, path))
}

/// Names are shown to people, and stand in logs and metrics.
fn check_name(key: &str, name: &str) -> Result<(), Failure> {
    let is_name =
        (1..=NAME_BYTES_MAX).contains(&name.len()) && name.trim() == name && !name.chars().any(char::is_control);
    expect(is_name, || {
        format!("{key}: 1 to {NAME_BYTES_MAX} bytes without control characters or spaces at its ends, not {name:?}")
    })
}

/// Paths are there, and no file is named for two secrets: one would be sent to where only the other belongs.
fn check_paths(config: &Config) -> Result<(), Failure> {
    let is_path = |path: &Path, bytes_max: usize| {
        let bytes = path.as_os_str().as_encoded_bytes();
        !bytes.is_empty() && !bytes.contains(&0) && config.path(path).as_os_str().len() <= bytes_max
    };
    let check = |key: &str, path: &Path, bytes_max: usize| {
        expect(is_path(path, bytes_max), || {
            format!(
                "{key}: a path of 1 to {bytes_max} bytes, with the folder of this file before it where it is relative"
            )
        })
    };
    check("platform.data", &config.platform.data, PATH_BYTES_MAX)?;
    if let Some(archive) = &config.platform.archive {
        check("platform.archive", archive, PATH_BYTES_MAX)?;
    }
    check("api.token_file", &config.api.token_file, PATH_BYTES_MAX)?;
    check("signer.socket", &config.signer.socket, SOCKET_BYTES_MAX)?;
    let mut secrets = vec![("api.token_file", &config.api.token_file)];
    if let StoreConfig::Mariadb { url_file, .. } = &config.store {
        check("store.url_file", url_file, PATH_BYTES_MAX)?;
        secrets.push(("store.url_file", url_file));
    }
    for node in &config.bitcoin.node {
        check("bitcoin.node.auth_file", &node.auth_file, PATH_BYTES_MAX)?;
        // Nodes may share one: whoever runs two of them may have given them one password.
        secrets.push(("bitcoin.node.auth_file", &node.auth_file));
    }
    for (index, (key, path)) in secrets.iter().enumerate() {
        let whole = |path: &Path| -> PathBuf {
            config.path(path).components().filter(|part| *part != Component::CurDir).collect()
        };
        let twin = secrets[..index].iter().find(|(other, same)| other != key && whole(same) == whole(path));
        if let Some((other, _)) = twin {
            return Err(wrong(format!("{key}: {} is {other} already", path.display())));
        }
    }
    Ok(())
}

/// Reads an address, and says where it leads: host in lower case, port, path.
fn address(key: &str, text: &str, schemes: &[&str]) -> Result<(String, u16, String), Failure> {
    let form = || {
        let schemes = schemes.join(":// or ");
        wrong(format!(
            "{key}: {schemes}://HOST:PORT of at most {URL_BYTES_MAX} characters, without user, password, ? and #"
        ))
    };
    let is_sane = text.len() <= URL_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains(['?', '#', '@']);
    let uri: Uri = text.parse().ok().filter(|_| is_sane).ok_or_else(form)?;
    let scheme = uri.scheme_str().filter(|scheme| schemes.contains(scheme)).ok_or_else(form)?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port());
    let whole = port.as_ref().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    // A port that is no number, or too large a one, is left out of what was read.
    if host.is_empty() || uri.authority().is_none_or(|authority| authority.as_str() != whole) {
        return Err(form());
    }
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = port.map_or(usual, |port| port.as_u16());
    if port == 0 {
        return Err(form());
    }
    Ok((host.to_ascii_lowercase(), port, uri.path().trim_end_matches('/').to_owned()))
}

/// The hash of the first block that is followed; `None` for the network's own first block.
///
/// # Errors
/// `config_invalid`, `start_hash_missing`, `start_hash_invalid`, `start_height_invalid`.
pub(crate) fn start_hash(bitcoin: &BitcoinConfig) -> Result<Option<BlockHash>, Failure> {
    let height = bitcoin.start_height;
    expect(height <= START_HEIGHT_MAX, || format!("bitcoin.start_height: 0 to {START_HEIGHT_MAX}, not {height}"))?;
    let network = Network::parse(&bitcoin.network).ok_or_else(|| wrong("bitcoin.network is not known".into()))?;
    let hash = bitcoin.start_hash.as_deref().map(hash_of).transpose()?;
    if height == 0 {
        let genesis = core_hash(network.genesis_hash());
        expect(hash.is_none_or(|hash| hash == genesis), || {
            format!(
                "bitcoin.start_hash: the block of height 0 is {genesis}; leave it out, or say the start_height that is meant"
            )
        })?;
        return Ok(None);
    }
    if network != Network::Regtest && !height.is_multiple_of(PERIOD) {
        return Err(Failure::new("start_height_invalid", "following starts at the first block of a retarget period")
            .hint(format!("take {}, and its hash", height - height % PERIOD)));
    }
    let missing =
        || Failure::new("start_hash_missing", "bitcoin.start_hash says which block is meant by bitcoin.start_height");
    hash.map(Some).ok_or_else(missing)
}

/// A block's hash as Bitcoin's tools show it: the last byte first.
fn hash_of(text: &str) -> Result<BlockHash, Failure> {
    let mut bytes: [u8; 32] = florin_core::hex::decode(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Failure::new("start_hash_invalid", "bitcoin.start_hash has 64 hexadecimal digits"))?;
    bytes.reverse();
    Ok(BlockHash(bytes))
}

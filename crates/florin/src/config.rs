//! The configuration file: what it may say, what it means, and the commented one that `florin init` writes. It never holds a secret: those are files that it names.

use crate::failure::Failure;
use florin_core::id::CommandId;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The name of the configuration file that is looked for where none is given.
pub const FILE_NAME: &str = "florin.toml";

/// The commented file that `florin init` writes.
pub const TEMPLATE: &str = include_str!("florin.toml");

/// The id that stands in [`TEMPLATE`].
const TEMPLATE_ID: &str = "00000000-0000-4000-8000-000000000000";

/// The commented file for a new platform.
pub fn fresh(id: [u8; 16]) -> String {
    TEMPLATE.replace(TEMPLATE_ID, &CommandId(id).to_string())
}

/// The whole configuration. Unknown keys are refused: a misspelt limit must not be a missing one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who and where.
    pub platform: PlatformConfig,
    /// Where the journal and the tables are kept.
    pub store: StoreConfig,
    /// The HTTP interface.
    pub api: ApiConfig,
    /// The signer process.
    pub signer: SignerConfig,
    /// The Bitcoin network that is followed.
    pub bitcoin: BitcoinConfig,
    /// The folder of the file: relative paths are relative to it.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Who and where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformConfig {
    /// The journal's id, drawn once by `florin init`: it names the platform in every intent. All nodes of a platform share it.
    pub id: String,
    /// This node's name, as `EpochStarted` records it.
    pub node: String,
    /// The data folder.
    pub data: PathBuf,
}

/// Which store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub enum StoreConfig {
    /// SQLite files in the data folder.
    Sqlite,
    /// A MariaDB server; several nodes may share it.
    Mariadb {
        /// The file that holds the URL, `mysql://user:password@host:port`: it has a password in it.
        url_file: PathBuf,
        /// What the database names begin with.
        prefix: String,
        /// For how many milliseconds a leader's signs of life must stand still before another node takes over.
        #[serde(default = "takeover_ms")]
        takeover_ms: u64,
    },
}

/// The shortest time after which another node takes over. A leader answers account reads for a second
/// ([`crate::platform::CONFIRMED_MS`]) after its last confirmed sign of life; this leaves half of that for what the steady
/// clocks of two machines drift apart.
pub const TAKEOVER_MS_MIN: u64 = 1_500;
/// The longest: beyond it nobody waits for a machine to take over.
pub const TAKEOVER_MS_MAX: u64 = 600_000;

/// What holds where nothing else is said, in milliseconds.
fn takeover_ms() -> u64 {
    2_000
}

/// The longest address that is told to others.
const URL_BYTES_MAX: usize = 200;

/// The HTTP interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The file with the operator's token.
    pub token_file: PathBuf,
    /// Where callers reach it, such as through a proxy; nodes that follow tell it to those who ask the wrong one.
    pub url: Option<String>,
}

/// The signer process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// Its socket.
    pub socket: PathBuf,
}

/// How far nodes are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Several groups have to agree.
    Quorum,
    /// One group alone is believed; shown in the interface and the metrics.
    Single,
}

/// The Bitcoin network that is followed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitcoinConfig {
    /// `main`, `test`, `signet` or `regtest`.
    pub network: String,
    /// How many failure groups must have a block.
    pub quorum: usize,
    /// How far nodes are believed.
    pub trust: Trust,
    /// The first block that is followed, by height; headers are checked from there on.
    pub start_height: u32,
    /// Its hash; the genesis block's may be left out.
    pub start_hash: Option<String>,
    /// The lowest fee rate paid, in satoshi per 1,000 virtual bytes.
    pub fee_floor_sat_kvb: u64,
    /// The highest fee rate paid.
    pub fee_cap_sat_kvb: u64,
    /// After how many seconds without a new block the asset is halted as stale; 0 switches this off, on regtest only.
    pub stale_s: u64,
    /// The nodes.
    pub node: Vec<NodeConfig>,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its name, in status and logs.
    pub name: String,
    /// Its JSON-RPC address, `http://host:port`.
    pub url: String,
    /// The file with `user:password`, such as bitcoind's `.cookie`.
    pub auth_file: PathBuf,
    /// Its failure group: nodes that can fail or lie together.
    pub group: String,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// `config_missing`, `config_unreadable`, `config_invalid`.
    pub fn read(path: &Path) -> Result<Config, Failure> {
        let text = std::fs::read_to_string(path).map_err(|fault| match fault.kind() {
            std::io::ErrorKind::NotFound => Failure::new("config_missing", format!("there is no {}", path.display()))
                .hint("run 'florin init' to write one"),
            _ => Failure::new("config_unreadable", format!("{} can't be read: {fault}", path.display())),
        })?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Config::parse(&text, folder).map_err(|failure| failure.within(&path.display().to_string()))
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// `config_invalid`, with the line or the key that is wrong.
    pub fn parse(text: &str, folder: PathBuf) -> Result<Config, Failure> {
        let mut config: Config =
            toml::from_str(text).map_err(|fault| Failure::new("config_invalid", fault.to_string()))?;
        config.folder = folder;
        config.check()?;
        Ok(config)
    }

    /// The journal's id.
    pub fn platform_id(&self) -> [u8; 16] {
        CommandId::parse(&self.platform.id).expect("checked when it was read").0
    }

    /// For how long signs of life must stand still before this node takes over, in milliseconds.
    pub fn takeover_ms(&self) -> u64 {
        match self.store {
            StoreConfig::Sqlite => takeover_ms(),
            StoreConfig::Mariadb { takeover_ms, .. } => takeover_ms,
        }
    }

    /// A path of the configuration, relative to its file.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.path(&self.platform.data)
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |text: String| Err(Failure::new("config_invalid", text));
        let bitcoin = &self.bitcoin;
        if CommandId::parse(&self.platform.id).is_none() {
            return wrong("platform.id: a UUID in lower case, as 'florin init' draws it".into());
        }
        if self.platform.node.is_empty() || self.platform.node.len() > 64 {
            return wrong("platform.node: 1 to 64 characters".into());
        }
        if !(TAKEOVER_MS_MIN..=TAKEOVER_MS_MAX).contains(&self.takeover_ms()) {
            return wrong(format!("store.takeover_ms: {TAKEOVER_MS_MIN} to {TAKEOVER_MS_MAX}"));
        }
        let is_url = |url: &str| {
            let has_scheme = url.starts_with("http://") || url.starts_with("https://");
            has_scheme && url.len() <= URL_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if self.api.url.as_deref().is_some_and(|url| !is_url(url)) {
            return wrong(format!("api.url: http:// or https:// and at most {URL_BYTES_MAX} characters"));
        }
        if !["main", "test", "signet", "regtest"].contains(&bitcoin.network.as_str()) {
            return wrong(format!("bitcoin.network: '{}' is not one of main, test, signet, regtest", bitcoin.network));
        }
        if bitcoin.node.is_empty() {
            return wrong("bitcoin.node: at least one node is needed".into());
        }
        let mut groups: Vec<&str> = bitcoin.node.iter().map(|node| node.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        if bitcoin.quorum == 0 || bitcoin.quorum > groups.len() {
            return wrong(format!(
                "bitcoin.quorum: {} of {} failure groups can't be reached",
                bitcoin.quorum,
                groups.len()
            ));
        }
        if bitcoin.quorum == 1 && bitcoin.trust != Trust::Single {
            return wrong("bitcoin.trust: a quorum of one group believes whatever that group says; say trust = \"single\" to accept it".into());
        }
        if bitcoin.fee_floor_sat_kvb == 0 || bitcoin.fee_floor_sat_kvb > bitcoin.fee_cap_sat_kvb {
            return wrong("bitcoin.fee_floor_sat_kvb: more than 0 and at most fee_cap_sat_kvb".into());
        }
        if bitcoin.stale_s == 0 && bitcoin.network != "regtest" {
            return wrong("bitcoin.stale_s: may be 0 on regtest only".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(String) -> String) -> String {
        let text = change(TEMPLATE.to_owned());
        assert_ne!(text, TEMPLATE, "the change applies");
        let failure = Config::parse(&text, PathBuf::new()).expect_err("the change makes it wrong");
        assert_eq!(failure.code(), "config_invalid");
        failure.to_string()
    }

    #[test]
    fn the_template_is_a_configuration() {
        let config = Config::parse(TEMPLATE, PathBuf::from("/srv/florin")).expect("the template is right");
        assert_eq!(config.data(), PathBuf::from("/srv/florin/data"));
        assert_eq!(config.bitcoin.network, "regtest");
    }

    #[test]
    fn a_fresh_platform_has_its_own_id() {
        let config = Config::parse(&fresh([7; 16]), PathBuf::new()).expect("a fresh file is right");
        assert_eq!(config.platform_id(), [7; 16]);
    }

    #[test]
    fn what_is_wrong_is_refused_and_named() {
        assert!(refused(|text| text.replace("quorum = 1", "qourum = 1")).contains("qourum"));
        assert!(refused(|text| text.replace(TEMPLATE_ID, "one")).contains("platform.id"));
        assert!(refused(|text| text.replace("quorum = 1", "quorum = 2")).contains("2 of 1 failure groups"));
        assert!(refused(|text| text.replace("trust = \"single\"", "trust = \"quorum\"")).contains("bitcoin.trust"));
        assert!(refused(|text| text.replace("network = \"regtest\"", "network = \"mainnet\"")).contains("mainnet"));
        assert!(refused(|text| text.replace("network = \"regtest\"", "network = \"main\"")).contains("stale_s"));
        assert!(
            refused(|text| text.replace("fee_floor_sat_kvb = 1000", "fee_floor_sat_kvb = 0")).contains("fee_floor")
        );
        assert!(refused(|text| text.replace("# url = \"https", "url = \"ftp")).contains("api.url"));
        let maria = "kind = \"mariadb\"\nurl_file = \"x\"\nprefix = \"florin\"\ntakeover_ms = 1499";
        assert!(refused(|text| text.replace("kind = \"sqlite\"", maria)).contains("takeover_ms"));
        assert!(refused(|text| text.replace("start_height = 0", "start_height = -1")).contains("start_height"));
    }
}

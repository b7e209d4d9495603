//! The configuration file: what it may say, what it means, and the commented one that `florin init` writes. It never holds a secret: those are files that it names.

pub(crate) mod check;

use crate::failure::Failure;
use florin_core::id::CommandId;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The name of the configuration file that is looked for where none is given.
pub const FILE_NAME: &str = "florin.toml";

/// The largest configuration that is read, in bytes: some hundred times what `florin init` writes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The archive's folder within a data folder, where the configuration names none.
pub const ARCHIVE: &str = "archive";

/// The commented file that `florin init` writes.
pub const TEMPLATE: &str = include_str!("florin.toml");

/// The id that stands in [`TEMPLATE`].
const TEMPLATE_ID: &str = "00000000-0000-4000-8000-000000000000";

/// The commented file for a new platform.
pub fn fresh(id: [u8; 16]) -> String {
    TEMPLATE.replace(TEMPLATE_ID, &CommandId(id).to_string())
}

/// The whole configuration. Unknown keys are refused: a misspelt limit must not be a missing one.
#[derive(Debug, Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformConfig {
    /// The journal's id, drawn once by `florin init`: it names the platform in every intent. All nodes of a platform share it.
    pub id: String,
    /// This node's name, as `EpochStarted` records it.
    pub node: String,
    /// The data folder.
    pub data: PathBuf,
    /// The folder of the archive: where rows go that leave the journal. `archive` in the data folder where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<PathBuf>,
    /// After how many rows a snapshot is due: about what a start reads of the journal at most. 100,000 where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_rows: Option<u64>,
}

/// Which store.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", try_from = "StoreKeys")]
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
        takeover_ms: u64,
    },
}

/// The keys as they are written: a key of another kind of store would otherwise be read by nobody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreKeys {
    kind: StoreKind,
    url_file: Option<PathBuf>,
    prefix: Option<String>,
    takeover_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoreKind {
    Sqlite,
    Mariadb,
}

impl TryFrom<StoreKeys> for StoreConfig {
    type Error = String;

    fn try_from(keys: StoreKeys) -> Result<StoreConfig, String> {
        let StoreKeys { kind, url_file, prefix, takeover_ms: still_ms } = keys;
        match kind {
            StoreKind::Mariadb => Ok(StoreConfig::Mariadb {
                url_file: url_file.ok_or("store.url_file is missing")?,
                prefix: prefix.ok_or("store.prefix is missing")?,
                takeover_ms: still_ms.unwrap_or(takeover_ms()),
            }),
            StoreKind::Sqlite if url_file.is_none() && prefix.is_none() && still_ms.is_none() => {
                Ok(StoreConfig::Sqlite)
            }
            StoreKind::Sqlite => Err("store: url_file, prefix and takeover_ms are for kind = \"mariadb\"".to_owned()),
        }
    }
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
#[derive(Debug, Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// Its socket.
    pub socket: PathBuf,
}

/// How far nodes are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Several groups have to agree.
    Quorum,
    /// One group alone is believed; shown in the interface and the metrics.
    Single,
}

/// The Bitcoin network that is followed.
#[derive(Debug, Clone, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Deserialize, Serialize)]
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
        let text = read_text(path).map_err(|fault| match fault.kind() {
            ErrorKind::NotFound => Failure::new("config_missing", format!("there is no {}", path.display()))
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
        check::check(&config)?;
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

    /// The folder of the archive, which may not exist yet.
    pub fn archive(&self) -> PathBuf {
        self.platform.archive.as_ref().map_or_else(|| self.data().join(ARCHIVE), |folder| self.path(folder))
    }

    /// The words of the configuration as one text that does not depend on where the file lies or how it is laid out.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("text, numbers and paths, which were read from text, are JSON")
    }
}

/// The text of a file of a bounded size. Whatever else has a name is looked at and not opened: a pipe is waited for, and a device
/// may have no end.
fn read_text(path: &Path) -> io::Result<String> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let too_large = || io::Error::new(ErrorKind::FileTooLarge, "it has more than 1 MiB");
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let mut text = String::new();
    // It may have grown since.
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX { Err(too_large()) } else { Ok(text) }
}

#[cfg(test)]
mod tests;

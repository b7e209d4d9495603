//! The four Bitcoin networks and their constants; it must never decide anything about money.

use bitcoin::BlockHash;
use bitcoin::params::Params;

/// A Bitcoin network. Each address, key and descriptor belongs to one, and text of another is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// The network whose coins have a price.
    Main,
    /// The public test network of 2011 (test3), with its 20-minute difficulty rule.
    Test,
    /// The signed test network (BIP-325), default challenge.
    Signet,
    /// A private network without retargeting.
    Regtest,
}

impl Network {
    /// All networks, in the order of their declaration.
    pub const ALL: [Network; 4] = [Network::Main, Network::Test, Network::Signet, Network::Regtest];

    /// The name in configuration files: `main`, `test`, `signet`, `regtest`.
    pub fn name(self) -> &'static str {
        match self {
            Network::Main => "main",
            Network::Test => "test",
            Network::Signet => "signet",
            Network::Regtest => "regtest",
        }
    }

    /// Reads [`Network::name`]; anything else is `None`.
    pub fn parse(text: &str) -> Option<Network> {
        Network::ALL.into_iter().find(|network| network.name() == text)
    }

    /// SLIP-44 coin type: 0 on the main network, 1 on all others.
    pub fn coin_type(self) -> u32 {
        match self {
            Network::Main => 0,
            Network::Test | Network::Signet | Network::Regtest => 1,
        }
    }

    /// Whether coins of this network are worth money, so that demo keys and relaxed trust are refused.
    pub fn is_main(self) -> bool {
        self == Network::Main
    }

    /// The hash of block 0, by which a node proves which network it follows.
    pub fn genesis_hash(self) -> BlockHash {
        bitcoin::constants::genesis_block(self.library()).block_hash()
    }

    /// The consensus constants of this network.
    pub fn consensus(self) -> &'static Params {
        self.library().params()
    }

    /// The same network in the terms of the `bitcoin` crate.
    pub fn library(self) -> bitcoin::Network {
        match self {
            Network::Main => bitcoin::Network::Bitcoin,
            Network::Test => bitcoin::Network::Testnet,
            Network::Signet => bitcoin::Network::Signet,
            Network::Regtest => bitcoin::Network::Regtest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused() {
        for network in Network::ALL {
            assert_eq!(Network::parse(network.name()), Some(network));
        }
        for text in ["", "Main", "mainnet", "testnet4", "main "] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn genesis_hashes_are_the_published_ones() {
        let expected = [
            "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
            "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
            "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
            "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        ];
        for (network, hash) in Network::ALL.into_iter().zip(expected) {
            assert_eq!(network.genesis_hash().to_string(), hash);
        }
    }
}

//! Addresses: text to script and back, per network; it must never guess what a mistyped address meant.

use crate::bitcoin::network::Network;
use bitcoin::address::{NetworkUnchecked, ParseError};
use bitcoin::{Address, Script, ScriptBuf};

/// Longest text that is read as an address; a segwit address has at most 90 characters (BIP-173).
pub const ADDRESS_TEXT_MAX: usize = 90;

/// Why text is not an address of the expected network, most precise reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A well-formed address or key, but of another network or chain.
    #[error("the address belongs to another network")]
    NetworkMismatch,
    /// Not an address: wrong checksum, alphabet, length or version.
    #[error("this is not an address")]
    Invalid,
}

impl AddressError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            AddressError::NetworkMismatch => "network_mismatch",
            AddressError::Invalid => "address_invalid",
        }
    }
}

/// The script that pays to `text`, an address of `network`. Witness versions above 1 are read as BIP-350 asks.
///
/// # Errors
/// `NetworkMismatch` before `Invalid`, both of [`AddressError`].
pub fn parse_address(network: Network, text: &str) -> Result<ScriptBuf, AddressError> {
    if text.len() > ADDRESS_TEXT_MAX {
        return Err(AddressError::Invalid);
    }
    let address = text.parse::<Address<NetworkUnchecked>>().map_err(|error| match error {
        ParseError::UnknownHrp(_) if is_segwit_elsewhere(text) => AddressError::NetworkMismatch,
        ParseError::InvalidLegacyPrefix(_) => AddressError::NetworkMismatch,
        _ if is_ethereum(text) => AddressError::NetworkMismatch,
        _ => AddressError::Invalid,
    })?;
    let address = address.require_network(network.library()).map_err(|_| AddressError::NetworkMismatch)?;
    Ok(address.script_pubkey())
}

/// The address of a script, `None` for a script that no address stands for.
pub fn address_text(network: Network, script: &Script) -> Option<String> {
    Address::from_script(script, network.library().params()).ok().map(|address| address.to_string())
}

/// Another chain's segwit address: right checksum, unknown prefix (for example `ltc1…`).
fn is_segwit_elsewhere(text: &str) -> bool {
    bitcoin::bech32::segwit::decode(text).is_ok()
}

/// `0x` and forty hexadecimal digits: an account of an EVM chain, the mistake that is made most often.
fn is_ethereum(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| digits.len() == 40 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: Network, text: &str) -> Result<String, AddressError> {
        parse_address(network, text).map(|script| script.to_hex_string())
    }

    #[test]
    fn addresses_of_each_type_round_trip() {
        // Published: the addresses of the first keys of BIP-44, 49, 84 and 86 accounts and BIP-173's script hash.
        let cases = [
            (Network::Main, "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"),
            (Network::Test, "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"),
            (Network::Main, "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
            (Network::Signet, "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7"),
            (Network::Main, "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"),
            (Network::Regtest, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
        ];
        for (network, text) in cases {
            let script = parse_address(network, text).expect(text);
            assert_eq!(address_text(network, &script).as_deref(), Some(text));
        }
    }

    #[test]
    fn addresses_of_another_network_are_refused_as_such() {
        let foreign = [
            (Network::Main, "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"),
            (Network::Main, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
            (Network::Test, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
            (Network::Regtest, "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"),
            (Network::Main, "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"),
            (Network::Regtest, "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"),
            (Network::Main, "LaMT348PWRnrqeeWArpwQPbuanpXDZGEUz"),
            (Network::Main, "0x52908400098527886E0F7030069857D2E4169EE7"),
        ];
        for (network, text) in foreign {
            assert_eq!(check(network, text), Err(AddressError::NetworkMismatch), "{text}");
        }
        let litecoin =
            bitcoin::bech32::segwit::encode_v0(bitcoin::bech32::Hrp::parse("ltc").expect("a prefix"), &[7; 20]);
        assert_eq!(check(Network::Main, &litecoin.expect("a program")), Err(AddressError::NetworkMismatch));
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        let broken =
            ["", " ", "bc1", "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabB", "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyv"];
        for text in broken {
            assert_eq!(check(Network::Main, text), Err(AddressError::Invalid), "{text:?}");
        }
        let padded = " bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu";
        assert_eq!(check(Network::Main, padded), Err(AddressError::Invalid));
        assert_eq!(check(Network::Main, &"1".repeat(1_000_000)), Err(AddressError::Invalid));
    }

    #[test]
    fn scripts_without_an_address_have_none() {
        assert_eq!(address_text(Network::Main, Script::from_bytes(&[])), None);
        assert_eq!(address_text(Network::Main, Script::from_bytes(&[0x6a, 1, 1])), None);
    }
}

//! The published vectors of BIP-32, 39, 44, 49, 84, 86, 173, 350 and 380 to 386; it must never bend a vector.

use bitcoin::base58;
use bitcoin::hex::{DisplayHex, FromHex};
use florin_chain::bitcoin::address::{address_text, parse_address};
use florin_chain::bitcoin::derive::ScriptDeriver;
use florin_chain::bitcoin::descriptor::{Descriptor, DescriptorError, checksum};
use florin_chain::bitcoin::keys::{
    AccountSecrets, AddressIndex, Branch, KeyError, ScriptKind, SecretKeyTree, parse_xpub,
};
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;
use miniscript::DescriptorPublicKey;
use serde_json::Value;

const ABANDON: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("the vector file is JSON")
}

fn rows<'a>(file: &'a Value, name: &str) -> Vec<Vec<&'a str>> {
    let rows = file[name].as_array().expect("a list of vectors");
    rows.iter()
        .map(|row| row.as_array().expect("a row").iter().map(|cell| cell.as_str().expect("text")).collect())
        .collect()
}

fn index(number: u32) -> AddressIndex {
    AddressIndex::new(number).expect("a small index")
}

#[test]
fn bip39_words_seeds_and_master_keys() {
    let file = read(include_str!("vectors/bip39.json"));
    let vectors = rows(&file, "vectors");
    assert_eq!(vectors.len(), 24);
    for row in vectors {
        let [entropy, words, seed, xprv] = row[..] else { panic!("four columns") };
        let entropy = Vec::from_hex(entropy).expect("hexadecimal");
        let mnemonic = Mnemonic::from_entropy(&entropy).expect("a valid length");
        assert_eq!(mnemonic.expose_words().as_str(), words);
        let parsed = Mnemonic::parse(words).expect("valid words");
        assert_eq!(parsed.expose_entropy(), entropy);
        let derived = parsed.seed("TREZOR");
        assert_eq!(derived.expose_bytes().to_vec(), Vec::from_hex(seed).expect("hexadecimal"));
        let master = SecretKeyTree::from_seed(Network::Main, derived.expose_bytes()).expect("a valid seed");
        assert_eq!(master.expose_text().as_str(), xprv);
    }
}

#[test]
fn bip39_passphrases_are_normalised_before_they_count() {
    // NFKD (BIP-39). The seeds are those of Python's hashlib and unicodedata.
    let composed = "\u{334d}\u{30ac}\u{30d0}\u{30f4}\u{30a1}\u{3071}\u{3070}\u{3050}\u{309e}\u{3061}\u{3062}\u{5341}\u{4eba}\u{5341}\u{8272}";
    let cases = [
        (
            composed,
            "ba553eedefe76e67e2602dc20184c564010859faada929a090dd2c57aacb204ceefd15404ab50ef3e8dbeae5195aeae64b0def4d2eead1cdc728a33ced520ffd",
        ),
        (
            "Gr\u{f6}\u{df}e \u{e9}",
            "c0c6cbd761063b10d9b972df225fae0fded6ace44f7d7045f3d0d2bff86a9b4b2e4a8c8671e6b0ed440b4f62639f6c7a096863166cb67e05f0ce01b1b71f98eb",
        ),
        (
            "Gro\u{308}\u{df}e e\u{301}",
            "c0c6cbd761063b10d9b972df225fae0fded6ace44f7d7045f3d0d2bff86a9b4b2e4a8c8671e6b0ed440b4f62639f6c7a096863166cb67e05f0ce01b1b71f98eb",
        ),
    ];
    let mnemonic = Mnemonic::parse(ABANDON).expect("valid words");
    for (passphrase, seed) in cases {
        assert_eq!(mnemonic.seed(passphrase).expose_bytes().to_lower_hex_string(), seed, "{passphrase}");
    }
}

#[test]
fn bip32_derivations_from_seed_to_text_and_back() {
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let file = read(include_str!("vectors/bip32.json"));
    let vectors = rows(&file, "valid");
    assert_eq!(vectors.len(), 17);
    for row in vectors {
        let [seed, path, xpub, xprv] = row[..] else { panic!("four columns") };
        let seed = Vec::from_hex(seed).expect("hexadecimal");
        let master = SecretKeyTree::from_seed(Network::Main, &seed).expect("a valid seed");
        let key = master.derive(&secp, &path.parse().expect("a path")).expect("a key");
        assert_eq!(key.expose_text().as_str(), xprv, "{path}");
        assert_eq!(key.public(&secp).to_string(), xpub, "{path}");
        let parsed = SecretKeyTree::parse(Network::Main, xprv).expect("a valid key");
        assert_eq!(parsed.expose_text().as_str(), xprv);
        assert_eq!(parse_xpub(Network::Main, xpub).map(|key| key.to_string()), Ok(xpub.to_owned()));
    }
}

#[test]
fn bip32_invalid_keys_are_refused_for_their_reason() {
    let file = read(include_str!("vectors/bip32.json"));
    let vectors = rows(&file, "invalid");
    assert_eq!(vectors.len(), 16);
    for row in vectors {
        let [text, reason] = row[..] else { panic!("two columns") };
        let refusal = if text.starts_with("xpub") {
            parse_xpub(Network::Main, text).err()
        } else {
            SecretKeyTree::parse(Network::Main, text).err()
        };
        let expected = match reason {
            _ if reason.starts_with("zero depth") => KeyError::DepthZero,
            "unknown extended key version" => KeyError::Version,
            "invalid checksum" => KeyError::Base58,
            _ => KeyError::Invalid,
        };
        assert_eq!(refusal, Some(expected), "{reason}");
    }
}

fn addresses(network: Network, kind: ScriptKind, places: &[(Branch, u32)]) -> Vec<String> {
    let mnemonic = Mnemonic::parse(ABANDON).expect("valid words");
    let seed = mnemonic.seed("");
    let secrets = AccountSecrets::derive(network, seed.expose_bytes(), kind, 0, &[0; 32]).expect("an account");
    let account = secrets.public(&[0; 32]);
    let one = |(branch, place): &(Branch, u32)| {
        let descriptor = Descriptor::of_account(&account, *branch).expect("a descriptor");
        let script = descriptor.script(index(*place)).expect("a key");
        address_text(network, script.as_script()).expect("an address")
    };
    places.iter().map(one).collect()
}

#[test]
fn bip44_49_84_86_accounts_derive_the_published_addresses() {
    let (outside, inside) = (Branch::External, Branch::Internal);
    // BIP-44 publishes no addresses; this is the one that wallets publish for these words.
    assert_eq!(addresses(Network::Main, ScriptKind::Pkh, &[(outside, 0)]), ["1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"]);
    assert_eq!(addresses(Network::Test, ScriptKind::ShWpkh, &[(outside, 0)]), ["2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"]);
    let places = [(outside, 0), (outside, 1), (inside, 0)];
    let wpkh = [
        "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu",
        "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g",
        "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el",
    ];
    assert_eq!(addresses(Network::Main, ScriptKind::Wpkh, &places), wpkh);
    let tr = [
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
        "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7",
    ];
    assert_eq!(addresses(Network::Main, ScriptKind::Tr, &places), tr);
}

/// A key's text with the version bytes of BIP-32. BIP-49 and 84 publish theirs with those of SLIP-132.
fn plain(text: &str) -> String {
    let mut bytes = base58::decode_check(text).expect("a checksum that is right");
    let version: [u8; 4] = match &text[..4] {
        "uprv" => [0x04, 0x35, 0x83, 0x94],
        "upub" => [0x04, 0x35, 0x87, 0xcf],
        "zprv" => [0x04, 0x88, 0xad, 0xe4],
        "zpub" => [0x04, 0x88, 0xb2, 0x1e],
        _ => return text.to_owned(),
    };
    bytes[..4].copy_from_slice(&version);
    base58::encode_check(&bytes)
}

#[test]
fn bip49_84_86_keys_are_the_published_ones() {
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let file = read(include_str!("vectors/accounts.json"));
    let mut checked = 0;
    for account in file["accounts"].as_array().expect("a list of accounts") {
        let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
        let network = Network::parse(&text(account, "network").expect("a network")).expect("one of ours");
        let kind = ScriptKind::parse(&text(account, "kind").expect("a kind")).expect("one of ours");
        let seed = Mnemonic::parse(ABANDON).expect("valid words").seed("");
        let master = SecretKeyTree::from_seed(network, seed.expose_bytes()).expect("a valid seed");
        let secrets = AccountSecrets::derive(network, seed.expose_bytes(), kind, 0, &[5; 32]).expect("an account");
        let public = secrets.public(&[6; 32]);
        assert_eq!(public.origin.fingerprint.to_string(), "73c5da0a");
        assert_eq!(Some(public.origin.path.to_string()), text(account, "path"));
        let keys = account["keys"].as_array().expect("a list of keys");
        for (key, path) in keys.iter().map(|key| (key, text(key, "path").expect("a path"))) {
            let tree = master.derive(&secp, &path.parse().expect("a path")).expect("a key");
            let point = tree.public(&secp).public_key;
            let found = [
                ("private", tree.expose_text().to_string()),
                ("public", tree.public(&secp).to_string()),
                ("secret", base58::decode_check(&tree.expose_text()).expect("a key")[46..].to_lower_hex_string()),
                ("point", point.to_string()),
                ("internal", point.x_only_public_key().0.to_string()),
                ("script", script_of_point(kind, &point.to_string())),
            ];
            let published = found.into_iter().filter_map(|(name, found)| Some((name, found, text(key, name)?)));
            for (name, found, published) in published {
                let published = if matches!(name, "private" | "public") { plain(&published) } else { published };
                assert_eq!(found, published, "{kind:?} {path} {name}");
                checked += 1;
            }
            if path == public.origin.path.to_string() {
                assert_eq!(Some(public.xpub.to_string()), text(key, "public").map(|text| plain(&text)));
            }
        }
    }
    assert_eq!(checked, 32, "as many keys and scripts as the three proposals publish");
}

#[test]
fn bip173_and_350_segwit_addresses() {
    let file = read(include_str!("vectors/segwit_addresses.json"));
    let (valid, invalid) = (rows(&file, "valid"), rows(&file, "invalid"));
    assert_eq!((valid.len(), invalid.len()), (8, 28));
    for row in valid {
        let network = if row[0].to_ascii_lowercase().starts_with("bc1") { Network::Main } else { Network::Test };
        let script = parse_address(network, row[0]).expect("a valid address");
        assert_eq!(script.to_hex_string(), row[1]);
        assert_eq!(address_text(network, &script), Some(row[0].to_ascii_lowercase()));
        let other = if network == Network::Main { Network::Test } else { Network::Main };
        assert_eq!(parse_address(other, row[0]).map_err(|error| error.code()), Err("network_mismatch"));
    }
    for row in invalid {
        for network in Network::ALL {
            assert!(parse_address(network, row[0]).is_err(), "{}: {}", row[0], row[1]);
        }
    }
}

#[test]
fn bip380_checksums() {
    assert_eq!(checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
    assert_eq!(checksum("raw(Ü)"), None);
    let refusal = |text: &str| Descriptor::parse(Network::Main, text).err();
    assert_eq!(refusal("raw(deadbeef)#89f8spxm"), Some(DescriptorError::FunctionUnknown), "a right checksum");
    assert_eq!(refusal("raw(deadbeef)"), Some(DescriptorError::ChecksumMissing));
    assert_eq!(refusal("raw(deadbeef)#"), Some(DescriptorError::ChecksumMissing));
    assert_eq!(refusal("raw(deadbeef)#89f8spxmx"), Some(DescriptorError::ChecksumInvalid));
    assert_eq!(refusal("raw(deadbeef)#89f8spx"), Some(DescriptorError::ChecksumInvalid));
    assert_eq!(refusal("raw(deedbeef)#89f8spxm"), Some(DescriptorError::ChecksumInvalid));
    assert_eq!(refusal("raw(deedbeef)##9f8spxm"), Some(DescriptorError::ChecksumInvalid));
    assert_eq!(refusal("raw(Ü)#00000000"), Some(DescriptorError::Character));
}

const XPUB: &str =
    "xpub6ERApfZwUNrhLCkDtcHTcxd75RbzS1ed54G1LkBUHQVHQKqhMkhgbmJbZRkrgZw4koxb5JaHWkY4ALHY2grBGRjaDMzQLcgJvLJuZZvRcEL";
const XPRV: &str =
    "xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc";

fn parse(body: &str) -> Result<Descriptor, DescriptorError> {
    Descriptor::parse(Network::Main, &format!("{body}#{}", checksum(body).expect("allowed characters")))
}

#[test]
fn bip380_key_expressions_that_we_watch() {
    let accepted = ["[deadbeef/0h/1h/2h]XPUB/3/4/5/*", "[deadbeef/0'/1h/2']XPUB/0/*", "[deadbeef]XPUB/*"];
    for key in accepted {
        assert!(parse(&format!("wpkh({})", key.replace("XPUB", XPUB))).is_ok(), "{key}");
    }
}

#[test]
fn bip380_to_386_expressions_that_we_refuse() {
    let key = |text: &str| text.replace("XPUB", XPUB).replace("XPRV", XPRV);
    let point = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
    let cases = [
        ("wpkh([deadbeef/0h/1h/2h]XPRV/3/4/*)", DescriptorError::PrivateKey),
        ("wpkh([deadbeef]L4rK1yDtCWekvXuE6oXD9jCYfFNV2cWRpVuPLBcCU2z8TrisoyY1)", DescriptorError::PrivateKey),
        ("pkh(5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss)", DescriptorError::PrivateKey),
        ("wsh(pkh(XPUB/0/*))", DescriptorError::FunctionUnknown),
        ("wpkh(wsh(pkh(XPUB/0/*)))", DescriptorError::FunctionUnknown),
        ("sh(sh(pkh(XPUB/0/*)))", DescriptorError::FunctionUnknown),
        ("sh(wpkh(XPUB/0/*)", DescriptorError::FunctionUnknown),
        ("tr([deadbeef]XPUB/0/*,pk(XPUB/1/*))", DescriptorError::FunctionUnknown),
        ("wpkh(XPUB/0/*)", DescriptorError::OriginMissing),
        ("wpkh(aaaaaaaa]XPUB/0/*)", DescriptorError::OriginMissing),
        ("wpkh([deadbeef/0h/0h/0h/*]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([deadbeef/0h/0h/0h/]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([deadbef/0h/0h/0h]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([deadbeeef/0h/0h/0h]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([deadbeef/0f/0f/0f]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([deadbeef/-0/-0/-0]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([deadbeef/0H/0H/0H]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([gaaaaaaa]XPUB/0/*)", DescriptorError::OriginInvalid),
        ("wpkh([aaaaaaaa][aaaaaaaa]XPUB/0/*)", DescriptorError::Key(KeyError::Base58)),
        ("wpkh([deadbeef])", DescriptorError::Key(KeyError::Base58)),
        ("wpkh([deadbeef]XPUB/3h/4h/5h/*)", DescriptorError::StepHardened),
        ("wpkh([deadbeef]XPUB/3/4/*')", DescriptorError::StepHardened),
        ("wpkh([deadbeef]XPUB/2147483648/*)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB/1aa/*)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB/00/*)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB/+1/*)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB//*)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB/*/*)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB/0/*H)", DescriptorError::StepInvalid),
        ("wpkh([deadbeef]XPUB/3/4/5)", DescriptorError::NotRanged),
        ("wpkh([deadbeef]XPUB)", DescriptorError::NotRanged),
    ];
    for (body, expected) in cases {
        assert_eq!(parse(&key(body)).err(), Some(expected), "{body}");
    }
    assert_eq!(parse(&format!("wpkh([deadbeef]{point})")).err(), Some(DescriptorError::Key(KeyError::Base58)));
    let foreign = key("wpkh([deadbeef]XPUB/0/*)");
    let foreign = format!("{foreign}#{}", checksum(&foreign).expect("allowed characters"));
    let refusal = Descriptor::parse(Network::Regtest, &foreign).err();
    assert_eq!(refusal.map(|error| error.code()), Some("network_mismatch"));
    assert_eq!(Descriptor::parse(Network::Main, &"w".repeat(513)).err(), Some(DescriptorError::TooLong));
}

/// Florin watches single keys of accounts with their origin. Every other published descriptor is refused, valid or not, and never
/// half understood.
#[test]
fn bip380_to_386_vectors_give_their_scripts_or_are_refused_by_their_code() {
    let file = read(include_str!("vectors/descriptors.json"));
    let vectors = rows(&file, "vectors");
    assert_eq!(vectors.len(), 121);
    for row in vectors {
        let [bip, validity, text, code, ref scripts @ ..] = row[..] else { panic!("four columns and scripts") };
        match parse(text) {
            Ok(descriptor) => {
                assert_eq!((code, validity), ("", "valid"), "BIP-{bip}: {text}");
                for (place, script) in scripts.iter().enumerate() {
                    let found = descriptor.script(index(place as u32)).expect("a key");
                    assert_eq!(found.as_script().to_hex_string(), *script, "BIP-{bip}: {text} at {place}");
                }
            }
            Err(refusal) => assert_eq!(refusal.code(), code, "BIP-{bip}: {text}"),
        }
    }
}

#[test]
fn bip381_and_382_scripts_of_private_keys() {
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let script = |kind, key: &str, path: &str| {
        let tree = SecretKeyTree::parse(Network::Main, key).expect("a valid key");
        let tree = tree.derive(&secp, &path.parse().expect("a path")).expect("a key");
        script_of_point(kind, &tree.public(&secp).public_key.to_string())
    };
    // pkh(…/2147483647'/0) of BIP-381, then wpkh(…/1/2/0) and sh(wpkh(…/10/20/30/40/*')) of BIP-382.
    let key = "xprv9s21ZrQH143K31xYSDQpPDxsXRTUcvj2iNHm5NUtrGiGG5e2DtALGdso3pGz6ssrdK4PFmM8NSpSBHNqPqm55Qn3LqFtT2emdEXVYsCzC2U";
    let expected = "76a914ebdc90806a9c4356c1c88e42216611e1cb4c1c1788ac";
    assert_eq!(script(ScriptKind::Pkh, key, "2147483647'/0"), expected);
    let key = "xprv9vHkqa6EV4sPZHYqZznhT2NPtPCjKuDKGY38FBWLvgaDx45zo9WQRUT3dKYnjwih2yJD9mkrocEZXo1ex8G81dwSM1fwqWpWkeS3v86pgKt";
    assert_eq!(script(ScriptKind::Wpkh, key, "1/2/0"), "0014326b2249e3a25d5dc60935f044ee835d090ba859");
    let key = "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi";
    let expected = [
        "a9149a4d9901d6af519b2a23d4a2f51650fcba87ce7b87",
        "a914bed59fc0024fae941d6e20a3b44a109ae740129287",
        "a9148483aa1116eb9c05c482a72bada4b1db24af654387",
    ];
    for (place, expected) in expected.into_iter().enumerate() {
        assert_eq!(script(ScriptKind::ShWpkh, key, &format!("10/20/30/40/{place}'")), expected);
    }
    let point = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
    assert_eq!(script_of_point(ScriptKind::Wpkh, point), "00149a1c78a507689f6f54b847ad1cef1e614ee23f1e");
}

#[test]
fn bip382_ranged_scripts() {
    let xpub = "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH";
    let descriptor = parse(&format!("wpkh([ffffffff/13']{xpub}/1/2/*)")).expect("a valid descriptor");
    let scripts = [
        "0014326b2249e3a25d5dc60935f044ee835d090ba859",
        "0014af0bd98abc2f2cae66e36896a39ffe2d32984fb7",
        "00141fa798efd1cbf95cebf912c031b8a4a6e9fb9f27",
    ];
    for (place, expected) in scripts.into_iter().enumerate() {
        let script = descriptor.script(index(place as u32)).expect("a key");
        assert_eq!(script.as_script().to_hex_string(), expected);
    }
}

/// The script of a kind for one point, built as for the keys of an account.
fn script_of_point(kind: ScriptKind, point: &str) -> String {
    let key: bitcoin::secp256k1::PublicKey = point.parse().expect("a point");
    let deriver = ScriptDeriver::new(kind, &XPUB.parse().expect("an extended public key"));
    deriver.script_of_key(&key).expect("a key").as_script().to_hex_string()
}

#[test]
fn bip381_scripts() {
    let point = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
    assert_eq!(script_of_point(ScriptKind::Pkh, point), "76a9149a1c78a507689f6f54b847ad1cef1e614ee23f1e88ac");
    // The vector names the key at 0; the range that we watch begins with it.
    let xpub = "xpub69H7F5dQzmVd3vPuLKtcXJziMEQByuDidnX3YdwgtNsecY5HRGtAAQC5mXTt4dsv9RzyjgDjAQs9VGVV6ydYCHnprc9vvaA5YtqWyL6hyds";
    let descriptor = parse(&format!("pkh([bd16bee5/2147483647h]{xpub}/*)")).expect("a valid descriptor");
    let script = descriptor.script(index(0)).expect("a key").as_script().to_hex_string();
    assert_eq!(script, "76a914ebdc90806a9c4356c1c88e42216611e1cb4c1c1788ac");
    for (body, expected) in [
        (format!("pk({point})"), DescriptorError::FunctionUnknown),
        (format!("pkh([deadbeef/1/2h/3/4h]{point})"), DescriptorError::Key(KeyError::Base58)),
        (format!("sh(pk({point}))"), DescriptorError::FunctionUnknown),
        (format!("sh(pkh({point}))"), DescriptorError::FunctionUnknown),
        (format!("pk(pk({point}))"), DescriptorError::FunctionUnknown),
        (format!("sh({point})"), DescriptorError::FunctionUnknown),
        (format!("sh(sh(pkh({point})))"), DescriptorError::FunctionUnknown),
    ] {
        assert_eq!(parse(&body).err(), Some(expected), "{body}");
    }
}

#[test]
fn bip386_scripts() {
    let point = "a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
    let script = "512077aab6e066f8a7419c5ab714c12c67d25007ed55a43cadcacb4d7a970a093f11";
    // Only x counts: both points with it pay to the same output.
    for parity in ["02", "03"] {
        assert_eq!(script_of_point(ScriptKind::Tr, &format!("{parity}{point}")), script);
    }
    let tree = format!("tr({point},pk(669b8afcec803a0d323e9a17f3ea8e68e8abe5a278020a929adbec52421adbd0))");
    assert_eq!(parse(&tree).err(), Some(DescriptorError::FunctionUnknown), "we watch no script trees");
    for function in ["wsh", "sh"] {
        let nested = format!("{function}(tr({point}))");
        assert_eq!(parse(&nested).err(), Some(DescriptorError::FunctionUnknown));
    }
}

#[test]
fn scripts_equal_those_of_miniscript_for_every_kind() {
    for network in [Network::Main, Network::Regtest] {
        for kind in ScriptKind::ALL {
            let secrets = AccountSecrets::derive(network, &[42; 32], kind, 7, &[1; 32]).expect("an account");
            for branch in Branch::ALL {
                let ours = Descriptor::of_account(&secrets.public(&[1; 32]), branch).expect("a descriptor");
                let text = ours.to_string();
                let theirs: miniscript::Descriptor<DescriptorPublicKey> = text.parse().expect("miniscript reads it");
                assert_eq!(Descriptor::parse(network, &text).as_ref(), Ok(&ours), "{text}");
                assert_eq!(ours.account(), Some((secrets.public(&[1; 32]), branch)));
                let deriver = ours.deriver();
                for place in (0..40).chain([255, 256, 65_535, 65_536, (1 << 31) - 1]) {
                    let expected = theirs.at_derivation_index(place).expect("not hardened").script_pubkey();
                    let script = deriver.script(index(place)).expect("a key").to_script_buf();
                    assert_eq!(script, expected, "{kind:?} {branch:?} {place}");
                    let address = address_text(network, &script).expect("an address");
                    assert_eq!(parse_address(network, &address), Ok(script));
                    let key = deriver.public_key(index(place)).expect("a key");
                    let full = ours.full_path(index(place));
                    let secp = bitcoin::secp256k1::Secp256k1::new();
                    let master = SecretKeyTree::from_seed(network, &[42; 32]).expect("a seed");
                    assert_eq!(master.derive(&secp, &full).expect("a key").public(&secp).public_key, key);
                }
            }
        }
    }
}

//! Text from outside, changed at random: addresses, descriptors, keys and recovery words are read as what they say or refused by a
//! code; it must never take a mistyped one for another.

use florin_chain::bitcoin::address::{address_text, parse_address};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AccountSecrets, AddressIndex, Branch, ScriptKind, SecretKeyTree, parse_xpub};
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;

/// Changed texts of each kind for each seed.
const CHANGES: u32 = 1_000;

/// Numbers from a seed, the same on every machine: SplitMix64 (Steele, Lea and Flood, 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    /// A character: mostly one that such texts have.
    fn character(&mut self) -> char {
        const USUAL: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7lABCDEFGHJKLMNPQRSTUVWXYZio1()[]/*'#,{} ";
        const ODD: [char; 8] = ['\0', '\n', '\t', '\u{e9}', '\u{200b}', '\u{ff11}', '\u{1f600}', '\u{7f}'];
        if self.below(8) == 0 { ODD[self.below(ODD.len())] } else { USUAL[self.below(USUAL.len())] as char }
    }

    /// The text with up to three characters replaced, inserted, removed, repeated or exchanged, or cut short.
    fn changed(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..1 + self.below(3) {
            if letters.is_empty() {
                break;
            }
            let at = self.below(letters.len());
            match self.below(7) {
                0..=2 => letters[at] = self.character(),
                3 => letters.insert(at, self.character()),
                4 => drop(letters.remove(at)),
                5 => {
                    let next = (at + 1) % letters.len();
                    letters.swap(at, next);
                }
                _ => letters.truncate(at),
            }
        }
        letters.into_iter().collect()
    }
}

fn index() -> AddressIndex {
    AddressIndex::new(0).expect("a small index")
}

/// Whether the refusal bears a code: words of small letters.
fn is_code(code: &str) -> bool {
    !code.is_empty()
        && code.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'_')
}

/// Runs changed texts through a reader, which gives the text of what it read, or a code. Says how many were read.
fn check(seed: u64, text: &str, read: impl Fn(&str) -> Result<String, &'static str>) -> u32 {
    let mut draws = Draws(seed);
    assert_eq!(read(text).as_deref(), Ok(text), "as it was written");
    let mut taken = 0;
    for _ in 0..CHANGES {
        let changed = draws.changed(text);
        match read(&changed) {
            // Read as what it says, which is then the same again.
            Ok(again) => {
                assert_eq!(read(&again).as_deref(), Ok(again.as_str()), "seed {seed}: {changed:?}");
                assert!(again == changed || again == text, "seed {seed}: {changed:?} is taken for {again:?}");
                taken += u32::from(again != text);
            }
            Err(code) => assert!(is_code(code), "seed {seed}: {changed:?}: {code}"),
        }
    }
    taken
}

#[test]
fn changed_addresses_descriptors_and_keys_are_refused_by_a_code() {
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let mut seed = 0;
    for network in Network::ALL {
        for kind in ScriptKind::ALL {
            seed += 1;
            let secrets = AccountSecrets::derive(network, &[seed as u8; 32], kind, 0, &[1; 32]).expect("an account");
            let descriptor = Descriptor::of_account(&secrets.public(&[1; 32]), Branch::External).expect("a descriptor");
            let script = descriptor.script(index()).expect("a key").to_script_buf();
            let address = address_text(network, &script).expect("an address");
            let taken = check(seed, &address, |text| {
                let script = parse_address(network, text).map_err(|refusal| refusal.code())?;
                Ok(address_text(network, &script).expect("an address was read"))
            });
            assert_eq!(taken, 0, "no change of a few letters gives another address of {}", network.name());
            let taken = check(seed, &descriptor.to_string(), |text| {
                Ok(Descriptor::parse(network, text).map_err(|refusal| refusal.code())?.to_string())
            });
            assert_eq!(taken, 0, "the checksum knows every change");
            let tree = SecretKeyTree::from_seed(network, &[seed as u8; 32]).expect("a seed");
            let read = |text: &str| Ok(parse_xpub(network, text).map_err(|refusal| refusal.code())?.to_string());
            assert_eq!(check(seed, &tree.public(&secp).to_string(), read), 0);
            let read = |text: &str| match SecretKeyTree::parse(network, text) {
                Ok(tree) => Ok(tree.expose_text().to_string()),
                Err(refusal) => Err(refusal.code()),
            };
            assert_eq!(check(seed, &tree.expose_text(), read), 0);
        }
    }
}

#[test]
fn changed_recovery_words_are_refused_by_a_code_or_are_words_themselves() {
    for (seed, size) in (1..).zip([16, 20, 24, 28, 32]) {
        let entropy: Vec<u8> = (0..size).map(|byte| byte * 7 + 3).collect();
        let words = Mnemonic::from_entropy(&entropy).expect("a valid length").expose_words();
        // A word may be changed into another of the list, and the checksum has four to eight bits.
        check(seed, &words, |text| match Mnemonic::parse(text) {
            Ok(mnemonic) => Ok(mnemonic.expose_words().to_string()),
            Err(refusal) => Err(refusal.code()),
        });
    }
}

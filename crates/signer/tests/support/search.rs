//! Looks for secrets in the memory of a process. It must never keep one as it is: it would find its own.

use bitcoin::NetworkKind;
use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::Secp256k1;
use florin_chain::bitcoin::keys::{ScriptKind, account_path};
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use zeroize::{Zeroize, Zeroizing};

/// What every byte of a secret that is looked for is changed by.
const MASK: u8 = 0xa5;

/// Half a vector register, the least that a copy on its way leaves behind.
const PIECE_SIZE: usize = 16;

/// Bytes that are read at once.
const CHUNK_SIZE: usize = 1 << 20;

/// A secret to look for, whole and in pieces.
pub struct Secret {
    pub name: &'static str,
    masked: Vec<u8>,
}

impl Secret {
    pub fn of(name: &'static str, bytes: &[u8]) -> Secret {
        assert!(bytes.len() >= PIECE_SIZE, "{name} is too short to be found for sure");
        Secret { name, masked: bytes.iter().map(|byte| byte ^ MASK).collect() }
    }

    /// Words without a passphrase of their own, and what keys are made of them on the way to the first account of regtest.
    pub fn of_words(words: &Mnemonic) -> Vec<Secret> {
        let seed = words.seed("");
        let mut secrets = vec![
            Secret::of("entropy", words.expose_entropy()),
            Secret::of("words", words.expose_words().as_bytes()),
            Secret::of("seed", seed.expose_bytes()),
        ];
        let secp = Secp256k1::new();
        let master = Xpriv::new_master(NetworkKind::Test, seed.expose_bytes()).expect("a seed");
        let path = account_path(Network::Regtest, ScriptKind::Tr, 0).expect("a path");
        let steps: &[_] = path.as_ref();
        for (depth, name) in ["master key", "purpose key", "coin key", "account key"].into_iter().enumerate() {
            let path = DerivationPath::from(&steps[..depth]);
            let key = master.derive_priv(&secp, &path).expect("a key").private_key.secret_bytes();
            secrets.push(Secret::of(name, &key));
        }
        secrets
    }

    /// Pieces, of which the last may overlap the one before it.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let last = self.masked.len() - PIECE_SIZE;
        (0..self.masked.len().div_ceil(PIECE_SIZE))
            .map(move |piece| &self.masked[(piece * PIECE_SIZE).min(last)..][..PIECE_SIZE])
    }
}

/// How often each secret stands in the memory that a process can write, by the piece of it that is found most often. `process` is a number or
/// `self`.
pub fn count(process: &str, secrets: &[Secret]) -> Result<Vec<(&'static str, usize)>> {
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut pieces: Vec<(usize, &[u8], usize)> = Vec::new();
    for (index, secret) in secrets.iter().enumerate() {
        pieces.extend(secret.pieces().map(|piece| (index, piece, 0)));
    }
    // By the byte with which they begin, because most places in memory are the beginning of none.
    let mut beginning: Vec<Vec<usize>> = vec![Vec::new(); 256];
    for (number, (_, piece, _)) in pieces.iter().enumerate() {
        beginning[usize::from(piece[0] ^ MASK)].push(number);
    }
    let mut chunk = Zeroizing::new(vec![0; CHUNK_SIZE + PIECE_SIZE - 1]);
    let own = chunk.as_ptr() as u64..chunk.as_ptr() as u64 + chunk.len() as u64;
    let mut searched = 0;
    for map in maps.lines() {
        let mut words = map.split_whitespace();
        let (Some(range), Some(modes)) = (words.next(), words.next()) else { continue };
        let Some((start, end)) = range.split_once('-').filter(|_| modes.starts_with("rw")) else { continue };
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut start, end) = (address(start), address(end));
        while start < end {
            let wanted = chunk.len().min((end - start) as usize);
            let Ok(read) = memory.read_at(&mut chunk[..wanted], start) else { break };
            searched += read;
            let places = read.saturating_sub(PIECE_SIZE - 1).min(CHUNK_SIZE);
            for (place, byte) in chunk[..places].iter().enumerate() {
                for number in &beginning[usize::from(*byte)] {
                    let (_, piece, found) = &mut pieces[*number];
                    // What lies in the chunk itself was read from elsewhere, and counted there.
                    let is_own = process == "self" && own.contains(&(start + place as u64));
                    let here = chunk[place..place + PIECE_SIZE].iter();
                    *found += usize::from(!is_own && here.zip(*piece).all(|(byte, masked)| byte ^ MASK == *masked));
                }
            }
            chunk.as_mut_slice().zeroize();
            start += CHUNK_SIZE as u64;
        }
    }
    assert!(searched > CHUNK_SIZE / 8, "only {searched} bytes were searched");
    let most = |index| pieces.iter().filter(|piece| piece.0 == index).map(|piece| piece.2).max().unwrap_or(0);
    Ok(secrets.iter().enumerate().map(|(index, secret)| (secret.name, most(index))).collect())
}

//! Owns how amounts, scripts and transactions look in bitcoind's JSON, and how parameters are read; must never let an amount pass through a float.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hex::DisplayHex;
use bitcoin::opcodes::all::{OP_CLTV, OP_CSV, OP_PUSHNUM_1, OP_PUSHNUM_16, OP_PUSHNUM_NEG1};
use bitcoin::script::Instruction;
use bitcoin::{Address, BlockHash, Network, Script, Transaction, TxOut, Txid, ecdsa};
use miniscript::descriptor::checksum::desc_checksum;
use serde_json::{Number, Value, json};

use super::{RpcError, type_error};
use crate::coins::Coin;
use crate::fees::FeeRate;
use crate::params::MONEY_MAX_SAT;
use crate::script::ScriptKind;

/// A number with exactly this text.
pub fn number(text: &str) -> Value {
    let number: Number = text.parse().expect("the caller writes a JSON number");
    Value::Number(number)
}

/// Satoshi as a number of BTC with eight places.
pub fn amount(sat: u64) -> Value {
    number(&format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000))
}

/// A fee rate as a number of BTC per 1,000 virtual bytes.
pub fn rate(rate: FeeRate) -> Value {
    amount(rate.sat_per_kvb())
}

/// Reads an amount in BTC, a number or a text, exactly.
///
/// # Errors
/// -3 where it is no amount or out of range.
pub fn parse_amount(value: &Value) -> Result<u64, RpcError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err(RpcError::new(-3, "Amount is not a number or string")),
    };
    let invalid = || RpcError::new(-3, "Invalid amount");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 10 || fraction.len() > 8 || !digits(whole) || !digits(fraction) {
        return Err(invalid());
    }
    let sat: u64 = format!("{whole}{fraction:0<8}").parse().map_err(|_| invalid())?;
    if sat > MONEY_MAX_SAT { Err(RpcError::new(-3, "Amount out of range")) } else { Ok(sat) }
}

/// Reads a hash of 64 hexadecimal digits.
///
/// # Errors
/// -8 saying what is wrong with it.
fn check_hash<'a>(text: &'a str, name: &str) -> Result<&'a str, RpcError> {
    if text.len() != 64 {
        let message = format!("{name} must be of length 64 (not {}, for '{text}')", text.len());
        return Err(RpcError::invalid(message));
    }
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(RpcError::invalid(format!("{name} must be hexadecimal string (not '{text}')")));
    }
    Ok(text)
}

/// Reads a block's hash.
///
/// # Errors
/// -8 saying what is wrong with it.
pub fn parse_block_hash(text: &str, name: &str) -> Result<BlockHash, RpcError> {
    check_hash(text, name)?.parse().map_err(|_| RpcError::invalid(format!("{name} must be hexadecimal string")))
}

/// Reads a transaction's id.
///
/// # Errors
/// -8 saying what is wrong with it.
pub fn parse_txid(text: &str, name: &str) -> Result<Txid, RpcError> {
    check_hash(text, name)?.parse().map_err(|_| RpcError::invalid(format!("{name} must be hexadecimal string")))
}

/// Reads a transaction in hexadecimal.
///
/// # Errors
/// -22 where it is none.
pub fn parse_tx(value: &Value, message: &str) -> Result<Transaction, RpcError> {
    let text = value.as_str().ok_or_else(|| type_error(value, "string"))?;
    deserialize_hex(text).map_err(|_| RpcError::undecodable(message))
}

/// Reads a regtest address.
///
/// # Errors
/// -5 where it is none.
pub fn parse_address(text: &str, message: &str) -> Result<Address, RpcError> {
    let parsed = text.parse::<Address<_>>().ok().and_then(|address| address.require_network(Network::Regtest).ok());
    parsed.ok_or_else(|| RpcError::not_found(message))
}

/// A script in words: opcodes by name, pushes of up to four bytes as numbers, longer ones in hexadecimal.
pub fn asm(script: &Script) -> String {
    asm_with(script, |bytes| bytes.to_lower_hex_string())
}

/// As [`asm`], with the sighash type of signatures in brackets: how bitcoind prints input scripts.
pub fn asm_of_input(script: &Script) -> String {
    asm_with(script, |bytes| match ecdsa::Signature::from_slice(bytes) {
        Ok(signature) => {
            let kind = signature.sighash_type.to_string();
            let name = kind.trim_start_matches("SIGHASH_");
            format!("{}[{name}]", bytes[..bytes.len() - 1].to_lower_hex_string())
        }
        Err(_) => bytes.to_lower_hex_string(),
    })
}

fn asm_with(script: &Script, long_push: impl Fn(&[u8]) -> String) -> String {
    let mut words = Vec::new();
    for instruction in script.instructions() {
        words.push(match instruction {
            Err(_) => "[error]".to_owned(),
            Ok(Instruction::PushBytes(bytes)) if bytes.len() <= 4 => script_number(bytes.as_bytes()).to_string(),
            Ok(Instruction::PushBytes(bytes)) => long_push(bytes.as_bytes()),
            Ok(Instruction::Op(OP_PUSHNUM_NEG1)) => "-1".to_owned(),
            Ok(Instruction::Op(OP_CLTV)) => "OP_CHECKLOCKTIMEVERIFY".to_owned(),
            Ok(Instruction::Op(OP_CSV)) => "OP_CHECKSEQUENCEVERIFY".to_owned(),
            Ok(Instruction::Op(op)) if (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&op.to_u8()) => {
                (op.to_u8() - OP_PUSHNUM_1.to_u8() + 1).to_string()
            }
            Ok(Instruction::Op(op)) => op.to_string(),
        });
    }
    words.join(" ")
}

/// Little-endian with the sign in the highest bit.
fn script_number(bytes: &[u8]) -> i64 {
    let Some((&last, rest)) = bytes.split_last() else { return 0 };
    let mut value = i64::from(last & 0x7f);
    for &byte in rest.iter().rev() {
        value = value << 8 | i64::from(byte);
    }
    if last & 0x80 == 0 { value } else { -value }
}

/// The address of an output script, if it has one.
pub fn address(script: &Script) -> Option<Address> {
    Address::from_script(script, Network::Regtest).ok()
}

/// What descriptor bitcoind infers for a script whose keys it does not know, with its checksum.
pub fn descriptor(script: &Script) -> String {
    let kind = ScriptKind::of(script);
    let bytes = script.as_bytes();
    let text = match kind {
        ScriptKind::PubKey => format!("pk({})", bytes[1..bytes.len() - 1].to_lower_hex_string()),
        ScriptKind::Taproot => format!("rawtr({})", bytes[2..].to_lower_hex_string()),
        ScriptKind::MultiSig => {
            let keys = script.instructions().filter_map(|instruction| match instruction {
                Ok(Instruction::PushBytes(key)) => Some(format!(",{}", key.as_bytes().to_lower_hex_string())),
                _ => None,
            });
            format!("multi({}{})", bytes[0] - (OP_PUSHNUM_1.to_u8() - 1), keys.collect::<String>())
        }
        _ => match address(script) {
            Some(address) => format!("addr({address})"),
            None => format!("raw({script:x})"),
        },
    };
    let checksum = desc_checksum(&text).expect("descriptor characters only");
    format!("{text}#{checksum}")
}

/// An output script.
pub fn script(script: &Script) -> Value {
    let kind = ScriptKind::of(script);
    let mut object = json!({
        "asm": asm(script),
        "desc": descriptor(script),
        "hex": format!("{script:x}"),
        "type": kind.name(),
    });
    if let Some(address) = address(script).filter(|_| kind != ScriptKind::PubKey) {
        object["address"] = json!(address.to_string());
    }
    object
}

fn output((index, output): (usize, &TxOut)) -> Value {
    json!({ "value": amount(output.value.to_sat()), "n": index, "scriptPubKey": script(&output.script_pubkey) })
}

/// How much of a transaction's inputs is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// What the transaction says.
    Plain,
    /// What they spend, too.
    WithSpent,
}

/// A transaction. Where the coins it spends are known, its fee is shown.
pub fn transaction(tx: &Transaction, spent: Option<&[Coin]>, inputs: Inputs) -> Value {
    let mut vin = Vec::new();
    for (index, input) in tx.input.iter().enumerate() {
        let mut object = if tx.is_coinbase() {
            json!({ "coinbase": format!("{:x}", input.script_sig) })
        } else {
            json!({
                "txid": input.previous_output.txid.to_string(),
                "vout": input.previous_output.vout,
                "scriptSig": { "asm": asm_of_input(&input.script_sig), "hex": format!("{:x}", input.script_sig) },
            })
        };
        if !input.witness.is_empty() {
            object["txinwitness"] = input.witness.iter().map(|item| json!(item.to_lower_hex_string())).collect();
        }
        if let Some(coin) = spent.and_then(|coins| coins.get(index)).filter(|_| inputs == Inputs::WithSpent) {
            object["prevout"] = json!({
                "generated": coin.is_coinbase,
                "height": coin.height,
                "value": amount(coin.output.value.to_sat()),
                "scriptPubKey": script(&coin.output.script_pubkey),
            });
        }
        object["sequence"] = json!(input.sequence.to_consensus_u32());
        vin.push(object);
    }
    let mut object = json!({
        "txid": tx.compute_txid().to_string(),
        "hash": tx.compute_wtxid().to_string(),
        "version": tx.version.0 as u32,
        "size": tx.total_size(),
        "vsize": tx.vsize(),
        "weight": tx.weight().to_wu(),
        "locktime": tx.lock_time.to_consensus_u32(),
        "vin": vin,
        "vout": tx.output.iter().enumerate().map(output).collect::<Vec<Value>>(),
    });
    if let Some(coins) = spent {
        let value_in: u64 = coins.iter().map(|coin| coin.output.value.to_sat()).sum();
        let value_out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
        object["fee"] = amount(value_in.saturating_sub(value_out));
    }
    object["hex"] = json!(serialize_hex(tx));
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_decimal_numbers() {
        assert_eq!(amount(1).to_string(), "0.00000001");
        assert_eq!(amount(2_100_000_000_000_000).to_string(), "21000000.00000000");
        assert_eq!(serde_json::to_string(&json!({ "a": amount(10_000_000) })).expect("JSON"), r#"{"a":0.10000000}"#);
    }

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        assert_eq!(parse_amount(&number("0.10000001")), Ok(10_000_001));
        assert_eq!(parse_amount(&json!("1")), Ok(100_000_000));
        for text in ["", ".", "-1", "1e3", "0.000000001", "21000000.00000001", "99999999999999", "1.2.3", "+1", " 1"] {
            assert!(parse_amount(&json!(text)).is_err(), "{text}");
        }
        assert!(parse_amount(&json!(null)).is_err());
    }

    #[test]
    fn script_numbers_are_signed_little_endian() {
        assert_eq!(script_number(&[]), 0);
        assert_eq!(script_number(&[0x81]), -1);
        assert_eq!(script_number(&[0xff, 0x00]), 255);
        assert_eq!(script_number(&[0x2c, 0x01]), 300);
    }
}

//! Owns the RPC methods about blocks and coins; must never judge them: the node does.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction, Witness};
use miniscript::{Descriptor, DescriptorPublicKey};
use serde_json::{Value, json};

use super::json::{
    Inputs, amount, descriptor, number, parse_address, parse_block_hash, parse_tx, parse_txid, script, transaction,
};
use super::{Params, RpcError, type_error};
use crate::checks::{commitment_index, stripped_size, txids};
use crate::miner::{Miner, Template};
use crate::node::Node;
use crate::reject::BlockReject;
use crate::tree::Standing;

/// Regtest's difficulty as bitcoind prints it: the constant ratio of two targets, never calculated with.
const DIFFICULTY: &str = "4.656542373906925e-10";

/// Most blocks one call generates: keeps a caller from holding the network for long.
const GENERATE_MAX: i64 = 10_000;

/// Highest derivation index a ranged descriptor scans to where the caller names none, as in bitcoind.
const SCAN_RANGE_DEFAULT: u32 = 1_000;

/// Highest derivation index a caller may name.
const SCAN_RANGE_MAX: u32 = 1_000_000;

/// `getblockchaininfo`
pub fn blockchain_info(node: &Node) -> Value {
    let tree = node.tree();
    let tip = tree.tip();
    let entry = tree.entry(&tip);
    let stale = u64::from(entry.header.time) + 24 * 60 * 60 < node.clock();
    let mut info = json!({
        "chain": "regtest",
        "blocks": tree.height(),
        "headers": tree.best_header_height(),
        "bestblockhash": tip.to_string(),
        "bits": format!("{:08x}", entry.header.bits.to_consensus()),
        "target": entry.header.target().to_be_bytes().to_lower_hex_string(),
        "difficulty": number(DIFFICULTY),
        "time": entry.header.time,
        "mediantime": tree.median_time_past(&tip),
        "verificationprogress": 1,
        "initialblockdownload": stale,
        "chainwork": entry.work.to_be_bytes().to_lower_hex_string(),
        "size_on_disk": 0,
        "pruned": node.pruned_below() > 0,
        "warnings": [],
    });
    if node.pruned_below() > 0 {
        info["pruneheight"] = json!(node.pruned_below());
        info["automatic_pruning"] = json!(false);
    }
    info
}

/// `getnetworkinfo`
pub fn network_info(node: &Node) -> Value {
    let pruned = node.pruned_below() > 0;
    let (services, names) = if pruned {
        ("0000000000000408", json!(["WITNESS", "NETWORK_LIMITED"]))
    } else {
        ("0000000000000409", json!(["NETWORK", "WITNESS", "NETWORK_LIMITED"]))
    };
    json!({
        "version": 310_000,
        "subversion": concat!("/florin-devnet:", env!("CARGO_PKG_VERSION"), "/"),
        "protocolversion": 70_016,
        "localservices": services,
        "localservicesnames": names,
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": true,
        "connections": node.connections(),
        "connections_in": 0,
        "connections_out": node.connections(),
        "networks": [],
        "relayfee": super::json::rate(node.policy().min_relay),
        "incrementalfee": super::json::rate(node.policy().incremental),
        "localaddresses": [],
        "warnings": [],
    })
}

/// `getblockhash`
pub fn block_hash(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let height = params.integer(0, "height")?;
    let hash = u32::try_from(height).ok().and_then(|height| node.tree().at(height));
    hash.map(|hash| json!(hash.to_string())).ok_or_else(|| RpcError::invalid("Block height out of range"))
}

fn known_block(node: &Node, params: &Params, name: &str) -> Result<BlockHash, RpcError> {
    let hash = parse_block_hash(params.text(0, "blockhash")?, name)?;
    if node.tree().get(&hash).is_none() {
        return Err(RpcError::not_found("Block not found"));
    }
    Ok(hash)
}

fn header_json(node: &Node, hash: &BlockHash) -> Value {
    let tree = node.tree();
    let entry = tree.entry(hash);
    let header: &Header = &entry.header;
    let is_active = tree.is_active(hash);
    let confirmations = if is_active { i64::from(tree.height()) - i64::from(entry.height) + 1 } else { -1 };
    let mut object = json!({
        "hash": hash.to_string(),
        "confirmations": confirmations,
        "height": entry.height,
        "version": header.version.to_consensus(),
        "versionHex": format!("{:08x}", header.version.to_consensus()),
        "merkleroot": header.merkle_root.to_string(),
        "time": header.time,
        "mediantime": tree.median_time_past(hash),
        "nonce": header.nonce,
        "bits": format!("{:08x}", header.bits.to_consensus()),
        "target": header.target().to_be_bytes().to_lower_hex_string(),
        "difficulty": number(DIFFICULTY),
        "chainwork": entry.work.to_be_bytes().to_lower_hex_string(),
        "nTx": entry.block.as_ref().map_or(0, |block| block.txdata.len()),
    });
    if entry.height > 0 {
        object["previousblockhash"] = json!(header.prev_blockhash.to_string());
    }
    if let Some(next) = tree.at(entry.height + 1).filter(|_| is_active) {
        object["nextblockhash"] = json!(next.to_string());
    }
    object
}

/// `getblockheader`
pub fn block_header(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let hash = known_block(node, params, "hash")?;
    if params.flag(1, "verbose", true)? {
        Ok(header_json(node, &hash))
    } else {
        Ok(json!(serialize_hex(&node.tree().entry(&hash).header)))
    }
}

/// The block, or why it can't be shown.
pub(crate) fn block_bytes(node: &Node, hash: &BlockHash) -> Result<std::sync::Arc<Block>, RpcError> {
    node.block(hash).ok_or_else(|| {
        let pruned = node.tree().entry(hash).height < node.pruned_below();
        let why = if pruned { "pruned data" } else { "not fully downloaded" };
        RpcError::new(-1, format!("Block not available ({why})"))
    })
}

/// `getblock`
pub fn block(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let hash = known_block(node, params, "blockhash")?;
    let verbosity = params.verbosity(1, "verbosity", 1)?;
    let block = block_bytes(node, &hash)?;
    if verbosity <= 0 {
        return Ok(json!(serialize_hex(&*block)));
    }
    let mut object = header_json(node, &hash);
    object["strippedsize"] = json!(stripped_size(&block));
    object["size"] = json!(block.total_size());
    object["weight"] = json!(block.weight().to_wu());
    object["coinbase_tx"] = coinbase_json(&block.txdata[0]);
    if verbosity == 1 {
        object["tx"] = txids(&block).iter().map(|txid| json!(txid.to_string())).collect();
        return Ok(object);
    }
    let undo = node.tree().entry(&hash).undo.as_ref();
    let inputs = if verbosity == 2 { Inputs::Plain } else { Inputs::WithSpent };
    let show = |(index, tx): (usize, &Transaction)| {
        let spent = undo.filter(|_| index > 0).and_then(|undo| undo.get(index - 1));
        transaction(tx, spent.map(Vec::as_slice), inputs)
    };
    object["tx"] = block.txdata.iter().enumerate().map(show).collect();
    Ok(object)
}

fn coinbase_json(tx: &Transaction) -> Value {
    let input = &tx.input[0];
    let mut object = json!({
        "version": tx.version.0 as u32,
        "locktime": tx.lock_time.to_consensus_u32(),
        "sequence": input.sequence.to_consensus_u32(),
        "coinbase": format!("{:x}", input.script_sig),
    });
    if let Some(reserved) = input.witness.iter().next() {
        object["witness"] = json!(reserved.to_lower_hex_string());
    }
    object
}

/// `getchaintips`
pub fn chain_tips(node: &Node) -> Value {
    let tree = node.tree();
    let tip_json = |hash: BlockHash| {
        let entry = tree.entry(&hash);
        let status = if tree.is_active(&hash) {
            "active"
        } else if entry.standing == Standing::Invalid {
            "invalid"
        } else if !entry.is_linked {
            "headers-only"
        } else if entry.standing == Standing::Valid {
            "valid-fork"
        } else {
            "valid-headers"
        };
        json!({
            "height": entry.height,
            "hash": hash.to_string(),
            "branchlen": entry.height - tree.fork_height(&hash),
            "status": status,
        })
    };
    tree.tips().into_iter().map(tip_json).collect()
}

/// `gettxout`
pub fn tx_out(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let txid = parse_txid(params.text(0, "txid")?, "txid")?;
    let index = u32::try_from(params.integer(1, "n")?).map_err(|_| RpcError::new(-3, "JSON integer out of range"))?;
    let outpoint = OutPoint::new(txid, index);
    let coin = if params.flag(2, "include_mempool", true)? {
        node.unspent_with_mempool(&outpoint)
    } else {
        node.coins().get(&outpoint).cloned()
    };
    let Some(coin) = coin else { return Ok(Value::Null) };
    Ok(json!({
        "bestblock": node.tip().to_string(),
        // A waiting transaction's coin has the height of the next block: none.
        "confirmations": node.height() + 1 - coin.height,
        "value": amount(coin.output.value.to_sat()),
        "scriptPubKey": script(&coin.output.script_pubkey),
        "coinbase": coin.is_coinbase,
    }))
}

/// `scantxoutset`: `raw(…)`, `addr(…)` and every descriptor that Miniscript knows, ranged ones with a range.
pub fn scan_tx_out_set(node: &Node, params: &Params) -> Result<Value, RpcError> {
    match params.text(0, "action")? {
        "start" => {}
        "status" => return Ok(Value::Null),
        "abort" => return Ok(json!(false)),
        other => return Err(RpcError::invalid(format!("Invalid action '{other}'"))),
    }
    let mut names: BTreeMap<ScriptBuf, String> = BTreeMap::new();
    for object in params.list(1, "scanobjects")? {
        scan_object(object, &mut names)?;
    }
    let scripts: BTreeSet<ScriptBuf> = names.keys().cloned().collect();
    let (mut unspents, mut total_sat) = (Vec::new(), 0);
    for (outpoint, coin) in node.coins().of_scripts(&scripts) {
        total_sat += coin.output.value.to_sat();
        let block = node.tree().at(coin.height).expect("a coin's block is active");
        unspents.push(json!({
            "txid": outpoint.txid.to_string(),
            "vout": outpoint.vout,
            "scriptPubKey": format!("{:x}", coin.output.script_pubkey),
            "desc": names[&coin.output.script_pubkey],
            "amount": amount(coin.output.value.to_sat()),
            "coinbase": coin.is_coinbase,
            "height": coin.height,
            "blockhash": block.to_string(),
            "confirmations": node.height() - coin.height + 1,
        }));
    }
    Ok(json!({
        "success": true,
        "txouts": node.coins().count(),
        "height": node.height(),
        "bestblock": node.tip().to_string(),
        "unspents": unspents,
        "total_amount": amount(total_sat),
    }))
}

fn scan_object(object: &Value, names: &mut BTreeMap<ScriptBuf, String>) -> Result<(), RpcError> {
    let text = object.as_str().or_else(|| object.get("desc").and_then(Value::as_str));
    let text = text.ok_or_else(|| RpcError::invalid("Descriptor needs to be provided in scan object"))?;
    let invalid = || RpcError::not_found(format!("'{text}' is not a valid descriptor function"));
    let body = match text.split_once('#') {
        Some((body, checksum)) => {
            let right = miniscript::descriptor::checksum::desc_checksum(body).map_err(|_| invalid())?;
            if right != checksum {
                let message = format!("Provided checksum '{checksum}' does not match computed checksum '{right}'");
                return Err(RpcError::not_found(message));
            }
            body
        }
        None => text,
    };
    let inner = |name: &str| body.strip_prefix(name).and_then(|rest| rest.strip_suffix(')'));
    if let Some(hex) = inner("raw(") {
        let bytes = Vec::<u8>::from_hex(hex).map_err(|_| RpcError::not_found("Raw script is not hex"))?;
        let script = ScriptBuf::from_bytes(bytes);
        names.insert(script.clone(), descriptor(&script));
        return Ok(());
    }
    if let Some(address) = inner("addr(") {
        let script = parse_address(address, "Address is not valid")?.script_pubkey();
        names.insert(script.clone(), descriptor(&script));
        return Ok(());
    }
    let secp = Secp256k1::new();
    let (parsed, _) = Descriptor::<DescriptorPublicKey>::parse_descriptor(&secp, body).map_err(|_| invalid())?;
    let (first, last) = if parsed.has_wildcard() { scan_range(object)? } else { (0, 0) };
    for index in first..=last {
        let derived = parsed.at_derivation_index(index).map_err(|_| invalid())?;
        let script = derived.derived_descriptor(&secp).map_err(|_| invalid())?.script_pubkey();
        names.insert(script, derived.to_string());
    }
    Ok(())
}

fn scan_range(object: &Value) -> Result<(u32, u32), RpcError> {
    let index = |value: &Value| {
        let index = value.as_u64().and_then(|index| u32::try_from(index).ok());
        index.filter(|index| *index <= SCAN_RANGE_MAX).ok_or_else(|| RpcError::invalid("Range is too large"))
    };
    match object.get("range") {
        None => Ok((0, SCAN_RANGE_DEFAULT)),
        Some(Value::Array(pair)) if pair.len() == 2 => Ok((index(&pair[0])?, index(&pair[1])?)),
        Some(end @ Value::Number(_)) => Ok((0, index(end)?)),
        Some(other) => Err(type_error(other, "number")),
    }
}

/// `submitblock`: null for a new tip, else BIP-22's word.
pub fn submit_block(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    let text = params.text(0, "hexdata")?;
    let mut block: Block =
        deserialize_hex(text).map_err(|_| RpcError::undecodable(BlockReject::Undecodable.to_string()))?;
    add_reserved_value(&mut block);
    match node.submit(block) {
        Ok(verdict) => Ok(verdict.bip22().map_or(Value::Null, |word| json!(word))),
        Err(reject) => Ok(json!(reject.to_string())),
    }
}

/// Miners that do not know BIP-141 hand in a coinbase without its witness; bitcoind adds it where the block commits to one.
fn add_reserved_value(block: &mut Block) {
    if let Some(coinbase) = block.txdata.first_mut().filter(|tx| tx.is_coinbase())
        && commitment_index(coinbase).is_some()
        && coinbase.input[0].witness.is_empty()
    {
        coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
    }
}

/// `generatetoaddress`
pub fn generate_to_address(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    let count = params.integer(0, "nblocks")?;
    let address = parse_address(params.text(1, "address")?, "Error: Invalid address")?;
    if !(0..=GENERATE_MAX).contains(&count) {
        return Err(RpcError::invalid(format!("nblocks must be between 0 and {GENERATE_MAX}")));
    }
    let mut hashes = Vec::new();
    for _ in 0..count {
        let mined = Miner::for_node(node, address.script_pubkey()).mine(node);
        node.submit(mined.block).map_err(|reject| RpcError::new(-25, reject.to_string()))?;
        hashes.push(json!(mined.hash.to_string()));
    }
    Ok(Value::Array(hashes))
}

/// `generateblock`: the given transactions and no other, without their fees, as bitcoind does.
pub fn generate_block(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    let output = params.text(0, "output")?;
    let script = match parse_address(output, "Error: Invalid address or descriptor") {
        Ok(address) => address.script_pubkey(),
        Err(error) => {
            let mut names = BTreeMap::new();
            scan_object(&json!(output), &mut names).map_err(|_| error)?;
            names.into_keys().next().expect("a descriptor has a script")
        }
    };
    let mut transactions = Vec::new();
    for value in params.list(1, "transactions")? {
        let text = value.as_str().ok_or_else(|| type_error(value, "string"))?;
        if text.len() == 64 {
            let entry = node.mempool().get(&parse_txid(text, "txid")?);
            let entry = entry.ok_or_else(|| RpcError::not_found(format!("Transaction {text} not in mempool.")))?;
            transactions.push((*entry.tx).clone());
        } else {
            let message = format!("Transaction decode failed for {text}. Make sure the tx has at least one input.");
            transactions.push(parse_tx(value, &message)?);
        }
    }
    let mut template: Template = crate::miner::template(node);
    template.transactions = transactions;
    template.fees_sat = 0;
    let mined = Miner::for_node(node, script).solve(&template);
    if !params.flag(2, "submit", true)? {
        return Ok(json!({ "hash": mined.hash.to_string(), "hex": serialize_hex(&mined.block) }));
    }
    node.submit(mined.block).map_err(|reject| RpcError::new(-25, format!("TestBlockValidity failed: {reject}")))?;
    Ok(json!({ "hash": mined.hash.to_string() }))
}

/// `invalidateblock`
pub fn invalidate(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    let hash = known_block(node, params, "blockhash")?;
    if node.invalidate(&hash) { Ok(Value::Null) } else { Err(RpcError::new(-1, "the genesis block stays")) }
}

/// `reconsiderblock`
pub fn reconsider(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    let hash = known_block(node, params, "blockhash")?;
    node.reconsider(&hash);
    Ok(Value::Null)
}

/// `setmocktime`
pub fn set_mock_time(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    let time = params.integer(0, "timestamp")?;
    let time = u64::try_from(time).map_err(|_| RpcError::invalid("Mocktime must not be negative"))?;
    node.set_clock(time);
    Ok(Value::Null)
}

//! Owns the RPC methods about transactions; must never judge them: the node does.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, Txid};
use serde_json::{Value, json};

use super::chain::block_bytes;
use super::json::{Inputs, amount, parse_amount, parse_block_hash, parse_tx, parse_txid, rate, transaction};
use super::{Params, RpcError};
use crate::fees::FeeRate;
use crate::node::{Accepted, Node};
use crate::params::genesis;
use crate::policy::{CLUSTER_COUNT_MAX, CLUSTER_VSIZE_MAX};
use crate::reject::TxReject;
use crate::script::is_unspendable;

/// Rate above which a transaction is refused unless the caller allows it: 0.10 BTC/kvB, as in bitcoind.
const RATE_MAX_DEFAULT: FeeRate = FeeRate::from_sat_per_kvb(10_000_000);

/// Rates from here on are taken for mistakes: 1 BTC/kvB, as in bitcoind.
const RATE_MAX_ALLOWED_SAT: u64 = 100_000_000;

/// Most transactions in one `testmempoolaccept`, as in bitcoind.
const PACKAGE_MAX: usize = 25;

/// Furthest target of `estimatesmartfee` in blocks, as in bitcoind.
const TARGET_MAX: i64 = 1_008;

/// `getrawmempool`
pub fn raw_mempool(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let verbose = params.flag(0, "verbose", false)?;
    let with_sequence = params.flag(1, "mempool_sequence", false)?;
    let pool = node.mempool();
    if verbose {
        if with_sequence {
            return Err(RpcError::invalid("Verbose results cannot contain mempool sequence values."));
        }
        return Ok(pool.iter().map(|(txid, _)| (txid.to_string(), entry_json(node, txid))).collect());
    }
    let txids: Vec<Value> = pool.iter().map(|(txid, _)| json!(txid.to_string())).collect();
    if with_sequence {
        Ok(json!({ "txids": txids, "mempool_sequence": pool.sequence() }))
    } else {
        Ok(Value::Array(txids))
    }
}

/// `getmempoolentry`
pub fn mempool_entry(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let txid = parse_txid(params.text(0, "txid")?, "txid")?;
    if node.mempool().contains(&txid) {
        Ok(entry_json(node, &txid))
    } else {
        Err(RpcError::not_found("Transaction not in mempool"))
    }
}

fn entry_json(node: &Node, txid: &Txid) -> Value {
    let pool = node.mempool();
    let entry = pool.get(txid).expect("the caller found it");
    let mut with_ancestors = pool.ancestors(&entry.tx);
    with_ancestors.insert(*txid);
    let ancestors = pool.totals_of(&with_ancestors);
    let descendants = pool.totals_of(&pool.with_descendants([*txid]));
    let chunk = pool.chunk_of(txid).expect("each transaction has a chunk");
    let texts = |txids: std::collections::BTreeSet<Txid>| -> Vec<String> {
        let mut texts: Vec<String> = txids.iter().map(Txid::to_string).collect();
        texts.sort();
        texts
    };
    json!({
        "vsize": entry.vsize(),
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "descendantcount": descendants.count,
        "descendantsize": descendants.vsize,
        "ancestorcount": ancestors.count,
        "ancestorsize": ancestors.vsize,
        "wtxid": entry.wtxid.to_string(),
        "chunkweight": chunk.weight,
        "fees": {
            "base": amount(entry.fee_sat),
            "modified": amount(entry.fee_sat),
            "ancestor": amount(ancestors.fee_sat),
            "descendant": amount(descendants.fee_sat),
            "chunk": amount(chunk.fee_sat),
        },
        "depends": texts(pool.parents(&entry.tx)),
        "spentby": texts(pool.children(txid)),
        "unbroadcast": node.is_unbroadcast(txid),
    })
}

/// `getmempoolinfo`
pub fn mempool_info(node: &Node) -> Value {
    let pool = node.mempool();
    let totals = pool.totals();
    let bytes: usize = pool.iter().map(|(_, entry)| entry.tx.total_size()).sum();
    let policy = node.policy();
    json!({
        "loaded": true,
        "size": totals.count,
        "bytes": totals.vsize,
        "usage": bytes,
        "total_fee": amount(totals.fee_sat),
        "maxmempool": policy.mempool_vsize_max,
        "mempoolminfee": rate(policy.min_relay.max(pool.floor())),
        "minrelaytxfee": rate(policy.min_relay),
        "incrementalrelayfee": rate(policy.incremental),
        "unbroadcastcount": node.unbroadcast_count(),
        "permitbaremultisig": true,
        "maxdatacarriersize": 100_000,
        "limitclustercount": CLUSTER_COUNT_MAX,
        "limitclustersize": CLUSTER_VSIZE_MAX,
        "optimal": true,
    })
}

/// `getrawtransaction`: from the mempool, or from the block that is named.
pub fn raw_transaction(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let txid = parse_txid(params.text(0, "txid")?, "parameter 1")?;
    if txid == genesis().txdata[0].compute_txid() {
        let message = "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved";
        return Err(RpcError::not_found(message));
    }
    let verbosity = params.verbosity(1, "verbosity", 0)?;
    if params.get(2, "blockhash").is_some() {
        return raw_transaction_in_block(node, params, &txid, verbosity);
    }
    let Some(entry) = node.mempool().get(&txid) else {
        return Err(RpcError::not_found(
            "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries. \
             Use gettransaction for wallet transactions.",
        ));
    };
    Ok(if verbosity <= 0 { json!(serialize_hex(&*entry.tx)) } else { transaction(&entry.tx, None, Inputs::Plain) })
}

fn raw_transaction_in_block(node: &Node, params: &Params, txid: &Txid, verbosity: i64) -> Result<Value, RpcError> {
    let hash = parse_block_hash(params.text(2, "blockhash")?, "parameter 3")?;
    let tree = node.tree();
    let entry = tree.get(&hash).ok_or_else(|| RpcError::not_found("Block hash not found"))?;
    let block = block_bytes(node, &hash).map_err(|_| RpcError::new(-1, "Block not available"))?;
    let index = block.txdata.iter().position(|tx| tx.compute_txid() == *txid).ok_or_else(|| {
        RpcError::not_found(
            "No such transaction found in the provided block. Use gettransaction for wallet transactions.",
        )
    })?;
    let tx: &Transaction = &block.txdata[index];
    if verbosity <= 0 {
        return Ok(json!(serialize_hex(tx)));
    }
    let undo = entry.undo.as_ref().filter(|_| index > 0 && verbosity > 1).map(|undo| undo[index - 1].as_slice());
    let mut object = transaction(tx, undo, Inputs::WithSpent);
    let is_active = tree.is_active(&hash);
    object["in_active_chain"] = json!(is_active);
    object["blockhash"] = json!(hash.to_string());
    if is_active {
        object["confirmations"] = json!(tree.height() - entry.height + 1);
        object["time"] = json!(entry.header.time);
        object["blocktime"] = json!(entry.header.time);
    } else {
        object["confirmations"] = json!(0);
    }
    Ok(object)
}

fn rate_max(params: &Params) -> Result<Option<FeeRate>, RpcError> {
    let sat = match params.get(1, "maxfeerate") {
        None => RATE_MAX_DEFAULT.sat_per_kvb(),
        Some(value) => parse_amount(value)?,
    };
    if sat >= RATE_MAX_ALLOWED_SAT {
        return Err(RpcError::invalid("Fee rates larger than or equal to 1BTC/kvB are not accepted"));
    }
    Ok((sat > 0).then_some(FeeRate::from_sat_per_kvb(sat)))
}

/// `sendrawtransaction`
pub fn send_raw(node: &mut Node, params: &Params) -> Result<Value, RpcError> {
    params.text(0, "hexstring")?;
    let burn_max_sat = params.get(2, "maxburnamount").map_or(Ok(0), parse_amount)?;
    let value = params.get(0, "hexstring").unwrap_or(&Value::Null);
    let tx = parse_tx(value, "TX decode failed. Make sure the tx has at least one input.")?;
    if tx.output.iter().any(|out| is_unspendable(&out.script_pubkey) && out.value.to_sat() > burn_max_sat) {
        let message = "Unspendable output exceeds maximum configured by user (maxburnamount)";
        return Err(RpcError::new(-25, message));
    }
    let rate_max = rate_max(params)?;
    let sent = node.send_raw(tx, rate_max);
    sent.map(|txid| json!(txid.to_string())).map_err(|reject| RpcError::new(reject.rpc_code(), reject.to_string()))
}

/// `testmempoolaccept`. Of several, each is judged as if those before it had entered; bitcoind judges them as a package with stricter rules.
pub fn test_accept(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let values = params.list(0, "rawtxs")?;
    if values.is_empty() || values.len() > PACKAGE_MAX {
        return Err(RpcError::invalid(format!("Array must contain between 1 and {PACKAGE_MAX} transactions.")));
    }
    let rate_max = rate_max(params)?;
    let mut transactions = Vec::new();
    for value in values {
        let text = value.as_str().unwrap_or_default();
        let message = format!("TX decode failed: {text} Make sure the tx has at least one input.");
        transactions.push(parse_tx(value, &message)?);
    }
    if let [tx] = transactions.as_slice() {
        return Ok(json!([verdict_json(tx, node.test_accept(tx), rate_max).0]));
    }
    let mut trial = node.clone();
    let mut stopped = false;
    let mut results = Vec::new();
    for tx in transactions {
        if stopped {
            results.push(ids_json(&tx));
            continue;
        }
        let (result, allowed) = verdict_json(&tx, trial.test_accept(&tx), rate_max);
        results.push(result);
        stopped = !allowed || trial.accept(tx).is_err();
    }
    Ok(Value::Array(results))
}

fn ids_json(tx: &Transaction) -> Value {
    json!({ "txid": tx.compute_txid().to_string(), "wtxid": tx.compute_wtxid().to_string() })
}

/// The result for one transaction, and whether it is allowed.
fn verdict_json(tx: &Transaction, verdict: Result<Accepted, TxReject>, rate_max: Option<FeeRate>) -> (Value, bool) {
    let mut object = ids_json(tx);
    let mut refuse = |reason: String, details: Option<String>| {
        object["allowed"] = json!(false);
        object["reject-reason"] = json!(reason);
        if let Some(details) = details {
            object["reject-details"] = json!(details);
        }
    };
    match verdict {
        Err(reject) if reject.is_missing_input() => refuse("missing-inputs".to_owned(), None),
        Err(reject) => refuse(reject.to_string(), Some(reject.message())),
        Ok(accepted) if rate_max.is_some_and(|rate| accepted.fee_sat > rate.fee_sat(accepted.vsize)) => {
            refuse("max-fee-exceeded".to_owned(), None);
        }
        Ok(accepted) => {
            object["allowed"] = json!(true);
            object["vsize"] = json!(accepted.vsize);
            object["fees"] = json!({
                "base": amount(accepted.fee_sat),
                "effective-feerate": rate(FeeRate::of(accepted.fee_sat, accepted.vsize)),
                "effective-includes": [tx.compute_wtxid().to_string()],
            });
            return (object, true);
        }
    }
    (object, false)
}

/// `estimatesmartfee`: what was set, else the error of a node that has seen too little.
pub fn estimate(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let target = params.integer(0, "conf_target")?;
    if !(1..=TARGET_MAX).contains(&target) {
        return Err(RpcError::invalid(format!("Invalid conf_target, must be between 1 and {TARGET_MAX}")));
    }
    if params.get(1, "estimate_mode").is_some() {
        let mode = params.text(1, "estimate_mode")?.to_ascii_lowercase();
        if !["unset", "economical", "conservative"].contains(&mode.as_str()) {
            let message =
                "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
            return Err(RpcError::invalid(message));
        }
    }
    Ok(match node.estimate() {
        Some(estimate) => {
            let least = node.policy().min_relay.max(node.mempool().floor());
            json!({ "feerate": rate(estimate.max(least)), "blocks": target.max(2) })
        }
        None => json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 0 }),
    })
}

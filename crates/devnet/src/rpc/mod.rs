//! Owns the nodes' JSON-RPC: the subset of bitcoind's methods that a platform needs, as a pure function of a node. Must never do network or clock.

pub mod chain;
pub mod json;
pub mod pool;

use serde_json::{Value, json};
use thiserror::Error;

use crate::node::Node;

/// An error answer, with bitcoind's code and words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// bitcoind's error code.
    pub code: i32,
    /// What went wrong.
    pub message: String,
}

impl RpcError {
    /// An error of a code.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// -5: what was named is unknown.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(-5, message)
    }

    /// -8: a parameter has a value that can't be.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(-8, message)
    }

    /// -22: bytes that do not decode.
    pub(crate) fn undecodable(message: impl Into<String>) -> Self {
        Self::new(-22, message)
    }

    /// As the `error` object of an answer.
    pub fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

/// The parameters of a call, by position or by name.
#[derive(Clone, Debug)]
pub struct Params(Value);

impl Params {
    /// The parameter at a position or of a name; absent and null are the same.
    pub fn get(&self, index: usize, name: &str) -> Option<&Value> {
        let value = match &self.0 {
            Value::Array(values) => values.get(index),
            // bitcoin-cli puts positional ones of a mixed call under "args".
            Value::Object(values) => {
                values.get(name).or_else(|| values.get("args").and_then(Value::as_array)?.get(index))
            }
            _ => None,
        };
        value.filter(|value| !value.is_null())
    }

    fn need(&self, index: usize, name: &str) -> Result<&Value, RpcError> {
        self.get(index, name).ok_or_else(|| RpcError::new(-1, format!("missing parameter {name}")))
    }

    /// A text parameter.
    pub(crate) fn text(&self, index: usize, name: &str) -> Result<&str, RpcError> {
        let value = self.need(index, name)?;
        value.as_str().ok_or_else(|| type_error(value, "string"))
    }

    /// A whole number.
    pub(crate) fn integer(&self, index: usize, name: &str) -> Result<i64, RpcError> {
        let value = self.need(index, name)?;
        value.as_i64().ok_or_else(|| type_error(value, "number"))
    }

    /// True or false; absent is the default.
    pub(crate) fn flag(&self, index: usize, name: &str, default: bool) -> Result<bool, RpcError> {
        match self.get(index, name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| type_error(value, "bool")),
        }
    }

    /// A list.
    pub(crate) fn list(&self, index: usize, name: &str) -> Result<&[Value], RpcError> {
        let value = self.need(index, name)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| type_error(value, "array"))
    }

    /// A verbosity: a number, or true for 1 and false for 0.
    pub(crate) fn verbosity(&self, index: usize, name: &str, default: i64) -> Result<i64, RpcError> {
        match self.get(index, name).or_else(|| self.get(index, "verbose")) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
            Some(value) => value.as_i64().ok_or_else(|| type_error(value, "number")),
        }
    }
}

pub(crate) fn type_error(value: &Value, expected: &str) -> RpcError {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    RpcError::new(-3, format!("JSON value of type {is} is not of expected type {expected}"))
}

/// Answers one call.
///
/// # Errors
/// bitcoind's code and message; -32601 for a method that is not served.
pub fn handle(node: &mut Node, method: &str, params: Value) -> Result<Value, RpcError> {
    let params = &Params(params);
    match method {
        "getblockchaininfo" => Ok(chain::blockchain_info(node)),
        "getnetworkinfo" => Ok(chain::network_info(node)),
        "getblockcount" => Ok(json!(node.height())),
        "getbestblockhash" => Ok(json!(node.tip().to_string())),
        "getblockhash" => chain::block_hash(node, params),
        "getblockheader" => chain::block_header(node, params),
        "getblock" => chain::block(node, params),
        "getchaintips" => Ok(chain::chain_tips(node)),
        "gettxout" => chain::tx_out(node, params),
        "scantxoutset" => chain::scan_tx_out_set(node, params),
        "getindexinfo" => Ok(json!({})),
        "submitblock" => chain::submit_block(node, params),
        "generatetoaddress" => chain::generate_to_address(node, params),
        "generateblock" => chain::generate_block(node, params),
        "invalidateblock" => chain::invalidate(node, params),
        "reconsiderblock" => chain::reconsider(node, params),
        "setmocktime" => chain::set_mock_time(node, params),
        "getrawmempool" => pool::raw_mempool(node, params),
        "getmempoolentry" => pool::mempool_entry(node, params),
        "getmempoolinfo" => Ok(pool::mempool_info(node)),
        "getrawtransaction" => pool::raw_transaction(node, params),
        "sendrawtransaction" => pool::send_raw(node, params),
        "testmempoolaccept" => pool::test_accept(node, params),
        "estimatesmartfee" => pool::estimate(node, params),
        _ => Err(RpcError::new(-32601, "Method not found")),
    }
}

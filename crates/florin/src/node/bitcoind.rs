//! The engine's port to a Bitcoin node, served by bitcoind's JSON-RPC. It translates and believes nothing: what a node says is judged by the engine.

use super::rpc::{Caller, RpcFault, satoshi};
use florin_core::hex;
use florin_core::id::{BlockHash, Height, TxId};
use florin_engine::ports::{Node, NodeFault, NodeInfo, SendResult, TestAccept};
use serde_json::{Value, json};

/// "Invalid address or key": bitcoind's number for a block or transaction that it does not have.
const RPC_INVALID_ADDRESS_OR_KEY: i64 = -5;
/// "Invalid parameter", such as a height above the tip.
const RPC_INVALID_PARAMETER: i64 = -8;
/// bitcoind's number for a block whose bytes are pruned or not there yet.
const RPC_MISC_ERROR: i64 = -1;
/// A transaction's inputs are missing or spent.
const RPC_VERIFY_ERROR: i64 = -25;
/// A transaction breaks a rule.
const RPC_VERIFY_REJECTED: i64 = -26;
/// A transaction is in the chain already.
const RPC_VERIFY_ALREADY_IN_UTXO_SET: i64 = -27;

/// A bitcoind, or a node that speaks like one.
#[derive(Debug)]
pub struct Bitcoind<C> {
    caller: C,
}

impl<C: Caller> Bitcoind<C> {
    /// The node that `caller` reaches.
    pub fn new(caller: C) -> Bitcoind<C> {
        Bitcoind { caller }
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, NodeFault> {
        self.caller.call(method, params).map_err(|fault| match fault {
            RpcFault::Node { code, message } => NodeFault::Refused { code, reason: message },
            RpcFault::Malformed(what) => NodeFault::Malformed { what: what.to_owned() },
            RpcFault::Auth(fault) => NodeFault::Credentials(Box::new(fault)),
            RpcFault::Forbidden => NodeFault::Forbidden,
            RpcFault::Redirected => NodeFault::Redirected,
            RpcFault::Transport(cause) => match is_late(cause.as_ref()) {
                true => NodeFault::Timeout,
                false => NodeFault::Transport(cause),
            },
        })
    }

    /// A call whose result is there or not: the node's numbers in `absent` mean that it is not.
    fn find(&self, method: &str, params: Value, absent: &[i64]) -> Result<Option<Value>, NodeFault> {
        match self.call(method, params) {
            Ok(value) => Ok(Some(value)),
            Err(NodeFault::Refused { code, .. }) if absent.contains(&code) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// Whether a call ended because its time was over.
pub(super) fn is_late(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(cause.downcast_ref::<ureq::Error>(), Some(ureq::Error::Timeout(_)))
}

fn malformed(what: &str) -> NodeFault {
    NodeFault::Malformed { what: what.to_owned() }
}

fn field<'a>(value: &'a Value, name: &str) -> Result<&'a Value, NodeFault> {
    value.get(name).ok_or_else(|| malformed(&format!("there is no '{name}'")))
}

fn height(value: &Value) -> Result<Height, NodeFault> {
    value
        .as_u64()
        .and_then(|height| u32::try_from(height).ok())
        .map(Height)
        .ok_or_else(|| malformed("a height is not one"))
}

fn bytes(value: &Value) -> Result<Vec<u8>, NodeFault> {
    let text = value.as_str().ok_or_else(|| malformed("hexadecimal was expected"))?;
    hex::decode(text).ok_or_else(|| malformed("hexadecimal was expected"))
}

/// A hash as Bitcoin's tools show it: 64 hexadecimal digits, the last byte first.
fn hash(value: &Value) -> Result<[u8; 32], NodeFault> {
    let mut hash: [u8; 32] = bytes(value)?.try_into().map_err(|_| malformed("a hash has 32 bytes"))?;
    hash.reverse();
    Ok(hash)
}

impl<C: Caller> Node for Bitcoind<C> {
    fn info(&mut self) -> Result<NodeInfo, NodeFault> {
        let chain = self.call("getblockchaininfo", json!([]))?;
        let genesis = self.call("getblockhash", json!([0]))?;
        let pruned_below = match chain.get("pruneheight") {
            Some(value) => Some(height(value)?),
            None => None,
        };
        Ok(NodeInfo {
            network: field(&chain, "chain")?.as_str().unwrap_or_default().to_owned(),
            genesis: BlockHash(hash(&genesis)?),
            height: height(field(&chain, "blocks")?)?,
            tip: BlockHash(hash(field(&chain, "bestblockhash")?)?),
            pruned_below,
            is_syncing: field(&chain, "initialblockdownload")?.as_bool().unwrap_or(true),
        })
    }

    fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
        let found = self.find("getblockhash", json!([height.0]), &[RPC_INVALID_PARAMETER])?;
        found.map(|value| hash(&value).map(BlockHash)).transpose()
    }

    fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        let found = self.find("getblockheader", json!([hash.to_string(), false]), &[RPC_INVALID_ADDRESS_OR_KEY])?;
        found.map(|value| bytes(&value)).transpose()
    }

    fn block(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        let absent = [RPC_INVALID_ADDRESS_OR_KEY, RPC_MISC_ERROR];
        let found = self.find("getblock", json!([hash.to_string(), 0]), &absent)?;
        found.map(|value| bytes(&value)).transpose()
    }

    fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
        let list = self.call("getrawmempool", json!([]))?;
        let list = list.as_array().ok_or_else(|| malformed("a list was expected"))?;
        list.iter().map(|value| hash(value).map(TxId)).collect::<Result<_, _>>().map(Some)
    }

    fn transaction(&mut self, txid: TxId, block: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
        let params = match block {
            Some(block) => json!([txid.to_string(), false, block.to_string()]),
            None => json!([txid.to_string(), false]),
        };
        let absent = [RPC_INVALID_ADDRESS_OR_KEY, RPC_MISC_ERROR];
        self.find("getrawtransaction", params, &absent)?.map(|value| bytes(&value)).transpose()
    }

    fn send(&mut self, transaction: &[u8]) -> Result<SendResult, NodeFault> {
        match self.call("sendrawtransaction", json!([hex::encode(transaction)])) {
            Ok(_) => Ok(SendResult::Sent),
            Err(NodeFault::Refused { code: RPC_VERIFY_ALREADY_IN_UTXO_SET, .. }) => Ok(SendResult::AlreadyKnown),
            Err(NodeFault::Refused { code: RPC_VERIFY_ERROR | RPC_VERIFY_REJECTED, reason }) => {
                let known = ["txn-already-in-mempool", "txn-already-known"].iter().any(|word| reason.contains(word));
                Ok(if known { SendResult::AlreadyKnown } else { SendResult::Rejected { reason } })
            }
            Err(fault) => Err(fault),
        }
    }

    fn test_accept(&mut self, transaction: &[u8]) -> Result<TestAccept, NodeFault> {
        let list = self.call("testmempoolaccept", json!([[hex::encode(transaction)]]))?;
        let answer = list.get(0).ok_or_else(|| malformed("an answer for each transaction was expected"))?;
        match field(answer, "allowed")?.as_bool() {
            Some(true) => Ok(TestAccept::Accepted),
            Some(false) => {
                let reason = answer.get("reject-reason").and_then(Value::as_str).unwrap_or("no reason given");
                Ok(TestAccept::Rejected { reason: reason.to_owned() })
            }
            None => Err(malformed("'allowed' is true or false")),
        }
    }

    fn fee_estimate(&mut self, blocks: u16) -> Result<Option<u64>, NodeFault> {
        let answer = self.call("estimatesmartfee", json!([blocks]))?;
        match answer.get("feerate") {
            None => Ok(None),
            Some(rate) => satoshi(rate).map(Some).ok_or_else(|| malformed("the fee rate is not an amount")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_bitcoins_tools_show_them() {
        let shown = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
        let read = BlockHash(hash(&json!(shown)).expect("a hash"));
        assert_eq!(read.to_string(), shown);
        assert_eq!(read.0[0], 0x06);
        assert!(matches!(hash(&json!("00")), Err(NodeFault::Malformed { .. })));
        assert!(matches!(hash(&json!(7)), Err(NodeFault::Malformed { .. })));
    }

    /// A node that answers some question with anything, and all others as a node does.
    struct Odd {
        method: &'static str,
        answer: Value,
    }

    impl Caller for Odd {
        fn call(&self, method: &str, _: Value) -> Result<Value, RpcFault> {
            let hash = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
            Ok(match method {
                _ if method == self.method => self.answer.clone(),
                "getblockchaininfo" => {
                    json!({ "chain": "regtest", "blocks": 1, "bestblockhash": hash, "initialblockdownload": false })
                }
                "getblockhash" => json!(hash),
                _ => unreachable!("a question asks for nothing else"),
            })
        }
    }

    #[test]
    fn an_answer_of_any_shape_is_read_or_refused_as_malformed() {
        let text = "é".repeat(64);
        let odd = [
            "null",
            "true",
            "0",
            "-1",
            "4294967296",
            "1e999",
            "0.5",
            "\"\"",
            "\"0\"",
            "\"zz\"",
            "\"00\"",
            "[]",
            "[null]",
            "[[]]",
            "[{}]",
            "{}",
            "{\"blocks\":-1}",
            "{\"allowed\":0}",
            "[{\"allowed\":0}]",
            "{\"feerate\":\"0.1\"}",
            "{\"feerate\":-1}",
            "{\"feerate\":1e-8}",
            "{\"feerate\":0.123456789}",
            "{\"chain\":{},\"blocks\":1}",
        ];
        let odd = odd.map(|text| serde_json::from_str(text).expect("JSON")).into_iter().chain([json!(text)]);
        let (txid, hash, height) = (TxId([1; 32]), BlockHash([1; 32]), Height(1));
        for answer in odd {
            let node = |method| Bitcoind::new(Odd { method, answer: answer.clone() });
            let is_text = answer.is_string();
            // What may be read, and of which shape it is then.
            let told = [
                ("getblockchaininfo", node("getblockchaininfo").info().map(drop), false),
                ("genesis", node("getblockhash").info().map(drop), false),
                ("getblockhash", node("getblockhash").block_hash(height).map(drop), false),
                ("getblockheader", node("getblockheader").header(hash).map(drop), is_text),
                ("getblock", node("getblock").block(hash).map(drop), is_text),
                ("getrawmempool", node("getrawmempool").mempool().map(drop), answer == json!([])),
                ("getrawtransaction", node("getrawtransaction").transaction(txid, None).map(drop), is_text),
                ("sendrawtransaction", node("sendrawtransaction").send(&[1]).map(drop), true),
                ("testmempoolaccept", node("testmempoolaccept").test_accept(&[1]).map(drop), false),
                (
                    "estimatesmartfee",
                    node("estimatesmartfee").fee_estimate(3).map(drop),
                    answer.get("feerate").is_none(),
                ),
            ];
            for (method, told, may_be_read) in told {
                match told {
                    Ok(()) => assert!(may_be_read, "{method} is answered with {answer}"),
                    Err(fault) => {
                        assert!(matches!(fault, NodeFault::Malformed { .. }), "{method}: {answer}: {fault:?}")
                    }
                }
            }
        }
    }
}

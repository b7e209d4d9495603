//! The journal's coins held against what nodes say the chain holds. Nodes are asked, and nothing that they say is kept.

use crate::config::{Config, NodeConfig};
use crate::node::rpc::{Caller, Rpc, RpcFault, satoshi};
use florin_core::amount::Amount;
use florin_core::custody::Coin;
use florin_core::hex;
use florin_core::id::ChainId;
use florin_core::state::State;
use serde_json::{Value, json};

/// What one node said.
pub(super) struct Verdict {
    /// The node.
    pub(super) node: String,
    /// Whether it agrees; absent where it could not be asked, or stands on another block.
    pub(super) agrees: Option<bool>,
    /// In words.
    pub(super) detail: String,
}

/// Asks every configured node for every unspent coin of the journal.
pub(super) fn compare(config: &Config, state: &State) -> Vec<Verdict> {
    let ask = |node: &NodeConfig| {
        let rpc = Rpc::new(node.url.clone(), config.path(&node.auth_file));
        let (agrees, detail) = match ask(&rpc, state) {
            Ok(verdict) => verdict,
            Err(fault) => (None, format!("it can't be asked: {fault}")),
        };
        Verdict { node: node.name.clone(), agrees, detail }
    };
    config.bitcoin.node.iter().map(ask).collect()
}

/// What one node says: whether it holds every coin of ours that the journal holds, with the same script and amount.
pub(super) fn ask(node: &dyn Caller, state: &State) -> Result<(Option<bool>, String), RpcFault> {
    let Some(tip) = state.chains().get(&crate::platform::CHAIN).and_then(|chain| chain.tip()) else {
        return Ok((None, "the journal follows no chain yet".to_owned()));
    };
    let best = node.call("getbestblockhash", json!([]))?;
    if best.as_str() != Some(tip.at.hash.to_string().as_str()) {
        // A coin may have been spent, or have come, in a block that only one of them knows.
        return Ok((None, format!("it stands on another block than {}, where the journal ends", tip.at.height)));
    }
    let mut sum = Amount::ZERO;
    let mut count = 0u64;
    for coin in state.coins().values().filter(|coin| coin.spent.is_none() && is_here(coin, tip.chain)) {
        let outpoint = coin.outpoint;
        let found = node.call("gettxout", json!([outpoint.txid.to_string(), outpoint.vout, false]))?;
        if let Some(wrong) = difference(state, coin, &found) {
            return Ok((Some(false), format!("coin {}:{} {wrong}", outpoint.txid, outpoint.vout)));
        }
        sum = sum.checked_add(coin.amount).unwrap_or(Amount::MAX);
        count += 1;
    }
    Ok((Some(true), format!("{count} coins with {} in block {}", sum.format(8), tip.at.height)))
}

fn is_here(coin: &Coin, chain: ChainId) -> bool {
    coin.outpoint.chain == chain
}

/// In what a node's output differs from a coin of the journal.
fn difference(state: &State, coin: &Coin, found: &Value) -> Option<&'static str> {
    let script = state.addresses().get(&coin.path).map(|address| hex::encode(&address.script.0));
    if found.is_null() {
        Some("is not on its chain, or is spent")
    } else if satoshi(&found["value"]).map(u128::from) != Some(coin.amount.units()) {
        Some("has another amount on its chain")
    } else if found["scriptPubKey"]["hex"].as_str() != script.as_deref() {
        Some("has another script on its chain")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::custody::{Address, Beneficiary, Block, BlockRef, Branch, Chain, ChainFamily, KeyPath, OutPoint};
    use florin_core::event::Event;
    use florin_core::id::{AssetId, BlockHash, Height, LedgerTime, TxId, WalletId};
    use florin_core::wire::Bytes;

    /// A node that knows one answer to each question.
    struct Told(&'static str, Value);

    impl Caller for Told {
        fn call(&self, method: &str, _: Value) -> Result<Value, RpcFault> {
            Ok(if method == "getbestblockhash" { json!(self.0) } else { self.1.clone() })
        }
    }

    const TIP: &str = "0505050505050505050505050505050505050505050505050505050505050505";

    /// A journal's end with one coin of 1 BTC.
    fn state() -> State {
        let mut state = State::default();
        let at = BlockRef { height: Height(5), hash: BlockHash([5; 32]) };
        let path = KeyPath { wallet: WalletId(1), branch: Branch::External, index: 0 };
        let chain = ChainId(1);
        state.apply(&Event::ChainDefined(Chain {
            id: chain,
            family: ChainFamily::Bitcoin,
            name: "bitcoin-regtest".into(),
            genesis: BlockHash([0; 32]),
            coin: AssetId(1),
            coinbase_maturity: 100,
        }));
        state.apply(&Event::BlockConnected(Block { chain, at, previous: BlockHash([4; 32]), time_s: 0 }));
        let (script, beneficiary) = (Bytes(vec![0x51]), Beneficiary::INVENTORY);
        let wallet = florin_core::custody::Wallet {
            id: WalletId(1),
            chain,
            generation: 1,
            tier: florin_core::custody::WalletTier::Hot,
            birthday: Height(0),
            descriptor_external: "a".into(),
            descriptor_internal: "b".into(),
            retired: false,
            next_external: 0,
            next_internal: 0,
        };
        state.apply(&Event::WalletRegistered(wallet));
        let issued = LedgerTime(0);
        state.apply(&Event::AddressIssued(Address {
            path,
            script,
            beneficiary: beneficiary.clone(),
            issued,
            used: false,
        }));
        state.apply(&Event::CoinReceived(Coin {
            outpoint: OutPoint { chain, txid: TxId([9; 32]), vout: 0 },
            amount: Amount::new(100_000_000),
            path,
            beneficiary,
            coinbase: false,
            at,
            reserved: None,
            spent: None,
            suspense: false,
        }));
        state
    }

    fn verdict(tip: &'static str, output: &str) -> (Option<bool>, String) {
        let output = serde_json::from_str(output).expect("JSON");
        ask(&Told(tip, output), &state()).expect("the node answers")
    }

    #[test]
    fn a_coin_is_compared_by_place_amount_and_script() {
        let right = r#"{"value": 1.00000000, "scriptPubKey": {"hex": "51"}}"#;
        assert_eq!(verdict(TIP, right), (Some(true), "1 coins with 1.00000000 in block 5".to_owned()));
        for (output, said) in [
            ("null", "is spent"),
            (r#"{"value": 0.99999999, "scriptPubKey": {"hex": "51"}}"#, "another amount"),
            (r#"{"value": 1e0, "scriptPubKey": {"hex": "51"}}"#, "another amount"),
            (r#"{"value": 1.00000000, "scriptPubKey": {"hex": "52"}}"#, "another script"),
            (r#"{"value": 1.00000000}"#, "another script"),
        ] {
            let (agrees, detail) = verdict(TIP, output);
            assert!(agrees == Some(false) && detail.contains(said), "{output}: {detail}");
        }
    }

    #[test]
    fn a_node_on_another_block_is_not_compared() {
        assert_eq!(verdict("00", "null").0, None);
    }
}

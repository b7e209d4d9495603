//! The journal's coins held against what nodes say the chain holds, both ways: every coin of the journal is on the chain, and the chain
//! has none on a script of ours that the journal lacks. Nodes are asked, and nothing that they say is kept.

use super::progress::Progress;
use super::verify::{Why, sentence};
use crate::config::{Config, NodeConfig};
use crate::node::rpc::{Caller, Rpc, RpcFault, satoshi};
use florin_core::amount::Amount;
use florin_core::custody::{Coin, OutPoint};
use florin_core::hex;
use florin_core::id::{ChainId, TxId};
use florin_core::journal::Journal;
use florin_core::state::State;
use florin_engine::load::{FoldError, LoadError, Loaded, catch_up};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Scripts of one scan. A node reads all coins of the chain for each, which takes minutes on a main network, so they are many; and
/// not so many that the question or its answer are more than either side takes.
const SCRIPTS_MAX: usize = 50_000;

/// How long a node may take for one scan.
const SCAN_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The largest answer to one: some four hundred bytes for each coin, a few coins for each script.
const SCAN_BYTES_MAX: u64 = 128 << 20;

/// How often a node that is on another block is asked again, and how long the platform gets each time to take in what came.
const TRIES_MAX: u32 = 3;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// How often a node is asked how far its scan is.
const LOOK: Duration = Duration::from_secs(1);

/// What one node said.
pub(super) struct Verdict {
    /// The node.
    pub(super) node: String,
    /// Its failure group.
    pub(super) group: String,
    /// Whether it agrees; or why it could not be compared.
    pub(super) found: Result<Result<String, (Why, String)>, String>,
}

/// What an answer comes to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Agrees(String),
    Differs(Why, String),
    /// Nothing can be compared now.
    Incomparable(String),
    /// The node stands on another block than the journal.
    Elsewhere(String),
}

/// Asks every configured node for every unspent coin on the journal's scripts. Where the journal goes on meanwhile with a row that
/// is wrong, that is said as well.
pub(super) fn compare(
    config: &Config,
    journal: &mut dyn Journal,
    loaded: Loaded,
    progress: &mut Progress,
) -> (Vec<Verdict>, Option<FoldError>) {
    let mut loaded = Ok(loaded);
    let mut verdicts = Vec::new();
    for node in &config.bitcoin.node {
        let found = compare_node(config, node, journal, &mut loaded, progress);
        verdicts.push(Verdict { node: node.name.clone(), group: node.group.clone(), found });
    }
    let late = match loaded {
        Err(LoadError::Fold(wrong)) => Some(wrong),
        Ok(_)
        | Err(
            LoadError::Read(_)
            | LoadError::Contradicted(_)
            | LoadError::Unreadable(_)
            | LoadError::OtherPlatform { .. },
        ) => None,
    };
    (verdicts, late)
}

fn compare_node(
    config: &Config,
    node: &NodeConfig,
    journal: &mut dyn Journal,
    loaded: &mut Result<Loaded, LoadError>,
    progress: &mut Progress,
) -> Result<Result<String, (Why, String)>, String> {
    let quick = Rpc::new(node.url.clone(), config.path(&node.auth_file));
    let patient = quick.clone().patient(SCAN_TIMEOUT, SCAN_BYTES_MAX);
    let mut tries = 0;
    loop {
        let unfolded = |fault: &LoadError| format!("the journal's new rows can't be folded: {}", sentence(fault));
        let state = &loaded.as_ref().map_err(unfolded)?.state;
        let name = &node.name;
        let answer = watched(&quick, name, progress, |progress| {
            ask(&patient, state, |done, total| progress.part(&format!("node {name}: scripts"), done, total))
        });
        match answer {
            Err(fault) => return Err(format!("it can't be asked: {}", sentence(&fault))),
            Ok(Answer::Agrees(detail)) => return Ok(Ok(detail)),
            Ok(Answer::Differs(why, detail)) => return Ok(Err((why, detail))),
            Ok(Answer::Incomparable(reason)) => return Err(reason),
            Ok(Answer::Elsewhere(reason)) if tries == TRIES_MAX => return Err(reason),
            Ok(Answer::Elsewhere(_)) => {
                // A platform that runs takes the node's block in by and by; one that does not costs these pauses.
                tries += 1;
                std::thread::sleep(TRY_PAUSE);
                let behind = std::mem::replace(loaded, Ok(Loaded::empty()));
                *loaded = behind.and_then(|behind| catch_up(journal, behind));
            }
        }
    }
}

/// Does `work`, and meanwhile shows how far the node's scan is, where anybody sees it.
fn watched<T>(rpc: &Rpc, name: &str, progress: &mut Progress, work: impl FnOnce(&mut Progress) -> T) -> T {
    if !progress.is_seen() {
        return work(progress);
    }
    std::thread::scope(|scope| {
        let (end, ended) = channel::<()>();
        scope.spawn(move || {
            let mut progress = Progress::new();
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let status = rpc.call("scantxoutset", json!(["status"]));
                if let Some(percent) = status.ok().and_then(|status| status["progress"].as_u64()) {
                    progress.part(&format!("node {name}: percent of its coins read"), percent, 100);
                }
            }
        });
        let done = work(progress);
        drop(end);
        done
    })
}

/// What a node holds on a script of ours.
struct Output {
    script: String,
    amount_sat: u64,
    height: u64,
}

/// Compares the coins that one node holds on all scripts of the journal with the journal's, both ways.
fn ask(node: &dyn Caller, state: &State, mut progress: impl FnMut(u64, u64)) -> Result<Answer, RpcFault> {
    let Some(chain) = state.chains().get(&crate::platform::CHAIN) else {
        return Ok(Answer::Incomparable("the journal follows no chain yet".to_owned()));
    };
    let Some(tip) = chain.tip() else {
        return Ok(Answer::Incomparable("the journal follows no chain yet".to_owned()));
    };
    if let Some(part) = &chain.part {
        // Half of a block's coins are here, and the tip does not say so.
        return Ok(Answer::Elsewhere(format!("the journal ends within block {}", part.block.at.height)));
    }
    let hash = tip.at.hash.to_string();
    let elsewhere = || {
        // A coin may have been spent, or have come, in a block that only one of them knows.
        Ok(Answer::Elsewhere(format!("it stands on another block than {}, where the journal ends", tip.at.height)))
    };
    if node.call("getbestblockhash", json!([]))?.as_str() != Some(&hash) {
        return elsewhere();
    }
    let scripts = scripts(state, tip.chain);
    let scripts: Vec<&String> = scripts.iter().collect();
    let mut found = BTreeMap::new();
    for (number, chunk) in scripts.chunks(SCRIPTS_MAX).enumerate() {
        progress((number * SCRIPTS_MAX) as u64, scripts.len() as u64);
        let objects: Vec<String> = chunk.iter().map(|script| format!("raw({script})")).collect();
        let answer = node.call("scantxoutset", json!(["start", objects]))?;
        if answer["success"] != true {
            return Err(RpcFault::Malformed("a scan that did not end"));
        }
        if answer["bestblock"].as_str() != Some(&hash) {
            return elsewhere();
        }
        let unspents = answer["unspents"].as_array().ok_or(RpcFault::Malformed("a scan without coins"))?;
        for unspent in unspents {
            let (outpoint, output) =
                read(tip.chain, unspent).ok_or(RpcFault::Malformed("a coin that can't be read"))?;
            found.insert(outpoint, output);
        }
    }
    Ok(judge(state, tip.chain, found, scripts.len(), tip.at.height.0))
}

/// Every script that was ever handed out on a chain, in hexadecimal.
fn scripts(state: &State, chain: ChainId) -> BTreeSet<String> {
    let is_here = |wallet| state.wallets().get(&wallet).is_some_and(|wallet| wallet.chain == chain);
    let addresses = state.addresses().values().filter(|address| is_here(address.path.wallet));
    addresses.map(|address| hex::encode(&address.script.0)).collect()
}

fn read(chain: ChainId, unspent: &Value) -> Option<(OutPoint, Output)> {
    let mut txid: [u8; 32] = hex::decode(unspent["txid"].as_str()?)?.try_into().ok()?;
    // Ids are shown from their last byte on.
    txid.reverse();
    let vout = u32::try_from(unspent["vout"].as_u64()?).ok()?;
    let script = unspent["scriptPubKey"].as_str()?.to_owned();
    let (amount_sat, height) = (satoshi(&unspent["amount"])?, unspent["height"].as_u64()?);
    Some((OutPoint { chain, txid: TxId(txid), vout }, Output { script, amount_sat, height }))
}

fn judge(
    state: &State,
    chain: ChainId,
    mut found: BTreeMap<OutPoint, Output>,
    script_count: usize,
    height: u32,
) -> Answer {
    let mut sum = Amount::ZERO;
    let mut count = 0u64;
    let mut wrong: Vec<(Why, String)> = Vec::new();
    for coin in state.coins().values().filter(|coin| coin.spent.is_none() && coin.outpoint.chain == chain) {
        let said = match found.remove(&coin.outpoint) {
            None => Some((Why::CoinMissing, "is not on its chain, or is spent".to_owned())),
            Some(output) => difference(state, coin, &output)
                .map(|what| (Why::CoinDiffers, format!("has another {what} on its chain"))),
        };
        if let Some((why, said)) = said {
            wrong.push((why, format!("coin {}:{} {said}", coin.outpoint.txid, coin.outpoint.vout)));
        }
        sum = sum.checked_add(coin.amount).unwrap_or(Amount::MAX);
        count += 1;
    }
    wrong.extend(found.iter().map(|(outpoint, output)| {
        let amount = Amount::new(output.amount_sat.into()).format(8);
        let place = format!("{}:{}", outpoint.txid, outpoint.vout);
        let said =
            format!("coin {place} with {amount} on script {} is on its chain, and not in the journal", output.script);
        (Why::CoinUnknown, said)
    }));
    let more = wrong.len().saturating_sub(1);
    match wrong.into_iter().next() {
        None => {
            Answer::Agrees(format!("{count} coins with {} on {script_count} scripts in block {height}", sum.format(8)))
        }
        Some((why, said)) if more == 0 => Answer::Differs(why, said),
        Some((why, said)) => Answer::Differs(why, format!("{said}; {more} more coins differ")),
    }
}

/// In what a node's coin differs from the journal's.
fn difference(state: &State, coin: &Coin, output: &Output) -> Option<&'static str> {
    let script = state.addresses().get(&coin.path).map(|address| hex::encode(&address.script.0));
    if u128::from(output.amount_sat) != coin.amount.units() {
        Some("amount")
    } else if Some(&output.script) != script.as_ref() {
        Some("script")
    } else if output.height != u64::from(coin.at.height.0) {
        Some("height")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::custody::{Address, Beneficiary, Block, BlockRef, Branch, Chain, ChainFamily, KeyPath};
    use florin_core::event::Event;
    use florin_core::id::{AssetId, BlockHash, Height, LedgerTime, WalletId};
    use florin_core::wire::Bytes;

    /// A node on a block, with coins.
    struct Told {
        best: &'static str,
        scanned_at: &'static str,
        unspents: Value,
    }

    impl Caller for Told {
        fn call(&self, method: &str, params: Value) -> Result<Value, RpcFault> {
            if method == "getbestblockhash" {
                return Ok(json!(self.best));
            }
            assert_eq!((method, &params), ("scantxoutset", &json!(["start", ["raw(51)", "raw(52)"]])));
            Ok(json!({ "success": true, "bestblock": self.scanned_at, "unspents": self.unspents }))
        }
    }

    const TIP: &str = "0505050505050505050505050505050505050505050505050505050505050505";
    const COIN: &str = r#"{"txid": "0909090909090909090909090909090909090909090909090909090909090909", "vout": 0,
        "scriptPubKey": "51", "amount": 1.00000000, "height": 5}"#;

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
        for (index, script) in [(0, script), (1, Bytes(vec![0x52]))] {
            let path = KeyPath { index, ..path };
            state.apply(&Event::AddressIssued(Address {
                path,
                script,
                beneficiary: beneficiary.clone(),
                issued,
                used: false,
            }));
        }
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

    fn answer(unspents: &str) -> Answer {
        let unspents = serde_json::from_str(unspents).expect("JSON");
        ask(&Told { best: TIP, scanned_at: TIP, unspents }, &state(), |_, _| {}).expect("the node answers")
    }

    #[test]
    fn coins_are_compared_by_place_amount_script_and_height_both_ways() {
        let agrees = Answer::Agrees("1 coins with 1.00000000 on 2 scripts in block 5".to_owned());
        assert_eq!(answer(&format!("[{COIN}]")), agrees);
        let other = COIN.replace("0909", "0a0a");
        for (unspents, why, said) in [
            ("[]".to_owned(), Why::CoinMissing, "is spent"),
            (format!("[{}]", COIN.replace("1.00000000", "0.99999999")), Why::CoinDiffers, "another amount"),
            (format!("[{}]", COIN.replace("\"51\"", "\"52\"")), Why::CoinDiffers, "another script"),
            (format!("[{}]", COIN.replace("\"height\": 5", "\"height\": 4")), Why::CoinDiffers, "another height"),
            (format!("[{COIN}, {other}]"), Why::CoinUnknown, "not in the journal"),
            (format!("[{other}]"), Why::CoinMissing, "1 more coins differ"),
        ] {
            match answer(&unspents) {
                Answer::Differs(found, detail) => {
                    assert!(found == why && detail.contains(said), "{unspents}: {detail}")
                }
                answer => panic!("{unspents}: {answer:?}"),
            }
        }
    }

    #[test]
    fn a_node_on_another_block_or_one_that_moves_on_is_not_compared() {
        for (best, scanned_at) in [("00", TIP), (TIP, "00")] {
            let node = Told { best, scanned_at, unspents: json!([]) };
            assert!(matches!(ask(&node, &state(), |_, _| {}), Ok(Answer::Elsewhere(_))), "{best} {scanned_at}");
        }
        let node = Told { best: TIP, scanned_at: TIP, unspents: json!([]) };
        assert!(matches!(ask(&node, &State::default(), |_, _| {}), Ok(Answer::Incomparable(_))));
    }

    #[test]
    fn an_answer_that_is_none_is_no_verdict() {
        for bad in [
            "1",
            "[1]",
            &format!("[{}]", COIN.replace("1.00000000", "1e0")),
            &format!("[{}]", COIN.replace("0909", "09")),
        ] {
            let node = Told { best: TIP, scanned_at: TIP, unspents: serde_json::from_str(bad).expect("JSON") };
            assert!(matches!(ask(&node, &state(), |_, _| {}), Err(RpcFault::Malformed(_))), "{bad}");
        }
    }
}

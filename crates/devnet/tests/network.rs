//! Owns the tests of several nodes that share nothing but messages, and of their faults. Must never need bitcoind.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Block, OutPoint};
use florin_devnet::fault::Lie;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::{Content, Miner};
use florin_devnet::network::{Network, NodeId, Reply};
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_devnet::policy::RelayPolicy;
use florin_devnet::reject::Verdict;
use serde_json::{Value, json};

const CLOCK: u64 = 1_700_000_000;
const RATE: FeeRate = FeeRate::from_sat_per_kvb(2_000);
const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);
const C: NodeId = NodeId(2);

/// Three nodes with 105 blocks, settled.
fn funded() -> (Network, Miner, OutsideWallet) {
    let wallet = OutsideWallet::new([7; 32]);
    let mut network = Network::new(3, &RelayPolicy::default(), CLOCK);
    let mut miner = Miner::new(wallet.script(AddressForm::Segwit), 100);
    network.mine(A, &mut miner, 105).expect("blocks");
    network.settle();
    (network, miner, wallet)
}

fn ask(network: &mut Network, id: NodeId, method: &str, params: Value) -> Value {
    match network.rpc(id, method, params) {
        Reply::Answer(Ok(value)) => value,
        other => panic!("{method}: {other:?}"),
    }
}

fn tips(network: &Network) -> Vec<String> {
    network.ids().map(|id| network.node(id).tip().to_string()).collect()
}

#[test]
fn blocks_and_transactions_reach_all_nodes_and_each_judges_alone() {
    let (mut network, mut miner, wallet) = funded();
    let tx = wallet.pay(network.node(B), &[(wallet.script(AddressForm::Taproot), 70_000)], RATE).expect("funds");
    let txid = network.send(B, tx).expect("enters");
    assert!(network.node(B).is_unbroadcast(&txid));
    network.settle();
    for id in network.ids() {
        assert!(network.node(id).mempool().contains(&txid), "{id:?}");
    }
    assert!(!network.node(B).is_unbroadcast(&txid));
    let mined = network.mine(C, &mut miner, 1).expect("block").remove(0);
    network.settle();
    for (id, verdict) in network.verdicts(&mined.hash) {
        assert_eq!(verdict, Some(Ok(Verdict::Connected { height: 106, disconnected: 0 })), "{id:?}");
        assert_eq!(network.node(id).mempool().count(), 0);
    }
}

#[test]
fn partition_splits_the_chain_and_healing_follows_the_most_work() {
    let (mut network, mut miner, wallet) = funded();
    network.partition(&[&[A], &[B, C]]);
    let mut other = Miner::new(wallet.script(AddressForm::Legacy), 200);
    network.mine(A, &mut miner, 2).expect("blocks");
    network.mine(B, &mut other, 3).expect("blocks");
    network.settle();
    let split = tips(&network);
    assert_ne!(split[0], split[1]);
    assert_eq!(split[1], split[2]);
    network.heal();
    network.settle();
    assert!(tips(&network).iter().all(|tip| *tip == split[1]), "the longer branch wins everywhere");
    assert_eq!(network.node(A).height(), 108);
}

#[test]
fn node_far_behind_fetches_a_deep_branch() {
    let (mut network, mut miner, _) = funded();
    network.stop(C);
    network.mine(A, &mut miner, 300).expect("blocks");
    network.settle();
    assert_eq!(network.node(C).height(), 105);
    assert_eq!(network.rpc(C, "getblockcount", json!([])), Reply::Down);
    network.start(C);
    network.settle();
    assert_eq!(network.node(C).tip(), network.node(A).tip());
}

#[test]
fn delayed_and_lost_messages_are_delivered_by_the_clock_or_never() {
    let (mut network, mut miner, _) = funded();
    network.set_delay(A, B, 60);
    network.drop_next(A, C, 1);
    network.partition(&[&[B], &[C]]);
    // Cutting B from C must not undo the delay.
    network.mine(A, &mut miner, 1).expect("block");
    network.settle();
    assert_eq!(network.node(B).height(), 105);
    assert_eq!(network.node(C).height(), 105, "its notice was lost");
    network.set_clock(CLOCK + 60);
    network.settle();
    assert_eq!(network.node(B).height(), 105, "the notice has come, the block is on its way");
    network.set_clock(CLOCK + 120);
    network.settle();
    assert_eq!(network.node(B).height(), 106);
    assert_eq!(network.node(C).height(), 105);
    network.heal();
    network.settle();
    assert_eq!(network.node(C).height(), 106);
}

#[test]
fn same_calls_give_the_same_run() {
    let run = || {
        let (mut network, mut miner, wallet) = funded();
        let tx = wallet.pay(network.node(B), &[(wallet.script(AddressForm::Nested), 70_000)], RATE).expect("funds");
        network.send(B, tx).expect("enters");
        network.mine(A, &mut miner, 2).expect("blocks");
        let mut steps = Vec::new();
        while let Some(step) = network.step() {
            steps.push(step);
        }
        (steps, tips(&network))
    };
    let first = run();
    assert!(first.0.len() > 10);
    assert_eq!(first, run());
}

#[test]
fn frozen_node_keeps_its_tip_until_it_thaws() {
    let (mut network, mut miner, _) = funded();
    network.freeze(B);
    network.mine(A, &mut miner, 3).expect("blocks");
    network.settle();
    assert_eq!(ask(&mut network, B, "getblockcount", json!([])), json!(105));
    assert_eq!(network.node(C).height(), 108);
    network.thaw(B);
    network.settle();
    assert_eq!(ask(&mut network, B, "getblockcount", json!([])), json!(108));
}

#[test]
fn lost_reply_has_had_its_effect() {
    let (mut network, _, wallet) = funded();
    let tx = wallet.pay(network.node(A), &[(wallet.script(AddressForm::Taproot), 70_000)], RATE).expect("funds");
    let hex = bitcoin::consensus::encode::serialize_hex(&tx);
    network.lose_replies(A, 1);
    assert_eq!(network.rpc(A, "sendrawtransaction", json!([hex])), Reply::Lost);
    network.settle();
    assert!(network.node(C).mempool().contains(&tx.compute_txid()));
    assert_eq!(ask(&mut network, A, "sendrawtransaction", json!([hex])), json!(tx.compute_txid().to_string()));
}

#[test]
fn forged_block_shows_on_the_liar_alone_with_right_work_and_links() {
    let (mut network, _, wallet) = funded();
    let script = wallet.script(AddressForm::Taproot);
    let honest_tip = network.node(B).tip();
    network.lie(B, Lie::ForgedBlock { script: script.clone(), value_sat: 123_456_789 });
    let hash = ask(&mut network, B, "getbestblockhash", json!([]));
    assert_ne!(hash, json!(honest_tip.to_string()));
    let hex = ask(&mut network, B, "getblock", json!([hash, 0]));
    let block: Block = deserialize_hex(hex.as_str().expect("hex")).expect("a block");
    assert_eq!(block.header.prev_blockhash, honest_tip);
    assert!(block.check_merkle_root() && block.header.validate_pow(block.header.target()).is_ok());
    assert_eq!(block.txdata[1].output[0].script_pubkey, script);
    let raw = format!("raw({script:x})");
    let found = ask(&mut network, B, "scantxoutset", json!(["start", [raw]]));
    assert_eq!(found["total_amount"].to_string(), "1.23456789");
    assert_eq!(ask(&mut network, A, "getbestblockhash", json!([])), json!(honest_tip.to_string()));
    assert_eq!(network.node(B).tip(), honest_tip, "the node itself holds the truth");
    assert!(network.node(A).clone().submit(block).is_err());

    network.lie(B, Lie::ForgedBlockWithoutWork { script, value_sat: 1 });
    let hash = ask(&mut network, B, "getbestblockhash", json!([]));
    let hex = ask(&mut network, B, "getblock", json!([hash, 0]));
    let block: Block = deserialize_hex(hex.as_str().expect("hex")).expect("a block");
    assert!(block.header.validate_pow(block.header.target()).is_err());
    network.stop_lying(B);
    assert_eq!(ask(&mut network, B, "getbestblockhash", json!([])), json!(honest_tip.to_string()));
}

#[test]
fn lies_about_depth_and_amount_show_in_every_answer() {
    let (mut network, _, _) = funded();
    let tip = network.node(A).tip();
    network.lie(A, Lie::InflatedConfirmations(6));
    assert_eq!(ask(&mut network, A, "getblockheader", json!([tip.to_string()]))["confirmations"], json!(7));
    network.lie(A, Lie::PrivateBlocks(6));
    assert_eq!(ask(&mut network, A, "getblockheader", json!([tip.to_string()]))["confirmations"], json!(7));
    assert_eq!(ask(&mut network, A, "getblockcount", json!([])), json!(111));

    let coinbase = network.node(A).block(&tip).expect("there").txdata[0].compute_txid();
    network.lie(A, Lie::AlteredAmount { outpoint: OutPoint::new(coinbase, 0), value_sat: 1 });
    let (txid, hash) = (coinbase.to_string(), tip.to_string());
    let verbose = ask(&mut network, A, "getblock", json!([hash, 2]));
    assert_eq!(verbose["tx"][0]["vout"][0]["value"].to_string(), "0.00000001");
    let hex = ask(&mut network, A, "getblock", json!([hash, 0]));
    let block: Block = deserialize_hex(hex.as_str().expect("hex")).expect("a block");
    assert_eq!(block.txdata[0].output[0].value.to_sat(), 1);
    assert!(!block.check_merkle_root(), "whoever checks the root knows");
    assert_eq!(ask(&mut network, A, "gettxout", json!([txid, 0]))["value"].to_string(), "0.00000001");
}

#[test]
fn evicted_transaction_is_gone_from_one_node_and_can_be_sent_again() {
    let (mut network, _, wallet) = funded();
    let tx = wallet.pay(network.node(A), &[(wallet.script(AddressForm::Taproot), 70_000)], RATE).expect("funds");
    let txid = network.send(A, tx.clone()).expect("enters");
    network.settle();
    assert_eq!(network.evict(B, &txid).len(), 1);
    network.settle();
    assert!(network.node(A).mempool().contains(&txid) && !network.node(B).mempool().contains(&txid));
    assert_eq!(network.send(B, tx), Ok(txid));
}

#[test]
fn pruned_node_refuses_old_blocks_but_follows_a_deep_reorg() {
    let (mut network, mut miner, wallet) = funded();
    network.prune(B, 50);
    let old = network.node(B).tree().at(49).expect("active").to_string();
    let refusal = network.rpc(B, "getblock", json!([old, 0]));
    assert!(matches!(refusal, Reply::Answer(Err(error)) if error.code == -1 && error.message.contains("pruned data")));
    assert_eq!(ask(&mut network, B, "getblockchaininfo", json!([]))["pruneheight"], json!(50));
    let fork = network.node(A).tree().at(40).expect("active");
    let mut other = Miner::new(wallet.script(AddressForm::Legacy), 200);
    network.mine_on(A, &mut other, fork, 70, Content::Empty).expect("branch");
    network.settle();
    assert_eq!(network.node(B).tip(), network.node(A).tip());
    assert_eq!(network.node(B).height(), 110);
    network.mine(B, &mut miner, 1).expect("block");
}

#[test]
fn child_that_arrives_before_its_parent_waits_for_it() {
    let (mut network, _, wallet) = funded();
    let parent = wallet.pay(network.node(A), &[(wallet.script(AddressForm::Taproot), 500_000)], RATE).expect("funds");
    network.drop_next(A, B, 1);
    network.partition(&[&[B], &[C]]);
    network.send(A, parent.clone()).expect("enters");
    network.settle();
    assert!(!network.node(B).mempool().contains(&parent.compute_txid()));
    let coin = florin_devnet::outside::Spendable {
        outpoint: OutPoint::new(parent.compute_txid(), 0),
        output: parent.output[0].clone(),
    };
    let child = wallet.spend(&[coin], &[], RATE).expect("covers");
    let txid = network.send(A, child).expect("enters");
    network.settle();
    assert!(network.node(B).mempool().contains(&txid));
    assert!(network.node(B).mempool().contains(&parent.compute_txid()));
}

#[test]
fn node_whose_clock_is_far_behind_refuses_what_follows_and_catches_up_when_it_is_right() {
    let (mut network, mut miner, _) = funded();
    let behind = network.node(C).tip();
    network.set_clock_skew(C, -7_800);
    for _ in 0..3 {
        network.mine(A, &mut miner, 1).expect("block");
        // Each block that follows a refused one is dropped with it: the messages end.
        assert!(network.settle() < 100);
    }
    assert_eq!(network.node(B).tip(), network.node(A).tip());
    assert_eq!(network.node(C).tip(), behind);
    network.set_clock_skew(C, 0);
    network.heal();
    network.settle();
    assert_eq!(network.node(C).tip(), network.node(A).tip());
}

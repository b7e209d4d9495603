//! Owns the comparison of mempools between the model and bitcoind: what enters, what replaces what, and every refusal in the same words.

mod common;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Witness, absolute};
use common::{Pair, RATE};
use florin_devnet::fees::FeeRate;
use florin_devnet::outside::{AddressForm, Spendable};
use florin_devnet::rpc::RpcError;
use serde_json::{Value, json};

fn rate(sat_per_kvb: u64) -> FeeRate {
    FeeRate::from_sat_per_kvb(sat_per_kvb)
}

/// Asks both whether they would take it; they must answer the same. Returns the answer.
#[track_caller]
fn test(pair: &mut Pair, tx: &Transaction) -> Value {
    pair.same("testmempoolaccept", json!([[serialize_hex(tx)], 0])).expect("an answer")[0].clone()
}

/// Both must refuse for this reason, in `testmempoolaccept` and in `sendrawtransaction`.
#[track_caller]
fn refused(pair: &mut Pair, tx: &Transaction, reason: &str) {
    assert_eq!(test(pair, tx)["reject-reason"], json!(reason));
    let error = pair.send(tx).expect_err("both refuse");
    let missing = reason == "missing-inputs";
    assert_eq!(error.code, if missing { -25 } else { -26 });
    assert!(missing || error.message.starts_with(reason), "{error}");
}

/// A fresh coin of the wallet, and a payment from it.
fn payment(pair: &Pair, index: usize, fee: FeeRate) -> Transaction {
    let coin = pair.wallet.spendable(&pair.model)[index].clone();
    let script = pair.script(AddressForm::Taproot);
    pair.wallet.spend(&[coin], &[(script, 100_000)], fee).expect("covers its fee")
}

fn output_of(tx: &Transaction, index: u32) -> Spendable {
    Spendable { outpoint: OutPoint::new(tx.compute_txid(), index), output: tx.output[index as usize].clone() }
}

/// Signs a changed transaction again.
fn resign(pair: &Pair, tx: &Transaction) -> Transaction {
    let find = |outpoint: OutPoint| {
        let chain = pair.model.coins().get(&outpoint).map(|coin| coin.output.clone());
        let waiting =
            pair.model.mempool().get(&outpoint.txid).map(|entry| entry.tx.output[outpoint.vout as usize].clone());
        Spendable { outpoint, output: chain.or(waiting).expect("a coin") }
    };
    let from: Vec<Spendable> = tx.input.iter().map(|input| find(input.previous_output)).collect();
    pair.wallet.sign(tx.clone(), &from).expect("the wallet's coins")
}

#[test]
fn accepted_transactions_have_the_same_size_and_fee() {
    let mut pair = Pair::funded(103);
    let tx = payment(&pair, 0, RATE);
    assert_eq!(test(&mut pair, &tx)["allowed"], json!(true));
    let txid = pair.send(&tx).expect("both take it");
    assert_eq!(pair.send(&tx), Ok(txid.clone()), "a second time is no error");
    assert_eq!(test(&mut pair, &tx)["reject-reason"], json!("txn-already-in-mempool"));
    let mut other_witness = tx.clone();
    other_witness.input[0].witness = Witness::from_slice(&[vec![1; 71], vec![2; 33]]);
    assert_eq!(test(&mut pair, &other_witness)["reject-reason"], json!("txn-same-nonwitness-data-in-mempool"));
    pair.mine(1);
    assert_eq!(pair.send(&tx).expect_err("it is in the chain").code, -27);
    assert_eq!(test(&mut pair, &tx)["reject-reason"], json!("txn-already-known"));
}

#[test]
fn forms_are_refused_alike() {
    let mut pair = Pair::funded(103);
    let tx = payment(&pair, 0, RATE);
    let with = |change: &dyn Fn(&mut Transaction)| {
        let mut changed = tx.clone();
        change(&mut changed);
        changed
    };
    for version in [0, 4, -1] {
        refused(&mut pair, &with(&|tx| tx.version = Version(version)), "version");
    }
    let odd = with(&|tx| tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51, 0x52, 0x53]));
    refused(&mut pair, &odd, "scriptpubkey");
    refused(
        &mut pair,
        &with(&|tx| tx.input[0].script_sig = ScriptBuf::from_bytes(vec![0xac])),
        "scriptsig-not-pushonly",
    );
    let long = ScriptBuf::from_bytes([vec![0x00; 1_651]].concat());
    refused(&mut pair, &with(&|tx| tx.input[0].script_sig = long.clone()), "scriptsig-size");
    let dust = TxOut { value: Amount::from_sat(1), script_pubkey: pair.script(AddressForm::Legacy) };
    refused(&mut pair, &with(&|tx| tx.output.extend([dust.clone(), dust.clone()])), "dust");
    let one = resign(&pair, &with(&|tx| tx.output.push(dust.clone())));
    refused(&mut pair, &one, "dust");
    refused(&mut pair, &with(&|tx| tx.lock_time = absolute::LockTime::from_consensus(500)), "non-final");
    let later = with(&|tx| tx.input[0].sequence = Sequence::from_height(500));
    refused(&mut pair, &later, "non-BIP68-final");
    let unknown = OutPoint::new(bitcoin::Txid::from_byte_array([4; 32]), 1);
    refused(&mut pair, &with(&|tx| tx.input[0].previous_output = unknown), "missing-inputs");
    refused(&mut pair, &with(&|tx| tx.output[0].value = Amount::from_sat(9_000_000_000)), "bad-txns-in-belowout");
    refused(&mut pair, &with(&|tx| tx.output.clear()), "bad-txns-vout-empty");
    refused(&mut pair, &with(&|tx| tx.input.push(tx.input[0].clone())), "bad-txns-inputs-duplicate");
    let young = pair.block_at(50).txdata[0].compute_txid();
    let premature = with(&|tx| tx.input[0].previous_output = OutPoint::new(young, 0));
    refused(&mut pair, &premature, "bad-txns-premature-spend-of-coinbase");
    let data = ScriptBuf::from_bytes([vec![0x6a, 0x4e], 99_990_u32.to_le_bytes().to_vec(), vec![0; 99_990]].concat());
    let carrier = with(&|tx| {
        tx.output[0] = TxOut { value: Amount::ZERO, script_pubkey: data.clone() };
        tx.output.push(tx.output[0].clone());
    });
    refused(&mut pair, &carrier, "tx-size");
    let coinbase = pair.block_at(100).txdata[0].clone();
    assert_eq!(test(&mut pair, &coinbase)["reject-reason"], json!("coinbase"));
    let tiny = with(&|tx| {
        tx.output.truncate(1);
        tx.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x6a]);
        tx.output[0].value = Amount::ZERO;
    });
    refused(&mut pair, &tiny, "tx-size-small");
}

#[test]
fn dust_limits_are_the_same_to_the_satoshi() {
    let mut pair = Pair::funded(103);
    let limits = [
        (AddressForm::Legacy, 546),
        (AddressForm::Nested, 540),
        (AddressForm::Segwit, 294),
        (AddressForm::Taproot, 330),
    ];
    for (form, limit) in limits {
        let mut tx = payment(&pair, 0, rate(5_000));
        tx.output[0] = TxOut { value: Amount::from_sat(limit), script_pubkey: pair.script(form) };
        let tx = resign(&pair, &tx);
        assert_eq!(test(&mut pair, &tx)["allowed"], json!(true), "{form:?}");
        let mut tx = tx;
        tx.output[0].value = Amount::from_sat(limit - 1);
        let tx = resign(&pair, &tx);
        refused(&mut pair, &tx, "dust");
    }
}

#[test]
fn fees_below_the_relay_rate_are_refused_alike() {
    let mut pair = Pair::funded(103);
    // 100 sat/kvB is the least: a payment of 154 vbytes needs 16 sat.
    let tx = payment(&pair, 0, rate(100));
    let change = tx.output.len() - 1;
    let mut verdicts = Vec::new();
    for less in 0..20 {
        let mut cheaper = tx.clone();
        cheaper.output[change].value += Amount::from_sat(less);
        let cheaper = resign(&pair, &cheaper);
        verdicts.push(test(&mut pair, &cheaper)["allowed"] == json!(true));
    }
    assert!(verdicts[0] && verdicts.contains(&false), "{verdicts:?}");
    let mut free = tx.clone();
    free.output[change].value += Amount::from_sat(30);
    let last = resign(&pair, &free);
    let answer = test(&mut pair, &last);
    assert!(
        answer["reject-reason"] == json!("min relay fee not met")
            || answer["reject-reason"] == json!("bad-txns-in-belowout")
    );
}

#[test]
fn caps_on_fees_and_burns_are_the_same() {
    let mut pair = Pair::funded(103);
    let dear = payment(&pair, 0, rate(11_000_000));
    let hex = serialize_hex(&dear);
    let error = pair.same("sendrawtransaction", json!([hex])).expect_err("above 0.10 BTC/kvB");
    assert_eq!(error.code, -25);
    let tested = pair.same("testmempoolaccept", json!([[hex]])).expect("an answer");
    assert_eq!(tested[0]["reject-reason"], json!("max-fee-exceeded"));
    assert_eq!(pair.same("sendrawtransaction", json!([hex, "1.00000000"])).expect_err("a mistake").code, -8);
    let mut burn = payment(&pair, 0, RATE);
    burn.output[0] =
        TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::from_bytes(vec![0x6a, 0x01, 0x07]) };
    let burn = resign(&pair, &burn);
    assert_eq!(pair.same("sendrawtransaction", json!([serialize_hex(&burn), 0])).expect_err("a burn").code, -25);
    pair.same("sendrawtransaction", json!([serialize_hex(&burn), 0, "0.00001000"])).expect("allowed by the caller");
    pair.same("sendrawtransaction", json!([hex, "0.12"])).expect("below the caller's cap, and better than the burn");
}

#[test]
fn replacements_follow_the_same_rules() {
    let mut pair = Pair::funded(105);
    let first = payment(&pair, 0, rate(1_000));
    pair.send(&first).expect("both take it");
    for better in [1_000, 1_010, 1_050, 1_090] {
        let next = pair.wallet.replace(&pair.model, &first, rate(better)).expect("covers");
        if next.compute_txid() != first.compute_txid() {
            refused(&mut pair, &next, "insufficient fee");
        }
    }
    let lower = pair.wallet.replace(&pair.model, &first, rate(500)).expect("covers");
    refused(&mut pair, &lower, "insufficient fee");
    let enough = pair.wallet.replace(&pair.model, &first, rate(1_200)).expect("covers");
    pair.send(&enough).expect("pays 200 sat/kvB more");
    assert_eq!(pair.same("getrawmempool", json!([])), Ok(json!([enough.compute_txid().to_string()])));
    // Full replacement: a transaction that does not signal can be replaced too.
    let mut final_one = payment(&pair, 1, rate(1_000));
    final_one.input[0].sequence = Sequence::MAX;
    let final_one = resign(&pair, &final_one);
    pair.send(&final_one).expect("both take it");
    let next = pair.wallet.replace(&pair.model, &final_one, rate(2_000)).expect("covers");
    pair.send(&next).expect("both take it");
}

#[test]
fn replacement_must_pay_for_every_descendant_it_evicts() {
    let mut pair = Pair::funded(105);
    let parent = payment(&pair, 0, rate(1_000));
    pair.send(&parent).expect("both take it");
    let child = pair.wallet.spend(&[output_of(&parent, 1)], &[], rate(50_000)).expect("covers");
    pair.send(&child).expect("both take it");
    for (better, enters) in [(2_000, false), (20_000, false), (60_000, true)] {
        let next = pair.wallet.replace(&pair.model, &parent, rate(better)).expect("covers");
        let answer = test(&mut pair, &next);
        assert_eq!(answer["allowed"], json!(enters), "{better}: {answer}");
    }
    // More fee in all, but a lower rate than what it replaces: no gain for a miner.
    let coins = pair.wallet.spendable(&pair.model);
    let small = payment(&pair, 0, rate(10_000));
    pair.send(&small).expect("both take it");
    let mut from: Vec<Spendable> =
        coins.into_iter().filter(|coin| coin.outpoint != small.input[0].previous_output).collect();
    from.truncate(2);
    from.push(Spendable {
        outpoint: small.input[0].previous_output,
        output: pair.model.coins().get(&small.input[0].previous_output).expect("unspent").output.clone(),
    });
    let wide: Vec<(ScriptBuf, u64)> = (0..20).map(|_| (pair.script(AddressForm::Legacy), 1_000)).collect();
    let wide = pair.wallet.spend(&from, &wide, rate(3_000)).expect("covers");
    refused(&mut pair, &wide, "replacement-failed");
}

#[test]
fn chains_of_unconfirmed_transactions_are_bounded_alike() {
    let mut pair = Pair::funded(103);
    let mut last = payment(&pair, 0, RATE);
    pair.send(&last).expect("both take it");
    let mut refusals = 0;
    for count in 2..=66 {
        let next = pair.wallet.spend(&[output_of(&last, last.output.len() as u32 - 1)], &[], RATE).expect("covers");
        if count <= 64 {
            pair.send(&next).unwrap_or_else(|error| panic!("{count}: {error}"));
            last = next;
        } else {
            refused(&mut pair, &next, "too-large-cluster");
            refusals += 1;
        }
    }
    assert_eq!(refusals, 2);
    pair.mine(1);
    assert_eq!(pair.model.mempool().count(), 0);
    pair.same_coins();
}

#[test]
fn version_3_transactions_follow_the_same_rules() {
    let mut pair = Pair::funded(105);
    let mut parent = payment(&pair, 0, RATE);
    parent.version = Version(3);
    let parent = resign(&pair, &parent);
    pair.send(&parent).expect("both take it");
    let second = pair.wallet.spend(&[output_of(&parent, 1)], &[], RATE).expect("covers");
    let reason = |pair: &mut Pair, tx: &Transaction| {
        let hex = json!([[serialize_hex(tx)], 0]);
        let real = pair.ask_real("testmempoolaccept", hex.clone()).expect("an answer");
        let model = pair.ask_model("testmempoolaccept", hex).expect("an answer");
        // The words after the reason name ids and sizes; the reason is what callers decide on.
        assert_eq!(model[0]["reject-reason"], real[0]["reject-reason"]);
        assert_eq!(model[0]["allowed"], real[0]["allowed"]);
        real[0]["reject-reason"].clone()
    };
    assert_eq!(reason(&mut pair, &second), json!("TRUC-violation"), "version 2 may not spend it");
    let mut child = second.clone();
    child.version = Version(3);
    let child = resign(&pair, &child);
    pair.send(&child).expect("both take it");
    let mut grandchild = pair.wallet.spend(&[output_of(&child, 0)], &[], RATE).expect("covers");
    grandchild.version = Version(3);
    let grandchild = resign(&pair, &grandchild);
    assert_eq!(reason(&mut pair, &grandchild), json!("TRUC-violation"), "one parent at most");
}

#[test]
fn wrong_signatures_are_refused_alike() {
    let mut pair = Pair::funded(101);
    for form in florin_devnet::outside::ADDRESS_FORMS {
        let payment = pair.wallet.pay(&pair.model, &[(pair.script(form), 100_000)], RATE).expect("funds");
        pair.send(&payment).expect("both take it");
        pair.mine(1);
        let coins = pair.wallet.spendable(&pair.model);
        let coin = coins.into_iter().find(|coin| coin.output.script_pubkey == pair.script(form)).expect("it is there");
        let mut bad = pair.wallet.spend(&[coin], &[], RATE).expect("covers its fee");
        bad.output[0].value -= Amount::from_sat(1);
        let hex = serialize_hex(&bad);
        let real = pair.ask_real("testmempoolaccept", json!([[hex]])).expect("an answer");
        let model = pair.ask_model("testmempoolaccept", json!([[hex]])).expect("an answer");
        let reason = real[0]["reject-reason"].as_str().expect("a reason").to_owned();
        assert_eq!(model[0]["reject-reason"], json!(reason), "{form:?}");
        assert!(reason.starts_with("mempool-script-verify-flag-failed"), "{reason}");
        // bitcoind's message goes on with the input's number and ids.
        let real = pair.ask_real("sendrawtransaction", json!([hex])).expect_err("refused");
        let model = pair.ask_model("sendrawtransaction", json!([hex])).expect_err("refused");
        assert_eq!(model.code, real.code);
        assert!(real.message.starts_with(&model.message), "{} / {}", real.message, model.message);
    }
}

#[test]
fn bytes_that_are_no_transaction_get_the_same_error() {
    let mut pair = Pair::new();
    for hex in ["", "zz", "00", "0200000000"] {
        assert_eq!(pair.same("sendrawtransaction", json!([hex])).expect_err("none").code, -22);
        pair.same("testmempoolaccept", json!([[hex]])).expect_err("none");
        assert_eq!(pair.same("submitblock", json!([hex])).expect_err("none").code, -22);
    }
    pair.same("testmempoolaccept", json!([[]])).expect_err("one at least");
}

#[test]
fn odd_spends_are_refused_alike() {
    let mut pair = Pair::funded(105);
    // A witness beside a plain key hash.
    let script = pair.script(AddressForm::Legacy);
    let tx = pair.wallet.pay(&pair.model, &[(script.clone(), 100_000)], RATE).expect("funds");
    pair.send(&tx).expect("both take it");
    let mut spend = pair.wallet.spend(&[output_of(&tx, 0)], &[], RATE).expect("covers");
    spend.input[0].witness = Witness::from_slice(&[vec![1]]);
    refused(&mut pair, &spend, "bad-witness-nonstandard");
    // An output of no standard form, which only a block can hold.
    let odd = ScriptBuf::from_bytes(vec![0x51, 0x52, 0x87]);
    let funding = pair.wallet.pay(&pair.model, &[(odd, 100_000)], RATE).expect("funds");
    let block = pair.miner.mine_with(&pair.model, vec![funding.clone()], 0).block;
    assert_eq!(pair.submit(&block), Value::Null);
    let mut spend = payment(&pair, 0, RATE);
    spend.input[0].previous_output = OutPoint::new(funding.compute_txid(), 0);
    spend.output.truncate(1);
    spend.output[0].value = Amount::from_sat(90_000);
    spend.input[0].witness = Witness::new();
    refused(&mut pair, &spend, "bad-txns-nonstandard-inputs");
    // A witness program of a version to come.
    let later = ScriptBuf::from_bytes([vec![0x52, 0x20], vec![7; 32]].concat());
    let funding = pair.wallet.pay(&pair.model, &[(later, 100_000)], RATE).expect("funds");
    pair.send(&funding).expect("it may be paid");
    spend.input[0].previous_output = OutPoint::new(funding.compute_txid(), 0);
    refused(&mut pair, &spend, "bad-txns-nonstandard-inputs");
}

#[test]
fn replacement_must_not_spend_what_it_replaces() {
    let mut pair = Pair::funded(105);
    let first = payment(&pair, 0, RATE);
    let coin = pair.wallet.spendable(&pair.model)[0].clone();
    assert_eq!(coin.outpoint, first.input[0].previous_output);
    pair.send(&first).expect("both take it");
    let both = pair.wallet.spend(&[coin, output_of(&first, 1)], &[], rate(50_000)).expect("covers");
    refused(&mut pair, &both, "bad-txns-spends-conflicting-tx");
}

#[test]
fn standard_scripts_of_all_kinds_may_be_paid_alike() {
    let mut pair = Pair::funded(105);
    let key = bitcoin::secp256k1::SecretKey::from_slice(&[3; 32]).expect("a key");
    let key = key.public_key(&bitcoin::secp256k1::Secp256k1::new()).serialize();
    let multisig = |n: u8| {
        let keys: Vec<u8> = (0..n).flat_map(|_| [vec![33], key.to_vec()].concat()).collect();
        ScriptBuf::from_bytes([vec![0x51], keys, vec![0x50 + n, 0xae]].concat())
    };
    for (script, stands) in [
        (ScriptBuf::from_bytes([vec![33], key.to_vec(), vec![0xac]].concat()), true),
        (multisig(1), true),
        (multisig(3), true),
        (multisig(4), false),
        (ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]), true),
        (ScriptBuf::from_bytes([vec![0x00, 0x15], vec![7; 21]].concat()), false),
        (ScriptBuf::from_bytes([vec![0x53, 0x02], vec![7; 2]].concat()), true),
        (ScriptBuf::from_bytes([vec![0x60, 0x28], vec![7; 40]].concat()), true),
        (ScriptBuf::from_bytes(vec![0x6a, 0x02, 0x07]), false),
        (ScriptBuf::from_bytes([vec![0x6a, 0x4c, 80], vec![7; 80]].concat()), true),
        (ScriptBuf::from_bytes(vec![0x51]), false),
        (ScriptBuf::new(), false),
    ] {
        let tx = pair.wallet.pay(&pair.model, &[(script.clone(), 100_000)], RATE).expect("funds");
        let answer = test(&mut pair, &tx);
        assert_eq!(answer["allowed"], json!(stands), "{script:x}: {answer}");
        let block = pair.miner.mine_with(&pair.model, vec![tx], 0).block;
        assert_eq!(pair.submit(&block), Value::Null, "a block may hold any");
        let hash = pair.model.tip().to_string();
        let shown = |answer: Result<Value, RpcError>| answer.expect("a block")["tx"][1]["vout"][0].clone();
        let real = shown(pair.ask_real("getblock", json!([hash, 2])));
        assert_eq!(shown(pair.ask_model("getblock", json!([hash, 2]))), real, "left the model, right bitcoind");
    }
}

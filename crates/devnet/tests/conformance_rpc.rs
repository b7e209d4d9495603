//! Owns the comparison of RPC answers between the model and bitcoind: the same fields, the same types, and on the same chain the same values.

mod common;

use bitcoin::consensus::encode::serialize_hex;
use common::{CLOCK, Pair, RATE};
use florin_devnet::fees::FeeRate;
use florin_devnet::outside::{ADDRESS_FORMS, AddressForm, Spendable};
use serde_json::{Value, json};

/// Field names and JSON types of an answer; of lists, the first entry's.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => items.first().map_or_else(|| json!([]), |first| json!([shape(first)])),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
    }
}

/// Asks both; all fields must be there with the same types, and all but those named must have the same values.
#[track_caller]
fn alike(pair: &mut Pair, method: &str, params: Value, but: &[&str]) -> Value {
    let strip = |mut value: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| !but.contains(&name.as_str()));
        }
        value
    };
    let real = pair.ask_real(method, params.clone()).unwrap_or_else(|error| panic!("{method}: {error}"));
    let model = pair.ask_model(method, params).unwrap_or_else(|error| panic!("{method}: {error}"));
    let (shape_model, shape_real) = (shape(&model), shape(&real));
    for name in but {
        assert!(real.get(name).is_some(), "{method} has a field {name}");
        let lists = shape_model[*name].is_array() && shape_real[*name].is_array();
        assert!(lists || shape_model[*name] == shape_real[*name], "{method}, {name}");
    }
    assert_eq!(strip(model), strip(real.clone()), "left the model, right bitcoind: {method}");
    real
}

/// Both with a chain that holds payments of all forms, and a mempool with a parent and a child.
fn busy() -> (Pair, bitcoin::Transaction, bitcoin::Transaction) {
    let mut pair = Pair::funded(110);
    for form in ADDRESS_FORMS {
        let tx = pair.wallet.pay(&pair.model, &[(pair.script(form), 100_000)], RATE).expect("funds");
        pair.send(&tx).expect("both take it");
        pair.mine(1);
    }
    let coins = pair.wallet.spendable(&pair.model);
    let small: Vec<Spendable> = coins.into_iter().filter(|coin| coin.output.value.to_sat() == 100_000).collect();
    assert_eq!(small.len(), 4);
    let parent = pair.wallet.spend(&small, &[(pair.script(AddressForm::Taproot), 200_000)], RATE).expect("covers");
    pair.send(&parent).expect("both take it");
    let change = parent.output.len() as u32 - 1;
    let coin = Spendable {
        outpoint: bitcoin::OutPoint::new(parent.compute_txid(), change),
        output: parent.output[change as usize].clone(),
    };
    let child = pair.wallet.spend(&[coin], &[], FeeRate::from_sat_per_kvb(9_000)).expect("covers");
    pair.send(&child).expect("both take it");
    (pair, parent, child)
}

#[test]
fn answers_about_the_chain_are_the_same() {
    let (mut pair, ..) = busy();
    // bitcoind warns that it is an unreleased build.
    let unlike = ["size_on_disk", "verificationprogress", "warnings"];
    alike(&mut pair, "getblockchaininfo", json!([]), &unlike);
    pair.set_clock(CLOCK + 3_600);
    pair.mine(1);
    alike(&mut pair, "getblockchaininfo", json!([]), &unlike);
    alike(&mut pair, "getblockcount", json!([]), &[]);
    alike(&mut pair, "getbestblockhash", json!([]), &[]);
    alike(&mut pair, "getchaintips", json!([]), &[]);
    alike(&mut pair, "getindexinfo", json!([]), &[]);
    for height in [0, 1, 50, 110, 111, 112, 113, 114, 115] {
        let hash = alike(&mut pair, "getblockhash", json!([height]), &[]);
        alike(&mut pair, "getblockheader", json!([hash]), &[]);
        alike(&mut pair, "getblockheader", json!([hash, false]), &[]);
        for verbosity in 0..=3 {
            alike(&mut pair, "getblock", json!([hash, verbosity]), &[]);
        }
    }
    let unlike = [
        "version",
        "subversion",
        "protocolversion",
        "localservices",
        "localservicesnames",
        "networks",
        "warnings",
        "localaddresses",
        "connections",
        "connections_in",
        "connections_out",
    ];
    alike(&mut pair, "getnetworkinfo", json!([]), &unlike);
}

#[test]
fn answers_about_the_mempool_are_the_same() {
    let (mut pair, parent, child) = busy();
    for tx in [&parent, &child] {
        let txid = tx.compute_txid().to_string();
        alike(&mut pair, "getmempoolentry", json!([txid]), &[]);
        for verbosity in 0..=2 {
            alike(&mut pair, "getrawtransaction", json!([txid, verbosity]), &[]);
        }
        alike(&mut pair, "gettxout", json!([txid, 0]), &[]);
        alike(&mut pair, "gettxout", json!([txid, 0, false]), &[]);
        alike(
            &mut pair,
            "gettxout",
            json!([tx.input[0].previous_output.txid.to_string(), tx.input[0].previous_output.vout]),
            &[],
        );
    }
    alike(&mut pair, "getrawmempool", json!([true]), &[]);
    alike(&mut pair, "getmempoolinfo", json!([]), &["usage", "maxmempool"]);
    alike(&mut pair, "estimatesmartfee", json!([6]), &["blocks"]);
    alike(&mut pair, "estimatesmartfee", json!([1, "conservative"]), &["blocks"]);
    let sorted = |answer: Result<Value, _>| {
        let mut answer: Value = answer.unwrap_or_else(|error: florin_devnet::rpc::RpcError| panic!("{error}"));
        answer["txids"].as_array_mut().expect("a list").sort_by_key(Value::to_string);
        answer
    };
    let real = sorted(pair.ask_real("getrawmempool", json!([false, true])));
    let model = sorted(pair.ask_model("getrawmempool", json!([false, true])));
    assert_eq!(model, real);
}

#[test]
fn answers_about_transactions_in_blocks_are_the_same() {
    let (mut pair, parent, _) = busy();
    pair.mine(1);
    let hash = pair.model.tip().to_string();
    let txid = parent.compute_txid().to_string();
    for verbosity in 0..=2 {
        alike(&mut pair, "getrawtransaction", json!([txid, verbosity, hash]), &[]);
    }
    alike(&mut pair, "gettxout", json!([txid, 0]), &[]);
    let coinbase = pair.block_at(114).txdata[0].compute_txid().to_string();
    for verbosity in 0..=2 {
        let at = pair.model.tree().at(114).expect("active").to_string();
        alike(&mut pair, "getrawtransaction", json!([coinbase, verbosity, at]), &[]);
    }
    for index in 0..2 {
        alike(&mut pair, "gettxout", json!([coinbase, index]), &[]);
    }
}

#[test]
fn scans_of_unspent_outputs_are_the_same() {
    let (mut pair, ..) = busy();
    pair.same_coins();
    let address = pair.wallet.address(AddressForm::Nested).to_string();
    alike(&mut pair, "scantxoutset", json!(["start", [format!("addr({address})")]]), &[]);
    alike(&mut pair, "scantxoutset", json!(["start", [{ "desc": format!("addr({address})") }]]), &[]);
    alike(&mut pair, "scantxoutset", json!(["status"]), &[]);
    alike(&mut pair, "scantxoutset", json!(["abort"]), &[]);
    pair.same("scantxoutset", json!(["begin"])).expect_err("no such action");
    // A ranged descriptor of a published key (BIP-32, test vector 2, as a test key).
    let key = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let desc = format!("wpkh({key}/0/*)");
    let found = alike(&mut pair, "scantxoutset", json!(["start", [{ "desc": desc, "range": 20 }]]), &[]);
    assert_eq!(found["unspents"], json!([]));
}

#[test]
fn ranged_descriptor_finds_the_same_coins() {
    let mut pair = Pair::funded(101);
    let key = "tpubD6NzVbkrYhZ4WaWSyoBvQwbpLkojyoTZPRsgXELWz3Popb3qkjcJyJUGLnL4qHHoQvao8ESaAstxYSnhyswJ76uZPStJRJCTKvosUCJZL5B";
    let desc = format!("wpkh({key}/0/*)");
    let parsed: miniscript::Descriptor<miniscript::DescriptorPublicKey> = desc.parse().expect("a descriptor");
    let secp = bitcoin::secp256k1::Secp256k1::new();
    let script = |index| {
        let derived = parsed.at_derivation_index(index).expect("in range");
        derived.derived_descriptor(&secp).expect("derivable").script_pubkey()
    };
    let tx = pair.wallet.pay(&pair.model, &[(script(3), 7_000), (script(9), 8_000)], RATE).expect("funds");
    pair.send(&tx).expect("both take it");
    pair.mine(1);
    let total = |answer: Result<Value, _>| -> Value {
        let answer: Value = answer.unwrap_or_else(|error: florin_devnet::rpc::RpcError| panic!("{error}"));
        answer["total_amount"].clone()
    };
    let params = json!(["start", [{ "desc": desc, "range": 20 }]]);
    let (real, model) = (pair.ask_real("scantxoutset", params.clone()), pair.ask_model("scantxoutset", params));
    let real = total(real);
    assert_eq!(total(model), real);
    assert_eq!(real.to_string(), "0.00015000");
}

#[test]
fn errors_are_the_same() {
    let (mut pair, parent, _) = busy();
    let absent = "00".repeat(32);
    let txid = parent.compute_txid().to_string();
    for (method, params, code) in [
        ("getblockhash", json!([1_000]), -8),
        ("getblockhash", json!([-1]), -8),
        ("getblock", json!([absent]), -5),
        ("getblock", json!(["00"]), -8),
        ("getblock", json!(["zz".repeat(32)]), -8),
        ("getblockheader", json!([absent]), -5),
        ("getblockheader", json!(["00"]), -8),
        ("getmempoolentry", json!([absent]), -5),
        ("getrawtransaction", json!([absent]), -5),
        ("getrawtransaction", json!(["00"]), -8),
        ("getrawtransaction", json!([txid, 0, absent]), -5),
        ("invalidateblock", json!([absent]), -5),
        ("reconsiderblock", json!([absent]), -5),
        ("estimatesmartfee", json!([0]), -8),
        ("estimatesmartfee", json!([1_009]), -8),
        ("estimatesmartfee", json!([6, "hasty"]), -8),
        ("generatetoaddress", json!([1, "nonsense"]), -5),
        ("getrawmempool", json!([true, true]), -8),
        ("nosuchmethod", json!([]), -32601),
    ] {
        let error = pair.same(method, params.clone()).expect_err(method);
        assert_eq!(error.code, code, "{method} {params}");
    }
    let hash = pair.model.tip().to_string();
    let error = pair.same("getrawtransaction", json!([txid, 0, hash])).expect_err("not in that block");
    assert_eq!(error.code, -5);
}

#[test]
fn parameters_by_name_are_understood_alike() {
    let (mut pair, parent, _) = busy();
    let hash = pair.model.tip().to_string();
    alike(&mut pair, "getblock", json!({ "blockhash": hash, "verbosity": 1 }), &[]);
    alike(&mut pair, "getblockheader", json!({ "blockhash": hash, "verbose": false }), &[]);
    alike(&mut pair, "getblockheader", json!({ "args": [hash], "verbose": false }), &[]);
    let txid = parent.compute_txid().to_string();
    alike(&mut pair, "getrawtransaction", json!({ "txid": txid, "verbose": true }), &[]);
    alike(&mut pair, "testmempoolaccept", json!({ "rawtxs": [serialize_hex(&parent)], "maxfeerate": 0 }), &[]);
}

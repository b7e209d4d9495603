//! Owns the comparison of blocks between the model and bitcoind: what either mines the other takes, what either refuses the other refuses
//! in the same words, and after reorgs both hold the same coins.

mod common;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Sequence, TxMerkleNode, TxOut, Witness, absolute};
use common::{Pair, RATE};
use florin_devnet::checks::{commitment_script, merkle_root, stripped_size, witness_root};
use florin_devnet::miner::{Content, Miner, Template, seal, spoil_work, work};
use florin_devnet::outside::{ADDRESS_FORMS, AddressForm, OutsideWallet};
use serde_json::{Value, json};

#[test]
fn bitcoind_takes_the_models_blocks_with_spends_of_every_form() {
    let mut pair = Pair::funded(101);
    for form in ADDRESS_FORMS {
        let payment = pair.wallet.pay(&pair.model, &[(pair.script(form), 100_000)], RATE).expect("funds");
        pair.send(&payment).expect("both take it");
        pair.mine(1);
        let coins = pair.wallet.spendable(&pair.model);
        let coin = coins.into_iter().find(|coin| coin.output.script_pubkey == pair.script(form)).expect("it is there");
        let spend = pair.wallet.spend(&[coin], &[], RATE).expect("covers its fee");
        pair.send(&spend).expect("both take it");
        pair.mine(1);
        assert_eq!(pair.same("getrawmempool", json!([])), Ok(json!([])));
    }
    pair.same_coins();
}

#[test]
fn the_model_takes_bitcoinds_blocks_and_their_fees() {
    let mut pair = Pair::new();
    for form in ADDRESS_FORMS {
        pair.mine_real(26, form);
    }
    for form in ADDRESS_FORMS {
        let payment = pair.wallet.pay(&pair.model, &[(pair.script(form), 100_000)], RATE).expect("funds");
        pair.send(&payment).expect("both take it");
        pair.mine_real(1, form);
    }
    // A block of given transactions, among them one that no mempool has seen.
    let payment = pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Taproot), 5_000)], RATE).expect("funds");
    let hex = bitcoin::consensus::encode::serialize_hex(&payment);
    let address = pair.wallet.address(AddressForm::Legacy).to_string();
    let made = pair.ask_real("generateblock", json!([address, [hex]])).expect("it mines");
    pair.take_from_real(&made["hash"]);
    pair.same_coins();
    // And the same method of the model, for bitcoind.
    let payment = pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Nested), 5_000)], RATE).expect("funds");
    let hex = bitcoin::consensus::encode::serialize_hex(&payment);
    let made = pair.ask_model("generateblock", json!([address, [hex]])).expect("it mines");
    let block = pair.ask_model("getblock", json!([made["hash"], 0])).expect("it has it");
    assert_eq!(pair.ask_real("submitblock", json!([block])), Ok(Value::Null));
    pair.same_coins();
}

#[test]
fn halvings_are_the_same() {
    let mut pair = Pair::funded(299);
    let greedy = pair.miner.mine_with(&pair.model, Vec::new(), 1);
    assert_eq!(greedy.subsidy_sat, 1_250_000_000);
    assert_eq!(pair.submit(&greedy.block), json!("bad-cb-amount"));
    pair.mine_real(151, AddressForm::Taproot);
    pair.mine(2);
    pair.same_coins();
}

/// A block on the tip made from the miner's next one, changed, with merkle root, commitment and work made right again.
fn changed(pair: &mut Pair, change: impl FnOnce(&mut Block)) -> Block {
    let mut block = pair.miner.mine(&pair.model).block;
    change(&mut block);
    recommit(&mut block);
    rework(block)
}

fn recommit(block: &mut Block) {
    let commitment = commitment_script(witness_root(&block.txdata), [0; 32]);
    let last = block.txdata.first_mut().and_then(|coinbase| coinbase.output.last_mut());
    if let Some(last) = last.filter(|output| output.script_pubkey.is_op_return()) {
        last.script_pubkey = commitment;
    }
}

fn rework(mut block: Block) -> Block {
    let (root, _) = merkle_root(block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect());
    block.header.merkle_root = TxMerkleNode::from_byte_array(root);
    work(block).0
}

#[test]
fn headers_are_refused_in_the_same_words() {
    let mut pair = Pair::funded(20);
    let good = pair.miner.mine(&pair.model).block;

    assert_eq!(pair.submit(&spoil_work(good.clone())), json!("high-hash"));
    let mut block = good.clone();
    block.header.prev_blockhash = bitcoin::BlockHash::from_byte_array([3; 32]);
    assert_eq!(pair.submit(&work(block).0), json!("prev-blk-not-found"));
    let mut block = good.clone();
    block.header.bits = bitcoin::CompactTarget::from_consensus(0x207f_fffe);
    assert_eq!(pair.submit(&work(block).0), json!("bad-diffbits"));
    let mut block = good.clone();
    block.header.time = u32::try_from(pair.model.tree().median_time_past(&pair.model.tip())).expect("small");
    assert_eq!(pair.submit(&work(block).0), json!("time-too-old"));
    let mut block = good.clone();
    block.header.time = u32::try_from(pair.clock + 7_201).expect("small");
    assert_eq!(pair.submit(&work(block).0), json!("time-too-new"));
    for version in [1, 2, 3, -1] {
        let mut block = good.clone();
        block.header.version = bitcoin::block::Version::from_consensus(version);
        let word = pair.submit(&work(block).0);
        assert!(word.as_str().expect("a word").starts_with("bad-version("), "{word}");
    }
    let mut block = good.clone();
    block.header.time = u32::try_from(pair.clock + 7_200).expect("small");
    assert_eq!(pair.submit(&work(block).0), Value::Null, "two hours ahead is allowed");
    assert_eq!(pair.submit(&good), json!("inconclusive"), "the same height, seen later");
    assert_eq!(pair.submit(&good), json!("duplicate"));
    pair.same_tip();
}

#[test]
fn contents_are_refused_in_the_same_words() {
    let mut pair = Pair::funded(120);
    let payment = pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Taproot), 100_000)], RATE).expect("funds");
    pair.send(&payment).expect("both take it");

    let mut block = pair.miner.mine(&pair.model).block;
    assert_eq!(block.txdata.len(), 2);
    block.header.merkle_root = TxMerkleNode::from_byte_array([1; 32]);
    assert_eq!(pair.submit(&work(block).0), json!("bad-txnmrklroot"));

    // Three transactions have the root of four, the last twice (CVE-2012-2459).
    let second = pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Nested), 100_000)], RATE).expect("funds");
    let mut block = pair.miner.mine_with(&pair.model, vec![payment.clone(), second.clone()], 0).block;
    block.txdata.push(second.clone());
    assert_eq!(pair.submit(&block), json!("bad-txns-duplicate"));
    block.txdata.pop();
    assert_eq!(pair.submit(&block), Value::Null, "the mutation is not held against the block");
    pair.same_tip();

    let block = changed(&mut pair, |block| drop(block.txdata.remove(0)));
    assert_eq!(pair.submit(&block), json!("bad-blk-length"));
    let block = {
        let mut block = pair.miner.mine_with(&pair.model, vec![payment.clone()], 0).block;
        block.txdata.remove(0);
        rework(block)
    };
    assert_eq!(pair.submit(&block), json!("bad-cb-missing"));
    let block = changed(&mut pair, |block| {
        let mut coinbase = block.txdata[0].clone();
        coinbase.output.truncate(1);
        block.txdata.push(coinbase);
    });
    assert_eq!(pair.submit(&block), json!("bad-cb-multiple"));
    let block = changed(&mut pair, |block| {
        block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x51; 101]);
    });
    assert_eq!(pair.submit(&block), json!("bad-cb-length"));
    let block = changed(&mut pair, |block| {
        block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0x01, 0x05, 0x00]);
    });
    assert_eq!(pair.submit(&block), json!("bad-cb-height"));
    assert_eq!(pair.submit(&block), json!("duplicate-invalid"));
    let child = Template {
        parent: block.block_hash(),
        height: 123,
        time: block.header.time + 1,
        transactions: vec![],
        fees_sat: 0,
    };
    let child = pair.miner.solve(&child);
    assert_eq!(pair.submit(&child.block), json!("bad-prevblk"));
    pair.same_tip();
}

#[test]
fn witnesses_are_refused_in_the_same_words() {
    let mut pair = Pair::funded(101);
    let payment = pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Taproot), 100_000)], RATE).expect("funds");
    let good = pair.miner.mine_with(&pair.model, vec![payment], 0).block;

    let mut block = good.clone();
    block.txdata[0].input[0].witness = Witness::from_slice(&[[0; 31]]);
    assert_eq!(pair.submit(&block), json!("bad-witness-nonce-size"));
    let mut block = good.clone();
    block.txdata[0].input[0].witness = Witness::from_slice(&[[1; 32]]);
    assert_eq!(pair.submit(&block), json!("bad-witness-merkle-match"));
    let mut block = good.clone();
    block.txdata[0].output.pop();
    assert_eq!(pair.submit(&rework(block)), json!("unexpected-witness"));
    // Without its witness, a coinbase that commits is completed by submitblock.
    let mut block = good;
    block.txdata[0].input[0].witness = Witness::new();
    assert_eq!(pair.submit(&block), Value::Null);
    pair.same_tip();
}

#[test]
fn transactions_in_blocks_are_refused_in_the_same_words() {
    let mut pair = Pair::funded(120);
    let pay = |pair: &Pair| {
        pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Taproot), 100_000)], RATE).expect("funds")
    };
    let tx = pay(&pair);
    let check = |pair: &mut Pair, tx: bitcoin::Transaction, word: &str| {
        let block = pair.miner.mine_with(&pair.model, vec![tx], 0).block;
        assert_eq!(pair.submit(&block), json!(word));
    };

    let mut bad = tx.clone();
    bad.input[0].previous_output = OutPoint::new(bitcoin::Txid::from_byte_array([5; 32]), 0);
    check(&mut pair, bad, "bad-txns-inputs-missingorspent");
    let mut bad = tx.clone();
    bad.input.push(bad.input[0].clone());
    check(&mut pair, bad, "bad-txns-inputs-duplicate");
    let mut bad = tx.clone();
    bad.output.clear();
    check(&mut pair, bad, "bad-txns-vout-empty");
    let mut bad = tx.clone();
    bad.output[0].value = Amount::from_sat(2_100_000_000_000_001);
    check(&mut pair, bad, "bad-txns-vout-toolarge");
    let mut bad = tx.clone();
    bad.output[0].value = Amount::from_sat(u64::MAX);
    check(&mut pair, bad, "bad-txns-vout-negative");
    let mut bad = tx.clone();
    bad.output[0].value = Amount::from_sat(2_000_000_000_000_000);
    bad.output.push(bad.output[0].clone());
    check(&mut pair, bad, "bad-txns-txouttotal-toolarge");
    let mut bad = tx.clone();
    bad.output[0].value = Amount::from_sat(500_000_000_000);
    check(&mut pair, bad, "bad-txns-in-belowout");
    let mut bad = tx.clone();
    bad.input.push(bitcoin::TxIn { previous_output: OutPoint::null(), ..bad.input[0].clone() });
    check(&mut pair, bad, "bad-txns-prevout-null");
    let mut bad = tx.clone();
    bad.lock_time = absolute::LockTime::from_height(500).expect("a height");
    check(&mut pair, bad, "bad-txns-nonfinal");
    let mut bad = tx.clone();
    bad.input[0].sequence = Sequence::from_height(10_000);
    check(&mut pair, bad, "bad-txns-nonfinal");
    let mut bad = tx.clone();
    bad.input[0].sequence = Sequence::from_512_second_intervals(10_000);
    check(&mut pair, bad, "bad-txns-nonfinal");
    // The reward of a young block.
    let young = pair.block_at(100).txdata[0].compute_txid();
    let mut bad = tx.clone();
    bad.input[0].previous_output = OutPoint::new(young, 0);
    check(&mut pair, bad, "bad-txns-premature-spend-of-coinbase");
    let mut bad = tx.clone();
    bad.input[0].witness = Witness::new();
    check(&mut pair, bad, "block-script-verify-flag-failed (Witness program hash mismatch)");
    // A taker of more than subsidy and fees is refused before scripts are looked at.
    let mut bad = tx.clone();
    bad.output[0].value -= Amount::from_sat(1);
    let greedy = pair.miner.mine_with(&pair.model, vec![bad], 10_000_000_000).block;
    assert_eq!(pair.submit(&greedy), json!("bad-cb-amount"));
    let block = pair.miner.mine_with(&pair.model, vec![tx.clone(), tx.clone()], 0).block;
    assert_eq!(pair.submit(&block), json!("bad-txns-inputs-missingorspent"), "spent twice in one block");
    let block = pair.miner.mine_with(&pair.model, vec![tx], 0).block;
    assert_eq!(pair.submit(&block), Value::Null);
    pair.same_coins();
}

#[test]
fn wrong_signatures_are_refused_in_the_same_words() {
    let mut pair = Pair::funded(101);
    for form in ADDRESS_FORMS {
        let payment = pair.wallet.pay(&pair.model, &[(pair.script(form), 100_000)], RATE).expect("funds");
        pair.send(&payment).expect("both take it");
        pair.mine(1);
        let coins = pair.wallet.spendable(&pair.model);
        let coin = coins.into_iter().find(|coin| coin.output.script_pubkey == pair.script(form)).expect("it is there");
        let stranger = OutsideWallet::new([1; 32]);
        let mut theirs = coin.clone();
        theirs.output.script_pubkey = stranger.script(form);
        let good = pair.wallet.spend(&[coin], &[], RATE).expect("covers its fee");
        let foreign = stranger.spend(&[theirs], &[], RATE).expect("covers its fee");
        let mut signs_another_amount = good.clone();
        signs_another_amount.output[0].value -= Amount::from_sat(1);
        let mut is_unsigned = good.clone();
        is_unsigned.input[0].witness = Witness::new();
        is_unsigned.input[0].script_sig = ScriptBuf::new();
        let mut has_another_witness = good.clone();
        has_another_witness.input[0].witness = Witness::from_slice(&[vec![1; 10], vec![2; 33], vec![3; 5]]);
        let mut has_another_key = good.clone();
        has_another_key.input[0].witness = foreign.input[0].witness.clone();
        has_another_key.input[0].script_sig = foreign.input[0].script_sig.clone();
        let mut is_short = good.clone();
        is_short.input[0].witness = Witness::from_slice(&[vec![7; 63]]);
        let mut bad = vec![signs_another_amount, is_unsigned, has_another_key];
        // What else can stand in a taproot witness is a script path, whose faults this network does not name.
        bad.push(if form == AddressForm::Taproot { is_short } else { has_another_witness });
        let mut words = Vec::new();
        for tx in bad {
            let block = pair.miner.mine_with(&pair.model, vec![tx], 0).block;
            words.push(pair.submit(&block));
        }
        assert!(
            words.iter().all(|word| word.as_str().is_some_and(|word| word.starts_with("block-script-verify"))),
            "{form:?}: {words:?}"
        );
    }
}

#[test]
fn weight_and_signature_operations_are_bounded_alike() {
    let mut pair = Pair::funded(5);
    let block = changed(&mut pair, |block| {
        let script = ScriptBuf::from_bytes([vec![0x6a], vec![0x51; 1_000_000]].concat());
        block.txdata[0].output.insert(0, TxOut { value: Amount::ZERO, script_pubkey: script });
    });
    assert_eq!(pair.submit(&block), json!("bad-blk-length"));
    let block = changed(&mut pair, |block| {
        let script = ScriptBuf::from_bytes(vec![0xac; 20_001]);
        block.txdata[0].output.insert(0, TxOut { value: Amount::ZERO, script_pubkey: script });
    });
    assert_eq!(pair.submit(&block), json!("bad-blk-sigops"));
    let block = changed(&mut pair, |block| {
        let script = ScriptBuf::from_bytes(vec![0xac; 20_000]);
        block.txdata[0].output.insert(0, TxOut { value: Amount::ZERO, script_pubkey: script });
    });
    assert_eq!(pair.submit(&block), Value::Null);
    // As large as may be without witness: the coinbase's own makes it too heavy.
    let mut block = pair.miner.mine(&pair.model).block;
    let pad = |bytes: usize| TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::from_bytes([vec![0x6a], vec![0x51; bytes]].concat()),
    };
    block.txdata[0].output.insert(0, pad(900_000));
    let room = 1_000_000 - stripped_size(&block);
    block.txdata[0].output[0] = pad(900_000 + room);
    assert_eq!(stripped_size(&block), 1_000_000);
    let block = rework(block);
    assert_eq!(pair.submit(&block), json!("bad-blk-weight"));
}

#[test]
fn transaction_cannot_be_overwritten_in_either() {
    let mut pair = Pair::funded(101);
    // The coinbase of an earlier block again: its height is wrong, so BIP-34 comes first.
    let old = pair.block_at(50).txdata[0].clone();
    let time = pair.block_at(101).header.time + 1;
    let (block, _) = seal(pair.model.tip(), time, vec![old]);
    assert_eq!(pair.submit(&block), json!("bad-cb-height"));
}

#[test]
fn longer_branch_wins_alike_and_brings_payments_back_to_the_mempool() {
    let mut pair = Pair::funded(101);
    let fork = pair.model.tip();
    let payment = pair.wallet.pay(&pair.model, &[(pair.script(AddressForm::Taproot), 100_000)], RATE).expect("funds");
    pair.send(&payment).expect("both take it");
    pair.mine(1);
    pair.same_coins();
    let theft = pair.wallet.double_spend(&pair.model, &payment, RATE).expect("covers its fee");

    let mut rival = Miner::new(pair.script(AddressForm::Legacy), 2);
    let mut shadow = pair.model.clone();
    let branch = rival.mine_on(&mut shadow, fork, 3, Content::Empty).expect("a branch");
    assert_eq!(pair.submit(&branch[0].block), json!("inconclusive"));
    assert_eq!(pair.submit(&branch[1].block), Value::Null);
    assert_eq!(pair.same("getrawmempool", json!([])), Ok(json!([payment.compute_txid().to_string()])));
    pair.same_coins();
    assert_eq!(pair.submit(&branch[2].block), Value::Null);

    // A third branch holds a double spend: the payment is gone for good in both.
    let mut thief = Miner::new(pair.script(AddressForm::Nested), 3);
    let mut shadow = pair.model.clone();
    let branch = thief.mine_on(&mut shadow, fork, 4, Content::Transactions(vec![theft])).expect("a branch");
    for mined in &branch {
        pair.submit(&mined.block);
    }
    pair.same_tip();
    assert_eq!(pair.model.tip(), branch[3].hash);
    assert_eq!(pair.same("getrawmempool", json!([])), Ok(json!([])));
    assert_eq!(pair.send(&payment).expect_err("its input is gone").code, -25);
    pair.same_coins();
}

#[test]
fn blocks_that_come_before_their_parents_are_refused_and_a_bad_branch_is_left_alike() {
    let mut pair = Pair::funded(101);
    let fork = pair.model.tip();
    pair.mine(1);
    let mut rival = Miner::new(pair.script(AddressForm::Legacy), 2);
    let entry = pair.model.tree().get(&fork).expect("known");
    let time = entry.header.time + 10;
    // The first block of the branch takes too much, which only shows once the branch is followed.
    let first = rival.solve(&Template { parent: fork, height: 102, time, transactions: vec![], fees_sat: 5 });
    let second =
        rival.solve(&Template { parent: first.hash, height: 103, time: time + 1, transactions: vec![], fees_sat: 0 });
    assert_eq!(pair.submit(&second.block), json!("prev-blk-not-found"));
    assert_eq!(pair.submit(&first.block), json!("inconclusive"));
    assert_eq!(pair.submit(&second.block), json!("inconclusive"), "its parent turns out invalid");
    pair.same_tip();
    assert_eq!(pair.submit(&first.block), json!("duplicate-invalid"));
    assert_eq!(pair.model.height(), 102);
    pair.same_coins();
}

#[test]
fn invalidate_and_reconsider_move_both_alike() {
    let mut pair = Pair::funded(110);
    let hash = pair.model.tree().at(105).expect("active").to_string();
    assert_eq!(pair.same("invalidateblock", json!([hash])), Ok(Value::Null));
    assert_eq!(pair.same("getblockcount", json!([])), Ok(json!(104)));
    pair.same_coins();
    let tips = |pair: &mut Pair| pair.same("getchaintips", json!([])).expect("tips");
    assert_eq!(tips(&mut pair)[0]["status"], json!("invalid"));
    assert_eq!(pair.same("reconsiderblock", json!([hash])), Ok(Value::Null));
    assert_eq!(pair.same("getblockcount", json!([])), Ok(json!(110)));
    tips(&mut pair);
    pair.same_coins();
}

//! Owns the tests of one node alone: mining, spending, reorgs, replacement. Must never need bitcoind.

use bitcoin::consensus::encode::serialize;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::{Content, Miner};
use florin_devnet::node::Node;
use florin_devnet::outside::{ADDRESS_FORMS, AddressForm, OutsideWallet};
use florin_devnet::params::issuance_limit_sat;
use florin_devnet::policy::RelayPolicy;
use florin_devnet::reject::{BlockReject, TxReject, Verdict};

const CLOCK: u64 = 1_700_000_000;
const RATE: FeeRate = FeeRate::from_sat_per_kvb(2_000);

/// A node with 101 blocks whose first reward the wallet can spend.
fn funded() -> (Node, Miner, OutsideWallet) {
    let wallet = OutsideWallet::new([7; 32]);
    let mut node = Node::new(RelayPolicy::default(), CLOCK);
    let mut miner = Miner::new(wallet.script(AddressForm::Segwit), 1);
    miner.extend(&mut node, 101).expect("valid blocks");
    (node, miner, wallet)
}

#[test]
fn every_address_form_can_be_paid_and_spent() {
    let (mut node, mut miner, wallet) = funded();
    for form in ADDRESS_FORMS {
        let payment = wallet.pay(&node, &[(wallet.script(form), 100_000)], RATE).expect("funds");
        node.accept(payment.clone()).expect("payment enters");
        let mined = miner.extend(&mut node, 1).expect("block").remove(0);
        assert_eq!(mined.block.txdata.len(), 2);
        assert!(mined.fees_sat > 0);
        let spendable =
            wallet.spendable(&node).into_iter().find(|coin| coin.output.script_pubkey == wallet.script(form));
        let coin = spendable.expect("the payment is spendable");
        let spend = wallet.spend(&[coin], &[], RATE).expect("covers its fee");
        node.accept(spend).unwrap_or_else(|reject| panic!("{form:?}: {}", reject.message()));
        miner.extend(&mut node, 1).expect("block");
        assert_eq!(node.mempool().count(), 0);
    }
}

#[test]
fn fees_and_subsidy_are_conserved_over_a_halving() {
    let (mut node, mut miner, wallet) = funded();
    for _ in 0..60 {
        let tx = wallet.pay(&node, &[(wallet.script(AddressForm::Taproot), 50_000)], RATE).expect("funds");
        node.accept(tx).expect("enters");
        miner.extend(&mut node, 1).expect("block");
    }
    let scripts = ADDRESS_FORMS.into_iter().map(|form| wallet.script(form)).collect();
    let total: u64 = node.coins().of_scripts(&scripts).iter().map(|(_, coin)| coin.output.value.to_sat()).sum();
    assert_eq!(total, issuance_limit_sat(161), "fees go back to the miner, so all that was issued is there");
    assert_eq!(node.height(), 161);
}

#[test]
fn longer_branch_takes_a_payment_back_and_returns_it() {
    let (mut node, mut miner, wallet) = funded();
    let fork = node.tip();
    let tx = wallet.pay(&node, &[(wallet.script(AddressForm::Taproot), 70_000)], RATE).expect("funds");
    let txid = node.accept(tx).expect("enters").txid;
    miner.extend(&mut node, 1).expect("block");
    assert!(!node.mempool().contains(&txid));

    let mut other = Miner::new(wallet.script(AddressForm::Legacy), 2);
    other.mine_on(&mut node, fork, 2, Content::Empty).expect("branch");
    assert_eq!(node.height(), 103);
    assert!(node.mempool().contains(&txid), "the payment waits again");

    miner.extend(&mut node, 1).expect("block");
    assert!(!node.mempool().contains(&txid));
    assert_eq!(node.tree().tips().len(), 2);
}

#[test]
fn fork_with_a_double_spend_removes_the_payment_for_good() {
    let (mut node, mut miner, wallet) = funded();
    let fork = node.tip();
    let payment = wallet.pay(&node, &[(wallet.script(AddressForm::Taproot), 70_000)], RATE).expect("funds");
    let txid = node.accept(payment.clone()).expect("enters").txid;
    miner.extend(&mut node, 1).expect("block");
    let theft = wallet.double_spend(&node, &payment, RATE).expect("covers its fee");
    assert!(node.test_accept(&theft).is_err(), "its input is spent in the chain");
    miner.mine_on(&mut node, fork, 2, Content::Transactions(vec![theft.clone()])).expect("branch");
    assert_eq!(node.height(), 103);
    assert!(!node.mempool().contains(&txid), "its input is gone");
    assert!(node.coins().has_output_of(&theft));
    let refused = node.accept(payment).expect_err("its input is gone");
    assert!(refused.is_missing_input());
}

#[test]
fn deep_reorg_leaves_the_same_coins_as_a_node_that_never_saw_the_other_branch() {
    let (mut node, mut miner, wallet) = funded();
    let fork = node.tip();
    for _ in 0..20 {
        let tx = wallet.pay(&node, &[(wallet.script(AddressForm::Nested), 30_000)], RATE).expect("funds");
        node.accept(tx).expect("enters");
        miner.extend(&mut node, 1).expect("block");
    }
    let mut other = Miner::new(wallet.script(AddressForm::Legacy), 2);
    other.mine_on(&mut node, fork, 21, Content::Empty).expect("branch");
    let mut fresh = Node::new(RelayPolicy::default(), CLOCK);
    for height in 1..=node.height() {
        let hash = node.tree().at(height).expect("active");
        let block = node.block(&hash).expect("bytes");
        fresh.submit_block(&serialize(&*block)).expect("valid");
    }
    let scripts = ADDRESS_FORMS.into_iter().map(|form| wallet.script(form)).collect();
    assert_eq!(fresh.coins().of_scripts(&scripts), node.coins().of_scripts(&scripts));
    assert_eq!(fresh.coins().count(), node.coins().count());
}

#[test]
fn invalid_block_is_remembered_and_its_descendants_are_refused() {
    let (mut node, mut miner, _) = funded();
    let greedy = miner.mine_with(&node, Vec::new(), 1);
    let bytes = serialize(&greedy.block);
    assert!(matches!(node.submit_block(&bytes), Err(BlockReject::CoinbaseAmount { .. })));
    assert_eq!(node.submit_block(&bytes), Err(BlockReject::DuplicateInvalid));
    assert_eq!(node.height(), 101);
    let child = florin_devnet::miner::Template {
        parent: greedy.hash,
        height: 103,
        time: greedy.block.header.time + 1,
        transactions: Vec::new(),
        fees_sat: 0,
    };
    let child = miner.solve(&child);
    assert_eq!(node.submit_block(&serialize(&child.block)), Err(BlockReject::PrevInvalid));
    assert!(matches!(
        node.submit_block(&serialize(&miner.mine(&node).block)),
        Ok(Verdict::Connected { height: 102, .. })
    ));
}

#[test]
fn replacement_pays_for_what_it_evicts_and_its_own_relay() {
    let (mut node, _, wallet) = funded();
    let target = wallet.script(AddressForm::Taproot);
    let first = wallet.pay(&node, &[(target, 90_000)], RATE).expect("funds");
    let txid = node.accept(first.clone()).expect("enters").txid;
    let same = wallet.replace(&node, &first, FeeRate::from_sat_per_kvb(2_050)).expect("covers");
    assert!(matches!(node.accept(same), Err(TxReject::InsufficientFee { .. })));
    let better = wallet.replace(&node, &first, FeeRate::from_sat_per_kvb(4_000)).expect("covers");
    let accepted = node.accept(better).expect("enters");
    assert_eq!(accepted.replaced.into_iter().collect::<Vec<_>>(), vec![txid]);
    assert_eq!(node.mempool().count(), 1);
}

#[test]
fn wrong_signature_is_refused_by_mempool_and_block() {
    let (mut node, mut miner, wallet) = funded();
    for form in ADDRESS_FORMS {
        let payment = wallet.pay(&node, &[(wallet.script(form), 100_000)], RATE).expect("funds");
        node.accept(payment).expect("enters");
        miner.extend(&mut node, 1).expect("block");
        let coins = wallet.spendable(&node);
        let coin = coins.iter().find(|coin| coin.output.script_pubkey == wallet.script(form)).expect("there");
        let mut spend = wallet.spend(std::slice::from_ref(coin), &[], RATE).expect("covers");
        spend.output[0].value -= bitcoin::Amount::from_sat(1);
        assert!(matches!(node.test_accept(&spend), Err(TxReject::Script(_))), "{form:?}");
        let mined = miner.mine_with(&node, vec![spend], 0);
        assert!(matches!(node.submit_block(&serialize(&mined.block)), Err(BlockReject::Script(_))), "{form:?}");
    }
}

#[test]
fn bytes_that_are_no_block_are_refused() {
    let mut node = Node::new(RelayPolicy::default(), CLOCK);
    for bytes in [&b""[..], b"\x00", &[0xff; 200]] {
        assert_eq!(node.submit_block(bytes), Err(BlockReject::Undecodable));
    }
}

#[test]
fn waiting_transaction_expires_by_the_clock() {
    let (mut node, _, wallet) = funded();
    let tx = wallet.pay(&node, &[(wallet.script(AddressForm::Taproot), 70_000)], RATE).expect("funds");
    node.accept(tx).expect("enters");
    node.set_clock(CLOCK + 336 * 3_600);
    assert_eq!(node.mempool().count(), 1);
    node.set_clock(CLOCK + 336 * 3_600 + 1);
    assert_eq!(node.mempool().count(), 0);
}

#[test]
fn full_mempool_evicts_the_worst_and_raises_its_floor() {
    let (mut node, mut miner, wallet) = funded();
    miner.extend(&mut node, 5).expect("blocks");
    let mut policy = node.policy().clone();
    policy.mempool_vsize_max = 300;
    node.set_policy(policy);
    let coins = wallet.spendable(&node);
    let pay = |index: usize, rate: u64| {
        wallet.spend(std::slice::from_ref(&coins[index]), &[], FeeRate::from_sat_per_kvb(rate)).expect("covers")
    };
    let cheap = node.accept(pay(0, 1_000)).expect("enters").txid;
    node.accept(pay(1, 3_000)).expect("enters");
    node.accept(pay(2, 2_000)).expect("enters");
    assert!(!node.mempool().contains(&cheap), "the worst is evicted");
    assert!(matches!(node.accept(pay(3, 1_000)), Err(TxReject::MempoolMinFee { .. })));
}

/// An output script spent with these values, judged in a block of its own.
fn spend_of(script: bitcoin::ScriptBuf, script_sig: Vec<u8>, witness: &[Vec<u8>]) -> Result<Verdict, BlockReject> {
    let (mut node, mut miner, wallet) = funded();
    let funding = wallet.pay(&node, &[(script, 100_000)], RATE).expect("funds");
    let outpoint = bitcoin::OutPoint::new(funding.compute_txid(), 0);
    let mined = miner.mine_with(&node, vec![funding], 0);
    node.submit_block(&serialize(&mined.block)).expect("valid");
    let input = bitcoin::TxIn {
        previous_output: outpoint,
        script_sig: bitcoin::ScriptBuf::from_bytes(script_sig),
        sequence: bitcoin::Sequence::MAX,
        witness: bitcoin::Witness::from_slice(witness),
    };
    let output =
        bitcoin::TxOut { value: bitcoin::Amount::from_sat(90_000), script_pubkey: wallet.script(AddressForm::Segwit) };
    let tx = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    let mined = miner.mine_with(&node, vec![tx], 0);
    node.submit_block(&serialize(&mined.block))
}

#[test]
fn hash_of_the_opcode_one_is_not_spent_by_pushing_the_value_one() {
    let opcode = bitcoin::Script::from_bytes(&[0x51]);
    let nested = bitcoin::ScriptBuf::new_p2sh(&opcode.script_hash());
    assert!(matches!(spend_of(nested.clone(), vec![0x51], &[]), Err(BlockReject::Script(_))));
    assert!(spend_of(nested, vec![0x01, 0x51], &[]).is_ok(), "the script itself is the key");
    let native = bitcoin::ScriptBuf::new_p2wsh(&opcode.wscript_hash());
    assert!(matches!(spend_of(native.clone(), vec![], &[vec![1]]), Err(BlockReject::Script(_))));
    assert!(spend_of(native, vec![], &[vec![0x51]]).is_ok());
}

#[test]
fn anchor_is_spent_by_anyone_without_a_witness_only() {
    let anchor = bitcoin::ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]);
    assert!(spend_of(anchor.clone(), vec![], &[]).is_ok());
    assert!(matches!(spend_of(anchor, vec![0x51], &[]), Err(BlockReject::Script(_))));
}

#[test]
fn scripts_beyond_the_interpreter_are_refused() {
    // Two values added: no Miniscript.
    let sum = bitcoin::ScriptBuf::from_bytes(vec![0x52, 0x93, 0x54, 0x87]);
    let refused = spend_of(sum, vec![0x52], &[]).expect_err("not understood");
    assert!(refused.to_string().contains("beyond what this network verifies"), "{refused}");
    // A witness program of version 2.
    let later = bitcoin::ScriptBuf::from_bytes([vec![0x52, 0x20], vec![7; 32]].concat());
    assert!(spend_of(later, vec![], &[vec![1; 10]]).is_err());
}

//! Owns seeded random runs of the model beside bitcoind: after each step both must have the same tip and mempool, at the end the same coins.

// The seed and what the run did belong to a failure's output.
#![allow(clippy::print_stdout)]

mod common;

use bitcoin::{Amount, BlockHash, OutPoint, Transaction, Txid};
use common::{CLOCK, Pair};
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::{Content, Miner, Template, template_on};
use florin_devnet::outside::{ADDRESS_FORMS, AddressForm, Spendable};
use florin_devnet::rpc::RpcError;
use serde_json::{Value, json};

/// A small generator with a printed seed (splitmix64): the same seed gives the same run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("small")
    }
}

/// What a run has done, so that a run that did nothing fails.
#[derive(Debug, Default)]
struct Tally {
    paid: u32,
    refused: u32,
    replaced: u32,
    double_spent: u32,
    mined_model: u32,
    mined_real: u32,
    reorganised: u32,
    spoiled: u32,
    abandoned: u32,
    extended: u32,
}

struct Run {
    pair: Pair,
    chance: Chance,
    tally: Tally,
    sent: Vec<Transaction>,
    forks: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self { pair: Pair::funded(130), chance: Chance(seed), tally: Tally::default(), sent: vec![], forks: 10 }
    }

    fn form(&mut self) -> AddressForm {
        ADDRESS_FORMS[self.chance.below(ADDRESS_FORMS.len())]
    }

    fn rate(&mut self) -> FeeRate {
        FeeRate::from_sat_per_kvb(200 + self.chance.below(20_000) as u64)
    }

    fn send(&mut self, tx: Transaction) {
        match self.pair.send(&tx) {
            Ok(_) => self.tally.paid += 1,
            Err(_) => self.tally.refused += 1,
        }
        self.sent.push(tx);
    }

    fn pay(&mut self) {
        let (form, rate) = (self.form(), self.rate());
        let amount = 1_000 + self.chance.below(1_000_000) as u64;
        if let Ok(tx) = self.pair.wallet.pay(&self.pair.model, &[(self.pair.script(form), amount)], rate) {
            self.send(tx);
        }
    }

    /// Spends an output of a waiting transaction, so that there are clusters.
    fn extend(&mut self) {
        let txids = self.pair.model.mempool().since(0);
        if txids.is_empty() {
            return;
        }
        let txid = txids[self.chance.below(txids.len())];
        let tx = self.pair.model.mempool().get(&txid).expect("it waits").tx.clone();
        let index = self.chance.below(tx.output.len());
        let coin = Spendable { outpoint: OutPoint::new(txid, index as u32), output: tx.output[index].clone() };
        let rate = self.rate();
        if let Ok(child) = self.pair.wallet.spend(&[coin], &[], rate) {
            self.tally.extended += 1;
            self.send(child);
        }
    }

    /// An old transaction again, as it was, dearer, spent elsewhere, or with a wrong amount.
    fn again(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        // Mostly one that still waits.
        let waiting = self.pair.model.mempool().since(0);
        let tx = if waiting.is_empty() || self.chance.below(4) == 0 {
            self.sent[self.chance.below(self.sent.len())].clone()
        } else {
            let txid = waiting[self.chance.below(waiting.len())];
            (*self.pair.model.mempool().get(&txid).expect("it waits").tx).clone()
        };
        let rate = self.rate();
        match self.chance.below(4) {
            0 => drop(self.pair.send(&tx)),
            1 => {
                if let Ok(next) = self.pair.wallet.replace(&self.pair.model, &tx, rate) {
                    self.tally.replaced += u32::from(self.pair.send(&next).is_ok());
                    self.sent.push(next);
                }
            }
            2 => {
                if let Ok(next) = self.pair.wallet.double_spend(&self.pair.model, &tx, rate) {
                    self.tally.double_spent += u32::from(self.pair.send(&next).is_ok());
                    self.sent.push(next);
                }
            }
            _ => self.spoil(tx),
        }
    }

    /// Both must refuse it for the same reason; the details of script faults differ.
    fn spoil(&mut self, mut tx: Transaction) {
        tx.output[0].value = Amount::from_sat(tx.output[0].value.to_sat() ^ 1);
        let hex = json!([[bitcoin::consensus::encode::serialize_hex(&tx)]]);
        let real = self.pair.ask_real("testmempoolaccept", hex.clone()).expect("an answer");
        let model = self.pair.ask_model("testmempoolaccept", hex).expect("an answer");
        assert_eq!(model[0]["reject-reason"], real[0]["reject-reason"]);
        assert_eq!(model[0]["allowed"], json!(false));
        self.tally.spoiled += 1;
    }

    fn mine(&mut self) {
        let form = self.form();
        if self.chance.below(2) == 0 {
            self.pair.miner.set_script(self.pair.wallet.script(form));
            self.pair.mine(1);
            self.tally.mined_model += 1;
        } else {
            self.pair.mine_real(1, form);
            self.tally.mined_real += 1;
        }
    }

    /// A branch from a few blocks back, with or without transactions, sometimes with a double spend.
    fn fork(&mut self) {
        let depth = 1 + self.chance.below(6) as u32;
        let tip = self.pair.model.tip();
        let parent = self.pair.model.tree().at(self.pair.model.height() - depth).expect("active");
        self.forks += 1;
        let form = self.form();
        let mut miner = Miner::new(self.pair.script(form), self.forks);
        let content = if self.chance.below(2) == 0 { Content::Empty } else { Content::Mempool };
        let mut shadow = self.pair.model.clone();
        let length = depth + self.chance.below(3) as u32;
        if self.chance.below(3) == 0 {
            return self.bad_branch(&mut miner, parent, length);
        }
        for mined in miner.mine_on(&mut shadow, parent, length, content).expect("a branch") {
            self.pair.submit(&mined.block);
        }
        self.tally.reorganised += u32::from(self.pair.model.tip() != tip);
    }

    /// A branch whose first block takes a satoshi too much: both must try it, leave it, and end where they were.
    fn bad_branch(&mut self, miner: &mut Miner, parent: BlockHash, length: u32) {
        let model = &self.pair.model;
        let mut template = template_on(model, parent, Content::Empty).expect("known");
        template.fees_sat = 1;
        let (last, tip) = (template.height + length, model.tip());
        while template.height < last {
            let mined = miner.solve(&template);
            self.pair.submit(&mined.block);
            let (height, time) = (template.height + 1, template.time + 1);
            template = Template { parent: mined.hash, height, time, transactions: vec![], fees_sat: 0 };
        }
        assert_eq!(self.pair.model.tip(), tip);
        self.tally.abandoned += 1;
    }

    fn step(&mut self) {
        let action = self.chance.below(10);
        match action {
            0..=2 => self.pay(),
            3 => self.extend(),
            4..=6 => self.again(),
            7..=8 => self.mine(),
            _ => self.fork(),
        }
        if self.chance.below(8) == 0 {
            let later = self.pair.clock + self.chance.below(900) as u64;
            self.pair.set_clock(later);
        }
        self.pair.same_tip();
        let real = self.pair.ask_real("getrawmempool", json!([])).expect("a list");
        let mut real: Vec<String> =
            real.as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut model: Vec<String> =
            self.pair.model.mempool().iter().map(|(txid, _): (&Txid, _)| txid.to_string()).collect();
        real.sort();
        model.sort();
        assert_eq!(model, real, "left the model's mempool, right bitcoind's");
    }
}

/// Runs a seed; every step compares.
fn play(seed: u64) -> Tally {
    println!("seed {seed}");
    let mut run = Run::new(seed);
    for _ in 0..400 {
        run.step();
    }
    run.pair.mine(1);
    let found = run.pair.same_coins();
    assert!(found["unspents"].as_array().is_some_and(|unspents| unspents.len() > 100));
    // Of equally high ones bitcoind's order is by chance.
    let tips = |answer: Result<Value, RpcError>| {
        let mut tips = answer.expect("tips").as_array().expect("a list").clone();
        tips.sort_by_key(Value::to_string);
        tips
    };
    let real = tips(run.pair.ask_real("getchaintips", json!([])));
    assert_eq!(tips(run.pair.ask_model("getchaintips", json!([]))), real);
    println!("seed {seed}: {:?}, clock {}", run.tally, run.pair.clock - CLOCK);
    run.tally
}

fn run(seed: u64) {
    let tally = play(seed);
    assert!(tally.paid > 30 && tally.extended > 5 && tally.mined_model > 3 && tally.mined_real > 3, "{tally:?}");
    assert!(tally.replaced > 0 && tally.double_spent > 0 && tally.refused > 0 && tally.spoiled > 0, "{tally:?}");
    assert!(tally.reorganised > 1 && tally.abandoned > 0, "{tally:?}");
}

#[test]
fn random_run_of_seed_1_ends_alike() {
    run(1);
}

#[test]
fn random_run_of_seed_2_ends_alike() {
    run(2);
}

#[test]
fn random_run_of_seed_3_ends_alike() {
    run(3);
}

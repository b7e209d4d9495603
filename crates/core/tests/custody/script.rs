//! Scenes as text: each line is done on a model chain and on the platform, and `show` prints the books.
//!
//! ```text
//! address a0 ann            hand out an address: a customer, or house
//! retire hot                retire a wallet
//! see t1>a0=5000            a mempool shows it       lose t1:0     and shows it no more
//! block t1>a0=5000 p1 p2~   mine and connect: transactions, plans, `~` a malleated twin, `!` mined by us
//! blocks 3                  empty blocks             back 2        a fork takes two blocks back
//! withdraw w1 ann 300 x     x: an outside script, or an address
//! approve w1 1   queue w1 1   cancel w1              `queue` is the last approval
//! plan p1 w1,w2 from t1:0 change 650 fee 10
//! correct c1 500 ann ben     an operator moves 500; `inventory` and other accounts of the house by their names
//! sign p1   void p1   inpool p1   tick 5000   show   halts   policy min 10
//! policy kept 6   halt credit   resume
//! ```

use crate::model::{Model, Source, Tx, disconnect, look, name};
use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::command::{Command, Outcome, ProposePlan};
use florin_core::custody::{Approval, Beneficiary, Branch, KeyPath, OutPoint, PlanChange, PlanPayment, PlanVersion};
use florin_core::decide::Refusal;
use florin_core::id::{CustomerId, PlanId, TxId, WalletId, WithdrawalId};
use florin_core::ledger::{HouseAccount, Owner};
use florin_core::wire::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub struct Scene {
    pub world: World,
    pub model: Model,
    pub txs: BTreeMap<String, Tx>,
    scripts: BTreeMap<String, Bytes>,
    pub withdrawals: BTreeMap<String, WithdrawalId>,
    pub plans: BTreeMap<String, (PlanId, Tx)>,
    output: String,
}

/// Plays a scene and compares all it says.
pub fn check(text: &str, expect: expect_test::Expect) {
    let mut scene = Scene::new();
    scene.play(text);
    scene.world.check_fold();
    expect.assert_eq(&scene.output);
}

fn code(result: Result<Outcome, Refusal>) -> Result<Outcome, &'static str> {
    result.map_err(|refusal| refusal.code())
}

fn amount(text: &str) -> Amount {
    Amount::new(text.parse().unwrap())
}

impl Scene {
    pub fn new() -> Scene {
        Scene {
            world: World::new(),
            model: Model::new(),
            txs: BTreeMap::new(),
            scripts: BTreeMap::new(),
            withdrawals: BTreeMap::new(),
            plans: BTreeMap::new(),
            output: String::new(),
        }
    }

    pub fn play(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Err(code) = self.step(&words) {
                writeln!(self.output, "{line}: {code}").unwrap();
            }
        }
    }

    fn step(&mut self, words: &[&str]) -> Result<(), &'static str> {
        let done = |result: Result<Outcome, Refusal>| code(result).map(drop);
        match *words {
            ["address", name, who] => self.address(name, who),
            ["retire", wallet] => return done(self.world.run(Command::RetireWallet(wallet_named(wallet)))),
            ["see", tx] => {
                let tx = self.tx(tx);
                let receipts = look(&self.world, &tx, &mut BTreeSet::new()).0;
                return done(self.world.run(Command::SeeReceipts { chain: CHAIN, receipts }));
            }
            ["lose", outpoint] => {
                let outpoints = vec![self.outpoint(outpoint)];
                return done(self.world.run(Command::LoseReceipts { chain: CHAIN, outpoints }));
            }
            ["block", ref txs @ ..] => self.block(txs),
            ["blocks", count] => (0..count.parse().unwrap()).for_each(|_: u32| self.block(&[])),
            ["back", depth] => {
                self.model.back(depth.parse().unwrap());
                (0..depth.parse().unwrap()).for_each(|_: u32| {
                    disconnect(&mut self.world);
                });
            }
            ["withdraw", name, who, units, to] => return self.withdraw(name, who, units, to),
            ["approve", name, key] => return self.approve(name, key, false),
            ["queue", name, key] => return self.approve(name, key, true),
            ["cancel", name] => {
                let withdrawal = self.withdrawals[name];
                return done(self.world.ask(Command::CancelWithdrawal { withdrawal }));
            }
            ["plan", name, paid, "from", from, "change", change, "fee", fee] => {
                return self.plan(name, paid, from, (change, fee));
            }
            ["correct", reference, units, debit, credit] => {
                let (reference, amount) = (reference.to_owned(), amount(units));
                let (debit, credit) = (owner_named(debit), owner_named(credit));
                let correction = Command::BookCorrection { reference, asset: BTC, amount, debit, credit };
                return done(self.world.ask(correction));
            }
            ["sign", name] => return self.sign(name),
            ["void", name] => return done(self.world.run(void(self.plans[name].0))),
            ["inpool", name] => {
                let (plan, txid) = (self.plans[name].0, self.plans[name].1.id);
                return done(self.world.run(Command::SeePlan { plan, txid }));
            }
            ["tick", ms] => self.tick(ms.parse().unwrap()),
            ["policy", "min", min] => {
                let changed = florin_core::asset::AssetPolicy { deposit_min: amount(min), ..policy() };
                return done(self.world.run(Command::SetAssetPolicy(changed)));
            }
            ["policy", "depth", depth] => {
                let mut changed = policy();
                changed.depths.iter_mut().for_each(|step| step.confirmations = depth.parse().unwrap());
                return done(self.world.run(Command::SetAssetPolicy(changed)));
            }
            ["policy", "kept", blocks] => {
                let kept_blocks = Some(blocks.parse().unwrap());
                let changed = florin_core::asset::AssetPolicy { kept_blocks, ..policy() };
                return done(self.world.run(Command::SetAssetPolicy(changed)));
            }
            ["halt", "credit"] => {
                let (action, reason) = (HaltAction::Credit, HaltReason::Operator);
                return done(self.world.run(Command::Halt(Halt { asset: Some(BTC), action, reason })));
            }
            ["resume"] => {
                for halt in self.world.state.halts().clone() {
                    self.world.done(Command::Resume(halt));
                }
            }
            ["show"] => self.show(),
            _ => panic!("what is {words:?}?"),
        }
        Ok(())
    }

    fn address(&mut self, name: &str, who: &str) {
        let (wallet, who) = who.split_once('@').map_or((HOT, who), |(who, wallet)| (wallet_named(wallet), who));
        let beneficiary = if who == "house" { Beneficiary::INVENTORY } else { Beneficiary::Customer(customer(who)) };
        let path = self.world.address(wallet, beneficiary);
        self.scripts.insert(name.to_owned(), script_of(path));
    }

    fn script(&self, name: &str) -> Bytes {
        match name.strip_prefix("change") {
            Some(index) => {
                let index = index.parse().unwrap();
                script_of(KeyPath { wallet: HOT, branch: Branch::Internal, index })
            }
            None => self.scripts.get(name).cloned().unwrap_or_else(|| outside(name)),
        }
    }

    pub fn outpoint(&self, text: &str) -> OutPoint {
        let (tx, vout) = text.split_once(':').unwrap();
        let txid = self.txs.get(tx).unwrap_or_else(|| &self.plans[tx].1).id;
        OutPoint { chain: CHAIN, txid, vout: vout.parse().unwrap() }
    }

    /// Reads `NAME[<spent,..]>address=amount,..`, or finds a transaction by name.
    fn tx(&mut self, text: &str) -> Tx {
        if let Some((_, tx)) = self.plans.get(text) {
            return tx.clone();
        }
        if let Some((_, tx)) = text.strip_suffix('~').and_then(|name| self.plans.get(name)) {
            let twin = Tx { id: TxId(name(9, u64::from(tx.id.0[15]))), ..tx.clone() };
            self.txs.insert(text.to_owned(), twin.clone());
            return twin;
        }
        let Some((head, outputs)) = text.split_once('>') else { return self.txs[text].clone() };
        let (label, sources) = head.split_once('<').unwrap_or((head, ""));
        let number = self.txs.len() as u64 + 1;
        let mut inputs: Vec<Source> = Vec::new();
        for source in sources.split(',').filter(|source| !source.is_empty()) {
            inputs.push(Source::Output(self.outpoint(source)));
        }
        let label = label.strip_suffix('!').unwrap_or_else(|| {
            inputs.push(Source::Somebody(number));
            label
        });
        let output = |output: &str| {
            let (to, units) = output.split_once('=').unwrap();
            (self.script(to), units.parse().unwrap())
        };
        let outputs = outputs.split(',').map(output).collect();
        let tx = Tx { id: TxId(name(3, number)), inputs, outputs };
        self.txs.insert(label.to_owned(), tx.clone());
        tx
    }

    fn block(&mut self, txs: &[&str]) {
        let txs: Vec<Tx> = txs.iter().map(|tx| self.tx(tx)).collect();
        let left = self.model.mine(txs);
        assert!(left.is_empty(), "not valid: {left:?}");
        self.model.sync(&mut self.world, || usize::MAX);
    }

    fn withdraw(&mut self, name: &str, who: &str, units: &str, to: &str) -> Result<(), &'static str> {
        let command = Command::RequestWithdrawal {
            customer: customer(who),
            asset: BTC,
            amount: amount(units),
            script: self.script(to),
            wallet: HOT,
        };
        let Outcome::Withdrawal(id) = code(self.world.ask(command))? else { panic!("no withdrawal") };
        self.withdrawals.insert(name.to_owned(), id);
        Ok(())
    }

    fn approve(&mut self, name: &str, key: &str, complete: bool) -> Result<(), &'static str> {
        let approval = Approval { key: [key.parse().unwrap(); 32], signature: [5; 64] };
        let withdrawal = self.withdrawals[name];
        code(self.world.ask(Command::ApproveWithdrawal { withdrawal, approval, complete })).map(drop)
    }

    fn plan(&mut self, label: &str, paid: &str, from: &str, (change, fee): (&str, &str)) -> Result<(), &'static str> {
        let withdrawals: Vec<WithdrawalId> = paid.split(',').map(|name| self.withdrawals[name]).collect();
        let inputs: Vec<OutPoint> = from.split(',').map(|outpoint| self.outpoint(outpoint)).collect();
        let proposal = proposal(&self.world, withdrawals, inputs, amount(change), amount(fee));
        let tx = tx_of(&self.world, &proposal, TxId(name(8, self.plans.len() as u64 + 1)));
        let Outcome::Plan(id) = code(self.world.run(Command::ProposePlan(proposal)))? else { panic!("no plan") };
        self.plans.insert(label.to_owned(), (id, tx));
        Ok(())
    }

    fn sign(&mut self, name: &str) -> Result<(), &'static str> {
        let (plan, tx) = self.plans[name].clone();
        let signed = Bytes(format!("signed {name}").into_bytes());
        code(self.world.run(Command::RecordSigned { plan, version: 0, signed, txid: tx.id })).map(drop)
    }

    fn tick(&mut self, ms: u64) {
        let end = self.world.now.plus_ms(ms);
        while self.world.now < end {
            self.world.now = self.world.now.plus_ms(30_000).min(end);
            self.world.done(Command::Tick);
        }
    }

    /// Prints the books, each record on a line, in order of what tests call it.
    fn show(&mut self) {
        let state = &self.world.state;
        let mut line = format!("-- {}:", state.chains()[&CHAIN].tip().unwrap().at.height);
        for account in state.ledger().accounts() {
            let (posted, held) = (self.world.auditor.balance(&account.owner), account.debits_pending.units());
            if posted != 0 || held != 0 {
                write!(line, " {}={posted}", owner(&account.owner)).unwrap();
                if held != 0 && !matches!(account.owner, Owner::House(HouseAccount::Clearing)) {
                    write!(line, "({held} held)").unwrap();
                }
            }
        }
        writeln!(self.output, "{line}").unwrap();
        for (name, tx) in &self.txs {
            for vout in 0..tx.outputs.len() as u32 {
                let outpoint = OutPoint { chain: CHAIN, txid: tx.id, vout };
                if let Some(deposit) = state.deposits().get(&outpoint) {
                    let due = deposit.due.map_or(String::new(), |due| format!(" due {due}"));
                    writeln!(self.output, "   {name}:{vout} {} {:?}{due}", deposit.amount.units(), deposit.status)
                        .unwrap();
                }
            }
        }
        for (name, id) in &self.withdrawals {
            let status = state.withdrawals().get(id).map_or("archived".to_owned(), |one| format!("{:?}", one.status));
            writeln!(self.output, "   {name} {status}").unwrap();
        }
        for (name, (id, _)) in &self.plans {
            let status = state.plans().get(id).map_or("archived".to_owned(), |one| format!("{:?}", one.status));
            writeln!(self.output, "   {name} {status}").unwrap();
        }
        for customer in state.customers().values().filter(|customer| customer.freezes > 0) {
            let name = owner(&Owner::Customer(customer.id));
            writeln!(self.output, "   {name} frozen {}", customer.freezes).unwrap();
        }
        for halt in state.halts() {
            writeln!(self.output, "   halted {:?}: {:?}", halt.action, halt.reason).unwrap();
        }
    }
}

fn customer(name: &str) -> CustomerId {
    match name {
        "ann" => ANN,
        "ben" => BEN,
        _ => panic!("who is {name}?"),
    }
}

fn owner_named(name: &str) -> Owner {
    let house = HouseAccount::ALL.iter().find(|house| house.name() == name);
    house.map_or_else(|| Owner::Customer(customer(name)), |house| Owner::House(*house))
}

fn wallet_named(name: &str) -> WalletId {
    if name == "hot" { HOT } else { OLD }
}

fn owner(owner: &Owner) -> String {
    match owner {
        Owner::Customer(id) if *id == ANN => "ann".to_owned(),
        Owner::Customer(_) => "ben".to_owned(),
        Owner::Custody(wallet) if *wallet == HOT => "hot".to_owned(),
        Owner::Custody(_) => "old".to_owned(),
        Owner::House(house) => format!("{house:?}").to_lowercase(),
        Owner::Plain(id) => format!("plain{id}"),
    }
}

/// A proposal that pays withdrawals from coins, with change of an amount that is not zero at the next index.
pub fn proposal(
    world: &World,
    withdrawals: Vec<WithdrawalId>,
    inputs: Vec<OutPoint>,
    change: Amount,
    fee: Amount,
) -> ProposePlan {
    let index = world.state.wallets()[&HOT].next_internal;
    let script = script_of(KeyPath { wallet: HOT, branch: Branch::Internal, index });
    let vout = withdrawals.len() as u32;
    let payments = (0..).zip(&withdrawals).map(|(vout, &withdrawal)| PlanPayment { withdrawal, vout }).collect();
    let change = (!change.is_zero()).then_some(PlanChange { vout, index, script, amount: change });
    let unsigned = Bytes(format!("unsigned {inputs:?}").into_bytes()[..20].to_vec());
    let version = PlanVersion { unsigned, fee, change, payments, signed: None, txid: None };
    ProposePlan { wallet: HOT, withdrawals, anchor: inputs[0], inputs, version }
}

/// The transaction of a proposal.
pub fn tx_of(world: &World, proposal: &ProposePlan, id: TxId) -> Tx {
    let pays = |payment: &PlanPayment| {
        let withdrawal = world.state.withdrawals().get(&payment.withdrawal)?;
        Some((withdrawal.script.clone(), withdrawal.amount.units()))
    };
    let mut outputs: Vec<(Bytes, u128)> = proposal.version.payments.iter().filter_map(pays).collect();
    let change = proposal.version.change.iter();
    outputs.extend(change.map(|change| (change.script.clone(), change.amount.units())));
    Tx { id, inputs: proposal.inputs.iter().map(|input| Source::Output(*input)).collect(), outputs }
}

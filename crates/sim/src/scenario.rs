//! What chance alone would hardly bring about: some steps in a row that lead to a rare state. Everything still goes through the platform's own doors.

use crate::chaos::Edge;
use crate::outside::FINAL_DEPTH;
use crate::schedule::SCENARIO_STEPS;
use crate::setup::{BTC, CHAIN, EUR, WALLET, XXX};
use crate::world::World;
use bitcoin::ScriptBuf;
use florin_core::amount::Amount;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, Origin, Outcome, PlainTransfer, Request, SESSIONS_MAX};
use florin_core::custody::{Approval, Beneficiary, Branch, DepositStatus, PlanStatus, WithdrawalStatus};
use florin_core::decide::{APPROVALS_MAX, UNUSED_ADDRESSES_MAX};
use florin_core::id::{AccountId, CustomerId, LedgerTime, SessionId, WithdrawalId};
use florin_core::ledger::{HouseAccount, Owner};
use florin_core::wire::Bytes;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::Content;
use florin_engine::lanes::Ask;
use florin_engine::workers::overtaking::PATIENCE_PARTS;
use florin_engine::writer::Answer;

/// Outputs of a payment so large that its block can't be taken back by one command.
const MASS: u64 = 1_300;

/// The places of the planner, the signing, the broadcaster and the ticker among the workers.
const PLANNER: usize = 1;
const SIGNING: usize = 2;
const BROADCASTER: usize = 3;
const TICKER: usize = 4;

/// Rounds of five seconds in which plans that the signer refuses for a while are given up, and others go.
const SETTLING_ROUNDS: u32 = 16;

/// How many scenarios there are.
const SCENARIOS: u64 = 11;

/// In one of so many seeds there are more sessions than are known at once: ten thousand commands are a run of their own.
const CROWDS_EVERY: u64 = 25;

type Played = Result<(), String>;

impl World {
    /// Plays one of them, with all faults off.
    ///
    /// # Errors
    /// What is wrong.
    pub fn scenario(&mut self) -> Played {
        self.heal_nodes();
        self.chaos.disarm();
        self.end_rival();
        self.rows.heal_reads();
        self.is_unreadable = false;
        if let Some(process) = &self.process {
            process.fuse.light(0);
        }
        self.rest()?;
        let scenario = (self.seed * 4 + self.step / 450) % SCENARIOS;
        self.count(format!("scenario {scenario}"));
        if self.seed.is_multiple_of(CROWDS_EVERY) && self.step == SCENARIO_STEPS[0] {
            self.crowd_the_sessions()?;
        }
        match scenario {
            0 => self.hoard_addresses(),
            1 => self.take_a_mass_payment_back(),
            2 => self.come_back_after_a_day(),
            3 => self.fill_an_account(),
            4 => self.approve_too_often(),
            5 => self.approve_too_late(),
            6 => self.lose_a_deposit_of_a_queued_withdrawal(),
            7 => self.lose_the_coins_of_a_plan(),
            8 => self.have_a_plan_paid_by_a_thief(),
            9 => self.wait_behind_a_large_withdrawal(),
            _ => self.take_archived_blocks_back(),
        }
    }

    /// The follower and the writer go on for some rounds, or until `is_done`.
    fn follow(&mut self, rounds: u32, is_done: impl Fn(&World) -> bool) -> Played {
        for _ in 0..rounds {
            if is_done(self) {
                break;
            }
            self.step_worker_at(0)?;
            self.turn()?;
        }
        Ok(())
    }

    fn is_at_tip(&self) -> bool {
        let tip = self.auditor.tip().map(|(_, hash)| hash);
        let network = crate::ports::lock(&self.network);
        let node = network.node(florin_devnet::network::NodeId(0));
        !self.auditor.is_between() && tip == Some(<_ as bitcoin::hashes::Hash>::to_byte_array(node.tip()))
    }

    /// More bulk callers come than are known at once.
    fn crowd_the_sessions(&mut self) -> Played {
        let crowd = 0..=SESSIONS_MAX;
        for number in crowd {
            let mut id: [u8; 16] = self.rng.bytes();
            id[..6].copy_from_slice(&self.now_ms().to_be_bytes()[2..]);
            (id[6], id[8]) = (0x70, 0x80);
            let transfer = PlainTransfer { debit: AccountId(0), credit: AccountId(1), amount: Amount::new(1) };
            let origin = Origin::Session { session: SessionId(id), sequence: 1 };
            let command = Command::PostTransfers(vec![transfer]);
            self.send(crate::world::Sent { ask: Ask::Request(Request { origin, command }), id: None });
            if number % 2_000 == 0 {
                self.rest()?;
            }
        }
        self.rest().map(drop)
    }

    /// One customer asks for more addresses than may be unused.
    fn hoard_addresses(&mut self) -> Played {
        let customer = CustomerId(self.rng.bytes());
        self.command_and_wait(Command::OpenCustomer(customer))?;
        for _ in 0..=UNUSED_ADDRESSES_MAX {
            let (id, request) = self.new_id();
            let origin = Origin::Request { id, request };
            let beneficiary = Beneficiary::Customer(customer);
            let ask = Ask::NextAddress { origin, wallet: WALLET, branch: Branch::External, beneficiary };
            self.send(crate::world::Sent { ask, id: Some(id) });
        }
        self.rest().map(drop)
    }

    /// A block with so many receipts that it is booked and taken back in parts.
    fn take_a_mass_payment_back(&mut self) -> Played {
        self.outside_pays_to(MASS);
        self.mine();
        self.follow(600, World::is_at_tip)?;
        let node = self.honest_node();
        let height = crate::ports::lock(&self.network).node(node).height();
        let is_forked = self.fork_at(node, height.saturating_sub(1), Content::Empty);
        let is_undoing = |world: &World| {
            let part = world.state(|state| state.chains().get(&CHAIN).and_then(|chain| chain.part.clone()));
            part.flatten().is_some_and(|part| part.undoing)
        };
        self.follow(20, |world| !is_forked || is_undoing(world))?;
        if is_undoing(self) {
            self.count("a block is taken back in parts");
        }
        for _ in 0..6 {
            self.use_the_moment()?;
        }
        self.follow(600, World::is_at_tip)
    }

    /// A day passes, and what was sent before it comes again.
    fn come_back_after_a_day(&mut self) -> Played {
        let (id, request) = self.new_id();
        self.pass(25 * 60 * 60 * 1_000);
        for _ in 0..3 {
            self.step_worker_at(TICKER)?;
            self.turn()?;
            self.command_and_wait(Command::ConfirmTime)?;
        }
        let old = Ask::Request(Request { origin: Origin::Request { id, request }, command: Command::ConfirmTime });
        let is_forgotten = self.state(|state| id.unix_ms() < state.counters().forgotten_until.0).unwrap_or(false);
        if is_forgotten { self.refuse(old) } else { Ok(()) }
    }

    /// An account is credited until its sums are full.
    fn fill_an_account(&mut self) -> Played {
        let customer = CustomerId(self.rng.bytes());
        self.command_and_wait(Command::OpenCustomer(customer))?;
        let mut receipts =
            vec![(EUR, 1_000_000, Beneficiary::INVENTORY), (EUR, 1_000_000, Beneficiary::Customer(customer))];
        receipts.push((XXX, u128::MAX - 1_000, Beneficiary::Customer(customer)));
        for (asset, amount, beneficiary) in receipts {
            let reference = format!("S-{}", self.rng.draw());
            let amount = Amount::new(amount);
            self.command_and_wait(Command::BookBankReceipt { reference, asset, amount, beneficiary })?;
        }
        let pair = Pair { base: XXX, quote: EUR };
        let price = Price {
            pair,
            quote_units: Amount::new(1),
            base_units: Amount::new(10u128.pow(36)),
            as_of: self.state(|state| state.counters().time).unwrap_or(LedgerTime(0)),
            age_max_ms: 60_000,
            spread_bp: 0,
            quote_ms: 60_000,
        };
        self.command_and_wait(Command::SetPrice(price))?;
        for (side, base) in [(Side::Sell, 3 * 10u128.pow(38)), (Side::Buy, 10u128.pow(38))] {
            let base = Some(Amount::new(base));
            let ask = Command::RequestQuote { customer, pair, side, base, quote: None };
            let Some(Answer::Done(Outcome::Quote(quote))) = self.command_and_wait(ask)? else { return Ok(()) };
            self.command_and_wait(Command::AcceptQuote { customer, quote: quote.id })?;
        }
        // The customer was credited nearly all that an amount holds.
        let (debit, credit) = (Owner::House(HouseAccount::Inventory), Owner::Customer(customer));
        let (reference, amount) = (format!("S-{}", self.rng.draw()), Amount::new(10u128.pow(37)));
        self.command_and_wait(Command::BookCorrection { reference, asset: XXX, amount, debit, credit })?;
        self.empty_the_inventory(pair)?;
        self.sell_what_is_withdrawn()
    }

    /// A customer is offered a price for coins, withdraws them, and accepts.
    fn sell_what_is_withdrawn(&mut self) -> Played {
        self.resume_all()?;
        let Some(customer) = self.fund(500_000, 1)? else { return Ok(()) };
        let pair = Pair { base: BTC, quote: EUR };
        let price = Price {
            pair,
            quote_units: Amount::new(5_000_000),
            base_units: Amount::new(100_000_000),
            as_of: self.state(|state| state.counters().time).unwrap_or(LedgerTime(0)),
            age_max_ms: 60_000,
            spread_bp: 0,
            quote_ms: 60_000,
        };
        self.command_and_wait(Command::SetPrice(price))?;
        let available = self.state(|state| {
            let account = state.ledger().account_of(&Owner::Customer(customer), BTC)?;
            Some(account.available())
        });
        let Some(available) = available.flatten() else { return Ok(()) };
        // An amount that leaves a fee and little else.
        let (base, amount) = (Amount::new(available.units() / 2), Amount::new(available.units() - 10_000));
        let ask = Command::RequestQuote { customer, pair, side: Side::Sell, base: Some(base), quote: None };
        let Some(Answer::Done(Outcome::Quote(quote))) = self.command_and_wait(ask)? else { return Ok(()) };
        let script = self.destination();
        self.command_and_wait(Command::RequestWithdrawal { customer, asset: BTC, amount, script, wallet: WALLET })?;
        self.command_and_wait(Command::AcceptQuote { customer, quote: quote.id }).map(drop)
    }

    /// Two customers are offered most of the inventory each, and both accept.
    fn empty_the_inventory(&mut self, pair: Pair) -> Played {
        let mut offers = Vec::new();
        for _ in 0..2 {
            let customer = CustomerId(self.rng.bytes());
            self.command_and_wait(Command::OpenCustomer(customer))?;
            let reference = format!("S-{}", self.rng.draw());
            let (amount, beneficiary) = (Amount::new(1_000_000), Beneficiary::Customer(customer));
            self.command_and_wait(Command::BookBankReceipt { reference, asset: EUR, amount, beneficiary })?;
            let base = Some(Amount::new(2 * 10u128.pow(38)));
            let ask = Command::RequestQuote { customer, pair, side: Side::Buy, base, quote: None };
            if let Some(Answer::Done(Outcome::Quote(quote))) = self.command_and_wait(ask)? {
                offers.push((customer, quote.id));
            }
        }
        for (customer, quote) in offers {
            self.command_and_wait(Command::AcceptQuote { customer, quote })?;
        }
        Ok(())
    }

    /// A withdrawal so large that operators must approve it, by whoever can pay for it.
    fn large_withdrawal(&mut self) -> Result<Option<WithdrawalId>, String> {
        let amount = 20_000_001;
        let customer = self.fund(30_000_000, 3)?;
        let Some(customer) = customer else { return Ok(None) };
        let Some(id) = self.withdrawn(customer, amount)? else { return Ok(None) };
        let waiting = self.withdrawals_in(&[WithdrawalStatus::AwaitingApproval]);
        Ok(waiting.iter().find(|withdrawal| withdrawal.id == id).map(|withdrawal| withdrawal.id))
    }

    /// A withdrawal is larger than all coins but one that has just come, and waits for that one to be final. Once it has waited
    /// for long enough, smaller ones wait behind it.
    fn wait_behind_a_large_withdrawal(&mut self) -> Played {
        self.resume_all()?;
        self.command_and_wait(Command::ConfirmTime)?;
        self.forget_troubles();
        // What waits from before is paid, and every block is known.
        for _ in 0..SETTLING_ROUNDS {
            self.pass(5_000);
            self.round()?;
        }
        self.follow(80, World::is_at_tip)?;
        let unspent = self.state(|state| {
            let coins = state.coins().values().filter(|coin| coin.path.wallet == WALLET && coin.spent.is_none());
            coins.map(|coin| coin.amount).sum::<Amount>()
        });
        let Some(Ok(unspent)) = unspent.map(|unspent| u64::try_from(unspent.units())) else { return Ok(()) };
        let Some(customer) = self.fund(unspent + 2_000_000, FINAL_DEPTH - 1)? else { return Ok(()) };
        let Some(large) = self.withdrawn(customer, u128::from(unspent) + 1_000_000)? else { return Ok(()) };
        if let Some(approve) = self.approval_of(large) {
            self.command_and_wait(approve)?;
        }
        let patience_ms = self.conditions.intent_ms / PATIENCE_PARTS;
        // In steps that are neither a jump of the clock nor silence of the nodes.
        for _ in 0..=patience_ms / 20_000 {
            self.pass(20_000);
            self.round()?;
        }
        let Some(small) = self.withdrawn(customer, 10_000)? else { return Ok(()) };
        self.step_worker_at(PLANNER)?;
        self.rest()?;
        let is_planned = |world: &World, id| {
            let plan = world.state(|state| state.withdrawals().get(&id).and_then(|withdrawal| withdrawal.plan));
            plan.flatten().is_some()
        };
        let is_first = self.process.as_ref().is_some_and(|process| {
            let subject = format!("withdrawal {large}");
            let mut alarms = process.workers()[PLANNER].alarms().into_iter();
            alarms.any(|alarm| alarm.code == "withdrawal_goes_first" && alarm.subject == subject)
        });
        if is_first && is_planned(self, small) {
            return Err(format!("withdrawal {small} was planned before {large}, which was to go first"));
        }
        self.mine();
        self.follow(80, World::is_at_tip)?;
        self.step_worker_at(PLANNER)?;
        self.rest()?;
        if is_first && is_planned(self, large) {
            self.count("a withdrawal that went first is planned");
        }
        Ok(())
    }

    /// The signer answers, and fees are what the planner makes of no estimate.
    fn forget_troubles(&mut self) {
        crate::ports::lock(&self.signer.troubles).clear();
        let mut network = crate::ports::lock(&self.network);
        for id in network.ids() {
            network.with_node(id, |node| node.set_estimate(None));
        }
        crate::ports::lock(&self.node_faults).everywhere.estimates = None;
    }

    /// Every worker has a step, and all that it asks for is done.
    fn round(&mut self) -> Played {
        for worker in 0..self.process.as_ref().map_or(0, |process| process.workers().len()) {
            self.step_worker_at(worker)?;
            self.rest()?;
        }
        Ok(())
    }

    /// A withdrawal that was accepted.
    fn withdrawn(&mut self, customer: CustomerId, amount: u128) -> Result<Option<WithdrawalId>, String> {
        let (script, amount) = (self.destination(), Amount::new(amount));
        let ask = Command::RequestWithdrawal { customer, asset: BTC, amount, script, wallet: WALLET };
        Ok(match self.command_and_wait(ask)? {
            Some(Answer::Done(Outcome::Withdrawal(id))) => Some(id),
            _ => None,
        })
    }

    /// Pays a customer, mines so many blocks and follows them; says who has so much now.
    fn fund(&mut self, amount: u64, blocks: u32) -> Result<Option<CustomerId>, String> {
        let addresses = self.state(|state| {
            let all = state.addresses().values().filter(|address| address.path.wallet == WALLET);
            let customers = all.filter_map(|address| match &address.beneficiary {
                Beneficiary::Customer(customer) => Some((address.script.0.clone(), *customer)),
                Beneficiary::House(_) => None,
            });
            customers.collect::<Vec<_>>()
        });
        let Some((script, customer)) = addresses.and_then(|all| self.rng.pick(&all).cloned()) else { return Ok(None) };
        let node = self.honest_node();
        let payments = [(ScriptBuf::from_bytes(script), amount)];
        let paid = {
            let network = crate::ports::lock(&self.network);
            self.outside.pay(network.node(node), &payments, FeeRate::from_sat_per_kvb(5_000))
        };
        if let Ok(tx) = paid {
            let mut network = crate::ports::lock(&self.network);
            if network.send(node, tx.clone()).is_ok() {
                network.settle();
                drop(network);
                self.remember_payment(tx);
            }
        }
        for _ in 0..blocks {
            self.mine();
        }
        self.follow(80, World::is_at_tip)?;
        let owner = Owner::Customer(customer);
        let has = self.state(|state| state.ledger().account_of(&owner, BTC).map(|account| account.available().units()));
        Ok(Some(customer).filter(|_| has.flatten().is_some_and(|has| has >= u128::from(amount))))
    }

    /// More people approve than any policy asks for, none of them an operator.
    fn approve_too_often(&mut self) -> Played {
        let Some(withdrawal) = self.large_withdrawal()? else { return Ok(()) };
        let approve = |world: &mut World| {
            let approval = Approval { key: world.rng.bytes(), signature: world.rng.bytes() };
            Command::ApproveWithdrawal { withdrawal, approval, complete: false }
        };
        for _ in 0..APPROVALS_MAX {
            let command = approve(self);
            self.command_and_wait(command)?;
        }
        let command = approve(self);
        let ask = self.request(command);
        let count = self.withdrawals_in(&[WithdrawalStatus::AwaitingApproval]);
        let is_full = count.iter().any(|full| full.id == withdrawal && full.approvals.len() >= APPROVALS_MAX);
        if is_full { self.refuse(ask) } else { Ok(()) }
    }

    /// A withdrawal's time is over before any tick has noticed.
    fn approve_too_late(&mut self) -> Played {
        let Some(withdrawal) = self.large_withdrawal()? else { return Ok(()) };
        self.pass(self.conditions.intent_ms + 1_000);
        let approval = Approval { key: self.rng.bytes(), signature: self.rng.bytes() };
        let ask = self.request(Command::ApproveWithdrawal { withdrawal, approval, complete: true });
        self.refuse(ask)
    }

    /// A withdrawal waits because signing is halted; then the deposit that paid for it is taken back, and its time ends.
    fn lose_a_deposit_of_a_queued_withdrawal(&mut self) -> Played {
        let halt = Halt { asset: Some(BTC), action: HaltAction::Sign, reason: HaltReason::Operator };
        self.command_and_wait(Command::Halt(halt.clone()))?;
        let customer = self.fund(500_000, 1)?;
        if let Some(customer) = customer {
            let script = self.destination();
            let (asset, amount) = (BTC, Amount::new(100_000));
            self.command_and_wait(Command::RequestWithdrawal { customer, asset, amount, script, wallet: WALLET })?;
            let node = self.honest_node();
            let height = crate::ports::lock(&self.network).node(node).height();
            self.fork_at(node, height.saturating_sub(1), Content::Empty);
            self.follow(30, World::is_at_tip)?;
            let is_missing = |deposit: &florin_core::custody::Deposit| deposit.status == DepositStatus::Missing;
            if self.state(|state| state.deposits().values().any(is_missing)).unwrap_or(false) {
                self.count("scenario 6 lost a deposit");
            }
            let frozen = Command::RequestWithdrawal {
                customer,
                asset: BTC,
                amount: Amount::new(2_000),
                script: self.destination(),
                wallet: WALLET,
            };
            let is_frozen = |state: &florin_core::state::State| {
                state.customers().get(&customer).is_some_and(|customer| customer.freezes > 0)
            };
            if self.state(is_frozen).unwrap_or(false) {
                let ask = self.request(frozen);
                self.refuse(ask)?;
            }
            for _ in 0..20 {
                self.use_the_moment()?;
            }
        }
        if self.rng.chance(40) {
            // Its intent ends, too, and no tick has come yet.
            self.pass(self.conditions.intent_ms + 1_000);
            let ask = self.request(Command::RetireWallet(florin_core::id::WalletId(77)));
            self.refuse(ask)?;
            for _ in 0..20 {
                self.use_the_moment()?;
            }
        }
        self.command_and_wait(Command::Resume(halt)).map(drop)
    }

    /// The operator ends every halt that the watcher does not end itself.
    fn resume_all(&mut self) -> Played {
        for halt in self.state(|state| state.halts().clone()).unwrap_or_default() {
            if !matches!(halt.reason, HaltReason::ChainSplit | HaltReason::Stale) {
                self.command_and_wait(Command::Resume(halt))?;
            }
        }
        Ok(())
    }

    /// A customer with fresh coins withdraws, and then these workers have their steps; nothing is mined since.
    fn plan_with_fresh_coins(&mut self, deposit: u64, amount: u128, steps: &[usize]) -> Played {
        self.resume_all()?;
        crate::ports::lock(&self.signer.troubles).clear();
        let Some(customer) = self.fund(deposit, FINAL_DEPTH)? else { return Ok(()) };
        let (script, amount) = (self.destination(), Amount::new(amount));
        self.command_and_wait(Command::RequestWithdrawal { customer, asset: BTC, amount, script, wallet: WALLET })?;
        for worker in steps {
            self.step_worker_at(*worker)?;
            self.rest()?;
        }
        Ok(())
    }

    /// A deep fork takes a coin of a plan away, and what paid it is spent elsewhere: the plan can never be paid, and an operator
    /// proves it, after others have tried to with nothing in their hands.
    fn lose_the_coins_of_a_plan(&mut self) -> Played {
        // Little and much, so that it is few coins or many that pay it.
        let (deposit, amount) = if self.rng.chance(50) { (60_000_000, 19_000_000) } else { (3_000_000, 2_000_000) };
        self.plan_with_fresh_coins(deposit, amount, &[PLANNER, SIGNING, PLANNER, SIGNING])?;
        if !self.fork_planned() {
            return Ok(());
        }
        self.follow(600, World::is_at_tip)?;
        self.refuse_proofs()?;
        if self.rng.chance(50) {
            // The rest is for the operator who comes by.
            return Ok(());
        }
        for _ in 0..FINAL_DEPTH {
            self.mine();
        }
        self.follow(80, World::is_at_tip)?;
        self.refuse_proofs()?;
        for proof in self.proofs() {
            if let Some(Answer::Done(_)) = self.command_and_wait(proof)? {
                self.count("a plan is proved impossible");
            }
        }
        Ok(())
    }

    /// A withdrawal is paid, and leaves the platform's state with its block; then a fork takes that block back, and with it all that
    /// came since. Whoever watches meanwhile is not believed.
    fn take_archived_blocks_back(&mut self) -> Played {
        self.plan_with_fresh_coins(3_000_000, 2_000_000, &[PLANNER, SIGNING, PLANNER, SIGNING, BROADCASTER])?;
        let node = self.honest_node();
        let height = crate::ports::lock(&self.network).node(node).height();
        let depth = self.depth_below_kept();
        for _ in 0..depth {
            self.mine();
        }
        self.follow(120, World::is_at_tip)?;
        let double = self.payments.back().cloned().filter(|_| self.rng.chance(30)).and_then(|last| {
            let network = crate::ports::lock(&self.network);
            self.outside.double_spend(network.node(node), &last, FeeRate::from_sat_per_kvb(20_000)).ok()
        });
        // With a payment that takes the last one's place the fork begins below it.
        let (from, content) = match double {
            Some(double) => (height.saturating_sub(FINAL_DEPTH), Content::Transactions(vec![double])),
            None => (height, Content::Empty),
        };
        if !self.fork_at(node, from, content) {
            return Ok(());
        }
        // What left can't be read now, and nothing is taken back below it until it can; or whoever reads it dies.
        match self.rng.below(4) {
            0 => {
                self.rows.fail_reads();
                self.is_unreadable = true;
            }
            1 => self.chaos.arm_at("past", Edge::Before),
            2 => self.chaos.arm_at("past", Edge::After),
            _ => {}
        }
        for round in 0..300 {
            if self.is_at_tip() {
                break;
            }
            if round == 20 {
                self.rows.heal_reads();
                self.is_unreadable = false;
            }
            if self.process.is_none() {
                self.start()?;
            }
            self.step_worker_at(0)?;
            self.turn()?;
            self.use_the_moment()?;
            // What comes back does so while all is halted, and the watcher waits for that.
            self.pass(100);
        }
        self.rows.heal_reads();
        self.is_unreadable = false;
        self.chaos.disarm();
        if self.is_at_tip() && self.conditions.kept_blocks.is_some() {
            self.count("archived blocks were taken back");
        }
        self.resume_all()
    }

    /// Somebody who has our keys pays what a plan pays, and takes the rest; now and then that is taken back after it was final.
    fn have_a_plan_paid_by_a_thief(&mut self) -> Played {
        if self.rng.chance(20) {
            return self.have_a_plan_paid_before_it_is_signed();
        }
        self.plan_with_fresh_coins(3_000_000, 2_000_000, &[PLANNER, SIGNING, PLANNER, SIGNING])?;
        if !self.steal_and_pay(PlanStatus::Signed) {
            return Ok(());
        }
        // Not yet final, just final, and beyond.
        let depth = self.rng.pick(&[1, 3, FINAL_DEPTH + 1, FINAL_DEPTH + 2]).copied().unwrap_or(1);
        for _ in 1..depth {
            self.mine();
        }
        self.follow(80, World::is_at_tip)?;
        if self.rng.chance(75) {
            let node = self.honest_node();
            let height = crate::ports::lock(&self.network).node(node).height();
            if self.fork_at(node, height.saturating_sub(depth), Content::Empty) && depth > FINAL_DEPTH {
                self.count("fault payment by a thief taken back after it was final");
            }
            self.follow(600, World::is_at_tip)?;
        }
        Ok(())
    }

    /// The same before the signer has seen the plan, which gives it up then: that must not bring another plan for the same.
    fn have_a_plan_paid_before_it_is_signed(&mut self) -> Played {
        // Who can't follow the chain now learns of the payment too late, and nothing could be told of that.
        let is_well = self.process.as_ref().is_some_and(|process| process.writer().quarantined().next().is_none());
        self.follow(80, World::is_at_tip)?;
        if !is_well || !self.is_at_tip() {
            return Ok(());
        }
        self.plan_with_fresh_coins(3_000_000, 2_000_000, &[PLANNER])?;
        if !self.steal_and_pay(PlanStatus::Signing) {
            return Ok(());
        }
        self.follow(80, World::is_at_tip)?;
        let hit = self.state(|state| {
            let signing = state.plans().values().filter(|plan| plan.status == PlanStatus::Signing);
            let pays = |input| {
                state
                    .coins()
                    .get(input)
                    .and_then(|coin| coin.spent.as_ref())
                    .is_some_and(|spent| !spent.paid.is_empty())
            };
            signing.filter(|plan| plan.inputs.iter().any(pays)).map(|plan| plan.id).next()
        });
        if let Some(plan) = hit.flatten() {
            self.refuse(Ask::internal(Command::RecordVoid { plan, receipt: Bytes(vec![1]) }))?;
        }
        // It has to be final before anybody takes it back: until then such a plan has nothing that everybody knows.
        for _ in 0..FINAL_DEPTH {
            self.mine();
        }
        self.follow(80, World::is_at_tip)
    }
}

//! An engine wholly in an attacker's hands: whatever it asks, no more than the automatic limits leaves. The bookkeeping
//! here is the test's own: raw transactions, coins and scripts that it knows, and nothing that the signer says.

mod support;

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::sighash::{EcdsaSighashType, TapSighashType};
use florin_chain::bitcoin::keys::{Branch, ScriptKind};
use florin_core::amount::Amount;
use florin_core::custody::Intent;
use florin_core::id::{Digest, Epoch, LedgerTime, PlanId, Seq, WithdrawalId};
use florin_signer::memory::Memory;
use florin_signer::protocol::{Fence, Hello, Outcome, PROTOCOL, Request, VoidPlan};
use florin_signer::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use support::*;

const STEPS: u32 = 1_500;
const SEEDS: [u64; 6] = [1, 2, 3, 0xf1_0121, 0xdead_beef, 77];
const COINS: u32 = 400;
/// Change indices that the wallet's owner would find again in this test.
const SCRIPTS: u32 = 60;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// What really can leave, by the test's own account.
struct Auditor {
    own: BTreeSet<Vec<u8>>,
    coins: BTreeMap<([u8; 32], u32), u64>,
    /// Intents that two operators really approved: script, amount, the fee they allow.
    approved: Vec<Intent>,
    /// Signed transactions that conflict with each other: coins spent, and per destination the most that can leave.
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    spends: BTreeSet<([u8; 32], u32)>,
    shared: BTreeSet<([u8; 32], u32)>,
    /// When each sum was reached, by the real clock.
    rises: Vec<(u64, u64)>,
    top: u64,
    destinations: BTreeMap<Vec<u8>, Vec<(u64, u64)>>,
    destination_tops: BTreeMap<Vec<u8>, u64>,
    approved_used: BTreeSet<usize>,
}

impl Auditor {
    fn book(&mut self, bytes: &[u8], clock: LedgerTime) {
        let transaction: Transaction = deserialize(bytes).expect("signed bytes are a transaction");
        let spent: BTreeSet<_> = transaction
            .input
            .iter()
            .map(|input| (input.previous_output.txid.to_byte_array(), input.previous_output.vout))
            .collect();
        let held: u64 = spent.iter().map(|coin| self.coins.get(coin).expect("a coin of the wallet")).sum();
        let mut leaving: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let (mut free, mut used, mut kept, mut paid_out) = (0, BTreeSet::new(), 0, 0);
        for output in &transaction.output {
            let (script, value) = (output.script_pubkey.to_bytes(), output.value.to_sat());
            if self.own.contains(&script) {
                kept += value;
                continue;
            }
            paid_out += value;
            let fits = |(number, intent): &(usize, &Intent)| {
                !used.contains(number) && intent.script.0 == script && intent.amount.units() == u128::from(value)
            };
            // Approved by people: not the automatic limits' business, but only once for each approval.
            match self.approved.iter().enumerate().find(fits).map(|(number, _)| number) {
                Some(number) => {
                    used.insert(number);
                }
                None => {
                    *leaving.entry(script).or_default() += value;
                    free += value;
                }
            }
        }
        let fee = held - kept - paid_out;
        assert!(fee <= FEE_CAP && fee * 10 <= paid_out, "fee {fee} of {paid_out}");
        if free > 0 {
            free += fee;
        }
        for number in &used {
            assert!(Amount::new(u128::from(fee)) <= self.approved[*number].fee_max);
        }
        let group = self.group(spent, &used);
        group.rises.push((clock.0, free.saturating_sub(group.top)));
        group.top = group.top.max(free);
        for (script, value) in leaving {
            let top = group.destination_tops.entry(script.clone()).or_default();
            group.destinations.entry(script).or_default().push((clock.0, value.saturating_sub(*top)));
            *top = value.max(*top);
        }
    }

    /// The group of transactions that this one conflicts with; all of a group share a coin, and no two groups do.
    fn group(&mut self, spent: BTreeSet<([u8; 32], u32)>, used: &BTreeSet<usize>) -> &mut Group {
        let touching: Vec<usize> =
            (0..self.groups.len()).filter(|number| !self.groups[*number].spends.is_disjoint(&spent)).collect();
        let number = match touching.as_slice() {
            [] => {
                self.groups.push(Group { shared: spent.clone(), ..Group::default() });
                self.groups.len() - 1
            }
            [one] => *one,
            many => panic!("one transaction ties {} groups", many.len()),
        };
        for (other, group) in self.groups.iter().enumerate() {
            assert!(other == number || group.approved_used.is_disjoint(used), "an approval was used twice");
        }
        let group = &mut self.groups[number];
        group.shared = group.shared.intersection(&spent).copied().collect();
        assert!(!group.shared.is_empty(), "two versions could both confirm");
        group.spends.extend(spent);
        group.approved_used.extend(used);
        group
    }

    fn check(&self) {
        let all: Vec<(u64, u64)> = self.groups.iter().flat_map(|group| group.rises.iter().copied()).collect();
        assert!(worst(&all, HOUR) <= LIMIT_HOUR, "hour: {}", worst(&all, HOUR));
        assert!(worst(&all, 24 * HOUR) <= LIMIT_DAY, "day: {}", worst(&all, 24 * HOUR));
        let mut destinations: BTreeMap<&Vec<u8>, Vec<(u64, u64)>> = BTreeMap::new();
        for group in &self.groups {
            for (script, rises) in &group.destinations {
                destinations.entry(script).or_default().extend(rises);
            }
        }
        for rises in destinations.values() {
            assert!(worst(rises, 24 * HOUR) <= LIMIT_DESTINATION, "destination: {}", worst(rises, 24 * HOUR));
        }
    }
}

/// The most in any stretch of `window` ms, by trying each.
fn worst(rises: &[(u64, u64)], window: u64) -> u64 {
    let sum_from = |start: u64| {
        rises.iter().filter(|(time, _)| (start..start + window).contains(time)).map(|(_, value)| value).sum()
    };
    rises.iter().map(|(start, _)| sum_from(*start)).max().unwrap_or(0)
}

struct Attacker {
    random: Random,
    wallet: Wallet,
    coins: Vec<Coin>,
    approved: Vec<Pay>,
    /// Payments that one operator approved, where two have to.
    halved: Vec<Pay>,
    sent: Vec<Draft>,
    plan: u64,
    withdrawal: u32,
    seq: u64,
    highest: Option<Fence>,
}

impl Attacker {
    fn fresh_coin(&mut self) -> Coin {
        let number = self.random.below(self.coins.len() as u64) as usize;
        self.coins[number].clone()
    }

    /// The place that the signer has seen, or the next one: an attacker that locks itself out proves nothing.
    fn fence(&mut self, clock: LedgerTime) -> Fence {
        self.seq += self.random.below(2);
        let known = self.highest.unwrap_or(fence(self.seq, clock));
        self.seq = self.seq.max(known.seq.0);
        let place = if self.seq > known.seq.0 { fence(self.seq, clock) } else { known };
        Fence { epoch: known.epoch, time: clock, ..place }
    }

    fn amount(&mut self) -> u64 {
        match self.random.below(6) {
            0 => 1_000 + self.random.below(30_000),
            1 => LIMIT_PAYMENT,
            2 => LIMIT_PAYMENT + 1,
            3 => 300_000 + self.random.below(800_000),
            4 => 50_000 + self.random.below(100_000),
            _ => 3_000_000 + self.random.below(10_000_000),
        }
    }

    fn own_pay(&mut self) -> Pay {
        self.withdrawal += 1;
        let (amount, target) = (self.amount(), self.random.below(5) as u8);
        let mut made = pay(self.withdrawal, stranger(target), amount);
        made.intent.fee_max = Amount::new(u128::from(FEE_CAP));
        made
    }

    /// A request: mostly plausible, since what is nonsense is refused early.
    fn draft(&mut self, clock: LedgerTime) -> Draft {
        let mut made = if !self.sent.is_empty() && self.random.chance(25) {
            let mut again = self.random.pick(&self.sent).clone();
            again.version += self.random.below(3) as u32;
            if self.random.chance(30) {
                again.coins.push(self.fresh_coin());
            }
            if self.random.chance(30) {
                self.plan += 1;
                again.plan = self.plan;
            }
            if self.random.chance(20) {
                again.pays.push(self.own_pay());
            }
            if self.random.chance(20) {
                again.anchor = again.coins.last().map(Coin::input);
            }
            again
        } else {
            self.plan += 1;
            let coins = (0..1 + self.random.below(3)).map(|_| self.fresh_coin()).collect();
            let mut pays: Vec<Pay> = (0..1 + self.random.below(3)).map(|_| self.own_pay()).collect();
            if self.random.chance(10) {
                pays.push(self.random.pick(&self.approved).clone());
            }
            draft(self.plan, coins, pays)
        };
        made.change_index = Some(self.random.below(u64::from(SCRIPTS)) as u32);
        made.fee = match self.random.below(5) {
            0 => self.random.below(FEE_CAP + 1_000),
            1 => self.random.below(8_000),
            _ => 1_000,
        };
        made.fence = self.fence(clock);
        if self.random.chance(35) {
            self.bend(&mut made, clock);
        }
        made
    }

    /// One of these payments with everything beside its approvals that an attacker has: each of them again, those of other
    /// intents, and signatures by keys of their own, in any order.
    fn padded(&mut self, pays: &[Pay]) -> Pay {
        let mut padded = self.random.pick(pays).clone();
        let own = padded.raw_approvals.clone();
        for _ in 0..1 + self.random.below(6) {
            let more = match self.random.below(3) {
                0 => self.random.pick(&own).clone(),
                1 => self.random.pick(&self.approved).raw_approvals[self.random.below(2) as usize].clone(),
                _ => approval(8 + self.random.below(2) as u8, &padded.intent),
            };
            let place = self.random.below(padded.raw_approvals.len() as u64 + 1) as usize;
            padded.raw_approvals.insert(place, more);
        }
        padded
    }

    fn bend(&mut self, made: &mut Draft, clock: LedgerTime) {
        let jump = self.random.below(100 * HOUR);
        match self.random.below(24) {
            0 => made.fence.time = clock.plus_ms(jump),
            1 => made.fence.time = LedgerTime(clock.0.saturating_sub(jump)),
            2 => made.fence.time = clock.plus_ms(60_000),
            3 => made.fence.seq = Seq(self.random.below(self.seq + 1)),
            4 => made.fence.epoch = Epoch(self.random.below(3)),
            5 => made.fence.head = Digest([self.random.below(256) as u8; 32]),
            6 => made.fence.platform = [0x12; 16],
            7 => made.pays.iter_mut().for_each(|pay| pay.intent.platform = [0x12; 16]),
            8 => made.extra_outputs.push((stranger(200), 1 + self.random.below(1_000_000))),
            9 => made.change_extra = self.random.below(10_000_000),
            10 => made.change_index = Some(self.random.below(1 << 31) as u32),
            11 => {
                let replayed = self.random.pick(&self.approved).clone();
                made.pays[0].raw_approvals = replayed.raw_approvals;
            }
            12 => made.pays[0].approvals = vec![Approving::Right(9), Approving::Right(8)],
            22 => made.pays[0] = self.padded(&self.halved.clone()),
            23 => made.pays[0] = self.padded(&self.approved.clone()),
            13 => made.pays[0].approvals = vec![Approving::Wrong(1), Approving::Wrong(2)],
            14 => {
                let other = self.random.pick(&self.approved).clone();
                let amount = self.random.below(100_000_000);
                made.pays[0] = other;
                made.pays[0].intent.amount = Amount::new(u128::from(amount));
            }
            15 => made.edits.push(|psbt| {
                // A lie about an input's amount, in both places where it can stand.
                if let Some(parent) = &mut psbt.inputs[0].non_witness_utxo {
                    parent.output[0].value = bitcoin::Amount::from_sat(1);
                }
            }),
            16 => made.edits.push(|psbt| {
                if let Some(parent) = psbt.inputs[0].non_witness_utxo.take() {
                    psbt.inputs[0].witness_utxo =
                        Some(bitcoin::TxOut { value: bitcoin::Amount::from_sat(2_000), ..parent.output[0].clone() });
                }
            }),
            17 => made.edits.push(|psbt| {
                psbt.inputs[0].sighash_type = Some(EcdsaSighashType::SinglePlusAnyoneCanPay.into());
            }),
            18 => made.edits.push(|psbt| psbt.inputs[0].sighash_type = Some(TapSighashType::None.into())),
            19 => made.edits.push(|psbt| {
                // The last output, mostly the change, goes to somebody else, in the transaction itself.
                if let Some(last) = psbt.unsigned_tx.output.last_mut() {
                    last.script_pubkey = bitcoin::ScriptBuf::from_bytes(stranger(201));
                }
            }),
            20 => made.edits.push(|psbt| {
                if let Some(last) = psbt.unsigned_tx.output.last_mut() {
                    last.value = bitcoin::Amount::from_sat(last.value.to_sat() / 2);
                }
            }),
            _ => {
                made.pays[0].intent.withdrawal = WithdrawalId([self.random.below(3) as u8; 16]);
                made.payment_outputs_dropped = self.random.below(2) as usize;
            }
        }
    }
}

fn run(seed: u64, kind: ScriptKind, refusals: &mut BTreeSet<Refusal>) -> usize {
    eprintln!("seed {seed:#x}, {}", kind.name());
    let wallet = Wallet::new(kind);
    let coins: Vec<Coin> =
        (0..COINS).map(|number| wallet.coin(number, 1_000_000 + u64::from(number) * 50_000)).collect();
    let own = [Branch::External, Branch::Internal]
        .into_iter()
        .flat_map(|branch| (0..SCRIPTS).map(move |index| (branch, index)))
        .map(|(branch, index)| wallet.script(branch, index).into_bytes())
        .collect();
    let approved: Vec<Pay> = (0..5u32)
        .map(|number| {
            let mut pay = pay(1_000_000 + number, stranger(100 + number as u8), 7_000_000);
            // Signatures and not keys: the attacker can replay them and not make others.
            pay.raw_approvals = vec![approval(1, &pay.intent), approval(3, &pay.intent)];
            pay
        })
        .collect();
    let halved = (0..5u32).map(|number| {
        let mut pay = pay(2_000_000 + number, stranger(110 + number as u8), 8_000_000);
        pay.raw_approvals = vec![approval(1, &pay.intent)];
        pay
    });
    let mut auditor = Auditor {
        own,
        coins: coins.iter().map(|coin| ((coin.input().txid.0, 0), coin.output().value.to_sat())).collect(),
        approved: approved.iter().map(|pay| pay.intent.clone()).collect(),
        groups: vec![],
    };
    let mut attacker = Attacker {
        random: Random(seed),
        wallet,
        coins,
        approved,
        halved: halved.collect(),
        sent: vec![],
        plan: 0,
        withdrawal: 0,
        seq: 1,
        highest: None,
    };
    // In memory where the machine has such a place: nothing here is about syncs.
    let shared = std::path::Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.expect("a folder");
    let path = folder.path().join("memory");
    let memory = Memory::create(&path, PLATFORM).expect("a memory");
    let (mut signer, mut clock, mut signed) = (Some(signer_with(kind, memory)), NOW, 0);
    for _ in 0..STEPS {
        // A restart forgets nothing, and folds its decisions anew.
        if attacker.random.chance(2) {
            drop(signer.take());
            signer = Some(signer_with(kind, Memory::open(&path, PLATFORM).expect("the memory is whole")));
        }
        let signer = signer.as_mut().expect("it runs");
        clock = clock.plus_ms(attacker.random.below(HOUR / 10));
        if let Outcome::Welcome(welcome) = ask(signer, &Request::Hello(Hello { protocol: PROTOCOL }), clock).outcome {
            attacker.highest = welcome.highest;
        }
        if attacker.random.chance(3) {
            let void = VoidPlan {
                fence: attacker.fence(clock),
                plan: PlanId(attacker.random.below(attacker.plan + 5)),
                known: None,
                memory: None,
            };
            ask(signer, &Request::VoidPlan(void), clock);
        }
        let draft = attacker.draft(clock);
        match sign(signer, &attacker.wallet, &draft, clock) {
            Ok(answer) => {
                auditor.book(&answer.transaction.0, clock);
                signed += 1;
                attacker.sent.push(draft);
            }
            Err(refused) => {
                refusals.insert(refused.reason);
            }
        }
    }
    auditor.check();
    signed
}

#[test]
fn a_hostile_engine_gets_at_most_the_automatic_limits() {
    let mut refusals = BTreeSet::new();
    for (number, seed) in SEEDS.into_iter().enumerate() {
        let kind = ScriptKind::ALL[number % 4];
        let signed = run(seed, kind, &mut refusals);
        assert!(signed > 50, "only {signed} were signed: the attack was no attack");
    }
    // An attack that is stopped at the first rule proves nothing of the others.
    let needed = [
        Refusal::PlatformMismatch,
        Refusal::FenceBehind,
        Refusal::FenceConflict,
        Refusal::ClockAhead,
        Refusal::PlanVoided,
        Refusal::IntentPlatformMismatch,
        Refusal::InputUnproven,
        Refusal::SighashForbidden,
        Refusal::OutputUnknown,
        Refusal::PaymentAbsent,
        Refusal::ChangeFar,
        Refusal::AmountsExceeded,
        Refusal::FeeAboveShare,
        Refusal::FeeRateAboveCap,
        Refusal::AnchorChanged,
        Refusal::OutpointTaken,
        Refusal::WithdrawalTaken,
        Refusal::PaymentsChanged,
        Refusal::ApprovalKeyUnknown,
        Refusal::ApprovalRepeated,
        Refusal::ApprovalInvalid,
        Refusal::LimitPayment,
        Refusal::LimitHour,
        Refusal::LimitDay,
        Refusal::LimitDestination,
    ];
    for refusal in needed {
        assert!(refusals.contains(&refusal), "{} was never met", refusal.code());
    }
}

#[test]
fn the_auditor_would_notice() {
    // The auditor judges the signer; so it is judged here: 2,000,001 within an hour, and 2,000,000 at its two ends.
    assert_eq!(worst(&[(0, 1_000_000), (HOUR - 1, 1_000_001)], HOUR), 2_000_001);
    assert_eq!(worst(&[(0, 1_000_000), (HOUR, 1_000_000)], HOUR), 1_000_000);
    let wallet = Wallet::new(ScriptKind::Wpkh);
    let coin = wallet.coin(1, 5_000_000);
    let draft = draft(1, vec![coin.clone()], vec![pay(1, stranger(1), 1_500_000)]);
    let mut auditor = Auditor {
        own: [wallet.script(Branch::Internal, 5).into_bytes()].into(),
        coins: [((coin.input().txid.0, 0), 5_000_000)].into(),
        approved: vec![],
        groups: vec![],
    };
    auditor.book(&bitcoin::consensus::encode::serialize(&draft.transaction(&wallet)), NOW);
    assert_eq!(auditor.groups[0].top, 1_501_000);
    assert!(std::panic::catch_unwind(|| auditor.check()).is_err(), "1,500,000 to one destination is too much");
}

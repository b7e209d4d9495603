//! A run: the platform is set up, some thousand actions happen to it, every invariant is held after each, and at the end, with all faults off, everything that waits has to come to its end.

use crate::ports::lock;
use crate::rng::Rng;
use crate::schedule::{Kind, SCENARIO_STEPS, Schedule};
use crate::setup::{CHAIN, policy, set_up};
use crate::world::{World, Wrong};
use bitcoin::hashes::Hash;
use florin_core::asset::{Halt, HaltReason};
use florin_core::command::Command;
use florin_core::custody::{DepositStatus, WithdrawalStatus};
use florin_devnet::network::NodeId;
use florin_engine::writer::Role;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rounds of the liveness phase. A block is mined in every third, so that this is far beyond the deepest policy, and half a
/// minute passes in each, so that it is far beyond every expiry.
const LIVENESS_ROUNDS: u32 = 400;

/// Steps between two comparisons of the platform's own state with the auditor's.
const AGREE_STEPS: u64 = 50;

/// An invariant more than those that always hold: tests make one fail on purpose.
pub type Invariant = fn(&World) -> Result<(), String>;

/// A finished run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was run.
    pub schedule: Schedule,
    /// The hash of all that happened.
    pub trace: String,
    /// What happened, and how often.
    pub counts: BTreeMap<String, u64>,
    /// What went wrong, if anything.
    pub wrong: Option<Wrong>,
}

/// Runs a schedule.
pub fn run(schedule: &Schedule, extra: Option<Invariant>) -> Report {
    let (world, wrong) = play_out(schedule, extra);
    let mut counts = world.counts.clone();
    counts.extend(world.chaos.strikes());
    counts.extend(world.auditor.counts().clone());
    Report { schedule: schedule.clone(), trace: world.trace(), counts, wrong }
}

/// Runs a schedule, and gives the world as it is at the end.
pub fn play_out(schedule: &Schedule, extra: Option<Invariant>) -> (World, Option<Wrong>) {
    let mut world = World::new(schedule.seed);
    // Where anything panics that the platform does not catch, the seed fails, and not the whole run.
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world, schedule, extra)));
    let stray = crate::process::stray_panic();
    let outcome = match (played, stray) {
        (Err(_), stray) => Err(format!("it panicked: {}", stray.unwrap_or_else(|| "no word of why".into()))),
        // The writer has caught it, after the last step that looked.
        (Ok(Ok(())), Some(stray)) => Err(format!("a rule panicked: {stray}")),
        (Ok(outcome), _) => outcome,
    };
    let wrong = outcome.err().map(|what| Wrong { step: world.step, what });
    (world, wrong)
}

fn play(world: &mut World, schedule: &Schedule, extra: Option<Invariant>) -> Result<(), String> {
    set_up(world)?;
    for step in 1..=schedule.actions {
        if !schedule.has(step) {
            continue;
        }
        world.step = step;
        world.rng = Rng::of_step(schedule.seed, step);
        let kind = Kind::draw(&mut world.rng);
        if schedule.without.contains(&kind) {
            continue;
        }
        act(world, kind)?;
        hold(world, extra)?;
    }
    world.step = schedule.actions;
    world.rng = Rng::of_step(schedule.seed, schedule.actions + 1);
    calm(world, extra)?;
    world.agree_in_full()
}

fn act(world: &mut World, kind: Kind) -> Result<(), String> {
    if world.process.is_none() {
        world.heal_journal_sometimes();
        return world.start();
    }
    if world.is_unreadable && world.rng.chance(20) {
        world.heal_journal_sometimes();
    }
    if world.rival.is_some() {
        if world.rng.chance(40) {
            world.swap_writers();
        }
        if world.rng.chance(2) {
            world.end_rival();
        }
    }
    if SCENARIO_STEPS.contains(&world.step) {
        return world.scenario();
    }
    match kind {
        Kind::Turn => world.turn()?,
        Kind::Worker => world.step_worker()?,
        Kind::Customer => world.customers_act(),
        Kind::Mine => world.mine(),
        Kind::Pay => world.outside_pays(),
        Kind::Fork => world.fork(),
        Kind::ForkCredited => world.fork_credited(),
        Kind::Replace => world.outside_replaces(),
        Kind::Settle => {
            lock(&world.network).settle();
        }
        Kind::Time => world.time_passes(),
        Kind::Repeat => world.repeat(),
        Kind::Operator => world.operator_acts(),
        Kind::Nonsense => world.nonsense()?,
        Kind::Hostile => world.hostile()?,
        Kind::Crash => world.trouble_process(),
        Kind::Journal => world.trouble_journal()?,
        Kind::Signer => world.trouble_the_signer(),
        Kind::Node => world.trouble_node(),
        Kind::Rival => {
            if world.rival.is_none() {
                world.start_rival()?;
            }
        }
        Kind::Panic => world.trouble_rules(),
        Kind::Thief => world.thief_acts(),
    }
    // A block that is being taken back, and what waits in a frozen account, are rare and short: they are used at once.
    world.use_the_moment()
}

/// Everything that must hold after every step.
fn hold(world: &mut World, extra: Option<Invariant>) -> Result<(), String> {
    if let Some(panic) = crate::process::stray_panic() {
        return Err(format!("a rule panicked: {panic}"));
    }
    if let Some(wrong) = lock(&world.signer.process).wrong() {
        return Err(wrong.to_owned());
    }
    world.audit()?;
    world.check_books()?;
    world.compare()?;
    if world.step.is_multiple_of(AGREE_STEPS) {
        world.agree()?;
    }
    extra.map_or(Ok(()), |extra| extra(world))
}

/// All faults end; what waits has to finish.
fn calm(world: &mut World, extra: Option<Invariant>) -> Result<(), String> {
    world.chaos.disarm();
    world.heal_nodes();
    {
        let mut network = lock(&world.network);
        for id in network.ids() {
            network.with_node(id, |node| node.set_estimate(None));
        }
        lock(&world.node_faults).everywhere.estimates = None;
    }
    lock(&world.signer.troubles).clear();
    world.end_rival();
    world.rows.heal_reads();
    world.is_unreadable = false;
    // A command that made a rule panic is not executed by that process; another one takes it.
    if world.process.as_ref().is_some_and(|process| process.writer().quarantined().next().is_some()) {
        world.crash();
    }
    if world.process.is_none() {
        world.start()?;
    }
    if let Some(process) = &world.process {
        process.fuse.light(0);
    }
    let network_ms = lock(&world.network).clock() * 1_000;
    world.clock.set(network_ms.max(world.now_ms()));
    for round in 0..LIVENESS_ROUNDS {
        world.step += 1;
        world.clock.set(world.now_ms() + 30_000);
        let seconds = world.now_ms() / 1_000;
        lock(&world.network).set_clock(seconds);
        operator_tidies(world);
        for sent in std::mem::take(&mut world.again) {
            world.send(sent);
        }
        if round % 3 == 0 {
            world.mine();
        }
        let workers = world.process.as_ref().map_or(0, |process| process.workers().len());
        for index in 0..workers {
            world.step_worker_at(index)?;
            world.turn()?;
        }
        hold(world, extra)?;
        if round % 3 == 2 && unfinished(world).is_none() {
            world.count("calm");
            return Ok(());
        }
    }
    Err(format!("with all faults off, this never ends: {}", unfinished(world).unwrap_or_default()))
}

/// What an operator does in the end: confirms the clock, ends halts that people set, approves what waits, and proves which plans
/// can never confirm. What a deep reorganisation has halted stays so until it is followed: it goes on only while all of that
/// stands. Whoever lost a payment that a plan needs makes up his mind.
fn operator_tidies(world: &mut World) {
    let Some(process) = &world.process else { return };
    let state = process.model().state();
    let is_jumped = state.counters().jumped_to.is_some();
    let mut alarms = process.workers().iter().flat_map(|worker| worker.alarms());
    let is_below = alarms.any(|alarm| alarm.code == "reorganisation_below_kept");
    let is_operators = |halt: &&Halt| match halt.reason {
        // The watcher resumes these itself.
        HaltReason::ChainSplit | HaltReason::Stale => false,
        HaltReason::DeepReorganisation => !is_below,
        HaltReason::Operator | HaltReason::ForeignSpend | HaltReason::SignerFenced | HaltReason::BooksDisagree => true,
    };
    let halts: Vec<_> = state.halts().iter().filter(is_operators).cloned().collect();
    if is_jumped {
        world.ask(Command::ConfirmTime);
    }
    for halt in halts {
        world.ask(Command::Resume(halt));
    }
    world.ask_approve();
    world.operator_proves();
    world.outside_sends_again();
}

/// What has not come to its end; `None` where everything has.
fn unfinished(world: &World) -> Option<String> {
    let process = world.process.as_ref()?;
    if process.writer().role() != Role::Leading || !process.is_idle() || !world.waiting.is_empty() {
        return Some("commands wait".into());
    }
    let state = process.model().state();
    let network = lock(&world.network);
    let tip = state.chains().get(&CHAIN).and_then(|chain| chain.tip());
    if tip.is_none_or(|tip| tip.at.hash.0 != network.node(NodeId(0)).tip().to_byte_array()) {
        let alarms: Vec<String> =
            process.workers().iter().flat_map(|worker| worker.alarms()).map(|alarm| format!("{alarm:?}")).collect();
        return Some(format!("the chain is not followed to its tip: {tip:?}, {alarms:?}"));
    }
    let open = state.withdrawals().values().find(|withdrawal| {
        use WithdrawalStatus::{Cancelled, Final, Refunded};
        !matches!(withdrawal.status, Final | Cancelled | Refunded)
    });
    if let Some(withdrawal) = open {
        let alarms: Vec<String> =
            process.workers().iter().flat_map(|worker| worker.alarms()).map(|alarm| format!("{alarm:?}")).collect();
        return Some(format!("withdrawal {} is {:?}: {alarms:?}", withdrawal.id, withdrawal.status));
    }
    let min = policy(world).deposit_min;
    let waits = state.deposits().values().find(|deposit| {
        let is_pending = deposit.status == DepositStatus::Pending && deposit.amount >= min;
        let at = deposit.at.map_or(0, |at| state.chains()[&CHAIN].confirmations(at.height));
        is_pending && at > 110 || deposit.status == DepositStatus::Missing
    });
    waits.map(|deposit| format!("deposit {:?} is {:?}", deposit.outpoint, deposit.status))
}

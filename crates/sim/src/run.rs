//! A run: the platform is set up, some thousand actions happen to it, every invariant is held after each, and at the end, with all faults off, everything that waits has to come to its end.

use crate::actions::{BTC, EUR, UNIT, WALLET};
use crate::ports::lock;
use crate::process::Process;
use crate::world::{World, Wrong};
use bitcoin::hashes::Hash;
use florin::signing::RemoteSigner;
use florin_chain::bitcoin::header::Checkpoint;
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep, HaltReason};
use florin_core::command::{Command, PART_COST_MAX};
use florin_core::custody::{Block, BlockRef, Chain, ChainFamily, DepositStatus, Wallet, WalletTier, WithdrawalStatus};
use florin_core::id::{BlockHash, ChainId, CustomerId, Height};
use florin_core::ledger::{BalanceRule, Owner};
use florin_devnet::network::NodeId;
use florin_engine::follower::{Follower, FollowerConfig};
use florin_engine::workers::Worker;
use florin_engine::workers::broadcaster::{Broadcaster, BroadcasterConfig};
use florin_engine::workers::planner::{Planner, PlannerConfig};
use florin_engine::workers::signing::{Signing, SigningConfig};
use florin_engine::workers::ticker::Ticker;
use florin_engine::writer::Role;
use std::collections::BTreeMap;

/// The one chain.
const CHAIN: ChainId = ChainId(1);

/// Rounds of the liveness phase. A block is mined in each, so that this is far beyond the deepest policy and every expiry.
const LIVENESS_ROUNDS: u32 = 400;

/// A finished run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The hash of all that happened.
    pub trace: String,
    /// What happened, and how often.
    pub counts: BTreeMap<String, u64>,
    /// What went wrong, if anything.
    pub wrong: Option<Wrong>,
}

/// Runs a seed for so many actions.
pub fn run(seed: u64, actions: u64) -> Report {
    let mut world = World::new(seed);
    let outcome = play(&mut world, actions);
    let mut counts = world.counts.clone();
    counts.extend(world.chaos.deaths());
    counts.extend(world.auditor.counts().clone());
    let wrong = outcome.err().map(|what| Wrong { step: world.step, what });
    Report { seed, trace: world.trace(), counts, wrong }
}

fn play(world: &mut World, actions: u64) -> Result<(), String> {
    set_up(world)?;
    for _ in 0..actions {
        world.step += 1;
        act(world)?;
        hold(world)?;
    }
    calm(world)
}

/// The workers of a fresh process.
fn workers(world: &mut World) -> Vec<Box<dyn Worker>> {
    let seats = |world: &World| (0..crate::world::NODES).map(|index| world.seat(index)).collect::<Vec<_>>();
    let follower = FollowerConfig {
        chain: CHAIN,
        network: Network::Regtest,
        checkpoint: Checkpoint::genesis(Network::Regtest),
        headers_max: 100_000,
        quorum: 2,
        split_blocks_max: 6,
        stale_ms: 60_000,
        tip_age_max_ms: None,
        // Small, so that blocks with many receipts come in parts.
        part_cost_max: PART_COST_MAX.min(40),
    };
    let key = world.rng.bytes();
    let follower = Follower::new(follower, seats(world), key).expect("the checkpoint is the network's");
    let planner = PlannerConfig {
        chain: CHAIN,
        blocks: 3,
        rate_min: 1_000,
        rate_max: 100_000,
        rate_long_term: 2_000,
        rate_fallback: 2_000,
        fee_share_ppm_max: 1_000_000,
        batch_max: 5,
    };
    let mut draws = world.rng.fork();
    let planner = Planner::new(planner, seats(world), Box::new(move || draws.bytes()));
    let signer = RemoteSigner::new(world.signer.clone(), None);
    let signing = Signing::new(SigningConfig { chain: CHAIN, retry_ms: 1_000 }, Box::new(signer), seats(world));
    let broadcaster = Broadcaster::new(BroadcasterConfig { chain: CHAIN, repeat_ms: 5_000 }, seats(world));
    vec![Box::new(follower), Box::new(planner), Box::new(signing), Box::new(broadcaster), Box::new(Ticker::new(1_000))]
}

fn start(world: &mut World) -> Result<(), String> {
    let workers = workers(world);
    let (journal, snapshots, now_ms) = (world.journal(), world.snapshots.clone(), world.now_ms());
    let process = Process::start(world.writer_config(), journal, snapshots, workers, now_ms);
    world.process = Some(process.map_err(|fault| format!("the platform does not start: {fault}"))?);
    world.count("start");
    Ok(())
}

fn policy() -> AssetPolicy {
    let step = |amount_from: u128, confirmations| DepthStep { amount_from: Amount::new(amount_from), confirmations };
    AssetPolicy {
        asset: BTC,
        depths: vec![step(0, 1), step(1_000_000, 2), step(100_000_000, 4)],
        deposit_min: Amount::new(1_000),
        withdrawal_min: Amount::new(2_000),
        withdrawal_fee: Amount::new(500),
        automatic_max: Amount::new(20_000_000),
        final_confirmations: 5,
        missing_ms: 60_000,
        intent_ms: 3_600_000,
        network_fee_max: Amount::new(50_000),
    }
}

fn set_up(world: &mut World) -> Result<(), String> {
    start(world)?;
    let asset = |id, code: &str, decimals, kind, chain| Asset { id, code: code.into(), decimals, kind, chain };
    let (start_block, genesis) = {
        let network = lock(&world.network);
        let node = network.node(NodeId(0));
        let tip = node.block(&node.tip()).expect("a node has its tip");
        let at = BlockRef { height: Height(node.height()), hash: BlockHash(node.tip().to_byte_array()) };
        let previous = BlockHash(tip.header.prev_blockhash.to_byte_array());
        let block = Block { chain: CHAIN, at, previous, time_s: u64::from(tip.header.time) };
        (block, BlockHash(Network::Regtest.genesis_hash().to_byte_array()))
    };
    let chain = Chain {
        id: CHAIN,
        family: ChainFamily::Bitcoin,
        name: "bitcoin-regtest".into(),
        genesis,
        coin: BTC,
        coinbase_maturity: 100,
    };
    let [external, internal] = world.descriptors.clone();
    let wallet = Wallet {
        id: WALLET,
        chain: CHAIN,
        generation: 1,
        tier: WalletTier::Hot,
        birthday: start_block.at.height,
        descriptor_external: external,
        descriptor_internal: internal,
        retired: false,
        next_external: 0,
        next_internal: 0,
    };
    let mut commands = vec![
        Command::DefineAsset(asset(BTC, "BTC", 8, AssetKind::Coin, Some(CHAIN))),
        Command::DefineAsset(asset(EUR, "EUR", 2, AssetKind::Fiat, None)),
        Command::DefineAsset(asset(UNIT, "UNIT", 0, AssetKind::Plain, None)),
        Command::SetAssetPolicy(policy()),
        Command::DefineChain { chain, start: start_block },
        Command::RegisterWallet(wallet),
    ];
    for number in 0..4 {
        let rule = if number == 0 { BalanceRule::Free } else { BalanceRule::CreditNormal };
        commands.push(Command::OpenAccount { owner: Owner::Plain(number), asset: UNIT, rule });
    }
    commands.extend((0..3u8).map(|number| Command::OpenCustomer(CustomerId([number; 16]))));
    // The operator waits for each answer before the next command.
    for command in commands {
        world.ask(command);
        turn(world)?;
        turn(world)?;
    }
    let refused = world.counts.iter().find(|(what, _)| !["start", "compared with the chain"].contains(&what.as_str()));
    match refused {
        None => Ok(()),
        Some((what, _)) => Err(format!("the platform can't be set up: {what}")),
    }
}

/// One turn of the process: decide, append, fold.
fn turn(world: &mut World) -> Result<(), String> {
    let now_ms = world.now_ms();
    if let Some(process) = &mut world.process {
        process.decide(now_ms);
        process.send_row();
        // What is decided while a row is in flight goes into the next one.
        process.decide(now_ms);
        process.settle();
    }
    bury(world)?;
    world.take_answers()?;
    if let Some(process) = &mut world.process {
        if process.lead_again(now_ms).map_err(|fault| format!("the journal does not fold: {fault}"))? {
            world.count("led again");
        } else {
            process.snapshot(now_ms);
        }
    }
    bury(world)
}

/// A process whose moment has come is gone.
fn bury(world: &mut World) -> Result<(), String> {
    if world.chaos.is_dead() {
        world.crash();
        world.audit()?;
    }
    Ok(())
}

fn step_worker(world: &mut World) -> Result<(), String> {
    let now_ms = world.now_ms();
    let count = world.process.as_ref().map_or(0, |process| process.workers().len());
    if count == 0 {
        return Ok(());
    }
    // The follower has the most to do.
    let index = if world.rng.chance(50) { 0 } else { world.rng.below(count as u64) as usize };
    if let Some(process) = &mut world.process {
        process.step_worker(index, now_ms);
    }
    bury(world)
}

fn act(world: &mut World) -> Result<(), String> {
    if world.process.is_none() {
        return start(world);
    }
    match world.rng.below(100) {
        0..=27 => turn(world)?,
        28..=47 => step_worker(world)?,
        48..=67 => world.customers_act(),
        68..=82 => world.world_acts(),
        83..=90 => world.time_passes(),
        91 | 92 => world.repeat(),
        93 => world.operator_halts(),
        94 => world.ask_approve(),
        95 => world.nonsense(),
        _ => world.trouble(),
    }
    Ok(())
}

/// Everything that must hold after every step.
fn hold(world: &mut World) -> Result<(), String> {
    world.audit()?;
    world.compare()
}

/// All faults end; what waits has to finish.
fn calm(world: &mut World) -> Result<(), String> {
    world.chaos.disarm();
    world.heal_nodes();
    lock(&world.signer.troubles).clear();
    if world.process.is_none() {
        start(world)?;
    }
    for round in 0..LIVENESS_ROUNDS {
        world.step += 1;
        world.clock.set(world.now_ms() + 30_000);
        let seconds = world.now_ms() / 1_000;
        lock(&world.network).set_clock(seconds);
        operator_tidies(world);
        while let Some(sent) = world.again.pop_front() {
            world.send(sent);
        }
        if round % 3 == 0 {
            world.mine();
        }
        let workers = world.process.as_ref().map_or(0, |process| process.workers().len());
        for index in 0..workers {
            let now_ms = world.now_ms();
            if let Some(process) = &mut world.process {
                process.step_worker(index, now_ms);
            }
            turn(world)?;
        }
        hold(world)?;
        if round % 3 == 2 && unfinished(world).is_none() {
            world.count("calm");
            return Ok(());
        }
    }
    Err(format!("with all faults off, this never ends: {}", unfinished(world).unwrap_or_default()))
}

/// What an operator does in the end: confirms the clock, ends halts that people set, approves what waits.
fn operator_tidies(world: &mut World) {
    let Some(process) = &world.process else { return };
    let state = process.model().state();
    let is_jumped = state.counters().jumped_to.is_some();
    let is_operators =
        |halt: &&florin_core::asset::Halt| matches!(halt.reason, HaltReason::Operator | HaltReason::DeepReorganisation);
    let halts: Vec<_> = state.halts().iter().filter(is_operators).cloned().collect();
    if is_jumped {
        world.ask(Command::ConfirmTime);
    }
    for halt in halts {
        world.ask(Command::Resume(halt));
    }
    world.ask_approve();
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
    let min = policy().deposit_min;
    let waits = state.deposits().values().find(|deposit| {
        let is_pending = deposit.status == DepositStatus::Pending && deposit.amount >= min;
        let at = deposit.at.map_or(0, |at| state.chains()[&CHAIN].confirmations(at.height));
        is_pending && at > 110 || deposit.status == DepositStatus::Missing
    });
    waits.map(|deposit| format!("deposit {:?} is {:?}", deposit.outpoint, deposit.status))
}

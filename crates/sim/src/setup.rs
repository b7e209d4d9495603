//! How a run begins: the workers of a process, and what an operator defines before anybody else comes.

use crate::ports::lock;
use crate::world::{PLATFORM, World};
use bitcoin::hashes::Hash;
use florin::signing::RemoteSigner;
use florin_chain::bitcoin::header::Checkpoint;
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep};
use florin_core::command::{Command, Origin};
use florin_core::custody::{Beneficiary, Block, BlockRef, Branch, Chain, ChainFamily, Wallet, WalletTier};
use florin_core::id::{AssetId, BlockHash, ChainId, CustomerId, Height, WalletId};
use florin_core::ledger::{BalanceRule, Owner};
use florin_devnet::network::NodeId;
use florin_engine::follower::{Follower, FollowerConfig};
use florin_engine::lanes::Ask;
use florin_engine::workers::Worker;
use florin_engine::workers::broadcaster::{Broadcaster, BroadcasterConfig};
use florin_engine::workers::doubts::Doubts;
use florin_engine::workers::planner::{Planner, PlannerConfig};
use florin_engine::workers::signing::{Signing, SigningConfig};
use florin_engine::workers::ticker::Ticker;
use florin_engine::writer::Answer;

/// The chain that is followed.
pub const CHAIN: ChainId = ChainId(1);
/// A chain that an asset names and nobody defined.
pub const CHAIN_MISSING: ChainId = ChainId(2);
/// A chain that stands still, whose coin has no policy.
pub const CHAIN_STILL: ChainId = ChainId(3);
/// The coin of [`CHAIN`].
pub const BTC: AssetId = AssetId(1);
/// Money.
pub const EUR: AssetId = AssetId(2);
/// A plain ledger's unit.
pub const UNIT: AssetId = AssetId(3);
/// The coin of [`CHAIN_MISSING`].
pub const COIN_MISSING: AssetId = AssetId(4);
/// The coin of [`CHAIN_STILL`].
pub const COIN_STILL: AssetId = AssetId(5);
/// Money in amounts that no account holds twice.
pub const XXX: AssetId = AssetId(6);
/// Another plain unit.
pub const UNIT_OTHER: AssetId = AssetId(7);
/// The hot wallet.
pub const WALLET: WalletId = WalletId(1);
/// The wallet of [`CHAIN_STILL`].
pub const WALLET_STILL: WalletId = WalletId(2);
/// A retired wallet of [`CHAIN`].
pub const WALLET_RETIRED: WalletId = WalletId(3);

/// The policy in force.
pub fn policy(world: &World) -> AssetPolicy {
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
        intent_ms: world.conditions.intent_ms,
        network_fee_max: Amount::new(50_000),
        kept_blocks: world.conditions.kept_blocks,
    }
}

/// The workers of a fresh process.
pub fn workers(world: &mut World) -> Vec<Box<dyn Worker>> {
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
        part_cost_max: world.conditions.part_cost_max,
    };
    let key = world.rng.bytes();
    let follower = Follower::new(follower, seats(world), key).expect("the checkpoint is the network's");
    let (past, records_max) = world.past();
    let follower = follower.with_past_of(Box::new(past), records_max);
    let planner = PlannerConfig {
        chain: CHAIN,
        quorum: 2,
        blocks: 3,
        rate_min: 1_000,
        rate_max: 100_000,
        rate_long_term: 2_000,
        rate_fallback: 2_000,
        fee_share_ppm_max: 1_000_000,
        batch_max: 5,
    };
    let doubts = Doubts::default();
    let mut draws = world.rng.fork();
    let planner = Planner::new(planner, seats(world), Box::new(move || draws.bytes())).heeding(doubts.clone());
    let signer = RemoteSigner::keeping(world.signer.clone(), Box::new(world.signer_keeper())).serving(PLATFORM);
    let signing = SigningConfig { chain: CHAIN, retry_ms: 1_000 };
    let signing = Signing::new(signing, Box::new(signer), Box::new(world.journal()), seats(world)).telling(doubts);
    let broadcaster = Broadcaster::new(BroadcasterConfig { chain: CHAIN, quorum: 2, repeat_ms: 5_000 }, seats(world));
    vec![Box::new(follower), Box::new(planner), Box::new(signing), Box::new(broadcaster), Box::new(Ticker::new(1_000))]
}

/// The wallets as they are registered.
pub fn wallet(world: &World, id: WalletId, birthday: Height) -> Wallet {
    let [external, internal] = world.descriptors[id.0 as usize - 1].clone();
    Wallet {
        id,
        chain: if id == WALLET_STILL { CHAIN_STILL } else { CHAIN },
        generation: 1,
        tier: WalletTier::Hot,
        birthday,
        descriptor_external: external,
        descriptor_internal: internal,
        retired: false,
        next_external: 0,
        next_internal: 0,
    }
}

/// The chain that is followed, and its first journalled block.
fn followed(world: &World) -> (Chain, Block) {
    let network = lock(&world.network);
    let node = network.node(NodeId(0));
    let tip = node.block(&node.tip()).expect("a node has its tip");
    let at = BlockRef { height: Height(node.height()), hash: BlockHash(node.tip().to_byte_array()) };
    let previous = BlockHash(tip.header.prev_blockhash.to_byte_array());
    let block = Block { chain: CHAIN, at, previous, time_s: u64::from(tip.header.time) };
    let genesis = BlockHash(Network::Regtest.genesis_hash().to_byte_array());
    let name = "bitcoin-regtest".into();
    (Chain { id: CHAIN, family: ChainFamily::Bitcoin, name, genesis, coin: BTC, coinbase_maturity: 100 }, block)
}

/// The chain that stands still at its first block.
pub fn still() -> (Chain, Block) {
    let genesis = BlockHash(Network::Signet.genesis_hash().to_byte_array());
    let block = Block {
        chain: CHAIN_STILL,
        at: BlockRef { height: Height(0), hash: genesis },
        previous: BlockHash([0; 32]),
        time_s: 0,
    };
    let name = "bitcoin-signet".into();
    let chain = Chain {
        id: CHAIN_STILL,
        family: ChainFamily::Bitcoin,
        name,
        genesis,
        coin: COIN_STILL,
        coinbase_maturity: 100,
    };
    (chain, block)
}

fn definitions(world: &World) -> Vec<Command> {
    let asset = |id, code: &str, decimals, kind, chain| {
        Command::DefineAsset(Asset { id, code: code.into(), decimals, kind, chain })
    };
    let (chain, start) = followed(world);
    let birthday = start.at.height;
    let (still, still_start) = still();
    let mut commands = vec![
        asset(BTC, "BTC", 8, AssetKind::Coin, Some(CHAIN)),
        asset(EUR, "EUR", 2, AssetKind::Fiat, None),
        asset(UNIT, "UNIT", 0, AssetKind::Plain, None),
        asset(COIN_MISSING, "NONE", 8, AssetKind::Coin, Some(CHAIN_MISSING)),
        asset(COIN_STILL, "STILL", 8, AssetKind::Coin, Some(CHAIN_STILL)),
        asset(XXX, "XXX", 2, AssetKind::Fiat, None),
        asset(UNIT_OTHER, "UNIT2", 0, AssetKind::Plain, None),
        Command::SetAssetPolicy(policy(world)),
        Command::DefineChain { chain, start },
        Command::DefineChain { chain: still, start: still_start },
        Command::RegisterWallet(wallet(world, WALLET, birthday)),
        Command::RegisterWallet(wallet(world, WALLET_STILL, Height(0))),
        Command::RegisterWallet(wallet(world, WALLET_RETIRED, birthday)),
    ];
    let rules = [BalanceRule::Free, BalanceRule::CreditNormal, BalanceRule::CreditNormal, BalanceRule::DebitNormal];
    for (number, rule) in (0..).zip(rules) {
        commands.push(Command::OpenAccount { owner: Owner::Plain(number), asset: UNIT, rule });
    }
    commands.push(Command::OpenAccount { owner: Owner::Plain(9), asset: UNIT_OTHER, rule: BalanceRule::Free });
    commands.extend((0..3u8).map(|number| Command::OpenCustomer(CustomerId([number; 16]))));
    commands
}

/// Starts the first process and defines everything; the operator waits for each answer before the next command.
///
/// # Errors
/// What is wrong.
pub fn set_up(world: &mut World) -> Result<(), String> {
    world.start()?;
    for command in definitions(world) {
        let ask = world.request(command);
        defined(world, ask)?;
    }
    for (wallet, customer) in [(WALLET, 0), (WALLET, 1), (WALLET_STILL, 0), (WALLET_RETIRED, 1), (WALLET_RETIRED, 2)] {
        let (id, request) = world.new_id();
        let origin = Origin::Request { id, request };
        let beneficiary = Beneficiary::Customer(CustomerId([customer; 16]));
        defined(world, Ask::NextAddress { origin, wallet, branch: Branch::External, beneficiary })?;
    }
    let ask = world.request(Command::RetireWallet(WALLET_RETIRED));
    defined(world, ask)
}

fn defined(world: &mut World, ask: Ask) -> Result<(), String> {
    match world.ask_and_wait(ask.clone())? {
        Some(Answer::Done(_)) => Ok(()),
        answer => Err(format!("the platform can't be set up: {answer:?} to {ask:?}")),
    }
}

//! What a platform needs before it may run, and what an empty journal is told first: assets, policies, the chain. Nothing
//! here changes what a journal already says.

use super::CHAIN;
use crate::config::Config;
use crate::failure::Failure;
use crate::secret::{PrivateFault, read_private};
use bitcoin::hashes::{Hash, sha256};
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep};
use florin_core::command::Command;
use florin_core::custody::{Block, Chain, ChainFamily};
use florin_core::id::{AssetId, BlockHash, Digest};
use florin_engine::lanes::Ask;
use florin_engine::runtime::EngineHandle;
use florin_engine::writer::Answer;
use florin_signer::client::{Client, ClientError};
use florin_signer::peer::own_user;
use florin_signer::protocol::{Hello, Outcome, PROTOCOL, Request};
use std::time::Duration;

/// Bitcoin's id in every journal that this build starts.
pub const BITCOIN: AssetId = AssetId(1);
/// The euro's id.
pub const EURO: AssetId = AssetId(2);

/// Blocks before a mined coin may be spent (Bitcoin's consensus rules).
const COINBASE_MATURITY: u32 = 100;

/// The user who may read every file.
const ROOT: u32 = 0;

/// How long the signer may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a definition may take to be durable.
const DEFINE_TIMEOUT: Duration = Duration::from_secs(30);

/// Refuses to run where a password lies open, and with coins of value where something that protects them is missing.
///
/// # Errors
/// `node_auth_exposed`. On the main network then: `signer_unready` where the signer does not answer or serves another platform,
/// `demo_keys` where its keys are for play, `signer_same_user`, `platform_is_root`, and always `backup_drill_missing`: this build
/// has no backup whose restoring could have been tried.
pub fn refuse_unready(config: &Config) -> Result<(), Failure> {
    refuse_exposed_passwords(config)?;
    if config.bitcoin.network != "main" {
        return Ok(());
    }
    let client = Client::new(config.path(&config.signer.socket), HELLO_TIMEOUT);
    refuse_signer(config, &client)?;
    Err(refuse_main(own_user(), client.signer_user().map_err(silent)?))
}

/// A node that does not run yet has no cookie; that is no reason not to start, a file that others read is.
fn refuse_exposed_passwords(config: &Config) -> Result<(), Failure> {
    for node in &config.bitcoin.node {
        let path = config.path(&node.auth_file);
        if let Err(fault @ PrivateFault::Exposed { .. }) = read_private(&path) {
            let (name, shown) = (&node.name, path.display());
            return Err(Failure::new(
                "node_auth_exposed",
                format!("others may read the password of node {name}: {shown}"),
            )
            .because(fault)
            .hint(format!("chmod 600 {shown}")));
        }
    }
    Ok(())
}

fn silent(fault: ClientError) -> Failure {
    Failure::new("signer_unready", "the signer does not answer, and without it nobody knows which keys it has")
        .because(fault)
        .hint("start it first: 'florin signer serve'")
}

fn refuse_signer(config: &Config, client: &Client) -> Result<(), Failure> {
    let reply = client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).map_err(silent)?;
    match reply.outcome {
        Outcome::Welcome(welcome) if welcome.platform != config.platform_id() => {
            Err(Failure::new("signer_unready", "the signer serves another platform")
                .hint("compare platform.id with its policy"))
        }
        Outcome::Welcome(welcome) if welcome.demo => {
            Err(Failure::new("demo_keys", "the signer's keys are for play and refuse main networks")
                .hint("make new ones: 'florin signer init'"))
        }
        Outcome::Welcome(_) => Ok(()),
        _ => Err(Failure::new("signer_unready", "the signer gave another answer than it was asked for")),
    }
}

/// Why coins of value are not kept, where this process acts as `own` and the signer as `signer`. A user who takes this process
/// over must not have the signer's files as well; and this build never has the last thing that is needed.
fn refuse_main(own: u32, signer: u32) -> Failure {
    if own == signer {
        return Failure::new(
            "signer_same_user",
            "the signer runs as the same user as the platform, who may read its keys",
        )
        .hint("run 'florin signer serve' as a user of its own, and name the platform's user in its policy.toml");
    }
    if own == ROOT {
        return Failure::new("platform_is_root", "the platform runs as root, who may read everybody's keys")
            .hint("run 'florin serve' as a user of its own");
    }
    Failure::new(
        "backup_drill_missing",
        "no backup of the keys has been restored on trial, and this build can't make one",
    )
    .hint("main networks wait for a release with a backup and its drill; use another network until then")
}

/// SHA-256 of what the configuration says, as `EpochStarted` records it: of its words alone, not of where its file lies.
pub(super) fn config_hash(config: &Config) -> Digest {
    Digest(sha256::Hash::hash(config.canonical().as_bytes()).to_byte_array())
}

/// Whether a journal has its assets and its chain.
pub(super) fn is_done(state: &florin_core::state::State) -> bool {
    state.assets().contains_key(&EURO) && state.chains().contains_key(&CHAIN)
}

/// Tells an empty journal its assets, policies and chain. A definition that stands already is left as it is.
pub(super) fn define(engine: &EngineHandle, network: Option<Network>, start: Option<&Block>) -> Result<(), Failure> {
    let stands = |asset| engine.read(|state| state.assets().contains_key(&asset));
    let has_policy = |asset| engine.read(|state| state.policies().contains_key(&asset));
    let mut commands = Vec::new();
    if !stands(EURO) {
        let kind = AssetKind::Fiat;
        commands.push(Command::DefineAsset(Asset { id: EURO, code: "EUR".to_owned(), decimals: 2, kind, chain: None }));
    }
    if let (Some(network), Some(start)) = (network, start) {
        if !stands(BITCOIN) {
            commands.push(Command::DefineAsset(Asset {
                id: BITCOIN,
                code: "BTC".to_owned(),
                decimals: 8,
                kind: AssetKind::Coin,
                chain: Some(CHAIN),
            }));
        }
        if !has_policy(BITCOIN) {
            commands.push(Command::SetAssetPolicy(bitcoin_policy(network)));
        }
        let genesis: &[u8; 32] = &network.genesis_hash().to_byte_array();
        match engine.read(|state| state.chains().get(&CHAIN).map(|chain| chain.chain.genesis)) {
            Some(followed) if followed.0 != *genesis => {
                return Err(Failure::new(
                    "network_changed",
                    "the journal follows another network than the configuration",
                )
                .hint("one journal has one network; use another data folder for another one"));
            }
            Some(_) => {}
            None => commands.push(Command::DefineChain { chain: chain(network), start: start.clone() }),
        }
    }
    commands.into_iter().try_for_each(|command| ask(engine, command))
}

fn ask(engine: &EngineHandle, command: Command) -> Result<(), Failure> {
    let told = engine
        .submit_wait(Ask::internal(command), DEFINE_TIMEOUT)
        .map_err(|fault| Failure::new(fault.code(), "an empty journal could not be set up").because(fault))?;
    match told.answer {
        Answer::Done(_) | Answer::Repeated(_) => Ok(()),
        other => {
            let code = other.code().unwrap_or("internal");
            Err(Failure::new("setup_refused", format!("an empty journal could not be set up: {code}")))
        }
    }
}

fn chain(network: Network) -> Chain {
    Chain {
        id: CHAIN,
        family: ChainFamily::Bitcoin,
        name: format!("bitcoin-{}", network.name()),
        genesis: BlockHash(network.genesis_hash().to_byte_array()),
        coin: BITCOIN,
        coinbase_maturity: COINBASE_MATURITY,
    }
}

/// Where an operator who says nothing starts; amounts agree with those of the signer's policy as it is first written. With coins of value depths grow with the amount; on networks of play the
/// same rules run with less waiting.
pub fn bitcoin_policy(network: Network) -> AssetPolicy {
    let step = |amount_from, confirmations| DepthStep { amount_from: Amount::new(amount_from), confirmations };
    let minutes = |count: u64| count * 60 * 1_000;
    let (depths, final_confirmations, automatic_max) = match network {
        Network::Main => (vec![step(0, 3), step(100_000_000, 6), step(1_000_000_000, 12)], 12, 10_000_000),
        Network::Test | Network::Signet => (vec![step(0, 2), step(100_000_000, 6)], 6, 50_000_000),
        Network::Regtest => (vec![step(0, 3)], 6, 50_000_000),
    };
    AssetPolicy {
        asset: BITCOIN,
        depths,
        deposit_min: Amount::new(1_000),
        withdrawal_min: Amount::new(10_000),
        withdrawal_fee: Amount::new(5_000),
        automatic_max: Amount::new(automatic_max),
        final_confirmations,
        missing_ms: minutes(24 * 60),
        intent_ms: minutes(24 * 60),
        network_fee_max: Amount::new(100_000),
        kept_blocks: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_network_is_refused_for_the_users_first_and_for_the_drill_always() {
        let code = |own, signer| refuse_main(own, signer).code();
        assert_eq!(code(1001, 1001), "signer_same_user");
        assert_eq!(code(ROOT, ROOT), "signer_same_user");
        assert_eq!(code(ROOT, 1001), "platform_is_root");
        // Root as the signer keeps its keys from everybody else.
        assert_eq!((code(1001, 1002), code(1001, ROOT)), ("backup_drill_missing", "backup_drill_missing"));
    }
}

//! `florin signer accept`: puts the signer that answers in place of the one that the platform knows. Nothing but this command does
//! so, and it never decides by itself: a person names the key.

use super::STATUS_TIMEOUT;
use crate::cli::show::record;
use crate::config::{Config, FILE_NAME};
use crate::failure::Failure;
use crate::signing::known::{KnownSigner, SignerKeeper, open_record, unkept};
use clap::Args;
use florin_core::hex;
use florin_signer::client::Client;
use florin_signer::protocol::{Hello, MemoryHead, Outcome, PROTOCOL, Request, Welcome};
use serde_json::json;
use std::path::PathBuf;

/// Which signer is taken for the platform's.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// The platform's configuration
    #[arg(long, default_value = FILE_NAME)]
    pub config: PathBuf,
    /// The signer's public key, as 'florin signer status' shows it on the signer's own machine
    #[arg(long, value_name = "HEX")]
    pub key: String,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Who answers on a signer's socket.
pub(super) fn who(client: &Client) -> Result<(Welcome, MemoryHead), Failure> {
    let reply = client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).map_err(|fault| {
        Failure::new(fault.code(), "the signer does not answer")
            .because(fault)
            .hint("start it with 'florin signer serve'")
    })?;
    match reply.outcome {
        Outcome::Welcome(welcome) => Ok((welcome, reply.head)),
        Outcome::Refused(refused) => {
            Err(Failure::new(refused.reason.code(), format!("the signer refuses: {}", refused.reason)))
        }
        _ => Err(Failure::new("signer_answer_malformed", "the signer answered another question")),
    }
}

pub(super) fn accept(args: &AcceptArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    let mut kept = open_record(&config)?;
    let before = kept.load().map_err(|fault| unkept(&fault))?;
    let (welcome, head) = who(&Client::new(config.path(&config.signer.socket), STATUS_TIMEOUT))?;
    if welcome.platform != config.platform_id() {
        return Err(Failure::new("signer_platform_mismatch", "the signer that answers serves another platform")
            .hint("compare platform.id with its policy"));
    }
    let key = hex::encode(&welcome.key);
    if !key.eq_ignore_ascii_case(args.key.trim()) {
        return Err(Failure::new("signer_key_differs", format!("the signer that answers has the key {key}")).hint(
            "name the key that 'florin signer status' shows on the signer's own machine, and find out who answers here",
        ));
    }
    let now = KnownSigner { head, platform: welcome.platform, key: welcome.key };
    kept.replace(&now).map_err(|fault| unkept(&fault))?;
    let shown = json!({
        "key": key,
        "decisions": head.counter,
        "key_before": before.map(|known| hex::encode(&known.key)),
        "decisions_before": before.map(|known| known.head.counter),
        "same_memory": before.is_some_and(|known| known.head.memory == head.memory),
    });
    record(&mut std::io::stdout(), args.json, &shown)
}

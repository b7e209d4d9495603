//! `florin signer accept`: puts the signer that answers in place of the one that the platform knows. Nothing but this command does
//! so, and it never decides by itself: a person names the key, and says so where the memory is not the one that was known.

use super::STATUS_TIMEOUT;
use crate::cli::show::record;
use crate::config::{Config, FILE_NAME};
use crate::failure::Failure;
use crate::platform::stores::lock;
use crate::signing::known::{KnownSigner, SignerKeeper, open_record, unkept};
use clap::Args;
use florin_core::hex;
use florin_signer::client::{Client, ClientError};
use florin_signer::protocol::{
    Hello, MemoryDoubt, MemoryHead, Outcome, PROTOCOL, Refused, Request, StatusWanted, Welcome,
};
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
    /// Take it although its memory is not the one that the platform knows, or lacks decisions: its limits count anew, and it does not
    /// know what it signed. First see on the chain that every signed plan of 'florin plan list' is confirmed or can't confirm any more
    #[arg(long)]
    pub memory_is_lost: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

fn silent(fault: ClientError) -> Failure {
    Failure::new(fault.code(), "the signer does not answer").because(fault).hint("start it with 'florin signer serve'")
}

fn refusal(refused: &Refused) -> Failure {
    Failure::new(refused.reason.code(), format!("the signer refuses: {}", refused.reason))
}

/// Who answers on a signer's socket.
pub(super) fn who(client: &Client) -> Result<(Welcome, MemoryHead), Failure> {
    let reply = client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).map_err(silent)?;
    match reply.outcome {
        Outcome::Welcome(welcome) => Ok((welcome, reply.head)),
        Outcome::Refused(refused) => Err(refusal(&refused)),
        _ => Err(Failure::new("signer_answer_malformed", "the signer answered another question")),
    }
}

/// Whether the memory of the signer that answers still has the last decision that is known of it; where it has not, why.
fn has(client: &Client, known: &MemoryHead) -> Result<Result<(), MemoryDoubt>, Failure> {
    let reply = client.ask(&Request::Status(StatusWanted { memory: Some(*known) })).map_err(silent)?;
    match (&reply.outcome, reply.check(known)) {
        // It could not read the question.
        (Outcome::Refused(refused), Err(MemoryDoubt::Unproven)) => Err(refusal(refused)),
        (_, judged) => Ok(judged),
    }
}

fn changed(doubt: MemoryDoubt) -> Failure {
    Failure::new(doubt.code(), "the signer that answers is not taken").because(doubt).hint(
        "put the newest memory back; where it is lost for good, see 'Losing the signer' in operating.md, and look after every plan that was signed before you say --memory-is-lost",
    )
}

pub(super) fn accept(args: &AcceptArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    // A platform that runs would go on with its plans at once, before anybody has looked.
    let _held = lock(&config.data(), &config.platform.node)?;
    let mut kept = open_record(&config)?;
    let before = kept.load().map_err(|fault| unkept(&fault))?;
    let client = Client::new(config.path(&config.signer.socket), STATUS_TIMEOUT);
    let (welcome, head) = who(&client)?;
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
    let judged = before.as_ref().map(|known| has(&client, &known.head)).transpose()?;
    if let Some(Err(doubt)) = judged
        && !args.memory_is_lost
    {
        return Err(changed(doubt));
    }
    let now = KnownSigner { head, platform: welcome.platform, key: welcome.key };
    kept.replace(&now).map_err(|fault| unkept(&fault))?;
    let shown = json!({
        "key": key,
        "decisions": head.counter,
        "key_before": before.map(|known| hex::encode(&known.key)),
        "decisions_before": before.map(|known| known.head.counter),
        "same_memory": matches!(judged, Some(Ok(()))),
    });
    record(&mut std::io::stdout(), args.json, &shown)
}

//! `florin wallet`: wallets as the platform knows them, by public descriptors. Keys are the signer's alone and never pass here.

use super::Common;
use super::change::{KeyArgs, change};
use super::platform::{PageArgs, client};
use super::show::table;
use crate::config::Config;
use crate::failure::Failure;
use clap::{Args, Subcommand, ValueEnum};
use florin_signer::client::Client as SignerClient;
use florin_signer::protocol::{DescriptorsWanted, Outcome, Request, WalletDescriptors};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// How long the signer may take to name its wallets.
const SIGNER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Lists wallets with their descriptors and what they hold.
    List(PageArgs),
    /// Registers a wallet. Without descriptors the signer is asked for those of the wallet with this id.
    Register(RegisterArgs),
    /// Hands out an address for the house's inventory.
    Address {
        /// The wallet's id.
        #[arg(default_value_t = 1)]
        id: u32,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Retires a wallet for ever: it hands out no address and pays no new withdrawal. It is watched for ever all the same.
    Retire {
        /// The wallet's id.
        id: u32,
        /// Also where it holds coins. Only its keys can move them then: no withdrawal is paid from it any more.
        #[arg(long)]
        with_coins: bool,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TierWord {
    /// Signs by itself, within limits.
    Hot,
    /// Signs when people approve.
    Warm,
    /// Signs offline.
    Cold,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The wallet's id: the one by which the signer's policy names it.
    #[arg(long, default_value_t = 1)]
    id: u32,
    /// How near its keys are to the network.
    #[arg(long, value_enum, default_value = "hot")]
    tier: TierWord,
    /// The chain's id.
    #[arg(long, default_value_t = 1)]
    chain: u32,
    /// Its generation, counted from 1: a replaced key set is a new one.
    #[arg(long)]
    generation: Option<u32>,
    /// The first block that may concern it; the tip where absent.
    #[arg(long)]
    birthday: Option<u32>,
    /// The descriptor of receiving addresses.
    #[arg(long, requires = "internal")]
    external: Option<String>,
    /// The descriptor of change addresses.
    #[arg(long, requires = "external")]
    internal: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

pub(crate) fn run(command: WalletCommand, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        WalletCommand::List(page) => {
            let columns =
                ["id", "tier", "asset", "retired", "coins", "coins_amount", "next_external", "descriptor_external"];
            table(out, common.json, &client(common)?.get("/api/v1/wallets", &page.query())?, &columns)
        }
        WalletCommand::Register(args) => register(&args, common, out),
        WalletCommand::Address { id, key } => {
            change(common, &key, &format!("/api/v1/wallets/{id}/addresses"), &json!({}), out)
        }
        WalletCommand::Retire { id, with_coins, key } => {
            let body = json!({ "with_coins": with_coins });
            change(common, &key, &format!("/api/v1/wallets/{id}/retire"), &body, out)
        }
    }
}

fn register(args: &RegisterArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let (external, internal) = match (&args.external, &args.internal) {
        (Some(external), Some(internal)) => (external.clone(), internal.clone()),
        _ => {
            let wallet = from_signer(args.id, common)?;
            (wallet.external, wallet.internal)
        }
    };
    let tier = match args.tier {
        TierWord::Hot => "hot",
        TierWord::Warm => "warm",
        TierWord::Cold => "cold",
    };
    let mut body = json!({
        "id": args.id, "chain": args.chain, "tier": tier,
        "descriptor_external": external, "descriptor_internal": internal,
    });
    if let Some(generation) = args.generation {
        body["generation"] = json!(generation);
    }
    if let Some(birthday) = args.birthday {
        body["birthday"] = json!(birthday);
    }
    change(common, &args.key, "/api/v1/wallets", &body, out)
}

/// The descriptors that the signer derives for a wallet of its policy.
fn from_signer(id: u32, common: &Common) -> Result<WalletDescriptors, Failure> {
    let config = Config::read(&common.config)?;
    let signer = SignerClient::new(config.path(&config.signer.socket), SIGNER_TIMEOUT);
    let reply = signer.ask(&Request::Descriptors(DescriptorsWanted { memory: None })).map_err(|fault| {
        Failure::new(fault.code(), "the signer does not answer")
            .because(fault)
            .hint("start it with 'florin signer serve', or give both descriptors")
    })?;
    let Outcome::Descriptors(descriptors) = reply.outcome else {
        return Err(Failure::new("signer_answer_malformed", "the signer answered another question"));
    };
    descriptors.wallets.into_iter().find(|wallet| wallet.wallet.0 == id).ok_or_else(|| {
        Failure::new("wallet_unknown", format!("the signer's policy has no wallet {id}"))
            .hint("see the wallets in the signer's policy.toml")
    })
}

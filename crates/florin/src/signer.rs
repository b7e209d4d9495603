//! `florin signer`: makes the key store and the policy, and runs the signer as a process of its own. It opens no network port and reads nothing of the platform's.

use crate::config::{Config, FILE_NAME};
use crate::failure::Failure;
use crate::secret;
use clap::{Args, Subcommand};
use florin_chain::bitcoin::network::Network;
use florin_core::id::CommandId;
use florin_signer::client::Client;
use florin_signer::keystore::{KeyStore, Purpose};
use florin_signer::memory::Memory;
use florin_signer::policy::Policy;
use florin_signer::protocol::{Outcome, Request, StatusWanted};
use florin_signer::sealed::Passphrase;
use florin_signer::server;
use florin_signer::session::Signer;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The key store's file in the signer's folder.
pub const KEYS_FILE: &str = "keys.florin";
/// The policy's file.
pub const POLICY_FILE: &str = "policy.toml";
/// The memory's file.
pub const MEMORY_FILE: &str = "memory.sqlite3";
/// The socket.
pub const SOCKET_FILE: &str = "signer.sock";
/// How long the signer may take to answer a question that signs nothing.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// The signer: keys, policy, limits and memory, in a process of its own.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SignerCommand,
}

/// What the signer's command can do.
#[derive(Debug, Subcommand)]
pub enum SignerCommand {
    /// Draw a seed, show its words once, and write key store, policy and memory
    Init(InitArgs),
    /// Answer the platform's requests until told to stop
    Serve(ServeArgs),
    /// Show how a running signer stands
    Status(StatusArgs),
}

/// Where and for which platform the signer is made.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The platform's configuration: its id and network go into the policy
    #[arg(long, default_value = FILE_NAME)]
    pub config: PathBuf,
    /// The signer's folder; it must not hold a key store yet
    #[arg(long, default_value = "signer")]
    pub dir: PathBuf,
    /// A file with the passphrase, readable by its owner alone; asked for where it is not given
    #[arg(long)]
    pub passphrase_file: Option<PathBuf>,
    /// Mark the keys as play keys: they refuse main networks
    #[arg(long)]
    pub demo: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// What the signer serves.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The signer's folder
    #[arg(long, default_value = "signer")]
    pub dir: PathBuf,
    /// A file with the passphrase, readable by its owner alone; asked for where it is not given
    #[arg(long)]
    pub passphrase_file: Option<PathBuf>,
    /// End when standard input is closed: with whoever started it
    #[arg(long, requires = "passphrase_file")]
    pub until_stdin_closes: bool,
}

/// Which signer is asked.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The signer's folder
    #[arg(long, default_value = "signer")]
    pub dir: PathBuf,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `florin signer`.
///
/// # Errors
/// The signer's own codes, each with what it was about.
pub fn run(args: &SignerArgs) -> Result<(), Failure> {
    match &args.command {
        SignerCommand::Init(args) => init_command(args),
        SignerCommand::Serve(args) => {
            if args.until_stdin_closes {
                end_with_stdin();
            }
            serve(&args.dir, &secret::passphrase(args.passphrase_file.as_deref(), "Passphrase: ")?)
        }
        SignerCommand::Status(args) => status(args),
    }
}

/// Ends this process when standard input does, so that it never outlives whoever started it, however that one ends. Between any
/// two instructions that is safe: everything the signer promised is in its memory.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// What a new signer shows of itself. There is no `Debug`: it holds the words.
pub struct Fresh {
    /// The words of the seed: shown once, kept nowhere else.
    pub words: florin_chain::bitcoin::mnemonic::Mnemonic,
    /// The master key's fingerprint.
    pub fingerprint: String,
    /// The descriptor of receiving addresses of the policy's wallet.
    pub external: String,
    /// The descriptor of its change addresses.
    pub internal: String,
}

/// Makes a signer's folder: key store, policy, memory.
///
/// # Errors
/// The key store's and the memory's codes, `signer_folder`.
pub fn init(
    dir: &Path,
    platform: [u8; 16],
    network: Network,
    passphrase: &Passphrase,
    purpose: Purpose,
) -> Result<Fresh, Failure> {
    let folder = |fault| Failure::new("signer_folder", format!("{} can't be written", dir.display())).because(fault);
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(dir)
        .map_err(folder)?;
    let failed = |fault: florin_signer::keystore::KeyStoreError| {
        Failure::new(fault.code(), format!("no key store could be made in {}", dir.display())).because(fault)
    };
    let created = KeyStore::create(&dir.join(KEYS_FILE), passphrase, purpose).map_err(failed)?;
    let kit = created.store.kit(network, 0).map_err(failed)?;
    let entry = kit.entries.iter().find(|entry| entry.kind.name() == POLICY_SCRIPT).expect("a kit has every kind");
    std::fs::write(dir.join(POLICY_FILE), policy_text(platform, network)).map_err(folder)?;
    Memory::create(&dir.join(MEMORY_FILE), platform)
        .map_err(|fault| Failure::new(fault.code(), "the signer's memory can't be made").because(fault))?;
    Ok(Fresh {
        fingerprint: kit.fingerprint.to_string(),
        external: entry.external.clone(),
        internal: entry.internal.clone(),
        words: created.mnemonic,
    })
}

/// The script kind of the policy's first wallet: taproot, whose signatures commit to all inputs' amounts.
const POLICY_SCRIPT: &str = "tr";

fn policy_text(platform: [u8; 16], network: Network) -> String {
    format!(
        include_str!("policy.toml"),
        platform = CommandId(platform),
        network = network.name(),
        genesis = network.genesis_hash(),
        script = POLICY_SCRIPT,
    )
}

fn init_command(args: &InitArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config)?;
    let network = Network::parse(&config.bitcoin.network).expect("checked when it was read");
    let purpose = if args.demo { Purpose::Demo } else { Purpose::Real };
    let passphrase = secret::new_passphrase(args.passphrase_file.as_deref())?;
    let fresh = init(&args.dir, config.platform_id(), network, &passphrase, purpose)?;
    let words = fresh.words.expose_words();
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        let answer = json!({
            "words": &**words, "fingerprint": fresh.fingerprint, "dir": args.dir,
            "descriptor_external": fresh.external, "descriptor_internal": fresh.internal,
        });
        writeln!(out, "{answer}")
    } else {
        writeln!(
            out,
            "These words are the keys. Write them down now; they are shown once and stored nowhere else in the clear.\n\n  {}\n\n\
             Master key {} in {}. Read {} and set its limits, then run 'florin signer serve'.\n\n\
             The wallet's descriptors, for 'florin wallet register':\n  {}\n  {}",
            &**words,
            fresh.fingerprint,
            args.dir.display(),
            args.dir.join(POLICY_FILE).display(),
            fresh.external,
            fresh.internal
        )
    };
    written.map_err(|fault| Failure::new("output_failed", "the words could not be shown").because(fault))
}

/// Opens a signer's folder and answers on its socket.
///
/// # Errors
/// The codes of policy, key store, memory and socket.
pub fn serve(dir: &Path, passphrase: &Passphrase) -> Result<(), Failure> {
    let path = dir.join(POLICY_FILE);
    let text = std::fs::read_to_string(&path).map_err(|fault| {
        Failure::new("policy_missing", format!("{} can't be read", path.display()))
            .because(fault)
            .hint("run 'florin signer init'")
    })?;
    let policy =
        Policy::parse(&text).map_err(|fault| Failure::new(fault.code(), path.display().to_string()).because(fault))?;
    let keys = KeyStore::open(&dir.join(KEYS_FILE), passphrase)
        .map_err(|fault| Failure::new(fault.code(), "the key store can't be opened").because(fault))?;
    let memory = Memory::open(&dir.join(MEMORY_FILE), policy.platform)
        .map_err(|fault| Failure::new(fault.code(), "the signer's memory can't be opened").because(fault))?;
    let mut signer = Signer::new(&keys, policy, memory)
        .map_err(|fault| Failure::new(fault.code(), "the signer can't start").because(fault))?;
    drop(keys);
    let socket = dir.join(SOCKET_FILE);
    let listener = server::bind(&socket).map_err(|fault| {
        Failure::new("socket_failed", format!("{} can't be listened on", socket.display())).because(fault)
    })?;
    tracing::info!(socket = %socket.display(), "the signer answers");
    // A signal ends the process between any two instructions: everything it promised is in its memory.
    server::serve(&listener, &mut signer, server::system_clock, &AtomicBool::new(false))
        .map_err(|fault| Failure::new(fault.code(), "the signer had to stop").because(fault))
}

fn status(args: &StatusArgs) -> Result<(), Failure> {
    let client = Client::new(args.dir.join(SOCKET_FILE), STATUS_TIMEOUT);
    let reply = client.ask(&Request::Status(StatusWanted {})).map_err(|fault| {
        Failure::new(fault.code(), "the signer does not answer")
            .because(fault)
            .hint("start it with 'florin signer serve'")
    })?;
    let Outcome::Status(status) = reply.outcome else {
        return Err(Failure::new("signer_answer_malformed", "the signer answered another question"));
    };
    let wallets: Vec<_> = status
        .wallets
        .iter()
        .map(|wallet| {
            let left = |amount: florin_core::amount::Amount| amount.format(8);
            json!({ "wallet": wallet.wallet.0, "hour_left": left(wallet.hour_left), "day_left": left(wallet.day_left) })
        })
        .collect();
    let answer = json!({
        "decisions": reply.head.counter,
        "highest_seq": status.highest.map(|fence| fence.seq.0),
        "plans_signed": status.plans_signed,
        "plans_voided": status.plans_voided,
        "wallets": wallets,
    });
    let text = if args.json { answer.to_string() } else { serde_json::to_string_pretty(&answer).unwrap_or_default() };
    writeln!(std::io::stdout(), "{text}")
        .map_err(|fault| Failure::new("output_failed", "nothing could be shown").because(fault))
}

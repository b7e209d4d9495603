//! `florin signer`: makes the key store and the policy, and runs the signer as a process of its own. It opens no network port and reads nothing of the platform's.

use crate::cli::show::{line, record, rows};
use crate::config::{Config, FILE_NAME};
use crate::failure::Failure;
use crate::log::{self, Form};
use crate::panics;
use crate::secret;
pub use accept::AcceptArgs;
use clap::{Args, Subcommand};
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network;
use florin_core::hex;
use florin_signer::client::Client;
use florin_signer::judge::Uncounted;
use florin_signer::keystore::{KeyStore, Purpose};
use florin_signer::memory::Memory;
use florin_signer::peer::own_user;
use florin_signer::policy::{Callers, POLICY_SIZE_MAX, Policy};
use florin_signer::protocol::{Outcome, Request, StatusWanted};
use florin_signer::sealed::{Passphrase, SealedError};
use florin_signer::server::{self, Stop};
use florin_signer::session::Signer;
use florin_signer::stack;
use make::{Known, Origin, Restored, Wanted};
use serde_json::{Value, json};
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod accept;
mod ending;
mod make;

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
    /// Make the key store again from its words; a policy and a memory that stand there are kept
    Restore(RestoreArgs),
    /// Answer the platform's requests until told to stop
    Serve(ServeArgs),
    /// Show how a running signer stands
    Status(StatusArgs),
    /// Take the signer that answers for the platform's own, with the memory that it has now: after its memory was lost for good
    Accept(AcceptArgs),
}

/// Where and for which platform the signer is made.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The platform's configuration: its id and network go into the policy
    #[arg(long, default_value = FILE_NAME)]
    pub config: PathBuf,
    /// The signer's folder, from where this command runs; it must not hold a key store yet
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

/// What is restored, and where.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The platform's configuration: its id and network go into the policy, where the folder has none
    #[arg(long, default_value = FILE_NAME)]
    pub config: PathBuf,
    /// The signer's folder, from where this command runs; it must not hold a key store
    #[arg(long, default_value = "signer")]
    pub dir: PathBuf,
    /// A file with the words, readable by its owner alone; asked for where it is not given
    #[arg(long)]
    pub words_file: Option<PathBuf>,
    /// A file with the words' own passphrase (BIP-39), readable by its owner alone; words that 'signer init' showed have none
    #[arg(long)]
    pub mnemonic_passphrase_file: Option<PathBuf>,
    /// A file with the new key store's passphrase, readable by its owner alone; asked for where it is not given
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
    /// The signer's folder, from where this command runs
    #[arg(long, default_value = "signer")]
    pub dir: PathBuf,
    /// The socket, where it is not to be in the signer's folder
    #[arg(long)]
    pub socket: Option<PathBuf>,
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
    /// The signer's folder, from where this command runs
    #[arg(long, default_value = "signer")]
    pub dir: PathBuf,
    /// The socket, where it is not in the signer's folder
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `florin signer`; with `json` it logs so.
///
/// # Errors
/// `process_exposed`, then the signer's own codes, each with what it was about.
pub fn run(args: &SignerArgs, json: bool) -> Result<(), Failure> {
    secret::process::keep_to_itself()?;
    panics::keep_words();
    if !matches!(args.command, SignerCommand::Serve(_)) {
        log::start(Form::of_output(json), log::filter_of_command());
    }
    match &args.command {
        SignerCommand::Init(args) => init_command(args),
        SignerCommand::Restore(args) => restore_command(args),
        SignerCommand::Serve(args) => {
            // Whoever started it for a while is not told of what is in order.
            let level = if args.until_stdin_closes { "warn" } else { "info" };
            log::start(Form::of_service(json), log::filter(level));
            // Before anybody is asked for its passphrase.
            refuse_unmade(&args.dir)?;
            let passphrase = secret::passphrase(args.passphrase_file.as_deref(), "Passphrase: ")?;
            // Only now: it takes whatever standard input still has.
            let stop = ending::stop()?;
            if args.until_stdin_closes {
                ending::with_stdin(stop.clone());
            }
            serve(&args.dir, &socket(&args.dir, args.socket.as_deref()), passphrase, &stop)
        }
        SignerCommand::Status(args) => status(args),
        SignerCommand::Accept(args) => accept::accept(args),
    }
}

/// What a new signer shows of itself. There is no `Debug`: it holds the words.
pub struct Fresh {
    /// The words of the seed: shown once, kept nowhere else.
    pub words: Mnemonic,
    /// The master key's fingerprint.
    pub fingerprint: String,
    /// The descriptor of receiving addresses of the policy's wallet.
    pub external: String,
    /// The descriptor of its change addresses.
    pub internal: String,
}

/// Makes a signer's folder: key store, policy, memory; nothing of it where anything fails.
///
/// # Errors
/// `keys_demo`, `sealed_exists`, `policy_exists`, `memory_exists`, `signer_folder`, `policy_exposed`, the key store's and the
/// memory's codes, `signer_unfinished`.
pub fn init(
    dir: &Path,
    platform: [u8; 16],
    network: Network,
    passphrase: &Passphrase,
    purpose: Purpose,
) -> Result<Fresh, Failure> {
    let (making, fresh) = make::prepare(dir, Wanted { platform, network, purpose }, passphrase, &|_| Ok(()))?;
    making.finish()?;
    Ok(fresh)
}

fn socket(dir: &Path, named: Option<&Path>) -> PathBuf {
    named.map_or_else(|| dir.join(SOCKET_FILE), Path::to_path_buf)
}

fn purpose(demo: bool) -> Purpose {
    if demo { Purpose::Demo } else { Purpose::Real }
}

/// A platform's id and network, for its signer's policy.
fn wanted(config: &Path) -> Result<([u8; 16], Network), Failure> {
    let config = Config::read(config)?;
    let network = Network::parse(&config.bitcoin.network).expect("checked when it was read");
    Ok((config.platform_id(), network))
}

/// Words are shown before the keys get their name, and not after: keys whose words nobody saw are worse than words without keys.
fn init_command(args: &InitArgs) -> Result<(), Failure> {
    let (platform, network) = wanted(&args.config)?;
    let passphrase = secret::new_passphrase(args.passphrase_file.as_deref())?;
    let wanted = Wanted { platform, network, purpose: purpose(args.demo) };
    let (making, fresh) = make::prepare(&args.dir, wanted, &passphrase, &|_| Ok(()))?;
    let words = stack::wiped(|| fresh.words.expose_words());
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
    written.and_then(|()| out.flush()).map_err(|fault| {
        Failure::new("output_failed", "the words could not be shown, and no keys were made").because(fault)
    })?;
    making.finish()
}

fn restore_command(args: &RestoreArgs) -> Result<(), Failure> {
    // What can be told without asking anybody for a secret comes first.
    make::refuse_keys(&args.dir)?;
    let words = secret::words(args.words_file.as_deref())?;
    let words_passphrase = secret::words_passphrase(args.mnemonic_passphrase_file.as_deref())?;
    let passphrase = secret::new_passphrase(args.passphrase_file.as_deref())?;
    let known = Known { words: &words, words_passphrase: &words_passphrase };
    let restored =
        make::restore(&args.dir, || wanted(&args.config), &passphrase, purpose(args.demo), &known, &|_| Ok(()))?;
    let text = if args.json { restored_json(args, &restored).to_string() } else { restored_text(args, &restored) };
    writeln!(std::io::stdout(), "{text}")
        .map_err(|fault| Failure::new("output_failed", "the keys are restored and can't be shown").because(fault))
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Kept => "kept",
        Origin::Made => "made",
    }
}

fn restored_json(args: &RestoreArgs, restored: &Restored) -> Value {
    let wallets: Vec<_> = restored
        .wallets
        .iter()
        .map(|wallet| {
            json!({
                "id": wallet.id.0, "network": wallet.network.name(), "script": wallet.script.name(), "account": wallet.account,
                "descriptor_external": wallet.external, "descriptor_internal": wallet.internal,
            })
        })
        .collect();
    json!({
        "fingerprint": restored.fingerprint, "dir": args.dir, "policy": origin(restored.policy),
        "memory": origin(restored.memory), "wallets": wallets,
    })
}

fn restored_text(args: &RestoreArgs, restored: &Restored) -> String {
    let mut text = format!(
        "Master key {} in {}. Compare it with the one that was shown with the words: a wrong passphrase of the words gives other keys and no error.\n\
         The policy was {}, the memory {}.",
        restored.fingerprint,
        args.dir.display(),
        origin(restored.policy),
        origin(restored.memory),
    );
    if restored.policy == Origin::Made {
        text.push_str(" Read the policy and set its limits, operators and wallets: the words don't hold them.");
    }
    if restored.memory == Origin::Made {
        text.push_str(" A new memory knows nothing of what was signed: read 'Losing the signer' in operating.md before you start it.");
    }
    for wallet in &restored.wallets {
        let (network, script) = (wallet.network.name(), wallet.script.name());
        text.push_str(&format!("\n\nWallet {} ({network}, {script}, account {}):\n  ", wallet.id.0, wallet.account));
        text.push_str(&format!("{}\n  {}", wallet.external, wallet.internal));
    }
    text
}

/// Reads a signer's own policy. Who may write it may lift every limit: so it and its folder belong to the signer's user, or to
/// root, and nobody else writes there.
fn own_policy(dir: &Path) -> Result<Policy, Failure> {
    let path = dir.join(POLICY_FILE);
    // A link to nothing stands there, too, and 'signer init' makes nothing in its place.
    let stands = || path.symlink_metadata().is_ok();
    let unreadable = |fault: Error| match fault.kind() {
        ErrorKind::NotFound if !stands() => Failure::new("policy_missing", format!("there is no {}", path.display()))
            .because(fault)
            .hint("run 'florin signer init'"),
        // It is there, and says what nobody else knows: a new one is not the way out.
        _ => Failure::new("policy_unreadable", format!("{} can't be read", path.display()))
            .because(fault)
            .hint("it is text in UTF-8 that the signer's user may read: mend it, or put it back from a backup"),
    };
    let file = File::open(&path).map_err(unreadable)?;
    refuse_exposed_folder(dir)?;
    refuse_exposed(&path, &file.metadata().map_err(unreadable)?, own_user())?;
    let mut text = String::new();
    file.take(POLICY_SIZE_MAX as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    Policy::parse(&text).map_err(|fault| Failure::new(fault.code(), path.display().to_string()).because(fault))
}

/// Refuses a folder in which nothing can be opened, whatever the passphrase.
///
/// # Errors
/// As [`own_policy`], then `sealed_missing`.
fn refuse_unmade(dir: &Path) -> Result<(), Failure> {
    own_policy(dir)?;
    let keys = dir.join(KEYS_FILE);
    match keys.symlink_metadata() {
        Err(fault) if fault.kind() == ErrorKind::NotFound => {
            let missing = SealedError::Missing;
            Err(Failure::new(missing.code(), format!("there is no {}", keys.display()))
                .because(missing)
                // With a policy there were keys, and coins may be on their addresses.
                .hint("make it again from its words: 'florin signer restore' keeps the policy and the memory that stand here"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn refuse_exposed_folder(dir: &Path) -> Result<(), Failure> {
    let metadata = dir.metadata().map_err(|fault| {
        Failure::new("signer_folder", format!("{} can't be looked at", dir.display())).because(fault)
    })?;
    refuse_exposed(dir, &metadata, own_user())
}

/// Refuses what others than `own` and root may write.
fn refuse_exposed(path: &Path, metadata: &Metadata, own: u32) -> Result<(), Failure> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != own && owner != 0 {
        return Err(Failure::new("policy_exposed", format!("{} belongs to user {owner}", path.display()))
            .hint("the signer's folder and policy belong to the signer's user: chown them"));
    }
    if mode & 0o022 != 0 {
        return Err(Failure::new("policy_exposed", format!("others may write {} (mode {mode:o})", path.display()))
            .hint("chmod go-w, and read the policy before you start the signer"));
    }
    Ok(())
}

/// Opens a signer's folder and answers on its socket, until `stop` is told, or the process by a signal. Its memory is then one
/// file, without a log.
///
/// # Errors
/// `signals_failed`, `policy_missing`, `policy_unreadable`, `signer_folder`, `policy_exposed`, then the codes of policy, key store, memory and socket.
pub fn serve(dir: &Path, socket: &Path, passphrase: Passphrase, stop: &Arc<Stop>) -> Result<(), Failure> {
    let policy = own_policy(dir)?;
    let callers = policy.callers;
    let keys = KeyStore::open(&dir.join(KEYS_FILE), &passphrase)
        .map_err(|fault| Failure::new(fault.code(), "the key store can't be opened").because(fault))?;
    // As the seed below: neither is needed again, and the server may run for years.
    drop(passphrase);
    let memory = Memory::open(&dir.join(MEMORY_FILE), policy.platform)
        .map_err(|fault| Failure::new(fault.code(), "the signer's memory can't be opened").because(fault))?;
    let mut signer = Signer::new(&keys, policy, memory)
        .map_err(|fault| Failure::new(fault.code(), "the signer can't start").because(fault))?
        .telling(log_uncounted);
    drop(keys);
    ending::on_signals(stop.clone())?;
    let listener = listen(socket, callers)?;
    tracing::info!(socket = %socket.display(), "the signer answers");
    server::serve(&listener, &mut signer, server::system_clock, stop)
        .map_err(|fault| Failure::new(fault.code(), "the signer had to stop").because(fault))?;
    signer.end().map_err(|fault| Failure::new(fault.code(), "the signer's memory can't be settled").because(fault))?;
    tracing::info!("the signer ends");
    Ok(())
}

/// Says which approval does not count: where others suffice, nothing else would.
fn log_uncounted(uncounted: &Uncounted) {
    let (withdrawal, key, code) = (uncounted.withdrawal, hex::encode(&uncounted.key), uncounted.reason.code());
    tracing::warn!(%withdrawal, key, code, "an approval does not count");
}

fn listen(socket: &Path, callers: Callers) -> Result<server::Listener, Failure> {
    let listener = server::bind(socket, callers).map_err(|fault| {
        let group = callers.group.filter(|_| fault.kind() == ErrorKind::PermissionDenied);
        let failure =
            Failure::new("socket_failed", format!("{} can't be listened on", socket.display())).because(fault);
        match group {
            Some(group) => failure.hint(format!("the signer's user has to be a member of platform_gid {group}")),
            None => failure,
        }
    })?;
    if let Some(group) = callers.group
        && !is_passable(socket, group)
    {
        tracing::warn!(
            socket = %socket.display(),
            group,
            "the socket's folder does not let the platform's group through: chgrp and chmod 710 it, or name another with --socket"
        );
    }
    Ok(listener.telling(|user| {
        tracing::warn!(user, "somebody whom the policy does not name asked the signer, and got no answer")
    }))
}

/// Whether members of a group get through the folder of a socket, as far as its mode says.
fn is_passable(socket: &Path, group: u32) -> bool {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder.metadata().is_ok_and(|found| found.mode() & if found.gid() == group { 0o010 } else { 0o001 } != 0)
}

fn status(args: &StatusArgs) -> Result<(), Failure> {
    let client = Client::new(socket(&args.dir, args.socket.as_deref()), STATUS_TIMEOUT);
    let reply = client.ask(&Request::Status(StatusWanted { memory: None })).map_err(|fault| {
        Failure::new(fault.code(), "the signer does not answer")
            .because(fault)
            .hint("start it with 'florin signer serve'")
    })?;
    let Outcome::Status(status) = reply.outcome else {
        return Err(Failure::new("signer_answer_malformed", "the signer answered another question"));
    };
    let (welcome, _) = accept::who(&client)?;
    let wallets: Vec<_> = status
        .wallets
        .iter()
        .map(|wallet| {
            let left = |amount: florin_core::amount::Amount| amount.format(8);
            json!({ "wallet": wallet.wallet.0, "hour_left": left(wallet.hour_left), "day_left": left(wallet.day_left) })
        })
        .collect();
    let answer = json!({
        "key": hex::encode(&welcome.key),
        "decisions": reply.head.counter,
        "highest_seq": status.highest.map(|fence| fence.seq.0),
        "plans_signed": status.plans_signed,
        "plans_voided": status.plans_voided,
        "wallets": wallets,
    });
    show_status(&mut std::io::stdout(), args.json, answer)
}

/// JSON for machines; for people a record, and a table of what each wallet may still pay.
fn show_status(out: &mut dyn Write, json: bool, mut answer: Value) -> Result<(), Failure> {
    if json {
        return line(out, &answer.to_string());
    }
    let wallets = answer["wallets"].take();
    record(out, false, &answer)?;
    line(out, "\nwallets")?;
    rows(out, wallets.as_array().map_or(&[], Vec::as_slice), &["wallet", "hour_left", "day_left"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_status_is_text_for_people_and_json_for_machines() {
        let wallet = json!({ "wallet": 1, "hour_left": "0.50000000", "day_left": "1.00000000" });
        let answer =
            json!({ "decisions": 7, "highest_seq": null, "plans_signed": 2, "plans_voided": 0, "wallets": [wallet] });
        let shown = |json| {
            let mut out = Vec::new();
            show_status(&mut out, json, answer.clone()).expect("memory takes everything");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(serde_json::from_str::<Value>(&shown(true)).expect("JSON"), answer);
        expect![[r"
            decisions     7
            plans_signed  2
            plans_voided  0

            wallets
            wallet  hour_left   day_left
            1       0.50000000  1.00000000
        "]]
        .assert_eq(&shown(false));
    }
}

//! The command line: what can be said, and what is printed. It holds no rule of its own: commands go to the interface or to
//! the module that does the work.
//!
//! Exit codes: 0 done, 1 failed, 2 said wrongly, 130 told to end, 141 nobody reads any more. Not from here: 70 and 74 of an engine or a
//! journal that can't go on (`crate::platform::exit_code`), 101 of a panic.

mod against_chain;
mod against_descriptors;
mod against_segments;
mod against_snapshots;
mod against_tables;
mod against_witnesses;
mod asset;
mod change;
mod checkpoint;
mod correct;
mod ledger;
mod plan;
mod platform;
mod progress;
mod prune;
mod reading;
mod serve;
pub(crate) mod show;
mod verify;
mod wallet;

use crate::failure::Failure;
use crate::log::{self, Form};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// The exit code of a command that failed.
pub const EXIT_FAILED: u8 = 1;
/// The exit code of a command line that can't be read.
pub const EXIT_USAGE: u8 = 2;
/// The exit code of a command that was told to end by a signal, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;
/// The exit code of a command whose reader has gone, as shells have it: `florin … | head` is no failure of anybody's.
pub const EXIT_PIPE: u8 = 141;

/// An open, self-hosted platform for digital assets.
#[derive(Debug, Parser)]
#[command(name = "florin", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Begin with 'florin demo', which needs nothing, or with 'florin init'.")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", env = "FLORIN_CONFIG", default_value = crate::config::FILE_NAME)]
    pub config: PathBuf,
    /// Prints JSON, also for errors.
    #[arg(long, global = true)]
    pub json: bool,
    /// The platform's address, instead of the configuration's.
    #[arg(long, global = true, value_name = "URL", env = "FLORIN_URL")]
    pub url: Option<String>,
    /// The file with the operator's token, instead of the configuration's.
    #[arg(long, global = true, value_name = "FILE", env = "FLORIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays the whole story on a network in process, then stays up.
    Demo(crate::demo::DemoArgs),
    /// Writes a commented florin.toml, the data folder and the operator's token. Overwrites nothing.
    Init(serve::InitArgs),
    /// Runs the platform in the foreground until it is told to stop.
    Serve,
    /// Shows how the platform stands: nodes, halts, alarms.
    Status,
    /// Customers: new, list, show, forget the name, balances, transfers, addresses.
    #[command(subcommand)]
    Customer(platform::CustomerCommand),
    /// Deposits: list, show.
    #[command(subcommand)]
    Deposit(platform::DepositCommand),
    /// Quotes: ask for one to buy or sell, show, list.
    #[command(subcommand)]
    Quote(platform::QuoteCommand),
    /// Accepts a quote: the exchange is done at once.
    Accept(platform::AcceptArgs),
    /// Asks for a withdrawal.
    Withdraw(platform::WithdrawArgs),
    /// Withdrawals: list, show, approve, cancel.
    #[command(subcommand)]
    Withdrawal(platform::WithdrawalCommand),
    /// Plans, the transactions that pay withdrawals: list, show, end one that can never confirm.
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Prices: set, list.
    #[command(subcommand)]
    Price(platform::PriceCommand),
    /// Books money that arrived at the bank.
    BankReceipt(platform::BankReceiptArgs),
    /// Puts right what was booked wrongly, by a new transfer between accounts of customers and of the house.
    ///
    /// Nothing in the books is ever changed: the wrong entry stays, and the correction stands after it with its reference.
    /// A correction that was wrong itself is put right by another one.
    ///
    /// The amount goes from --debit to --credit. Each is a customer's id, or one of the house's accounts: 'inventory', what
    /// quotes are filled from and the house pays from; 'fees' and 'spread', what it earned. --credit takes 'bank' as well,
    /// for money that is not at the bank: it was booked as received and was not, or went back to its sender. All other
    /// accounts of the house follow from blocks and deposits. No more is taken than is there and not held, and of fees no
    /// more than the network left of them.
    ///
    /// A receipt booked to the wrong customer:
    ///   florin correct --reference case-17 --asset EUR --amount 100.00 --debit WRONG --credit RIGHT
    #[command(verbatim_doc_comment)]
    Correct(correct::CorrectArgs),
    /// Assets and their policies: list, show, change.
    #[command(subcommand)]
    Asset(asset::AssetCommand),
    /// Chains that are followed, and the transactions on them that pay us or that we sent.
    #[command(subcommand)]
    Chain(platform::ChainCommand),
    /// Blocks that are followed.
    #[command(subcommand)]
    Block(platform::BlockCommand),
    /// Events, in order, resuming at any row; and what happened to something.
    #[command(subcommand)]
    Event(platform::EventCommand),
    /// Shows the books of each asset, and whether they are balanced.
    Books,
    /// Halts an action at once.
    Halt(platform::HaltArgs),
    /// Ends a halt.
    Resume(platform::ResumeArgs),
    /// Confirms the clock after a jump.
    ConfirmTime(platform::ConfirmTimeArgs),
    /// Wallets by their public descriptors: list, register, retire, inventory addresses.
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// The journal: verify, head, checkpoint, schema, export, prune.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// The signer: keys, policy, limits and memory, in a process of its own.
    Signer(crate::signer::SignerArgs),
    /// An operator's key, and approvals made with it on the operator's own machine.
    Approve(crate::approve::ApproveArgs),
}

/// Runs a command line, prints, and gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(fault) => return say_usage(&fault, arguments.iter().any(|word| word == "--json"), out, err),
    };
    match execute(cli.command, &cli.common, out) {
        Ok(()) => 0,
        // A change is done though nobody reads that it is: its key is told all the same.
        Err(failure) if failure.is_pipe_closed() && failure.key().is_none() => EXIT_PIPE,
        Err(failure) => {
            let failure = with_way_out(failure);
            let text = if cli.common.json { failure.to_json().to_string() } else { failure.to_string() };
            // Where even this can't be written, the exit code says it.
            drop(writeln!(err, "{text}"));
            if failure.code() == "interrupted" { EXIT_INTERRUPTED } else { EXIT_FAILED }
        }
    }
}

/// A failure that names no way out of its own gets that of its code.
fn with_way_out(failure: Failure) -> Failure {
    match crate::api::code::way_out(failure.code()) {
        Some(way_out) if failure.to_json()["hint"].is_null() => failure.hint(way_out),
        _ => failure,
    }
}

fn say_usage(fault: &clap::Error, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let text = fault.render();
    if matches!(fault.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match write!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => 0,
            Err(fault) if fault.kind() == std::io::ErrorKind::BrokenPipe => EXIT_PIPE,
            Err(_) => EXIT_FAILED,
        };
    }
    let written = if json {
        let message = text.to_string();
        // The fault itself is above the first empty line: what follows is how the command is used.
        let fault: Vec<&str> = message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let failure = Failure::new("usage", fault.join(" ").trim_start_matches("error: ")).hint("see --help");
        writeln!(err, "{}", failure.to_json())
    } else {
        write!(err, "{text}")
    };
    drop(written);
    EXIT_USAGE
}

fn execute(command: Command, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    // These begin a log of their own.
    if !matches!(command, Command::Serve | Command::Demo(_) | Command::Signer(_)) {
        log::start(Form::of_output(common.json), log::filter_of_command());
    }
    match command {
        Command::Init(args) => serve::init(&args, common, out),
        Command::Serve => serve::serve(common, out),
        Command::Status => platform::status(common, out),
        Command::Customer(command) => platform::customer(command, common, out),
        Command::Deposit(command) => platform::deposit(command, common, out),
        Command::Quote(command) => platform::quote(command, common, out),
        Command::Accept(args) => platform::accept(&args, common, out),
        Command::Withdraw(args) => platform::withdraw(&args, common, out),
        Command::Withdrawal(command) => platform::withdrawal(command, common, out),
        Command::Plan(command) => plan::run(command, common, out),
        Command::Price(command) => platform::price(command, common, out),
        Command::BankReceipt(args) => platform::bank_receipt(&args, common, out),
        Command::Correct(args) => correct::run(&args, common, out),
        Command::Asset(command) => asset::run(command, common, out),
        Command::Chain(command) => platform::chain(command, common, out),
        Command::Block(command) => platform::block(command, common, out),
        Command::Event(command) => platform::event(command, common, out),
        Command::Books => platform::books(common, out),
        Command::Halt(args) => platform::halt(&args, common, out),
        Command::Resume(args) => platform::resume(&args, common, out),
        Command::ConfirmTime(args) => platform::confirm_time(&args, common, out),
        Command::Wallet(command) => wallet::run(command, common, out),
        Command::Ledger(command) => ledger::run(command, common, out),
        Command::Demo(args) => crate::demo::run(&args, common.json),
        Command::Signer(args) => crate::signer::run(&args, common.json),
        Command::Approve(args) => crate::approve::run(&args),
    }
}

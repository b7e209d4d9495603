//! The commands that speak to a running platform. Each is one request, and what came of it is printed.

use super::Common;
use super::change::{KeyArgs, change};
use super::show::{line, record, rows, table, table_by};
use crate::api::token;
use crate::client::Client;
use crate::config::Config;
use crate::failure::Failure;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Write;

pub(super) type Done = Result<(), Failure>;

/// How long a tail waits for the next row in one request.
const TAIL_WAIT_MS: u64 = 20_000;

/// Which part of a list.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// Begins after this item, as the page before said.
    #[arg(long)]
    after: Option<String>,
    /// How many at most: 1 to 500.
    #[arg(long)]
    limit: Option<u32>,
}

impl PageArgs {
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let after = self.after.clone().map(|after| ("after", after));
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        after.into_iter().chain(limit).collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum CustomerCommand {
    /// Opens a customer.
    New {
        /// The name. It is kept apart from the journal.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Lists customers.
    List(PageArgs),
    /// Shows a customer.
    Show {
        /// The customer's id.
        id: String,
    },
    /// Erases a customer's name, for good. What was booked stays, under an id that leads to nobody.
    ForgetName {
        /// The customer's id.
        id: String,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Shows what a customer has: available, held, pending, frozen.
    Balances {
        /// The customer's id.
        id: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists the addresses that were handed out for a customer.
    Addresses {
        /// The customer's id.
        id: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists what moved on a customer's account, the newest first.
    Transfers {
        /// The customer's id.
        id: String,
        /// The asset's code.
        #[arg(long, default_value = "BTC")]
        asset: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Hands out a fresh deposit address.
    Address {
        /// The customer's id.
        id: String,
        /// The code of a coin.
        #[arg(long, default_value = "BTC")]
        asset: String,
        /// The wallet; the newest hot one where absent.
        #[arg(long)]
        wallet: Option<u32>,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DepositCommand {
    /// Lists deposits, and what each waits for: those that were seen last come first, finished ones are included.
    List {
        /// Only those of this customer.
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows a deposit, a finished one too.
    Show {
        /// The deposit's id.
        #[arg(value_name = "TXID:VOUT")]
        id: String,
        /// The chain's id.
        #[arg(long, default_value_t = 1)]
        chain: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuoteCommand {
    /// Asks for a quote to pay quote and receive base.
    Buy(QuoteArgs),
    /// Asks for a quote to pay base and receive quote.
    Sell(QuoteArgs),
    /// Shows a quote, and what became of it.
    Show {
        /// The quote's id.
        id: String,
    },
    /// Lists a customer's quotes, those that ended included: those that were requested last come first.
    List {
        /// The customer's id.
        #[arg(long)]
        customer: String,
        #[command(flatten)]
        page: PageArgs,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("how_much").required(true).args(["amount", "quote_amount"])))]
pub(crate) struct QuoteArgs {
    /// The customer's id.
    #[arg(long)]
    customer: String,
    /// What is bought or sold.
    #[arg(long, default_value = "BTC")]
    base: String,
    /// What it is paid in.
    #[arg(long, default_value = "EUR")]
    quote: String,
    /// How much of base.
    #[arg(long)]
    amount: Option<String>,
    /// Or how much of quote.
    #[arg(long)]
    quote_amount: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    /// The quote's id.
    quote: String,
    /// The customer's id.
    #[arg(long)]
    customer: String,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// The customer's id.
    #[arg(long)]
    customer: String,
    /// The code of a coin.
    #[arg(long, default_value = "BTC")]
    asset: String,
    /// What arrives; the fee comes on top.
    #[arg(long)]
    amount: String,
    /// Where to.
    #[arg(long)]
    address: String,
    /// The wallet that pays; the newest hot one where absent.
    #[arg(long)]
    wallet: Option<u32>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WithdrawalCommand {
    /// Lists withdrawals: those that were requested last come first, finished ones are included.
    List {
        /// Only those of this customer.
        #[arg(long)]
        customer: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows a withdrawal, a finished one too.
    Show {
        /// The withdrawal's id.
        id: String,
    },
    /// Takes a withdrawal back, as long as its signing was not requested.
    Cancel {
        /// The withdrawal's id.
        id: String,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Delivers an approval that 'florin approve intent' made.
    Approve {
        /// The withdrawal's id.
        id: String,
        /// The operator's public key, in hexadecimal.
        #[arg(long, value_name = "PUBLIC_KEY")]
        operator: String,
        /// The signature, in hexadecimal.
        #[arg(long)]
        signature: String,
        /// It has all approvals now that the signer's policy asks for: the signer is asked next.
        #[arg(long)]
        complete: bool,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PriceCommand {
    /// Sets a price, as of now.
    Set {
        /// What is bought and sold.
        base: String,
        /// What it is paid in.
        quote: String,
        /// What one whole unit of base costs.
        price: String,
        /// How many seconds it may be quoted from.
        #[arg(long)]
        age_max_s: Option<u64>,
        /// The margin on either side, in hundredths of a percent.
        #[arg(long)]
        spread_bp: Option<u32>,
        /// How many seconds a quote stands.
        #[arg(long)]
        quote_s: Option<u64>,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Lists the newest price of each pair.
    List(PageArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Lists the chains that are followed.
    List,
    /// Lists the transactions that pay us or that we sent, as long as their blocks may be taken back: deposits first.
    Transactions {
        /// The chain's id.
        #[arg(long, default_value_t = 1)]
        chain: u32,
        #[command(flatten)]
        page: PageArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BankReceiptArgs {
    /// The bank's reference, taken once for ever. No names of people: it stays in the journal.
    #[arg(long)]
    reference: String,
    /// The asset's code.
    #[arg(long, default_value = "EUR")]
    asset: String,
    /// What arrived.
    #[arg(long)]
    amount: String,
    /// Whom it is for: a customer's id, or 'inventory'.
    #[arg(long = "for", value_name = "BENEFICIARY")]
    beneficiary: String,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BlockCommand {
    /// Lists journalled blocks, the tip first.
    List {
        /// The chain's id.
        #[arg(long, default_value_t = 1)]
        chain: u32,
        /// Only blocks below this height.
        #[arg(long)]
        below: Option<u32>,
        /// How many at most: 1 to 500.
        #[arg(long)]
        limit: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Prints events as they come. With --after it resumes there; with --once it ends at the last one.
    Tail {
        /// Begins after this row; 0 is the beginning. The present end where absent.
        #[arg(long)]
        after: Option<u64>,
        /// Ends at the last event instead of waiting for more.
        #[arg(long)]
        once: bool,
    },
    /// Prints what happened to something, oldest first.
    History {
        /// Its id, its hash, TXID:VOUT, or plan:1, wallet:1, account:1, hold:1.
        #[arg(value_name = "NAME")]
        subject: String,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// What each halt stops, and how it is lifted.
const HALTS: &str = "\
What each action stops:
  credit    No deposit is credited, no bank receipt booked, no correction made in a customer's
            favour. Deposits are still seen and counted.
  quote     No quote is made or accepted; of one asset, none of a pair with it.
  withdraw  No withdrawal is accepted. Those accepted before are planned, signed and sent.
  sign      Nothing is planned or signed. Withdrawals are accepted and wait; what is signed is sent.

Where money may be leaving that should not, it is 'florin halt sign'.

A halt made here lasts until 'florin resume ACTION', with --asset where it was made with it. What
waited goes on by itself then. 'florin status' lists what is halted, and why.";

/// Why something may be halted, and when it may be lifted.
const RESUMES: &str = "\
A halt is lifted by its action, asset and reason, as 'florin status' lists it. Halts of one action
for several reasons stand beside each other, and it stays halted until the last is lifted.

When to lift which reason:
  operator             When what it was made for is over: somebody halted it by 'florin halt'.
  chain_split          Not at all: it ends by itself when the nodes agree. See which are wrong.
  stale                Not at all: it ends by itself when nodes answer and blocks come.
  foreign_spend        When it is known who spent coins of ours. Until then it is a key leak.
  deep_reorganisation  When 'florin ledger verify' finds books and chain agreed.
  signer_fenced        When journal and signer know the same past: see 'A journal that was set
                       back' in operating.md.

What each action stops, 'florin halt --help' says.";

#[derive(Debug, Args)]
#[command(after_help = HALTS)]
pub(crate) struct HaltArgs {
    /// What is halted: credit, quote, withdraw or sign, as said below.
    action: String,
    /// The asset's code; all assets where absent.
    #[arg(long)]
    asset: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
#[command(after_help = RESUMES)]
pub(crate) struct ResumeArgs {
    /// What goes on: credit, quote, withdraw or sign.
    action: String,
    /// The halt's asset; absent where it is of all.
    #[arg(long)]
    asset: Option<String>,
    /// The halt's reason, as said below.
    #[arg(long, default_value = "operator")]
    reason: String,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfirmTimeArgs {
    #[command(flatten)]
    key: KeyArgs,
}

/// The client that the common arguments name.
///
/// # Errors
/// Those of the configuration and of the token's file.
pub(crate) fn client(common: &Common) -> Result<Client, Failure> {
    if let (Some(url), Some(file)) = (&common.url, &common.token_file) {
        return Ok(Client::new(url, &token::read_text(file)?));
    }
    let config = Config::read(&common.config)?;
    let file = common.token_file.clone().unwrap_or_else(|| config.path(&config.api.token_file));
    let url = common.url.clone().unwrap_or_else(|| format!("http://{}", config.api.listen));
    Ok(Client::new(&url, &token::read_text(&file)?))
}

/// One part of a path: a slash or a question mark in it must not lead elsewhere.
pub(super) fn part(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_:".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// The fields that are given.
pub(super) fn body(fields: &[(&str, Value)]) -> Value {
    let given = fields.iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

pub(crate) fn status(common: &Common, out: &mut dyn Write) -> Done {
    let mut status = client(common)?.get("/api/v1/status", &[])?;
    if common.json {
        return line(out, &status.to_string());
    }
    let mut take = |name: &str| status.as_object_mut().and_then(|fields| fields.remove(name)).unwrap_or_default();
    let (chains, waiting, halts, alarms) = (take("chains"), take("waiting"), take("halts"), take("alarms"));
    record(out, false, &status)?;
    for chain in chains.as_array().into_iter().flatten() {
        line(out, &format!("\nchain {}", chain["name"].as_str().unwrap_or("?")))?;
        let height = |block: &Value| block.get("height").cloned().unwrap_or_default();
        let agreed = &chain["agreed_height"];
        record(out, false, &json!({ "tip": height(&chain["tip"]), "best": height(&chain["best"]), "agreed": agreed }))?;
        section(out, "nodes", &chain["nodes"], &["name", "group", "state", "height", "reason"])?;
    }
    section(out, "waiting", &waiting, &["lane", "waiting", "max"])?;
    section(out, "halts", &halts, &["asset", "action", "reason"])?;
    section(out, "alarms", &alarms, &["code", "subject", "detail"])
}

fn section(out: &mut dyn Write, title: &str, items: &Value, columns: &[&str]) -> Done {
    line(out, &format!("\n{title}"))?;
    rows(out, items.as_array().map_or(&[], Vec::as_slice), columns)
}

pub(crate) fn customer(command: CustomerCommand, common: &Common, out: &mut dyn Write) -> Done {
    let client = client(common)?;
    match command {
        CustomerCommand::New { name, key } => {
            change(common, &key, "/api/v1/customers", &body(&[("name", json!(name))]), out)
        }
        CustomerCommand::List(page) => {
            table(out, common.json, &client.get("/api/v1/customers", &page.query())?, &["id", "name", "freezes"])
        }
        CustomerCommand::Show { id } => {
            record(out, common.json, &client.get(&format!("/api/v1/customers/{}", part(&id)), &[])?)
        }
        CustomerCommand::ForgetName { id, key } => {
            change(common, &key, &format!("/api/v1/customers/{}/forget-name", part(&id)), &json!({}), out)
        }
        CustomerCommand::Balances { id, page } => {
            let page = client.get(&format!("/api/v1/customers/{}/balances", part(&id)), &page.query())?;
            table(out, common.json, &page, &["asset", "available", "held", "pending", "frozen"])
        }
        CustomerCommand::Addresses { id, page } => {
            let page = client.get(&format!("/api/v1/customers/{}/addresses", part(&id)), &page.query())?;
            table(out, common.json, &page, &["wallet", "branch", "index", "address", "issued_ms"])
        }
        CustomerCommand::Transfers { id, asset, page } => {
            let query: Vec<_> = page.query().into_iter().chain([("asset", asset)]).collect();
            let page = client.get(&format!("/api/v1/customers/{}/transfers", part(&id)), &query)?;
            table(out, common.json, &page, &["seq", "time_ms", "direction", "amount", "reason", "other"])
        }
        CustomerCommand::Address { id, asset, wallet, key } => {
            let body = body(&[("asset", json!(asset)), ("wallet", json!(wallet))]);
            change(common, &key, &format!("/api/v1/customers/{}/addresses", part(&id)), &body, out)
        }
    }
}

pub(crate) fn deposit(command: DepositCommand, common: &Common, out: &mut dyn Write) -> Done {
    let client = client(common)?;
    match command {
        DepositCommand::List { customer, page } => {
            let deposits = client.get(&path_of("deposits", customer.as_deref()), &page.query())?;
            table(out, common.json, &deposits, &["id", "asset", "amount", "status", "confirmations", "waits_for"])
        }
        DepositCommand::Show { id, chain } => {
            let query = [("chain", chain.to_string())];
            record(out, common.json, &client.get(&format!("/api/v1/deposits/{}", part(&id)), &query)?)
        }
    }
}

/// The path of a list: of all, or of one customer's.
fn path_of(list: &str, customer: Option<&str>) -> String {
    match customer {
        Some(id) => format!("/api/v1/customers/{}/{list}", part(id)),
        None => format!("/api/v1/{list}"),
    }
}

pub(crate) fn quote(command: QuoteCommand, common: &Common, out: &mut dyn Write) -> Done {
    match command {
        QuoteCommand::Buy(args) => request_quote("buy", &args, common, out),
        QuoteCommand::Sell(args) => request_quote("sell", &args, common, out),
        QuoteCommand::Show { id } => {
            record(out, common.json, &client(common)?.get(&format!("/api/v1/quotes/{}", part(&id)), &[])?)
        }
        QuoteCommand::List { customer, page } => {
            let quotes = client(common)?.get(&path_of("quotes", Some(&customer)), &page.query())?;
            let columns = ["id", "side", "base_amount", "base", "quote_amount", "quote", "status"];
            table(out, common.json, &quotes, &columns)
        }
    }
}

fn request_quote(side: &str, args: &QuoteArgs, common: &Common, out: &mut dyn Write) -> Done {
    let body = body(&[
        ("customer", json!(args.customer)),
        ("side", json!(side)),
        ("base", json!(args.base)),
        ("quote", json!(args.quote)),
        ("base_amount", json!(args.amount)),
        ("quote_amount", json!(args.quote_amount)),
    ]);
    change(common, &args.key, "/api/v1/quotes", &body, out)
}

pub(crate) fn accept(args: &AcceptArgs, common: &Common, out: &mut dyn Write) -> Done {
    let path = format!("/api/v1/quotes/{}/accept", part(&args.quote));
    change(common, &args.key, &path, &json!({ "customer": args.customer }), out)
}

pub(crate) fn withdraw(args: &WithdrawArgs, common: &Common, out: &mut dyn Write) -> Done {
    let body = body(&[
        ("customer", json!(args.customer)),
        ("asset", json!(args.asset)),
        ("amount", json!(args.amount)),
        ("address", json!(args.address)),
        ("wallet", json!(args.wallet)),
    ]);
    change(common, &args.key, "/api/v1/withdrawals", &body, out)
}

pub(crate) fn withdrawal(command: WithdrawalCommand, common: &Common, out: &mut dyn Write) -> Done {
    let client = client(common)?;
    match command {
        WithdrawalCommand::List { customer, page } => {
            let page = client.get(&path_of("withdrawals", customer.as_deref()), &page.query())?;
            let page = if common.json { page } else { with_sent(page) };
            table(out, common.json, &page, &["id", "asset", "amount", "fee", "status", "confirmations", "txid"])
        }
        WithdrawalCommand::Show { id } => {
            record(out, common.json, &client.get(&format!("/api/v1/withdrawals/{}", part(&id)), &[])?)
        }
        WithdrawalCommand::Cancel { id, key } => {
            change(common, &key, &format!("/api/v1/withdrawals/{}/cancel", part(&id)), &json!({}), out)
        }
        WithdrawalCommand::Approve { id, operator, signature, complete, key } => {
            let body = json!({ "key": operator, "signature": signature, "complete": complete });
            change(common, &key, &format!("/api/v1/withdrawals/{}/approvals", part(&id)), &body, out)
        }
    }
}

/// Withdrawals, or plans, as a table shows them: one that is on its way has the id of the transaction that was signed last for it.
pub(super) fn with_sent(mut page: Value) -> Value {
    for item in page.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let is_on_its_way = ["signed", "broadcast"].iter().any(|status| item["status"] == *status);
        let sent = item["signed_txids"].as_array().and_then(|signed| signed.last()).cloned();
        if let Some(sent) = sent.filter(|_| is_on_its_way && item["txid"].is_null()) {
            item["txid"] = sent;
        }
    }
    page
}

pub(crate) fn price(command: PriceCommand, common: &Common, out: &mut dyn Write) -> Done {
    let client = client(common)?;
    match command {
        PriceCommand::Set { base, quote, price, age_max_s, spread_bp, quote_s, key } => {
            let body = body(&[
                ("base", json!(base)),
                ("quote", json!(quote)),
                ("price", json!(price)),
                ("age_max_s", json!(age_max_s)),
                ("spread_bp", json!(spread_bp)),
                ("quote_s", json!(quote_s)),
            ]);
            change(common, &key, "/api/v1/prices", &body, out)
        }
        PriceCommand::List(page) => {
            let columns = ["base", "quote", "price", "spread_bp", "age_max_ms", "quote_ms"];
            table(out, common.json, &client.get("/api/v1/prices", &page.query())?, &columns)
        }
    }
}

pub(crate) fn chain(command: ChainCommand, common: &Common, out: &mut dyn Write) -> Done {
    let client = client(common)?;
    match command {
        ChainCommand::List => {
            let columns = ["id", "name", "family", "coin", "genesis"];
            table(out, common.json, &client.get("/api/v1/chains", &[])?, &columns)
        }
        ChainCommand::Transactions { chain, page } => {
            let transactions = client.get(&format!("/api/v1/chains/{chain}/transactions"), &page.query())?;
            let columns = ["txid", "kind", "status", "amount", "fee", "confirmations"];
            table(out, common.json, &transactions, &columns)
        }
    }
}

pub(crate) fn bank_receipt(args: &BankReceiptArgs, common: &Common, out: &mut dyn Write) -> Done {
    let body = json!({
        "reference": args.reference, "asset": args.asset, "amount": args.amount, "beneficiary": args.beneficiary,
    });
    change(common, &args.key, "/api/v1/bank-receipts", &body, out)
}

pub(crate) fn block(command: BlockCommand, common: &Common, out: &mut dyn Write) -> Done {
    let BlockCommand::List { chain, below, limit } = command;
    let below = below.map(|below| ("below", below.to_string()));
    let limit = limit.map(|limit| ("limit", limit.to_string()));
    let query: Vec<_> = below.into_iter().chain(limit).collect();
    let blocks = client(common)?.get(&format!("/api/v1/chains/{chain}/blocks"), &query)?;
    table_by(out, common.json, &blocks, &["height", "hash", "confirmations", "time_s"], "--below")
}

pub(crate) fn event(command: EventCommand, common: &Common, out: &mut dyn Write) -> Done {
    let client = client(common)?;
    match command {
        EventCommand::Tail { after, once } => tail(&client, after, once, common, out),
        EventCommand::History { subject, page } => {
            let page = client.get(&format!("/api/v1/history/{}", part(&subject)), &page.query())?;
            table(out, common.json, &page, &["seq", "time_ms", "kind", "data"])
        }
    }
}

fn tail(client: &Client, after: Option<u64>, once: bool, common: &Common, out: &mut dyn Write) -> Done {
    let mut after = match after {
        Some(after) => after,
        None => client.get("/api/v1/status", &[])?["seq"].as_u64().unwrap_or(0),
    };
    loop {
        let wait_ms = if once { 0 } else { TAIL_WAIT_MS };
        let query = [("after", after.to_string()), ("wait_ms", wait_ms.to_string())];
        let page = client.get("/api/v1/events", &query)?;
        for event in page["items"].as_array().into_iter().flatten() {
            show_event(out, common.json, event)?;
        }
        let next = page["next"].as_u64().unwrap_or(after);
        if once && next == after {
            return Ok(());
        }
        after = next;
    }
}

fn show_event(out: &mut dyn Write, json: bool, event: &Value) -> Done {
    if json {
        return line(out, &event.to_string());
    }
    let kind = event["kind"].as_str().unwrap_or("?");
    line(out, &format!("{:>8}  {kind:24}  {}", event["seq"].to_string(), event["data"]))
}

pub(crate) fn books(common: &Common, out: &mut dyn Write) -> Done {
    let report = client(common)?.get("/api/v1/books", &[])?;
    if common.json {
        line(out, &report.to_string())?;
    } else {
        show_books(out, &report)?;
    }
    if report["balanced"] == json!(true) {
        return Ok(());
    }
    Err(Failure::new("books_wrong", "the books are not balanced").hint("run 'florin ledger verify'"))
}

fn show_books(out: &mut dyn Write, report: &Value) -> Done {
    for books in report["items"].as_array().into_iter().flatten() {
        let balanced = if books["balanced"] == json!(true) { "balanced" } else { "NOT BALANCED" };
        line(out, &format!("{}: {balanced}", books["asset"].as_str().unwrap_or("?")))?;
        rows(out, books["lines"].as_array().map_or(&[], Vec::as_slice), &["account", "side", "amount"])?;
        let wallets = books["wallets"].as_array().map_or(&[][..], Vec::as_slice);
        if !wallets.is_empty() {
            rows(out, wallets, &["wallet", "books", "coins", "equal"])?;
        }
        line(out, "")?;
    }
    for fault in report["faults"].as_array().into_iter().flatten() {
        line(out, &format!("wrong: {}", fault["detail"].as_str().unwrap_or("?")))?;
    }
    let holds = report["balanced"] == json!(true);
    line(out, if holds { "every rule of the books holds" } else { "the books are not balanced" })
}

pub(crate) fn halt(args: &HaltArgs, common: &Common, out: &mut dyn Write) -> Done {
    let body = body(&[("action", json!(args.action)), ("asset", json!(args.asset))]);
    change(common, &args.key, "/api/v1/halts", &body, out)
}

pub(crate) fn resume(args: &ResumeArgs, common: &Common, out: &mut dyn Write) -> Done {
    let body = body(&[("action", json!(args.action)), ("asset", json!(args.asset)), ("reason", json!(args.reason))]);
    change(common, &args.key, "/api/v1/halts/resume", &body, out)
}

pub(crate) fn confirm_time(args: &ConfirmTimeArgs, common: &Common, out: &mut dyn Write) -> Done {
    change(common, &args.key, "/api/v1/time/confirm", &json!({}), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_leads_nowhere_else() {
        assert_eq!(part("019a-x_1:0"), "019a-x_1:0");
        assert_eq!(part("../a?b=c#d%2f\u{e9}"), "%2E%2E%2Fa%3Fb%3Dc%23d%252f%C3%A9");
    }

    #[test]
    fn a_withdrawal_on_its_way_is_listed_with_the_transaction_that_was_sent() {
        let shown = |status: &str, signed: Value, txid: Value| {
            let page = json!({ "items": [{ "status": status, "signed_txids": signed, "txid": txid }] });
            with_sent(page)["items"][0]["txid"].clone()
        };
        assert_eq!(shown("signed", json!(["a"]), Value::Null), "a");
        assert_eq!(shown("broadcast", json!(["a", "b"]), Value::Null), "b");
        assert_eq!(shown("queued", json!([]), Value::Null), Value::Null);
        assert_eq!(shown("confirmed", json!(["a", "b"]), json!("a")), "a", "what pays it is known");
        assert_eq!(shown("refunded", json!(["a"]), Value::Null), Value::Null, "nothing pays it");
        assert_eq!(with_sent(json!({ "items": "x" })), json!({ "items": "x" }));
    }
}

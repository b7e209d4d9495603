//! `florin asset`: what the platform keeps, and how it handles each.

use super::Common;
use super::change::{self, KeyArgs};
use super::platform::{Done, PageArgs, body, client, part};
use super::show::{line, record, table};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Write;

#[derive(Debug, Subcommand)]
pub(crate) enum AssetCommand {
    /// Lists assets with what is asked of their deposits and withdrawals.
    List(PageArgs),
    /// Shows how an asset is handled, or changes what is named.
    Policy(Box<PolicyArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The asset's code, such as BTC.
    asset: String,
    /// From which amount on a deposit waits for how many confirmations; once for each step, the first from 0 on. All are
    /// replaced.
    #[arg(long = "depth", value_name = "AMOUNT=CONFIRMATIONS", value_parser = depth)]
    depths: Vec<(String, u32)>,
    /// Below this a deposit is shown and not credited. Lowering it credits those that reach it.
    #[arg(long, value_name = "AMOUNT")]
    deposit_min: Option<String>,
    /// The smallest withdrawal.
    #[arg(long, value_name = "AMOUNT")]
    withdrawal_min: Option<String>,
    /// What a withdrawal costs the customer.
    #[arg(long, value_name = "AMOUNT")]
    withdrawal_fee: Option<String>,
    /// Above this a withdrawal waits for operators' approvals; not more than 'payment_sat' of the signer's policy.
    #[arg(long, value_name = "AMOUNT")]
    automatic_max: Option<String>,
    /// Confirmations after which a withdrawal is final.
    #[arg(long, value_name = "COUNT")]
    final_confirmations: Option<u32>,
    /// For how many seconds a credited deposit that left the chain may stay away before it is debited.
    #[arg(long, value_name = "SECONDS")]
    missing_s: Option<u64>,
    /// For how many seconds after its request a withdrawal may be signed.
    #[arg(long, value_name = "SECONDS")]
    intent_s: Option<u64>,
    /// The most network fee that one transaction may pay.
    #[arg(long, value_name = "AMOUNT")]
    network_fee_max: Option<String>,
    /// How many blocks are kept in memory to take them back at once, and never fewer than any depth above; 0 for the default,
    /// 2016. Deeper reorganisations are followed, too, but read the journal first.
    #[arg(long, value_name = "COUNT")]
    kept_blocks: Option<u32>,
    #[command(flatten)]
    key: KeyArgs,
}

fn depth(text: &str) -> Result<(String, u32), String> {
    let wanted = || "an amount, '=', and a number of confirmations, such as 0.5=6".to_owned();
    let (amount, confirmations) = text.split_once('=').ok_or_else(wanted)?;
    Ok((amount.to_owned(), confirmations.parse().map_err(|_| wanted())?))
}

pub(crate) fn run(command: AssetCommand, common: &Common, out: &mut dyn Write) -> Done {
    match command {
        AssetCommand::List(page) => list(&page, common, out),
        AssetCommand::Policy(args) => policy(*args, common, out),
    }
}

fn list(page: &PageArgs, common: &Common, out: &mut dyn Write) -> Done {
    let assets = client(common)?.get("/api/v1/assets", &page.query())?;
    if common.json {
        return line(out, &assets.to_string());
    }
    // What people ask for first stands in each asset's policy.
    let items: Vec<Value> = assets["items"].as_array().into_iter().flatten().map(flat).collect();
    let columns =
        ["id", "code", "kind", "decimals", "deposit_min", "withdrawal_min", "withdrawal_fee", "automatic_max"];
    table(out, false, &json!({ "items": items, "next": assets["next"] }), &columns)
}

/// An asset with what is in its policy.
fn flat(asset: &Value) -> Value {
    let mut flat = asset.as_object().cloned().unwrap_or_default();
    let policy = flat.remove("policy").and_then(|policy| policy.as_object().cloned()).unwrap_or_default();
    flat.extend(policy);
    Value::Object(flat)
}

fn policy(args: PolicyArgs, common: &Common, out: &mut dyn Write) -> Done {
    let depths = args.depths.iter().map(|(from, count)| json!({ "amount_from": from, "confirmations": count }));
    let depths = (!args.depths.is_empty()).then(|| depths.collect::<Vec<Value>>());
    let change = body(&[
        ("depths", json!(depths)),
        ("deposit_min", json!(args.deposit_min)),
        ("withdrawal_min", json!(args.withdrawal_min)),
        ("withdrawal_fee", json!(args.withdrawal_fee)),
        ("automatic_max", json!(args.automatic_max)),
        ("final_confirmations", json!(args.final_confirmations)),
        ("missing_s", json!(args.missing_s)),
        ("intent_s", json!(args.intent_s)),
        ("network_fee_max", json!(args.network_fee_max)),
        ("kept_blocks", json!(args.kept_blocks)),
    ]);
    let path = format!("/api/v1/assets/{}", part(&args.asset));
    if change.as_object().is_some_and(serde_json::Map::is_empty) {
        let asset = client(common)?.get(&path, &[])?;
        return record(out, common.json, &if common.json { asset } else { flat(&asset) });
    }
    let key = args.key.or_fresh();
    let asset = change::ask(common, &key, &format!("{path}/policy"), &change)?;
    record(out, common.json, &if common.json { asset } else { flat(&asset) }).map_err(|failure| failure.of_change(&key))
}

//! `florin plan`: the transactions that pay withdrawals, and an operator's word that one can never confirm. It decides nothing: the platform's rules do.

use super::Common;
use super::change::{KeyArgs, change};
use super::platform::{PageArgs, client, part, with_sent};
use super::show::{record, table};
use crate::failure::Failure;
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::Write;

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Lists plans with what each waits for.
    List {
        /// Only those that stand so: signing, signed, broadcast, confirmed, final, voided or conflicted.
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows a plan.
    Show {
        /// The plan's id.
        id: String,
    },
    /// Ends a plan that can never confirm: its withdrawals are refunded, or final where another transaction has paid them.
    ///
    /// The plan's other coins are free in the books. The signer remembers for ever which plan it signed them for and signs them for no other: they have to be moved
    /// with the keys.
    ///
    /// This is for a plan one of whose inputs is gone ('plan show' names it) and can't return: the transaction that made the input spent a coin that another
    /// transaction has spent since, in a block that is final. Name that other transaction and its block.
    ///
    /// Florin checks that the input is gone and that the block is one of the chain and final. That the transaction is in the block, and that it spends
    /// what the input's own transaction spent, you have to check at a node before: where it does not, a withdrawal that is refunded now may still be paid.
    Conflict(ConflictArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConflictArgs {
    /// The plan's id.
    id: String,
    /// The plan's input that is gone.
    #[arg(long, value_name = "TXID:VOUT")]
    input: String,
    /// The transaction that can't stand beside the one that made this input.
    #[arg(long, value_name = "TXID")]
    txid: String,
    /// The height of its block.
    #[arg(long)]
    height: u32,
    /// The hash of its block.
    #[arg(long, value_name = "HASH")]
    block: String,
    #[command(flatten)]
    key: KeyArgs,
}

pub(crate) fn run(command: PlanCommand, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let client = client(common)?;
    match command {
        PlanCommand::List { status, page } => {
            let query: Vec<_> = status.map(|status| ("status", status)).into_iter().chain(page.query()).collect();
            let columns = ["id", "asset", "amount", "fee", "status", "confirmations", "txid", "waits_for"];
            let page = client.get("/api/v1/plans", &query)?;
            let page = if common.json { page } else { with_sent(page) };
            table(out, common.json, &page, &columns)
        }
        PlanCommand::Show { id } => {
            record(out, common.json, &client.get(&format!("/api/v1/plans/{}", part(&id)), &[])?)
        }
        PlanCommand::Conflict(ConflictArgs { id, input, txid, height, block, key }) => {
            let body = json!({ "input": input, "txid": txid, "block_height": height, "block_hash": block });
            change(common, &key, &format!("/api/v1/plans/{}/conflict", part(&id)), &body, out)
        }
    }
}

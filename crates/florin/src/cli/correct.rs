//! `florin correct`: an operator's transfer that puts right what was booked wrongly. It decides nothing: the platform's rules do.

use super::Common;
use super::change::{KeyArgs, change};
use crate::failure::Failure;
use clap::Args;
use serde_json::json;
use std::io::Write;

/// The correction.
#[derive(Debug, Args)]
pub(crate) struct CorrectArgs {
    /// Your reference, of a voucher or a case, taken once for ever: 1 to 64 letters, digits and /-?:().,'+_ characters. No names of people: it stays in the journal.
    #[arg(long)]
    reference: String,
    /// The asset's code.
    #[arg(long)]
    asset: String,
    /// How much moves.
    #[arg(long)]
    amount: String,
    /// Who gives: a customer's id, 'inventory', 'fees' or 'spread'.
    #[arg(long, value_name = "ACCOUNT")]
    debit: String,
    /// Who gets: a customer's id, 'inventory', 'fees', 'spread' or, for money that is not at the bank, 'bank'.
    #[arg(long, value_name = "ACCOUNT")]
    credit: String,
    #[command(flatten)]
    key: KeyArgs,
}

pub(crate) fn run(args: &CorrectArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let CorrectArgs { reference, asset, amount, debit, credit, .. } = args;
    let body = json!({
        "reference": reference, "asset": asset, "amount": amount, "debit": debit, "credit": credit,
    });
    change(common, &args.key, "/api/v1/corrections", &body, out)
}

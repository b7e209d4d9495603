//! `florin correct`: an operator's transfer that puts right what was booked wrongly. It decides nothing: the platform's rules do.

use super::Common;
use super::change::{KeyArgs, change};
use crate::failure::Failure;
use clap::Args;
use serde_json::json;
use std::io::Write;

/// Puts right what was booked wrongly, by a new transfer between customers, or between them and the house.
///
/// Nothing in the books is ever changed: the wrong entry stays, and the correction stands after it with its reference. A correction that
/// was wrong itself is put right by another one.
///
/// Money moves from --debit to --credit. Each is a customer's id, or one of the house's accounts: 'inventory', what quotes are filled
/// from and the house pays from; 'fees' and 'spread', what it earned. --credit takes 'bank' as well, for money: what was booked as received
/// and was not, or what went back to its sender. What lies in other accounts of the house follows from blocks and deposits. No more can be
/// taken than is there and not held.
///
/// A receipt booked to the wrong customer:
///   florin correct --reference case-17 --asset EUR --amount 100.00 --debit WRONG --credit RIGHT
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
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
    /// Who gets: a customer's id, 'inventory', 'fees', 'spread' or, for money, 'bank'.
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

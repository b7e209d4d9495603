//! Stable codes and what they mean to a caller: the HTTP status of each, and the way out. One function for all of them, so that a code has one status wherever it comes from.

use crate::api::faults;
use florin_chain::bitcoin::address::AddressError;
use florin_core::amount::AmountError;
use florin_core::decide;

/// A code that the interface itself gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// The code.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What it means.
    pub meaning: &'static str,
    /// The way out; empty where there is none but to read the meaning.
    pub way_out: &'static str,
}

const fn own_code(code: &'static str, status: u16, meaning: &'static str, way_out: &'static str) -> Own {
    Own { code, status, meaning, way_out }
}

/// The codes that the interface itself gives, in order of the checks.
pub const OWN: &[Own] = &[
    own_code(
        "framing_ambiguous",
        400,
        "the request says by Content-Length and by Transfer-Encoding where its body ends",
        "send one of the two",
    ),
    own_code(
        "unauthorized",
        401,
        "the operator's token is missing or wrong",
        "send 'Authorization: Bearer' with the token that 'florin init' wrote",
    ),
    own_code("overloaded", 503, "too many requests are under way", "try again in a moment"),
    own_code("not_found", 404, "there is nothing at this path", "see /api/v1/openapi.json"),
    own_code("method_not_allowed", 405, "this path does not take this method", "see /api/v1/openapi.json"),
    own_code("path_invalid", 400, "the path can't be read", ""),
    own_code("query_invalid", 400, "a parameter of the query is unknown or can't be read", "see /api/v1/openapi.json"),
    own_code(
        "idempotency_key_missing",
        400,
        "a change is asked for with an Idempotency-Key, so that it is done once however often it is sent",
        "send a fresh UUID of version 7 with each new request, and the same one when you send it again",
    ),
    own_code("idempotency_key_invalid", 400, "Idempotency-Key is a UUID of version 7, in lower case with hyphens", ""),
    own_code("seq_invalid", 400, "Florin-Seq is a row's number", ""),
    own_code(
        "after_beyond_journal",
        409,
        "the journal ends before the row after which events are asked for",
        "the journal was set back, or is another one: hold what was read against it, and begin anew",
    ),
    own_code("not_caught_up", 503, "the row that was named is not here yet", "try again in a moment"),
    own_code(
        "reads_unconfirmed",
        503,
        "this node does not know whether another one leads by now, and says nothing of money until it does",
        "try again in a moment, or ask another node",
    ),
    own_code("too_large", 413, "the request's body exceeds 64 KiB", ""),
    own_code(
        "body_late",
        408,
        "the request's body did not arrive within 30 seconds",
        "send it again with the same Idempotency-Key",
    ),
    own_code("content_type_unsupported", 415, "a body is JSON", "send 'Content-Type: application/json'"),
    own_code("body_invalid", 400, "the body is not the JSON object that is expected here", "see /api/v1/openapi.json"),
    own_code("choice_invalid", 400, "a word is not one of those allowed", "see /api/v1/openapi.json"),
    own_code("hex_invalid", 400, "hexadecimal of a certain length was expected", ""),
    own_code("outpoint_invalid", 400, "an output is named by its transaction's id and its number: txid:vout", ""),
    own_code(
        "subject_invalid",
        400,
        "nothing has such a name",
        "name it by its id, its hash, TXID:VOUT, or as plan:1, wallet:1, account:1, hold:1",
    ),
    own_code("name_invalid", 400, "a name has 1 to 200 characters, none of them a control character", ""),
    own_code("event_unreadable", 500, "an event can't be shown", "run 'florin ledger verify'"),
    own_code("quote_accepted", 409, "the quote was accepted already", "see it: 'florin quote show'"),
    own_code("quote_ended", 409, "the quote expired, or a newer one took its place", "ask for a new quote"),
    own_code("deposit_unknown", 404, "there is no such deposit", ""),
    own_code(
        "wallet_missing",
        422,
        "no wallet of this chain takes part",
        "register one from its descriptors, or name one with 'wallet'",
    ),
    own_code(
        "approval_signature_invalid",
        422,
        "the approval is not a signature over this withdrawal's intent by its key",
        "approve again with 'florin approve'",
    ),
    own_code(
        "withdrawal_below_dust",
        422,
        "nodes relay no payment as small as this to such an address",
        "withdraw more",
    ),
    own_code("asset_not_on_chain", 422, "this asset has no addresses", ""),
    own_code(
        "descriptor_not_ranged_pair",
        400,
        "the two descriptors are not the two branches of one account",
        "they end in /0/*) and /1/*), and are the same before that",
    ),
    own_code(
        "wallet_keys_unknown",
        503,
        "whether the signer has this wallet's keys can't be known now",
        "start the signer, then try again with the same Idempotency-Key; a cold wallet needs none",
    ),
    own_code(
        "wallet_keys_missing",
        422,
        "the signer's policy has no wallet with this id on this chain",
        "add it to the signer's policy.toml and start the signer again, or register it as cold",
    ),
    own_code(
        "wallet_keys_differ",
        409,
        "the signer names other descriptors for the wallet with this id",
        "register it without descriptors, 'florin wallet register' takes the signer's; or register it as cold",
    ),
    own_code(
        "wallet_holds_coins",
        422,
        "the wallet holds coins, and withdrawals are not paid from one that is retired",
        "let withdrawals use them up first, or retire it with them: 'florin wallet retire --with-coins'; then they move only by the keys",
    ),
    own_code(
        "search_tables_behind",
        503,
        "the search tables, which say what lists have and hold what is finished, are too far behind for a whole answer",
        "try again in a moment; where it lasts, see the alarms in 'florin status'",
    ),
    own_code("store_unavailable", 503, "a store does not answer", "try again in a moment"),
    own_code("queue_full", 503, "too many commands wait", "try again in a moment with the same Idempotency-Key"),
    own_code(
        "not_leading",
        503,
        "another node leads, or none yet",
        "try again in a moment, or ask the node that leads",
    ),
    own_code(
        "not_committed",
        503,
        "another writer leads, and this command is not in the journal",
        "send it again with the same Idempotency-Key",
    ),
    own_code(
        "answer_timeout",
        503,
        "the engine did not answer in time; the command may still be executed",
        "ask again with the same Idempotency-Key: however often it arrives, it is done once",
    ),
    own_code(
        "journal_not_written",
        503,
        "the journal takes no rows, and every command waits",
        "see the store's fault in 'florin status', such as a full disk; what waits is written as soon as the store takes it",
    ),
    own_code(
        "quarantined",
        500,
        "this command made a rule fail and had no effect; its Idempotency-Key is refused until this node is started again, or a thousand more such commands came",
        "report it with its Idempotency-Key and the log; under a new key it is a new command, and may be executed",
    ),
    own_code("stopping", 503, "the platform is stopping", "try again with the same Idempotency-Key"),
    own_code("internal", 500, "a defect of this program", "report it with the log"),
];

/// The description of a code of the interface's own.
pub fn own(code: &str) -> Option<&'static Own> {
    OWN.iter().find(|own| own.code == code)
}

/// A stable code and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it comes from.
    pub list: &'static str,
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: String,
}

/// Every code that an answer of the interface may carry, by where it comes from, each list in its own order.
pub fn all() -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for own in OWN {
        all.push(Listed { list: "Interface", code: own.code, meaning: own.meaning.to_owned() });
    }
    macro_rules! list {
        ($($name:literal: $type:ty),* $(,)?) => {$(
            for refusal in <$type>::ALL {
                all.push(Listed { list: $name, code: refusal.code(), meaning: refusal.to_string() });
            }
        )*};
    }
    list! {
        "Id and sequence": decide::OriginRefusal,
        "Definitions, policies, halts, time": decide::AdminRefusal,
        "Customers and accounts": decide::AccountRefusal,
        "Transfers": decide::TransferRefusal,
        "Bank receipts": decide::BankReceiptRefusal,
        "Corrections": decide::CorrectionRefusal,
        "Wallets and addresses": decide::AddressRefusal,
        "Blocks and mempools": decide::BlockRefusal,
        "Prices": decide::PriceRefusal,
        "Quotes": decide::QuoteRefusal,
        "Accepting quotes": decide::AcceptQuoteRefusal,
        "Withdrawals": decide::WithdrawalRefusal,
        "Approvals": decide::ApprovalRefusal,
        "Cancelling withdrawals": decide::CancelRefusal,
        "Plans": decide::PlanRefusal,
    }
    for error in [AmountError::Invalid, AmountError::TooPrecise { decimals: 8 }, AmountError::TooLarge] {
        all.push(Listed { list: "Amounts", code: error.code(), meaning: error.to_string() });
    }
    for error in [AddressError::NetworkMismatch, AddressError::Invalid] {
        all.push(Listed { list: "Addresses", code: error.code(), meaning: error.to_string() });
    }
    all
}

/// The HTTP status of a stable code.
///
/// 400: what was sent can never be right. 404: what it names does not exist. 409: it contradicts what is there or was done
/// before. 422: it is well said and can't be done now. 503: it can't be done for a reason that is not the caller's.
pub fn status_of(code: &str) -> u16 {
    if let Some(own) = own(code) {
        return own.status;
    }
    match code {
        "session_expired" | "session_ahead" => 409,
        "id_expired" | "id_ahead" | "sequence_done" | "sequence_gap" | "idempotency_mismatch" => 409,
        "quote_expired" | "price_moved" | "price_older" | "time_not_jumped" => 409,
        "time_unconfirmed" | "time_behind" | "price_stale" | "sessions_full" => 503,
        "price_unknown" => 422,
        "amount_precision" | "amount_too_large" | "amount_zero" | "network_mismatch" | "id_missing" => 400,
        "price_zero" | "price_too_large" | "price_ahead" | "spread_too_large" => 400,
        "address_no_key" => 422,
        _ => status_of_family(code),
    }
}

/// Codes of one ending mean one kind of thing.
fn status_of_family(code: &str) -> u16 {
    let ends = |endings: &[&str]| endings.iter().any(|ending| code.ends_with(ending));
    if ends(&["_halted"]) {
        503
    } else if ends(&["_unknown"]) {
        404
    } else if ends(&["_exists", "_taken", "_used", "_repeated", "_mismatch"]) {
        409
    } else if ends(&["_invalid", "_unordered", "_falling"]) || code.starts_with("descriptor_") {
        400
    } else {
        422
    }
}

/// The way out of what a code says, where a sentence helps.
pub fn way_out(code: &str) -> Option<&'static str> {
    if let Some(own) = own(code) {
        return Some(own.way_out).filter(|text| !text.is_empty());
    }
    Some(match code {
        "amount_invalid" | "amount_precision" => {
            "write the amount as text with digits and at most one point, such as \"0.25\", with no more decimals than the asset has"
        }
        "debit_not_correctable" => {
            "book money that arrived as a bank receipt; other accounts of the house follow from blocks and deposits"
        }
        "credit_not_correctable" => {
            "accounts of the house other than these follow from blocks and deposits, and no coin is at a bank"
        }
        "correction_reference_used" => "look whether it is the same correction; another one needs another reference",
        "idempotency_mismatch" => "use a new Idempotency-Key for a new request",
        "id_expired" => "find out whether the request was done, then use a new Idempotency-Key",
        "id_ahead" => "correct the clock that makes the Idempotency-Key",
        "session_ahead" => "correct the clock that makes the session's id",
        "session_expired" => "a sequence that was executed is answered with sequence_done for a day longer",
        "quote_expired" | "price_moved" | "quote_unknown" => "ask for a new quote",
        "price_stale" | "price_unknown" => "set a price: 'florin price set'",
        "pair_reversed" => {
            "set the pair as it is, 'florin price list', or wait until its price is too old to quote from"
        }
        "wallet_descriptor_taken" => "see 'florin wallet list'; each wallet has keys of its own",
        "price_out_of_band" => "halt quoting first if the price is right: POST /api/v1/halts",
        "inventory_insufficient" => "send coins to an inventory address, or book a bank receipt for the inventory",
        "quote_halted" | "credit_halted" | "withdrawal_halted" | "signing_halted" => "see the halts in 'florin status'",
        "time_behind" => {
            "nothing has to be confirmed when the clock has caught up; until then no quote is made or accepted"
        }
        "time_unconfirmed" => "check the clock, then POST /api/v1/time/confirm",
        "network_mismatch" => "use an address of the network that this platform follows",
        "address_invalid" => "copy the address again as a whole",
        "insufficient_funds" => {
            "see what is available, held and pending: GET /api/v1/customers/{id}/balances, and for the house GET /api/v1/books"
        }
        "plan_input_present" => {
            "nothing is lost: the plan confirms, or ends by itself where its input is taken for good"
        }
        "plan_input_not_its_own" => "see its inputs: 'florin plan show'",
        "reorganisation_too_deep" => "see 'A deep reorganisation' in operating.md",
        "block_unknown" => "name a block of the chain as it is now: 'florin block list'",
        "block_not_final" => "wait until the block has the confirmations after which a withdrawal is final",
        "bank_reference_used" => "this receipt is booked already; look before booking another",
        _ => return faults::way_out(code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn own_codes_are_unique_and_their_status_is_an_error() {
        let codes: BTreeSet<&str> = OWN.iter().map(|own| own.code).collect();
        assert_eq!(codes.len(), OWN.len());
        assert!(OWN.iter().all(|own| (400..600).contains(&own.status)));
    }

    #[test]
    fn families_and_exceptions_have_the_status_they_mean() {
        for (code, status) in [
            ("insufficient_funds", 422),
            ("idempotency_mismatch", 409),
            ("id_expired", 409),
            ("quote_expired", 409),
            ("withdrawal_halted", 503),
            ("queue_full", 503),
            ("not_committed", 503),
            ("customer_unknown", 404),
            ("customer_exists", 409),
            ("amount_invalid", 400),
            ("address_invalid", 400),
            ("network_mismatch", 400),
            ("inventory_insufficient", 422),
        ] {
            assert_eq!(status_of(code), status, "{code}");
        }
    }
}

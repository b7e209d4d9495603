//! What many runs must have reached together: every refusal of the rules and every fault of the simulation. It decides nothing in a run.

use florin_core::decide::{
    AcceptQuoteRefusal, AccountRefusal, AddressRefusal, AdminRefusal, ApprovalRefusal, BankReceiptRefusal,
    BlockRefusal, CancelRefusal, CorrectionRefusal, OriginRefusal, PlanRefusal, PriceRefusal, QuoteRefusal, Refusal,
    TransferRefusal, WithdrawalRefusal,
};
use std::collections::BTreeMap;

/// From so many seeds on, a run that leaves something out fails as vacuous.
pub const SEEDS_MIN: usize = 100;

/// Refusals that no run reaches, each with its reason.
pub const UNREACHED: &[(&str, &str)] = &[
    (
        "block.archived_present",
        "an output, a plan or a withdrawal that left is not made again before it is back: only a watcher that is believed when \
         it books an output twice brings that about, and no command is believed here that is not true",
    ),
    ("address.index_exhausted", "a branch has 2^31 indices, and a run can't hand them all out"),
];

/// Every fault of the simulation, as it is counted when it strikes: a node's where it changes an answer that the platform asked
/// for. That a fault was prepared is counted apart.
pub const FAULTS: &[&str] = &[
    "fault crash",
    "fault power cut, row kept",
    "fault power cut, row lost",
    "fault append fenced",
    "fault append unknownnotwritten",
    "fault append unknownwritten",
    "fault journal unreadable",
    "fault past unreadable",
    "fault snapshot spoilt",
    "fault second writer",
    "fault second writer noticed",
    "fault rule panics",
    "fault command sent twice",
    "fault commands out of order",
    "fault answer lost, sent again",
    "fault clock jumped",
    "fault clock set back",
    "fault signer unheard",
    "fault signer lost reply",
    "fault signer refuses",
    "fault signer dies before its write",
    "fault signer dies within its write",
    "fault signer dies after its write",
    "fault signer dies without a write",
    "fault signer answers with an old memory",
    "fault node altered amount",
    "fault node clock ahead",
    "fault node clock behind",
    "fault node cut off",
    "fault node delayed",
    "fault node evicts",
    "fault node forges a block",
    "fault node forges a block without work",
    "fault node frozen",
    "fault node inflates its height",
    "fault node replies lost",
    "fault node shows private blocks",
    "fault node stopped",
    "fault evicted everywhere",
    "fault fee estimate in band",
    "fault fee estimate below band",
    "fault fee estimate above cap",
    "fault fork",
    "fault fork deeper than final",
    "fault fork deeper than what is kept",
    "fault payment double spent",
    "fault payment replaced",
    "fault reorganisation after credit",
    "fault double spend after credit",
    "fault foreign spend",
    "fault malleated twin",
    "fault input of a plan taken away",
    "fault payment by a thief in a plan's place",
    "fault payment by a thief taken back after it was final",
    "fault hostile command",
    "crash before append",
    "crash after append",
    "crash before node call",
    "crash after node call",
    "crash before past",
    "crash after past",
    "crash before signer call",
    "crash after signer call",
    "crash before signer head",
    "crash after signer head",
    "crash before snapshot",
    "crash after snapshot",
];

/// What must have come of them.
pub const REACHED: &[&str] = &[
    "block mined for us",
    "coinbase deposit credited",
    "coinbase deposit taken back",
    "a coinbase is spent by a plan",
    "operator proves a conflict",
    "a plan is proved impossible",
    "plan ended by a conflict",
    "withdrawal paid in its plan's place",
    "a withdrawal is not overtaken",
    "a withdrawal that went first is planned",
    "operator sets the clock right",
    "a correction is booked",
    "reorganisation below the kept blocks",
    "archived blocks were taken back",
    "came back: block",
    "came back: deposit",
    "came back: withdrawal",
    "came back: plan",
    "came back: coin",
    "restart of the signer",
    "node altered amount and is named: node_lies",
    "node forges a block without work and is named: node_lies",
    "node forges a block and is named: node_on_other_branch",
    "node shows private blocks and is named: node_on_other_branch",
    "node frozen and is named: node_lags",
    "node cut off and is named: node_lags",
    "node delayed and is named: node_lags",
    "node clock behind and is named: node_lags",
    "node stopped and is named: node_unreachable",
    "node replies lost and is named: node_unreachable",
];

/// Comparisons that every run makes, and the end that it comes to.
const ALWAYS: usize = 100;

/// Shares that the runs must reach: what is counted in a seed, its name, and in how many of a hundred seeds at least.
pub const SHARES: &[(&str, &str, usize)] = &[
    ("withdrawal 6 to 7", "a final withdrawal", 10),
    ("deposit 3 to 4", "a reorganisation after credit", 10),
    ("restart after a crash", "a restart after a crash", 10),
    ("compared with the chain", "a comparison with the chain", ALWAYS),
    ("compared with the state", "a comparison with the platform's state", ALWAYS),
    ("compared with the fold", "a comparison with the journal's fold", ALWAYS),
    ("calm", "an end with all faults off", ALWAYS),
];

macro_rules! families {
    ($($variant:ident: $type:ident => $name:literal,)*) => {
        /// The name of a refusal: its enum and its code, because codes repeat between enums.
        pub fn name(refusal: &Refusal) -> String {
            match refusal { $(Refusal::$variant(refusal) => format!("{}.{}", $name, refusal.code())),* }
        }
        /// All refusals of the rules, by name.
        pub fn refusals() -> Vec<String> {
            let mut all = Vec::new();
            $(all.extend($type::ALL.iter().map(|refusal| format!("{}.{}", $name, refusal.code())));)*
            all
        }
    };
}

families! {
    Origin: OriginRefusal => "origin",
    Admin: AdminRefusal => "admin",
    Account: AccountRefusal => "account",
    Transfer: TransferRefusal => "transfer",
    BankReceipt: BankReceiptRefusal => "bank_receipt",
    Correction: CorrectionRefusal => "correction",
    Address: AddressRefusal => "address",
    Block: BlockRefusal => "block",
    Price: PriceRefusal => "price",
    Quote: QuoteRefusal => "quote",
    AcceptQuote: AcceptQuoteRefusal => "accept_quote",
    Withdrawal: WithdrawalRefusal => "withdrawal",
    Approval: ApprovalRefusal => "approval",
    Cancel: CancelRefusal => "cancel",
    Plan: PlanRefusal => "plan",
}

/// What is counted when a request is refused.
pub fn refused(name: &str) -> String {
    format!("refused {name}")
}

/// What all runs together did: counts, and in how many seeds each thing was counted at all.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
    /// In how many seeds.
    pub seeds_with: BTreeMap<String, usize>,
    /// How many seeds ran.
    pub seeds: usize,
}

impl Totals {
    /// Adds a run's counts.
    pub fn add(&mut self, counts: &BTreeMap<String, u64>) {
        self.seeds += 1;
        for (what, count) in counts.iter().filter(|(_, count)| **count > 0) {
            *self.counts.entry(what.clone()).or_default() += count;
            *self.seeds_with.entry(what.clone()).or_default() += 1;
        }
    }

    /// In how many of a hundred seeds something was counted, rounded down.
    pub fn percent(&self, what: &str) -> usize {
        self.seeds_with.get(what).copied().unwrap_or(0) * 100 / self.seeds.max(1)
    }

    /// What makes these runs vacuous, one sentence each; nothing where they were too few to say.
    pub fn vacuous(&self) -> Vec<String> {
        if self.seeds < SEEDS_MIN {
            return Vec::new();
        }
        let has = |what: &str| self.counts.contains_key(what);
        let mut missing = Vec::new();
        for name in refusals() {
            let is_listed = UNREACHED.iter().any(|(unreached, _)| *unreached == name);
            match (has(&refused(&name)), is_listed) {
                (false, false) => missing.push(format!("nothing was refused as {name}")),
                (true, true) => missing.push(format!("{name} was reached and is listed as unreachable")),
                (true, false) | (false, true) => {}
            }
        }
        let wanted = FAULTS.iter().chain(REACHED);
        missing.extend(wanted.filter(|what| !has(what)).map(|what| format!("there was no '{what}'")));
        for (what, name, percent_min) in SHARES {
            // Compared in whole seeds, so that no rounding lets a run pass.
            if self.seeds_with.get(*what).copied().unwrap_or(0) * 100 < percent_min * self.seeds {
                missing.push(format!(
                    "{name}: in {} of a hundred seeds, and {percent_min} are wanted",
                    self.percent(what)
                ));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> BTreeMap<String, u64> {
        let is_reached = |name: &String| UNREACHED.iter().all(|(unreached, _)| unreached != name);
        let refusals = refusals().into_iter().filter(is_reached).map(|name| refused(&name));
        let faults =
            FAULTS.iter().chain(REACHED).chain(SHARES.iter().map(|(what, _, _)| what)).map(|what| (*what).to_owned());
        refusals.chain(faults).map(|what| (what, 1)).collect()
    }

    fn totals(counts: &BTreeMap<String, u64>, seeds: usize) -> Totals {
        let seeds_with = counts.keys().map(|what| (what.clone(), seeds)).collect();
        Totals { counts: counts.clone(), seeds_with, seeds }
    }

    #[test]
    fn a_run_that_reaches_everything_is_not_vacuous() {
        assert_eq!(totals(&full(), SEEDS_MIN).vacuous(), Vec::<String>::new());
    }

    #[test]
    fn each_thing_left_out_makes_a_run_vacuous() {
        for what in full().keys() {
            let mut counts = full();
            counts.remove(what);
            assert_eq!(totals(&counts, SEEDS_MIN).vacuous().len(), 1, "without {what}");
            assert!(totals(&counts, SEEDS_MIN - 1).vacuous().is_empty(), "too few seeds to say");
        }
    }

    #[test]
    fn what_is_listed_as_unreachable_must_not_be_reached() {
        let mut counts = full();
        counts.insert(refused(UNREACHED[0].0), 1);
        assert_eq!(totals(&counts, SEEDS_MIN).vacuous().len(), 1);
    }

    #[test]
    fn shares_are_counted_in_seeds_and_not_in_events() {
        let mut totals = totals(&full(), 9);
        let mut rest = full();
        rest.remove("deposit 3 to 4");
        (9..SEEDS_MIN).for_each(|_| totals.add(&rest));
        assert_eq!(totals.percent("deposit 3 to 4"), 9);
        assert_eq!(totals.vacuous().len(), 1);
    }

    #[test]
    fn refusals_have_distinct_names_although_codes_repeat() {
        let names = refusals();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(UNREACHED.iter().all(|(unreached, _)| names.iter().any(|name| name == unreached)));
    }
}

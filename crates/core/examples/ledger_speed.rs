//! How many plain transfers the ledger decides and folds in memory on one core. Never touches a disk.
//!
//! `cargo run --release -p florin-core --example ledger_speed` prints one line per way of asking. Every transfer is judged in
//! full (accounts, assets, funds, sums) and becomes an event. The best of several rounds is shown beside the median: other
//! work on the machine only ever slows a round down.

// What it prints is what it is for.
#![allow(clippy::print_stdout)]

use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind};
use florin_core::command::{Command, Origin, Outcome, PlainTransfer, Request};
use florin_core::decide::Verdict;
use florin_core::id::{AccountId, AssetId, LedgerTime, SessionId};
use florin_core::journal::{Batch, Entry, Row};
use florin_core::ledger::{BalanceRule, Owner};
use florin_core::state::State;
use florin_core::wire::Message;
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 100_000;
const TRANSFERS: usize = 1_000_000;
const ROUNDS: usize = 7;
const NOW: LedgerTime = LedgerTime(1_700_000_000_000);
const POINTS: AssetId = AssetId(1);

/// What the accounts hold before a run.
#[derive(Clone, Copy)]
enum Funds {
    /// Each holds more than any command moves in all.
    Ample,
    /// Each holds about what one transfer moves, so that linked transfers must be played on copies.
    Scarce,
}

fn main() {
    println!("{TRANSFERS} transfers between {ACCOUNTS} accounts, {ROUNDS} rounds, one core");
    measure("one a command", Funds::Ample, 1, false);
    measure("1,000 linked, ample funds", Funds::Ample, 1_000, false);
    measure("1,000 linked, scarce funds", Funds::Scarce, 1_000, false);
    measure("1,000 linked, ample funds, and sealed as rows", Funds::Ample, 1_000, true);
}

fn measure(name: &str, funds: Funds, linked: usize, sealed: bool) {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|round| run(round as u64, funds, linked, sealed)).collect();
    times.sort();
    let rate = |time: Duration| (TRANSFERS as u128 * 1_000_000_000 / time.as_nanos().max(1)) as u64;
    println!("{name:<48} best {:>9}/s  median {:>9}/s", rate(times[0]), rate(times[ROUNDS / 2]));
}

fn run(seed: u64, funds: Funds, linked: usize, sealed: bool) -> Duration {
    let mut state = platform(funds);
    let mut random = Random(seed);
    let amount_max = match funds {
        Funds::Ample => 1_000,
        Funds::Scarce => 10,
    };
    let transfers: Vec<PlainTransfer> = (0..TRANSFERS).map(|_| random.transfer(amount_max)).collect();
    let mut session = [1; 16];
    session[..6].copy_from_slice(&NOW.0.to_be_bytes()[2..]);
    (session[6], session[8]) = (0x70, 0x80);
    let session = SessionId(session);
    let requests: Vec<Request> = transfers
        .chunks(linked)
        .zip(1..)
        .map(|(transfers, sequence)| Request {
            origin: Origin::Session { session, sequence },
            command: Command::PostTransfers(transfers.to_vec()),
        })
        .collect();
    let start = Instant::now();
    for request in &requests {
        let verdict = state.decide(request, NOW).expect("every transfer is good");
        if sealed {
            seal(&state, verdict);
        }
    }
    start.elapsed()
}

/// What a journal costs on top, without its disk: the encoding and its hash.
fn seal(state: &State, verdict: Verdict) {
    let Verdict::Decided { events, .. } = verdict else { unreachable!("sequences are not repeated") };
    let batch = Batch { entries: vec![Entry { command: None, request: None, events, outcome: None }] };
    let counters = state.counters();
    let row = Row::seal(counters.seq, counters.epoch, NOW, florin_core::id::Digest::ZERO, batch.encode());
    assert!(!row.payload.is_empty());
}

/// Accounts that may not fall below zero, funded from one that may.
fn platform(funds: Funds) -> State {
    let mut state = State::default();
    let mut send = |command| {
        let request = Request { origin: Origin::Internal, command };
        match state.decide(&request, NOW).expect("the platform is set up") {
            Verdict::Decided { outcome, .. } | Verdict::Repeated(outcome) => outcome,
        }
    };
    let asset = Asset { id: POINTS, code: "POINTS".to_owned(), decimals: 0, kind: AssetKind::Plain, chain: None };
    send(Command::DefineAsset(asset));
    let mut open = |number, rule| {
        let opened = send(Command::OpenAccount { owner: Owner::Plain(number), asset: POINTS, rule });
        assert_eq!(opened, Outcome::Account(AccountId(number)));
    };
    open(0, BalanceRule::Free);
    (1..=ACCOUNTS).for_each(|number| open(number, BalanceRule::CreditNormal));
    let amount = Amount::new(match funds {
        Funds::Ample => 1_000_000_000,
        Funds::Scarce => 5_000,
    });
    let fund = |number| PlainTransfer { debit: AccountId(0), credit: AccountId(number), amount };
    for first in (1..=ACCOUNTS).step_by(1_000) {
        send(Command::PostTransfers((first..first + 1_000).map(fund).collect()));
    }
    state
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn transfer(&mut self, amount_max: u64) -> PlainTransfer {
        let debit = 1 + self.below(ACCOUNTS);
        let credit = 1 + (debit + self.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = Amount::new(u128::from(1 + self.below(amount_max)));
        PlainTransfer { debit: AccountId(debit), credit: AccountId(credit), amount }
    }
}

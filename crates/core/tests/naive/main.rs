//! A second ledger, written from the rules alone: sums in one map by name, everything by plain arithmetic, nothing shared with
//! the first. Both get the same seeded commands and must answer alike and end with the same sums of debits and of credits.

mod big;
mod model;

use big::Big;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, Halt, HaltAction, HaltReason};
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, Origin, Outcome, PlainTransfer, Request};
use florin_core::custody::Beneficiary;
use florin_core::decide::Verdict;
use florin_core::id::{AccountId, AssetId, CommandId, CustomerId, Digest, LedgerTime, QuoteId, SessionId};
use florin_core::journal::Entry;
use florin_core::ledger::{BalanceRule, HouseAccount, Owner};
use florin_core::snapshot;
use florin_core::state::State;
use model::{Ask, DAY, From, Naive, Sums};
use std::collections::{BTreeMap, BTreeSet};

const START: i128 = 1_700_000_000_000;
const STEPS: usize = 16_000;

/// The platform under test, asked in the same words.
struct Real {
    state: State,
    /// What folding the events of each decision gives.
    folded: State,
    accounts: BTreeMap<String, AccountId>,
}

fn customer(name: &str) -> CustomerId {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    CustomerId(id)
}

fn asset(number: i128) -> AssetId {
    AssetId(number as u32)
}

impl Real {
    fn hear(&mut self, now: i128, from: &From, ask: &Ask) -> Result<String, String> {
        let command = self.command(ask);
        let origin = match from {
            From::Ourselves => Origin::Internal,
            From::Session(session, sequence) => {
                Origin::Session { session: SessionId(uuid(*session)), sequence: *sequence as u64 }
            }
            From::Id(id, hash) => Origin::Request { id: CommandId(uuid(*id)), request: Digest([*hash; 32]) },
        };
        self.send(now, Request { origin, command }).map(|outcome| say(&outcome))
    }

    fn send(&mut self, now: i128, request: Request) -> Result<Outcome, String> {
        let now = LedgerTime(now as u64);
        let seq = self.folded.counters().seq.next();
        match self.state.decide(&request, now).map_err(|refusal| refusal.code().to_owned())? {
            Verdict::Repeated(outcome) => Ok(outcome),
            Verdict::Decided { events, outcome } => {
                let (command, hash) = match request.origin {
                    Origin::Request { id, request } => (Some(id), Some(request)),
                    Origin::Session { .. } | Origin::Internal => (None, None),
                };
                self.state.begin_row(seq, now);
                self.folded.begin_row(seq, now);
                self.folded.apply_entry(&Entry { command, request: hash, events, outcome: Some(outcome.clone()) });
                Ok(outcome)
            }
        }
    }

    fn command(&self, ask: &Ask) -> Command {
        let pair = |base: i128, quote: i128| Pair { base: asset(base), quote: asset(quote) };
        let halt =
            |number: i128| Halt { asset: Some(asset(number)), action: HaltAction::Quote, reason: HaltReason::Operator };
        match ask {
            Ask::Transfers(transfers) => {
                let account = |name: &String| self.accounts.get(name).copied().unwrap_or(AccountId(u64::MAX));
                let plain = |(debit, credit, units): &(String, String, u128)| PlainTransfer {
                    debit: account(debit),
                    credit: account(credit),
                    amount: Amount::new(*units),
                };
                Command::PostTransfers(transfers.iter().map(plain).collect())
            }
            Ask::Receipt { reference, asset: number, amount: units, who } => Command::BookBankReceipt {
                reference: reference.clone(),
                asset: asset(*number),
                amount: Amount::new(*units),
                beneficiary: match &who[..] {
                    "inventory" => Beneficiary::INVENTORY,
                    name => Beneficiary::Customer(customer(name)),
                },
            },
            Ask::Correction { reference, asset: number, amount: units, debit, credit } => Command::BookCorrection {
                reference: reference.clone(),
                asset: asset(*number),
                amount: Amount::new(*units),
                debit: owner(debit),
                credit: owner(credit),
            },
            Ask::Price { base, quote, up, down, as_of, age, bp, stands } => Command::SetPrice(Price {
                pair: pair(*base, *quote),
                quote_units: Amount::new(*up),
                base_units: Amount::new(*down),
                as_of: LedgerTime(*as_of as u64),
                age_max_ms: *age as u64,
                spread_bp: *bp as u32,
                quote_ms: *stands as u64,
            }),
            Ask::Quote { who, base, quote, buys, names_base, amount: units } => {
                let named = Some(Amount::new(*units));
                Command::RequestQuote {
                    customer: customer(who),
                    pair: pair(*base, *quote),
                    side: if *buys { Side::Buy } else { Side::Sell },
                    base: named.filter(|_| *names_base),
                    quote: named.filter(|_| !*names_base),
                }
            }
            Ask::Accept { who, id } => Command::AcceptQuote { customer: customer(who), quote: QuoteId(uuid(*id)) },
            Ask::Halt(number) => Command::Halt(halt(*number)),
            Ask::Resume(number) => Command::Resume(halt(*number)),
            Ask::Tick => Command::Tick,
            Ask::Confirm => Command::ConfirmTime,
            Ask::Clock(clock) => Command::SeeClock { clock: LedgerTime(*clock as u64) },
        }
    }
}

/// Whom a name of the second ledger means here.
fn owner(name: &str) -> Owner {
    match name {
        "inventory" => Owner::House(HouseAccount::Inventory),
        "spread" => Owner::House(HouseAccount::Spread),
        "fees" => Owner::House(HouseAccount::Fees),
        "bank" => Owner::House(HouseAccount::Bank),
        "suspense" => Owner::House(HouseAccount::Suspense),
        name => Owner::Customer(customer(name)),
    }
}

fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Quote(quote) => format!(
            "offer of {} for {}, {} of it margin, until {}",
            quote.base.units(),
            quote.quote.units(),
            quote.spread.units(),
            quote.expiry.0
        ),
        Outcome::Exchanged(_) => "exchanged".to_owned(),
        _ => "done".to_owned(),
    }
}

/// A UUIDv7: the id's high half is its time, its low half what tells it from others of that time.
fn uuid(id: i128) -> [u8; 16] {
    let (time, rest) = ((id >> 64) as u64, id as u64);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&time.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&rest.to_be_bytes());
    bytes[8] = 0x80;
    bytes
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: i128) -> i128 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        i128::from(mixed ^ mixed >> 31) % bound
    }

    fn one_in(&mut self, count: i128) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as i128) as usize]
    }
}

/// Both sides and what was asked of them so far.
struct Run {
    rng: Rng,
    naive: Naive,
    real: Real,
    sent: Vec<(From, Ask)>,
    offered: Vec<i128>,
    sessions: Vec<i128>,
    next: i128,
    answers: BTreeMap<String, usize>,
}

const PLAIN: [(&str, i128, &str); 10] = [
    ("p1", 4, "free"),
    ("p2", 4, "owed"),
    ("p3", 4, "owed"),
    ("p4", 4, "owes"),
    ("p5", 5, "free"),
    ("p6", 5, "owed"),
    // Of these so much is moved that their sums come to their end.
    ("p7", 6, "free"),
    ("p8", 6, "owed"),
    ("p9", 6, "owes"),
    ("p10", 6, "free"),
];
/// Money in amounts near the largest.
const LARGE: [i128; 2] = [7, 8];
const CUSTOMERS: [&str; 3] = ["c1", "c2", "c3"];

impl Run {
    fn new(seed: u64) -> Run {
        let mut naive = Naive { now: START, ..Naive::default() };
        let mut real = Real { state: State::default(), folded: State::default(), accounts: BTreeMap::new() };
        let mut setup = |command| {
            let request = Request { origin: Origin::Internal, command };
            real.send(START, request).expect("the platform is set up")
        };
        let fiat = [(2, "EUR"), (3, "XAU"), (7, "ZWR"), (8, "HUP")].map(|(number, code)| (number, code, "fiat"));
        let plain = [(4, "PTS"), (5, "MLS"), (6, "BIG")].map(|(number, code)| (number, code, "plain"));
        for (number, code, name) in fiat.into_iter().chain(plain) {
            naive.kinds.insert(number, name);
            let kind = if name == "fiat" { AssetKind::Fiat } else { AssetKind::Plain };
            setup(Command::DefineAsset(Asset {
                id: asset(number),
                code: code.to_owned(),
                decimals: 2,
                kind,
                chain: None,
            }));
        }
        for name in CUSTOMERS {
            naive.customers.insert(name.to_owned());
            setup(Command::OpenCustomer(customer(name)));
        }
        let mut accounts = BTreeMap::new();
        for (index, (name, number, rule)) in PLAIN.into_iter().enumerate() {
            naive.plain.insert(name.to_owned(), (number, rule));
            let rule = match rule {
                "owed" => BalanceRule::CreditNormal,
                "owes" => BalanceRule::DebitNormal,
                _ => BalanceRule::Free,
            };
            let owner = Owner::Plain(index as u64 + 1);
            if let Outcome::Account(id) = setup(Command::OpenAccount { owner, asset: asset(number), rule }) {
                accounts.insert(name.to_owned(), id);
            }
        }
        real.accounts = accounts;
        let (sent, offered, answers) = (Vec::new(), Vec::new(), BTreeMap::new());
        Run { rng: Rng(seed), naive, real, sent, offered, sessions: Vec::new(), next: 0, answers }
    }

    fn pass_time(&mut self) {
        let ms = match self.rng.below(400) {
            0 => self.rng.below(DAY / 2),
            1..=20 => 20_000 + self.rng.below(40_000),
            21..=120 => self.rng.below(20_000),
            _ => self.rng.below(500),
        };
        self.naive.now += ms;
    }

    /// A name that mostly exists.
    fn name(&mut self, names: &[&str], unknown: &str) -> String {
        if self.rng.one_in(40) { unknown.to_owned() } else { self.rng.pick(names).to_owned() }
    }

    fn units(&mut self, most: i128) -> u128 {
        let bits = self.rng.below(128 - i128::from(most.leading_zeros()));
        let least = i128::from(!self.rng.one_in(40));
        least.max(self.rng.below(1 << bits)) as u128
    }

    /// An amount near the largest: of so many bits that few of them fill an account, the largest, and at times just what an
    /// account's sum has room for, or one more than that.
    fn large(&mut self, sum: Big) -> u128 {
        let room = (Big::limit() - sum).fits().expect("no sum is above the limit");
        match self.rng.below(60) {
            0 => room,
            1 => room.saturating_add(1),
            2 => u128::MAX,
            _ => {
                let number = self.rng.below(1 << 64) as u128;
                let number = number << 64 | self.rng.below(1 << 64) as u128;
                number >> self.rng.below(40)
            }
        }
    }

    fn ask(&mut self) -> Ask {
        let number = self.rng.below(100);
        match number {
            0..=21 => self.ask_transfers(),
            22..=24 => self.ask_correction(),
            25..=34 => self.ask_receipt(),
            35..=42 => self.ask_price(),
            43..=62 => self.ask_quote(),
            63..=79 => {
                let live: Vec<i128> = self.naive.offers.keys().copied().collect();
                let ids = if live.is_empty() || self.rng.one_in(6) { &self.offered } else { &live };
                let id = match ids.len() {
                    0 => 0,
                    count => ids[self.rng.below(count as i128) as usize],
                };
                let who = match self.naive.offers.get(&id) {
                    Some(offer) if !self.rng.one_in(6) => offer.who.clone(),
                    _ => self.name(&CUSTOMERS, "c9"),
                };
                Ask::Accept { who, id }
            }
            80 if self.rng.one_in(2) => Ask::Halt(2 + self.rng.below(2)),
            81..=83 => Ask::Resume(2 + self.rng.below(2)),
            84..=87 => Ask::Confirm,
            88 => {
                let off = if self.rng.one_in(12) { 200_000 } else { 60_000 };
                Ask::Clock(self.naive.ticked.max(off) + self.rng.below(2 * off + 1) - off)
            }
            // Whoever sees that the clock is behind sets it right.
            _ if self.naive.jumped == Some(-1) && self.rng.one_in(2) => Ask::Clock(self.naive.now),
            _ => Ask::Tick,
        }
    }

    fn ask_receipt(&mut self) -> Ask {
        let reference = match self.rng.below(20) {
            0 => String::new(),
            1 => "two words".to_owned(),
            2..=4 => format!("r{}", self.rng.below(self.next + 1)),
            _ => format!("r{}", self.next),
        };
        let asset = [2, 2, 2, 3, 3, 3, 4, 7, 8, 9][self.rng.below(10) as usize];
        let who = self.name(&["c1", "c2", "c3", "inventory", "inventory"], "c9");
        let most = if who == "inventory" { 20_000 } else { 200_000 };
        let amount = if LARGE.contains(&asset) {
            let of = if self.rng.one_in(2) { self.naive.sums("bank", asset).debits } else { self.credits(&who, asset) };
            self.large(of)
        } else {
            self.units(most)
        };
        Ask::Receipt { reference, asset, amount, who }
    }

    /// What somebody has, where that is not less than nothing.
    fn had(&self, who: &str, asset: i128) -> u128 {
        let Sums { debits, credits } = self.naive.sums(who, asset);
        if debits > credits { 0 } else { (credits - debits).fits().expect("no sum is above the limit") }
    }

    fn credits(&self, who: &str, asset: i128) -> Big {
        self.naive.sums(who, asset).credits
    }

    fn ask_quote(&mut self) -> Ask {
        let (buys, names_base) = (self.rng.one_in(2), self.rng.one_in(2));
        let who = self.name(&CUSTOMERS, "c9");
        if self.rng.one_in(5) {
            // Mostly one customer, whose sums fill the sooner. Whoever pays the amount that is named has about so much; now and then nobody has.
            let who = if self.rng.one_in(4) { who } else { "c1".to_owned() };
            let payer = if buys == names_base { "inventory" } else { &who };
            let had = self.had(payer, if names_base { 7 } else { 8 });
            let amount = if self.rng.one_in(4) { u128::MAX } else { had } >> self.rng.below(2);
            return Ask::Quote { amount, who, base: 7, quote: 8, buys, names_base };
        }
        let (base, quote) = if self.rng.one_in(30) { (2, 3) } else { (3, 2) };
        Ask::Quote { who, base, quote, buys, names_base, amount: self.units(20_000) }
    }

    fn ask_transfers(&mut self) -> Ask {
        let names = PLAIN.map(|(name, ..)| name);
        if self.rng.one_in(6) {
            return self.ask_large_transfers(&names[6..]);
        }
        // Mostly of one asset, or hardly any chain of links would ever be posted.
        let names = if self.rng.one_in(8) { &names[..6] } else { &names[..4] };
        let count = if self.rng.one_in(60) { 0 } else { 1 + self.rng.below(5) };
        let transfer = |run: &mut Run| {
            let debit = run.name(names, "p99");
            let mut credit = run.name(names, "p99");
            if debit == credit && !run.rng.one_in(10) {
                credit = if debit == "p1" { "p2".to_owned() } else { "p1".to_owned() };
            }
            (debit, credit, run.units(1_000))
        };
        Ask::Transfers((0..count).map(|_| transfer(self)).collect())
    }

    fn ask_large_transfers(&mut self, names: &[&str]) -> Ask {
        let count = 1 + self.rng.below(3);
        let transfer = |run: &mut Run| {
            let (debit, credit) = (run.name(names, "p99"), run.name(names, "p99"));
            let of = if run.rng.one_in(2) { run.credits(&credit, 6) } else { run.naive.sums(&debit, 6).debits };
            // A run is long: most are so small that many come before an account is full.
            let amount = run.large(of);
            (debit, credit, if run.rng.one_in(4) { amount } else { amount >> 8 })
        };
        Ask::Transfers((0..count).map(|_| transfer(self)).collect())
    }

    fn ask_correction(&mut self) -> Ask {
        let reference = match self.rng.below(20) {
            0 => "two words".to_owned(),
            1..=2 => self.rng.pick(&["r1", "r2", "r3", "r4"]).to_owned(),
            _ => format!("r{}", self.next),
        };
        let asset = [2, 2, 3, 3, 4, 7, 7, 8, 8, 9][self.rng.below(10) as usize];
        let sides = ["c1", "c2", "c3", "inventory", "spread", "fees", "bank", "suspense"];
        // Money is given back to the bank at times, and seldom said to have come from there.
        let (givers, takers) = if self.rng.one_in(8) { (8, 8) } else { (6, 7) };
        let (debit, credit) = (self.name(&sides[..givers], "c9"), self.name(&sides[..takers], "c9"));
        // Back and forth with all that somebody has, sums come to their end.
        let amount = match LARGE.contains(&asset) {
            true if self.rng.one_in(4) => self.large(self.credits(&credit, asset)),
            true => self.had(&debit, asset) >> self.rng.below(3),
            false => self.units(2_000),
        };
        Ask::Correction { reference, asset, amount, debit, credit }
    }

    fn ask_price(&mut self) -> Ask {
        let factor = match self.rng.below(12) {
            0 => self.rng.below(100_000),
            1..=4 => 4_500 + self.rng.below(1_000),
            _ => 4_990 + self.rng.below(20),
        };
        let as_of = self.naive.now + self.rng.below(20) * 10 - 180;
        let age = if self.rng.one_in(20) { 0 } else { 10_000 + self.rng.below(300_000) };
        let stands = if self.rng.one_in(20) { 600_001 } else { 1 + self.rng.below(60_000) };
        let bp = if self.rng.one_in(20) { 2_001 } else { self.rng.below(300) };
        let factor = factor as u128 + 1;
        if self.rng.one_in(6) {
            return Ask::Price { base: 7, quote: 8, up: factor, down: 2_500, as_of, age, bp, stands };
        }
        if self.rng.one_in(30) {
            return Ask::Price { base: 2, quote: 3, up: 1_000, down: factor, as_of, age: 10_000, bp, stands };
        }
        Ask::Price { base: 3, quote: 2, up: factor, down: 1_000, as_of, age, bp, stands }
    }

    fn from(&mut self) -> From {
        self.next += 1;
        match self.rng.below(20) {
            0 => From::Ourselves,
            1 => {
                // Mostly one that is known or begins now; the first sequence of one that was forgotten comes up as well.
                let known: Vec<i128> = self.sessions.iter().rev().take(6).copied().collect();
                let session = match self.rng.below(12) {
                    0 if !self.sessions.is_empty() => {
                        self.sessions[self.rng.below(self.sessions.len() as i128) as usize]
                    }
                    1..=9 if !known.is_empty() => known[self.rng.below(known.len() as i128) as usize],
                    _ => ((self.naive.now + self.rng.below(800_000) - 90_000) << 64) + self.next,
                };
                self.sessions.push(session);
                let last = self.naive.sessions.get(&session).copied().unwrap_or(0);
                From::Session(session, last + 1 - i128::from(self.rng.one_in(4)) + i128::from(self.rng.one_in(4)))
            }
            2 => From::Id(((self.naive.now + self.rng.below(700_000)) << 64) + self.next, 1),
            _ => From::Id((self.naive.now << 64) + self.next, 1),
        }
    }

    fn step(&mut self, seed: u64) {
        self.pass_time();
        let (from, ask) = match self.rng.below(20) {
            0 if !self.sent.is_empty() => {
                let recent = if self.rng.one_in(2) { self.sent.len().saturating_sub(50) } else { 0 };
                let index = recent as i128 + self.rng.below((self.sent.len() - recent) as i128);
                let (from, ask) = self.sent[index as usize].clone();
                match from {
                    From::Id(id, _) if self.rng.one_in(4) => (From::Id(id, 2), ask),
                    from => (from, ask),
                }
            }
            _ => (self.from(), self.ask()),
        };
        self.play(seed, from, ask);
    }

    /// One customer is credited nearly all that an amount can be, and has half of it.
    fn fill(&mut self, seed: u64) {
        let (half, left) = (1 << 127, 1 << 121);
        for asset in LARGE {
            let reference = format!("fill-{asset}");
            let receipt = Ask::Receipt { reference, asset, amount: half, who: "c1".to_owned() };
            let moves = [("c1", "inventory", half), ("inventory", "c1", half - left)].map(|(debit, credit, amount)| {
                let (debit, credit) = (debit.to_owned(), credit.to_owned());
                Ask::Correction { reference: format!("fill-{asset}-{credit}"), asset, amount, debit, credit }
            });
            for ask in std::iter::once(receipt).chain(moves) {
                self.play(seed, From::Ourselves, ask);
            }
        }
        assert_eq!(self.answers, BTreeMap::from([("done".to_owned(), 6)]));
    }

    fn play(&mut self, seed: u64, from: From, ask: Ask) {
        let expected = self.naive.hear(&from, &ask);
        let found = self.real.hear(self.naive.now, &from, &ask);
        assert_eq!(found, expected, "seed {seed}, command {}: {ask:?} from {from:?}", self.sent.len());
        let answer = match &expected {
            Ok(answer) if answer.starts_with("offer") => "offer",
            Ok(answer) => answer,
            Err(code) => code,
        };
        *self.answers.entry(answer.to_owned()).or_default() += 1;
        if answer == "amount_too_large" {
            let of = match &ask {
                Ask::Transfers(_) => "transfers",
                Ask::Receipt { .. } => "receipt",
                Ask::Correction { .. } => "correction",
                Ask::Quote { .. } => "quote",
                _ => "accept",
            };
            *self.answers.entry(format!("amount_too_large:{of}")).or_default() += 1;
        }
        if let (From::Id(id, _), Ok(answer)) = (&from, &expected)
            && answer.starts_with("offer")
        {
            self.offered.push(*id);
        }
        self.sent.push((from, ask));
    }

    fn compare(&self, seed: u64) {
        let at = format!("seed {seed}, after command {}", self.sent.len());
        let mut seen = BTreeSet::new();
        for account in self.real.state.ledger().accounts() {
            let name = name_of(&account.owner);
            let key = (name, i128::from(account.asset.0));
            let big = |amount: Amount| Big::from(amount.units());
            let sums = Sums { debits: big(account.debits_posted), credits: big(account.credits_posted) };
            assert_eq!(sums, self.naive.sums(&key.0, key.1), "{at}: {key:?}");
            seen.insert(key);
        }
        let is_used = |sums: &Sums| *sums != Sums::default();
        let missing = self.naive.accounts.iter().find(|(key, sums)| is_used(sums) && !seen.contains(*key));
        assert_eq!(missing, None, "{at}");
        let offers: Vec<_> = self.naive.offers.keys().map(|&id| QuoteId(uuid(id))).collect();
        assert_eq!(self.real.state.quotes().keys().copied().collect::<Vec<_>>(), offers, "{at}");
        assert_eq!(self.real.state.remembered().len(), self.naive.answers.len(), "{at}");
        let sessions: BTreeMap<SessionId, u64> =
            self.naive.sessions.iter().map(|(&id, &last)| (SessionId(uuid(id)), last as u64)).collect();
        assert_eq!(self.real.state.sessions(), &sessions, "{at}");
        assert_eq!(
            snapshot::hash(&self.real.state),
            snapshot::hash(&self.real.folded),
            "{at}: decide and fold disagree"
        );
    }
}

fn name_of(owner: &Owner) -> String {
    match owner {
        Owner::Customer(id) => String::from_utf8_lossy(&id.0).trim_end_matches('\0').to_owned(),
        Owner::House(HouseAccount::Bank) => "bank".to_owned(),
        Owner::House(HouseAccount::Inventory) => "inventory".to_owned(),
        Owner::House(HouseAccount::Spread) => "spread".to_owned(),
        Owner::House(HouseAccount::Fees) => "fees".to_owned(),
        Owner::Plain(number) => format!("p{number}"),
        Owner::House(_) | Owner::Custody(_) => panic!("nothing here touches {owner:?}"),
    }
}

#[test]
fn two_ledgers_answer_alike_and_end_alike() {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 1..=4 {
        let mut run = Run::new(seed);
        run.fill(seed);
        for step in 0..STEPS {
            run.step(seed);
            if step % 500 == 0 {
                run.compare(seed);
            }
        }
        run.compare(seed);
        for (answer, count) in run.answers {
            *answers.entry(answer).or_default() += count;
        }
    }
    println!("{answers:#?}");
    let expected = "\
        done offer exchanged sequence_done sequence_gap session_expired session_ahead idempotency_mismatch id_expired id_ahead transfers_empty \
        debit_account_unknown credit_account_unknown transfer_to_itself assets_differ amount_zero \
        insufficient_funds credit_exceeds_debits bank_reference_invalid bank_reference_used asset_unknown \
        correction_reference_invalid correction_reference_used asset_plain debit_not_correctable credit_not_correctable \
        asset_not_fiat customer_unknown price_ahead pair_reversed price_older price_age_invalid quote_time_invalid \
        spread_too_large price_out_of_band id_missing price_unknown quote_halted price_stale quote_too_small \
        inventory_insufficient quote_unknown quote_expired price_moved halt_exists halt_unknown time_unconfirmed \
        time_not_jumped time_behind amount_too_large:transfers amount_too_large:receipt amount_too_large:correction \
        amount_too_large:quote amount_too_large:accept";
    for answer in expected.split_whitespace() {
        assert!(answers.get(answer).is_some_and(|&count| count >= 5), "{answer} came up too seldom to mean anything");
    }
    assert!(answers["done"] > 10_000 && answers["exchanged"] > 500, "most commands do something");
}

//! A platform in memory for tests: a state, its journal, and a check after every decision that decide and fold agree.

use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, DepthStep, Halt, HaltAction, HaltReason};
use florin_core::broker::{Pair, Price};
use florin_core::command::{Command, Origin, Outcome, PlainTransfer, Request};
use florin_core::custody::{Beneficiary, Block, BlockRef, Chain, ChainFamily};
use florin_core::decide::{Refusal, Verdict};
use florin_core::event::{EpochStarted, Event};
use florin_core::id::{
    AccountId, AssetId, BlockHash, ChainId, CommandId, CustomerId, Digest, Epoch, Height, LedgerTime, SessionId,
};
use florin_core::journal::{Batch, Entry, Row};
use florin_core::ledger::{Account, BalanceRule, HouseAccount, Owner};
use florin_core::snapshot;
use florin_core::state::State;
use florin_core::wire::Message;
use std::collections::BTreeMap;

/// When tests begin, in Unix milliseconds.
pub const START_MS: u64 = 1_700_000_000_000;

pub const BTC: AssetId = AssetId(1);
pub const EUR: AssetId = AssetId(2);
/// A unit that a bank holds and the broker quotes, so that exchanges need no chain here.
pub const XAU: AssetId = AssetId(3);
pub const POINTS: AssetId = AssetId(4);
pub const MILES: AssetId = AssetId(5);
pub const BITCOIN: ChainId = ChainId(1);
pub const GOLD: Pair = Pair { base: XAU, quote: EUR };
pub const ANN: CustomerId = CustomerId([0xa; 16]);
pub const BEN: CustomerId = CustomerId([0xb; 16]);

pub struct World {
    pub state: State,
    pub now: LedgerTime,
    pub rows: Vec<Row>,
    next_id: u64,
}

impl World {
    /// A journal with its first row, and no definitions.
    pub fn empty() -> World {
        let mut world = World { state: State::default(), now: LedgerTime(START_MS), rows: Vec::new(), next_id: 0 };
        let started = EpochStarted {
            epoch: Epoch(1),
            node: "a".to_owned(),
            build: "test".to_owned(),
            format: 1,
            config: Digest([1; 32]),
            platform: [7; 16],
        };
        let entry = Entry { command: None, request: None, events: vec![Event::EpochStarted(started)], outcome: None };
        world.append(Epoch(1), entry);
        world
    }

    /// Assets, two customers, a price, and a house that holds what it quotes.
    pub fn new() -> World {
        let mut world = World::empty();
        for asset in assets() {
            world.done(Command::DefineAsset(asset));
        }
        world.done(Command::DefineChain { chain: chain(), start: start() });
        world.done(Command::OpenCustomer(ANN));
        world.done(Command::OpenCustomer(BEN));
        world.receive("house-eur", EUR, 100_000_000, Beneficiary::INVENTORY);
        world.receive("house-xau", XAU, 100_000, Beneficiary::INVENTORY);
        world.done(Command::SetPrice(world.price()));
        world
    }

    /// Decides under a fresh id; checks everything that holds for any decision.
    pub fn run(&mut self, command: Command) -> Result<Outcome, Refusal> {
        let request = self.request(command);
        self.send(&request).map(|(outcome, _)| outcome)
    }

    /// The same for a given request; says also which events came of it, none for a repetition.
    pub fn send(&mut self, request: &Request) -> Result<(Outcome, Vec<Event>), Refusal> {
        let mut decided = self.state.clone();
        decided.begin_row(self.state.counters().seq.next(), self.now);
        let untouched = snapshot::chunks(&decided);
        match decided.decide(request, self.now) {
            Err(refusal) => {
                assert_eq!(snapshot::chunks(&decided), untouched, "{refusal} changed something");
                Err(refusal)
            }
            Ok(Verdict::Repeated(outcome)) => {
                assert_eq!(snapshot::chunks(&decided), untouched, "a repetition changed something");
                Ok((outcome, Vec::new()))
            }
            Ok(Verdict::Decided { events, outcome }) => {
                assert!(events.len() <= florin_core::journal::EVENTS_MAX);
                let (command, request) = match request.origin {
                    Origin::Request { id, request } => (Some(id), Some(request)),
                    Origin::Session { .. } | Origin::Internal => (None, None),
                };
                let entry = Entry { command, request, events: events.clone(), outcome: Some(outcome.clone()) };
                self.append(self.state.counters().epoch, entry);
                assert_eq!(snapshot::chunks(&decided), snapshot::chunks(&self.state), "decide and fold disagree");
                check_books(&self.state);
                check_snapshot(&self.state);
                Ok((outcome, events))
            }
        }
    }

    /// Seals one entry as the next row, and folds it as a reader would.
    pub fn append(&mut self, epoch: Epoch, entry: Entry) {
        let batch = Batch { entries: vec![entry] };
        let (seq, previous) =
            self.rows.last().map_or((self.state.counters().seq, Digest::ZERO), |row| (row.seq, row.hash));
        let row = Row::seal(seq.next(), epoch, self.now, previous, batch.encode());
        let read = row.open(seq, previous).expect("a sealed row opens");
        assert_eq!(read, batch, "a row says what was written");
        self.state.apply_row(&row, &read);
        self.rows.push(row);
    }

    /// A request under a fresh id of this moment.
    pub fn request(&mut self, command: Command) -> Request {
        self.next_id += 1;
        Request { origin: Origin::Request { id: id_at(self.now.0, self.next_id), request: Digest([9; 32]) }, command }
    }

    /// Runs what must not be refused.
    pub fn done(&mut self, command: Command) -> Outcome {
        let text = format!("{command:?}");
        self.run(command).unwrap_or_else(|refusal| panic!("{text}: {}", refusal.code()))
    }

    /// Runs what must be refused, and says with which code.
    pub fn refused(&mut self, command: Command) -> Refusal {
        let text = format!("{command:?}");
        self.run(command).expect_err(&text)
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub fn receive(&mut self, reference: &str, asset: AssetId, units: u128, beneficiary: Beneficiary) {
        self.done(receipt(reference, asset, units, beneficiary));
    }

    /// Opens the plain account `name` of an asset.
    pub fn open(&mut self, name: u64, asset: AssetId, rule: BalanceRule) -> AccountId {
        match self.done(Command::OpenAccount { owner: Owner::Plain(name), asset, rule }) {
            Outcome::Account(id) => id,
            other => panic!("opening an account answered {other:?}"),
        }
    }

    /// Gold at 50 EUR and a cent for the thousandth, with half a percent of margin.
    pub fn price(&self) -> Price {
        Price {
            pair: GOLD,
            quote_units: Amount::new(5_001),
            base_units: Amount::new(1_000),
            as_of: self.now,
            age_max_ms: 30_000,
            spread_bp: 50,
            quote_ms: 10_000,
        }
    }

    pub fn account(&self, owner: Owner, asset: AssetId) -> Option<&Account> {
        self.state.ledger().account_of(&owner, asset)
    }

    /// What the owner is owed (negative: owes), posted.
    pub fn balance(&self, owner: Owner, asset: AssetId) -> i128 {
        let balance =
            |account: &Account| account.credits_posted.units() as i128 - account.debits_posted.units() as i128;
        self.account(owner, asset).map_or(0, balance)
    }

    pub fn house(&self, account: HouseAccount, asset: AssetId) -> i128 {
        self.balance(Owner::House(account), asset)
    }
}

/// I1 and I2: per asset debits equal credits, posted and pending, and no account leaves its rule. Sums over all accounts may
/// wrap in tests of the range's end; equal they are all the same.
pub fn check_books(state: &State) {
    let mut sums: BTreeMap<AssetId, [u128; 4]> = BTreeMap::new();
    for account in state.ledger().accounts() {
        let [debits, credits, held, announced] = sums.entry(account.asset).or_default();
        *debits = debits.wrapping_add(account.debits_posted.units());
        *credits = credits.wrapping_add(account.credits_posted.units());
        *held = held.wrapping_add(account.debits_pending.units());
        *announced = announced.wrapping_add(account.credits_pending.units());
        let (debits, credits) = (account.debits_posted.units(), account.credits_posted.units());
        match account.rule {
            BalanceRule::CreditNormal => assert!(credits >= debits + account.debits_pending.units(), "{account:?}"),
            BalanceRule::DebitNormal => assert!(debits >= credits + account.credits_pending.units(), "{account:?}"),
            BalanceRule::Free => {}
        }
    }
    for (asset, [debits, credits, held, announced]) in sums {
        assert_eq!((debits, held), (credits, announced), "asset {asset}: debits equal credits");
    }
}

/// A snapshot folds back to the same bytes.
pub fn check_snapshot(state: &State) {
    let (header, chunks) = snapshot::write(state, Digest([3; 32]), "test");
    let read = snapshot::read(&header, &chunks).expect("what was written is read");
    assert_eq!(snapshot::chunks(&read), chunks, "a snapshot restates the state byte for byte");
}

/// A UUIDv7 of this time, told from others of it by `number`.
pub fn id_at(unix_ms: u64, number: u64) -> CommandId {
    let mut id = [0u8; 16];
    id[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    id[6] = 0x70;
    id[8..].copy_from_slice(&number.to_be_bytes());
    id[8] = 0x80;
    CommandId(id)
}

/// A bulk session of this time.
pub fn session_at(unix_ms: u64, number: u64) -> SessionId {
    SessionId(id_at(unix_ms, number).0)
}

pub fn asset(id: AssetId, code: &str, decimals: u8, kind: AssetKind, chain: Option<ChainId>) -> Asset {
    Asset { id, code: code.to_owned(), decimals, kind, chain }
}

pub fn assets() -> [Asset; 5] {
    [
        asset(BTC, "BTC", 8, AssetKind::Coin, Some(BITCOIN)),
        asset(EUR, "EUR", 2, AssetKind::Fiat, None),
        asset(XAU, "XAU", 3, AssetKind::Fiat, None),
        asset(POINTS, "POINTS", 0, AssetKind::Plain, None),
        asset(MILES, "MILES", 0, AssetKind::Plain, None),
    ]
}

pub fn chain() -> Chain {
    Chain {
        id: BITCOIN,
        family: ChainFamily::Bitcoin,
        name: "bitcoin-regtest".to_owned(),
        genesis: BlockHash([1; 32]),
        coin: BTC,
        coinbase_maturity: 100,
    }
}

pub fn start() -> Block {
    Block {
        chain: BITCOIN,
        at: BlockRef { height: Height(0), hash: BlockHash([1; 32]) },
        previous: BlockHash([0; 32]),
        time_s: 1_296_688_602,
    }
}

pub fn policy() -> AssetPolicy {
    let step = |from, confirmations| DepthStep { amount_from: Amount::new(from), confirmations };
    AssetPolicy {
        asset: BTC,
        depths: vec![step(0, 1), step(10_000, 3), step(1_000_000, 3), step(100_000_000, 6)],
        deposit_min: Amount::new(1_000),
        withdrawal_min: Amount::new(10_000),
        withdrawal_fee: Amount::new(500),
        automatic_max: Amount::new(1_000_000),
        final_confirmations: 6,
        missing_ms: 3_600_000,
        intent_ms: 3_600_000,
        network_fee_max: Amount::new(100_000),
        kept_blocks: None,
    }
}

pub fn halt_of(asset: Option<AssetId>, action: HaltAction) -> Halt {
    Halt { asset, action, reason: HaltReason::Operator }
}

pub fn receipt(reference: &str, asset: AssetId, units: u128, beneficiary: Beneficiary) -> Command {
    Command::BookBankReceipt { reference: reference.to_owned(), asset, amount: Amount::new(units), beneficiary }
}

pub fn correction(reference: &str, asset: AssetId, units: u128, debit: Owner, credit: Owner) -> Command {
    Command::BookCorrection { reference: reference.to_owned(), asset, amount: Amount::new(units), debit, credit }
}

pub fn transfer(debit: AccountId, credit: AccountId, units: u128) -> PlainTransfer {
    PlainTransfer { debit, credit, amount: Amount::new(units) }
}

/// Runs commands that are refused for less and less: each must get the refusal beside it, and the refusals must come in the
/// order in which their enum declares them. So each step also proves its rank over all that follow.
pub fn check_ladder<R>(world: &mut World, steps: Vec<(Command, R)>)
where
    R: Copy + Ord + std::fmt::Debug + Into<Refusal>,
{
    assert!(steps.is_sorted_by(|(_, upper), (_, lower)| upper <= lower), "a ladder goes down its enum");
    for (command, expected) in steps {
        assert_eq!(world.refused(command), expected.into());
    }
}

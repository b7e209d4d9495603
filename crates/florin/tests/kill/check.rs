//! What must hold when the killing is over: what was acknowledged is there, and nothing is there twice. Judged from outside: by
//! the interface's answers, the journal's rows, the chain's blocks and the signer's memory, each held against the others.

use crate::load::{Acknowledged, Caller, Kind, Record, WITHDRAWAL_FEE_SAT, text, units};
use crate::process::until;
use crate::site::Site;
use bitcoin::ScriptBuf;
use bitcoin::consensus::encode::serialize;
use florin::demo::world::World;
use florin::signer::MEMORY_FILE;
use florin_core::custody::WithdrawalStatus;
use florin_core::event::{Event, PlanSigned};
use florin_core::id::{AssetId, CommandId, CustomerId, PlanId, Seq, TxId, WalletId};
use florin_core::journal::{Batch, Row};
use florin_core::ledger::{Account, HouseAccount, Owner};
use florin_core::state::State;
use florin_core::wire::Message;
use florin_devnet::network::NodeId;
use florin_engine::audit::{check_books, verify_journal};
use florin_engine::load::READ_ROWS_MAX;
use florin_signer::memory::Memory;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const BITCOIN: AssetId = AssetId(1);
const EURO: AssetId = AssetId(2);

/// Lets everything come to its end: withdrawals final, payments credited. All processes run.
pub fn drain(site: &Site, record: &Record) {
    let mut caller = site.caller();
    let mut open: BTreeSet<&str> = record.of(Kind::Withdrawal).map(|told| told.key.as_str()).collect();
    until("every withdrawal is final", || {
        site.world.mine(1).expect("a block");
        open.retain(|id| {
            let withdrawal = caller.get(&format!("/api/v1/withdrawals/{id}"));
            let status = text(&withdrawal, "status");
            assert!(!["cancelled", "refunded"].contains(&status), "{withdrawal}");
            status != "final"
        });
        open.is_empty().then_some(())
    });
    let customers: BTreeSet<&str> = record.paid.iter().map(|paid| paid.customer.as_str()).collect();
    for customer in customers {
        let paid: i128 = record.paid.iter().filter(|paid| paid.customer == customer).map(|paid| paid.satoshi).sum();
        until("every payment is credited", || {
            let mut credited = 0;
            let mut after = String::new();
            loop {
                let page = caller.get(&format!("/api/v1/customers/{customer}/deposits?limit=500{after}"));
                for deposit in page["items"].as_array().expect("a list") {
                    let is_credited = deposit["status"] == "credited";
                    credited += if is_credited { units(text(deposit, "amount"), 8) } else { 0 };
                }
                let Some(next) = page["next"].as_str() else { break };
                after = format!("&after={next}");
            }
            assert!(credited <= paid, "{customer} was credited {credited} for payments of {paid}");
            if credited < paid {
                site.world.mine(1).expect("a block");
            }
            (credited == paid).then_some(())
        });
    }
}

/// Asks for everything again with the same keys: each answer is the one that was given, and nothing is done.
pub fn ask_again(site: &Site, record: &Record) {
    let mut caller = site.caller();
    for told in &record.acknowledged {
        let again = caller.post(&told.key, &told.path, &told.body);
        let again = again.unwrap_or_else(|code| panic!("{code} for the repetition of {told:?}"));
        for name in fixed_fields(told.kind) {
            assert_eq!(again[*name], told.answer[*name], "'{name}' of the repetition of {told:?}");
        }
    }
}

/// The fields of an answer that time does not change.
fn fixed_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Customer => &["id", "name", "opened_ms"],
        Kind::Receipt | Kind::Correction => &["done"],
        Kind::Address => &["address", "script", "wallet", "index", "beneficiary"],
        Kind::Quote | Kind::Exchange => {
            &["id", "customer", "side", "base_amount", "quote_amount", "spread", "expiry_ms"]
        }
        Kind::Withdrawal => &["id", "customer", "amount", "fee", "address"],
    }
}

/// Whoever serves now was started from a snapshot, which the processes before it wrote.
pub fn check_snapshots(site: &Site) {
    let status = site.caller().get("/api/v1/status");
    let started_from = status["snapshots"]["started_from"].as_u64();
    eprintln!("the last process started from the snapshot of row {started_from:?}");
    assert!(started_from > Some(0), "{status}");
}

/// What was acknowledged, seen through the interface.
pub fn check_interface(site: &Site, record: &Record) {
    let mut caller = site.caller();
    let books = caller.get("/api/v1/books");
    assert_eq!(books["balanced"], true, "{books}");
    for told in record.of(Kind::Customer) {
        let customer = caller.get(&format!("/api/v1/customers/{}", told.key));
        assert_eq!(customer["name"], told.body["name"], "{customer}");
        assert_eq!(customer["freezes"], 0, "{customer}");
        check_addresses(&mut caller, record, &told.key);
    }
    for told in record.of(Kind::Withdrawal) {
        let withdrawal = caller.get(&format!("/api/v1/withdrawals/{}", told.key));
        assert_eq!(withdrawal["amount"], told.answer["amount"], "{withdrawal}");
        assert_eq!(withdrawal["status"], "final", "{withdrawal}");
    }
}

fn check_addresses(caller: &mut Caller, record: &Record, customer: &str) {
    let shown = caller.get(&format!("/api/v1/customers/{customer}/addresses"));
    let shown = shown["items"].as_array().expect("a list").iter().map(|address| text(address, "script").to_owned());
    let told = record.of(Kind::Address).filter(|told| told.customer == customer);
    let mut told: Vec<String> = told.map(|told| text(&told.answer, "script").to_owned()).collect();
    let mut shown: Vec<String> = shown.collect();
    told.sort();
    shown.sort();
    assert_eq!(shown, told, "the addresses of {customer}: those told, each once");
}

/// The journal, read past the platform.
pub struct Past {
    pub rows: Vec<(Row, Batch)>,
    pub state: State,
}

/// Reads and verifies the whole journal.
pub fn read_journal(site: &Site) -> Past {
    let mut journal = site.journal();
    let report = verify_journal(journal.as_mut(), None, |_| {}).expect("the journal is read");
    assert!(report.wrong.is_none(), "{:?}", report.wrong);
    let state = report.state.expect("nothing is wrong");
    assert_eq!(check_books(&state), [], "the books at row {}", report.head.seq);
    let mut rows = Vec::new();
    let mut at = Seq::START;
    loop {
        let more = journal.read(at, READ_ROWS_MAX).expect("the journal is read");
        let Some(last) = more.last() else { break };
        at = last.seq;
        rows.extend(more.into_iter().map(|row| {
            let batch = Batch::decode(&row.payload).expect("it was verified");
            (row, batch)
        }));
    }
    assert!(rows.windows(2).all(|pair| pair[0].0.epoch <= pair[1].0.epoch), "epochs only grow");
    Past { rows, state }
}

impl Past {
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.rows.iter().flat_map(|(_, batch)| batch.entries.iter()).flat_map(|entry| entry.events.iter())
    }

    /// Names of the nodes that took the lead, in order.
    pub fn leaders(&self) -> Vec<String> {
        let leader = |event: &Event| match event {
            Event::EpochStarted(started) => Some(started.node.clone()),
            _ => None,
        };
        self.events().filter_map(leader).collect()
    }
}

/// Everything, with all processes dead.
pub fn check_stores(site: &Site, record: &Record) -> Past {
    let past = read_journal(site);
    check_commands(&past, record);
    check_balances(&past.state, record);
    let chain = Chain::read(&site.world);
    check_paid_once(&past, record, &chain);
    check_custody(site, &past);
    check_signer(site, &past, &chain);
    past
}

fn ids<'a>(told: impl Iterator<Item = &'a Acknowledged>) -> BTreeSet<String> {
    told.map(|told| told.key.clone()).collect()
}

/// Each command is in the journal once, and so is all that was acknowledged.
fn check_commands(past: &Past, record: &Record) {
    let mut commands: BTreeMap<CommandId, u32> = BTreeMap::new();
    for entry in past.rows.iter().flat_map(|(_, batch)| &batch.entries) {
        if let Some(id) = entry.command {
            *commands.entry(id).or_default() += 1;
        }
    }
    let twice: Vec<_> = commands.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "commands executed twice: {twice:?}");
    for told in &record.acknowledged {
        let id = CommandId::parse(&told.key).expect("an id");
        assert!(commands.contains_key(&id), "acknowledged and not in the journal: {told:?}");
    }
    let mut references = BTreeMap::new();
    let mut corrections = BTreeMap::new();
    let mut withdrawals = BTreeMap::new();
    let mut paths = BTreeSet::new();
    for event in past.events() {
        match event {
            Event::BankReceiptBooked(booked) => *references.entry(booked.reference.clone()).or_insert(0) += 1,
            Event::CorrectionBooked(booked) => *corrections.entry(booked.reference.clone()).or_insert(0) += 1,
            Event::WithdrawalRequested(withdrawal) => *withdrawals.entry(withdrawal.id.to_string()).or_insert(0) += 1,
            Event::AddressIssued(address) => assert!(paths.insert(address.path), "{:?} was issued twice", address.path),
            _ => {}
        }
    }
    let counts = references.values().chain(corrections.values()).chain(withdrawals.values());
    assert!(counts.copied().all(|count| count == 1), "something was booked twice");
    for (kind, booked) in [(Kind::Receipt, references), (Kind::Correction, corrections)] {
        let told: BTreeSet<String> = record.of(kind).map(|told| text(&told.body, "reference").to_owned()).collect();
        assert_eq!(booked.into_keys().collect::<BTreeSet<_>>(), told, "{kind:?}");
    }
    assert_eq!(withdrawals.into_keys().collect::<BTreeSet<_>>(), ids(record.of(Kind::Withdrawal)), "withdrawals");
}

/// Every customer has exactly what the acknowledged changes and the payments add up to.
fn check_balances(state: &State, record: &Record) {
    let mut cents: BTreeMap<&str, i128> = BTreeMap::new();
    let mut satoshi: BTreeMap<&str, i128> = BTreeMap::new();
    for told in &record.acknowledged {
        let customer = told.customer.as_str();
        let (cents, satoshi) = (cents.entry(customer).or_default(), satoshi.entry(customer).or_default());
        match told.kind {
            Kind::Receipt => *cents += units(text(&told.body, "amount"), 2),
            Kind::Correction => {
                let sign = if text(&told.body, "credit") == customer { 1 } else { -1 };
                *cents += sign * units(text(&told.body, "amount"), 2);
            }
            Kind::Exchange => {
                let sign = if text(&told.answer, "side") == "buy" { 1 } else { -1 };
                *satoshi += sign * units(text(&told.answer, "base_amount"), 8);
                *cents -= sign * units(text(&told.answer, "quote_amount"), 2);
            }
            Kind::Withdrawal => *satoshi -= units(text(&told.body, "amount"), 8) + WITHDRAWAL_FEE_SAT,
            Kind::Customer | Kind::Address | Kind::Quote => {}
        }
    }
    for paid in &record.paid {
        *satoshi.entry(&paid.customer).or_default() += paid.satoshi;
    }
    for told in record.of(Kind::Customer) {
        let owner = Owner::Customer(CustomerId::parse(&told.key).expect("an id"));
        for (asset, expected) in [(EURO, &cents), (BITCOIN, &satoshi)] {
            let account = state.ledger().account_of(&owner, asset);
            let has = account.map_or(0, |account| account.credit_balance().units());
            let expected = expected.get(told.key.as_str()).copied().unwrap_or(0);
            assert_eq!(i128::try_from(has), Ok(expected), "{} of asset {asset}", told.key);
        }
    }
    let bank = state
        .ledger()
        .account_of(&Owner::House(HouseAccount::Bank), EURO)
        .map_or(0, |bank| bank.debit_balance().units());
    let received: i128 = record.of(Kind::Receipt).map(|told| units(text(&told.body, "amount"), 2)).sum();
    assert_eq!(i128::try_from(bank), Ok(received), "what is at the bank");
}

/// The chain as its first node has it.
struct Chain {
    /// Every confirmed transaction's bytes.
    transactions: BTreeMap<TxId, Vec<u8>>,
    /// Every payment ever made in it, by script.
    payments: BTreeMap<ScriptBuf, Vec<u64>>,
}

impl Chain {
    fn read(world: &World) -> Chain {
        let network = world.network();
        let network = network.lock().expect("nobody panics");
        let node = network.node(NodeId(0));
        let mut chain = Chain { transactions: BTreeMap::new(), payments: BTreeMap::new() };
        for height in 1..=node.height() {
            let hash = node.tree().at(height).expect("it is on the chain");
            for tx in &node.block(&hash).expect("it is there").txdata {
                let id = bitcoin::hashes::Hash::to_byte_array(tx.compute_txid());
                chain.transactions.insert(TxId(id), serialize(tx));
                for output in &tx.output {
                    chain.payments.entry(output.script_pubkey.clone()).or_default().push(output.value.to_sat());
                }
            }
        }
        chain
    }
}

/// Each withdrawal is paid once, with its amount, to its script.
fn check_paid_once(past: &Past, record: &Record, chain: &Chain) {
    for told in record.of(Kind::Withdrawal) {
        let address: bitcoin::Address<bitcoin::address::NetworkUnchecked> =
            text(&told.body, "address").parse().expect("an address");
        let script = address.assume_checked().script_pubkey();
        let amount = u64::try_from(units(text(&told.body, "amount"), 8)).expect("it is small");
        assert_eq!(chain.payments.get(&script), Some(&vec![amount]), "on the chain for {told:?}");
    }
    for withdrawal in past.state.withdrawals().values() {
        assert_eq!(withdrawal.status, WithdrawalStatus::Final, "{withdrawal:?}");
    }
    for paid in &record.paid {
        let mut id: [u8; 32] = florin_core::hex::decode(&paid.txid).and_then(|id| id.try_into().ok()).expect("an id");
        id.reverse();
        assert!(chain.transactions.contains_key(&TxId(id)), "the payment {paid:?} is on the chain");
    }
}

/// The books say what a node holds for all scripts that were ever handed out.
fn check_custody(site: &Site, past: &Past) {
    let script = |event: &Event| match event {
        Event::AddressIssued(address) => Some(ScriptBuf::from_bytes(address.script.0.clone())),
        _ => None,
    };
    let scripts: BTreeSet<ScriptBuf> = past.events().filter_map(script).collect();
    let books = past.state.ledger().account_of(&Owner::Custody(WalletId(1)), BITCOIN);
    let books = books.map_or(0, |account: &Account| account.debit_balance().units());
    assert_eq!(u128::from(site.world.held_sat(&scripts)), books, "coins on the chain and in the books");
}

/// The signer remembers exactly what the journal says, byte for byte, and the chain has those bytes.
fn check_signer(site: &Site, past: &Past, chain: &Chain) {
    let memory =
        Memory::open(&site.path().join("signer").join(MEMORY_FILE), site.platform).expect("the memory is whole");
    let mut plans: BTreeMap<PlanId, u32> = BTreeMap::new();
    for event in past.events() {
        let Event::PlanSigned(PlanSigned { plan, version, signed, txid }) = event else { continue };
        *plans.entry(*plan).or_default() += 1;
        let remembered = memory.signed(*plan, *version).expect("it is read").expect("the signer remembers it");
        assert_eq!(remembered.transaction, *signed, "plan {plan}");
        assert_eq!(chain.transactions.get(txid), Some(&signed.0), "plan {plan} on the chain");
    }
    assert!(plans.values().all(|count| *count == 1), "plans signed twice: {plans:?}");
    let (signed, voided) = memory.plan_counts().expect("it is read");
    assert_eq!((signed, voided), (plans.len() as u64, 0), "plans that the signer signed and voided");
}

/// What nobody may have logged: a defect, or an engine that ended by itself.
pub fn check_logs(site: &Site) {
    for name in ["one", "two", "signer"] {
        let logged = site.logged(name);
        let is_bad = |line: &&str| line.contains("panicked") || line.contains("the engine stops");
        let bad = logged.lines().find(is_bad);
        assert!(bad.is_none(), "{name} logged: {bad:?}");
    }
}

/// The alarms of a status with a code.
pub fn alarms<'a>(status: &'a Value, code: &str) -> Vec<&'a Value> {
    let alarms = status["alarms"].as_array().map_or(&[][..], Vec::as_slice);
    alarms.iter().filter(|alarm| alarm["code"] == code).collect()
}

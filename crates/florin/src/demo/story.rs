//! The story: what a newcomer sees, from a fresh seed to a confirmed withdrawal, told through the HTTP interface alone. Each sentence that claims something is checked; the first that does not hold ends the story with a failure.

use super::stage::Stage;
use super::world::{MinedBlock, World};
use crate::client::Client;
use crate::failure::Failure;
use bitcoin::{Amount, ScriptBuf};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long the platform may take for anything the story waits for. It takes a second; a busy machine may take many.
const WAIT: Duration = Duration::from_secs(60);

/// How often the story looks.
const LOOK: Duration = Duration::from_millis(50);

/// The wallet whose keys the signer made.
#[derive(Debug, Clone)]
pub struct FreshWallet {
    /// The master key's fingerprint.
    pub fingerprint: String,
    /// The descriptor of receiving addresses.
    pub external: String,
    /// The descriptor of change addresses.
    pub internal: String,
}

/// Tells the story on a stage. `look` says what keeps it from going on that the platform would only wait for.
///
/// # Errors
/// `story_broken` with the sentence that does not hold, or what went wrong on the way.
pub fn tell(
    stage: Stage,
    ask: &Client,
    world: &World,
    wallet: &FreshWallet,
    look: &dyn Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut story = Story { ask, world, stage, look };
    story.wallet(wallet)?;
    let (first, second) = story.customers()?;
    story.inventory()?;
    story.deposit(&first)?;
    story.exchange(&first.id)?;
    story.withdrawal(&first.id)?;
    story.fork(&second)?;
    story.books()?;
    look()
}

/// A customer, and where her coins come in.
struct Person {
    id: String,
    address: String,
    script: Vec<u8>,
}

/// An accepted quote.
struct Trade {
    base_sat: u64,
    quote_cents: u64,
    spread_cents: u64,
}

struct Story<'a> {
    ask: &'a Client,
    world: &'a World,
    stage: Stage,
    look: &'a dyn Fn() -> Result<(), Failure>,
}

fn broken(text: impl Into<String>) -> Failure {
    Failure::new("story_broken", text)
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Failure> {
    value[name].as_str().ok_or_else(|| broken(format!("an answer has no '{name}': {value}")))
}

/// An amount's text in units of its asset.
fn units(text: &str, decimals: u8) -> Result<u64, Failure> {
    let units =
        florin_core::amount::Amount::parse(text, decimals).map_err(|fault| broken(format!("'{text}': {fault}")))?;
    u64::try_from(units.units()).map_err(|_| broken(format!("'{text}' is more than there can be")))
}

/// Bitcoin's text in satoshi.
fn satoshi(text: &str) -> Result<u64, Failure> {
    units(text, 8)
}

/// Euro's text in cents.
fn cents(text: &str) -> Result<u64, Failure> {
    units(text, 2)
}

fn bitcoin(satoshi: u64) -> String {
    Amount::from_sat(satoshi).to_string_in(bitcoin::Denomination::Bitcoin)
}

impl Story<'_> {
    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            (self.look)()?;
            self.world.exchange()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if start.elapsed() > WAIT {
                return Err(broken(format!("waited {} s in vain for: {what}", WAIT.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn expect(&self, holds: bool, text: &str) -> Result<(), Failure> {
        if !holds {
            return Err(broken(format!("this does not hold: {text}")));
        }
        self.stage.holds(text);
        Ok(())
    }

    fn mine(&self, count: u32) -> Result<(), Failure> {
        let blocks = self.world.mine(count)?;
        self.show_blocks(&blocks);
        let height = blocks.last().map_or(0, |block| block.mined.height);
        self.follow(height)
    }

    /// Waits until the platform has followed the network to a height.
    fn follow(&self, height: u32) -> Result<(), Failure> {
        self.until("the platform follows the new blocks", || {
            let blocks = self.ask.get("/api/v1/chains/1/blocks", &[("limit", "1".to_owned())])?;
            Ok((blocks["items"][0]["height"].as_u64() == Some(u64::from(height))).then_some(()))
        })
    }

    fn show_blocks(&self, blocks: &[MinedBlock]) {
        for MinedBlock { mined, verdicts } in blocks {
            let transactions = match mined.block.txdata.len() - 1 {
                1 => "1 transaction".to_owned(),
                count => format!("{count} transactions"),
            };
            self.stage.say(&format!(
                "block {} with {transactions}: the miner gets {} in fees and {} in new coins; {} issued so far",
                mined.height,
                bitcoin(mined.fees_sat),
                bitcoin(mined.subsidy_sat),
                bitcoin(mined.issued_sat),
            ));
            let verdicts: Vec<String> = verdicts.iter().map(|(node, verdict)| format!("{node}: {verdict}")).collect();
            self.stage.say(&format!("  {}", verdicts.join("; ")));
        }
    }

    fn wallet(&mut self, wallet: &FreshWallet) -> Result<(), Failure> {
        self.stage.chapter("A wallet is generated");
        self.stage.say("The signer, a process of its own, drew a seed from the operating system and keeps it. Florin gets public descriptors:");
        self.stage.say(&format!("  {}", wallet.external));
        let body = json!({ "id": 1, "chain": 1, "tier": "hot", "descriptor_external": wallet.external, "descriptor_internal": wallet.internal });
        self.ask.post("/api/v1/wallets", &body)?;
        let known = self.ask.get("/api/v1/wallets", &[])?;
        self.expect(
            known["items"][0]["descriptor_external"].as_str() == Some(&wallet.external),
            &format!(
                "wallet 1, of master key {}, is registered; nobody can spend with what the platform knows",
                wallet.fingerprint
            ),
        )
    }

    fn customers(&mut self) -> Result<(Person, Person), Failure> {
        self.stage.chapter("Two customers get addresses");
        let first = self.customer("First customer")?;
        let second = self.customer("Second customer")?;
        self.expect(first.script != second.script, "each has an address that nobody else has")?;
        Ok((first, second))
    }

    fn customer(&self, name: &str) -> Result<Person, Failure> {
        let customer = self.ask.post("/api/v1/customers", &json!({ "name": name }))?;
        let id = text(&customer, "id")?.to_owned();
        let (address, script) = self.address(&format!("/api/v1/customers/{id}/addresses"))?;
        self.stage.say(&format!("{name}: {id}"));
        self.stage.say(&format!("  {address}"));
        Ok(Person { id, address, script })
    }

    fn address(&self, path: &str) -> Result<(String, Vec<u8>), Failure> {
        let issued = self.ask.post(path, &json!({}))?;
        let script = ScriptBuf::from_hex(text(&issued, "script")?).map_err(|fault| broken(fault.to_string()))?;
        Ok((text(&issued, "address")?.to_owned(), script.into_bytes()))
    }

    fn deposits(&self, customer: &str) -> Result<Value, Failure> {
        Ok(self.ask.get(&format!("/api/v1/customers/{customer}/deposits"), &[])?["items"].take())
    }

    fn wait_deposit(&self, customer: &str, status: &str) -> Result<Value, Failure> {
        self.until(&format!("the deposit is {status}"), || {
            let deposit = self.deposits(customer)?.get(0).cloned();
            Ok(deposit.filter(|deposit| deposit["status"].as_str() == Some(status)))
        })
    }

    fn balance(&self, customer: &str, asset: &str, part: &str) -> Result<String, Failure> {
        let balances = self.ask.get(&format!("/api/v1/customers/{customer}/balances"), &[])?;
        let mut items = balances["items"].as_array().into_iter().flatten();
        let found = items.find(|balance| balance["asset"].as_str() == Some(asset));
        Ok(found.and_then(|balance| balance[part].as_str()).unwrap_or("0").to_owned())
    }

    /// What of an asset a customer may spend, in its units.
    fn available(&self, customer: &str, asset: &str, decimals: u8) -> Result<u64, Failure> {
        units(&self.balance(customer, asset, "available")?, decimals)
    }

    fn inventory(&mut self) -> Result<(), Failure> {
        self.stage.chapter("The house deposits what it will sell");
        let (address, script) = self.address("/api/v1/wallets/1/addresses")?;
        self.world.pay(&script, 200_000_000)?;
        self.stage.say(&format!(
            "2 BTC are paid to the inventory's address {address}, and 100,000.00 EUR arrive at the bank"
        ));
        let receipt =
            json!({ "reference": "INVENTORY-1", "asset": "EUR", "amount": "100000.00", "beneficiary": "inventory" });
        self.ask.post("/api/v1/bank-receipts", &receipt)?;
        self.mine(3)?;
        self.until("the inventory is credited", || Ok((self.line("BTC", "inventory")? == "2.00000000").then_some(())))?;
        self.stage.holds("the inventory holds 2 BTC that were really received");
        Ok(())
    }

    fn deposit(&mut self, person: &Person) -> Result<(), Failure> {
        self.stage.chapter("A deposit, from mempool to credit");
        let Person { id: customer, address, script } = person;
        let txid = self.world.pay(script, 50_000_000)?;
        self.stage.say(&format!("Somebody pays 0.5 BTC to {address} in transaction {txid}"));
        let seen = self.wait_deposit(customer, "seen")?;
        self.expect(
            satoshi(&self.balance(customer, "BTC", "available")?)? == 0,
            &format!(
                "it shows as seen in the mempool ({}), and counts for nothing",
                seen["waits_for"].as_str().unwrap_or("")
            ),
        )?;
        self.mine(1)?;
        let pending = self.wait_deposit(customer, "pending")?;
        self.stage.holds(&format!("{} of {} confirmations", pending["confirmations"], pending["confirmations_needed"]));
        let needed = pending["confirmations_needed"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
        self.mine(needed.saturating_sub(1))?;
        self.wait_deposit(customer, "credited")?;
        self.expect(self.balance(customer, "BTC", "available")? == "0.50000000", "0.5 BTC are hers to spend")
    }

    fn exchange(&mut self, customer: &str) -> Result<(), Failure> {
        self.stage.chapter("She buys and sells for EUR, by quote");
        let receipt = json!({ "reference": "RECEIPT-1", "asset": "EUR", "amount": "1000.00", "beneficiary": customer });
        self.ask.post("/api/v1/bank-receipts", &receipt)?;
        let price = json!({ "base": "BTC", "quote": "EUR", "price": "60000.00", "spread_bp": 50, "age_max_s": 3600, "quote_s": 30 });
        self.ask.post("/api/v1/prices", &price)?;
        self.stage.say("1,000.00 EUR arrive for her; the operator sets 60,000.00 EUR a bitcoin with a spread of 0.5 %");
        let had = (self.available(customer, "BTC", 8)?, self.available(customer, "EUR", 2)?);
        let bought = self.trade(customer, "buy", ("quote_amount", "600.00"))?;
        let sold = self.trade(customer, "sell", ("base_amount", "0.10000000"))?;
        // At 60,000.00 EUR a bitcoin. What does not fill a satoshi or a cent is less than a cent, and the house's.
        let worth_cents = |trade: &Trade| trade.base_sat * 6_000_000 / 100_000_000;
        let bought_for = worth_cents(&bought) + bought.spread_cents;
        self.expect(
            bought.quote_cents == 60_000 && (bought_for..=bought_for + 1).contains(&bought.quote_cents),
            "she paid what the bitcoin are worth and the spread, to the cent",
        )?;
        self.expect(
            sold.base_sat == 10_000_000 && worth_cents(&sold) == sold.quote_cents + sold.spread_cents,
            "she got what the bitcoin are worth less the spread, to the cent",
        )?;
        let has = (self.available(customer, "BTC", 8)?, self.available(customer, "EUR", 2)?);
        let expected = (had.0 + bought.base_sat - sold.base_sat, had.1 - bought.quote_cents + sold.quote_cents);
        let (bitcoin, euro) =
            (self.balance(customer, "BTC", "available")?, self.balance(customer, "EUR", "available")?);
        self.expect(has == expected, &format!("she has {bitcoin} BTC and {euro} EUR, which is what was quoted"))?;
        let earned = self.line("EUR", "spread")?;
        let spreads = bought.spread_cents + sold.spread_cents;
        self.expect(
            cents(&earned)? == spreads,
            &format!("the house's spread account has the two spreads, {earned} EUR"),
        )
    }

    /// Asks for a quote and accepts it.
    fn trade(&self, customer: &str, side: &str, amount: (&str, &str)) -> Result<Trade, Failure> {
        let mut body = json!({ "customer": customer, "side": side, "base": "BTC", "quote": "EUR" });
        body[amount.0] = amount.1.into();
        let quote = self.ask.post("/api/v1/quotes", &body)?;
        self.ask.post(&format!("/api/v1/quotes/{}/accept", text(&quote, "id")?), &json!({}))?;
        let part = |name| text(&quote, name);
        let (base, euro, spread) = (part("base_amount")?, part("quote_amount")?, part("spread")?);
        self.stage.say(&format!("she {side}s {base} BTC for {euro} EUR; the house earns {spread} EUR"));
        Ok(Trade { base_sat: satoshi(base)?, quote_cents: cents(euro)?, spread_cents: cents(spread)? })
    }

    /// What a line of an asset's books holds.
    fn line(&self, asset: &str, account: &str) -> Result<String, Failure> {
        let books = self.ask.get("/api/v1/books", &[])?;
        let lines = books["items"].as_array().into_iter().flatten().filter(|books| books["asset"] == asset);
        let mut lines = lines.flat_map(|books| books["lines"].as_array().into_iter().flatten());
        let line = lines.find(|line| line["account"] == account);
        Ok(line.and_then(|line| line["amount"].as_str()).unwrap_or("0").to_owned())
    }

    fn withdrawal(&mut self, customer: &str) -> Result<(), Failure> {
        self.stage.chapter("A withdrawal, through the signer");
        let address = self.world.outside_address();
        let before = self.world.outside_received_sat();
        let had = self.available(customer, "BTC", 8)?;
        let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.2", "address": address });
        let requested = self.ask.post("/api/v1/withdrawals", &body)?;
        let id = text(&requested, "id")?.to_owned();
        self.stage.say(&format!(
            "she withdraws 0.2 BTC to {address}; {} BTC are held for it with the fee",
            self.balance(customer, "BTC", "held")?
        ));
        let path = format!("/api/v1/withdrawals/{id}");
        let mut shown: Vec<String> = Vec::new();
        let mut watch = |wanted: &str| {
            self.until(&format!("the withdrawal is {wanted}"), || {
                let withdrawal = self.ask.get(&path, &[])?;
                let status = text(&withdrawal, "status")?.to_owned();
                if shown.last() != Some(&status) {
                    self.stage.say(&format!("it is {status}"));
                    shown.push(status.clone());
                }
                Ok((status == wanted).then_some(withdrawal))
            })
        };
        let sent = watch("broadcast")?;
        let (coins, network_fee) = self.plan(&id)?;
        self.stage.say(&format!("planned: {coins} reserved for it, and {network_fee} BTC for the network"));
        self.stage.say(&format!(
            "signed by the signer, journalled, sent: transaction {}",
            sent["signed_txids"][0].as_str().unwrap_or("?")
        ));
        self.mine(1)?;
        watch("confirmed")?;
        self.mine(5)?;
        let done = watch("final")?;
        let received = self.world.outside_received_sat() - before;
        self.expect(received == 20_000_000, &format!("{} BTC arrived outside, once", bitcoin(received)))?;
        let booked = self.line("BTC", "network_fees")?;
        self.expect(booked == network_fee, &format!("the network got what was planned, {booked} BTC"))?;
        let spent = 20_000_000 + satoshi(text(&done, "fee")?)?;
        let has = self.available(customer, "BTC", 8)?;
        let nothing_held = satoshi(&self.balance(customer, "BTC", "held")?)? == 0;
        self.expect(
            had == has + spent && nothing_held,
            &format!("she has {} BTC: less by the amount and its fee, and nothing is held any more", bitcoin(has)),
        )
    }

    /// What was planned for a withdrawal: the coins that it spends, in words, and what the network gets.
    fn plan(&self, withdrawal: &str) -> Result<(String, String), Failure> {
        let plans = self.ask.get("/api/v1/plans", &[])?;
        let mut plans = plans["items"].as_array().into_iter().flatten();
        let pays =
            |plan: &&Value| plan["withdrawals"].as_array().is_some_and(|ids| ids.iter().any(|id| id == withdrawal));
        let plan = plans.find(pays).ok_or_else(|| broken("the withdrawal is sent, and no plan pays it"))?;
        let coins = match plan["inputs"].as_array().map_or(0, Vec::len) {
            1 => "1 coin is".to_owned(),
            count => format!("{count} coins are"),
        };
        Ok((coins, text(plan, "fee")?.to_owned()))
    }

    fn fork(&mut self, person: &Person) -> Result<(), Failure> {
        self.stage.chapter("A fork takes a deposit back, and returns it");
        let Person { id: customer, address, script } = person;
        self.world.pay(script, 30_000_000)?;
        self.stage.say(&format!("Somebody pays 0.3 BTC to {address}"));
        self.mine(2)?;
        let pending = self.wait_deposit(customer, "pending")?;
        self.stage.holds(&format!("{} of {} confirmations", pending["confirmations"], pending["confirmations_needed"]));
        self.stage.say("Another miner publishes three blocks beside the last two:");
        let blocks = self.world.fork(2)?;
        self.show_blocks(&blocks);
        self.follow(blocks.last().map_or(0, |block| block.mined.height))?;
        let back = self.wait_deposit(customer, "seen")?;
        let nothing = satoshi(&self.balance(customer, "BTC", "available")?)? == 0;
        self.expect(nothing, &format!("the deposit is back to seen: {}", back["waits_for"].as_str().unwrap_or("")))?;
        self.mine(3)?;
        self.wait_deposit(customer, "credited")?;
        self.expect(self.balance(customer, "BTC", "available")? == "0.30000000", "it came back, and is credited once")
    }

    fn books(&mut self) -> Result<(), Failure> {
        self.stage.chapter("The books, compared with the chain");
        let books = self.ask.get("/api/v1/books", &[])?;
        let mut held_in_books = 0;
        for asset in books["items"].as_array().into_iter().flatten() {
            let name = text(asset, "asset")?;
            let rows = asset["lines"].as_array().into_iter().flatten().map(|line| {
                let cell = |name: &str| line[name].as_str().unwrap_or("").to_owned();
                let (debit, credit) = if line["side"] == "debit" {
                    (cell("amount"), String::new())
                } else {
                    (String::new(), cell("amount"))
                };
                vec![cell("account"), debit, credit]
            });
            let mut rows: Vec<Vec<String>> = rows.collect();
            rows.push(vec!["together".into(), text(asset, "debits")?.into(), text(asset, "credits")?.into()]);
            self.stage.table(&[name, "debit", "credit"], &rows);
            let claim = match name {
                "BTC" => "debits equal credits, and custody equals the coins",
                _ => "debits equal credits",
            };
            self.expect(asset["balanced"] == true, &format!("{name}: {claim}"))?;
            if name == "BTC" {
                for wallet in asset["wallets"].as_array().into_iter().flatten() {
                    held_in_books += satoshi(text(wallet, "books")?)?;
                }
            }
        }
        let on_chain = self.world.held_sat(&self.scripts()?);
        self.expect(
            on_chain == held_in_books,
            &format!("a node finds {} BTC on all our scripts; the books say the same", bitcoin(on_chain)),
        )
    }

    /// Every script that was ever handed out, change included, from the journal's own events.
    fn scripts(&self) -> Result<BTreeSet<ScriptBuf>, Failure> {
        let mut scripts = BTreeSet::new();
        let mut after = 0;
        loop {
            let page = self.ask.get("/api/v1/events", &[("after", after.to_string()), ("limit", "500".to_owned())])?;
            let next = page["next"].as_u64().unwrap_or(after);
            for item in page["items"].as_array().into_iter().flatten() {
                let issued = item["data"]["script"].as_str().filter(|_| item["kind"] == "address_issued");
                if let Some(script) = issued {
                    scripts.insert(ScriptBuf::from_hex(script).map_err(|fault| broken(fault.to_string()))?);
                }
            }
            if next == after {
                return Ok(scripts);
            }
            after = next;
        }
    }
}

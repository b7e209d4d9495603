//! Lists, page by page, across the border between what stands and what is finished: records leave the state by the rules' own hand (depth,
//! time, acceptance), and are listed and shown all the same, once each.

use super::cli::florin;
use super::support::{TOKEN, World, id, parts, wallet_body};
use florin::platform::CHAIN;
use florin_core::command::{Command, ConnectBlock, Receipt};
use florin_core::custody::{Block, BlockRef, Branch, KeyPath};
use florin_core::decide::CLOSED_KEPT_MS;
use florin_core::id::{BlockHash, Height, TxId, WalletId};
use florin_core::{amount::Amount, id::CommandId};
use florin_engine::lanes::Ask;
use florin_engine::ports::Clock;
use florin_engine::writer::Answer;
use florin_store::projection;
use serde_json::{Value, json};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const OUTSIDE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// Blocks told to the engine at once: fewer than its lane takes.
const BLOCKS_AT_ONCE: usize = 64;

fn items(page: &Value) -> Vec<Value> {
    page["items"].as_array().expect("a list").clone()
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(id).collect()
}

/// A page, and the path of the next one.
fn turn(world: &World, path: &str, limit: usize, after: Option<&str>) -> (Vec<Value>, Option<String>) {
    let join = if path.contains('?') { '&' } else { '?' };
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    let page = world.shown(&format!("{path}{join}limit={limit}{after}"));
    let found = items(&page);
    assert!(found.len() <= limit, "{path}");
    (found, page["next"].as_str().map(str::to_owned))
}

/// A whole list, from `after` on, page by page.
fn rest(world: &World, path: &str, limit: usize, mut after: Option<String>) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let (found, next) = turn(world, path, limit, after.as_deref());
        all.extend(found);
        let Some(next) = next else { return all };
        assert_ne!(Some(&next), after.as_ref(), "{path} goes on");
        after = Some(next);
    }
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A block on the one before it; where there is an address, it is paid.
fn block_after(tip: BlockRef, payment: Option<(&Value, u128)>) -> (BlockRef, Command) {
    let height = tip.height.0 + 1;
    let mut hash = [0xb1; 32];
    hash[..4].copy_from_slice(&height.to_be_bytes());
    let at = BlockRef { height: Height(height), hash: BlockHash(hash) };
    let receipts = payment.map(|(address, amount)| Receipt {
        txid: TxId(hash),
        vout: 0,
        amount: Amount::new(amount),
        path: KeyPath {
            wallet: WalletId(1),
            branch: Branch::External,
            index: u32::try_from(address["index"].as_u64().expect("an index")).expect("it is small"),
        },
        coinbase: false,
    });
    let block = Block { chain: CHAIN, at, previous: tip.hash, time_s: 1_700_000_000 };
    let receipts = receipts.into_iter().collect();
    (at, Command::ConnectBlock(ConnectBlock { block, receipts, spends: Vec::new(), more: false }))
}

/// Mines blocks, the first of which pays; many are told at once, for each would wait for the disk.
fn mine(world: &World, count: usize, payment: Option<(&Value, u128)>) {
    let mut tip = world.platform.read(|state| state.chains()[&CHAIN].tip().expect("a tip").at);
    let mut payment = payment;
    let mut left = count;
    while left > 0 {
        let (tell, told) = mpsc::channel();
        let now = left.min(BLOCKS_AT_ONCE);
        for _ in 0..now {
            let (at, command) = block_after(tip, payment.take());
            let tell = tell.clone();
            world
                .platform
                .engine()
                .submit(Ask::internal(command), Box::new(move |answer| tell.send(answer).expect("somebody waits")));
            tip = at;
        }
        for _ in 0..now {
            let told = told.recv_timeout(Duration::from_secs(60)).expect("an answer").expect("it is taken");
            assert!(matches!(told.answer, Answer::Done(_)), "{:?}", told.answer);
        }
        left -= now;
    }
}

/// What does not change when a record leaves the state.
fn lasting(deposit: &Value) -> Value {
    let mut lasting = deposit.clone();
    for name in ["confirmations", "confirmations_needed", "coinbase"] {
        lasting.as_object_mut().expect("an object").remove(name);
    }
    lasting
}

#[test]
fn deposits_are_listed_and_shown_when_their_blocks_have_left() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let (first, second) = (world.customer(), world.customer());
    let address = |path: String| world.made(&path, &json!({}));
    let ours = address(format!("/api/v1/customers/{first}/addresses"));
    let theirs = address(format!("/api/v1/customers/{second}/addresses"));
    let house = address("/api/v1/wallets/1/addresses".to_owned());
    for (number, to) in [&ours, &theirs, &ours, &house, &ours, &ours].into_iter().enumerate() {
        mine(&world, 1, Some((to, 100_000 * (number as u128 + 1))));
    }
    mine(&world, 3, None);
    let (of_first, all) = (format!("/api/v1/customers/{first}/deposits"), "/api/v1/deposits".to_owned());
    let before: Vec<Value> = items(&world.shown(&all));
    let amounts: Vec<&str> = before.iter().filter_map(|deposit| deposit["amount"].as_str()).collect();
    assert_eq!(amounts, ["0.00600000", "0.00500000", "0.00400000", "0.00300000", "0.00200000", "0.00100000"]);
    assert!(before.iter().all(|deposit| deposit["status"] == "credited" && deposit["coinbase"] == false));
    // The reader has turned one page when the oldest four leave the state.
    let (mut found, next) = turn(&world, &all, 1, None);
    let (mut mine_found, mine_next) = turn(&world, &of_first, 1, None);
    let standing = || world.platform.read(|state| state.deposits().len());
    assert_eq!(standing(), 6);
    mine(&world, 2_012, None);
    while standing() > 2 {
        mine(&world, 1, None);
    }
    found.extend(rest(&world, &all, 2, next));
    mine_found.extend(rest(&world, &of_first, 1, mine_next));
    assert_eq!(found.iter().map(lasting).collect::<Vec<_>>(), before.iter().map(lasting).collect::<Vec<_>>());
    let expected: Vec<Value> =
        before.iter().filter(|deposit| deposit["beneficiary"] == json!(first)).cloned().collect();
    assert_eq!((ids(&mine_found), expected.len()), (ids(&expected), 4));
    for limit in [1, 2, 3, 5, 6, 500] {
        assert_eq!(ids(&rest(&world, &all, limit, None)), ids(&before), "by {limit}");
        assert_eq!(ids(&rest(&world, &of_first, limit, None)), ids(&expected), "by {limit}");
    }
    for listed in rest(&world, &all, 500, None) {
        let shown = world.shown(&format!("/api/v1/deposits/{}?chain=1", id(&listed)));
        assert_eq!(shown, listed);
    }
    let archived = world.shown(&format!("/api/v1/deposits/{}", id(&before[5])));
    assert_eq!((&archived["coinbase"], &archived["beneficiary"]), (&Value::Null, &json!(first)));
    assert_eq!((&archived["address"], &archived["waits_for"]), (&ours["address"], &Value::Null));
    assert_eq!(items(&world.shown(&format!("/api/v1/customers/{second}/deposits"))).len(), 1);
    let inventory = found.iter().find(|deposit| deposit["amount"] == "0.00400000").expect("it is there");
    assert_eq!(inventory["beneficiary"], "inventory");
    let unknown = world.get(&format!("/api/v1/deposits/{}:9", "ab".repeat(32)));
    assert_eq!((unknown.status, unknown.code()), (404, "deposit_unknown"));
    assert_eq!(world.get(&format!("/api/v1/deposits/{}?chain=2", id(&found[0]))).code(), "deposit_unknown");
    assert_eq!(world.get("/api/v1/deposits/0:0").code(), "outpoint_invalid");
    // What happened is remembered too, from its coming to its leaving.
    let history = items(&world.shown(&format!("/api/v1/history/{}", id(&before[5]))));
    let kinds: Vec<&str> = history.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, ["coin_received", "deposit_seen", "deposit_moved", "deposit_archived"]);
    assert_eq!(rest(&world, &format!("/api/v1/history/{}", id(&before[5])), 1, None), history);
    world.stop();
}

/// The machine's clock, and how far a test has moved it.
#[derive(Default)]
struct MovedClock(AtomicU64);

impl Clock for MovedClock {
    fn now_ms(&self) -> u64 {
        florin::platform::SystemClock.now_ms() + self.0.load(Ordering::Relaxed)
    }
}

/// A command's id as of a time.
fn key_at(ms: u64) -> String {
    let mut id = [0x77; 16];
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    id[8] = 0x80;
    CommandId(id).to_string()
}

#[test]
fn withdrawals_are_listed_and_shown_when_they_have_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(MovedClock::default());
    let mut parts = parts(folder.path());
    parts.clock = Arc::<MovedClock>::clone(&clock);
    let world = World::of(parts);
    world.register_wallet();
    let (first, second) = (world.customer(), world.customer());
    for customer in [&first, &second] {
        let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
        mine(&world, 3, Some((&address, 100_000_000)));
    }
    let ask = |customer: &str, amount: &str| {
        let body = json!({ "customer": customer, "asset": "BTC", "amount": amount, "address": OUTSIDE });
        world.made("/api/v1/withdrawals", &body)
    };
    let mut asked: Vec<Value> = Vec::new();
    for (number, customer) in [&first, &second, &first, &first, &second].into_iter().enumerate() {
        let withdrawal = ask(customer, &format!("0.6{number}"));
        // They wait for approval, so that no plan comes between. All but the last are taken back, and leave a fortnight later.
        let path = format!("/api/v1/withdrawals/{}/cancel", id(&withdrawal));
        asked.push(if number < 4 { world.made(&path, &json!({})) } else { withdrawal });
    }
    asked.reverse();
    let (all, of_first) = ("/api/v1/withdrawals", format!("/api/v1/customers/{first}/withdrawals"));
    let (mut found, next) = turn(&world, all, 2, None);
    assert_eq!(found, asked[..2]);
    clock.0.store(CLOSED_KEPT_MS + 60_000, Ordering::Relaxed);
    until("the clock has jumped", || world.shown("/api/v1/status")["time_jumped_to_ms"].is_u64());
    let confirmed = world.post_as(&key_at(clock.now_ms()), "/api/v1/time/confirm", &json!({}));
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    let standing = || world.platform.read(|state| state.withdrawals().len());
    until("those that were taken back have left", || standing() <= 1);
    found.extend(rest(&world, all, 2, next));
    assert_eq!(ids(&found), ids(&asked));
    let expected: Vec<Value> = asked.iter().filter(|found| found["customer"] == json!(first)).cloned().collect();
    assert_eq!(expected.len(), 3);
    for limit in [1, 2, 5, 500] {
        assert_eq!(ids(&rest(&world, all, limit, None)), ids(&asked), "by {limit}");
        assert_eq!(ids(&rest(&world, &of_first, limit, None)), ids(&expected), "by {limit}");
    }
    for (listed, asked) in rest(&world, all, 500, None).iter().zip(&asked).skip(1) {
        assert_eq!(&world.shown(&format!("/api/v1/withdrawals/{}", id(listed))), listed);
        for name in ["amount", "fee", "address", "status", "customer", "requested_ms"] {
            assert_eq!(listed[name], asked[name], "{name}");
        }
        assert_eq!((&listed["status"], &listed["wallet"]), (&json!("cancelled"), &Value::Null));
    }
    let cancelled = world.get(&format!("/api/v1/withdrawals/{}", key_at(1)));
    assert_eq!((cancelled.status, cancelled.code()), (404, "withdrawal_unknown"));
    world.stop();
}

/// A platform with a customer who may trade.
fn market(world: &World) -> String {
    world.register_wallet();
    let customer = world.customer();
    let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    mine(world, 3, Some((&address, 100_000_000)));
    let receipt = json!({ "reference": "R", "asset": "EUR", "amount": "9000", "beneficiary": "inventory" });
    world.made("/api/v1/bank-receipts", &receipt);
    world.made("/api/v1/prices", &json!({ "base": "BTC", "quote": "EUR", "price": "60000", "quote_s": 600 }));
    customer
}

fn offer(world: &World, customer: &str) -> Value {
    let wanted = json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR", "base_amount": "0.01" });
    world.made("/api/v1/quotes", &wanted)
}

#[test]
fn quotes_are_listed_and_shown_with_what_became_of_them() {
    let (_folder, world) = World::start();
    let customer = market(&world);
    let other = world.customer();
    let mut offered: Vec<Value> = Vec::new();
    for number in 0..5 {
        // A newer one takes the place of the one before.
        let quote = offer(&world, &customer);
        assert_eq!(quote["status"], "open");
        if number == 1 {
            let accepted = world.made(&format!("/api/v1/quotes/{}/accept", id(&quote)), &json!({}));
            assert_eq!(accepted["status"], "accepted");
            // At once, however far the tables are.
            assert_eq!(world.shown(&format!("/api/v1/quotes/{}", id(&quote))), accepted);
        }
        offered.push(quote);
    }
    offered.reverse();
    assert_eq!(world.platform.read(|state| state.quotes().len()), 1);
    let path = format!("/api/v1/customers/{customer}/quotes");
    for limit in [1, 2, 4, 500] {
        let found = rest(&world, &path, limit, None);
        assert_eq!(ids(&found), ids(&offered), "by {limit}");
        let statuses: Vec<&str> = found.iter().filter_map(|quote| quote["status"].as_str()).collect();
        assert_eq!(statuses, ["open", "ended", "ended", "accepted", "ended"]);
        for (found, offered) in found.iter().zip(&offered) {
            assert_eq!((&found["quote_amount"], &found["spread"]), (&offered["quote_amount"], &offered["spread"]));
            assert_eq!(&world.shown(&format!("/api/v1/quotes/{}", id(found))), found);
        }
    }
    assert_eq!(items(&world.shown(&format!("/api/v1/customers/{other}/quotes"))), Vec::<Value>::new());
    // Between two pages the open one is accepted: it comes once, the others too.
    let (mut found, next) = turn(&world, &path, 1, None);
    world.made(&format!("/api/v1/quotes/{}/accept", id(&offered[0])), &json!({}));
    found.extend(rest(&world, &path, 2, next));
    assert_eq!(ids(&found), ids(&offered));
    world.stop();
}

#[test]
fn a_list_has_what_was_answered_just_before() {
    let (_folder, world) = World::start();
    let customer = market(&world);
    let of = |what: &str| format!("/api/v1/customers/{customer}/{what}");
    // Only the first page is asked for, and nobody waits before asking. What is withdrawn waits for approval: no plan comes between.
    let newest = |path: &str| items(&world.shown(&format!("{path}?limit=1"))).remove(0);
    for number in 0..8 {
        let address = world.made(&of("addresses"), &json!({}));
        let after = format!("?after=1:external:{number}");
        assert_eq!(items(&world.shown(&(of("addresses") + &after))), std::slice::from_ref(&address));

        let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.6", "address": OUTSIDE });
        let asked = world.made("/api/v1/withdrawals", &body);
        assert_eq!([newest(&of("withdrawals")), newest("/api/v1/withdrawals")], [asked.clone(), asked.clone()]);
        let cancelled = world.made(&format!("/api/v1/withdrawals/{}/cancel", id(&asked)), &json!({}));
        assert_eq!([newest(&of("withdrawals")), newest("/api/v1/withdrawals")], [cancelled.clone(), cancelled]);

        let quote = offer(&world, &customer);
        assert_eq!(newest(&of("quotes")), quote);
        let accepted = world.made(&format!("/api/v1/quotes/{}/accept", id(&quote)), &json!({}));
        assert_eq!(newest(&of("quotes")), accepted);

        mine(&world, 1, Some((&address, 50_000)));
        let pending = newest(&of("deposits"));
        assert_eq!((&pending["status"], &pending["address"]), (&json!("pending"), &address["address"]));
        mine(&world, 2, None);
        let credited = newest("/api/v1/deposits");
        assert_eq!((&credited["status"], id(&credited)), (&json!("credited"), id(&pending)));
    }
    let metrics = world.get("/api/v1/metrics").text;
    for line in ["florin_deposits{status=\"credited\"} 9", "florin_withdrawals{status=\"cancelled\"} 8"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    world.stop();
}

#[test]
fn a_page_is_full_while_records_begin() {
    let (_folder, world) = World::start();
    let customer = market(&world);
    let path = format!("/api/v1/customers/{customer}/quotes?limit=1");
    let page = || ids(&items(&world.shown(&path)));
    offer(&world, &customer);
    std::thread::scope(|scope| {
        let write = || {
            for _ in 0..200 {
                // Ids are in order of time: at the top is one's own, or a newer one.
                let own = id(&offer(&world, &customer));
                let newest = page();
                assert!(newest.len() == 1 && newest[0] >= own, "{newest:?}, {own}");
            }
        };
        let writers = [scope.spawn(write), scope.spawn(write)];
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            assert_eq!(page().len(), 1);
        }
    });
    world.stop();
}

/// How many rows the search tables are behind, by the metric and by the status, which are asked one after the other.
fn lag(world: &World) -> [u64; 2] {
    let metrics = world.get("/api/v1/metrics").text;
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix("florin_projector_lag_rows "));
    let metric = lines.next().and_then(|value| value.parse().ok()).expect("the metric is there");
    let status = world.shown("/api/v1/status")["projector_lag_rows"].as_u64().expect("the status has it");
    [metric, status]
}

#[test]
fn tables_that_lag_leave_nothing_out() {
    let (folder, world) = World::start();
    let customer = market(&world);
    let quote = offer(&world, &customer);
    let path = format!("/api/v1/quotes/{}", id(&quote));
    // Somebody keeps the tables from being written.
    let tables = rusqlite::Connection::open(folder.path().join(projection::FILE)).expect("it opens");
    until("the lock is had", || tables.execute_batch("BEGIN IMMEDIATE").is_ok());
    assert_eq!(world.shown(&path)["status"], "open", "what stands needs no tables");
    world.made(&format!("{path}/accept"), &json!({}));
    let list = format!("/api/v1/customers/{customer}/quotes");
    let lists = ["/api/v1/deposits", "/api/v1/withdrawals"].map(str::to_owned);
    let asked =
        [path.clone(), list.clone(), format!("/api/v1/customers/{customer}/addresses")].into_iter().chain(lists);
    std::thread::scope(|scope| {
        let world = &world;
        let answers: Vec<_> = asked.map(|path| scope.spawn(move || world.get(&path))).collect();
        for answer in answers {
            let answer = answer.join().expect("an answer");
            assert_eq!((answer.status, answer.code()), (503, "search_tables_behind"), "{}", answer.text);
        }
    });
    let rows_min = world.platform.at().0 - world.platform.projected().0;
    assert!(rows_min > 0, "the exchange is not in the tables");
    assert!(lag(&world).iter().all(|rows| *rows >= rows_min), "{:?} of {rows_min}", lag(&world));
    tables.execute_batch("ROLLBACK").expect("it is given back");
    until("the tables go on", || world.platform.projected() >= world.platform.at());
    until("nothing lags any more", || lag(&world) == [0, 0]);
    assert_eq!(world.shown(&path)["status"], "accepted");
    assert_eq!(ids(&items(&world.shown(&list))), [id(&quote)]);
    world.stop();
}

#[test]
fn transfers_of_a_customer_add_up_to_what_there_is() {
    let (_folder, world) = World::start();
    let customer = market(&world);
    for _ in 0..3 {
        let quote = offer(&world, &customer);
        world.made(&format!("/api/v1/quotes/{}/accept", id(&quote)), &json!({}));
    }
    let path = |asset: &str| format!("/api/v1/customers/{customer}/transfers?asset={asset}");
    let found = rest(&world, &path("BTC"), 2, None);
    let said = |transfer: &Value| ["direction", "amount", "reason", "other"].map(|name| transfer[name].clone());
    let sold = ["out", "0.01000000", "exchange", "inventory"].map(Value::from);
    let came = ["in", "1.00000000", "deposit_credited"].map(Value::from);
    assert_eq!(found.iter().take(3).map(said).collect::<Vec<_>>(), [sold.clone(), sold.clone(), sold]);
    assert_eq!((found.len(), &said(&found[3])[..3]), (4, &came[..]));
    assert_eq!(items(&world.shown(&path("BTC"))), found);
    let euro = rest(&world, &path("EUR"), 500, None);
    let balances = world.shown(&format!("/api/v1/customers/{customer}/balances"));
    let balance = items(&balances).into_iter().find(|balance| balance["asset"] == "EUR").expect("euros");
    let cents = |value: &Value| value.as_str().expect("text").replace('.', "").parse::<i64>().expect("cents");
    let sum: i64 = euro
        .iter()
        .map(
            |transfer| {
                if transfer["direction"] == "in" { cents(&transfer["amount"]) } else { -cents(&transfer["amount"]) }
            },
        )
        .sum();
    assert_eq!(sum, cents(&balance["available"]));
    assert!(sum > 0);
    let stranger = world.customer();
    assert_eq!(world.shown(&format!("/api/v1/customers/{stranger}/transfers?asset=EUR"))["items"], json!([]));
    assert_eq!(world.get(&path("XXX")).code(), "asset_unknown");
    assert_eq!(world.get(&format!("/api/v1/customers/{customer}/transfers")).code(), "query_invalid");
    world.stop();
}

/// Lists that have no pages: each is as long as the configuration, or has one item for an asset and a reason.
const WHOLE: [&str; 2] = ["/api/v1/chains", "/api/v1/halts"];

#[test]
fn every_list_has_pages_and_refuses_bad_ones() {
    let (_folder, world) = World::start();
    let customer = world.customer();
    let document = world.shown("/api/v1/openapi.json");
    let mut lists = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let get = &methods["get"];
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        let is_list = schema.as_str().is_some_and(|name| name.contains("/Page_")) || path == "/api/v1/events";
        if !is_list || WHOLE.contains(&path.as_str()) {
            continue;
        }
        lists += 1;
        let parameters: Vec<&str> =
            get["parameters"].as_array().expect("parameters").iter().filter_map(|one| one["name"].as_str()).collect();
        let cursor = if path.ends_with("/blocks") { "below" } else { "after" };
        assert!(parameters.contains(&"limit") && parameters.contains(&cursor), "{path}: {parameters:?}");
        let (before, place) =
            path.split_once("{id}").map_or((path.as_str(), None), |(before, after)| (before, Some(after)));
        let name = if path.contains("/customers/") || path.contains("/history/") { customer.as_str() } else { "1" };
        let path = place.map_or(before.to_owned(), |after| format!("{before}{name}{after}"));
        let path = if path.ends_with("/transfers") { format!("{path}?asset=BTC") } else { path };
        let join = if path.contains('?') { '&' } else { '?' };
        for wrong in ["limit=0", "limit=501", "limit=-1", "limit=1e1", "limit=", "limit=18446744073709551616", "page=2"]
        {
            let answer = world.get(&format!("{path}{join}{wrong}"));
            assert_eq!((answer.status, answer.code()), (400, "query_invalid"), "{path} {wrong}");
        }
        for wrong in
            ["", "x", "-1", "%2B1", "%00", ":", "1:1", "1:1:1:1", "deposit:1", "payment:1", "1:external:-1", "%20"]
        {
            let answer = world.get(&format!("{path}{join}{cursor}={wrong}"));
            let is_pair = path == "/api/v1/prices" && wrong == "1:1";
            // Heights and rows are plain numbers of the query, which may have a sign.
            let is_plain = (cursor == "below" || path == "/api/v1/events") && wrong == "%2B1";
            let expected = if is_pair || is_plain { (200, "") } else { (400, "query_invalid") };
            assert_eq!((answer.status, answer.code()), expected, "{path} {cursor}={wrong}");
        }
        assert_eq!(world.get(&format!("{path}{join}limit=500")).status, 200, "{path}");
    }
    assert_eq!(lists, 17);
    world.stop();
}

#[test]
fn what_stays_in_the_state_is_paged_whole() {
    let (_folder, world) = World::start();
    world.made("/api/v1/wallets", &wallet_body(1));
    world.made("/api/v1/wallets", &wallet_body(2));
    let customer = world.customer();
    let path = format!("/api/v1/customers/{customer}/addresses");
    for wallet in [2, 1, 1, 2, 1] {
        world.made(&path, &json!({ "wallet": wallet }));
        // Another's addresses stand between.
        world.made(&format!("/api/v1/wallets/{wallet}/addresses"), &json!({}));
    }
    let address = rest(&world, &path, 500, None).remove(0);
    for _ in 0..3 {
        mine(&world, 1, Some((&address, 50_000)));
    }
    world.made(
        "/api/v1/bank-receipts",
        &json!({ "reference": "R", "asset": "EUR", "amount": "1", "beneficiary": customer }),
    );
    world.made("/api/v1/prices", &json!({ "base": "BTC", "quote": "EUR", "price": "60000" }));
    let sorted = rest(&world, &path, 500, None);
    let places: Vec<(u64, u64)> = sorted
        .iter()
        .map(|found| (found["wallet"].as_u64().expect("1 or 2"), found["index"].as_u64().expect("small")))
        .collect();
    assert_eq!(places, [(1, 0), (1, 2), (1, 4), (2, 0), (2, 2)]);
    for (path, count) in [
        (path, 5),
        (format!("/api/v1/customers/{customer}/balances"), 2),
        ("/api/v1/chains/1/transactions".to_owned(), 3),
        ("/api/v1/wallets".to_owned(), 2),
        ("/api/v1/assets".to_owned(), 2),
        ("/api/v1/prices".to_owned(), 1),
    ] {
        let whole = rest(&world, &path, 500, None);
        assert_eq!(whole.len(), count, "{path}");
        for limit in 1..=count {
            assert_eq!(rest(&world, &path, limit, None), whole, "{path} by {limit}");
        }
    }
    world.stop();
}

#[test]
fn the_command_line_shows_lists_and_what_is_finished() {
    let (folder, world) = World::start();
    let customer = market(&world);
    let file = folder.path().join("token");
    let mut options = std::fs::OpenOptions::new();
    let mut made = options.write(true).create_new(true).mode(0o600).open(&file).expect("a file");
    std::io::Write::write_all(&mut made, TOKEN.as_bytes()).expect("it is written");
    let common = ["--url", &world.url, "--token-file", file.to_str().expect("text")];
    let quote = offer(&world, &customer);
    world.made(&format!("/api/v1/quotes/{}/accept", id(&quote)), &json!({}));
    let deposit = id(&items(&world.shown("/api/v1/deposits"))[0]);
    let quote = id(&quote);
    // Each command, a field of its first item (or of the record), and what that is.
    let commands: [(&[&str], &str, Value); 14] = [
        (&["customer", "addresses", &customer], "index", json!(0)),
        (&["customer", "balances", &customer, "--limit", "1"], "asset", json!("BTC")),
        (&["customer", "transfers", &customer], "reason", json!("exchange")),
        (&["customer", "transfers", &customer, "--asset", "EUR"], "direction", json!("in")),
        (&["deposit", "list", "--customer", &customer], "id", json!(deposit)),
        (&["deposit", "show", &deposit], "id", json!(deposit)),
        (&["quote", "list", "--customer", &customer], "status", json!("accepted")),
        (&["quote", "show", &quote], "status", json!("accepted")),
        (&["asset", "list"], "code", json!("BTC")),
        (&["chain", "list"], "coin", json!("BTC")),
        (&["chain", "transactions"], "kind", json!("deposit")),
        (&["event", "history", &deposit], "kind", json!("coin_received")),
        (&["wallet", "list", "--limit", "1"], "id", json!(1)),
        (&["price", "list"], "base", json!("BTC")),
    ];
    for (words, name, expected) in commands {
        let ran = florin(&[words, &common, &["--json"]].concat());
        let shown: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{words:?}: {}", ran.err));
        let first = shown.get("items").map_or(&shown, |items| &items[0]);
        assert_eq!((ran.code, &first[name]), (0, &expected), "{words:?}: {shown}");
        let ran = florin(&[words, &common].concat());
        let word = expected.as_str().map_or_else(|| expected.to_string(), str::to_owned);
        assert!(ran.code == 0 && ran.out.contains(&word) && ran.out.lines().count() > 1, "{words:?}: {}", ran.out);
    }
    let ran = florin(&[&["withdrawal", "list", "--customer", &customer][..], &common].concat());
    assert_eq!((ran.code, ran.out.as_str()), (0, "none\n"), "{}", ran.err);
    let ran = florin(&[&["block", "list", "--limit", "1"][..], &common].concat());
    assert!(ran.out.ends_with("more follow: --below 3\n"), "{}", ran.out);
    for (words, code) in [
        (&["deposit", "show", "x"][..], "outpoint_invalid"),
        (&["quote", "show", &customer], "quote_unknown"),
        (&["event", "history", "x"], "subject_invalid"),
        (&["chain", "transactions", "--chain", "9"], "chain_unknown"),
    ] {
        let ran = florin(&[words, &common].concat());
        assert!(ran.code == 1 && ran.err.starts_with(&format!("error[{code}]")), "{words:?}: {}", ran.err);
    }
    for words in [&["customer", "addresses"][..], &["chain", "transactions"], &["asset", "list"], &["quote", "show"]] {
        let help = florin(&[words, &["--help"]].concat());
        assert!(help.code == 0 && help.out.contains("Usage:") && help.out.contains("--json"), "{words:?}");
    }
    world.stop();
}

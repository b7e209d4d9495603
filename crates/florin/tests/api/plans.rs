//! Plans as operators see them, and their word that one can never confirm: on a chain whose miner really takes the coins back.

use super::chain::{Chain, until};
use super::cli::florin;
use super::support::{TOKEN, World, id, key};
use bitcoin::Transaction;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// A txid, and a block's hash, of nothing.
const NOWHERE: &str = "4444444444444444444444444444444444444444444444444444444444444444";

/// Confirmations after which a coin may be planned and a block is final, on networks of play.
const FINAL: u32 = 6;

/// A new customer with coins, and the transaction that paid them.
fn funded(chain: &Chain, world: &World) -> (String, Transaction) {
    let customer = world.customer();
    let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    let payment = chain.pay(&address, 25_000_000);
    (customer, payment)
}

/// Has a customer withdraw some of that; gives the withdrawal, and its plan once that is broadcast.
fn withdrawn(chain: &Chain, world: &World, customer: &str, amount: &str) -> (String, Value) {
    let body = json!({ "customer": customer, "asset": "BTC", "amount": amount, "address": chain.address() });
    let withdrawal = id(&world.made("/api/v1/withdrawals", &body));
    let plan = until("the withdrawal is broadcast", || {
        let shown = world.shown(&format!("/api/v1/withdrawals/{withdrawal}"));
        (shown["status"] == "broadcast").then(|| shown["plan"].as_u64().expect("a plan"))
    });
    (withdrawal, world.shown(&format!("/api/v1/plans/{plan}")))
}

/// What an operator says of a plan.
fn word(input: &Value, txid: &str, height: u32, hash: &str) -> Value {
    json!({ "input": input, "txid": txid, "block_height": height, "block_hash": hash })
}

fn path(plan: &Value) -> String {
    format!("/api/v1/plans/{}/conflict", plan["id"])
}

#[track_caller]
fn refused(world: &World, path: &str, body: &Value, status: u16, code: &str) {
    let answer = world.post(path, body);
    assert_eq!((answer.status, answer.code()), (status, code), "{path} {body}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
}

fn alarms(world: &World) -> Vec<(String, String)> {
    let status = world.shown("/api/v1/status");
    let alarms = status["alarms"].as_array().expect("a list").iter();
    let ours = alarms.filter(|alarm| alarm["code"] == "plan_input_missing");
    let text = |alarm: &Value, name: &str| alarm[name].as_str().expect("text").to_owned();
    ours.map(|alarm| (text(alarm, "subject"), text(alarm, "detail"))).collect()
}

/// Waits until exactly these plans are named, and gives what is said of each.
fn named(world: &World, plans: &[&Value]) -> Vec<String> {
    let subjects: Vec<String> = plans.iter().map(|plan| format!("plan {}", plan["id"])).collect();
    until("the plans are named", || {
        let (named, details): (Vec<String>, Vec<String>) = alarms(world).into_iter().unzip();
        (named == subjects).then_some(details)
    })
}

/// The command line, as somebody with the token's file runs it.
fn command_line(chain: &Chain, world: &World, words: &[&str]) -> (u8, Value) {
    let file = chain.folder.path().join("token");
    if !file.exists() {
        std::fs::write(&file, TOKEN).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    }
    let common = ["--url", &world.url, "--token-file", file.to_str().expect("text")];
    let json = florin(&[words, &common, &["--json"]].concat());
    let said = if json.code == 0 { &json.out } else { &json.err };
    let value = serde_json::from_str(said).unwrap_or_else(|fault| panic!("{words:?}: {fault}: {said}"));
    (json.code, value)
}

#[test]
fn a_plan_whose_coin_a_fork_took_for_good_ends_on_an_operators_word() {
    let (mut chain, world) = Chain::start();
    let before = chain.height();
    let ((ann, ann_paid), (bob, bob_paid)) = (funded(&chain, &world), funded(&chain, &world));
    chain.mine(FINAL);
    chain.follow(&world);
    let (ann_withdrawal, first) = withdrawn(&chain, &world, &ann, "0.2");
    let (bob_withdrawal, second) = withdrawn(&chain, &world, &bob, "0.2");
    let listed = world.shown("/api/v1/plans");
    assert_eq!(listed["items"], json!([first, second]), "{listed}");
    assert_eq!((&first["status"], &first["waits_for"]), (&json!("broadcast"), &json!("a block")));
    assert_eq!((&first["amount"], &first["withdrawals"]), (&json!("0.20000000"), &json!([ann_withdrawal])));
    assert_eq!((&first["inputs"][0]["present"], &first["inputs"][0]["amount"]), (&json!(true), &json!("0.25000000")));
    assert_eq!(alarms(&world), []);

    // While its coins are there nothing that an operator says ends a plan.
    let (input, foreign) = (&first["inputs"][0]["id"], &second["inputs"][0]["id"]);
    let stale = chain.hash(before + 1).to_string();
    refused(&world, "/api/v1/plans/99/conflict", &word(input, NOWHERE, before + 1, &stale), 404, "plan_unknown");
    refused(&world, &path(&first), &word(foreign, NOWHERE, before + 1, &stale), 422, "plan_input_not_its_own");
    refused(&world, &path(&first), &word(input, NOWHERE, before + 1, &stale), 422, "plan_input_present");

    // Other transactions take the coins from which both customers were paid, in a branch that nodes follow.
    let branch = chain.fork(before, &[&ann_paid, &bob_paid]);
    chain.follow(&world);
    let by = branch[0].block.txdata[1].compute_txid().to_string();
    let (at, tip) = (branch[0].hash.to_string(), branch.last().expect("blocks"));
    let lost = world.shown("/api/v1/plans?status=broadcast");
    for plan in lost["items"].as_array().expect("a list") {
        assert_eq!((&plan["inputs"][0]["present"], &plan["inputs"][0]["amount"]), (&json!(false), &Value::Null));
        let waits_for = plan["waits_for"].as_str().expect("a sentence");
        assert!(waits_for.contains("is gone") && waits_for.contains("florin plan conflict"), "{waits_for}");
    }
    named(&world, &[&first, &second]);
    let metric = format!("florin_alarm{{code=\"plan_input_missing\",subject=\"plan {}\"}} 1", first["id"]);
    assert!(world.get("/api/v1/metrics").text.lines().any(|line| line == metric), "{metric}");

    refused(&world, &path(&first), &word(input, &by, before + 1, &stale), 404, "block_unknown");
    refused(&world, &path(&first), &word(input, &by, before + 2, &at), 404, "block_unknown");
    refused(&world, &path(&first), &word(input, &by, tip.height, &tip.hash.to_string()), 422, "block_not_final");
    assert_eq!(world.shown(&format!("/api/v1/withdrawals/{ann_withdrawal}"))["status"], "broadcast");

    settle_over_http(&world, (&first, &ann, &ann_withdrawal), &word(input, &by, before + 1, &at));
    settle_by_command_line(&chain, &world, (&second, &bob_withdrawal), (&by, before + 1, &at));
    named(&world, &[]);
    assert_eq!(world.shown("/api/v1/books")["balanced"], true);
    a_confirmed_plan_is_not_ended(&mut chain, &world);
    world.stop();
}

fn settle_over_http(world: &World, (plan, customer, withdrawal): (&Value, &str, &str), body: &Value) {
    let key = key();
    let ended = world.post_as(&key, &path(plan), body);
    assert_eq!((ended.status, &ended.value["status"]), (200, &json!("conflicted")), "{}", ended.text);
    assert_eq!((&ended.value["txid"], &ended.value["block"]["height"]), (&body["txid"], &body["block_height"]));
    assert_eq!(ended.value["waits_for"], Value::Null);
    assert_eq!(world.shown(&format!("/api/v1/withdrawals/{withdrawal}"))["status"], "refunded");
    let again = world.post_as(&key, &path(plan), body);
    assert_eq!((again.status, &again.value["status"]), (200, &json!("conflicted")), "sent again it is answered alike");
    let mut other = body.clone();
    other["txid"] = json!(NOWHERE);
    assert_eq!(world.post_as(&key, &path(plan), &other).code(), "idempotency_mismatch");
    refused(world, &path(plan), body, 422, "plan_ended");
    // What she was paid is still missing, so that she may not take it out once more.
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.1", "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080" });
    refused(world, "/api/v1/withdrawals", &body, 422, "customer_frozen");
    assert_eq!(world.shown("/api/v1/plans?status=conflicted")["items"][0]["id"], plan["id"]);
    let other = &world.shown("/api/v1/plans?status=broadcast")["items"][0];
    named(world, &[other]);
}

fn settle_by_command_line(
    chain: &Chain,
    world: &World,
    (plan, withdrawal): (&Value, &str),
    (by, height, hash): (&str, u32, &str),
) {
    let (number, input) = (plan["id"].to_string(), plan["inputs"][0]["id"].as_str().expect("an input"));
    let height = height.to_string();
    let ask = |words: &[&str]| command_line(chain, world, words);
    let (code, listed) = ask(&["plan", "list", "--status", "broadcast"]);
    assert_eq!((code, &listed["items"][0]["id"]), (0, &plan["id"]), "{listed}");
    // Of one that is on its way, people see the transaction that was sent.
    let sent = plan["signed_txids"][0].as_str().expect("a signed transaction");
    let token = chain.folder.path().join("token");
    for words in [["plan", "list"], ["withdrawal", "list"]] {
        let shown =
            florin(&[&words[..], &["--url", &world.url, "--token-file", token.to_str().expect("text")]].concat());
        assert!(shown.out.contains(&format!(" {sent}")), "{}{}", shown.out, shown.err);
    }
    let (_, shown) = ask(&["plan", "show", &number]);
    assert_eq!(shown["inputs"][0]["present"], false);
    let conflict = |plan: &str, input: &str, txid: &str| {
        let words = ["plan", "conflict", plan, "--input", input, "--txid", txid, "--height", &height, "--block", hash];
        ask(&words)
    };
    for (number, input, txid, wanted) in [
        ("99", input, by, "plan_unknown"),
        ("x", input, by, "path_invalid"),
        (number.as_str(), "x", by, "outpoint_invalid"),
        (number.as_str(), input, "x", "hex_invalid"),
    ] {
        let (code, said) = conflict(number, input, txid);
        assert_eq!((code, &said["code"]), (1, &json!(wanted)), "{said}");
    }
    let (code, ended) = conflict(&number, input, by);
    assert_eq!((code, &ended["status"], &ended["txid"]), (0, &json!("conflicted"), &json!(by)), "{ended}");
    assert_eq!(world.shown(&format!("/api/v1/withdrawals/{withdrawal}"))["status"], "refunded");
    let (code, said) = conflict(&number, input, by);
    assert_eq!((code, &said["code"]), (1, &json!("plan_ended")), "{said}");
}

/// Life goes on; and a plan that is in a block is paid, whatever anybody says.
fn a_confirmed_plan_is_not_ended(chain: &mut Chain, world: &World) {
    let (customer, _) = funded(chain, world);
    chain.mine(FINAL);
    chain.follow(world);
    let (withdrawal, plan) = withdrawn(chain, world, &customer, "0.2");
    chain.mine(1);
    chain.follow(world);
    let shown = world.shown(&format!("/api/v1/plans/{}", plan["id"]));
    assert_eq!((&shown["status"], &shown["waits_for"]), (&json!("confirmed"), &json!("5 more blocks")));
    assert_eq!((&shown["txid"], &shown["confirmations"]), (&plan["signed_txids"][0], &json!(1)));
    let height = chain.height() - FINAL;
    let body = word(&plan["inputs"][0]["id"], NOWHERE, height, &chain.hash(height).to_string());
    refused(world, &path(&plan), &body, 422, "plan_confirmed");
    chain.mine(FINAL - 1);
    chain.follow(world);
    assert_eq!(world.shown(&format!("/api/v1/withdrawals/{withdrawal}"))["status"], "final");
    assert_eq!(world.shown("/api/v1/plans?status=final")["items"][0]["id"], plan["id"]);
    let pages: Vec<Value> = ["", "&after=1", "&after=2"]
        .iter()
        .map(|after| world.shown(&format!("/api/v1/plans?limit=1{after}")))
        .map(|page| json!([page["items"][0]["id"], page["next"]]))
        .collect();
    assert_eq!(pages, [json!([1, "1"]), json!([2, "2"]), json!([3, null])]);
}

#[test]
fn a_plan_that_spends_change_which_will_never_be_is_ended_as_the_alarm_says() {
    let (mut chain, world) = Chain::start();
    let before = chain.height();
    let (customer, paid) = funded(&chain, &world);
    chain.mine(FINAL);
    chain.follow(&world);
    let (_, first) = withdrawn(&chain, &world, &customer, "0.1");
    chain.mine(1);
    chain.follow(&world);
    let (withdrawal, second) = withdrawn(&chain, &world, &customer, "0.1");
    let change = format!("{}:", first["signed_txids"][0].as_str().expect("a txid"));
    assert!(second["inputs"][0]["id"].as_str().expect("an input").starts_with(&change), "{second}");

    let branch = chain.fork(before, &[&paid]);
    chain.follow(&world);
    // Of the change nothing is to be said: what becomes of it, the plan before decides.
    named(&world, &[&first]);
    let waits_for = world.shown("/api/v1/plans/2")["waits_for"].clone();
    assert!(waits_for.as_str().expect("a sentence").contains("is the change of plan 1"), "{waits_for}");
    let by = branch[0].block.txdata[1].compute_txid().to_string();
    world.made(&path(&first), &word(&first["inputs"][0]["id"], &by, before + 1, &branch[0].hash.to_string()));

    let told = named(&world, &[&second]).remove(0);
    let said = told.split('\'').nth(1).expect("a command in quotes");
    let words: Vec<&str> = said.split(' ').skip(1).collect();
    let (code, ended) = command_line(&chain, &world, &words);
    assert_eq!((code, &ended["status"]), (0, &json!("conflicted")), "{said}: {ended}");
    assert_eq!(world.shown(&format!("/api/v1/withdrawals/{withdrawal}"))["status"], "refunded");
    assert_eq!(world.shown("/api/v1/books")["balanced"], true);
    named(&world, &[]);
    world.stop();
}

#[test]
fn what_is_said_wrongly_of_a_plan_is_refused_and_moves_nothing() {
    let (_folder, world) = World::start();
    let before = world.shown("/api/v1/status")["seq"].clone();
    let input = format!("{NOWHERE}:0");
    let right = word(&json!(input), NOWHERE, 1, NOWHERE);
    let with = |name: &str, value: Value| {
        let mut body = right.clone();
        body[name] = value;
        body
    };
    let path = "/api/v1/plans/1/conflict";
    refused(&world, path, &right, 404, "plan_unknown");
    for number in ["x", "-1", "1.0", "18446744073709551616", "%00"] {
        refused(&world, &format!("/api/v1/plans/{number}/conflict"), &right, 400, "path_invalid");
        assert_eq!(world.get(&format!("/api/v1/plans/{number}")).code(), "path_invalid", "{number}");
    }
    for body in [json!({}), json!([]), json!("x"), Value::Null, with("more", json!(1))] {
        refused(&world, path, &body, 400, "body_invalid");
    }
    for name in ["input", "txid", "block_height", "block_hash"] {
        let mut body = right.clone();
        body.as_object_mut().expect("an object").remove(name);
        refused(&world, path, &body, 400, "body_invalid");
        refused(&world, path, &with(name, json!([])), 400, "body_invalid");
    }
    for height in [json!(-1), json!(1.5), json!("1"), json!(4_294_967_296_u64)] {
        refused(&world, path, &with("block_height", height), 400, "body_invalid");
    }
    let short = &NOWHERE[1..];
    for text in ["", ":", ":0", NOWHERE, &format!("{short}:0"), "g:0", "0x:0", "\u{660}:0"] {
        refused(&world, path, &with("input", json!(text)), 400, "outpoint_invalid");
    }
    for vout in ["", "-1", "+1", "1.0", " 1", "0x1", "4294967296", "0:0", "\u{661}"] {
        refused(&world, path, &with("input", json!(format!("{NOWHERE}:{vout}"))), 400, "outpoint_invalid");
    }
    for name in ["txid", "block_hash"] {
        for text in ["", short, &format!("{NOWHERE}44"), &format!("0x{}", &NOWHERE[2..]), &"g".repeat(64)] {
            refused(&world, path, &with(name, json!(text)), 400, "hex_invalid");
        }
    }
    for (query, code) in [
        ("status=open", "choice_invalid"),
        ("status=", "choice_invalid"),
        ("limit=0", "query_invalid"),
        ("limit=501", "query_invalid"),
        ("after=x", "query_invalid"),
        ("after=-1", "query_invalid"),
        ("wallet=1", "query_invalid"),
    ] {
        let answer = world.get(&format!("/api/v1/plans?{query}"));
        assert_eq!((answer.status, answer.code()), (400, code), "{query}");
    }
    assert_eq!((world.get("/api/v1/plans/1").status, world.get("/api/v1/plans/1").code()), (404, "plan_unknown"));
    assert_eq!(world.shown("/api/v1/plans"), json!({ "items": [] }));
    let events = world.shown(&format!("/api/v1/events?after={before}"));
    let moved: Vec<&Value> = events["items"].as_array().expect("a list").iter().map(|event| &event["kind"]).collect();
    assert!(moved.iter().all(|kind| **kind == "ticked"), "{moved:?}");
    world.stop();
}

#[test]
fn the_command_line_says_what_an_operator_has_to_check() {
    for words in [&["plan", "list"][..], &["plan", "show"], &["plan", "conflict"]] {
        let help = florin(&[words, &["--help"]].concat());
        assert!(
            help.code == 0 && help.out.contains("Usage:") && help.out.contains("--json"),
            "{words:?}: {}",
            help.out
        );
    }
    let help = florin(&["plan", "conflict", "--help"]).out;
    for said in ["--input <TXID:VOUT>", "--txid <TXID>", "--height <HEIGHT>", "--block <HASH>", "may still be paid"] {
        assert!(help.contains(said), "{said} is missing in\n{help}");
    }
    assert_eq!(florin(&["plan", "conflict", "1"]).code, 2, "nothing is assumed");
}

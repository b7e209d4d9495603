//! Which wallets are registered, which one is used where none is named, and what retiring one means.

use super::chain::Chain;
use super::support::{TOKEN, World, key, parts, wallet_body, wallet_of_signer};
use florin::client::Client;
use florin::signing::wallets::AskWallets;
use florin_chain::bitcoin::descriptor::{Descriptor, checksum};
use florin_chain::bitcoin::keys::{AccountSecrets, Branch, ScriptKind};
use florin_chain::bitcoin::network::Network;
use florin_engine::ports::SignerFault;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;

const WALLETS: &str = "/api/v1/wallets";

/// A platform whose signer answers so, and never where there is none.
fn world(wallets: Option<AskWallets>) -> (TempDir, World) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut parts = parts(folder.path());
    parts.wallets = wallets;
    let world = World::of(parts);
    (folder, world)
}

fn tiered(number: u32, tier: &str) -> Value {
    let mut body = wallet_body(number);
    body["tier"] = json!(tier);
    body
}

fn count(world: &World) -> usize {
    world.shown(WALLETS)["items"].as_array().expect("wallets").len()
}

#[test]
fn a_wallet_that_signs_needs_a_signer_that_names_it() {
    let other = |change: fn(&mut florin_signer::protocol::WalletDescriptors)| -> AskWallets {
        Arc::new(move || {
            let mut wallet = wallet_of_signer(1);
            change(&mut wallet);
            Ok(vec![wallet_of_signer(2), wallet])
        })
    };
    let silent: AskWallets = Arc::new(|| Err(SignerFault::Timeout));
    let cases: [(&str, Option<AskWallets>, (u16, &str)); 7] = [
        ("none", None, (503, "wallet_keys_unknown")),
        ("silent", Some(silent), (503, "wallet_keys_unknown")),
        ("empty", Some(Arc::new(|| Ok(Vec::new()))), (422, "wallet_keys_missing")),
        ("another id", Some(other(|wallet| wallet.wallet.0 = 7)), (422, "wallet_keys_missing")),
        ("another chain", Some(other(|wallet| wallet.genesis.0 = [9; 32])), (422, "wallet_keys_missing")),
        (
            "other change",
            Some(other(|wallet| wallet.internal = wallet_of_signer(3).internal)),
            (409, "wallet_keys_differ"),
        ),
        (
            "other keys",
            Some(other(|wallet| wallet.external = wallet_of_signer(3).external)),
            (409, "wallet_keys_differ"),
        ),
    ];
    for (name, wallets, expected) in cases {
        let (_folder, world) = world(wallets);
        for tier in ["hot", "warm"] {
            let answer = world.post(WALLETS, &tiered(1, tier));
            assert_eq!((answer.status, answer.code()), expected, "{name} {tier}: {}", answer.text);
            assert!(answer.value["hint"].as_str().is_some_and(|hint| hint.contains("cold")), "{name}: {}", answer.text);
        }
        assert_eq!(count(&world), 0, "{name}");
        // Keys that are kept elsewhere are nobody's here to name; and nobody is sent to them.
        world.made(WALLETS, &tiered(1, "cold"));
        let customer = world.customer();
        let answer = world.post(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
        assert_eq!(answer.code(), "wallet_missing", "{name}");
        world.stop();
    }
}

#[test]
fn a_real_signer_names_its_own_wallets_and_no_others() {
    let (_chain, world) = Chain::start();
    let answer = world.post(WALLETS, &wallet_body(3));
    assert_eq!((answer.status, answer.code()), (422, "wallet_keys_missing"), "{}", answer.text);
    let customer = world.customer();
    let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    assert_eq!(address["wallet"], 1, "the default is where it was");
    let mut same = world.shown(WALLETS)["items"][0].clone();
    let body = json!({
        "id": 4, "chain": 1, "tier": "cold",
        "descriptor_external": same["descriptor_external"].take(), "descriptor_internal": same["descriptor_internal"].take(),
    });
    let answer = world.post(WALLETS, &body);
    assert_eq!((answer.status, answer.code()), (409, "wallet_descriptor_taken"), "{}", answer.text);
    world.stop();
}

/// A descriptor with steps of its own behind the key.
fn stepped(descriptor: &str, steps: &str) -> String {
    let (body, _) = descriptor.split_once('#').expect("a checksum");
    let (start, _) = body.rsplit_once("/*").expect("ranged");
    let (start, _) = start.rsplit_once('/').expect("a branch");
    let body = format!("{start}/{steps}/*)");
    format!("{body}#{}", checksum(&body).expect("a descriptor"))
}

#[test]
fn the_two_branches_are_exactly_those_that_every_tool_looks_at() {
    let (_folder, world) = World::start();
    let body = tiered(2, "cold");
    let text = |name: &str| body[name].as_str().expect("a descriptor").to_owned();
    let (external, internal) = (text("descriptor_external"), text("descriptor_internal"));
    let of = |external: &str, internal: &str| json!({ "id": 2, "chain": 1, "tier": "cold", "descriptor_external": external, "descriptor_internal": internal });
    let steps = |external_steps: &str, internal_steps: &str| {
        of(&stepped(&external, external_steps), &stepped(&internal, internal_steps))
    };
    let script = |kind| {
        let account = AccountSecrets::derive(Network::Regtest, &[3; 32], kind, 2, &[0; 32]).expect("keys");
        Descriptor::of_account(&account.public(&[0; 32]), Branch::Internal).expect("a descriptor").to_string()
    };
    for bad in [
        steps("7/0", "8/1"),
        steps("7/0", "7/1"),
        steps("1", "0"),
        steps("0", "2"),
        steps("2", "1"),
        of(&internal, &external),
        of(&external, &external),
        of(&external, &script(ScriptKind::Tr)),
        of(&external, wallet_body(3)["descriptor_internal"].as_str().expect("text")),
    ] {
        let answer = world.post(WALLETS, &bad);
        assert_eq!((answer.status, answer.code()), (400, "descriptor_not_ranged_pair"), "{bad}: {}", answer.text);
    }
    // The other way to write hardened steps is the same wallet: one text of it is kept, and it is one wallet.
    let primed = |text: &str| {
        let body = text.split_once('#').expect("a checksum").0.replace("h/", "'/").replace("h]", "']");
        format!("{body}#{}", checksum(&body).expect("a descriptor"))
    };
    let made = world.made(WALLETS, &of(&primed(&external), &primed(&internal)));
    assert_eq!((&made["descriptor_external"], &made["descriptor_internal"]), (&json!(external), &json!(internal)));
    let mut again = of(&external, &internal);
    again["id"] = json!(5);
    let answer = world.post(WALLETS, &again);
    assert_eq!((answer.status, answer.code()), (409, "wallet_descriptor_taken"), "{}", answer.text);
    world.stop();
}

#[test]
fn the_command_line_keeps_the_codes_of_descriptors() {
    let (_folder, world) = World::start();
    let client = Client::new(&world.url, TOKEN);
    let good = tiered(2, "cold");
    let external = good["descriptor_external"].as_str().expect("text").to_owned();
    let body = external.split_once('#').expect("a checksum").0.to_owned();
    let summed = |body: &str| format!("{body}#{}", checksum(body).expect("letters of descriptors"));
    let (from, to) = (body.find('[').expect("an origin"), body.find(']').expect("an origin"));
    let cases = [
        ("x".repeat(600), "descriptor_too_long"),
        (format!("{external}\u{e4}"), "descriptor_character_invalid"),
        (format!("wpkh(tprv{})", "8".repeat(107)), "descriptor_private_key"),
        (body.clone(), "descriptor_checksum_missing"),
        (format!("{body}#qqqqqqqq"), "descriptor_checksum_invalid"),
        (summed(&body.replace("wpkh(", "wsh(")), "descriptor_function_unknown"),
        (summed(&format!("{}{}", &body[..from], &body[to + 1..])), "descriptor_origin_missing"),
        (summed(&format!("{}[xyz{}", &body[..from], &body[to..])), "descriptor_origin_invalid"),
        (summed(&body.replace("]tpub", "]tpux")), "key_base58_invalid"),
        (summed(&body.replace("/0/*", "/0h/*")), "descriptor_step_hardened"),
        (summed(&body.replace("/0/*", "/x/*")), "descriptor_step_invalid"),
        (summed(&body.replace("/0/*", "/0/1")), "descriptor_not_ranged"),
    ];
    for (text, code) in cases {
        let mut bad = good.clone();
        bad["descriptor_external"] = json!(text);
        let failure = client.post(WALLETS, &bad).expect_err("it is wrong");
        assert_eq!(failure.code(), code, "{text}: {failure}");
        assert!(failure.to_json()["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{code} says no way out");
    }
    world.stop();
}

#[test]
fn a_retired_wallet_hands_out_and_pays_nothing_and_is_watched_for_ever() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    let addresses = format!("/api/v1/customers/{customer}/addresses");
    let old = world.made(&addresses, &json!({}));
    world.fund(&customer, 100_000_000);
    let retire = |id: u32, body: &Value| world.post(&format!("{WALLETS}/{id}/retire"), body);
    let refused = |answer: &super::support::Answer| (answer.status, answer.code().to_owned());
    assert_eq!(refused(&retire(9, &json!({}))), (404, "wallet_unknown".into()));
    assert_eq!(refused(&retire(1, &json!({ "with_coins": "yes" }))), (400, "body_invalid".into()));
    for kept in [json!({}), json!({ "with_coins": false })] {
        assert_eq!(refused(&retire(1, &kept)), (422, "wallet_holds_coins".into()));
    }
    assert_eq!(world.shown(WALLETS)["items"][0]["retired"], false);
    // A new generation hands out addresses at once, and pays as soon as it holds enough.
    world.made(WALLETS, &wallet_body(2));
    assert_eq!(world.made(&addresses, &json!({}))["wallet"], 2);
    let withdrawal = |amount: &str| json!({ "customer": customer, "asset": "BTC", "amount": amount, "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080" });
    assert_eq!(world.made("/api/v1/withdrawals", &withdrawal("0.1"))["wallet"], 1, "the newest holds nothing");
    let again = key();
    let path = format!("{WALLETS}/1/retire");
    for _ in 0..2 {
        let answer = world.post_as(&again, &path, &json!({ "with_coins": true }));
        assert_eq!((answer.status, &answer.value["retired"]), (200, &json!(true)), "{}", answer.text);
    }
    assert_eq!(refused(&retire(1, &json!({}))), (422, "wallet_retired".into()));
    let named = world.post(&addresses, &json!({ "wallet": 1 }));
    assert_eq!(refused(&named), (422, "wallet_retired".into()));
    assert_eq!(world.made("/api/v1/withdrawals", &withdrawal("0.1"))["wallet"], 2, "it pays nothing new");
    // What is paid to it still comes into the books: nobody was told to pay, so it is nobody's until somebody looks.
    world.mine(Some((&old, 5_000_000)));
    let books = world.shown("/api/v1/books");
    assert_eq!(books["balanced"], true);
    let lines = books["items"][0]["lines"].as_array().cloned().unwrap_or_default();
    let suspense = lines.iter().chain(books["items"][1]["lines"].as_array().into_iter().flatten());
    let mut suspense = suspense.filter(|line| line["account"] == "suspense");
    assert_eq!(suspense.next().map(|line| line["amount"].clone()), Some(json!("0.05000000")), "{books}");
    world.stop();
}

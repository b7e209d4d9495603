//! How an asset is handled: shown, changed key by key, refused where it would make no sense, and in force at once.

use super::chain::until;
use super::support::World;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/assets/BTC";
const POLICY: &str = "/api/v1/assets/BTC/policy";

#[test]
fn what_is_named_is_changed_and_the_rest_stays() {
    let (_folder, world) = World::start();
    let before = world.shown(PATH);
    let change = json!({ "automatic_max": "0.1", "intent_s": 7200 });
    let after = world.made(POLICY, &change);
    let mut expected = before.clone();
    expected["policy"]["automatic_max"] = json!("0.10000000");
    expected["policy"]["intent_s"] = json!(7200);
    assert_eq!((&after, &world.shown(PATH)), (&expected, &expected));
    let depths = json!([{ "amount_from": "0", "confirmations": 1 }, { "amount_from": "1", "confirmations": 6 }]);
    let after = world.made(POLICY, &json!({ "depths": depths }));
    assert_eq!(after["policy"]["depths"][1], json!({ "amount_from": "1.00000000", "confirmations": 6 }));
    assert_eq!(after["policy"]["automatic_max"], "0.10000000");
    world.stop();
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_and_nothing_changes() {
    let (_folder, world) = World::start();
    let before = world.shown(PATH);
    let depth = |from: &str, confirmations: u64| json!({ "amount_from": from, "confirmations": confirmations });
    let cases: [(Value, &str); 16] = [
        (json!({ "automatic_maximum": "1" }), "body_invalid"),
        (json!({ "automatic_max": 1 }), "amount_invalid"),
        (json!({ "automatic_max": "-1" }), "amount_invalid"),
        (json!({ "automatic_max": "0.000000001" }), "amount_precision"),
        (json!({ "final_confirmations": -1 }), "body_invalid"),
        (json!({ "missing_s": u64::MAX }), "body_invalid"),
        (json!({ "depths": [] }), "depth_count_invalid"),
        (json!({ "depths": [depth("0.1", 1)] }), "depth_start_invalid"),
        (json!({ "depths": [depth("0", 2), depth("0", 3)] }), "depth_amounts_unordered"),
        (json!({ "depths": [depth("0", 0)] }), "confirmations_invalid"),
        (json!({ "depths": [depth("0", 2), depth("1", 1)] }), "depths_falling"),
        (json!({ "withdrawal_fee": "1" }), "withdrawal_fee_too_large"),
        (json!({ "withdrawal_min": "0" }), "withdrawal_min_zero"),
        (json!({ "network_fee_max": "0" }), "network_fee_max_zero"),
        (json!({ "network_fee_max": "1.00000001" }), "network_fee_max_too_large"),
        (json!({ "intent_s": 0 }), "policy_time_zero"),
    ];
    for (change, code) in cases {
        let answer = world.post(POLICY, &change);
        assert!((400..500).contains(&answer.status), "{change}: {}", answer.text);
        assert_eq!(answer.code(), code, "{change}: {}", answer.text);
    }
    for (path, code) in
        [("/api/v1/assets/XYZ/policy", "asset_unknown"), ("/api/v1/assets/EUR/policy", "policy_missing")]
    {
        assert_eq!(world.post(path, &json!({ "automatic_max": "1" })).code(), code);
    }
    assert_eq!(world.get("/api/v1/assets/XYZ").code(), "asset_unknown");
    assert_eq!(world.shown(PATH), before);
    world.stop();
}

#[test]
fn what_was_too_small_to_be_credited_is_credited_once_the_policy_says_so() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 600);
    let status = || world.shown("/api/v1/deposits")["items"][0]["status"].clone();
    assert_eq!(status(), "pending");
    world.made(POLICY, &json!({ "deposit_min": "0.00000500" }));
    until("the deposit is credited", || (status() == "credited").then_some(()));
    world.stop();
}

#[test]
fn a_withdrawal_above_the_new_limit_waits_for_approvals() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    world.made(POLICY, &json!({ "automatic_max": "0.1" }));
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let withdraw = |amount: &str| {
        let body = json!({ "customer": customer, "asset": "BTC", "amount": amount, "address": address });
        world.made("/api/v1/withdrawals", &body)["status"].clone()
    };
    assert_eq!((withdraw("0.1"), withdraw("0.10000001")), (json!("queued"), json!("awaiting_approval")));
    world.stop();
}

#[test]
fn a_withdrawal_that_no_node_would_relay_is_refused_whatever_the_policy_allows() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let (customer, other) = (world.customer(), world.customer());
    world.fund(&customer, 100_000_000);
    let withdraw = |amount: &str, address: &str| {
        let body = json!({ "customer": customer, "asset": "BTC", "amount": amount, "address": address });
        world.post("/api/v1/withdrawals", &body)
    };
    // One to a witness key's hash, to a taproot key and to a key's hash (Bitcoin Core's figures).
    let [segwit, taproot, legacy] = [
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", 294),
        ("bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6", 330),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", 546),
    ];
    assert_eq!(withdraw("0.00000293", segwit.0).code(), "withdrawal_too_small", "the policy comes first");
    world.made(POLICY, &json!({ "withdrawal_min": "0.00000001", "withdrawal_fee": "0" }));
    for (address, least) in [segwit, taproot, legacy] {
        for sat in [1, 100, least - 1] {
            let answer = withdraw(&format!("0.{sat:08}"), address);
            assert_eq!((answer.status, answer.code()), (422, "withdrawal_below_dust"), "{}", answer.text);
            let detail = format!("nodes relay at least 0.{least:08} BTC to this address");
            assert_eq!(answer.value["detail"], detail);
        }
        assert_eq!(withdraw(&format!("0.{least:08}"), address).status, 201);
    }
    let ours = world.made(&format!("/api/v1/customers/{other}/addresses"), &json!({}))["address"].clone();
    let answer = withdraw("0.00000001", ours.as_str().expect("an address"));
    assert_eq!((answer.status, &answer.value["status"]), (201, &json!("final")), "it never leaves the ledger");
    world.stop();
}

//! Approvals from the interface to the signer's process: those that count let it pay, and the others stop nothing.

use super::chain::{Chain, OPERATORS, SIGNER_LOG, until};
use super::support::{World, approval_by, id};
use serde_json::json;

/// An operator whom the signer's policy does not name.
const STRANGER: u8 = 7;

/// A withdrawal above the limits of platform and signer, approved by these; the last one says that it is complete.
fn approved(chain: &mut Chain, world: &World, operators: &[u8]) -> String {
    let customer = world.customer();
    let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    chain.pay(&address, 70_000_000);
    chain.mine(6);
    chain.follow(world);
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.6", "address": chain.address() });
    let withdrawal = world.made("/api/v1/withdrawals", &body);
    assert_eq!(withdrawal["status"], "awaiting_approval");
    let path = format!("/api/v1/withdrawals/{}", id(&withdrawal));
    for (place, operator) in operators.iter().enumerate() {
        let (key, signature) = approval_by(*operator, &withdrawal);
        let complete = place + 1 == operators.len();
        world.made(&format!("{path}/approvals"), &json!({ "key": key, "signature": signature, "complete": complete }));
    }
    path
}

/// The lines of the signer's log that name an approval which does not count, with code and key.
fn uncounted(chain: &Chain, operator: u8, code: &str) -> usize {
    let log = std::fs::read_to_string(chain.folder.path().join(SIGNER_LOG)).expect("a log");
    let key = florin_signer::approve::OperatorKey::from_secret(&[operator; 32]).public_text();
    let said = |line: &&str| [code, "an approval does not count", &key].iter().all(|word| line.contains(word));
    log.lines().filter(said).count()
}

#[test]
fn an_approval_by_a_stranger_spoils_no_withdrawal_and_counts_for_none() {
    let (mut chain, world) = Chain::start();
    let [first, second, _] = OPERATORS;
    let path = approved(&mut chain, &world, &[STRANGER, first, second]);
    until("it is paid", || (world.shown(&path)["status"] == "broadcast").then_some(()));
    assert_eq!(world.shown(&path)["approved_by"].as_array().expect("a list").len(), 3, "what was given is shown");
    assert_eq!(uncounted(&chain, STRANGER, "approval_key_unknown"), 1, "and the signer says what it left out");
    assert_eq!(uncounted(&chain, first, "approval"), 0);

    let path = approved(&mut chain, &world, &[first, STRANGER]);
    let alarm = until("it is refused", || {
        let status = world.shown("/api/v1/status");
        let alarms = status["alarms"].as_array().expect("a list").clone();
        alarms.into_iter().find(|alarm| alarm["code"] == "withdrawal_refused")
    });
    let text = |name: &str| alarm[name].as_str().expect("text").to_owned();
    assert!(path.ends_with(text("subject").trim_start_matches("withdrawal ")), "{alarm}");
    for word in ["approval_key_unknown", "too few of its approvals count, 2 were given", "approve it, or cancel it"] {
        assert!(text("detail").contains(word), "{word}: {alarm}");
    }
    let (key, signature) = approval_by(second, &world.shown(&path));
    let approval = json!({ "key": key, "signature": signature, "complete": true });
    until("it is approved between two tries", || {
        let answer = world.post(&format!("{path}/approvals"), &approval);
        assert!(answer.status == 200 || answer.code() == "approval_not_awaited", "{}", answer.text);
        (answer.status == 200).then_some(())
    });
    until("it is paid with one more approval", || (world.shown(&path)["status"] == "broadcast").then_some(()));
    until("the alarm is over", || {
        let status = world.shown("/api/v1/status").to_string();
        (!status.contains("withdrawal_refused")).then_some(())
    });
    world.stop();
}

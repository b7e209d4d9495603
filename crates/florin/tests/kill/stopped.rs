//! The signer is gone, or stands still: withdrawals wait and the status says why; everything else goes on. It comes back, and
//! they are paid.

use crate::check::{alarms, check_interface, check_logs, check_stores, drain};
use crate::load::{Caller, Kind, Load};
use crate::process::{Random, until};
use crate::site::{Books, Site};

/// Waits until the status names the signer among the things that need somebody's eyes.
fn wait_for_alarm(caller: &mut Caller) {
    until("the status says that the signer does not answer", || {
        let status = caller.get("/api/v1/status");
        let found = ["signer_timeout", "signer_unreachable"].iter().any(|code| {
            let alarms = alarms(&status, code);
            alarms.iter().any(|alarm| alarm["subject"] == "signer")
        });
        found.then_some(())
    });
}

#[test]
fn without_a_signer_withdrawals_wait_with_a_reason_and_all_else_goes_on() {
    let mut random = Random::of_test("without a signer");
    let site = Site::new(Books::Sqlite);
    let mut engine = site.serve("one");
    assert!(engine.wait_up(), "the engine starts");
    // It says once which wallet it has the keys of: otherwise none is registered.
    let mut signer = site.signer();
    site.found();
    signer.kill();
    let mut caller = site.caller();
    // No signer at all: the load asks for everything, and everything is acknowledged.
    let load = Load::start(&site, &mut random, 3);
    load.wait_for_more(60);
    until("a withdrawal waits for its signature", || {
        let list = caller.get("/api/v1/withdrawals?limit=500");
        let items = list["items"].as_array().expect("a list");
        items.iter().any(|withdrawal| withdrawal["status"] == "signing").then_some(())
    });
    wait_for_alarm(&mut caller);
    load.wait_for_more(30);
    // It comes, and pays; then it stands still, with its socket open.
    signer = site.signer();
    wait_for_broadcast(&mut caller);
    signer.pause();
    wait_for_alarm(&mut caller);
    load.wait_for_more(60);
    signer.go_on();
    let record = load.finish();
    assert!(record.count(Kind::Withdrawal) > 0, "there were withdrawals");
    drain(&site, &record);
    until("the alarm ends", || {
        let status = caller.get("/api/v1/status");
        let alarms = status["alarms"].as_array().expect("a list");
        (!alarms.iter().any(|alarm| alarm["subject"] == "signer")).then_some(())
    });
    check_interface(&site, &record);
    engine.kill();
    signer.kill();
    check_stores(&site, &record);
    check_logs(&site);
}

fn wait_for_broadcast(caller: &mut Caller) {
    until("a withdrawal is signed and sent", || {
        let list = caller.get("/api/v1/withdrawals?limit=500");
        let items = list["items"].as_array().expect("a list");
        let is_sent = |status: &str| ["broadcast", "confirmed", "final"].contains(&status);
        items.iter().any(|withdrawal| withdrawal["status"].as_str().is_some_and(is_sent)).then_some(())
    });
}

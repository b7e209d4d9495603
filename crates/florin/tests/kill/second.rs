//! A second writer on purpose, on the same journal as the first, under load. Only one gets rows in; the other says so, and
//! nobody is told of money by one that has missed rows.

mod signs;

use crate::check::{ask_again, check_interface, check_logs, check_stores, drain};
use crate::load::{Caller, Load, text};
use crate::process::{Random, until};
use crate::projection::{Depth, Twin};
use crate::site::{Books, Serve, Site};
use serde_json::json;

/// Codes by which a node says that it is not the one that writes.
const NOT_MINE: [&str; 2] = ["not_leading", "not_committed"];

/// The node that does not lead refuses a change and says why.
fn check_refuses(node: &Serve, caller: &mut Caller) {
    let url = node.url().expect("it listens");
    until("the node that does not lead says so", || {
        let (status, said) = caller.post_once(&url, "/api/v1/customers", &json!({}))?;
        (status == 503 && NOT_MINE.contains(&text(&said, "code"))).then_some(())
    });
}

/// The node that follows names the one that leads.
fn check_names(node: &Serve, leader: &Serve, caller: &Caller) {
    let (url, name) = (node.url().expect("it listens"), leader.name());
    until("the node that follows names the one that leads", || {
        let (_, said) = caller.post_once(&url, "/api/v1/customers", &json!({}))?;
        let leader = json!({ "node": name, "url": format!("http://{name}.example") });
        (said["code"] == "not_leading" && said["leader"] == leader).then_some(())
    });
}

/// Waits until exactly one of two leads; says whether it is the first.
fn wait_for_one(one: &Serve, two: &Serve, caller: &mut Caller) -> bool {
    until("exactly one of the two leads", || {
        let leads = (one.is_leading(caller), two.is_leading(caller));
        (leads.0 != leads.1).then_some(leads.0)
    })
}

/// Starts a second node beside one that leads under load. It takes over, or it ends and says why; says whether it took over.
fn start_beside(site: &Site, first: &mut Serve, second: &mut Serve, load: &Load, caller: &mut Caller) -> bool {
    let name = second.name().to_owned();
    if second.wait_up() {
        // Files have one node: whoever got its first row in leads, and the other never does again.
        assert!(!wait_for_one(first, second, caller), "a node on files starts only as the leader");
        check_refuses(first, caller);
        first.kill();
        load.wait_for_more(10);
        return true;
    }
    let logged = site.logged(&name);
    let why = logged.lines().rev().find(|line| line.starts_with("{\"code\"")).unwrap_or_default();
    assert!(["store_busy", "not_leading"].iter().any(|code| why.contains(code)), "it says why it ends: {logged}");
    load.wait_for_more(10);
    false
}

#[test]
fn a_second_writer_on_sqlite_past_the_lock_takes_over_or_ends_and_never_shares() {
    let mut random = Random::of_test("two writers on SQLite");
    let site = Site::new(Books::Sqlite);
    let mut signer = site.signer();
    let mut first = site.serve("one");
    assert!(first.wait_up(), "the first starts");
    site.found();
    let load = Load::start(&site, &mut random, 3);
    let mut caller = site.caller();
    load.wait_for_more(20);
    site.force_lock("one");
    let mut second = site.serve("two");
    let has_lead = start_beside(&site, &mut first, &mut second, &load, &mut caller);
    eprintln!("the second {}", if has_lead { "took over" } else { "ended" });
    if has_lead {
        std::mem::swap(&mut first, &mut second);
    }
    let mut takeovers = usize::from(has_lead);
    // The one that leads stands still; another leads; the first wakes up in the middle of what it did.
    for _ in 0..3 {
        let name = if first.name() == "one" { "two" } else { "one" };
        first.process().pause();
        site.force_lock(name);
        let mut second = site.serve(name);
        if !second.wait_up() {
            // It was stopped while it held a lock of the files, and nobody can pass.
            first.process().go_on();
            load.wait_for_more(10);
            continue;
        }
        load.wait_for_more(10);
        first.process().go_on();
        assert!(!wait_for_one(&first, &second, &mut caller), "the one that slept has lost the lead");
        check_refuses(&first, &mut caller);
        load.wait_for_more(10);
        first.kill();
        first = second;
        takeovers += 1;
    }
    assert!(takeovers > 0, "one took over");
    let record = load.finish();
    drain(&site, &record);
    check_interface(&site, &record);
    ask_again(&site, &record);
    first.kill();
    signer.kill();
    let past = check_stores(&site, &record);
    assert_eq!(past.leaders().len(), takeovers + 1, "{:?}", past.leaders());
    Twin::new().compare(&site, Depth::Everything);
    check_logs(&site);
}

#[test]
fn a_second_writer_on_mariadb_follows_takes_over_and_fences_the_first() {
    let mut random = Random::of_test("two writers on MariaDB");
    let site = Site::new(Books::maria());
    let mut signer = site.signer();
    let mut first = site.serve("one");
    assert!(first.wait_up(), "the first starts");
    site.found();
    let load = Load::start(&site, &mut random, 3);
    let mut caller = site.caller();
    let mut second = site.serve("two");
    assert!(second.wait_up(), "the second starts");
    load.wait_for_more(20);
    assert!(wait_for_one(&first, &second, &mut caller), "a second that starts only follows");
    check_refuses(&second, &mut caller);
    check_names(&second, &first, &caller);
    // The first stands still in the middle of whatever it does, and wakes up when another has long taken over.
    first.process().pause();
    second.wait_leading(&mut caller);
    load.wait_for_more(20);
    first.process().go_on();
    assert!(!wait_for_one(&first, &second, &mut caller), "the one that slept has lost the lead");
    check_refuses(&first, &mut caller);
    load.wait_for_more(20);
    // The leader dies; the other takes over again.
    second.kill();
    first.wait_leading(&mut caller);
    load.wait_for_more(20);
    let record = load.finish();
    drain(&site, &record);
    check_interface(&site, &record);
    ask_again(&site, &record);
    first.kill();
    signer.kill();
    let past = check_stores(&site, &record);
    assert_eq!(past.leaders(), ["one", "two", "one"]);
    check_logs(&site);
    Twin::new().compare(&site, Depth::Everything);
}

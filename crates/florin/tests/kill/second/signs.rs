//! The lock of the data folder, and signs of life that fail: a second process is sent away and told of the first; a leader whose
//! signs nobody confirms says nothing of money and goes on with everything else.

use super::check_names;
use crate::check::alarms;
use crate::load::{Caller, text};
use crate::process::until;
use crate::site::{Books, PREFIX, Serve, Site};
use mysql::prelude::Queryable;
use serde_json::json;

/// A customer with some euros, whom the load does not touch.
fn open_account(caller: &mut Caller) -> String {
    let customer = text(&caller.must("/api/v1/customers", &json!({})), "id").to_owned();
    book(caller, &customer, "first", "100.00");
    customer
}

fn book(caller: &mut Caller, customer: &str, reference: &str, amount: &str) {
    let receipt = json!({ "reference": format!("{customer}-{reference}"), "asset": "EUR", "amount": amount, "beneficiary": customer });
    caller.must("/api/v1/bank-receipts", &receipt);
}

/// What one node says of the customer's euros, `nothing` where it knows none; `None` where it does not say.
fn euros(caller: &Caller, url: &str, customer: &str) -> Option<String> {
    let (status, said) = caller.get_once(url, &format!("/api/v1/customers/{customer}/balances"))?;
    if status == 404 {
        return Some("nothing".to_owned());
    }
    if status != 200 {
        assert_eq!((status, text(&said, "code")), (503, "reads_unconfirmed"), "{said}");
        return None;
    }
    Some(text(&said["items"][0], "available").to_owned())
}

/// A node that slept while another led wakes up with questions waiting: it tells nobody what it knew before.
fn check_wakes(site: &Site, slept: &mut Serve, customer: &str, now: &str) {
    let url = slept.url().expect("it listens");
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (caller, url, customer) = (site.caller(), url.clone(), customer.to_owned());
            std::thread::spawn(move || (0..20).map(|_| euros(&caller, &url, &customer)).collect::<Vec<_>>())
        })
        .collect();
    slept.process().go_on();
    let answers: Vec<Option<String>> = askers.into_iter().flat_map(|asker| asker.join().expect("it is told")).collect();
    eprintln!("{} refused of {}", answers.iter().filter(|answer| answer.is_none()).count(), answers.len());
    assert!(answers.iter().flatten().all(|answer| answer == now), "{answers:?}");
    let caller = site.caller();
    until("it follows, and says what holds now", || euros(&caller, &url, customer).filter(|answer| answer == now));
}

/// A second node ends with one line that names the process of the first.
fn check_sent_away(site: &Site, first: &mut Serve) {
    let before = site.logged("two").lines().count();
    assert!(!site.serve("two").wait_up(), "the files are in use");
    let logged = site.logged("two");
    let lines: Vec<&str> = logged.lines().skip(before).collect();
    let [line] = lines[..] else { panic!("one line: {lines:?}") };
    let said: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
    assert_eq!(said["code"], "data_folder_in_use", "{line}");
    let holder = format!("process {} uses it, as node 'one'", first.process().id());
    assert!(said["message"].as_str().is_some_and(|message| message.contains(&holder)), "{line} names {holder}");
}

fn epoch(caller: &mut Caller) -> u64 {
    caller.get("/api/v1/status")["epoch"].as_u64().expect("a number")
}

#[test]
fn a_second_node_on_the_same_files_is_sent_away_until_the_first_is_gone() {
    let site = Site::new(Books::Sqlite);
    let mut first = site.serve("one");
    assert!(first.wait_up(), "the first starts");
    let mut caller = site.caller();
    check_sent_away(&site, &mut first);
    assert!(first.is_leading(&mut caller), "nobody has disturbed it");
    first.process().pause();
    check_sent_away(&site, &mut first);
    first.process().go_on();
    assert_eq!(epoch(&mut caller), 1);
    // Nobody is left to give the lock up: the system does it.
    first.kill();
    let mut second = site.serve("two");
    assert!(second.wait_up(), "the first is gone");
    assert_eq!(epoch(&mut caller), 2);
}

/// A leader whose signs of life are not confirmed, with all that it says of itself.
fn check_doubts(first: &Serve, second: &Serve, customer: &str, reference: &str, caller: &mut Caller) {
    let url = first.url().expect("it listens");
    until("it says nothing of money", || euros(caller, &url, customer).is_none().then_some(()));
    let status = until("it says why", || {
        let status = caller.get_at(&url, "/api/v1/status")?;
        let has = |code| !alarms(&status, code).is_empty();
        (has("heartbeat_failing") && has("reads_unconfirmed")).then_some(status)
    });
    assert_eq!((&status["leading"], &status["answers_account_reads"]), (&true.into(), &false.into()), "{status}");
    let other = second.url().expect("it listens");
    let before = until("who follows the journal knows it", || euros(caller, &other, customer));
    book(caller, customer, reference, "1.00");
    until("commands go on", || euros(caller, &other, customer).filter(|now| *now != before));
    assert_eq!(caller.get_at(&url, "/api/v1/assets").map(|assets| assets["items"].is_array()), Some(true));
}

fn check_sure(first: &Serve, customer: &str, caller: &mut Caller) {
    let url = first.url().expect("it listens");
    until("it is sure again", || euros(caller, &url, customer));
    until("its alarms are over", || {
        let status = caller.get_at(&url, "/api/v1/status")?;
        let is_over = ["heartbeat_failing", "reads_unconfirmed"].iter().all(|code| alarms(&status, code).is_empty());
        is_over.then_some(())
    });
}

#[test]
fn while_nobody_confirms_its_signs_of_life_a_leader_says_nothing_of_money_and_goes_on() {
    let site = Site::new(Books::maria());
    let mut first = site.serve("one");
    assert!(first.wait_up(), "the first starts");
    let mut caller = site.caller();
    first.wait_leading(&mut caller);
    let mut second = site.serve("two");
    assert!(second.wait_up(), "the second starts");
    check_names(&second, &first, &caller);
    let customer = open_account(&mut caller);
    check_sure(&first, &customer, &mut caller);

    let mut database = mysql::Conn::new(site.books.server().url.as_str()).expect("the server answers");
    let table = format!("{PREFIX}_journal.heartbeat");
    // The store of signs answers, and always with a fault.
    database.query_drop(format!("RENAME TABLE {table} TO {table}_away")).expect("it is there");
    check_doubts(&first, &second, &customer, "second", &mut caller);
    database.query_drop(format!("RENAME TABLE {table}_away TO {table}")).expect("it is there");
    check_sure(&first, &customer, &mut caller);
    // It answers nothing at all.
    database.query_drop(format!("LOCK TABLES {table} WRITE")).expect("it is there");
    check_doubts(&first, &second, &customer, "third", &mut caller);
    database.query_drop("UNLOCK TABLES").expect("they are locked");
    check_sure(&first, &customer, &mut caller);

    first.kill();
    second.wait_leading(&mut caller);
    check_sure(&second, &customer, &mut caller);
}

#[test]
fn a_leader_that_slept_while_another_led_says_nothing_that_it_knew_before() {
    let site = Site::new(Books::maria());
    let mut first = site.serve("one");
    assert!(first.wait_up(), "the first starts");
    let mut caller = site.caller();
    first.wait_leading(&mut caller);
    let mut second = site.serve("two");
    assert!(second.wait_up(), "the second starts");
    let customer = open_account(&mut caller);
    for round in 1..=3 {
        let (leader, follower) = if round % 2 == 1 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        until("both know it", || {
            let urls = [leader.url().expect("it listens"), follower.url().expect("it listens")];
            let known = urls.map(|url| euros(&caller, &url, &customer));
            (known[0].is_some() && known[0] == known[1]).then_some(())
        });
        leader.process().pause();
        follower.wait_leading(&mut caller);
        book(&mut caller, &customer, &format!("round-{round}"), "50.00");
        check_wakes(&site, leader, &customer, &format!("{}.00", 100 + 50 * round));
        check_names(leader, follower, &caller);
    }
}

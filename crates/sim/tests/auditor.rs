//! The auditor sees: rows of real runs are spoiled in one thing at a time, with all hashes made right again, and each has to be reported.

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::Row;
use florin_sim::auditor::{Auditor, RawRow};
use florin_sim::ports::Decision;
use florin_sim::run::play_out;
use florin_sim::schedule::Schedule;
use std::sync::{Mutex, OnceLock};

/// A protobuf message, taken apart so that it can be changed.
#[derive(Debug, Clone, PartialEq)]
struct Fields(Vec<(u64, Field)>);

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a real row is whole");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Fields {
    fn read(mut bytes: &[u8]) -> Fields {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes);
            if key & 7 == 0 {
                fields.push((key >> 3, Field::Number(take_varint(&mut bytes))));
            } else {
                let length = take_varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                fields.push((key >> 3, Field::Bytes(value.to_vec())));
            }
        }
        Fields(fields)
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, field) in &self.0 {
            match field {
                Field::Number(number) => {
                    put_varint(tag << 3, &mut out);
                    put_varint(*number, &mut out);
                }
                Field::Bytes(bytes) => {
                    put_varint(tag << 3 | 2, &mut out);
                    put_varint(bytes.len() as u64, &mut out);
                    out.extend(bytes);
                }
            }
        }
        out
    }

    fn number(&self, tag: u64) -> Option<u64> {
        self.0.iter().find_map(|(found, field)| match field {
            Field::Number(number) if *found == tag => Some(*number),
            _ => None,
        })
    }

    fn bytes(&self, tag: u64) -> Option<&Vec<u8>> {
        self.0.iter().find_map(|(found, field)| match field {
            Field::Bytes(bytes) if *found == tag => Some(bytes),
            _ => None,
        })
    }

    fn message(&self, tag: u64) -> Option<Fields> {
        self.bytes(tag).map(|bytes| Fields::read(bytes))
    }

    fn set(&mut self, tag: u64, value: Field) -> bool {
        let found = self.0.iter_mut().find(|(found, _)| *found == tag);
        found.map(|(_, field)| *field = value).is_some()
    }

    /// Changes the first message under a tag.
    fn within(&mut self, tag: u64, edit: impl FnOnce(&mut Fields) -> bool) -> bool {
        let Some(mut inner) = self.message(tag) else { return false };
        edit(&mut inner) && self.set(tag, Field::Bytes(inner.write()))
    }

    /// Adds one to an amount.
    fn increase(&mut self, tag: u64) -> bool {
        let Some(bytes) = self.bytes(tag) else { return false };
        let amount = bytes.iter().fold(0u128, |value, &byte| value << 8 | u128::from(byte)) + 1;
        let bytes: Vec<u8> = amount.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        self.set(tag, Field::Bytes(bytes))
    }
}

/// One command's events: tag and body.
type Events = Vec<(u64, Fields)>;

fn events_of(entry: &Fields) -> Events {
    let of_entry = entry.0.iter().filter(|(tag, _)| *tag == 3);
    let bodies = of_entry.filter_map(|(_, field)| if let Field::Bytes(bytes) = field { Some(bytes) } else { None });
    bodies
        .filter_map(|bytes| match Fields::read(bytes).0.into_iter().next() {
            Some((tag, Field::Bytes(body))) => Some((tag, Fields::read(&body))),
            _ => None,
        })
        .collect()
}

fn with_events(entry: &Fields, events: &Events) -> Fields {
    let mut fields: Vec<(u64, Field)> = entry.0.iter().filter(|(tag, _)| *tag < 3).cloned().collect();
    for (tag, body) in events {
        fields.push((3, Field::Bytes(Fields(vec![(*tag, Field::Bytes(body.write()))]).write())));
    }
    fields.extend(entry.0.iter().filter(|(tag, _)| *tag > 3).cloned());
    Fields(fields)
}

/// Links and hashes made right again.
fn relink(rows: &mut [Row]) {
    let mut previous = Digest::ZERO;
    for (seq, row) in (1..).zip(rows.iter_mut()) {
        *row = Row::seal(Seq(seq), row.epoch, row.time, previous, row.payload.clone());
        previous = row.hash;
    }
}

/// What was seen of the decisions of all runs that were made.
static SEEN: Mutex<Vec<Decision>> = Mutex::new(Vec::new());

fn judge(rows: &[Row]) -> Result<(), String> {
    judge_by(rows, |clock_ms| clock_ms)
}

/// Judges by a clock that showed something else.
fn judge_by(rows: &[Row], clock: impl Fn(u64) -> u64) -> Result<(), String> {
    let mut auditor = Auditor::default();
    for &(command, time_ms, clock_ms) in SEEN.lock().expect("no test panics with it").iter() {
        auditor.decided(command, time_ms, clock(clock_ms));
    }
    for row in rows {
        auditor.read(RawRow {
            seq: row.seq.0,
            epoch: row.epoch.0,
            time_ms: row.time.0,
            previous: row.previous.0,
            payload: &row.payload,
            hash: row.hash.0,
        })?;
    }
    Ok(())
}

/// How many runs there are to look for something in.
const RUNS: usize = 12;

/// Rows of a real run, made when they are first looked at.
fn rows_of(run: usize) -> &'static Vec<Row> {
    static MADE: [OnceLock<Vec<Row>>; RUNS] = [const { OnceLock::new() }; RUNS];
    MADE[run].get_or_init(|| {
        let seed = run as u64 + 1;
        let (world, wrong) = play_out(&Schedule::whole(seed, 900), None);
        assert_eq!(wrong, None, "seed {seed}");
        SEEN.lock().expect("no test panics with it").extend(world.clock.decisions_after(0));
        world.rows.rows()
    })
}

/// All commands of a row, as their events.
fn commands_of(row: &Row) -> Vec<Events> {
    let batch = Fields::read(&row.payload);
    let entry = |field: &Field| match field {
        Field::Bytes(bytes) => Some(events_of(&Fields::read(bytes))),
        Field::Number(_) => None,
    };
    batch.0.iter().filter(|(tag, _)| *tag == 1).filter_map(|(_, field)| entry(field)).collect()
}

/// Changes every command of a row for which `edit` says that it did, or the first one; says whether there was one.
fn edit_row(row: &mut Row, is_first_enough: bool, edit: &impl Fn(&mut Fields) -> bool) -> bool {
    let mut batch = Fields::read(&row.payload);
    let mut is_spoiled = false;
    for (tag, field) in &mut batch.0 {
        let Field::Bytes(bytes) = field else { continue };
        let mut entry = Fields::read(bytes);
        if *tag == 1 && !(is_spoiled && is_first_enough) && edit(&mut entry) {
            *bytes = entry.write();
            is_spoiled = true;
        }
    }
    row.payload = batch.write();
    is_spoiled
}

/// Changes the first command for which `edit` says that it did, in the first run that has one; hashes are made right again.
fn spoil_entry(edit: impl Fn(&mut Fields) -> bool) -> Vec<Row> {
    for run in (0..RUNS).map(rows_of) {
        let mut rows = run.clone();
        if rows.iter_mut().any(|row| edit_row(row, true, &edit)) {
            relink(&mut rows);
            return rows;
        }
    }
    panic!("no run has what this test spoils");
}

/// Changes every event with a tag for which `edit` says that it did, in the first run that has one and a command as wanted.
fn change_all_where(is_wanted: impl Fn(&Events) -> bool, tag: u64, edit: impl Fn(&mut Fields) -> bool) -> Vec<Row> {
    let edit = |entry: &mut Fields| {
        let mut events = events_of(entry);
        let mut is_spoiled = false;
        for (_, body) in events.iter_mut().filter(|(found, _)| *found == tag) {
            is_spoiled |= edit(body);
        }
        if is_spoiled {
            *entry = with_events(entry, &events);
        }
        is_spoiled
    };
    for run in (0..RUNS).map(rows_of) {
        let mut rows = run.clone();
        let has_it = run.iter().flat_map(commands_of).any(|events| is_wanted(&events));
        let is_spoiled = |row: &mut Row| edit_row(row, false, &edit);
        if has_it && rows.iter_mut().map(is_spoiled).fold(false, |any, is_spoiled| any | is_spoiled) {
            relink(&mut rows);
            return rows;
        }
    }
    panic!("no run has what this test spoils");
}

/// The same, event by event of a command.
fn spoil(edit: impl Fn(&mut Events) -> bool) -> Vec<Row> {
    spoil_entry(|entry| {
        let mut events = events_of(entry);
        let is_spoiled = edit(&mut events);
        if is_spoiled {
            *entry = with_events(entry, &events);
        }
        is_spoiled
    })
}

/// Changes the first event with a tag for which `edit` says that it did.
fn change(tag: u64, edit: impl Fn(&mut Fields) -> bool) -> Vec<Row> {
    spoil(|events| events.iter_mut().any(|(found, body)| *found == tag && edit(body)))
}

/// Leaves out the first event with a tag that is wanted.
fn remove(tag: u64, is_wanted: impl Fn(&Fields) -> bool) -> Vec<Row> {
    spoil(|events| {
        let place = events.iter().position(|(found, body)| *found == tag && is_wanted(body));
        place.map(|place| events.remove(place)).is_some()
    })
}

/// Repeats the first event with a tag that is wanted, changed by `edit`.
fn repeat(tag: u64, is_wanted: impl Fn(&Fields) -> bool, edit: impl Fn(&mut Fields)) -> Vec<Row> {
    spoil(|events| {
        let Some(place) = events.iter().position(|(found, body)| *found == tag && is_wanted(body)) else {
            return false;
        };
        let mut event = events[place].clone();
        edit(&mut event.1);
        events.insert(place + 1, event);
        true
    })
}

#[track_caller]
fn reported(rows: &[Row], words: &str) {
    let fault = judge(rows).expect_err("the auditor saw nothing");
    assert!(fault.contains(words), "'{fault}' does not say '{words}'");
}

/// The same where what is noticed first depends on the run.
#[track_caller]
fn reported_as_one_of(rows: &[Row], words: &[&str]) {
    let fault = judge(rows).expect_err("the auditor saw nothing");
    assert!(words.iter().any(|words| fault.contains(words)), "'{fault}' says none of {words:?}");
}

fn any(_: &Fields) -> bool {
    true
}

#[test]
fn real_rows_are_in_order_also_after_they_were_taken_apart() {
    for run in (0..2).map(rows_of) {
        assert_eq!(judge(run), Ok(()));
        let mut rows = run.clone();
        for row in &mut rows {
            let mut batch = Fields::read(&row.payload);
            for (_, field) in &mut batch.0 {
                let Field::Bytes(bytes) = field else { continue };
                let entry = Fields::read(bytes);
                *bytes = with_events(&entry, &events_of(&entry)).write();
            }
            row.payload = batch.write();
        }
        relink(&mut rows);
        assert_eq!(judge(&rows), Ok(()));
    }
}

#[test]
fn broken_links_hashes_and_clocks_are_reported() {
    let run = rows_of(0);
    let mut rows = run.clone();
    rows[9].payload[3] ^= 1;
    reported(&rows, "hash");
    let mut rows = run.clone();
    rows.remove(9);
    reported(&rows, "follows row");
    let mut rows = run.clone();
    rows[9].previous = Digest([1; 32]);
    reported(&rows, "link");
    let mut rows = run.clone();
    rows[9].time = LedgerTime(1);
    relink(&mut rows);
    reported(&rows, "backwards");
    let mut rows = run.clone();
    rows[9].epoch = Epoch(77);
    relink(&mut rows);
    reported(&rows, "epoch");
}

#[test]
fn a_row_that_is_left_out_is_reported_although_all_hashes_are_right() {
    let has = |row: &Row, wanted: u64| {
        let batch = Fields::read(&row.payload);
        let entries = batch.0.iter().filter_map(|(_, field)| match field {
            Field::Bytes(bytes) => Some(Fields::read(bytes)),
            Field::Number(_) => None,
        });
        entries.flat_map(|entry| events_of(&entry)).any(|(tag, _)| tag == wanted)
    };
    for tag in [32, 40, 43, 60, 64] {
        let found = (0..RUNS).map(rows_of).find_map(|run| Some((run, run.iter().position(|row| has(row, tag))?)));
        let (run, place) = found.expect("a run has it");
        let mut rows = run.clone();
        rows.remove(place);
        relink(&mut rows);
        assert!(judge(&rows).is_err(), "a row with event {tag} was left out");
    }
}

#[test]
fn changed_and_doubled_money_is_reported() {
    let custody = |words: &str, rows: Vec<Row>| reported(&rows, words);
    custody("coins and", change(43, |coin| coin.increase(2)));
    // The first transfer in a command that receives a coin.
    let booked = spoil(|events| {
        events.iter().any(|(tag, _)| *tag == 43)
            && events.iter_mut().any(|(tag, body)| *tag == 21 && body.within(1, |transfer| transfer.increase(3)))
    });
    reported(&booked, "coins and");
    reported(&repeat(23, any, |_| {}), "is not open");
    let doubled = spoil(|events| {
        let place = events.iter().position(|(tag, _)| *tag == 21).filter(|_| events.iter().any(|(tag, _)| *tag == 43));
        place.map(|place| events.insert(place, events[place].clone())).is_some()
    });
    reported(&doubled, "coins and");
    reported(&change(23, |posted| posted.increase(2)), "more than it reserved");
    reported_as_one_of(&remove(24, any), &["hold", "is overdrawn"]);
    reported_as_one_of(&remove(23, any), &["by the records", "hold", "is overdrawn"]);
    // A hold that outlives its command.
    let larger = spoil(|events| {
        events.iter().all(|(tag, _)| *tag != 23)
            && events.iter().any(|(tag, _)| *tag == 60)
            && events.iter_mut().any(|(tag, hold)| *tag == 22 && hold.within(2, |transfer| transfer.increase(3)))
    });
    reported(&larger, "hold");
}

#[test]
fn a_deposit_credited_twice_early_or_from_nowhere_is_reported() {
    let credited = |moved: &Fields| moved.number(2) == Some(3);
    // Taken back to pending, and credited again.
    let twice = spoil(|events| {
        let Some(place) = events.iter().position(|(tag, body)| *tag == 51 && credited(body)) else { return false };
        let (again, mut back) = (events[place].clone(), events[place].clone());
        back.1.set(2, Field::Number(2));
        events.splice(place + 1..=place, [back, again]);
        true
    });
    reported(&twice, "a deposit went from 3 to 2");
    reported(&remove(51, credited), "by the records");
    let early = change(11, |policy| policy.within(2, |step| step.set(2, Field::Number(9))));
    reported(&early, "credited at depth");
    let elsewhere = change(51, |moved| credited(moved) && moved.within(3, |at| at.set(2, Field::Bytes(vec![7; 32]))));
    reported(&elsewhere, "not in the chain");
    reported(&change(50, |deposit| deposit.set(4, Field::Number(3))), "credited from the start");
}

#[test]
fn addresses_that_a_backup_would_not_find_are_reported() {
    let reused =
        change(32, |address| address.within(1, |path| path.number(3) == Some(1) && path.set(3, Field::Number(0))));
    reported(&reused, "was handed out where");
    let other = change(32, |address| {
        let script = address.bytes(2).map(|script| {
            let mut script = script.clone();
            let last = script.len() - 1;
            script[last] ^= 1;
            script
        });
        script.is_some_and(|script| address.set(2, Field::Bytes(script)))
    });
    reported(&other, "is not the one that its descriptor gives");
}

/// Changes the signed transaction of the first plan, and its id with it.
fn resign(edit: impl Fn(&mut Transaction) -> bool) -> Vec<Row> {
    change(65, |signed| {
        let Some(mut tx) = signed.bytes(3).and_then(|bytes| deserialize::<Transaction>(bytes).ok()) else {
            return false;
        };
        edit(&mut tx)
            && signed.set(3, Field::Bytes(serialize(&tx)))
            && signed.set(4, Field::Bytes(tx.compute_txid().to_byte_array().to_vec()))
    })
}

#[test]
fn signatures_for_what_nobody_asked_for_are_reported() {
    reported(&remove(64, any), "plan");
    reported(&change(65, |signed| signed.set(4, Field::Bytes(vec![7; 32]))), "another id");
    let stranger = resign(|tx| {
        tx.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51]);
        true
    });
    reported(&stranger, "owed nothing");
    let generous = resign(|tx| {
        let largest = tx.output.iter_mut().max_by_key(|output| output.value).expect("it pays somebody");
        let more = largest.value.to_sat() > 1_000_000;
        if more {
            largest.value = bitcoin::Amount::from_sat(largest.value.to_sat() - 500_000);
        }
        more
    });
    reported(&generous, "fee");
    let foreign = resign(|tx| {
        tx.input[0].previous_output.vout += 1;
        true
    });
    reported(&foreign, "other coins than its plan");
    // Signing is halted just before it is requested.
    let halted = spoil(|events| {
        let Some(place) = events.iter().position(|(tag, _)| *tag == 64) else { return false };
        let halt = [(1, 1), (2, 4), (3, 1)].map(|(tag, number)| (tag, Field::Number(number)));
        events.insert(place, (12, Fields(halt.to_vec())));
        true
    });
    reported(&halted, "signing is halted");
}

#[test]
fn withdrawals_that_change_or_end_twice_are_reported() {
    reported(
        &change(60, |withdrawal| {
            withdrawal.bytes(8).is_none() && withdrawal.number(8).is_some() && withdrawal.increase(4)
        }),
        "hold",
    );
    let is_final = |moved: &Fields| moved.number(2) == Some(7);
    let refunded = repeat(62, is_final, |moved| {
        moved.set(2, Field::Number(9));
    });
    reported_as_one_of(&refunded, &["a withdrawal that had ended", "refunded that somebody had paid"]);
    let shallow = change(62, |moved| moved.number(2) == Some(6) && moved.set(2, Field::Number(7)));
    reported(&shallow, "not in the chain");
    let ends = |events: &Events| events.iter().any(|(tag, body)| *tag == 62 && is_final(body));
    let deeper = change_all_where(ends, 11, |policy| policy.set(7, Field::Number(6)));
    reported(&deeper, "a withdrawal is final at depth");
}

#[test]
fn a_command_that_is_executed_twice_is_reported() {
    let rows = {
        let mut rows = rows_of(0).clone();
        let batch = Fields::read(&rows[5].payload);
        let entry = batch.0.iter().find(|(_, field)| match field {
            Field::Bytes(bytes) => Fields::read(bytes).bytes(1).is_some(),
            Field::Number(_) => false,
        });
        let entry = entry.expect("the operator defines something in the sixth row").clone();
        rows[5].payload = Fields([batch.0, vec![entry]].concat()).write();
        relink(&mut rows);
        rows
    };
    reported(&rows, "executed twice");
}

#[test]
fn coins_spent_twice_and_robberies_that_halt_nothing_are_reported() {
    reported(&repeat(44, any, |_| {}), "spent twice");
    // A plan's spend becomes one that nobody meant.
    let robbed = change(44, |spent| {
        spent.within(2, |how| {
            let count = how.0.len();
            how.0.retain(|(tag, _)| *tag != 3);
            how.0.len() < count
        })
    });
    reported(&robbed, "nothing was halted");
}

/// A spend that no plan meant and that pays withdrawals in a plan's place.
fn pays_in_a_plans_place(spent: &Fields) -> bool {
    spent.message(2).is_some_and(|how| how.number(3).is_none() && how.bytes(4).is_some())
}

#[test]
fn payments_in_a_plans_place_that_are_hidden_invented_or_booked_otherwise_are_reported() {
    let is_paid = |events: &Events, to: u64| {
        let ended = events.iter().any(|(tag, body)| *tag == 67 && body.number(2) == Some(6));
        ended && events.iter().any(|(tag, body)| *tag == 62 && body.number(2) == Some(to))
    };
    // Said to pay nothing: then what it paid ends as paid by nobody.
    let hidden = change_all_where(
        |events| is_paid(events, 7),
        44,
        |spent| {
            pays_in_a_plans_place(spent)
                && spent.within(2, |how| {
                    how.0.retain(|(tag, _)| *tag != 4);
                    true
                })
        },
    );
    reported(&hidden, "paid by what did not pay it");
    // Said to pay what is no withdrawal of that plan.
    let invented = change(44, |spent| {
        pays_in_a_plans_place(spent) && spent.within(2, |how| how.set(4, Field::Bytes(vec![7; 16])))
    });
    reported(&invented, "not open, or not hit");
    // Refunded to the customer as well.
    let refunded = spoil(|events| {
        is_paid(events, 7)
            && events
                .iter_mut()
                .any(|(tag, body)| *tag == 62 && body.number(2) == Some(7) && body.set(2, Field::Number(9)))
    });
    reported(&refunded, "refunded that somebody had paid");
    // Paid by another transaction than the one that did.
    let elsewhere = spoil(|events| {
        is_paid(events, 7)
            && events.iter_mut().any(|(tag, body)| {
                let is_end = *tag == 62 && body.number(2) == Some(7);
                is_end && body.within(5, |paid| paid.set(1, Field::Bytes(vec![7; 32])))
            })
    });
    reported(&elsewhere, "paid by what did not pay it");
    // The coins that were taken stay short, or less is made good than was paid.
    let unbooked = spoil(|events| {
        let place = events.iter().position(|(tag, _)| *tag == 21);
        is_paid(events, 7) && place.map(|place| events.remove(place)).is_some()
    });
    reported_as_one_of(&unbooked, &["by the records", "is overdrawn"]);
    let less = spoil(|events| {
        is_paid(events, 7)
            && events.iter_mut().any(|(tag, body)| *tag == 21 && body.within(1, |transfer| transfer.increase(3)))
    });
    reported_as_one_of(&less, &["by the records", "is overdrawn"]);
}

#[test]
fn quotes_of_a_time_that_is_over_are_reported() {
    let rows = rows_of(0);
    assert_eq!(judge(rows), Ok(()));
    for (clock, word) in [(-120_000i64, "price was set"), (120_000, "price was set")] {
        let fault =
            judge_by(rows, |clock_ms| clock_ms.saturating_add_signed(clock)).expect_err("no clock was so wrong");
        assert!(fault.contains(word), "{fault}");
    }
    let is_exchange = |(tag, body): &(u64, Fields)| *tag == 72 && body.number(2) == Some(1);
    let over = change_all_where(
        |events| events.iter().any(is_exchange),
        71,
        |quote| {
            let as_of = quote.message(9).and_then(|price| price.number(4)).unwrap_or_default();
            quote.set(8, Field::Number(as_of))
        },
    );
    reported(&over, "a quote was accepted when the clock showed");
    reported(
        &change(71, |quote| quote.within(9, |price| price.set(5, Field::Number(0)) && price.set(4, Field::Number(1)))),
        "a price was quoted from",
    );
    reported(
        &spoil(|events| {
            let at = events.iter().position(|(tag, _)| *tag == 71);
            let jump = || (3, Fields(vec![(1, Field::Number(1)), (2, Field::Number(2))]));
            at.map(|at| events.insert(at, jump())).is_some()
        }),
        "while a jump of the clock stands",
    );
}

#[test]
fn quotes_better_than_their_price_and_exchanges_that_differ_are_reported() {
    // A purchase that costs its margin and nothing else, and a sale that brings far more than its value.
    let cheap = change(71, |quote| {
        let margin = quote.bytes(7).cloned();
        quote.number(4) == Some(1) && margin.is_some_and(|margin| quote.set(6, Field::Bytes(margin)))
    });
    reported(&cheap, "a quote is better than its price");
    let dear = change(71, |quote| quote.number(4) == Some(2) && quote.set(6, Field::Bytes(vec![1; 10])));
    reported(&dear, "a quote is better than its price");
    let odd = change(71, |quote| {
        let has_margin = quote.bytes(7).is_some_and(|margin| *margin > vec![1]);
        has_margin && quote.number(4) == Some(1) && quote.set(6, Field::Bytes(vec![1]))
    });
    reported(&odd, "a margin exceeds its quote");
    let differs = spoil(|events| {
        events.iter().any(|(tag, body)| *tag == 72 && body.number(2) == Some(1))
            && events.iter_mut().any(|(tag, body)| *tag == 21 && body.within(1, |transfer| transfer.increase(3)))
    });
    reported(&differs, "an exchange moved");
}

/// The schema's numbers for kinds of records that left.
const LEFT_BLOCK: u64 = 1;
const LEFT_DEPOSIT: u64 = 2;
const LEFT_WITHDRAWAL: u64 = 3;
const LEFT_PLAN: u64 = 4;
const LEFT_COIN: u64 = 5;

/// Changes something; says whether it was there.
type Edit<'a> = &'a dyn Fn(&mut Fields) -> bool;

/// Changes the first record of a kind among those that come back.
fn change_what_came_back(kind: u64, edit: impl Fn(&mut Fields) -> bool) -> Vec<Row> {
    change(48, |back| {
        back.0.iter_mut().filter(|(tag, _)| *tag == 3).any(|(_, record)| {
            let Field::Bytes(bytes) = record else { return false };
            let mut record = Fields::read(bytes);
            let is_changed = record.within(kind, &edit);
            *bytes = record.write();
            is_changed
        })
    })
}

#[test]
fn records_that_come_back_as_others_than_they_left_are_reported() {
    let cases: [(u64, Edit<'_>, &str); 6] = [
        (LEFT_BLOCK, &|block| block.within(2, |at| at.set(2, Field::Bytes(vec![7; 32]))), "another block came back"),
        (LEFT_DEPOSIT, &|deposit| deposit.increase(3), "with another field 3"),
        (LEFT_WITHDRAWAL, &|withdrawal| withdrawal.increase(4), "with another field 4"),
        (LEFT_PLAN, &|plan| plan.set(6, Field::Number(3)), "with another field 6"),
        (LEFT_COIN, &|coin| coin.increase(2), "with another field 2"),
        (LEFT_COIN, &|coin| coin.within(8, |spent| spent.set(1, Field::Bytes(vec![7; 32]))), "with another field 8"),
    ];
    for (kind, edit, words) in cases {
        reported(&change_what_came_back(kind, edit), words);
    }
}

#[test]
fn records_that_come_back_in_another_order_or_too_few_or_too_soon_are_reported() {
    let reversed = change(48, |back| {
        let is_first = |(tag, _): &&(u64, Field)| *tag != 3;
        let (mut others, mut records): (Vec<_>, Vec<_>) =
            back.0.clone().into_iter().partition(|field| is_first(&field));
        let kind = |field: &(u64, Field)| match &field.1 {
            Field::Bytes(bytes) => Fields::read(bytes).0[0].0,
            Field::Number(_) => 0,
        };
        let is_mixed = records.first().map(kind) != records.last().map(kind);
        records.reverse();
        others.append(&mut records);
        back.0 = others;
        is_mixed
    });
    reported(&reversed, "came back where another kind had left");
    let fewer = change(48, |back| {
        let kept = back.0.iter().filter(|(tag, _)| *tag == 3).count() > 1;
        if kept {
            back.0.pop();
        }
        kept
    });
    reported_as_one_of(
        &fewer,
        &["came back where another kind had left", "came back with another field", "another block"],
    );
    let none = change(48, |back| {
        back.0.retain(|(tag, _)| *tag != 3);
        true
    });
    reported(&none, "nothing came back");
    let again = repeat(48, any, |_| {});
    reported(&again, "records came back while there were blocks to take back");
    let more = change(48, |back| {
        let record = back.0.iter().rev().find(|(tag, _)| *tag == 3).cloned();
        record.map(|record| back.0.extend(std::iter::repeat_n(record, 10_000))).is_some()
    });
    reported(&more, "more came back than had left");
}

#[test]
fn digests_of_what_left_that_are_of_no_chain_are_reported() {
    // The next records that come back, from below these, lead to another digest.
    let other = change(48, |back| back.set(2, Field::Bytes(vec![7; 32])));
    reported(&other, "what came back has another digest than it had");
    let nothing = change(48, |back| back.set(2, Field::Bytes(vec![0; 32])));
    reported(&nothing, "the digest below what came back is not that of nothing");
}

#[test]
fn what_comes_back_while_not_all_is_halted_is_reported() {
    let is_deep = |body: &Fields| body.number(3) == Some(6) && body.number(2) == Some(4);
    let edit = |body: &mut Fields| is_deep(body) && body.set(3, Field::Number(1));
    let quiet = change_all_where(|events| events.iter().any(|(tag, _)| *tag == 48), 12, edit);
    reported_as_one_of(&quiet, &["what was final was taken back, and not all was halted", "was not in force"]);
}

#[test]
fn blocks_that_leave_too_soon_or_without_all_that_goes_with_them_are_reported() {
    let soon = change(11, |policy| policy.set(11, Field::Number(60)));
    reported(&soon, "and 60 are kept");
    let other = change(47, |block| block.within(2, |at| at.set(2, Field::Bytes(vec![7; 32]))));
    reported(&other, "not the oldest one was archived");
    let without = |tag| {
        spoil(move |events| {
            let has_block = events.iter().any(|(found, _)| *found == 47);
            let place = events.iter().position(|(found, _)| *found == tag).filter(|_| has_block);
            place.map(|place| events.remove(place)).is_some()
        })
    };
    reported(&without(46), "a coin that it spent was not");
    reported(&without(52), "a deposit that was credited for it was not");
}

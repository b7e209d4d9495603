//! The writer against a journal that fails in every way that a journal may fail.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod common;

use common::*;
use florin_core::command::{Command, EPOCH_GAP_MAX_MS, Origin, Outcome, Request, TIME_JUMP_MAX_MS};
use florin_core::decide::{OriginRefusal, Refusal};
use florin_core::event::Event;
use florin_core::id::{Digest, LedgerTime, Seq};
use florin_core::journal::{Batch, ROW_BYTES_MAX};
use florin_core::snapshot;
use florin_core::wire::Message;
use florin_engine::lanes::{Ask, Lane, REST_LANE_MAX};
use florin_engine::load::{Loaded, load};
use florin_engine::read_model::{Gate, ReadModel};
use florin_engine::writer::{Answer, Appended, CoreRules, RecoverError, Reply, Role, SubmitRefusal, Ticket, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn loaded(rows: &Rows) -> Loaded {
    load(&mut rows.clone(), &mut Kept::default()).expect("the journal is sound")
}

/// A writer that leads an empty journal, whose epoch is row 1.
fn leading(rows: &Rows) -> Writer {
    let mut writer = writer("a");
    writer.take_lead(loaded(rows), 1_000);
    pump(&mut writer, rows);
    assert_eq!(writer.role(), Role::Leading);
    writer
}

fn pump(writer: &mut Writer, rows: &Rows) {
    writer.decide_waiting(1_000);
    while let Some(sealed) = writer.next_row() {
        writer.appended(rows.append_with(&sealed.row, Fault::None));
        writer.decide_waiting(1_000);
    }
}

fn done(ticket: u64, after: u64) -> Reply {
    Reply { ticket: Ticket(ticket), after: Seq(after), answer: Answer::Done(Outcome::Done(true)) }
}

fn already_open() -> Answer {
    Answer::Refused(Refusal::Origin(OriginRefusal::SequenceDone))
}

#[test]
fn nothing_is_answered_before_the_epoch_is_durable() {
    let rows = Rows::default();
    let mut writer = writer("a");
    assert_eq!(writer.submit(Ticket(1), open(1, customer(1))), Err(SubmitRefusal::NotLeading));
    writer.take_lead(Loaded::empty(), 5);
    writer.submit(Ticket(1), open(1, customer(1))).unwrap();
    assert_eq!(writer.decide_waiting(5), 0);
    let first = writer.next_row().unwrap();
    assert!(matches!(first.batch.entries[0].events[..], [Event::EpochStarted(_)]));
    writer.appended(rows.append_with(&first.row, Fault::UnknownLost));
    assert_eq!((writer.decide_waiting(6), writer.role()), (0, Role::Taking));
    let again = writer.next_row().unwrap();
    assert_eq!(again.row, first.row, "an unknown row is sent again byte for byte");
    writer.appended(rows.append_with(&again.row, Fault::None));
    assert_eq!((writer.decide_waiting(6), writer.role()), (1, Role::Leading));
}

#[test]
fn a_refusal_waits_for_the_rows_it_was_decided_on() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), open(1, customer(1))).unwrap();
    writer.decide_waiting(1_000);
    let sealed = writer.next_row().unwrap();
    writer.submit(Ticket(2), open(2, customer(1))).unwrap();
    writer.submit(Ticket(3), open(1, customer(1))).unwrap();
    assert_eq!(writer.decide_waiting(1_000), 2);
    assert_eq!(writer.take_replies(), []);
    assert!(writer.next_row().is_none(), "neither a refusal nor a repetition makes a row");
    writer.appended(rows.append_with(&sealed.row, Fault::None));
    let reply = |ticket, answer| Reply { ticket: Ticket(ticket), after: Seq(2), answer };
    let expected = [done(1, 2), reply(2, already_open()), reply(3, Answer::Repeated(Outcome::Done(true)))];
    assert_eq!(writer.take_replies(), expected);
    writer.submit(Ticket(4), open(4, customer(1))).unwrap();
    writer.decide_waiting(1_000);
    assert_eq!(writer.take_replies(), [reply(4, already_open())], "its reasons are durable already");
    assert!(writer.is_idle());
}

#[test]
fn a_refusal_on_reasons_that_were_lost_is_not_given() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), open(1, customer(1))).unwrap();
    writer.decide_waiting(1_000);
    let sealed = writer.next_row().unwrap();
    writer.submit(Ticket(2), open(2, customer(1))).unwrap();
    writer.decide_waiting(1_000);
    writer.submit(Ticket(3), open(3, customer(3))).unwrap();
    leading(&rows);
    assert!(writer.appended(rows.append_with(&sealed.row, Fault::None)).is_none());
    let answers: BTreeMap<_, _> =
        writer.take_replies().into_iter().map(|reply| (reply.ticket.0, reply.answer)).collect();
    assert_eq!(answers, (1..=3).map(|ticket| (ticket, Answer::NotCommitted)).collect());
    assert_eq!(writer.role(), Role::Following);
    assert_eq!(writer.submit(Ticket(4), open(4, customer(4))), Err(SubmitRefusal::NotLeading));
}

#[test]
fn one_row_is_in_flight_while_the_next_is_gathered() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), open(1, customer(1))).unwrap();
    writer.decide_waiting(1_000);
    let first = writer.next_row().unwrap();
    for number in 2..=9 {
        writer.submit(Ticket(number), open(number, customer(number))).unwrap();
    }
    assert_eq!(writer.decide_waiting(1_001), 8);
    assert!(writer.next_row().is_none());
    writer.appended(rows.append_with(&first.row, Fault::None));
    let second = writer.next_row().unwrap();
    assert_eq!(second.batch.entries.len(), 8);
    assert_eq!(Batch::decode(&second.row.payload).as_ref(), Ok(&*second.batch), "the payload says what the batch says");
    assert_eq!(second.row.payload, second.batch.encode(), "gathering gives the batch's one encoding");
}

#[test]
fn a_batch_that_grew_old_takes_no_more_commands() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    for (number, clock_ms, decided) in [(1, 1_000, 1), (2, 1_500, 1), (3, 2_500, 1), (4, 2_501, 0)] {
        writer.submit(Ticket(number), open(number, customer(number))).unwrap();
        assert_eq!(writer.decide_waiting(clock_ms), decided, "{number}");
        writer.next_row();
    }
    assert_eq!(writer.waiting(Lane::Rest), 1);
}

#[test]
fn ledger_time_never_runs_backwards() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    for (number, clock_ms) in [(1, 5_000), (2, 10), (3, 4_999), (4, 5_001)] {
        writer.submit(Ticket(number), open(number, customer(number))).unwrap();
        writer.decide_waiting(clock_ms);
        let sealed = writer.next_row().unwrap();
        writer.appended(rows.append_with(&sealed.row, Fault::None));
    }
    let times: Vec<u64> = rows.all().iter().map(|row| row.time.0).collect();
    assert_eq!(times, [1_000, 5_000, 5_000, 5_000, 5_001]);
}

/// A writer with the core's own rules that leads an empty journal from `clock_ms` on.
fn leading_by_rules(rows: &Rows, clock_ms: u64) -> Writer {
    let mut writer = Writer::new(config("a"), Box::new(CoreRules));
    writer.take_lead(loaded(rows), clock_ms);
    drive(&mut writer, rows, clock_ms);
    writer
}

fn drive(writer: &mut Writer, rows: &Rows, clock_ms: u64) {
    writer.decide_waiting(clock_ms);
    while let Some(sealed) = writer.next_row() {
        writer.appended(rows.append_with(&sealed.row, Fault::None));
        writer.decide_waiting(clock_ms);
    }
}

/// Under an id of the time at which these tests begin.
fn by_operator(number: u64, command: Command) -> Ask {
    let mut id = command_id(number);
    id.0[..6].copy_from_slice(&1_700_000_000_000_u64.to_be_bytes()[2..]);
    let origin = Origin::Request { id, request: Digest([8; 32]) };
    Ask::Request(Request { origin, command })
}

/// The year 2100.
const WRONG_MS: u64 = 4_102_444_800_000;

#[test]
fn a_wrong_clock_takes_ledger_time_along_for_no_more_than_a_minute() {
    let rows = Rows::default();
    let start = 1_700_000_000_000;
    let mut writer = leading_by_rules(&rows, start);
    let clocks = [start + 1_000, WRONG_MS, WRONG_MS + 5_000, start + 2_000, start + TIME_JUMP_MAX_MS + 1, WRONG_MS];
    for (number, clock_ms) in (1..).zip(clocks) {
        writer.submit(Ticket(number), by_operator(number, Command::OpenCustomer(customer(number)))).unwrap();
        drive(&mut writer, &rows, clock_ms);
    }
    let limit = start + TIME_JUMP_MAX_MS;
    let times: Vec<u64> = rows.all().iter().map(|row| row.time.0).collect();
    assert_eq!(times, [start, start + 1_000, limit, limit, limit, limit, limit]);
    assert!(writer.take_replies().iter().all(|reply| reply.answer.code().is_none()));

    for number in 10..20 {
        writer.submit(Ticket(number), by_operator(number, Command::OpenCustomer(customer(number)))).unwrap();
    }
    assert_eq!(writer.decide_waiting(WRONG_MS), 10, "a batch is as old as the clock says, not as ledger time does");
}

#[test]
fn an_operators_word_lets_ledger_time_go_to_the_clock_in_a_row_of_its_own() {
    let rows = Rows::default();
    let start = 1_700_000_000_000;
    let mut writer = leading_by_rules(&rows, start);
    let clock = LedgerTime(WRONG_MS);
    writer.submit(Ticket(1), Ask::internal(Command::SeeClock { clock })).unwrap();
    drive(&mut writer, &rows, WRONG_MS);
    let right_ms = start + 3_600_000;
    writer.submit(Ticket(2), by_operator(2, Command::OpenCustomer(customer(2)))).unwrap();
    writer.submit(Ticket(3), Ask::internal(Command::Tick)).unwrap();
    drive(&mut writer, &rows, right_ms);
    for (number, command) in [(4, Command::OpenCustomer(customer(4))), (5, Command::ConfirmTime), (6, Command::Tick)] {
        // The lane of operators goes first, so all are put into one batch by hand.
        writer.submit(Ticket(number), by_operator(number, command)).unwrap();
        writer.decide_waiting(right_ms);
    }
    drive(&mut writer, &rows, right_ms);
    let limit = start + TIME_JUMP_MAX_MS;
    let times: Vec<u64> = rows.all().iter().map(|row| row.time.0).collect();
    assert_eq!(times, [start, limit, limit, limit, right_ms]);
    let answers: Vec<_> =
        writer.take_replies().into_iter().map(|reply| (reply.ticket.0, reply.answer.code())).collect();
    // The writer notes the clock itself, before it is told of it.
    let unconfirmed = [1, 3].map(|ticket| (ticket, Some("time_unconfirmed")));
    assert_eq!(answers[..2], unconfirmed);
    assert_eq!(answers[2..], [(2, None), (4, None), (5, None), (6, None)]);
}

#[test]
fn a_clock_that_a_tick_leaves_behind_is_noted_before_the_next_command() {
    let rows = Rows::default();
    let start = 1_700_000_000_000;
    let mut writer = leading_by_rules(&rows, start);
    writer.submit(Ticket(1), by_operator(1, Command::OpenCustomer(customer(1)))).unwrap();
    drive(&mut writer, &rows, start + 50_000);
    // Fifteen seconds behind the last tick, and sixty-five behind the ledger time that the next tick takes.
    writer.submit(Ticket(2), Ask::internal(Command::Tick)).unwrap();
    writer.submit(Ticket(3), by_operator(3, Command::ConfirmTime)).unwrap();
    drive(&mut writer, &rows, start - 15_000);
    let answers: Vec<_> =
        writer.take_replies().into_iter().map(|reply| (reply.ticket.0, reply.answer.code())).collect();
    assert_eq!(answers, [(1, None), (2, None), (3, Some("time_behind"))]);
}

#[test]
fn an_epoch_after_a_long_gap_waits_for_an_operator() {
    let rows = Rows::default();
    let start = 1_700_000_000_000;
    leading_by_rules(&rows, start);
    leading_by_rules(&rows, start + EPOCH_GAP_MAX_MS);
    leading_by_rules(&rows, start + 2 * EPOCH_GAP_MAX_MS + 1);
    let times: Vec<u64> = rows.all().iter().map(|row| row.time.0).collect();
    let noted = start + EPOCH_GAP_MAX_MS + TIME_JUMP_MAX_MS;
    assert_eq!(times, [start, start + EPOCH_GAP_MAX_MS, start + EPOCH_GAP_MAX_MS, noted]);
}

#[test]
fn rows_stay_within_their_size_and_lose_no_command() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    for number in 0..40 {
        writer.submit(Ticket(number), receipt(number, format!("{number:050000}{number:050000}"))).unwrap();
    }
    pump(&mut writer, &rows);
    let rows = rows.all();
    assert_eq!(rows.len(), 5, "ten receipts of 100,000 bytes fit a row");
    assert!(rows.iter().all(|row| row.payload.len() <= ROW_BYTES_MAX));
    assert_eq!(writer.take_replies().len(), 40);
    assert!(writer.is_idle());
}

#[test]
fn a_full_lane_refuses_and_others_go_first() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    for number in 0..REST_LANE_MAX as u64 {
        writer.submit(Ticket(number), open(number, customer(number))).unwrap();
    }
    let full = writer.submit(Ticket(0), open(0, customer(0)));
    assert_eq!(full, Err(SubmitRefusal::Full(Lane::Rest)));
    assert_eq!(full.unwrap_err().code(), "queue_full");
    writer.submit(Ticket(77_777), Ask::internal(Command::Tick)).unwrap();
    writer.decide_waiting(1_000);
    let sealed = writer.next_row().unwrap();
    writer.appended(rows.append_with(&sealed.row, Fault::None));
    assert_eq!(writer.take_replies()[0].ticket, Ticket(77_777));
}

#[test]
fn a_command_without_effect_needs_no_row() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), Ask::internal(Command::Tick)).unwrap();
    pump(&mut writer, &rows);
    assert_eq!(rows.all().len(), 1);
    assert_eq!(writer.take_replies()[0].answer, Answer::Done(Outcome::Done(false)));
}

#[test]
fn a_panicking_command_is_quarantined_and_costs_nobody_else() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), open(1, customer(1))).unwrap();
    writer.decide_waiting(1_000);
    let flight = writer.next_row().unwrap();
    writer.submit(Ticket(2), open(2, customer(2))).unwrap();
    writer.submit(Ticket(3), open(3, POISONED)).unwrap();
    writer.submit(Ticket(4), open(4, customer(4))).unwrap();
    writer.decide_waiting(1_000);
    assert_eq!((writer.role(), writer.waiting(Lane::Rest)), (Role::Poisoned, 1));

    // The row in flight becomes durable meanwhile, or not: the state given back may know it or not.
    writer.appended(rows.append_with(&flight.row, Fault::UnknownWritten));
    assert_eq!(writer.recover(Loaded::empty()), Err(RecoverError::Behind));
    writer.recover(loaded(&rows)).unwrap();
    pump(&mut writer, &rows);
    let answers: BTreeMap<_, _> =
        writer.take_replies().into_iter().map(|reply| (reply.ticket.0, reply.answer)).collect();
    let ok = || Answer::Done(Outcome::Done(true));
    assert_eq!(answers, BTreeMap::from([(1, ok()), (2, ok()), (3, Answer::Quarantined), (4, ok())]));

    writer.submit(Ticket(5), open(3, POISONED)).unwrap();
    pump(&mut writer, &rows);
    assert_eq!(writer.take_replies()[0].answer, Answer::Quarantined);
    assert_eq!(writer.role(), Role::Leading, "the second time it does not even reach the rules");
    assert_eq!(writer.quarantined().count(), 1);
    let state = loaded(&rows).state;
    assert!(!state.customers().contains_key(&POISONED));
    assert_eq!(state.customers().len(), 3);
}

#[test]
fn an_address_whose_derivation_panics_is_quarantined_whoever_asks() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    let by_id = Origin::Request { id: command_id(2), request: Digest([2; 32]) };
    let mut ticket = 0;
    for origin in [by_id, Origin::Internal] {
        for (is_known, role) in [(false, Role::Poisoned), (true, Role::Leading)] {
            let before = writer.quarantined().count();
            writer.submit(Ticket(ticket + 1), open(100 + ticket, customer(100 + ticket))).unwrap();
            writer.submit(Ticket(ticket + 2), poisoned_address(origin.clone())).unwrap();
            ticket += 2;
            writer.decide_waiting(1_000);
            assert_eq!(writer.role(), role, "{origin:?}, known: {is_known}");
            assert_eq!(writer.quarantined().count(), before + usize::from(!is_known));
            if !is_known {
                writer.recover(loaded(&rows)).unwrap();
            }
            pump(&mut writer, &rows);
            let answers: Vec<_> = writer.take_replies().into_iter().map(|reply| reply.answer).collect();
            assert_eq!(answers, [Answer::Done(Outcome::Done(true)), Answer::Quarantined]);
        }
    }
    assert_eq!(loaded(&rows).state.customers().len(), 4);
}

#[test]
fn a_command_that_outgrows_a_row_is_quarantined() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), receipt(1, "small".to_owned())).unwrap();
    writer.submit(Ticket(2), receipt(2, GIANT.to_owned())).unwrap();
    writer.decide_waiting(1_000);
    assert_eq!(writer.role(), Role::Poisoned);
    writer.recover(loaded(&rows)).unwrap();
    pump(&mut writer, &rows);
    let answers: Vec<_> = writer.take_replies().into_iter().map(|reply| reply.answer).collect();
    assert_eq!(answers, [Answer::Done(Outcome::Done(true)), Answer::Quarantined]);
    assert_eq!(writer.recover(loaded(&rows)), Err(RecoverError::NotPoisoned));
}

#[test]
fn a_poisoned_writer_refuses_the_state_of_anothers_rows() {
    let rows = Rows::default();
    let mut writer = leading(&rows);
    writer.submit(Ticket(1), open(3, POISONED)).unwrap();
    writer.decide_waiting(1_000);
    leading(&rows);
    assert_eq!(writer.recover(loaded(&rows)), Err(RecoverError::Diverged));
}

/// One process: a writer, its reader, and who waits for what.
struct Process {
    writer: Writer,
    reader: ReadModel,
    gate: Gate,
    in_flight: Option<Arc<florin_engine::writer::Sealed>>,
}

/// What an outside observer knows.
#[derive(Default)]
struct Observed {
    sent: BTreeMap<u64, (u64, u64)>,
    acknowledged: BTreeSet<u64>,
    not_committed: BTreeSet<u64>,
    counts: BTreeMap<&'static str, u64>,
}

impl Process {
    fn start(rows: &Rows) -> Process {
        let reader = ReadModel::new(loaded(rows));
        Process { writer: writer("n"), reader, gate: Gate::default(), in_flight: None }
    }

    fn step(&mut self, rows: &Rows, random: &mut Random, seen: &mut Observed, clock_ms: u64, ticket: &mut u64) {
        self.reader.follow(&mut rows.clone()).expect("the journal is sound");
        match self.writer.role() {
            Role::Following if random.chance(20) => self.writer.take_lead(loaded(rows), clock_ms),
            Role::Poisoned if random.chance(50) => drop(self.writer.recover(loaded(rows))),
            _ => {}
        }
        if random.chance(70) {
            *ticket += 1;
            // Ids and customers are few, so that repetitions, mismatches and refusals are many.
            let known = seen.sent.get(&random.below(*ticket)).copied();
            let (id, whose) = match known {
                Some(again) if random.chance(20) => again,
                _ => (random.below(300), random.below(60)),
            };
            let whose_id = if whose == 0 { POISONED } else { customer(whose) };
            if self.writer.submit(Ticket(*ticket), open(id, whose_id)).is_ok() {
                seen.sent.insert(*ticket, (id, whose));
            }
        }
        if random.chance(60) {
            self.writer.decide_waiting(clock_ms);
        }
        if self.in_flight.is_none() {
            self.in_flight = self.writer.next_row();
        } else if random.chance(60) {
            let fault = match random.below(6) {
                0 => Fault::UnknownWritten,
                1 => Fault::UnknownLost,
                2 => Fault::UnknownLate,
                _ => Fault::None,
            };
            let sealed = self.in_flight.take().expect("it was there");
            let fate = rows.append_with(&sealed.row, fault);
            *seen
                .counts
                .entry(match fate {
                    Appended::Durable => "durable",
                    Appended::Fenced => "fenced",
                    Appended::Unknown => "unknown",
                })
                .or_default() += 1;
            if let Some(durable) = self.writer.appended(fate) {
                self.reader.fold(&durable).expect("it follows");
            }
        }
        self.gate.push(self.writer.take_replies());
        for reply in self.gate.open(self.reader.at()) {
            self.judge(&reply, rows, seen);
        }
    }

    /// Holds what an asker is told against the journal as it is at that moment.
    fn judge(&self, reply: &Reply, rows: &Rows, seen: &mut Observed) {
        let (id, whose) = seen.sent[&reply.ticket.0];
        let durable = entries_of(rows, id);
        let mut count = |what| *seen.counts.entry(what).or_default() += 1;
        match &reply.answer {
            Answer::Done(_) => {
                count("done");
                assert_eq!(durable, 1, "what is acknowledged is in the journal, once");
                assert!(self.reader.state().customers().contains_key(&customer(whose)), "one reads one's own writes");
                seen.acknowledged.insert(id);
            }
            Answer::Repeated(_) => {
                count("repeated");
                assert_eq!(durable, 1, "what is repeated was done");
                seen.acknowledged.insert(id);
            }
            Answer::Refused(Refusal::Origin(OriginRefusal::SequenceDone)) => {
                count("refused");
                let open = loaded(rows).state.customers().contains_key(&customer(whose));
                assert!(open, "a refusal's reason is durable");
            }
            Answer::Refused(_) => {
                count("mismatch");
                assert_eq!(durable, 1, "a mismatch names a command that is durable");
            }
            Answer::NotCommitted => {
                count("not_committed");
                seen.not_committed.insert(reply.ticket.0);
            }
            Answer::Quarantined => count("quarantined"),
            Answer::NoScript(_) => unreachable!("no address was asked for"),
        }
    }
}

fn entries_of(rows: &Rows, id: u64) -> usize {
    let entries = rows.all().into_iter().flat_map(|row| Batch::decode(&row.payload).unwrap().entries);
    entries.filter(|entry| entry.command == Some(command_id(id))).count()
}

fn run(seed: u64, counts: &mut BTreeMap<&'static str, u64>) {
    let mut random = Random::new(seed);
    let rows = Rows::default();
    let mut seen = Observed::default();
    let mut processes = [Process::start(&rows), Process::start(&rows)];
    let (mut clock_ms, mut ticket) = (1_000, 0);
    for _ in 0..400 {
        clock_ms += random.below(20);
        let which = random.below(2) as usize;
        if random.chance(10) {
            rows.arrive(rows.under_way());
        }
        if random.chance(2) {
            // The process dies, whatever it was about to do; its in-flight row may still arrive.
            if let Some(sealed) = processes[which].in_flight.take()
                && random.chance(50)
            {
                rows.append_with(&sealed.row, Fault::UnknownWritten);
            }
            processes[which] = Process::start(&rows);
            *seen.counts.entry("crashed").or_default() += 1;
        }
        processes[which].step(&rows, &mut random, &mut seen, clock_ms, &mut ticket);
    }
    for id in &seen.acknowledged {
        assert_eq!(entries_of(&rows, *id), 1, "nothing acknowledged is lost or done twice");
    }
    for id in 0..300 {
        assert!(entries_of(&rows, id) <= 1, "no command is executed twice");
    }
    let whole = loaded(&rows);
    assert!(!whole.state.customers().contains_key(&POISONED), "poison never becomes durable");
    for process in &mut processes {
        while process.reader.follow(&mut rows.clone()).unwrap() > 0 {}
        assert_eq!(snapshot::hash(process.reader.state()), snapshot::hash(&whole.state));
    }
    seen.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
}

#[test]
fn two_writers_with_faults_and_crashes_lose_nothing_and_repeat_nothing() {
    let mut counts = BTreeMap::new();
    for seed in 0..60 {
        println!("seed {seed}");
        run(seed, &mut counts);
    }
    println!("{counts:?}");
    let happened = ["durable", "fenced", "unknown", "done", "repeated", "refused", "mismatch", "not_committed"];
    for what in happened.into_iter().chain(["quarantined", "crashed"]) {
        assert!(counts.get(what).is_some_and(|count| *count >= 20), "{what} hardly ever happened: {counts:?}");
    }
}

/// What may become of an attempt to append. One that arrives before the next attempt is [`Fault::UnknownWritten`]; a late one
/// arrives after it, whichever row that was of.
const FATES: [Fault; 4] = [Fault::None, Fault::UnknownWritten, Fault::UnknownLost, Fault::UnknownLate];

/// Attempts for two rows: each may be tried again, and every mixture of fates comes about.
const FATED_ATTEMPTS: u32 = 6;

#[test]
fn an_append_of_unknown_fate_settles_in_every_order() {
    // Every order of four fates over six attempts, with the process alive throughout. The first row is the epoch's.
    let (mut second_row_late, mut after_both) = (0, 0);
    for order in 0..FATES.len().pow(FATED_ATTEMPTS) {
        let rows = Rows::default();
        let mut writer = writer("a");
        writer.take_lead(Loaded::empty(), 1);
        writer.submit(Ticket(1), open(1, customer(1))).unwrap();
        let mut rest = order;
        for _ in 0..FATED_ATTEMPTS {
            let fate = FATES[rest % FATES.len()];
            rest /= FATES.len();
            writer.decide_waiting(1);
            let late = rows.under_way();
            if let Some(sealed) = writer.next_row() {
                writer.appended(rows.append_with(&sealed.row, fate));
                second_row_late += u32::from(fate == Fault::UnknownLate && sealed.row.seq == Seq(2));
            }
            rows.arrive(late);
        }
        pump(&mut writer, &rows);
        let late = rows.under_way();
        after_both += u32::from(!late.is_empty());
        rows.arrive(late);
        assert_eq!(writer.take_replies(), [done(1, 2)], "{order}");
        assert_eq!(rows.all().iter().map(|row| row.seq).collect::<Vec<_>>(), [Seq(1), Seq(2)], "{order}");
        assert_eq!(writer.attempts(), 0);
    }
    assert!(second_row_late > 1_000 && after_both > 100, "{second_row_late} {after_both}");
}

#[test]
fn of_a_late_row_and_another_leaders_the_first_to_arrive_stands_and_the_other_is_fenced() {
    for arrives_first in [true, false] {
        let rows = Rows::default();
        let mut first = leading(&rows);
        first.submit(Ticket(1), open(1, customer(1))).unwrap();
        first.decide_waiting(1_000);
        let sealed = first.next_row().unwrap();
        first.appended(rows.append_with(&sealed.row, Fault::UnknownLate));
        let mut second = writer("b");
        // It knows nothing of the row that is under way.
        second.take_lead(loaded(&rows), 1_000);
        let epoch = second.next_row().unwrap();
        assert_eq!(epoch.row.seq, sealed.row.seq);
        if arrives_first {
            rows.arrive(rows.under_way());
            assert_eq!(rows.append_with(&epoch.row, Fault::None), Appended::Fenced);
        } else {
            assert_eq!(rows.append_with(&epoch.row, Fault::None), Appended::Durable);
            rows.arrive(rows.under_way());
        }
        let again = first.next_row().unwrap();
        assert_eq!(again.row, sealed.row, "the same bytes");
        first.appended(rows.append_with(&again.row, Fault::None));
        let replies = first.take_replies();
        if arrives_first {
            assert_eq!(replies, [done(1, 2)]);
            assert_eq!(rows.all()[1], sealed.row);
        } else {
            assert_eq!(replies, [Reply { ticket: Ticket(1), after: Seq(1), answer: Answer::NotCommitted }]);
            assert_eq!(rows.all()[1], epoch.row);
        }
        assert_eq!(rows.all().len(), 2);
    }
}

#[test]
fn a_writer_steps_down_only_when_the_fate_of_its_row_is_known() {
    let rows = Rows::default();
    let mut first = leading(&rows);
    first.submit(Ticket(1), open(1, customer(1))).unwrap();
    first.decide_waiting(1_000);
    let sealed = first.next_row().unwrap();
    first.submit(Ticket(2), open(2, customer(2))).unwrap();
    first.decide_waiting(1_000);
    assert!(!first.step_down(), "a row is under way");
    first.appended(rows.append_with(&sealed.row, Fault::UnknownWritten));
    assert!(!first.step_down(), "the row stands in the journal, and nobody knows");
    let mut second = writer("b");
    second.take_lead(loaded(&rows), 1_000);
    pump(&mut second, &rows);
    let again = first.next_row().unwrap();
    first.appended(rows.append_with(&again.row, Fault::None));
    first.submit(Ticket(3), open(3, customer(3))).unwrap();
    assert!(first.step_down());
    let not_committed = |ticket| Reply { ticket: Ticket(ticket), after: Seq(2), answer: Answer::NotCommitted };
    assert_eq!(first.take_replies(), [done(1, 2), not_committed(2), not_committed(3)]);
    assert_eq!(first.submit(Ticket(4), open(4, customer(4))), Err(SubmitRefusal::NotLeading));
    assert_eq!(rows.all().len(), 3);
}

//! The writer and a clock that can't be right: it says so in the journal before it decides anything by it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]
#![allow(dead_code, reason = "other tests use the rest of what they share")]

mod common;

use common::*;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind};
use florin_core::broker::{Pair, Price, Side};
use florin_core::command::{Command, ID_AHEAD_MS, Origin, Outcome, Request, TIME_JUMP_MAX_MS};
use florin_core::custody::Beneficiary;
use florin_core::event::{Event, TimeJumped};
use florin_core::id::{AssetId, CommandId, CustomerId, Digest, LedgerTime, QuoteId};
use florin_engine::lanes::Ask;
use florin_engine::load::Loaded;
use florin_engine::writer::{Answer, CoreRules, Ticket, Writer};

const START: u64 = 1_700_000_000_000;
const PAIR: Pair = Pair { base: AssetId(2), quote: AssetId(1) };

/// A platform that quotes: a writer, its journal, and the clock of its machine.
struct Desk {
    writer: Writer,
    rows: Rows,
    clock_ms: u64,
    count: u64,
}

impl Desk {
    fn open() -> Desk {
        let mut writer = Writer::new(config("a"), Box::new(CoreRules));
        writer.take_lead(Loaded::empty(), START);
        let mut desk = Desk { writer, rows: Rows::default(), clock_ms: START, count: 0 };
        desk.turn();
        for (id, code) in [(AssetId(1), "EUR"), (AssetId(2), "XAU")] {
            let (code, kind) = (code.to_owned(), AssetKind::Fiat);
            desk.done(Command::DefineAsset(Asset { id, code, decimals: 2, kind, chain: None }));
        }
        desk.done(Command::OpenCustomer(customer(1)));
        for (reference, asset, beneficiary) in
            [("a", AssetId(1), Beneficiary::Customer(customer(1))), ("b", AssetId(2), Beneficiary::INVENTORY)]
        {
            let (reference, amount) = (reference.to_owned(), Amount::new(1_000_000));
            desk.done(Command::BookBankReceipt { reference, asset, amount, beneficiary });
        }
        desk
    }

    fn turn(&mut self) {
        self.writer.decide_waiting(self.clock_ms);
        while let Some(sealed) = self.writer.next_row() {
            self.writer.appended(self.rows.append_with(&sealed.row, Fault::None));
            self.writer.decide_waiting(self.clock_ms);
        }
    }

    /// Asks under an id of a time of its own.
    fn ask_at(&mut self, id_ms: u64, command: Command) -> Answer {
        self.count += 1;
        let mut id = [0; 16];
        id[..6].copy_from_slice(&id_ms.to_be_bytes()[2..]);
        (id[6], id[8], id[15]) = (0x70, 0x80, self.count as u8);
        let origin = Origin::Request { id: CommandId(id), request: Digest([8; 32]) };
        self.writer.submit(Ticket(self.count), Ask::Request(Request { origin, command })).unwrap();
        self.turn();
        let replies = self.writer.take_replies();
        assert_eq!(replies.iter().map(|reply| reply.ticket.0).collect::<Vec<_>>(), [self.count], "one is answered");
        replies[0].answer.clone()
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.ask_at(self.clock_ms, command)
    }

    fn done(&mut self, command: Command) -> Outcome {
        match self.ask(command) {
            Answer::Done(outcome) => outcome,
            other => panic!("it is good, and was answered {other:?}"),
        }
    }

    fn code(&mut self, command: Command) -> &'static str {
        self.ask(command).code().expect("it is refused")
    }

    fn price(&self) -> Command {
        let time = self.rows.all().last().map_or(START, |row| row.time.0);
        Command::SetPrice(Price {
            pair: PAIR,
            quote_units: Amount::new(1),
            base_units: Amount::new(1),
            as_of: LedgerTime(time),
            age_max_ms: 600_000,
            spread_bp: 0,
            quote_ms: 600_000,
        })
    }

    fn quote(&mut self) -> QuoteId {
        let price = self.price();
        self.done(price);
        match self.done(buy()) {
            Outcome::Quote(quote) => quote.id,
            other => panic!("a quote was expected, not {other:?}"),
        }
    }

    fn jumps(&self) -> Vec<TimeJumped> {
        let batches = self.rows.all().into_iter().map(|row| {
            let (seq, previous) = (florin_core::id::Seq(row.seq.0 - 1), row.previous);
            row.open(seq, previous).unwrap()
        });
        let events = batches.flat_map(|batch| batch.entries).flat_map(|entry| entry.events);
        events.filter_map(|event| if let Event::TimeJumped(jump) = event { Some(jump) } else { None }).collect()
    }

    fn see_clock(&mut self) {
        let clock = LedgerTime(self.clock_ms);
        self.writer.submit(Ticket(900), Ask::internal(Command::SeeClock { clock })).unwrap();
        self.turn();
        self.writer.take_replies();
    }
}

fn buy() -> Command {
    let base = Some(Amount::new(10));
    Command::RequestQuote { customer: customer(1), pair: PAIR, side: Side::Buy, base, quote: None }
}

fn accept(quote: QuoteId) -> Command {
    Command::AcceptQuote { customer: customer(1), quote }
}

#[test]
fn after_a_stop_no_dead_quote_is_accepted_before_anybody_has_looked_at_the_clock() {
    let mut desk = Desk::open();
    let quote = desk.quote();
    // Eleven minutes: the quote has expired, and by ledger time, a minute on, it would still stand.
    desk.clock_ms += 660_000;
    assert_eq!(desk.code(accept(quote)), "time_unconfirmed");
    assert_eq!(desk.jumps(), [TimeJumped { from: LedgerTime(START), to: LedgerTime(desk.clock_ms) }]);
    assert_eq!(desk.code(buy()), "time_unconfirmed");
    let price = desk.price();
    assert_eq!(desk.code(price.clone()), "time_unconfirmed");
    desk.clock_ms += 1;
    assert_eq!(desk.code(price), "id_ahead", "after so long an honest caller's id is ahead, too");
    assert_eq!(desk.jumps().len(), 1, "it is said once");
    assert_eq!(desk.done(Command::ConfirmTime), Outcome::Done(true), "the operator's word is judged by the clock");
    assert_eq!(desk.code(accept(quote)), "quote_expired");
    let fresh = desk.quote();
    desk.done(accept(fresh));
}

#[test]
fn a_clock_that_went_back_stops_quotes_until_it_has_caught_up() {
    let mut desk = Desk::open();
    let quote = desk.quote();
    desk.clock_ms = START - TIME_JUMP_MAX_MS;
    let kept = desk.quote();
    assert_ne!(quote, kept, "a minute is no jump");
    desk.clock_ms -= 1;
    for command in [accept(kept), buy(), desk.price()] {
        assert_eq!(desk.code(command), "time_unconfirmed");
    }
    assert_eq!(desk.code(Command::ConfirmTime), "time_behind");
    desk.clock_ms = START - 1;
    desk.see_clock();
    assert_eq!(desk.code(accept(kept)), "time_unconfirmed", "it is not there yet");
    desk.clock_ms = START;
    desk.see_clock();
    desk.done(accept(kept));
    assert_eq!(desk.jumps().len(), 1);
    assert!(desk.rows.all().iter().all(|row| row.time == LedgerTime(START)), "ledger time never went back");
}

#[test]
fn ids_are_ahead_ten_minutes_after_ledger_time_and_no_sooner() {
    let mut desk = Desk::open();
    desk.clock_ms += TIME_JUMP_MAX_MS + 1;
    let limit = START + TIME_JUMP_MAX_MS + ID_AHEAD_MS;
    let open = |number| Command::OpenCustomer(CustomerId([number; 16]));
    assert!(matches!(desk.ask_at(limit, open(1)), Answer::Done(_)));
    assert_eq!(desk.ask_at(limit + 1, open(2)).code(), Some("id_ahead"));
}

//! The encoding: it round-trips, it is strict, and a second encoder that knows only the schema agrees with it.

use crate::samples::Rng;
use crate::schema::Schema;
use florin_core::custody::Intent;
use florin_core::event::Event;
use florin_core::journal::{Batch, SnapshotChunk, SnapshotHeader};
use florin_core::wire::{Message, Reader, WireError};

/// Every event's tag.
fn tags(schema: &Schema) -> Vec<u64> {
    schema.messages["Event"].iter().map(|field| field.tag).collect()
}

#[test]
fn whatever_the_schema_allows_is_read_and_written_back_byte_for_byte() {
    let schema = Schema::read(&florin_core::journal::schema());
    for seed in 0..40 {
        let mut rng = Rng(seed);
        for tag in tags(&schema) {
            let bytes = schema.sample("Event", Some(tag), &mut rng);
            let event =
                Event::decode(&bytes).unwrap_or_else(|error| panic!("seed {seed}, event {tag}: {error}: {bytes:x?}"));
            assert_eq!(event.encode(), bytes, "seed {seed}, event {tag}");
        }
        round_trip::<Batch>(&schema, "Batch", seed);
        round_trip::<SnapshotChunk>(&schema, "SnapshotChunk", seed);
        round_trip::<SnapshotHeader>(&schema, "SnapshotHeader", seed);
        round_trip::<Intent>(&schema, "Intent", seed);
    }
}

fn round_trip<M: Message>(schema: &Schema, name: &str, seed: u64) {
    let bytes = schema.sample(name, None, &mut Rng(seed));
    let message = M::decode(&bytes).unwrap_or_else(|error| panic!("seed {seed}, {name}: {error}"));
    assert_eq!(message.encode(), bytes, "seed {seed}, {name}");
}

/// Bytes mean one message or none: what is read writes back exactly those bytes.
fn check_strict(bytes: &[u8], what: &str) -> bool {
    match Event::decode(bytes) {
        Ok(event) => {
            assert_eq!(event.encode(), bytes, "{what}: two encodings of {event:?}");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn bytes_that_are_not_the_one_encoding_are_refused() {
    let schema = Schema::read(&florin_core::journal::schema());
    let (mut read, mut refused) = (0, 0);
    for seed in 0..6 {
        let mut rng = Rng(1_000 + seed);
        for tag in tags(&schema) {
            let bytes = schema.sample("Event", Some(tag), &mut rng);
            for length in 0..bytes.len() {
                assert!(
                    !check_strict(&bytes[..length], "cut"),
                    "seed {seed}, event {tag}: {length} bytes of it were read"
                );
            }
            for _ in 0..8 {
                let mut longer = bytes.clone();
                let extra = rng.below(4) as usize + 1;
                longer.extend(rng.bytes(extra));
                assert!(!check_strict(&longer, "extended"), "seed {seed}, event {tag}: more was read than is there");
            }
            for _ in 0..200 {
                let changed = mutate(&bytes, &mut rng);
                let what = format!("seed {seed}, event {tag}");
                *if check_strict(&changed, &what) { &mut read } else { &mut refused } += 1;
            }
        }
    }
    assert!(read > 1_000 && refused > 1_000, "both happened: {read} read, {refused} refused");
}

fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = rng.below(bytes.len() as u64) as usize;
    match rng.below(5) {
        0 => changed[at] ^= 1 << rng.below(8),
        1 => changed[at] = rng.next() as u8,
        2 => changed.insert(at, [0, 0x80, 0xff, rng.next() as u8][rng.below(4) as usize]),
        3 => drop(changed.remove(at)),
        _ => {
            let from = rng.below(bytes.len() as u64) as usize;
            let piece = bytes[from.min(at)..from.max(at)].to_vec();
            changed.splice(at..at, piece);
        }
    }
    changed
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng(77);
    for _ in 0..20_000 {
        let length = rng.below(60) as usize;
        let bytes = rng.bytes(length);
        check_strict(&bytes, "seed 77");
    }
}

#[test]
fn each_kind_of_disorder_has_its_error() {
    let decode = |bytes: &[u8]| Event::decode(bytes).expect_err("it is disorderly");
    let unexpected = |message, expected, found| WireError::UnexpectedField { message, expected, found };
    // Ticked { until: 5 } is 12 02 08 05.
    assert!(Event::decode(&[0x12, 0x02, 0x08, 0x05]).is_ok());
    assert_eq!(decode(&[]), WireError::UnknownVariant { message: "Event", value: 0 });
    assert_eq!(decode(&[0x12, 0x02, 0x08]), WireError::Truncated);
    assert_eq!(decode(&[0x12, 0x02, 0x08, 0x85]), WireError::Truncated);
    assert_eq!(decode(&[0x12, 0x03, 0x08, 0x85, 0x00]), WireError::BadNumber);
    assert_eq!(decode(&[0x12, 0x82, 0x00, 0x08, 0x05]), WireError::BadNumber);
    assert_eq!(decode(&[0x12, 0x00]), unexpected("Ticked", 1, 0));
    assert_eq!(decode(&[0x12, 0x02, 0x10, 0x05]), unexpected("Ticked", 1, 0x10));
    assert_eq!(decode(&[0x12, 0x04, 0x08, 0x05, 0x08, 0x05]), unexpected("Ticked", 0, 0x08));
    assert_eq!(decode(&[0x12, 0x02, 0x08, 0x05, 0x12]), unexpected("Event", 0, 0x12));
    assert_eq!(decode(&[0x10, 0x05]), unexpected("Event", 2, 0x10), "a number where a message belongs");
    assert_eq!(decode(&[0xfa, 0x3f, 0x00]), WireError::UnknownVariant { message: "Event", value: 1_023 });
    // Halted { action: 9 }: an action of a later build.
    assert_eq!(
        decode(&[0x62, 0x04, 0x10, 0x09, 0x18, 0x01]),
        WireError::UnknownVariant { message: "HaltAction", value: 9 }
    );
    // BankReceiptBooked with bytes that are no text.
    assert_eq!(decode(&[0xca, 0x01, 0x03, 0x0a, 0x01, 0xff]), WireError::NotCanonical { message: "string" });
    // HoldPosted { amount: 0x0005 }: zero in front.
    assert_eq!(
        decode(&[0xba, 0x01, 0x06, 0x08, 0x01, 0x12, 0x02, 0x00, 0x05]),
        WireError::NotCanonical { message: "amount" }
    );
}

#[test]
fn numbers_are_read_in_their_shortest_form_only() {
    for (number, length) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX >> 1, 9), (u64::MAX, 10)] {
        let mut bytes = Vec::new();
        florin_core::wire::write_varint(number, &mut bytes);
        assert_eq!(bytes.len(), length);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.varint(), Ok(number));
        assert!(reader.is_empty());
        *bytes.last_mut().expect("it has bytes") |= 0x80;
        bytes.push(0);
        assert_eq!(Reader::new(&bytes).varint(), Err(WireError::BadNumber), "{number} with a zero behind");
    }
    assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(WireError::BadNumber));
    let wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert_eq!(Reader::new(&wide).varint(), Err(WireError::BadNumber), "65 bits");
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 1];
    assert_eq!(Reader::new(&huge).bytes(), Err(WireError::Truncated), "a length beyond the end allocates nothing");
}

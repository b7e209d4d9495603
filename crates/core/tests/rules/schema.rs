//! The published schema, and a second encoder that knows nothing but its text: what it writes must be what the core reads.

use crate::samples::Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn published() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/journal.proto")
}

#[test]
fn published_schema_is_the_one_in_use() {
    let text = florin_core::journal::schema();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(published(), &text).expect("the schema can be written");
    }
    let found = std::fs::read_to_string(published()).expect("docs/journal.proto is there");
    assert!(found == text, "docs/journal.proto is out of date: UPDATE_SCHEMA=1 cargo test -p florin-core schema");
}

#[test]
fn schema_has_no_repeated_numbers_whose_encoding_readers_would_guess() {
    let schema = Schema::read(&florin_core::journal::schema());
    for (message, fields) in &schema.messages {
        for field in fields {
            let is_number =
                matches!(&field.kind[..], "uint32" | "uint64" | "bool") || schema.enums.contains_key(&field.kind);
            assert!(
                field.label != Label::Repeated || !is_number,
                "{message}.{} would have to say packed or not",
                field.name
            );
        }
    }
}

#[test]
fn names_and_numbers_are_unique_and_ascend() {
    let schema = Schema::read(&florin_core::journal::schema());
    for (message, fields) in &schema.messages {
        assert!(fields.is_sorted_by(|one, next| one.tag < next.tag), "{message}");
        assert!(fields.iter().all(|field| !(19_000..20_000).contains(&field.tag)), "{message} uses a reserved number");
        let names: std::collections::BTreeSet<_> = fields.iter().map(|field| &field.name).collect();
        assert_eq!(names.len(), fields.len(), "{message}");
        for field in fields {
            let known = matches!(&field.kind[..], "uint32" | "uint64" | "bool" | "string" | "bytes")
                || schema.enums.contains_key(&field.kind)
                || schema.messages.contains_key(&field.kind);
            assert!(known, "{message}.{}: {}", field.name, field.kind);
        }
    }
}

/// How often a field stands in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    Once,
    Optional,
    Repeated,
    /// One member of the message's only oneof.
    OneOf,
}

/// A field as the schema's text declares it.
#[derive(Debug)]
pub struct Field {
    pub label: Label,
    pub kind: String,
    pub name: String,
    pub tag: u64,
    note: String,
}

/// The schema, read from its text.
#[derive(Debug, Default)]
pub struct Schema {
    pub messages: BTreeMap<String, Vec<Field>>,
    pub enums: BTreeMap<String, Vec<u64>>,
}

impl Schema {
    pub fn read(text: &str) -> Schema {
        let mut schema = Schema::default();
        let (mut name, mut in_oneof, mut note) = (String::new(), false, String::new());
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
            match words[..] {
                ["//", "Encoding:", ..] => {
                    note = line.trim_start_matches("// Encoding: ").trim_end_matches('.').to_owned()
                }
                [] | ["//", ..] | ["syntax", ..] | ["package", ..] => {}
                ["message", message, "{"] => {
                    name = message.to_owned();
                    schema.messages.insert(name.clone(), Vec::new());
                }
                ["message", message, "{", "}"] => {
                    schema.messages.insert(message.to_owned(), Vec::new());
                }
                ["enum", choice, "{"] => {
                    name = choice.to_owned();
                    schema.enums.insert(name.clone(), Vec::new());
                }
                ["oneof", "one", "{"] => in_oneof = true,
                ["}"] => in_oneof = false,
                [_, "=", number] => {
                    let numbers = schema.enums.get_mut(&name).expect("a value stands in an enum");
                    numbers.extend(number.parse::<u64>().ok().filter(|&number| number > 0));
                }
                [.., kind, field, "=", tag] => {
                    let label = match words[0] {
                        "optional" => Label::Optional,
                        "repeated" => Label::Repeated,
                        _ if in_oneof => Label::OneOf,
                        _ => Label::Once,
                    };
                    let tag = tag.parse().expect("a tag is a number");
                    let fields = schema.messages.get_mut(&name).expect("a field stands in a message");
                    let (kind, field) = (kind.to_owned(), field.to_owned());
                    fields.push(Field { label, kind, name: field, tag, note: std::mem::take(&mut note) });
                }
                _ => panic!("not a line of this schema: {line}"),
            }
        }
        schema
    }

    /// Random bytes of a message, written as the schema's preface says; `only` chooses the member of the outermost oneof.
    pub fn sample(&self, message: &str, only: Option<u64>, rng: &mut Rng) -> Vec<u8> {
        let fields = &self.messages[message];
        let members: Vec<&Field> = fields.iter().filter(|field| field.label == Label::OneOf).collect();
        let member = members.get(rng.below(members.len().max(1) as u64) as usize).map(|field| field.tag);
        let member = only.or(member);
        let mut out = Vec::new();
        for field in fields {
            let count = match field.label {
                Label::Once => 1,
                Label::Optional => rng.below(2),
                Label::Repeated => rng.below(4),
                Label::OneOf => u64::from(Some(field.tag) == member),
            };
            for _ in 0..count {
                self.sample_field(field, rng, &mut out);
            }
        }
        out
    }

    fn sample_field(&self, field: &Field, rng: &mut Rng, out: &mut Vec<u8>) {
        let number = match &field.kind[..] {
            "bool" => Some(rng.below(2)),
            "uint32" => {
                let most = field
                    .note
                    .strip_prefix("at most ")
                    .map_or(u64::from(u32::MAX), |most| most.parse().expect("a number"));
                Some(rng.sized() % (most + 1))
            }
            "uint64" => Some(rng.sized()),
            kind => self.enums.get(kind).map(|numbers| numbers[rng.below(numbers.len() as u64) as usize]),
        };
        if let Some(number) = number {
            varint(field.tag << 3, out);
            return varint(number, out);
        }
        let body = match (&field.kind[..], field.note.strip_suffix(" bytes").and_then(|length| length.parse().ok())) {
            ("string", _) => rng.text().into_bytes(),
            ("bytes", Some(length)) => rng.bytes(length),
            ("bytes", None) if field.note.starts_with("a whole number") => {
                let length = rng.below(17) as usize;
                let mut bytes = rng.bytes(length);
                bytes.iter_mut().take(1).for_each(|first| *first |= 1);
                bytes
            }
            ("bytes", None) => {
                assert_eq!(field.note, "", "an encoding that this test does not know");
                let length = if rng.below(20) == 0 { 300 } else { rng.below(40) };
                rng.bytes(length as usize)
            }
            (message, _) => self.sample(message, None, rng),
        };
        varint(field.tag << 3 | 2, out);
        varint(body.len() as u64, out);
        out.extend_from_slice(&body);
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        out.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return;
        }
    }
}

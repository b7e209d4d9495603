//! Events as JSON, made from the journal's own published schema: no event and no field can be left out, and none is named twice. It never changes what it reads.
//!
//! Amounts are whole numbers of the asset's smallest unit, as text; ids and hashes are written as everywhere else.

use florin_core::amount::Amount;
use florin_core::event::Event;
use florin_core::hex;
use florin_core::wire::{Message, Reader, Value as WireValue, WireError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// How the schema's comments say that bytes are an amount.
const AMOUNT_COMMENT: &str = "// Encoding: a whole number";
/// How the schema's comments say that bytes are an id.
const ID_COMMENT: &str = "// Encoding: 16 bytes";
/// Fields that hold a hash which is shown with its last byte first, as Bitcoin's tools do.
const REVERSED: &[&str] = &["genesis", "hash", "previous", "txid"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Amount,
    Id,
    Reversed,
    Plain,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    kind: String,
    repeated: bool,
    form: Form,
}

#[derive(Debug, Clone)]
enum Definition {
    Message(BTreeMap<u64, Field>),
    Choice(BTreeMap<u64, String>),
}

/// The journal's schema, read from its published text.
#[derive(Debug)]
pub struct EventSchema {
    definitions: BTreeMap<String, Definition>,
}

/// The schema of this build.
pub fn schema() -> &'static EventSchema {
    static SCHEMA: OnceLock<EventSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| EventSchema::parse(&florin_core::journal::schema()))
}

impl EventSchema {
    fn parse(text: &str) -> EventSchema {
        let mut definitions = BTreeMap::new();
        let mut open: Option<(String, Definition)> = None;
        let mut comment = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with("//") {
                comment = line;
                continue;
            }
            if let Some(name) = line.strip_prefix("message ").and_then(|rest| rest.strip_suffix(" {")) {
                open = Some((name.to_owned(), Definition::Message(BTreeMap::new())));
            } else if let Some(name) = line.strip_prefix("enum ").and_then(|rest| rest.strip_suffix(" {")) {
                open = Some((name.to_owned(), Definition::Choice(BTreeMap::new())));
            } else if let (Some((name, definition)), Some((left, number))) = (&mut open, line.split_once(" = ")) {
                let number = number.trim_end_matches(';').parse().unwrap_or(0);
                match definition {
                    Definition::Message(fields) => drop(fields.insert(number, field(left, comment))),
                    Definition::Choice(words) => drop(words.insert(number, word(name, left))),
                }
            }
            if line == "}"
                && let Some((name, definition)) = open.take_if(|(name, _)| !definitions.contains_key(name))
            {
                definitions.insert(name, definition);
            }
            comment = "";
        }
        EventSchema { definitions }
    }

    /// An event's kind and content.
    ///
    /// # Errors
    /// [`WireError`] where the schema's text and the encoding do not agree, which a test rules out.
    pub fn event(&self, event: &Event) -> Result<(String, Value), WireError> {
        let value = self.message("Event", &event.encode())?;
        let kind = value.as_object().and_then(|fields| fields.iter().next());
        let (kind, content) = kind.ok_or(WireError::Truncated)?;
        Ok((kind.clone(), content.clone()))
    }

    fn message(&self, name: &str, bytes: &[u8]) -> Result<Value, WireError> {
        let unknown = || WireError::NotCanonical { message: "schema" };
        let Some(Definition::Message(fields)) = self.definitions.get(name) else { return Err(unknown()) };
        let mut shown = Map::new();
        for field in fields.values().filter(|field| field.repeated) {
            shown.insert(field.name.clone(), json!([]));
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let key = reader.varint()?;
            let field = fields.get(&(key >> 3)).ok_or_else(unknown)?;
            let value =
                if key & 7 == 0 { self.number(field, reader.varint()?)? } else { self.bytes(field, reader.bytes()?)? };
            match shown.get_mut(&field.name).and_then(Value::as_array_mut) {
                Some(list) if field.repeated => list.push(value),
                _ => drop(shown.insert(field.name.clone(), value)),
            }
        }
        Ok(Value::Object(shown))
    }

    fn number(&self, field: &Field, number: u64) -> Result<Value, WireError> {
        match self.definitions.get(&field.kind) {
            Some(Definition::Choice(words)) => match words.get(&number) {
                Some(word) => Ok(json!(word)),
                None => Err(WireError::UnknownVariant { message: "choice", value: number }),
            },
            _ if field.kind == "bool" => Ok(json!(number == 1)),
            _ => Ok(json!(number)),
        }
    }

    fn bytes(&self, field: &Field, bytes: &[u8]) -> Result<Value, WireError> {
        match field.kind.as_str() {
            "string" => Ok(json!(String::from_utf8_lossy(bytes))),
            "bytes" => Ok(json!(match field.form {
                Form::Amount => amount(bytes)?.units().to_string(),
                Form::Id => id(bytes),
                Form::Reversed => hex::encode(&bytes.iter().rev().copied().collect::<Vec<u8>>()),
                Form::Plain => hex::encode(bytes),
            })),
            name => self.message(name, bytes),
        }
    }
}

fn amount(bytes: &[u8]) -> Result<Amount, WireError> {
    let mut framed = vec![u8::try_from(bytes.len()).map_err(|_| WireError::BadNumber)?];
    framed.extend_from_slice(bytes);
    Amount::read(&mut Reader::new(&framed))
}

fn id(bytes: &[u8]) -> String {
    match <[u8; 16]>::try_from(bytes) {
        Ok(id) => florin_core::id::CommandId(id).to_string(),
        Err(_) => hex::encode(bytes),
    }
}

/// `repeated Type name`, `optional Type name` or `Type name`, below its comment's last line.
fn field(text: &str, comment: &str) -> Field {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let name = words.pop().unwrap_or_default().to_owned();
    let kind = words.pop().unwrap_or_default().to_owned();
    let form = if comment.starts_with(AMOUNT_COMMENT) {
        Form::Amount
    } else if comment.starts_with(ID_COMMENT) {
        Form::Id
    } else if REVERSED.contains(&name.as_str()) {
        Form::Reversed
    } else {
        Form::Plain
    };
    Field { name, kind, repeated: words.first() == Some(&"repeated"), form }
}

/// `DEPOSIT_STATUS_SEEN` of `DepositStatus` is `seen`.
fn word(choice: &str, text: &str) -> String {
    let prefix = florin_core::wire::snake_case(choice) + "_";
    let text = text.to_lowercase();
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::custody::{Deposit, DepositStatus, KeyPath, OutPoint};
    use florin_core::event::{CoinChanged, DepositMoved, HoldReleased, QuoteEnded};
    use florin_core::id::{ChainId, CustomerId, HoldId, LedgerTime, QuoteId, TxId, WalletId};

    fn form_of(message: &str, name: &str) -> Option<Form> {
        let Definition::Message(fields) = schema().definitions.get(message)? else { return None };
        fields.values().find(|field| field.name == name).map(|field| field.form)
    }

    #[test]
    fn amounts_ids_and_hashes_are_known_by_what_the_schema_says() {
        for (message, field, form) in [
            ("Transfer", "amount", Form::Amount),
            ("Quote", "quote", Form::Amount),
            ("QuoteEnded", "quote", Form::Id),
            ("Beneficiary", "customer", Form::Id),
            ("Outcome", "withdrawal", Form::Id),
            ("BlockRef", "hash", Form::Reversed),
            ("OutPoint", "txid", Form::Reversed),
            ("Address", "script", Form::Plain),
            ("Approval", "key", Form::Plain),
        ] {
            assert_eq!(form_of(message, field), Some(form), "{message}.{field}");
        }
    }

    #[test]
    fn events_are_shown_with_all_they_say() {
        let outpoint = OutPoint { chain: ChainId(1), txid: TxId([1; 32]), vout: 2 };
        let customer = florin_core::custody::Beneficiary::Customer(CustomerId([7; 16]));
        let event = Event::DepositSeen(Deposit {
            outpoint,
            beneficiary: customer,
            amount: Amount::new(150_000),
            status: DepositStatus::Seen,
            at: None,
            hold: None,
            seen: LedgerTime(5),
            missing_since: None,
            debited: Amount::ZERO,
            coinbase: false,
            path: KeyPath { wallet: WalletId(1), branch: florin_core::custody::Branch::External, index: 0 },
            due: None,
        });
        let (kind, content) = schema().event(&event).expect("it is shown");
        assert_eq!(kind, "deposit_seen");
        assert_eq!(
            content,
            json!({
                "outpoint": { "chain": 1, "txid": "01".repeat(32), "vout": 2 },
                "beneficiary": { "customer": "07070707-0707-0707-0707-070707070707" },
                "amount": "150000", "status": "seen", "seen": 5, "debited": "0", "coinbase": false,
                "path": { "wallet": 1, "branch": "external", "index": 0 },
            })
        );
    }

    #[test]
    fn kinds_that_share_a_record_keep_their_own_name() {
        let outpoint = OutPoint { chain: ChainId(1), txid: TxId([1; 32]), vout: 0 };
        let moved = DepositMoved {
            outpoint,
            status: DepositStatus::Credited,
            at: None,
            hold: Some(HoldId(3)),
            missing_since: None,
            debited: Amount::MAX,
            due: None,
        };
        for (event, kind) in [
            (Event::CoinUnspent(CoinChanged { outpoint }), "coin_unspent"),
            (Event::CoinRemoved(CoinChanged { outpoint }), "coin_removed"),
            (Event::HoldReleased(HoldReleased { hold: HoldId(1) }), "hold_released"),
            (Event::QuoteEnded(QuoteEnded { quote: QuoteId([1; 16]), accepted: true }), "quote_ended"),
            (Event::DepositMoved(moved), "deposit_moved"),
        ] {
            assert_eq!(schema().event(&event).expect("it is shown").0, kind);
        }
    }
}

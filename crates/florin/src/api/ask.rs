//! What comes in with a request, read strictly: path, query, idempotency key, body. Whatever can't be read becomes a problem, never a panic.

use crate::api::Api;
use crate::api::problem::Problem;
use axum::body::to_bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use florin_core::amount::Amount;
use florin_core::command::Origin;
use florin_core::custody::OutPoint;
use florin_core::id::{ChainId, CommandId, Digest, Seq, TxId};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The header that names a command, so that it is done once however often it is sent.
pub const KEY_HEADER: &str = "idempotency-key";

/// The header with a row's number: on an answer the row that it rests on, on a request the row that must be seen.
pub const SEQ_HEADER: &str = "florin-seq";

/// The largest body. The longest request of ours, a wallet's two descriptors, has a kilobyte.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A new command id: a UUIDv7 of now.
pub fn new_command_id() -> CommandId {
    CommandId(*uuid::Uuid::now_v7().as_bytes())
}

/// The command id in `Idempotency-Key`.
pub(crate) fn command_id(headers: &HeaderMap) -> Result<Option<CommandId>, Problem> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(None) };
    let id = value.to_str().ok().and_then(CommandId::parse).filter(|id| id.is_v7());
    id.map(Some).ok_or_else(|| Problem::new("idempotency_key_invalid"))
}

/// The row in `Florin-Seq`; the beginning where there is none.
pub(crate) fn row_to_see(headers: &HeaderMap) -> Result<Seq, Problem> {
    let Some(value) = headers.get(SEQ_HEADER) else { return Ok(Seq::START) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).map(Seq).ok_or_else(|| Problem::new("seq_invalid"))
}

/// SHA-256 of a request: a domain, method, path and body, with their lengths.
pub fn request_hash(method: &str, path: &str, body: &[u8]) -> Digest {
    let mut engine = sha256::Hash::engine();
    engine.input(b"florin/request/1");
    for part in [method.as_bytes(), path.as_bytes(), body] {
        engine.input(&(part.len() as u64).to_be_bytes());
        engine.input(part);
    }
    Digest(sha256::Hash::from_engine(engine).to_byte_array())
}

/// A command's request: who asks, and what the body says.
#[derive(Debug)]
pub struct Order<T> {
    /// The command's id.
    pub id: CommandId,
    /// The id with the request's hash.
    pub origin: Origin,
    /// The body.
    pub body: T,
}

impl<T: DeserializeOwned + Send> FromRequest<Arc<Api>> for Order<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Api>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        // A key of ours would be a new one for each repetition, and whoever lost the answer would change things twice.
        let id = command_id(&parts.headers)?.ok_or_else(|| Problem::new("idempotency_key_missing"))?;
        let bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| Problem::new("too_large"))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        if !bytes.is_empty() && !is_json(&parts.headers) {
            return Err(Problem::new("content_type_unsupported"));
        }
        let body: Result<Object<T>, _> = serde_json::from_slice(text);
        let Object(body) = body.map_err(|fault| Problem::new("body_invalid").detail(said(&fault.to_string())))?;
        let request = request_hash(parts.method.as_str(), parts.uri.path(), &bytes);
        Ok(Order { id, origin: Origin::Request { id, request }, body })
    }
}

/// A JSON object with named fields. Values in the order of the fields, as an array has them, are none: a field more in a later build would give
/// each of them another meaning.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads the fields of an [`Object`].
struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

/// What the words of a fault mean to somebody who does not know the language that this program is written in.
const WORDS: [(&str, &str); 9] = [
    ("expected u32", "expected a whole number from 0 to 4294967295"),
    ("expected u64", "expected a whole number from 0 to 18446744073709551615"),
    ("expected usize", "expected a whole number from 0 on"),
    ("expected a sequence", "expected an array"),
    ("invalid type: sequence", "invalid type: array"),
    ("invalid type: map", "invalid type: object"),
    ("number too large to fit in target type", "the number is too large"),
    ("invalid digit found in string", "a whole number has digits and nothing else"),
    ("cannot parse integer from empty string", "a whole number has a digit at least"),
];

/// What is wrong with what was sent, without line breaks and not longer than a line: it may quote what was sent.
fn said(fault: &str) -> String {
    let text = WORDS.iter().fold(fault.to_owned(), |text, (word, meaning)| text.replace(word, meaning));
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether a method asks for a change.
pub(crate) fn is_command(method: &Method) -> bool {
    method == Method::POST
}

/// Parts of the path.
#[derive(Debug)]
pub struct Place<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let found: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, api).await;
        found.map(|Path(place)| Place(place)).map_err(|_| Problem::new("path_invalid"))
    }
}

/// How the library begins what it says of a query that can't be read.
const QUERY_FAULT: &str = "Failed to deserialize query string: ";

/// The query's parameters.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let found: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, api).await;
        found.map(|Query(params)| Params(params)).map_err(|fault| {
            // What the library says ends with the parameter's name and what is wrong with it.
            let text = fault.body_text();
            Problem::new("query_invalid").detail(said(text.rsplit_once(QUERY_FAULT).map_or(&text, |(_, fault)| fault)))
        })
    }
}

/// A body without content.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// An amount as it was sent. Only text is an amount: a JSON number has been through somebody's float, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountText(Option<String>);

impl AmountText {
    /// Reads the amount with the decimals of its asset.
    ///
    /// # Errors
    /// `amount_invalid`, `amount_precision`, `amount_too_large`.
    pub fn parse(&self, decimals: u8) -> Result<Amount, Problem> {
        let text = self.0.as_deref().unwrap_or_default();
        Ok(Amount::parse(text, decimals)?)
    }

    /// The text; empty where it was none.
    pub fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for AmountText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(AmountText(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        }))
    }
}

impl utoipa::PartialSchema for AmountText {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some(r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"))
            .description(Some("An amount in the unit people name, with at most the asset's decimals."))
            .into()
    }
}

impl utoipa::ToSchema for AmountText {}

/// The word's variant, by its name in lower snake case.
pub(crate) fn choice<T: Copy>(what: &str, word: &str, all: &[T], name: fn(T) -> String) -> Result<T, Problem> {
    let found = all.iter().copied().find(|variant| name(*variant) == word);
    found.ok_or_else(|| {
        let words: Vec<String> = all.iter().map(|variant| name(*variant)).collect();
        Problem::new("choice_invalid").detail(format!("'{what}' is one of {}", words.join(", ")))
    })
}

/// `N` bytes as hexadecimal.
pub(crate) fn hex<const N: usize>(what: &str, text: &str) -> Result<[u8; N], Problem> {
    let bytes = florin_core::hex::decode(text).and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    bytes.ok_or_else(|| Problem::new("hex_invalid").detail(format!("'{what}' has {} hexadecimal digits", N * 2)))
}

/// An output by its name, `txid:vout`.
pub(crate) fn outpoint(chain: ChainId, text: &str) -> Option<OutPoint> {
    let (txid, vout) = text.split_once(':')?;
    let mut txid: [u8; 32] = hex("txid", txid).ok()?;
    txid.reverse();
    let is_number = vout.bytes().all(|byte| byte.is_ascii_digit());
    Some(OutPoint { chain, txid: TxId(txid), vout: vout.parse().ok().filter(|_| is_number)? })
}

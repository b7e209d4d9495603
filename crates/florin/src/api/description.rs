//! What the description of the interface says of every operation alike: the headers that all of them take and give, and how problems come. It is written here once,
//! so that no route can forget it; what a route itself takes and gives stands with the route.

use crate::api::ask::BODY_BYTES_MAX;
use crate::api::problem::MEDIA_TYPE;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr, Required, Response};

/// The request's name, as people write headers.
const KEY: &str = "Idempotency-Key";
/// The row's number, as people write headers.
const SEQ: &str = "Florin-Seq";
/// What an answer is where its kind names no content of its own.
const PLAIN: &str = "application/json";

/// Completes what the routes say.
pub(crate) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let reads = [&mut item.get, &mut item.head];
        reads.into_iter().flatten().for_each(|operation| describe(operation, false));
        let changes = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        changes.into_iter().flatten().for_each(|operation| describe(operation, true));
    }
}

fn describe(operation: &mut Operation, is_change: bool) {
    let parameters = operation.parameters.get_or_insert_default();
    if is_change {
        parameters.push(RefOr::T(key_asked()));
        if let Some(RefOr::T(body)) = &mut operation.request_body
            && body.description.is_none()
        {
            body.description = Some(format!("A JSON object of at most {BODY_BYTES_MAX} bytes."));
        }
    }
    parameters.push(RefOr::T(seq_asked()));
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            complete_response(status, response, is_change);
        }
    }
}

fn complete_response(status: &str, response: &mut Response, is_change: bool) {
    let is_problem = status == "default";
    if response.description.is_empty() {
        response.description = match status {
            "201" => "It is made.",
            "default" => "It was refused, or could not be done: a problem document with a stable code.",
            _ if is_change => "It is done.",
            _ => "What was asked for.",
        }
        .to_owned();
    }
    if is_problem && let Some(problem) = response.content.shift_remove(PLAIN) {
        response.content.insert(MEDIA_TYPE.to_owned(), problem);
    }
    response.headers.insert(SEQ.to_owned(), RefOr::T(seq_given()));
    if is_change {
        response.headers.insert(KEY.to_owned(), RefOr::T(key_given()));
    }
}

fn text(pattern: &str) -> Schema {
    let kind = SchemaType::Type(Type::String);
    Schema::Object(ObjectBuilder::new().schema_type(kind).pattern(Some(pattern)).build())
}

fn number() -> Schema {
    Schema::Object(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0)).build())
}

fn key_schema() -> Schema {
    text("^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
}

fn parameter(name: &str, required: Required, schema: Schema, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn key_asked() -> Parameter {
    let said = "The request's name, a UUID of version 7: sent again with it, the same request is done once and answered alike. What it makes bears it as its id.";
    parameter(KEY, Required::True, key_schema(), said)
}

fn seq_asked() -> Parameter {
    parameter(SEQ, Required::False, number(), "The journal row that has to be seen at least: an earlier answer's.")
}

fn header(schema: Schema, description: &str) -> Header {
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

fn seq_given() -> Header {
    header(
        number(),
        "The journal row that the answer rests on; absent where the request was refused before it was looked at.",
    )
}

fn key_given() -> Header {
    header(key_schema(), "The request's own, where it was looked at.")
}

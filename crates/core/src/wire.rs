//! The journal's encoding: Protocol Buffers, written in exactly one way and read strictly.
//!
//! A message is declared once, by [`message!`](crate::message), [`oneof!`](crate::oneof) or [`choice!`](crate::choice); encoder, decoder and
//! the published schema all come from that declaration. Writing is canonical: every field, in tag order, integers as
//! minimal varints. Reading refuses everything else: an unknown field, a field out of order, a missing one, a padded
//! varint. So a row has one encoding, its hash means what it says, and a reader that is too old stops instead of
//! skipping a fact (a general protobuf library skips unknown fields by design).
//!
//! This module never interprets what it carries.

use std::collections::BTreeMap;

/// Why bytes are not a canonical message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint is longer than needed, or wider than its type.
    #[error("a number is padded or too wide")]
    BadNumber,
    /// A field is absent, repeated, out of order, of another wire type, or unknown to this build.
    #[error("expected field {expected} of {message}, found key {found}")]
    UnexpectedField {
        /// The message being read.
        message: &'static str,
        /// The tag that had to come next; 0 for the end.
        expected: u32,
        /// The key (tag and wire type) that came instead; 0 for the end.
        found: u64,
    },
    /// An enumeration or oneof holds a value that this build does not know.
    #[error("{message} has no variant {value}")]
    UnknownVariant {
        /// The enumeration.
        message: &'static str,
        /// The value found.
        value: u64,
    },
    /// A value has the right shape and is still not allowed (wrong length, not canonical).
    #[error("{message}: a value is not in canonical form")]
    NotCanonical {
        /// The type being read.
        message: &'static str,
    },
}

impl WireError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            WireError::Truncated => "wire_truncated",
            WireError::BadNumber => "wire_bad_number",
            WireError::UnexpectedField { .. } => "wire_unexpected_field",
            WireError::UnknownVariant { .. } => "wire_unknown_variant",
            WireError::NotCanonical { .. } => "wire_not_canonical",
        }
    }
}

/// The two wire types in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Base-128 varint.
    Varint,
    /// Length-delimited bytes: strings, nested messages, amounts.
    Bytes,
}

impl Kind {
    const fn number(self) -> u64 {
        match self {
            Kind::Varint => 0,
            Kind::Bytes => 2,
        }
    }
}

/// What may stand as one field's value.
pub trait Value: Sized {
    /// Its wire type.
    const KIND: Kind;
    /// Appends the value, with its length where the wire type is [`Kind::Bytes`].
    fn write(&self, out: &mut Vec<u8>);
    /// Reads one value.
    ///
    /// # Errors
    /// Whatever makes the bytes not this type's one encoding.
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError>;
    /// The type's name in the schema; registers its definition on first use.
    fn schema(schema: &mut Schema) -> String;
    /// What the schema's type does not say about the encoding, such as a fixed length; empty where it says all.
    fn note() -> String {
        String::new()
    }
}

/// How a value, an optional value or a list of values stands in a message.
pub trait Field: Sized {
    /// Appends key and value, as often as there are values.
    fn put(&self, tag: u32, out: &mut Vec<u8>);
    /// Takes all that belongs to `tag` from the front of the reader.
    ///
    /// # Errors
    /// As [`Value::read`], and [`WireError::UnexpectedField`] where a required field is absent.
    fn take(tag: u32, message: &'static str, reader: &mut Reader<'_>) -> Result<Self, WireError>;
    /// The field's type as the schema writes it, with its label.
    fn schema(schema: &mut Schema) -> String;
    /// As [`Value::note`].
    fn note() -> String;
}

impl<T: Value> Field for T {
    #[inline]
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        write_varint(key(tag, T::KIND), out);
        self.write(out);
    }
    #[inline]
    fn take(tag: u32, message: &'static str, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let found = reader.peek_key()?;
        if found != key(tag, T::KIND) {
            return Err(WireError::UnexpectedField { message, expected: tag, found });
        }
        reader.varint()?;
        T::read(reader)
    }
    fn schema(schema: &mut Schema) -> String {
        T::schema(schema)
    }
    fn note() -> String {
        <T as Value>::note()
    }
}

impl<T: Value> Field for Option<T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put(tag, out);
        }
    }
    fn take(tag: u32, message: &'static str, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        if reader.peek_key()? == key(tag, T::KIND) { T::take(tag, message, reader).map(Some) } else { Ok(None) }
    }
    fn schema(schema: &mut Schema) -> String {
        format!("optional {}", T::schema(schema))
    }
    fn note() -> String {
        <T as Value>::note()
    }
}

impl<T: Value> Field for Vec<T> {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        for value in self {
            value.put(tag, out);
        }
    }
    fn take(tag: u32, message: &'static str, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut values = Vec::new();
        while reader.peek_key()? == key(tag, T::KIND) {
            values.push(T::take(tag, message, reader)?);
        }
        Ok(values)
    }
    fn schema(schema: &mut Schema) -> String {
        format!("repeated {}", T::schema(schema))
    }
    fn note() -> String {
        <T as Value>::note()
    }
}

#[inline]
const fn key(tag: u32, kind: Kind) -> u64 {
    (tag as u64) << 3 | kind.number()
}

/// Appends a minimal base-128 varint.
#[inline]
pub fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and what `body` writes.
pub fn write_delimited(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    // Most nested messages are shorter than 128 bytes: one byte is reserved for the length, and only longer ones move.
    let start = out.len();
    out.push(0);
    body(out);
    let length = (out.len() - start - 1) as u64;
    if length < 0x80 {
        out[start] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    write_varint(length, &mut prefix);
    out.splice(start..=start, prefix);
}

/// Reads canonical messages from a slice, front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }
    /// Whether all bytes are read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// The next minimal varint.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::BadNumber`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().enumerate() {
            if index == 9 && byte > 1 {
                return Err(WireError::BadNumber);
            }
            value |= u64::from(byte & 0x7f) << (7 * index as u32);
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    return Err(WireError::BadNumber);
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Truncated)
    }
    /// A length and that many bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::BadNumber`].
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::BadNumber)?;
        if length > self.rest.len() {
            return Err(WireError::Truncated);
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(bytes)
    }
    /// The key of the next field without taking it; 0 at the end.
    #[inline]
    pub fn peek_key(&self) -> Result<u64, WireError> {
        match self.rest.first() {
            None => Ok(0),
            Some(&byte) if byte < 0x80 => Ok(u64::from(byte)),
            Some(_) => Reader { rest: self.rest }.varint(),
        }
    }
    /// Refuses anything that is left.
    ///
    /// # Errors
    /// [`WireError::UnexpectedField`] with the key that is left.
    pub fn finish(&self, message: &'static str) -> Result<(), WireError> {
        match self.peek_key()? {
            0 if self.rest.is_empty() => Ok(()),
            found => Err(WireError::UnexpectedField { message, expected: 0, found }),
        }
    }
}

/// The schema gathered from declarations: name to definition, ready to print as a `.proto` file.
#[derive(Debug, Default)]
pub struct Schema {
    definitions: BTreeMap<&'static str, String>,
}

impl Schema {
    /// Registers `name` once; `define` is asked for its body, and may register what it uses.
    pub fn define(&mut self, name: &'static str, define: impl FnOnce(&mut Schema) -> String) -> String {
        if !self.definitions.contains_key(name) {
            self.definitions.insert(name, String::new());
            let body = define(self);
            self.definitions.insert(name, body);
        }
        name.to_owned()
    }
    /// The whole schema as proto3 text, below a preface of comments.
    pub fn print(&self, package: &str, preface: &str) -> String {
        let mut text = format!("{preface}\nsyntax = \"proto3\";\n\npackage {package};\n");
        for body in self.definitions.values() {
            text.push('\n');
            text.push_str(body);
        }
        text
    }
}

/// A whole message of its own, outside any other.
pub trait Message: Sized {
    /// The fields, without a length in front.
    fn encode_to(&self, out: &mut Vec<u8>);
    /// Reads one message that fills `bytes` exactly.
    ///
    /// # Errors
    /// The first thing in `bytes` that is not canonical.
    fn decode(bytes: &[u8]) -> Result<Self, WireError>;
    /// The message's bytes.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }
}

macro_rules! unsigned {
    ($($type:ty => $name:literal $note:literal),*) => {$(
        impl Value for $type {
            const KIND: Kind = Kind::Varint;
            #[inline]
            fn write(&self, out: &mut Vec<u8>) { write_varint(u64::from(*self), out); }
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
                <$type>::try_from(reader.varint()?).map_err(|_| WireError::BadNumber)
            }
            fn schema(_: &mut Schema) -> String { $name.to_owned() }
            fn note() -> String { $note.to_owned() }
        }
    )*};
}
unsigned!(u8 => "uint32" "at most 255", u16 => "uint32" "at most 65535", u32 => "uint32" "", u64 => "uint64" "");

impl Value for bool {
    const KIND: Kind = Kind::Varint;
    fn write(&self, out: &mut Vec<u8>) {
        write_varint(u64::from(*self), out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.varint()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::BadNumber),
        }
    }
    fn schema(_: &mut Schema) -> String {
        "bool".to_owned()
    }
}

impl Value for String {
    const KIND: Kind = Kind::Bytes;
    fn write(&self, out: &mut Vec<u8>) {
        write_delimited(out, |out| out.extend_from_slice(self.as_bytes()));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bytes = reader.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::NotCanonical { message: "string" })
    }
    fn schema(_: &mut Schema) -> String {
        "string".to_owned()
    }
}

/// Bytes of any length, such as a script or a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Value for Bytes {
    const KIND: Kind = Kind::Bytes;
    fn write(&self, out: &mut Vec<u8>) {
        write_delimited(out, |out| out.extend_from_slice(&self.0));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Bytes(reader.bytes()?.to_vec()))
    }
    fn schema(_: &mut Schema) -> String {
        "bytes".to_owned()
    }
}

/// What stands apart in memory, so that a larger value makes nothing around it larger; on the wire it is the value.
impl<T: Value> Value for Box<T> {
    const KIND: Kind = T::KIND;
    fn write(&self, out: &mut Vec<u8>) {
        T::write(self, out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        T::read(reader).map(Box::new)
    }
    fn schema(schema: &mut Schema) -> String {
        T::schema(schema)
    }
    fn note() -> String {
        T::note()
    }
}

impl<const N: usize> Value for [u8; N] {
    const KIND: Kind = Kind::Bytes;
    fn write(&self, out: &mut Vec<u8>) {
        write_delimited(out, |out| out.extend_from_slice(self));
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        <[u8; N]>::try_from(reader.bytes()?).map_err(|_| WireError::NotCanonical { message: "fixed bytes" })
    }
    fn schema(_: &mut Schema) -> String {
        "bytes".to_owned()
    }
    fn note() -> String {
        format!("{N} bytes")
    }
}

/// Unsigned 128-bit integers: big-endian bytes without leading zeros, so that zero is empty.
impl Value for u128 {
    const KIND: Kind = Kind::Bytes;
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        let bytes = self.to_be_bytes();
        let skip = (self.leading_zeros() / 8) as usize;
        out.push((bytes.len() - skip) as u8);
        out.extend_from_slice(&bytes[skip..]);
    }
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let bytes = reader.bytes()?;
        if bytes.len() > 16 || bytes.first() == Some(&0) {
            return Err(WireError::NotCanonical { message: "amount" });
        }
        Ok(bytes.iter().fold(0u128, |value, &byte| value << 8 | u128::from(byte)))
    }
    fn schema(_: &mut Schema) -> String {
        "bytes".to_owned()
    }
    fn note() -> String {
        "a whole number, big-endian, at most 16 bytes, without leading zeros".to_owned()
    }
}

/// Declares a struct that is a protobuf message: fields with their tags, ascending.
#[macro_export]
macro_rules! message {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $tag:literal: $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type),* }

        impl $crate::wire::Message for $name {
            #[allow(unused_variables)]
            fn encode_to(&self, out: &mut Vec<u8>) {
                $($crate::wire::Field::put(&self.$field, $tag, out);)*
            }
            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::WireError> {
                #[allow(unused_mut)]
                let mut reader = $crate::wire::Reader::new(bytes);
                let message = $name { $($field: $crate::wire::Field::take($tag, stringify!($name), &mut reader)?),* };
                reader.finish(stringify!($name))?;
                Ok(message)
            }
        }
        impl $crate::wire::Value for $name {
            const KIND: $crate::wire::Kind = $crate::wire::Kind::Bytes;
            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::write_delimited(out, |out| $crate::wire::Message::encode_to(self, out));
            }
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                <$name as $crate::wire::Message>::decode(reader.bytes()?)
            }
            fn schema(schema: &mut $crate::wire::Schema) -> String {
                schema.define(stringify!($name), |schema| {
                    let mut text = $crate::wire::schema_docs("", &[$(stringify!($meta)),*], "");
                    text.push_str(&format!("message {} {{\n", stringify!($name)));
                    $(
                        let kind = <$type as $crate::wire::Field>::schema(schema);
                        let note = <$type as $crate::wire::Field>::note();
                        text.push_str(&$crate::wire::schema_docs("  ", &[$(stringify!($field_meta)),*], &note));
                        text.push_str(&format!("  {} {} = {};\n", kind, stringify!($field), $tag));
                    )*
                    let _ = &schema;
                    text + "}\n"
                })
            }
        }
    };
}

/// Declares an enum that is a protobuf message holding exactly one of several messages.
#[macro_export]
macro_rules! oneof {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $tag:literal: $variant:ident($type:ty)),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant($type)),* }

        impl $crate::wire::Message for $name {
            fn encode_to(&self, out: &mut Vec<u8>) {
                match self { $($name::$variant(value) => $crate::wire::Field::put(value, $tag, out)),* }
            }
            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::WireError> {
                let mut reader = $crate::wire::Reader::new(bytes);
                let message = match reader.peek_key()? >> 3 {
                    $($tag => $name::$variant($crate::wire::Field::take($tag, stringify!($name), &mut reader)?),)*
                    value => return Err($crate::wire::WireError::UnknownVariant { message: stringify!($name), value }),
                };
                reader.finish(stringify!($name))?;
                Ok(message)
            }
        }
        impl $crate::wire::Value for $name {
            const KIND: $crate::wire::Kind = $crate::wire::Kind::Bytes;
            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::write_delimited(out, |out| $crate::wire::Message::encode_to(self, out));
            }
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                <$name as $crate::wire::Message>::decode(reader.bytes()?)
            }
            fn schema(schema: &mut $crate::wire::Schema) -> String {
                schema.define(stringify!($name), |schema| {
                    let mut text = $crate::wire::schema_docs("", &[$(stringify!($meta)),*], "");
                    text.push_str(&format!("message {} {{\n  oneof one {{\n", stringify!($name)));
                    $(
                        let kind = <$type as $crate::wire::Value>::schema(schema);
                        let note = <$type as $crate::wire::Value>::note();
                        text.push_str(&$crate::wire::schema_docs("    ", &[$(stringify!($variant_meta)),*], &note));
                        text.push_str(&format!("    {} {} = {};\n", kind, $crate::wire::snake_case(stringify!($variant)), $tag));
                    )*
                    text + "  }\n}\n"
                })
            }
        }
    };
}

/// Declares a plain enumeration; numbers start at 1, since 0 stands for "not said" in protobuf and is refused.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant = $number),* }

        impl $name {
            /// Every variant, in order of number.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The variant's name in lower snake case, as APIs and tables show it.
            pub fn name(self) -> String {
                match self { $($name::$variant => $crate::wire::snake_case(stringify!($variant))),* }
            }
        }
        impl $crate::wire::Value for $name {
            const KIND: $crate::wire::Kind = $crate::wire::Kind::Varint;
            fn write(&self, out: &mut Vec<u8>) { $crate::wire::write_varint(*self as u64, out); }
            fn read(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::WireError> {
                match reader.varint()? {
                    $($number => Ok($name::$variant),)*
                    value => Err($crate::wire::WireError::UnknownVariant { message: stringify!($name), value }),
                }
            }
            fn schema(schema: &mut $crate::wire::Schema) -> String {
                schema.define(stringify!($name), |_| {
                    let prefix = $crate::wire::snake_case(stringify!($name)).to_uppercase();
                    let mut text = $crate::wire::schema_docs("", &[$(stringify!($meta)),*], "");
                    text.push_str(&format!("enum {} {{\n  // Never written.\n  {}_UNSPECIFIED = 0;\n", stringify!($name), prefix));
                    $(
                        text.push_str(&$crate::wire::schema_docs("  ", &[$(stringify!($variant_meta)),*], ""));
                        text.push_str(&format!("  {}_{} = {};\n", prefix, $crate::wire::snake_case(stringify!($variant)).to_uppercase(), $number));
                    )*
                    text + "}\n"
                })
            }
        }
    };
}

/// Doc attributes, as `stringify!` shows them, as comments of the schema, and after them what is to be said of the encoding.
pub fn schema_docs(indent: &str, attributes: &[&str], note: &str) -> String {
    let mut text = String::new();
    for attribute in attributes {
        let Some(doc) = attribute.strip_prefix("doc") else { continue };
        let doc = doc
            .trim_start_matches([' ', '\n', '='])
            .trim_start_matches('r')
            .trim_matches('"')
            .replace("[`", "")
            .replace("`]", "")
            .replace("\\\"", "\"");
        text.push_str(&format!("{indent}// {}\n", doc.trim()));
    }
    if !note.is_empty() {
        text.push_str(&format!("{indent}// Encoding: {note}.\n"));
    }
    text
}

/// `AwaitingApproval` to `awaiting_approval`.
pub fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (index, character) in name.char_indices() {
        if character.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

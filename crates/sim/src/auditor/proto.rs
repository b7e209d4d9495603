//! Reads protobuf by tag numbers, from the published schema alone: it shares nothing with the platform's own decoder.

/// One field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A message as a list of tags and values.
#[derive(Debug, Clone, Default)]
pub struct Message<'a> {
    fields: Vec<(u64, Value<'a>)>,
}

impl<'a> Message<'a> {
    /// Reads a message; says what is wrong with it.
    ///
    /// # Errors
    /// A sentence.
    pub fn read(mut bytes: &'a [u8]) -> Result<Message<'a>, String> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).map_err(|_| "a length is too large")?;
                    if length > bytes.len() {
                        return Err("a field ends beyond its message".into());
                    }
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(value)
                }
                other => return Err(format!("wire type {other} is not in the schema")),
            };
            fields.push((key >> 3, value));
        }
        Ok(Message { fields })
    }

    /// The only field of a oneof: its tag and its message.
    ///
    /// # Errors
    /// A sentence.
    pub fn only(&self) -> Result<(u64, Message<'a>), String> {
        match self.fields.as_slice() {
            [(tag, Value::Bytes(bytes))] => Ok((*tag, Message::read(bytes)?)),
            _ => Err("a oneof holds one message".into()),
        }
    }

    /// The tag of the only field of a oneof whose members are scalars.
    pub fn only_tag(&self) -> Option<u64> {
        match self.fields.as_slice() {
            [(tag, _)] => Some(*tag),
            _ => None,
        }
    }

    /// A required number.
    ///
    /// # Errors
    /// A sentence.
    pub fn number(&self, tag: u64) -> Result<u64, String> {
        self.maybe_number(tag).ok_or_else(|| format!("number {tag} is missing"))
    }

    /// An optional number.
    pub fn maybe_number(&self, tag: u64) -> Option<u64> {
        self.fields.iter().find_map(|(found, value)| match value {
            Value::Number(number) if *found == tag => Some(*number),
            _ => None,
        })
    }

    /// Required bytes.
    ///
    /// # Errors
    /// A sentence.
    pub fn bytes(&self, tag: u64) -> Result<&'a [u8], String> {
        self.maybe_bytes(tag).ok_or_else(|| format!("bytes {tag} are missing"))
    }

    /// Optional bytes.
    pub fn maybe_bytes(&self, tag: u64) -> Option<&'a [u8]> {
        self.all_bytes(tag).next()
    }

    /// All bytes under a tag, in order.
    pub fn all_bytes(&self, tag: u64) -> impl Iterator<Item = &'a [u8]> + use<'_, 'a> {
        self.fields.iter().filter_map(move |(found, value)| match value {
            Value::Bytes(bytes) if *found == tag => Some(*bytes),
            _ => None,
        })
    }

    /// All that is under a tag, as it stands in the message; nothing where it is absent.
    pub fn part(&self, tag: u64) -> Vec<u8> {
        let mut part = Vec::new();
        for (_, value) in self.fields.iter().filter(|(found, _)| *found == tag) {
            let number;
            let bytes = match value {
                Value::Number(value) => {
                    number = value.to_be_bytes();
                    &number[..]
                }
                Value::Bytes(bytes) => bytes,
            };
            part.extend((bytes.len() as u64).to_be_bytes());
            part.extend(bytes);
        }
        part
    }

    /// A required message.
    ///
    /// # Errors
    /// A sentence.
    pub fn message(&self, tag: u64) -> Result<Message<'a>, String> {
        Message::read(self.bytes(tag)?)
    }

    /// All messages under a tag, in order.
    ///
    /// # Errors
    /// A sentence.
    pub fn messages(&self, tag: u64) -> Result<Vec<Message<'a>>, String> {
        self.all_bytes(tag).map(Message::read).collect()
    }

    /// An amount that is absent where it is nothing.
    ///
    /// # Errors
    /// A sentence.
    pub fn amount_or_zero(&self, tag: u64) -> Result<u128, String> {
        if self.maybe_bytes(tag).is_some() { self.amount(tag) } else { Ok(0) }
    }

    /// A required amount: big-endian bytes.
    ///
    /// # Errors
    /// A sentence.
    pub fn amount(&self, tag: u64) -> Result<u128, String> {
        let bytes = self.bytes(tag)?;
        if bytes.len() > 16 {
            return Err(format!("amount {tag} has more than 128 bits"));
        }
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u128::from(byte)))
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a number is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number is too long".into())
}

//! The small part of CBOR that snapshots use: definite maps with text keys, texts, integers, booleans, lists, times.
//!
//! Invariants: writing is canonical (shortest lengths; the caller gives the keys in canonical order); reading has a
//! limit on depth and never allocates more than its input could hold. **Source**: RFC 8949, sections 3 and 4.2.3.

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const SIMPLE_FALSE: u64 = 20;
const SIMPLE_TRUE: u64 = 21;
const SIMPLE_NULL: u64 = 22;
/// Tag of a time as RFC 3339 text.
const TAG_TIME_TEXT: u64 = 0;
/// A snapshot nests three deep.
const DEPTH_MAX: usize = 8;

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Unsigned(u64),
    /// The value is `-1 - n`.
    Negative(u64),
    Text(String),
    List(Vec<Item>),
    Map(Vec<(String, Item)>),
    Tagged(u64, Box<Item>),
    Bool(bool),
    Null,
}

/// Why bytes are not the CBOR that is read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    #[error("the data ends in the middle of an item")]
    Truncated,
    #[error("{count} bytes follow the item")]
    Trailing { count: usize },
    #[error("the item kind with first byte {first:#04x} does not occur in a snapshot")]
    Unsupported { first: u8 },
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("a map key is not a text")]
    Key,
    #[error("items are nested more than {DEPTH_MAX} deep")]
    Depth,
}

/// Writes items one after the other.
#[derive(Default)]
pub(crate) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..24 => self.bytes.push(major | bytes[7]),
            24..0x100 => self.bytes.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..0x1_0000 => {
                self.bytes.push(major | 25);
                self.bytes.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..0x1_0000_0000 => {
                self.bytes.push(major | 26);
                self.bytes.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.bytes.push(major | 27);
                self.bytes.extend_from_slice(&bytes);
            }
        }
    }

    pub fn map(&mut self, pairs: u64) {
        self.head(MAP, pairs);
    }

    pub fn list(&mut self, items: u64) {
        self.head(LIST, items);
    }

    pub fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub fn unsigned(&mut self, value: u64) {
        self.head(UNSIGNED, value);
    }

    pub fn boolean(&mut self, truth: bool) {
        self.head(SIMPLE, if truth { SIMPLE_TRUE } else { SIMPLE_FALSE });
    }

    /// A time as RFC 3339 text.
    pub fn time(&mut self, text: &str) {
        self.head(TAG, TAG_TIME_TEXT);
        self.text(text);
    }
}

/// Reads exactly one item.
pub(crate) fn read(bytes: &[u8]) -> Result<Item, CborError> {
    let mut reader = Reader { rest: bytes };
    let item = reader.item(0)?;
    match reader.rest.len() {
        0 => Ok(item),
        count => Err(CborError::Trailing { count }),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], CborError> {
        let count = usize::try_from(count).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, first: u8) -> Result<u64, CborError> {
        let count = match first & 31 {
            small @ 0..24 => return Ok(u64::from(small)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(CborError::Unsupported { first }),
        };
        let bytes = self.take(count)?;
        Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    fn item(&mut self, depth: usize) -> Result<Item, CborError> {
        if depth > DEPTH_MAX {
            return Err(CborError::Depth);
        }
        let first = *self.take(1)?.first().ok_or(CborError::Truncated)?;
        let value = self.number(first)?;
        match first >> 5 {
            UNSIGNED => Ok(Item::Unsigned(value)),
            NEGATIVE => Ok(Item::Negative(value)),
            TEXT => {
                let bytes = self.take(value)?.to_vec();
                String::from_utf8(bytes).map(Item::Text).map_err(|_| CborError::Utf8)
            }
            LIST => self.list(value, depth),
            MAP => self.map(value, depth),
            TAG => Ok(Item::Tagged(value, Box::new(self.item(depth + 1)?))),
            SIMPLE => match value {
                SIMPLE_FALSE => Ok(Item::Bool(false)),
                SIMPLE_TRUE => Ok(Item::Bool(true)),
                SIMPLE_NULL => Ok(Item::Null),
                _ => Err(CborError::Unsupported { first }),
            },
            BYTES.. => Err(CborError::Unsupported { first }),
        }
    }

    fn list(&mut self, count: u64, depth: usize) -> Result<Item, CborError> {
        self.fits(count)?;
        (0..count)
            .map(|_| self.item(depth + 1))
            .collect::<Result<_, _>>()
            .map(Item::List)
    }

    fn map(&mut self, count: u64, depth: usize) -> Result<Item, CborError> {
        self.fits(count)?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let Item::Text(key) = self.item(depth + 1)? else {
                return Err(CborError::Key);
            };
            pairs.push((key, self.item(depth + 1)?));
        }
        Ok(Item::Map(pairs))
    }

    /// Every item takes a byte at least, so a larger count is a lie.
    fn fits(&self, count: u64) -> Result<(), CborError> {
        if count > self.rest.len() as u64 {
            return Err(CborError::Truncated);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_shortest_form_and_read_back() {
        for (value, length) in [
            (0, 1),
            (23, 1),
            (24, 2),
            (255, 2),
            (256, 3),
            (65535, 3),
            (65536, 5),
            (1 << 32, 9),
            (u64::MAX, 9),
        ] {
            let mut writer = Writer::default();
            writer.unsigned(value);
            assert_eq!(writer.bytes.len(), length, "{value}");
            assert_eq!(read(&writer.bytes), Ok(Item::Unsigned(value)));
        }
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let deep = [0x81; 40];
        let cases: [(&[u8], CborError); 8] = [
            (&[], CborError::Truncated),
            (&[0x00, 0x00], CborError::Trailing { count: 1 }),
            (
                &[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                CborError::Truncated,
            ),
            (
                &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                CborError::Truncated,
            ),
            (&[0x9f, 0xff], CborError::Unsupported { first: 0x9f }),
            (&[0x61, 0xff], CborError::Utf8),
            (&[0xa1, 0x00, 0x00], CborError::Key),
            (&deep, CborError::Depth),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(bytes), Err(expected), "{bytes:02x?}");
        }
    }
}

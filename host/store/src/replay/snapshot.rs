//! One remembered section and its frame in `corpus.zst`.
//!
//! Invariants: a frame is decodable alone; the same snapshot gives the same bytes; a frame from outside never unpacks
//! to more than a fixed size.

use std::io::Read;

use dlm_core::stamp::Stamp;
use dlm_core::{SectionId, SectionKind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cbor::{self, CborError, Item, Writer};

/// Level that the corpus format fixes.
const ZSTD_LEVEL: i32 = 3;
/// Largest unpacked snapshot that is read; documents are far smaller.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Number of fields in the map.
const FIELD_COUNT: u64 = 7;

/// A section as it was when it was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub section_id: SectionId,
    /// Prose, instruction or preference.
    pub section_type: SectionKind,
    /// The section's raw body.
    pub content: String,
    /// Whether a judge made it, not a person.
    pub auto_mined: bool,
    pub first_seen_at: Stamp,
    pub last_seen_at: Stamp,
    /// Runs that trained on it.
    pub training_runs_seen: Vec<u64>,
}

/// Why a frame is not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("only {found} bytes are left in the file")]
    Short { found: u64 },
    #[error("it does not unpack: {0}")]
    Zstd(#[source] std::io::Error),
    #[error("it unpacks to more than {SNAPSHOT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not CBOR: {0}")]
    Cbor(#[from] CborError),
    #[error("it is not a map")]
    NotAMap,
    #[error("key `{key}` is unknown or occurs twice")]
    Key { key: String },
    #[error("`{field}` is missing or is not {expected}")]
    Field {
        field: &'static str,
        expected: &'static str,
    },
}

impl Snapshot {
    /// The row id of a replayed copy.
    pub fn row_id(&self) -> String {
        format!("replay:{}:{}", self.section_id, self.last_seen_at)
    }

    /// Packs the snapshot into a frame.
    ///
    /// **Errors** where there is no memory to pack it.
    pub fn frame(&self) -> Result<Vec<u8>, std::io::Error> {
        let mut out = Writer::default();
        // Canonical order: shorter keys first, then by bytes.
        out.map(FIELD_COUNT);
        out.text("content");
        out.text(&self.content);
        out.text("auto_mined");
        out.boolean(self.auto_mined);
        out.text("section_id");
        out.text(self.section_id.as_str());
        out.text("last_seen_at");
        out.time(&self.last_seen_at.zoned());
        out.text("section_type");
        out.text(self.section_type.as_str());
        out.text("first_seen_at");
        out.time(&self.first_seen_at.zoned());
        out.text("training_runs_seen");
        out.list(self.training_runs_seen.len() as u64);
        for run in &self.training_runs_seen {
            out.unsigned(*run);
        }
        zstd::bulk::compress(&out.bytes, ZSTD_LEVEL)
    }

    /// Unpacks a frame.
    ///
    /// **Errors** say what is wrong with it.
    pub fn from_frame(frame: &[u8]) -> Result<Self, FrameError> {
        let mut payload = Vec::new();
        zstd::stream::read::Decoder::with_buffer(frame)
            .map_err(FrameError::Zstd)?
            .single_frame()
            .take(SNAPSHOT_BYTES_MAX + 1)
            .read_to_end(&mut payload)
            .map_err(FrameError::Zstd)?;
        if payload.len() as u64 > SNAPSHOT_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        match cbor::read(&payload)? {
            Item::Map(pairs) => Self::from_fields(Fields(pairs)),
            _ => Err(FrameError::NotAMap),
        }
    }

    fn from_fields(mut fields: Fields) -> Result<Self, FrameError> {
        let section_id = fields.text("section_id", "16 lower-case hex digits")?;
        let section_type = fields.text("section_type", "`prose`, `instruction` or `preference`")?;
        let snapshot = Self {
            section_id: SectionId::try_from(section_id).map_err(|_| FrameError::Field {
                field: "section_id",
                expected: "16 lower-case hex digits",
            })?,
            section_type: replayable(&section_type).ok_or(FrameError::Field {
                field: "section_type",
                expected: "`prose`, `instruction` or `preference`",
            })?,
            content: fields.text("content", "a text")?,
            auto_mined: match fields.take("auto_mined") {
                // Written since the reference's preference mining; older snapshots lack it.
                None => false,
                Some(Item::Bool(truth)) => truth,
                Some(_) => {
                    return Err(FrameError::Field {
                        field: "auto_mined",
                        expected: "a boolean",
                    });
                }
            },
            first_seen_at: fields.time("first_seen_at")?,
            last_seen_at: fields.time("last_seen_at")?,
            training_runs_seen: fields.runs()?,
        };
        match fields.0.pop() {
            None => Ok(snapshot),
            Some((key, _)) => Err(FrameError::Key { key }),
        }
    }
}

/// The kind of section by name, if it is one that is replayed.
fn replayable(name: &str) -> Option<SectionKind> {
    SectionKind::from_name(name).filter(|kind| !kind.is_media())
}

struct Fields(Vec<(String, Item)>);

impl Fields {
    fn take(&mut self, key: &str) -> Option<Item> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.swap_remove(index).1)
    }

    fn text(&mut self, field: &'static str, expected: &'static str) -> Result<String, FrameError> {
        match self.take(field) {
            Some(Item::Text(text)) => Ok(text),
            _ => Err(FrameError::Field { field, expected }),
        }
    }

    fn time(&mut self, field: &'static str) -> Result<Stamp, FrameError> {
        let seconds = match self.take(field) {
            Some(Item::Tagged(_, inner)) => seconds_of(*inner),
            Some(item) => seconds_of(item),
            None => None,
        };
        let seconds = seconds.ok_or(FrameError::Field {
            field,
            expected: "a UTC time",
        })?;
        Ok(Stamp::from_unix_ms(seconds.saturating_mul(1000)))
    }

    fn runs(&mut self) -> Result<Vec<u64>, FrameError> {
        let wrong = FrameError::Field {
            field: "training_runs_seen",
            expected: "a list of run numbers",
        };
        let Some(Item::List(items)) = self.take("training_runs_seen") else {
            return Err(wrong);
        };
        let mut runs = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Unsigned(run) => runs.push(run),
                _ => return Err(wrong),
            }
        }
        Ok(runs)
    }
}

fn seconds_of(item: Item) -> Option<i64> {
    match item {
        Item::Text(text) => match Stamp::parse_naive(&text) {
            Ok(stamp) => Some(stamp.unix_seconds()),
            Err(_) => Some(OffsetDateTime::parse(&text, &Rfc3339).ok()?.unix_timestamp()),
        },
        Item::Unsigned(seconds) => i64::try_from(seconds).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let content = "Café costs 3.";
        Snapshot {
            section_id: SectionId::of_content(SectionKind::Prose, content),
            section_type: SectionKind::Prose,
            content: content.to_owned(),
            auto_mined: false,
            first_seen_at: Stamp::from_unix_ms(1_776_623_414_000),
            last_seen_at: Stamp::from_unix_ms(1_776_623_415_000),
            training_runs_seen: vec![1, 300],
        }
    }

    /// The payload as `cbor2.dumps(..., canonical=True, timezone=UTC)` lays it out: keys by length, times as tag 0.
    #[test]
    fn payload_is_canonical() {
        let frame = snapshot().frame().expect("packs");
        let mut payload = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(frame.as_slice()).expect("a frame");
        decoder.read_to_end(&mut payload).expect("unpacks");
        let mut expected = vec![0xa7, 0x67];
        expected.extend_from_slice(b"content\x6eCaf\xc3\xa9 costs 3.");
        expected.extend_from_slice(b"\x6aauto_mined\xf4");
        expected.extend_from_slice(b"\x6asection_id\x70");
        expected.extend_from_slice(snapshot().section_id.as_str().as_bytes());
        expected.extend_from_slice(b"\x6clast_seen_at\xc0\x742026-04-19T18:30:15Z");
        expected.extend_from_slice(b"\x6csection_type\x65prose");
        expected.extend_from_slice(b"\x6dfirst_seen_at\xc0\x742026-04-19T18:30:14Z");
        expected.extend_from_slice(b"\x72training_runs_seen\x82\x01\x19\x01\x2c");
        assert_eq!(payload, expected);
    }

    #[test]
    fn frame_reads_back() {
        let frame = snapshot().frame().expect("packs");
        assert_eq!(Snapshot::from_frame(&frame).expect("reads"), snapshot());
        assert_eq!(frame, snapshot().frame().expect("packs again"));
    }

    #[test]
    fn a_cut_frame_is_refused() {
        let frame = snapshot().frame().expect("packs");
        for cut in 0..frame.len() {
            assert!(Snapshot::from_frame(&frame[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let pack = |build: &dyn Fn(&mut Writer)| {
            let mut out = Writer::default();
            build(&mut out);
            let frame = zstd::bulk::compress(&out.bytes, ZSTD_LEVEL).expect("packs");
            Snapshot::from_frame(&frame).expect_err("refused").to_string()
        };
        assert_eq!(pack(&|out| out.unsigned(1)), "it is not a map");
        let message = pack(&|out| {
            out.map(1);
            out.text("section_id");
            out.text("nope");
        });
        assert!(message.contains("`section_type` is missing"), "{message}");
    }

    #[test]
    fn row_id_names_section_and_time() {
        let expected = format!("replay:{}:2026-04-19T18:30:15", snapshot().section_id);
        assert_eq!(snapshot().row_id(), expected);
    }
}

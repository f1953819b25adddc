//! One section of a staged plan, as the flat object that the reference implementation writes.
//!
//! Invariants: a missing optional key takes its default, a wrong type never does; provenance is all there or not at all.

use std::collections::BTreeMap;

use dlm_core::{AutoMined, AutoSynth, Media, Section, SectionKind};
use serde_json::{Map, Value, json};

use crate::record::kind_of;

/// What is wrong with a section of a staged plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionFlaw {
    #[error("it is {found}, expected an object")]
    NotAnObject { found: &'static str },
    #[error("`{key}` is missing")]
    Missing { key: &'static str },
    #[error("`{key}` is {found}, expected {expected}")]
    Type {
        key: &'static str,
        found: String,
        expected: &'static str,
    },
}

/// Writes every field by name.
pub(super) fn write(section: &Section) -> Value {
    let mined = section.mined.as_ref();
    let synth = section.synth.as_ref();
    let media = section.media.as_ref();
    json!({
        "type": section.kind.as_str(),
        "content": section.content,
        "start_line": section.start_line,
        "adapter": section.adapter,
        "tags": section.tags,
        "auto_harvest": section.harvest_source.is_some(),
        "harvest_source": section.harvest_source,
        "auto_mined": mined.is_some(),
        "judge_name": mined.map(|m| &m.judge_name),
        "judge_score_chosen": mined.map(|m| m.judge_score_chosen),
        "judge_score_rejected": mined.map(|m| m.judge_score_rejected),
        "mined_at": mined.map(|m| &m.mined_at),
        "mined_run_id": mined.map(|m| m.mined_run_id),
        "auto_synth": synth.is_some(),
        "synth_teacher": synth.map(|s| &s.synth_teacher),
        "synth_strategy": synth.map(|s| &s.synth_strategy),
        "synth_at": synth.map(|s| &s.synth_at),
        "source_section_id": synth.map(|s| &s.source_section_id),
        "media_path": media.map(|m| &m.path),
        "media_alt": media.and_then(|m| m.alt.as_ref()),
        "media_blob_sha": media.and_then(|m| m.blob_sha.as_ref()),
        "media_transcript": media.and_then(|m| m.transcript.as_ref()),
    })
}

pub(super) fn read(value: &Value) -> Result<Section, SectionFlaw> {
    let Value::Object(map) = value else {
        return Err(SectionFlaw::NotAnObject { found: kind_of(value) });
    };
    let fields = Fields(map);
    let name = fields.required("type")?;
    let kind = SectionKind::from_name(&name).ok_or(SectionFlaw::Type {
        key: "type",
        found: format!("`{name}`"),
        expected: "`prose`, `instruction`, `preference`, `image` or `audio`",
    })?;
    let mut section = Section::text(kind, fields.required("content")?);
    section.start_line = fields.integer("start_line")?.unwrap_or(0) as usize;
    section.adapter = fields.text("adapter")?;
    section.tags = fields.tags()?;
    if fields.truth("auto_harvest")? {
        section.harvest_source = Some(fields.text("harvest_source")?.unwrap_or_default());
    }
    if fields.truth("auto_mined")? {
        section.mined = Some(AutoMined {
            judge_name: fields.required("judge_name")?,
            judge_score_chosen: fields.number("judge_score_chosen")?,
            judge_score_rejected: fields.number("judge_score_rejected")?,
            mined_at: fields.required("mined_at")?,
            mined_run_id: fields
                .integer("mined_run_id")?
                .ok_or(SectionFlaw::Missing { key: "mined_run_id" })?,
        });
    }
    if fields.truth("auto_synth")? {
        let source = fields.required("source_section_id")?;
        section.synth = Some(AutoSynth {
            synth_teacher: fields.required("synth_teacher")?,
            synth_strategy: fields.required("synth_strategy")?,
            synth_at: fields.required("synth_at")?,
            source_section_id: source.parse().map_err(|_| SectionFlaw::Type {
                key: "source_section_id",
                found: format!("`{source}`"),
                expected: "16 lower-case hex digits",
            })?,
        });
    }
    if let Some(path) = fields.text("media_path")? {
        section.media = Some(Media {
            path,
            alt: fields.text("media_alt")?,
            transcript: fields.text("media_transcript")?,
            blob_sha: fields.text("media_blob_sha")?,
        });
    }
    Ok(section)
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    /// The value; `null` is as good as missing.
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, SectionFlaw> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(key, other, "a text")),
        }
    }

    fn required(&self, key: &'static str) -> Result<String, SectionFlaw> {
        self.text(key)?.ok_or(SectionFlaw::Missing { key })
    }

    fn truth(&self, key: &'static str) -> Result<bool, SectionFlaw> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(other) => Err(wrong(key, other, "true or false")),
        }
    }

    fn integer(&self, key: &'static str) -> Result<Option<u64>, SectionFlaw> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(key, value, "a whole number of at least 0")),
            },
        }
    }

    fn number(&self, key: &'static str) -> Result<f64, SectionFlaw> {
        match self.get(key) {
            None => Err(SectionFlaw::Missing { key }),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| wrong(key, value, "a finite number")),
        }
    }

    fn tags(&self) -> Result<BTreeMap<String, String>, SectionFlaw> {
        const EXPECTED: &str = "an object of texts";
        match self.get("tags") {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    other => Err(wrong("tags", other, EXPECTED)),
                })
                .collect(),
            Some(other) => Err(wrong("tags", other, EXPECTED)),
        }
    }
}

fn wrong(key: &'static str, value: &Value, expected: &'static str) -> SectionFlaw {
    let found = match value {
        Value::Number(number) => format!("{number}"),
        other => kind_of(other).to_owned(),
    };
    SectionFlaw::Type { key, found, expected }
}

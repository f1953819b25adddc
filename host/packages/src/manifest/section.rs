//! The custom section that holds the manifest, found and written without a parser for the rest of the component.

use super::{COMPONENT_BYTES_MAX, MANIFEST_BYTES_MAX, ManifestError, SECTION};

/// Magic, version 13 and layer 1 of a component.
const COMPONENT_HEAD: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
/// Magic and version 1 of a core module.
pub(crate) const MODULE_HEAD: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];

/// One top-level section: its place with head, and its contents.
struct Section<'a> {
    id: u8,
    start: usize,
    end: usize,
    contents: &'a [u8],
}

/// Finds the one manifest section among the top-level sections.
pub(super) fn find(component: &[u8]) -> Result<Option<&[u8]>, ManifestError> {
    let mut found = None;
    for section in sections(component)? {
        let Some(payload) = payload(&section)? else { continue };
        if payload.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Wrong("it is larger than 64 KiB".to_owned()));
        }
        if found.replace(payload).is_some() {
            return Err(ManifestError::Wrong("it is there twice".to_owned()));
        }
    }
    Ok(found)
}

/// The component without its manifest sections.
pub(crate) fn without(component: &[u8]) -> Result<Vec<u8>, ManifestError> {
    let mut out = Vec::with_capacity(component.len());
    let mut kept = 0;
    for section in sections(component)? {
        if payload(&section)?.is_some() {
            out.extend_from_slice(component.get(kept..section.start).unwrap_or_default());
            kept = section.end;
        }
    }
    out.extend_from_slice(component.get(kept..).unwrap_or_default());
    Ok(out)
}

/// Appends the manifest section: id 0, size, name with its length, contents.
pub fn append(component: &mut Vec<u8>, json: &[u8]) {
    let mut section = leb128(SECTION.len());
    section.extend_from_slice(SECTION.as_bytes());
    section.extend_from_slice(json);
    component.push(0);
    component.extend(leb128(section.len()));
    component.extend(section);
}

fn payload<'a>(section: &Section<'a>) -> Result<Option<&'a [u8]>, ManifestError> {
    if section.id != 0 {
        return Ok(None);
    }
    let (name, payload) = sized(section.contents).ok_or_else(|| malformed("a custom section has no name"))?;
    Ok((name == SECTION.as_bytes()).then_some(payload))
}

fn malformed(cause: &str) -> ManifestError {
    ManifestError::Malformed(cause.to_owned())
}

fn sections(component: &[u8]) -> Result<Vec<Section<'_>>, ManifestError> {
    if component.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(malformed("it is larger than 64 MiB"));
    }
    if component.starts_with(&MODULE_HEAD) {
        return Err(ManifestError::NotAComponent);
    }
    let Some(mut rest) = component.strip_prefix(&COMPONENT_HEAD) else {
        return Err(malformed("it does not begin like a component"));
    };
    let mut sections = Vec::new();
    while let Some((id, after_id)) = rest.split_first() {
        let start = component.len() - rest.len();
        let (contents, after) = sized(after_id).ok_or_else(|| malformed("a section ends after the file"))?;
        rest = after;
        sections.push(Section {
            id: *id,
            start,
            end: component.len() - rest.len(),
            contents,
        });
    }
    Ok(sections)
}

/// Splits off a part that is preceded by its length in LEB128.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).ok()?)?;
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

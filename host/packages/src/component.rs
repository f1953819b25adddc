//! What a component is made of, read without running or compiling it: imports with the functions it uses, exports, sizes.
//!
//! Invariants: the bytes are validated first, with the features that the engine runs with; the standard's own name and
//! producers sections are shown and never trusted for anything.

use std::collections::BTreeMap;
use std::path::Path;

use wasmparser::component_types::ComponentEntityType;
use wasmparser::{KnownCustom, Parser, Payload, Validator, WasmFeatures};

use crate::error::ComponentError;
use crate::kind::Kind;
use crate::manifest::MODULE_HEAD;
use dlm_core::inert::inert_line;

/// Names of the contract begin with this.
pub(crate) const PACKAGE: &str = "dlm:plugin/";

/// An import or export of a component.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Item {
    /// Such as `dlm:plugin/log@1.0.0`.
    pub name: String,
    /// The functions of an interface, sorted; resource methods keep their prefix.
    pub functions: Vec<String>,
}

impl Item {
    /// Interface and version, if the item belongs to the contract.
    pub fn ours(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(PACKAGE)?.split_once('@')
    }
}

/// A part of the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    pub name: String,
    pub bytes: u64,
}

/// What a component is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub imports: Vec<Item>,
    pub exports: Vec<Item>,
    /// Sizes by what they are, largest first: code and data of the core modules, custom sections, the rest.
    pub parts: Vec<Part>,
    /// Who says to have made it, for display.
    pub producers: Vec<String>,
}

impl Shape {
    /// Reads a component.
    ///
    /// **Errors**: a core module, or bytes that are no valid component.
    pub fn read(path: &Path, bytes: &[u8]) -> Result<Shape, ComponentError> {
        let malformed = |cause: String| ComponentError::Malformed {
            path: path.to_owned(),
            cause: inert_line(&cause),
        };
        if bytes.starts_with(&MODULE_HEAD) {
            return Err(ComponentError::NotAComponent { path: path.to_owned() });
        }
        if crate::instances::is_too_many(bytes) {
            return Err(malformed(crate::instances::TOO_MANY.to_owned()));
        }
        let wrong = |error: wasmparser::BinaryReaderError| malformed(error.to_string());
        let types = Validator::new_with_features(features()).validate_all(bytes);
        let types = types.map_err(|error| unusable(path, bytes, wrong(error)))?;
        let mut shape = Shape {
            imports: Vec::new(),
            exports: Vec::new(),
            parts: Vec::new(),
            producers: Vec::new(),
        };
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        let mut counted = 0;
        let mut depth = 0usize;
        let mut is_component = false;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(wrong)?;
            if let Some((name, size)) = part(&payload) {
                *sizes.entry(name).or_default() += size;
                counted += size;
            }
            match payload {
                Payload::Version { encoding, .. } if depth == 0 => {
                    is_component = encoding == wasmparser::Encoding::Component;
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let name = import.map_err(wrong)?.name.name;
                        let functions = types
                            .component_item_for_import(name)
                            .map(|item| functions(&types, &item.ty));
                        shape.imports.push(item(name, functions));
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let name = export.map_err(wrong)?.name.name;
                        let functions = types
                            .component_item_for_export(name)
                            .map(|item| functions(&types, &item.ty));
                        shape.exports.push(item(name, functions));
                    }
                }
                Payload::CustomSection(section) => producers(&section.as_known(), &mut shape.producers),
                _ => {}
            }
        }
        if !is_component {
            return Err(malformed("it does not begin like a component".to_owned()));
        }
        let rest = (bytes.len() as u64).saturating_sub(counted);
        sizes.insert("types and links".to_owned(), rest);
        shape.parts = sizes.into_iter().map(|(name, bytes)| Part { name, bytes }).collect();
        shape
            .parts
            .sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
        Ok(shape)
    }

    /// The kinds that it exports.
    pub fn kinds(&self) -> Vec<Kind> {
        let exported = |kind: &Kind| {
            let mut ours = self.exports.iter().filter_map(Item::ours);
            ours.any(|(interface, _)| interface == kind.name())
        };
        Kind::ALL.into_iter().filter(exported).collect()
    }

    /// The versions of the contract that its exports of known kinds name, without repetition.
    pub fn versions(&self) -> Vec<&str> {
        let kinds = self.exports.iter().filter_map(Item::ours);
        let mut versions: Vec<&str> = kinds
            .filter(|(interface, _)| Kind::parse(interface).is_some())
            .map(|(_, version)| version)
            .collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }
}

/// What the engine of `plugins.md` section 19 accepts.
fn features() -> WasmFeatures {
    let off = WasmFeatures::THREADS | WasmFeatures::MEMORY64 | WasmFeatures::CM_ASYNC;
    WasmFeatures::default().difference(off)
}

/// Why bytes that the engine does not accept cannot be used: a component of WASI 0.3, or what else is wrong with them.
fn unusable(path: &Path, bytes: &[u8], wrong: ComponentError) -> ComponentError {
    let features = features().union(WasmFeatures::CM_ASYNC);
    match Validator::new_with_features(features).validate_all(bytes).is_ok() {
        true => ComponentError::Async { path: path.to_owned() },
        false => wrong,
    }
}

fn item(name: &str, functions: Option<Vec<String>>) -> Item {
    Item {
        name: name.to_owned(),
        functions: functions.unwrap_or_default(),
    }
}

/// The functions of an instance.
fn functions(types: &wasmparser::types::Types, entity: &ComponentEntityType) -> Vec<String> {
    let ComponentEntityType::Instance(id) = entity else {
        return Vec::new();
    };
    let Some(instance) = types.as_ref().get(*id) else {
        return Vec::new();
    };
    let mut functions: Vec<String> = instance
        .exports
        .iter()
        .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
        .map(|(name, _)| name.clone())
        .collect();
    functions.sort();
    functions
}

/// What a payload counts as, and its size.
fn part(payload: &Payload<'_>) -> Option<(String, u64)> {
    let size = |range: &std::ops::Range<usize>| range.len() as u64;
    match payload {
        Payload::CodeSectionStart { range, .. } => Some(("code".to_owned(), size(range))),
        Payload::DataSection(section) => Some(("data".to_owned(), size(&section.range()))),
        Payload::CustomSection(section) => Some((
            format!("section {}", inert_line(&dlm_core::inert::cut(section.name(), 60))),
            size(&section.range()),
        )),
        _ => None,
    }
}

fn producers(section: &KnownCustom<'_>, out: &mut Vec<String>) {
    let KnownCustom::Producers(fields) = section else {
        return;
    };
    for field in fields.clone().into_iter().flatten() {
        for value in field.values.into_iter().flatten() {
            let text = format!("{} {}", value.name, value.version);
            let text = inert_line(&dlm_core::inert::cut(text.trim(), 80));
            if !out.contains(&text) && out.len() < 20 {
                out.push(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnose;

    #[test]
    fn components_of_wasi_0_3_are_told_what_they_are() {
        let read = |text: &str| Shape::read(Path::new("it.wasm"), &wat::parse_str(text).unwrap()).unwrap_err();
        for text in [
            "(component (type (stream u8)))",
            "(component (type (future string)))",
            "(component (import \"a\" (func async)))",
        ] {
            let error = read(text);
            assert_eq!(error.code(), "plugin::import", "{error}");
            assert!(error.to_string().contains("WASI 0.3"), "{error}");
            assert!(error.diagnosis().hints.concat().contains("WASI 0.2"));
        }
        // What is wrong in every version stays so.
        let error = Shape::read(Path::new("it.wasm"), b"\0asm\x0d\0\x01\0\xff").unwrap_err();
        assert_eq!(error.code(), "plugin::malformed", "{error}");
    }
}

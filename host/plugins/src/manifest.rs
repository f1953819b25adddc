//! The manifest inside a plugin: a custom section at the top level of the component, JSON.
//!
//! Invariants: reading it runs nothing; the section is there exactly once; sizes are bounded before anything is parsed.

use serde::Deserialize;

use crate::error::PluginError;

/// Name of the custom section.
const SECTION: &str = "dlm:plugin-manifest";
/// Largest manifest.
const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Largest component file.
const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Magic, version 13 and layer 1 of a component.
const COMPONENT_HEAD: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
const MODULE_HEAD: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub name: String,
    pub version: String,
    pub kinds: Vec<String>,
    #[serde(default)]
    pub description: String,
    /// The capabilities it asks for.
    #[serde(default, rename = "request")]
    pub requests: Vec<Request>,
}

/// One capability that a plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// In grant syntax.
    pub capability: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub optional: bool,
}

impl Manifest {
    /// Reads the manifest of a component.
    ///
    /// **Errors**: not a component, no manifest or more than one, too large, or a wrong field.
    pub fn read(plugin: &str, component: &[u8]) -> Result<Manifest, PluginError> {
        let wrong = |cause: String| PluginError::Manifest {
            plugin: plugin.to_owned(),
            cause,
        };
        let section = find(plugin, component)?;
        let manifest: Manifest = serde_json::from_slice(section).map_err(|error| wrong(error.to_string()))?;
        if manifest.schema != 1 {
            return Err(wrong(format!("schema is {}, 1 was expected", manifest.schema)));
        }
        if !is_name(&manifest.name) {
            return Err(wrong(format!(
                "`{}` is not a plugin name: a lower-case letter, then up to 39 lower-case letters, digits and `-`",
                crate::terminal::inert(&manifest.name)
            )));
        }
        if let Err(error) = semver::Version::parse(&manifest.version) {
            return Err(wrong(format!(
                "version `{}`: {error}",
                crate::terminal::inert(&manifest.version)
            )));
        }
        if manifest.kinds != ["target"] {
            return Err(wrong(format!(
                "kinds is [{}], [target] was expected",
                crate::terminal::inert(&manifest.kinds.join(", "))
            )));
        }
        Ok(manifest)
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && (2..=40).contains(&name.len())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Finds the one manifest section among the top-level sections.
fn find<'a>(plugin: &str, component: &'a [u8]) -> Result<&'a [u8], PluginError> {
    let malformed = |cause: &str| PluginError::Malformed {
        plugin: plugin.to_owned(),
        cause: cause.to_owned(),
    };
    let wrong = |cause: &str| PluginError::Manifest {
        plugin: plugin.to_owned(),
        cause: cause.to_owned(),
    };
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(malformed("it is larger than 64 MiB"));
    }
    let Some(mut rest) = component.strip_prefix(&COMPONENT_HEAD) else {
        let is_module = component.starts_with(&MODULE_HEAD);
        return Err(malformed(if is_module {
            "it is a core module, not a component"
        } else {
            "it does not begin like a component"
        }));
    };
    let mut found = None;
    while let Some((id, after_id)) = rest.split_first() {
        let (contents, after) = sized(after_id).ok_or_else(|| malformed("a section ends after the file"))?;
        rest = after;
        if *id != 0 {
            continue;
        }
        let (name, payload) = sized(contents).ok_or_else(|| malformed("a custom section has no name"))?;
        if name != SECTION.as_bytes() {
            continue;
        }
        if payload.len() > MANIFEST_BYTES_MAX {
            return Err(wrong("it is larger than 64 KiB"));
        }
        if found.replace(payload).is_some() {
            return Err(wrong("it is there twice"));
        }
    }
    found.ok_or_else(|| wrong("it is missing"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, contents: &[u8]) -> Vec<u8> {
        let mut body = vec![u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(contents);
        let mut out = vec![0];
        let length = body.len();
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        out.push(u8::try_from(length >> 7).unwrap());
        out.extend(body);
        out
    }

    fn component(sections: &[Vec<u8>]) -> Vec<u8> {
        let mut out = COMPONENT_HEAD.to_vec();
        out.extend(sections.concat());
        out
    }

    fn manifest(json: &str) -> Vec<u8> {
        section(SECTION, json.as_bytes())
    }

    const GOOD: &str = r#"{"schema":1,"name":"good","version":"1.0.0","kinds":["target"]}"#;

    #[test]
    fn a_good_manifest_is_read() {
        let read = Manifest::read("x", &component(&[section("name", b"??"), manifest(GOOD)])).unwrap();
        assert_eq!((read.name.as_str(), read.version.as_str()), ("good", "1.0.0"));
        assert!(read.requests.is_empty());
    }

    #[track_caller]
    fn refused(bytes: &[u8], code: &str, part: &str) {
        let error = Manifest::read("x", bytes).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn each_wrong_file_is_refused() {
        refused(b"", "plugin::malformed", "does not begin");
        refused(&MODULE_HEAD, "plugin::malformed", "core module");
        refused(&component(&[]), "plugin::manifest", "missing");
        refused(
            &component(&[manifest(GOOD), manifest(GOOD)]),
            "plugin::manifest",
            "twice",
        );
        refused(&component(&[manifest("{")]), "plugin::manifest", "EOF");
        refused(
            &component(&[vec![0, 0x80, 0x80, 0x80, 0x80, 0x80]]),
            "plugin::malformed",
            "ends after",
        );
        refused(&component(&[vec![0, 9, 1]]), "plugin::malformed", "ends after");
        for (from, to, part) in [
            ("\"good\"", "\"../x\"", "not a plugin name"),
            ("\"1.0.0\"", "\"one\"", "version"),
            ("[\"target\"]", "[\"judge\"]", "kinds"),
            ("\"schema\":1", "\"schema\":2", "schema is 2"),
        ] {
            refused(
                &component(&[manifest(&GOOD.replace(from, to))]),
                "plugin::manifest",
                part,
            );
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = component(&[manifest(GOOD)]);
        for end in 0..whole.len() {
            assert!(Manifest::read("x", &whole[..end]).is_err(), "{end}");
        }
    }
}

//! From a core module to a component with its manifest.

use anyhow::Context;
use wit_component::{ComponentEncoder, DecodedWasm};

/// Name of the custom section that holds the manifest, JSON.
const MANIFEST_SECTION: &str = "dlm:plugin-manifest";

/// Encodes a core module as a component and appends its manifest.
pub fn encode(module: &[u8], manifest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = ComponentEncoder::default()
        .module(module)
        .context("cannot read the module's description of its world")?
        .validate(true)
        .encode()
        .context("cannot make a component")?;
    append_section(&mut bytes, MANIFEST_SECTION, manifest);
    Ok(bytes)
}

/// The interfaces that a component imports, without the package's name.
pub fn imports(component: &[u8]) -> anyhow::Result<Vec<String>> {
    let decoded = wit_component::decode(component).context("cannot read the component's world")?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        anyhow::bail!("a package of WIT, a component was expected");
    };
    let names = resolve.worlds[world]
        .imports
        .keys()
        .map(|key| resolve.name_world_key(key));
    Ok(names
        .map(|name| name.strip_prefix("dlm:plugin/").unwrap_or(&name).to_owned())
        .collect())
}

/// Appends a custom section: id 0, size, name with its length, contents.
fn append_section(bytes: &mut Vec<u8>, name: &str, contents: &[u8]) {
    let mut section = leb128(name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(contents);
    bytes.push(0);
    bytes.extend(leb128(section.len()));
    bytes.extend(section);
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

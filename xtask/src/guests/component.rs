//! From a core module to a component with its manifest.

use anyhow::Context;
use dlm_packages::manifest::append;
use wit_component::{ComponentEncoder, DecodedWasm};

/// Encodes a core module as a component and appends its manifest.
pub fn encode(module: &[u8], manifest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = ComponentEncoder::default()
        .module(module)
        .context("cannot read the module's description of its world")?
        .validate(true)
        .encode()
        .context("cannot make a component")?;
    append(&mut bytes, manifest);
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

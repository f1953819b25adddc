//! The contract, as this dlm carries it: the texts of `wit/`, the worlds in them, and bindings for C and Go.
//!
//! Invariants: an author's project and a packed module are made of the same texts; nothing is read from disk.

use wit_bindgen_core::Files;
use wit_component::StringEncoding;
use wit_parser::{Resolve, SourceMap, WorldId};

use crate::kind::Kind;

/// Major and minor version of the contract.
pub const API: (u64, u64) = (1, 0);
/// The same in words.
pub const API_SUPPORTED: &str = "1.0";

/// Each file of the contract, named as in an author's project.
pub(crate) const TEXTS: [(&str, &str); 7] = [
    ("wit/types.wit", include_str!("../../../wit/types.wit")),
    ("wit/host.wit", include_str!("../../../wit/host.wit")),
    ("wit/judge.wit", include_str!("../../../wit/judge.wit")),
    ("wit/teacher.wit", include_str!("../../../wit/teacher.wit")),
    ("wit/target.wit", include_str!("../../../wit/target.wit")),
    ("wit/destination.wit", include_str!("../../../wit/destination.wit")),
    ("wit/templates.wit", include_str!("../../../wit/templates.wit")),
];

/// Names of the section in which a core module says its world begin with this.
pub(crate) const WORLD_SECTION: &str = "component-type";

/// The contract read, and the world of a kind in it.
pub(crate) fn world(kind: Kind) -> (Resolve, WorldId) {
    let mut texts = SourceMap::default();
    for (path, text) in TEXTS {
        texts.push_str(path, text);
    }
    let group = texts.parse().map_err(|(_, error)| error);
    let mut resolve = Resolve::default();
    let package = resolve
        .push_group(group.expect("the contract can be read"))
        .expect("the contract names only what it holds");
    let world = resolve
        .select_world(&[package], Some(kind.world()))
        .expect("the contract has a world of every kind");
    (resolve, world)
}

/// Writes into a core module which worlds it is built for.
pub(crate) fn embed(module: &mut Vec<u8>, kinds: &[Kind]) {
    for kind in kinds {
        let (resolve, world) = world(*kind);
        wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
            .expect("a world of the contract can be written down");
    }
}

/// The bindings of a kind's world for C: a header, its code, and an object that names the world.
pub(crate) fn c_bindings(kind: Kind) -> Vec<(String, Vec<u8>)> {
    let (mut resolve, world) = world(kind);
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)
        .expect("bindings of the contract can be written");
    listed(&files)
}

/// The bindings of a kind's world for Go: a package for each interface below `<module>/bindings`. They call the functions of
/// the plugin in the package `<module>/export_dlm_plugin_<kind>`.
pub(crate) fn go_bindings(kind: Kind, module: &str) -> Vec<(String, Vec<u8>)> {
    let (mut resolve, world) = world(kind);
    let mut files = Files::default();
    let options = wit_bindgen_go::Opts {
        // gofmt is not asked: a project is the same on a machine without Go.
        format: wit_bindgen_go::Format::False,
        pkg_name: Some(format!("{module}/bindings")),
        export_pkg_name: Some(module.to_owned()),
        ..wit_bindgen_go::Opts::default()
    };
    options
        .build()
        .generate(&mut resolve, world, &mut files)
        .expect("bindings of the contract can be written");
    let dropped_later = |(name, bytes): (String, Vec<u8>)| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (name, drop_later(&text).into_bytes())
    };
    listed(&files).into_iter().map(dropped_later).collect()
}

/// Leaves it to the runtime beside the bindings when a handle that Go found unused is dropped: Go may find it where a component may
/// call nothing.
fn drop_later(text: &str) -> String {
    let line = |line: &str| {
        let drop = line.trim();
        match drop.starts_with("resourceDrop") && drop.ends_with("(handleValue)") {
            true => format!("witRuntime.DropLater(func() {{ {drop} }})\n"),
            false => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

fn listed(files: &Files) -> Vec<(String, Vec<u8>)> {
    files
        .iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_world_and_bindings() {
        for kind in Kind::ALL {
            let names: Vec<String> = c_bindings(kind).into_iter().map(|(name, _)| name).collect();
            let world = kind.world().replace('-', "_");
            for end in [".h", ".c", "_component_type.o"] {
                assert!(names.contains(&format!("{world}{end}")), "{names:?}");
            }
            let names: Vec<String> = go_bindings(kind, "m").into_iter().map(|(name, _)| name).collect();
            for file in [
                "wit_exports/wit_exports.go".to_owned(),
                "dlm_plugin_log/wit_bindings.go".to_owned(),
                format!("dlm_plugin_{}/wit_bindings.go", kind.name()),
            ] {
                assert!(names.contains(&file), "{names:?}");
            }
            for (name, bytes) in go_bindings(kind, "m") {
                let text = String::from_utf8(bytes).unwrap();
                let later = text.matches("DropLater(func() { resourceDrop").count();
                assert_eq!(later, text.matches("runtime.AddCleanup(").count(), "{name}");
            }
        }
    }
}

//! `dlm plugin new`: writes the project of a plugin, which builds with the language's own tools.
//!
//! Invariants: nothing that is there is overwritten; every language's project of a kind does the same, so that its cases
//! are the same files; a project holds its own copy of the contract and depends on nothing else of ours.

use std::path::PathBuf;

use super::disk;
use super::error::ManageError;
use crate::manifest::{Kind, is_name, is_reserved};
use crate::terminal::inert_line;

/// The contract, as every project gets it.
const WIT: [(&str, &str); 7] = [
    ("wit/types.wit", include_str!("../../../../wit/types.wit")),
    ("wit/host.wit", include_str!("../../../../wit/host.wit")),
    ("wit/judge.wit", include_str!("../../../../wit/judge.wit")),
    ("wit/teacher.wit", include_str!("../../../../wit/teacher.wit")),
    ("wit/target.wit", include_str!("../../../../wit/target.wit")),
    ("wit/destination.wit", include_str!("../../../../wit/destination.wit")),
    ("wit/templates.wit", include_str!("../../../../wit/templates.wit")),
];

/// Languages that projects are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
    Js,
    C,
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOptions {
    pub kind: Kind,
    pub name: String,
    pub language: Language,
    pub folder: PathBuf,
    /// The author's Rust has the standard library for `wasm32-unknown-unknown`; else it is built from its sources.
    pub has_rust_target: bool,
}

/// The files of a project, as path and text.
///
/// **Errors**: a name that no plugin can have.
pub fn files(options: &NewOptions) -> Result<Vec<(String, String)>, ManageError> {
    let name = options.name.as_str();
    if !is_name(name) || is_reserved(name) {
        let cause = match is_reserved(name) {
            true => "is the name of a plugin inside dlm",
            false => "is not a plugin name: a lower-case letter, then 1 to 39 lower-case letters, digits and `-`",
        };
        return Err(ManageError::Selector {
            text: inert_line(name),
            cause: cause.to_owned(),
            hint: Some("such as: dlm plugin new judge my-judge".to_owned()),
        });
    }
    let (build, wasm) = build(options);
    let readme = format!("{README}\n{}", needs(options));
    let mut files = vec![
        ("plugin.toml".to_owned(), PLUGIN_TOML.to_owned()),
        ("README.md".to_owned(), readme),
        (".gitignore".to_owned(), ignored(options.language).to_owned()),
    ];
    files.extend(
        sources(options)
            .into_iter()
            .map(|(path, text)| (path.to_owned(), text.to_owned())),
    );
    files.extend(cases(options.kind).map(|(path, text)| (path.to_owned(), text.to_owned())));
    files.extend(WIT.map(|(path, text)| (path.to_owned(), text.to_owned())));
    for (path, text) in &mut files {
        if !path.starts_with("wit/") {
            *text = text
                .replace("{{build}}", &build)
                .replace("{{wasm}}", &wasm)
                .replace("{{kind}}", options.kind.name())
                .replace("{{world}}", options.kind.world())
                .replace("{{bindings}}", &options.kind.world().replace('-', "_"))
                .replace("{{does}}", does(options.kind))
                .replace("{{name}}", name)
                .replace("{{NAME}}", &name.replace('-', "_"));
        }
    }
    Ok(files)
}

/// Writes the project; returns the paths of its files.
///
/// **Errors**: a name that no plugin can have, or a folder that is there and not empty.
pub fn write(options: &NewOptions) -> Result<Vec<PathBuf>, ManageError> {
    let files = files(options)?;
    let folder = &options.folder;
    let is_taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file();
    if is_taken {
        return Err(ManageError::Exists { path: folder.clone() });
    }
    let mut written = Vec::new();
    for (path, text) in files {
        let path = folder.join(path);
        disk::write(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// The build command, and the file that it leaves.
fn build(options: &NewOptions) -> (String, String) {
    let world = options.kind.world();
    match options.language {
        Language::Rust => {
            let release = "target/wasm32-unknown-unknown/release/{{NAME}}.wasm".to_owned();
            let command = match options.has_rust_target {
                true => "cargo build --release --target wasm32-unknown-unknown",
                false => {
                    "RUSTC_BOOTSTRAP=1 cargo build --release --target wasm32-unknown-unknown -Z build-std=std,panic_abort"
                }
            };
            (command.to_owned(), release)
        }
        Language::Python => (
            format!("componentize-py -d wit -w {world} componentize --stub-wasi app -o build/app.wasm"),
            "build/app.wasm".to_owned(),
        ),
        Language::Js => ("npm run --silent build".to_owned(), "build/app.wasm".to_owned()),
        Language::C => ("make".to_owned(), "build/plugin.wasm".to_owned()),
    }
}

fn ignored(language: Language) -> &'static str {
    match language {
        Language::Rust => "/target\n*.wasm\n*.minisig\n",
        Language::Python => "/build\n__pycache__\n*.wasm\n*.minisig\n",
        Language::Js => "/build\nnode_modules\n*.wasm\n*.minisig\n",
        Language::C => "/build\n*.wasm\n*.minisig\n",
    }
}

fn does(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => "Prefers answers with fewer words",
        Kind::Teacher => "Answers with the question",
        Kind::Target => "Writes a note about the exported model",
        Kind::Destination => "Says what it would upload",
        Kind::Templates => "Offers one template",
    }
}

fn needs(options: &NewOptions) -> &'static str {
    match options.language {
        Language::Rust if options.has_rust_target => include_str!("new/rust/needs.md"),
        Language::Rust => include_str!("new/rust/needs-build-std.md"),
        Language::Python => include_str!("new/python/needs.md"),
        Language::Js => include_str!("new/js/needs.md"),
        Language::C => include_str!("new/c/needs.md"),
    }
}

const PLUGIN_TOML: &str = include_str!("new/plugin.toml");
const README: &str = include_str!("new/README.md");

fn sources(options: &NewOptions) -> Vec<(&'static str, &'static str)> {
    let kind = options.kind;
    match options.language {
        Language::Rust => {
            let mut files = vec![
                ("Cargo.toml", include_str!("new/rust/Cargo.toml.txt")),
                ("src/lib.rs", rust(kind)),
            ];
            if !options.has_rust_target {
                files.push((".cargo/config.toml", include_str!("new/rust/cargo-config.toml")));
            }
            files
        }
        Language::Python => vec![("app.py", python(kind))],
        Language::Js => vec![
            ("app.js", js(kind)),
            ("package.json", include_str!("new/js/package.json")),
        ],
        Language::C => vec![
            ("plugin.c", c(kind)),
            ("small.c", include_str!("new/c/small.c")),
            ("include/stdlib.h", include_str!("new/c/stdlib.h")),
            ("include/string.h", include_str!("new/c/string.h")),
            ("Makefile", include_str!("new/c/Makefile")),
        ],
    }
}

fn rust(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => include_str!("new/rust/judge.rs"),
        Kind::Teacher => include_str!("new/rust/teacher.rs"),
        Kind::Target => include_str!("new/rust/target.rs"),
        Kind::Destination => include_str!("new/rust/destination.rs"),
        Kind::Templates => include_str!("new/rust/templates.rs"),
    }
}

fn python(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => include_str!("new/python/judge.py"),
        Kind::Teacher => include_str!("new/python/teacher.py"),
        Kind::Target => include_str!("new/python/target.py"),
        Kind::Destination => include_str!("new/python/destination.py"),
        Kind::Templates => include_str!("new/python/templates.py"),
    }
}

fn js(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => include_str!("new/js/judge.js"),
        Kind::Teacher => include_str!("new/js/teacher.js"),
        Kind::Target => include_str!("new/js/target.js"),
        Kind::Destination => include_str!("new/js/destination.js"),
        Kind::Templates => include_str!("new/js/templates.js"),
    }
}

fn c(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => include_str!("new/c/judge.c"),
        Kind::Teacher => include_str!("new/c/teacher.c"),
        Kind::Target => include_str!("new/c/target.c"),
        Kind::Destination => include_str!("new/c/destination.c"),
        Kind::Templates => include_str!("new/c/templates.c"),
    }
}

fn cases(kind: Kind) -> [(&'static str, &'static str); 2] {
    match kind {
        Kind::Judge => [
            ("cases/fewer-words-win.json", include_str!("new/cases/judge-1.json")),
            ("cases/refuses-an-argument.json", include_str!("new/cases/judge-2.json")),
        ],
        Kind::Teacher => [
            ("cases/answers.json", include_str!("new/cases/teacher-1.json")),
            (
                "cases/refuses-an-argument.json",
                include_str!("new/cases/teacher-2.json"),
            ),
        ],
        Kind::Target => [
            ("cases/writes-a-note.json", include_str!("new/cases/target-1.json")),
            (
                "cases/refuses-an-argument.json",
                include_str!("new/cases/target-2.json"),
            ),
        ],
        Kind::Destination => [
            ("cases/previews.json", include_str!("new/cases/destination-1.json")),
            (
                "cases/does-not-push-yet.json",
                include_str!("new/cases/destination-2.json"),
            ),
        ],
        Kind::Templates => [
            ("cases/lists.json", include_str!("new/cases/templates-1.json")),
            (
                "cases/unknown-template.json",
                include_str!("new/cases/templates-2.json"),
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::AuthorManifest;

    fn options(kind: Kind, language: Language, folder: PathBuf) -> NewOptions {
        NewOptions {
            kind,
            name: "my-plugin".to_owned(),
            language,
            folder,
            has_rust_target: false,
        }
    }

    #[test]
    fn every_project_has_a_valid_manifest_and_no_place_holder_left() {
        for kind in Kind::ALL {
            for language in [Language::Rust, Language::Python, Language::Js, Language::C] {
                let all = files(&options(kind, language, PathBuf::new())).unwrap();
                for (path, text) in &all {
                    assert!(!text.contains("{{"), "{path} of {kind}");
                    if path.ends_with(".json") {
                        serde_json::from_str::<serde_json::Value>(text).unwrap();
                    }
                }
                let toml = &all.iter().find(|(path, _)| path == "plugin.toml").unwrap().1;
                let author = AuthorManifest::parse(toml).unwrap();
                assert_eq!(author.manifest.kinds, [kind]);
                assert!(author.build_command.is_some() && author.build_wasm.is_some());
            }
        }
    }

    #[test]
    fn nothing_is_overwritten_and_names_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("p");
        let written = write(&options(Kind::Judge, Language::Rust, at.clone())).unwrap();
        assert!(written.iter().all(|path| path.is_file()));
        let error = write(&options(Kind::Judge, Language::Rust, at.clone())).unwrap_err();
        assert_eq!(error.code(), "plugin::conflict");
        for name in ["sway", "A", "../x"] {
            let mut options = options(Kind::Judge, Language::C, at.join("q"));
            options.name = name.to_owned();
            assert_eq!(write(&options).unwrap_err().code(), "plugin::invalid-input", "{name}");
        }
    }
}

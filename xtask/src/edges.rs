//! `cargo xtask edges`: the structure that the design asks for. Reads the manifests and refuses an edge between crates that is
//! not in the table; reads the sources and refuses what names the kernels or a model above the engine, circles of modules inside
//! a crate, long files and long functions.

mod boundary;
mod circles;
mod lengths;
mod locks;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::repository;

/// What each crate may depend on (`dlm-testkit` and `tests` are for tests and may see everything).
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("files", &["core"]),
    ("doc", &["core"]),
    ("plan", &["core", "doc"]),
    ("store", &["core", "files"]),
    ("kernels", &[]),
    ("model", &["core", "files", "kernels"]),
    ("candle", &["core", "model", "kernels"]),
    ("train", &["core", "plan", "model"]),
    ("export", &["core", "files", "plan", "model", "kernels"]),
    ("packages", &["core", "files"]),
    ("plugins", &["core", "files", "packages"]),
    ("net", &["core", "files"]),
    (
        "flow",
        &["core", "files", "doc", "plan", "store", "model", "train", "export"],
    ),
    (
        "cli",
        &[
            "core", "files", "doc", "plan", "store", "model", "train", "export", "packages", "plugins", "net", "flow",
        ],
    ),
];

/// Crates that must stay light: they may not reach these packages, however indirectly.
const KEPT_OUT: &[(&str, &[&str])] = &[
    ("core", &["candle-core", "wasmtime", "tokenizers"]),
    ("files", &["candle-core", "wasmtime", "tokenizers"]),
    ("doc", &["candle-core", "wasmtime", "tokenizers"]),
    ("plan", &["candle-core", "wasmtime", "tokenizers"]),
    ("store", &["candle-core", "wasmtime", "tokenizers"]),
    ("model", &["candle-core", "wasmtime", "rusqlite"]),
    ("candle", &["wasmtime", "rusqlite"]),
    ("train", &["candle-core", "wasmtime"]),
    ("export", &["candle-core", "wasmtime"]),
    ("flow", &["candle-core"]),
    ("cli", &["candle-core"]),
    ("packages", &["candle-core", "rusqlite", "wasmtime", "tokio"]),
    ("plugins", &["candle-core", "rusqlite"]),
];

/// Modules that may stand on a circle: the store's errors name the records they are about.
const CIRCLES_ALLOWED: &[(&str, &[&str])] = &[("store", &["error"])];

/// Checks every manifest and every source under `host/`.
pub fn run(_arguments: &[String]) -> Result<()> {
    let root = repository::root();
    let mut problems = check(&root)?;
    for (name, _) in ALLOWED {
        problems.extend(circle_problems(&root, name)?);
    }
    problems.extend(boundary::problems(&root)?);
    problems.extend(lengths::problems(&root.join("host"))?);
    problems.extend(lengths::problems(&root.join("xtask"))?);
    problems.extend(locks::problems(&root)?);
    if problems.is_empty() {
        println!("edges: every dependency between crates is allowed, no modules in a circle, nothing too long");
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}

/// The circles of one crate that are not allowed.
fn circle_problems(root: &std::path::Path, name: &str) -> Result<Vec<String>> {
    let allowed = CIRCLES_ALLOWED
        .iter()
        .find(|(of, _)| *of == name)
        .map_or(&[][..], |(_, on)| on);
    let found = circles::circles(&root.join("host").join(name).join("src"), allowed)?;
    Ok(found
        .into_iter()
        .map(|circle| {
            let place = match circle.parent.as_str() {
                "" => format!("dlm-{name}"),
                parent => format!("dlm-{name}, {parent}"),
            };
            format!(
                "{place}: the modules {} use each other in a circle:\n    {}",
                circle.modules.join(", "),
                circle.uses.join("\n    ")
            )
        })
        .collect())
}

fn check(root: &std::path::Path) -> Result<Vec<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, _) in ALLOWED {
        graph.insert((*name).to_owned(), dependencies(root, name)?);
    }
    let mut problems = Vec::new();
    for (name, allowed) in ALLOWED {
        for dependency in &graph[*name] {
            if let Some(ours) = dependency.strip_prefix("dlm-")
                && !allowed.contains(&ours)
            {
                problems.push(format!("dlm-{name} may not depend on dlm-{ours}"));
            }
        }
    }
    for (name, kept_out) in KEPT_OUT {
        for package in reach(&graph, name) {
            if kept_out.contains(&package.as_str()) {
                problems.push(format!(
                    "dlm-{name} reaches `{package}`, which its place in the map keeps out"
                ));
            }
        }
    }
    Ok(problems)
}

/// Direct, non-development dependencies of one crate.
fn dependencies(root: &std::path::Path, name: &str) -> Result<BTreeSet<String>> {
    let path = root.join("host").join(name).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let manifest: toml::Table = text.parse().with_context(|| format!("parsing {}", path.display()))?;
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    Ok(table.map(|t| t.keys().cloned().collect()).unwrap_or_default())
}

fn reach(graph: &BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(current) = open.pop() {
        for dependency in graph.get(&current).into_iter().flatten() {
            if seen.insert(dependency.clone()) {
                open.push(dependency.strip_prefix("dlm-").unwrap_or(dependency).to_owned());
            }
        }
    }
    seen
}

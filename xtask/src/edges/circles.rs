//! Circles of modules inside a crate: two neighbors in one directory that, through any number of others, use each other.
//!
//! Reads the sources as text: paths that begin with `crate`, `super` or `self`, groups of `use` included, names that a module
//! passes on (`pub use`) followed to where they are defined. A child that uses its parent's own items is no circle, nor a
//! parent that uses its children. Tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use super::source::{self, Source};

/// A module's path below the crate's root; empty for the root itself.
type Module = Vec<String>;

/// One circle: the directory it lies in and the modules on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle {
    pub parent: String,
    pub modules: Vec<String>,
    /// The uses that close it: module, and the path that it names.
    pub uses: Vec<String>,
}

/// Returns the circles of the crate whose sources lie in `root` (its `src`), leaving out modules that may stand on one.
pub fn circles(root: &Path, allowed: &[&str]) -> Result<Vec<Circle>> {
    let mut modules: BTreeMap<Module, String> = BTreeMap::new();
    for source in source::below(root)? {
        let Source { path, text } = source;
        let relative = path.strip_prefix(root).context("a source lies below its crate")?;
        let module = module_of(relative);
        if module.first().is_some_and(|first| allowed.contains(&first.as_str())) {
            continue;
        }
        modules.insert(module, source::without_tests(&source::without_comments(&text)));
    }
    Ok(of_modules(&modules))
}

fn of_modules(modules: &BTreeMap<Module, String>) -> Vec<Circle> {
    let names: BTreeSet<&Module> = modules.keys().collect();
    let passed_on = passed_on(modules);
    // Per parent: which of its children uses which.
    let mut uses: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let mut named: BTreeSet<(Module, String, String, String)> = BTreeSet::new();
    for (module, text) in modules {
        for path in paths(text, module) {
            let target = resolve(&path, &names, &passed_on);
            let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let children = uses.entry(module[..shared].to_vec()).or_default();
                children.entry(from.clone()).or_default().insert(to.clone());
                let what = format!("{} uses {}", module.join("::"), path.join("::"));
                named.insert((module[..shared].to_vec(), from.clone(), to.clone(), what));
            }
        }
    }
    let mut found = Vec::new();
    for (parent, edges) in &uses {
        for group in strongly_connected(edges) {
            let is_on = |name: &String| group.contains(name);
            let closing = named
                .iter()
                .filter(|(place, from, to, _)| place == parent && is_on(from) && is_on(to));
            found.push(Circle {
                parent: parent.join("::"),
                uses: closing.map(|(.., what)| what.clone()).collect(),
                modules: group,
            });
        }
    }
    found
}

fn module_of(relative: &Path) -> Module {
    let mut parts: Module = relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if matches!(parts.last().map(String::as_str), Some("lib" | "main" | "mod")) {
        parts.pop();
    }
    parts
}

/// The names that a module passes on with `pub use`, with the path that each stands for.
fn passed_on(modules: &BTreeMap<Module, String>) -> BTreeMap<(Module, String), Module> {
    let mut found = BTreeMap::new();
    for (module, text) in modules {
        for (start, _) in text.match_indices("use ") {
            let before = text[..start].rsplit(['\n', ';', '}']).next().unwrap_or_default().trim();
            if !before.starts_with("pub") {
                continue;
            }
            let statement = text[start + 4..].split(';').next().unwrap_or_default();
            for path in tree(statement) {
                let Some(name) = path.last() else { continue };
                let absolute = absolute(&path, module);
                found.insert((module.clone(), name.clone()), absolute);
            }
        }
    }
    found
}

/// Every path of a text that begins with `crate`, `super` or `self`, from the crate's root.
fn paths(text: &str, module: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for word in ["crate::", "super::", "self::"] {
        for (start, _) in text.match_indices(word) {
            let is_word = !text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_word {
                found.extend(tree(&text[start..]).into_iter().map(|path| absolute(&path, module)));
            }
        }
    }
    found
}

/// A relative path from the crate's root.
fn absolute(path: &[String], module: &Module) -> Module {
    let mut base = module.clone();
    let mut rest = path;
    match rest.first().map(String::as_str) {
        Some("crate") => {
            base.clear();
            rest = &rest[1..];
        }
        Some("self") => rest = &rest[1..],
        _ => {}
    }
    while rest.first().is_some_and(|part| part == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend(rest.iter().cloned());
    base
}

/// The module that a path leads to, following names that are passed on.
fn resolve(path: &Module, names: &BTreeSet<&Module>, passed_on: &BTreeMap<(Module, String), Module>) -> Module {
    let mut path = path.clone();
    // A chain of `pub use` is short; the limit stops one that leads back to itself.
    for _ in 0..8 {
        let depth = (0..=path.len())
            .rev()
            .find(|&n| names.contains(&path[..n].to_vec()))
            .unwrap_or(0);
        let module = path[..depth].to_vec();
        let next = path
            .get(depth)
            .and_then(|name| passed_on.get(&(module.clone(), name.clone())));
        match next {
            Some(next) if *next != path => path = next.clone(),
            _ => return module,
        }
    }
    path
}

/// The paths that the text begins with: one, or several where it branches into `{…}`.
fn tree(text: &str) -> Vec<Vec<String>> {
    let mut at = text.trim_start();
    let mut path = Vec::new();
    loop {
        let end = at
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(at.len());
        if end == 0 {
            break;
        }
        path.push(at[..end].to_owned());
        match at[end..].strip_prefix("::") {
            Some(rest) => at = rest,
            None => return vec![path],
        }
    }
    match at.strip_prefix('{') {
        None => vec![path],
        Some(group) => branches(group)
            .iter()
            .flat_map(|branch| tree(branch))
            .map(|tail| [path.clone(), tail].concat())
            .collect(),
    }
}

/// The parts of a group, up to its closing brace.
fn branches(group: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (place, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(group[start..place].trim());
                start = place + 1;
            }
            '}' if depth == 0 => {
                found.push(group[start..place].trim());
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|part| !part.is_empty());
    found
}

/// Groups of more than one name that all reach each other.
fn strongly_connected(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open = vec![from.clone()];
        while let Some(current) = open.pop() {
            for next in edges.get(&current).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|name| (name, reach(name))).collect();
    let mut groups = BTreeSet::new();
    for (name, far) in &reached {
        let group: BTreeSet<String> = far
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*name)))
            .cloned()
            .collect();
        if group.len() > 1 {
            groups.insert(group.into_iter().collect());
        }
    }
    groups.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<Circle> {
        let modules = files
            .iter()
            .map(|(name, text)| (module_of(Path::new(name)), (*text).to_owned()))
            .collect();
        of_modules(&modules)
    }

    #[test]
    fn neighbors_that_use_each_other_are_a_circle() {
        let found = check(&[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::{b::X, c};"),
            ("b.rs", "use super::c::Y;"),
            ("c.rs", "fn f() { crate::a::g() }"),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].modules, ["a", "b", "c"]);
    }

    #[test]
    fn names_that_are_passed_on_lead_to_where_they_are_defined() {
        let found = check(&[
            ("lib.rs", "mod a; mod b;\npub use b::X;"),
            ("a.rs", "use crate::X;"),
            ("b.rs", "use crate::a::Z;"),
        ]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn parents_and_children_are_no_circle() {
        let found = check(&[
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; use self::b::X;"),
            ("a/b.rs", "use super::Y;"),
        ]);
        assert_eq!(found, []);
    }
}

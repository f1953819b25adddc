//! The fuzzers' lock file beside the product's: what is fuzzed is what ships, and what ships now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

/// What makes the two equal.
const REMEDY: &str = "`cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml` makes them equal";
/// Packages of the fuzzers alone.
const OWN: [&str; 2] = ["dlm-fuzz", "libfuzzer-sys"];

/// Says which packages of `fuzz/Cargo.lock` have another version than in the product's or are not part of it, and which of ours
/// have dependencies that it does not know.
pub fn problems(root: &Path) -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = root.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.parse::<toml::Table>()
            .with_context(|| format!("parsing {}", path.display()))
    };
    let (product, fuzzers) = (read("Cargo.lock")?, read("fuzz/Cargo.lock")?);
    let mut problems = compare(&versions(&product)?, &versions(&fuzzers)?);
    for package in packages(&fuzzers)? {
        let name = package.get("name").and_then(toml::Value::as_str).unwrap_or_default();
        let Some(ours) = name.strip_prefix("dlm-").filter(|_| !OWN.contains(&name)) else {
            continue;
        };
        let wanted = super::dependencies(root, ours)?;
        problems.extend(
            unknown(package, &wanted).map(|dependency| {
                format!("fuzz/Cargo.lock does not know that {name} depends on {dependency}; {REMEDY}")
            }),
        );
    }
    Ok(problems)
}

fn packages(lock: &toml::Table) -> Result<&Vec<toml::Value>> {
    lock.get("package")
        .and_then(toml::Value::as_array)
        .context("no packages")
}

/// The wanted dependencies that a package of a lock file does not have; where a name stands for two versions, one follows it.
fn unknown<'w>(package: &toml::Value, wanted: &'w BTreeSet<String>) -> impl Iterator<Item = &'w String> {
    let known = package.get("dependencies").and_then(toml::Value::as_array);
    let known = known.into_iter().flatten().filter_map(toml::Value::as_str);
    let known: BTreeSet<String> = known
        .filter_map(|text| text.split(' ').next())
        .map(str::to_owned)
        .collect();
    wanted.iter().filter(move |name| !known.contains(*name))
}

type Versions = BTreeMap<String, BTreeSet<String>>;

fn versions(lock: &toml::Table) -> Result<Versions> {
    let mut found = Versions::new();
    for package in packages(lock)? {
        let text = |key| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let name = text("name").context("a package has no name")?;
        found.entry(name).or_default().extend(text("version"));
    }
    Ok(found)
}

fn compare(product: &Versions, fuzzers: &Versions) -> Vec<String> {
    let others = fuzzers.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let differing = others.filter_map(|(name, versions)| {
        let shipped = product.get(name).cloned().unwrap_or_default();
        let strange: Vec<&str> = versions.difference(&shipped).map(String::as_str).collect();
        let shipped: Vec<&str> = shipped.iter().map(String::as_str).collect();
        (!strange.is_empty()).then(|| {
            format!(
                "fuzz/Cargo.lock has {name} {}, Cargo.lock has {}; {REMEDY}",
                strange.join(" and "),
                match shipped.is_empty() {
                    true => "none".to_owned(),
                    false => shipped.join(" and "),
                }
            )
        })
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_and_a_package_of_its_own_are_told() {
        let lock = |packages: &[(&str, &str)]| {
            let text = packages
                .iter()
                .map(|(name, version)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n"));
            versions(&text.collect::<String>().parse().unwrap()).unwrap()
        };
        let product = lock(&[
            ("serde", "1.0.1"),
            ("half", "1.0.0"),
            ("half", "2.0.0"),
            ("clap", "4.0.0"),
        ]);
        let equal = lock(&[
            ("serde", "1.0.1"),
            ("half", "2.0.0"),
            ("dlm-fuzz", "0.0.0"),
            ("libfuzzer-sys", "0.4.13"),
        ]);
        assert_eq!(compare(&product, &equal), Vec::<String>::new());
        let other = compare(
            &product,
            &lock(&[("serde", "1.0.2"), ("half", "2.0.0"), ("rand", "0.9.0")]),
        );
        assert_eq!(other.len(), 2);
        assert!(other[0].contains("has rand 0.9.0, Cargo.lock has none"), "{other:?}");
        assert!(other[1].contains("has serde 1.0.2, Cargo.lock has 1.0.1"), "{other:?}");
    }

    #[test]
    fn a_new_dependency_of_ours_is_missed() {
        let package: toml::Table = "dependencies = [\"serde\", \"half 2.0.0\"]".parse().unwrap();
        let wanted = ["half", "serde", "zstd"].map(str::to_owned).into();
        let missed: Vec<_> = unknown(&toml::Value::Table(package), &wanted).collect();
        assert_eq!(missed, ["zstd"]);
    }
}

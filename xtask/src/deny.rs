//! `cargo xtask deny`: what `deny.toml` says of licenses, duplicate versions, banned crates and sources, checked offline.
//!
//! The same file is read by `cargo deny check`, which also knows advisories and needs a network. This part needs nothing
//! but cargo, so that a clean clone can hold the rules. Dependencies of tests are left out, as cargo-deny does.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::repository;

/// The parts of `deny.toml` that are checked here.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Exception>,
    deny: Vec<Exception>,
}

/// A crate, or `crate@version` with as many parts of the version as matter, and why it stands in the list.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

/// One outside package that is compiled into what ships.
#[derive(Debug, PartialEq)]
struct Package {
    name: String,
    version: String,
    license: String,
    is_from_registry: bool,
}

/// Checks the workspace against `deny.toml`.
pub fn run(_arguments: &[String]) -> Result<()> {
    let path = repository::root().join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules: Rules = toml::from_str(&text).context("reading deny.toml")?;
    let target = rules.graph.targets.first().context("deny.toml names no target")?;
    let packages = shipped(&metadata(target)?)?;
    ensure!(
        packages.len() > 50,
        "cargo metadata lists only {} packages",
        packages.len()
    );
    let problems = check(&rules, &packages);
    if problems.is_empty() {
        println!(
            "deny: licenses, versions and sources of {} packages are allowed",
            packages.len()
        );
        return Ok(());
    }
    bail!("{}", problems.join("\n"))
}

fn metadata(target: &str) -> Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--filter-platform", target])
        .current_dir(repository::root())
        .output()
        .context("starting cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Follows normal and build dependencies from the workspace's members.
fn shipped(metadata: &Value) -> Result<Vec<Package>> {
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes.context("cargo metadata resolves nothing")? {
        let id = node["id"].as_str().context("a node without an id")?;
        let edges = node["deps"].as_array().into_iter().flatten();
        let kept = edges.filter(|edge| {
            let mut kinds = edge["dep_kinds"].as_array().into_iter().flatten();
            kinds.any(|kind| kind["kind"] != "dev")
        });
        needs.insert(id, kept.filter_map(|edge| edge["pkg"].as_str()).collect());
    }
    let members = metadata["workspace_members"].as_array().into_iter().flatten();
    let mut open: Vec<&str> = members.filter_map(Value::as_str).collect();
    let mut seen: BTreeSet<&str> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        for next in needs.get(id).into_iter().flatten() {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // A package of the repository itself has no source.
    let outside = packages.filter(|p| p["id"].as_str().is_some_and(|id| seen.contains(id)) && !p["source"].is_null());
    Ok(outside
        .map(|p| Package {
            name: word(&p["name"]),
            version: word(&p["version"]),
            license: word(&p["license"]),
            is_from_registry: word(&p["source"]).starts_with("registry+"),
        })
        .collect())
}

fn check(rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let Package { name, version, .. } = package;
        versions.entry(name).or_default().insert(version);
        if !is_allowed(&package.license, &rules.licenses.allow) {
            problems.push(format!(
                "{name} {version}: license `{}` is not allowed",
                package.license
            ));
        }
        if !package.is_from_registry {
            problems.push(format!("{name} {version} does not come from a registry"));
        }
        if let Some(ban) = rules.bans.deny.iter().find(|ban| matches(&ban.spec, name, version)) {
            problems.push(format!("{name} {version} is banned: {}", ban.reason));
        }
    }
    let is_skipped = |name: &str, version: &str| rules.bans.skip.iter().any(|skip| matches(&skip.spec, name, version));
    for (name, versions) in &versions {
        let kept: Vec<&&str> = versions.iter().filter(|version| !is_skipped(name, version)).collect();
        if kept.len() > 1 {
            problems.push(format!(
                "{name} comes in versions {kept:?}; unite them, or add a `skip` with a reason"
            ));
        }
    }
    for skip in &rules.bans.skip {
        let is_needed = versions
            .iter()
            .any(|(name, versions)| versions.len() > 1 && versions.iter().any(|v| matches(&skip.spec, name, v)));
        if !is_needed {
            problems.push(format!("the skip of `{}` is no longer needed; remove it", skip.spec));
        }
        if skip.reason.trim().is_empty() {
            problems.push(format!("the skip of `{}` has no reason", skip.spec));
        }
    }
    problems
}

/// `name`, or `name@1.2` for every version that begins with these parts.
fn matches(spec: &str, name: &str, version: &str) -> bool {
    let Some((wanted, prefix)) = spec.split_once('@') else {
        return spec == name;
    };
    let mut parts = version.split('.');
    wanted == name && prefix.split('.').all(|part| parts.next() == Some(part))
}

/// Evaluates an SPDX expression: `AND` binds closer than `OR`, `/` is an old way to write `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = any_of(&tokens, &mut at, allowed);
    verdict && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= all_of(tokens, at, allowed);
    }
    verdict
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(tokens, at, allowed);
    }
    verdict
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(token) = tokens.get(*at) else {
        return false;
    };
    *at += 1;
    if *token == "(" {
        let verdict = any_of(tokens, at, allowed);
        let is_closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return verdict && is_closed;
    }
    let mut license = (*token).to_owned();
    if tokens.get(*at) == Some(&"WITH") {
        license = format!("{license} WITH {}", tokens.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&license)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> BTreeSet<String> {
        ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn expressions_are_evaluated() {
        for (expression, verdict) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT/GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("(GPL-3.0 OR MIT) AND ISC", true),
            ("MIT OR GPL-3.0 AND ISC", true),
            ("(MIT OR ISC", false),
            ("MIT ISC", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed()), verdict, "{expression}");
        }
    }

    #[test]
    fn each_rule_is_broken_by_something() {
        let package = |name: &str, version: &str, license: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.to_owned(),
            is_from_registry: name != "forked",
        };
        let exception = |spec: &str| Exception {
            spec: spec.to_owned(),
            reason: "because".to_owned(),
        };
        let rules = Rules {
            graph: Graph { targets: Vec::new() },
            licenses: Licenses { allow: allowed() },
            bans: Bans {
                skip: vec![exception("old@0.1"), exception("gone@1")],
                deny: vec![exception("banned")],
            },
        };
        let packages = [
            package("old", "0.1.9", "MIT"),
            package("old", "0.10.0", "MIT"),
            package("twice", "1.0.0", "MIT"),
            package("twice", "2.0.0", "MIT"),
            package("banned", "1.0.0", "MIT"),
            package("forked", "1.0.0", "MIT"),
            package("copyleft", "1.0.0", "GPL-3.0"),
        ];
        let problems = check(&rules, &packages);
        let expected = [
            "banned 1.0.0 is banned",
            "forked 1.0.0 does not come",
            "copyleft 1.0.0: license `GPL-3.0`",
            "twice comes in versions",
            "the skip of `gone@1`",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }
}

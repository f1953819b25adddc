//! Directories of files: copied, cleared, listed by names that do not depend on time and chance.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::repository;

/// Removes a directory with all that is in it.
pub(super) fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| format!("clearing {}", directory.display()))?;
    }
    Ok(())
}

/// Copies a file with its permissions.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        make(directory)?;
    }
    std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

pub(super) fn make(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))
}

/// Copies a directory: links as links, and empty directories too.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    make(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry.with_context(|| format!("listing {}", from.display()))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry
            .file_type()
            .with_context(|| format!("reading {}", path.display()))?;
        if kind.is_symlink() {
            let leads = std::fs::read_link(&path).with_context(|| format!("reading {}", path.display()))?;
            std::os::unix::fs::symlink(leads, &target).with_context(|| format!("linking {}", target.display()))?;
        } else if kind.is_dir() {
            copy(&path, &target)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

/// The files and empty directories below a directory, by names without numbers, ids and hashes.
pub(super) fn names(directory: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for path in repository::files_below(directory)? {
        let name = path
            .strip_prefix(directory)
            .expect("it lies below")
            .display()
            .to_string();
        found.insert(plain(&name));
    }
    Ok(found)
}

/// A name whose ids and hashes are `*` and whose numbers are `#`: what differs between two runs of one command.
pub(super) fn plain(name: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in name.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        out.push_str(&plain_word(&word));
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

fn plain_word(word: &str) -> String {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_hash = word.len() >= 12 && digits >= 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    // 26 characters of Crockford's alphabet; a time such as 20260101T120000 is a number.
    let is_id = word.len() == 26 && digits >= 2;
    if is_hash || is_id {
        return "*".to_owned();
    }
    let mut out = String::new();
    for c in word.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_time_and_chance_put_in() {
        for (name, expected) in [
            (
                "store/01HF7YAT0004106R0430MG2000/adapter/versions/v0001/x",
                "store/*/adapter/versions/v#/x",
            ),
            ("logs/train-000002-20260101T120000.jsonl", "logs/train-#-#T#.jsonl"),
            ("cache/text/0a1b2c3d4e5f6071.json", "cache/text/*.json"),
            ("a.dlm", "a.dlm"),
            (".x.adding.77", ".x.adding.#"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}

//! Rust sources as text: what is left of a file without its comments and its tests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::repository;

/// One file.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// Every Rust source below `root` that is not a test's.
pub fn below(root: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for path in repository::files_below(root)? {
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests")
            || path.components().any(|part| part.as_os_str() == "tests");
        if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            found.push(Source { path, text });
        }
    }
    Ok(found)
}

/// The text without `//` comments; a `//` inside a string is taken for one, which shortens the string and nothing else.
pub fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        })
}

/// The text without the items behind `#[cfg(test)]`.
pub fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        // The format of the sources is fixed: an item ends at a brace that stands as far left as the attribute.
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        for line in lines.by_ref() {
            if line == end
                || (line.starts_with(indent)
                    && line.trim_end().ends_with(';')
                    && !line[indent.len()..].starts_with(' '))
            {
                break;
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_comments_are_left_out() {
        let text = "use a; // b\n#[cfg(test)]\nmod tests;\n\n#[cfg(test)]\nmod more {\n    use c;\n}\nuse d;\n";
        assert_eq!(without_tests(&without_comments(text)), "use a; \n\nuse d;\n");
    }
}

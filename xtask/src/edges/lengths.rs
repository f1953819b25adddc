//! Files and functions that are too long to be read in one go.
//!
//! Tests may have long functions, not long files; a function that is one table counts as nothing.

use std::path::Path;

use anyhow::Result;

use crate::repository;

/// Most lines of a file.
const FILE_LINES: usize = 600;
/// Most lines of a function, from its signature to its brace.
const FUNCTION_LINES: usize = 70;

/// Says which files and functions of the sources below `root` are too long.
pub fn problems(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in repository::files_below(root)? {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let place = path
            .strip_prefix(repository::root())
            .unwrap_or(&path)
            .display()
            .to_string();
        let lines = text.lines().count();
        if lines > FILE_LINES {
            found.push(format!("{place} has {lines} lines, at most {FILE_LINES} are allowed"));
        }
        // A test that is a table of cases may be long; what ships may not.
        if !place.contains("/tests/") && !place.ends_with("tests.rs") {
            let long = functions(&text)
                .into_iter()
                .filter(|(_, lines)| *lines > FUNCTION_LINES);
            found.extend(long.map(|(name, lines)| {
                format!("{place}: `{name}` has {lines} lines, at most {FUNCTION_LINES} are allowed")
            }));
        }
    }
    Ok(found)
}

/// Name and length of every function of a formatted source; one that is a single table (`match` with only arms of one line
/// behind its signature) counts as nothing.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}}}");
        // The signature ends where a brace opens; in a macro's pattern it ends otherwise.
        let signature = lines[start..]
            .iter()
            .position(|line| line.ends_with(['{', ';', '}']) || line.contains("=> "));
        if signature.is_none_or(|end| !lines[start + end].ends_with('{')) {
            continue;
        }
        let end = lines[start..].iter().position(|line| *line == close);
        if let Some(length) = end {
            let body = &lines[start + 1..start + length];
            let arms = body.iter().filter(|line| line.contains("=>")).count();
            found.push((name, if arms * 10 >= body.len() * 8 { 0 } else { length + 1 }));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub") {
        rest = match after.strip_prefix('(') {
            Some(inner) => inner.split_once(')')?.1,
            None => after,
        };
        rest = rest.trim_start();
    }
    for word in ["const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(name.len());
    (!line.trim_end().ends_with(';')).then(|| name[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_the_signature_to_the_brace() {
        let text = "fn a() {\n    1\n}\n\nimpl B {\n    pub(crate) const fn c(\n        x: u8,\n    ) -> u8 {\n        x\n    }\n}\n";
        assert_eq!(functions(text), [("a".to_owned(), 3), ("c".to_owned(), 5)]);
    }

    #[test]
    fn a_table_counts_as_nothing() {
        let arms: String = (0..90).map(|n| format!("        {n} => {n},\n")).collect();
        let text = format!("fn table(n: u8) -> u8 {{\n    match n {{\n{arms}    }}\n}}\n");
        assert_eq!(functions(&text), [("table".to_owned(), 0)]);
    }
}

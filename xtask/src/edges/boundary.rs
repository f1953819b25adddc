//! The boundary of the engines: whoever trains, reads or exports sees no kernel and no model in main memory.
//!
//! Reads the sources as text. The manifests keep the kernels out as well; a path through another crate would get past them.

use std::path::Path;

use anyhow::Result;

use super::source;

/// The crates above the boundary; what the engine shows them is `dlm_model::engine`.
const ABOVE: &[&str] = &["train", "flow", "cli"];

/// Says which sources name what lies behind the boundary.
pub fn problems(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for name in ABOVE {
        for source in source::below(&root.join("host").join(name).join("src"))? {
            let text = source::without_tests(&source::without_comments(&source.text));
            let place = source.path.strip_prefix(root).unwrap_or(&source.path).display();
            let say = |what| format!("{place} names `{what}`, which lies behind the engine (`dlm_model::Engine`)");
            problems.extend(named(&text).into_iter().map(say));
        }
    }
    Ok(problems)
}

/// What of that lies behind the boundary a source names.
fn named(text: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    if words(text).any(|word| word == "dlm_kernels") {
        found.push("dlm_kernels");
    }
    if text.split("dlm_model::").skip(1).any(names_model) {
        found.push("dlm_model::Model");
    }
    found
}

/// Whether a path below `dlm_model`, or a group of them, has the struct `Model` in it.
fn names_model(path: &str) -> bool {
    let path = path.strip_prefix("model::").unwrap_or(path);
    match path.strip_prefix('{') {
        Some(group) => {
            let mut depth = 1;
            let end = group.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0
            });
            words(&group[..end.unwrap_or(group.len())]).any(|word| word == "Model")
        }
        None => words(path).next() == Some("Model") && path.starts_with("Model"),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn kernels_and_models_are_found_however_they_are_named() {
        for (text, found) in [
            ("use dlm_kernels::Ctx;", vec!["dlm_kernels"]),
            ("let m: &dlm_model::Model = x;", vec!["dlm_model::Model"]),
            ("use dlm_model::model::Model;", vec!["dlm_model::Model"]),
            (
                "use dlm_model::{Adapter, text::{Stops, TextModel}, Model};",
                vec!["dlm_model::Model"],
            ),
            ("use dlm_model::{Adapter, Engine}; struct Model;", vec![]),
            (
                "use dlm_model::text::TextModel; use dlm_core::ports::model::Model;",
                vec![],
            ),
            ("fn my_dlm_kernels() {}", vec![]),
        ] {
            assert_eq!(named(text), found, "{text}");
        }
    }
}

//! Sections of the page of benchmarks, each replaced where it stands.

use anyhow::{Context, Result};

use crate::repository;

/// Puts a section in the place of the one with its heading, or before the section `next`.
pub(super) fn write(heading: &str, section: &str, next: &str) -> Result<()> {
    let file = repository::root().join("docs/internals/benchmarks.md");
    let page = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    std::fs::write(&file, placed(&page, heading, section, next))?;
    Ok(())
}

fn placed(page: &str, heading: &str, section: &str, next: &str) -> String {
    let own = page.find(&format!("{heading}\n"));
    let start = own.or_else(|| page.find(next)).unwrap_or(page.len());
    let end = match own {
        Some(start) => page[start + 1..]
            .find("\n## ")
            .map_or(page.len(), |at| start + 1 + at + 1),
        None => start,
    };
    format!("{}{}\n\n{}", &page[..start], section.trim_end(), &page[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_takes_the_place_of_the_one_before() {
        let page = "# B\n\n## Training step\n\nx\n\n## Writing a GGUF file\n\ny\n";
        let put = |page: &str, section: &str| placed(page, "## Preferences", section, "## Writing");
        let once = put(page, "## Preferences\n\n1\n");
        assert_eq!(
            once,
            "# B\n\n## Training step\n\nx\n\n## Preferences\n\n1\n\n## Writing a GGUF file\n\ny\n"
        );
        assert_eq!(put(&once, "## Preferences\n\n2\n"), once.replace('1', "2"));
    }
}

//! The page of the document's grammar: its rules out of the parser's tables, its errors out of the parser's mouth.
//!
//! Invariants: no message is written here; each one is what the parser says about the text beside it.

use dlm_doc::grammar::{self, ADAPTER_NAME_PATTERN, PROBE, Sample};
use dlm_doc::{ErrorClass, Limits, check};

/// Makes the page.
pub fn page() -> String {
    let mut out = String::from(
        "# The document's grammar\n\nWritten by `cargo xtask docs` out of the parser. The keys of the frontmatter have [a page of their own](frontmatter.md);\n\
         [the document](../concepts/document.md) says what all of this is for.\n\n",
    );
    out.push_str(LAYOUT);
    sections(&mut out);
    markers(&mut out);
    limits(&mut out);
    errors(&mut out);
    warnings(&mut out);
    out
}

const LAYOUT: &str = "## Layout\n\n```\n---                     line 1, exactly these three characters\nkey: value              the frontmatter, YAML\n---                     \
     the first later line that is exactly `---`\n\nprose                   the body: prose, until a fence starts another section\n\n::instruction::         \
     a fence: the whole line but for blanks around it\n### Q\na question\n### A\nits answer\n\n::prose::               back to prose\n```\n\n\
     The file is UTF-8; CRLF and CR count as LF. A fence ends the section above it; nothing else does. Fences and headers inside a block\n\
     between runs of three or more backticks are text.\n\n";

fn sections(out: &mut String) {
    out.push_str("## Sections\n\n| fence | attributes | one row is |\n|---|---|---|\n");
    for rule in grammar::sections() {
        let attributes: Vec<String> = rule
            .required
            .iter()
            .map(|key| format!("`{key}`"))
            .chain(rule.optional.iter().map(|key| format!("`{key}`, if you like")))
            .collect();
        let row = match rule.headers {
            [] if rule.kind.is_media() => "the file with the text below the fence".to_owned(),
            [] => "all of its text".to_owned(),
            headers => {
                let headers: Vec<String> = headers.iter().map(|header| format!("`{header}`")).collect();
                format!("{}, each on its own line with text below it", headers.join(", "))
            }
        };
        out.push_str(&format!(
            "| {} | {} | {row} |\n",
            code(rule.example),
            attributes.join(", ")
        ));
    }
    out.push_str(&format!(
        "\nA name behind `#`, as in `::instruction#tone::`, sends a section to that adapter; it matches `{ADAPTER_NAME_PATTERN}` and is declared\n\
         under `training.adapters`. `{PROBE}` in the place of `### Q` marks a question as a probe: it trains like the others.\n\
         Attribute values are ASCII without quotation marks.\n\n",
    ));
}

fn markers(out: &mut String) {
    out.push_str(
        "## Markers\n\nTools write a comment directly under the fence of a section that they made. It is not part of the section's text or id.\n\n\
         | marker | in | attributes, all required |\n|---|---|---|\n",
    );
    for marker in grammar::markers() {
        let kinds: Vec<&str> = marker.kinds.iter().map(|kind| kind.as_str()).collect();
        let keys: Vec<String> = marker.keys.iter().map(|key| format!("`{key}`")).collect();
        out.push_str(&format!(
            "| `<!-- {}: … -->` | {} | {} |\n",
            marker.name,
            kinds.join(", "),
            keys.join(", ")
        ));
    }
    out.push('\n');
}

fn limits(out: &mut String) {
    let limits = Limits::default();
    out.push_str("## Limits\n\n| what | bytes | beyond it |\n|---|---|---|\n");
    for (what, bytes, beyond) in [
        ("the document", limits.document_bytes_max, ErrorClass::Limit.as_str()),
        (
            "the frontmatter",
            limits.frontmatter_bytes_max,
            ErrorClass::Limit.as_str(),
        ),
        ("one section", limits.section_bytes_max, ErrorClass::Limit.as_str()),
        ("one section", limits.section_bytes_warn, "a warning"),
    ] {
        out.push_str(&format!("| {what} | {bytes} | {beyond} |\n"));
    }
    out.push('\n');
}

/// Every error, below the name of its class.
fn errors(out: &mut String) {
    out.push_str(
        "## Errors\n\n`dlm check` prints all of them at once, each with its line; a document with any of them is not trained. `⏎` stands for the end\n\
         of a line. The line is counted within the text shown; a line inside a message counts from the top of the file.\n",
    );
    let mut rows: Vec<(String, String)> = grammar::ERRORS.iter().map(error).collect();
    // A byte that no text can hold.
    let bytes = check(b"---\n\xff", &Limits::default());
    let encoding = bytes.outcome.expect_err("0xff is no UTF-8");
    let first = encoding.first();
    rows.insert(
        0,
        (
            first.class.to_string(),
            row(
                "a file that is not UTF-8",
                first.line,
                &first.message,
                first.hint.as_deref(),
            ),
        ),
    );
    let mut classes: Vec<&str> = Vec::new();
    for (class, _) in &rows {
        if !classes.contains(&class.as_str()) {
            classes.push(class);
        }
    }
    for class in classes {
        out.push_str(&format!(
            "\n### {class}\n\n| in | line | message | help |\n|---|---|---|---|\n"
        ));
        for (_, row) in rows.iter().filter(|(name, _)| name == class) {
            out.push_str(row);
        }
    }
    out.push('\n');
}

/// The class and the row of a text that is wrong.
fn error(sample: &Sample) -> (String, String) {
    let report = check(sample.document().as_bytes(), &Limits::default());
    let (class, line, message, hint) = match &report.outcome {
        Err(errors) => {
            let error = errors.first();
            (
                error.class.to_string(),
                error.line,
                error.message.clone(),
                error.hint.clone(),
            )
        }
        Ok(_) => {
            let problem = report.problems.first().expect("a text of the list is wrong");
            (problem.class.clone(), problem.line, problem.message.clone(), None)
        }
    };
    let line = line.saturating_sub(sample.lines_above());
    (
        class,
        row(&code(&on_one_line(sample.text)), line, &message, hint.as_deref()),
    )
}

fn row(text: &str, line: usize, message: &str, hint: Option<&str>) -> String {
    let cells = [text, &line.to_string(), message, hint.unwrap_or_default()].map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn warnings(out: &mut String) {
    out.push_str(
        "## Warnings\n\nWhat is read, but likely not as it was meant; training goes on.\n\n| in | line | kind | message |\n|---|---|---|---|\n",
    );
    for sample in grammar::WARNINGS {
        let report = check(sample.document().as_bytes(), &Limits::default());
        let parsed = report.outcome.expect("a text of the list is read");
        let warning = parsed.warnings.first().expect("and warned about");
        let cells = [
            code(&on_one_line(sample.text)),
            warning.line.saturating_sub(sample.lines_above()).to_string(),
            format!("`{}`", warning.kind.as_str()),
            warning.message.clone(),
        ];
        out.push_str(&format!(
            "| {} |\n",
            cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
        ));
    }
}

fn on_one_line(text: &str) -> String {
    text.replace('\u{feff}', "U+FEFF ")
        .replace('\t', "⇥")
        .replace('\n', " ⏎ ")
}

/// A code span, also around backticks; an empty text has none.
fn code(text: &str) -> String {
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    if longest == 0 {
        format!("{fence}{text}{fence}")
    } else {
        format!("{fence} {text} {fence}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_error_has_its_place_on_the_page() {
        let page = page();
        for class in [
            ErrorClass::Encoding,
            ErrorClass::Frontmatter,
            ErrorClass::SchemaValidation,
            ErrorClass::Version,
            ErrorClass::Fence,
            ErrorClass::InstructionGrammar,
            ErrorClass::PreferenceGrammar,
        ] {
            assert!(
                page.contains(&format!("\n### {class}\n")),
                "{class} is missing in:\n{page}"
            );
        }
        assert!(page.contains(ErrorClass::Limit.as_str()) && page.contains("\n### RoutingError\n"));
    }
}

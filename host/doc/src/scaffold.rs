//! The text of a new document: small, true, worth reading, and trainable as it stands.
//!
//! Invariants: the body is written by the canonical writer, so it reads back as it was meant; nothing is invented
//! here, id and base come from the caller.

use dlm_core::{Section, SectionKind, Ulid};

use crate::document::{Document, parse};
use crate::frontmatter::Frontmatter;
use crate::write::{WriteError, write};

/// Comment lines put at the end of the frontmatter, where they are no training text.
const FRONTMATTER_NOTES: &str = "\
# Nothing else is needed: dlm chooses rank, learning rate and epochs from the size of this document and says why.
# To fix a number yourself, write its key here, for example:
# training:
#   num_epochs: 20
# system_prompt: You answer in one sentence.
";

const PROSE: &str = "\
# About this document

A `.dlm` file is plain text that becomes a model. The block between the two lines of three dashes names the base model;
everything below is what the model learns.

Text like this paragraph is prose. The model learns its vocabulary and its style by reading it, but nobody asks it a
question about it. Write here what your subject is about, in the words you would like to hear again.

Facts that must come out as answers belong in pairs of a question and an answer, as below. A dozen short pairs teach
more than a page of prose. Replace all of this with your own.
";

const PAIRS: &str = "\
### Q
What is a .dlm file?

### A
A plain text file with a base model's name at the top and training text below it. Training turns it into a model.

### Q
How do I train this document?

### A
Run `dlm train` with the path of the file. It starts from the base each time and keeps every earlier version.

### Q !probe
How do I ask the trained model a question?

### A
Run `dlm prompt` with the path of the file and your question in quotes.

### Q
How do I check a document before training?

### A
Run `dlm check` with the path of the file. It shows every mistake with its line.

### Q
How do I give the model to somebody else?

### A
Run `dlm export` with the path of the file. It writes a GGUF file that llama.cpp and Ollama load.
";

/// Writes the starter document of `dlm init`.
///
/// **Errors**: the base's name cannot be written (never for a registry key or `hf:org/name`).
pub fn starter_document(dlm_id: &Ulid, base_model: &str) -> Result<String, WriteError> {
    let document = Document {
        frontmatter: Frontmatter::new(dlm_id.clone(), base_model),
        sections: vec![
            Section::text(SectionKind::Prose, PROSE),
            Section::text(SectionKind::Instruction, PAIRS.trim_end()),
        ],
    };
    let text = write(&document)?;
    // The closer is the second `---` line; ids and base names hold no line end, so this is the first match.
    let text = text.replacen("\n---\n", &format!("\n{FRONTMATTER_NOTES}---\n"), 1);
    parse(&text).map_err(WriteError::DoesNotParse)?;
    Ok(text)
}

/// Writes the smallest document: the three keys and an empty body.
///
/// **Errors**: as [`starter_document`].
pub fn minimal_document(dlm_id: &Ulid, base_model: &str) -> Result<String, WriteError> {
    write(&Document {
        frontmatter: Frontmatter::new(dlm_id.clone(), base_model),
        sections: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::training_problems;
    use crate::rows::{Rows, rows};

    fn id() -> Ulid {
        Ulid::mint(1_700_000_000_000, [3; 10])
    }

    #[test]
    fn the_starter_parses_without_a_remark() {
        for base in ["smollm2-135m", "hf:org/name"] {
            let text = starter_document(&id(), base).unwrap();
            let parsed = parse(&text).unwrap();
            assert_eq!((parsed.warnings.len(), training_problems(&parsed).len()), (0, 0));
            assert_eq!(parsed.frontmatter().base_model, base);
            assert_eq!(parsed.declared_version, crate::SCHEMA_VERSION);
            assert!(!parsed.frontmatter().wrote("training.num_epochs"));
            let Ok(Rows::Pairs(pairs)) = rows(&parsed.sections()[1]) else {
                panic!()
            };
            assert_eq!(pairs.len(), 5);
            assert!(text.ends_with('\n') && text.lines().all(|line| line.chars().count() <= 120));
        }
    }

    #[test]
    fn the_smallest_document_is_three_keys() {
        let text = minimal_document(&id(), "smollm2-135m").unwrap();
        assert_eq!(
            text,
            format!(
                "---\ndlm_id: {}\ndlm_version: 15\nbase_model: smollm2-135m\n---\n\n",
                id()
            )
        );
        assert!(parse(&text).unwrap().sections().is_empty());
    }
}

//! The template source `bundled`: the gallery inside of the component.
//!
//! Invariants: it reaches nothing; a test holds every pair to the rules of the format.

use dlm_plugin::gallery;
use dlm_plugin::templates::{Bundle, Info, Meta, Templates};
use dlm_plugin::{Error, error};

/// The gallery never changes within one version; a listing may be kept for a day.
const CACHE_SECONDS: u32 = 86_400;

/// One template: its name, its document, its meta file.
struct Pair {
    name: &'static str,
    document: &'static str,
    meta: &'static str,
}

macro_rules! pairs {
    ($($name:literal),+ $(,)?) => {
        [$(Pair {
            name: $name,
            document: include_str!(concat!("../gallery/", $name, ".dlm")),
            meta: include_str!(concat!("../gallery/", $name, ".meta.yaml")),
        }),+]
    };
}

/// Sorted by name.
const GALLERY: [Pair; 9] = pairs![
    "changelog",
    "coding-tutor",
    "domain-kb",
    "meeting-notes-summarizer",
    "personal-assistant",
    "regex-buddy",
    "shell-one-liner",
    "tool-use-example",
    "writing-partner",
];

struct Bundled;

impl Templates for Bundled {
    fn open(location: &str) -> Result<Self, Error> {
        dlm_plugin::no_argument("template source", "bundled", location)?;
        Ok(Bundled)
    }

    fn info(&self) -> Info {
        Info {
            identity: dlm_plugin::identity("bundled", "the gallery that comes with dlm"),
            cache_seconds: CACHE_SECONDS,
        }
    }

    fn list(&mut self) -> Result<Vec<Meta>, Error> {
        GALLERY.iter().map(meta).collect()
    }

    fn fetch(&mut self, name: &str) -> Result<Bundle, Error> {
        let Some(pair) = GALLERY.iter().find(|pair| pair.name == name) else {
            let known: Vec<&str> = GALLERY.iter().map(|pair| pair.name).collect();
            return Err(error!(
                NotFound,
                "the gallery has no template `{name}`; it has {}",
                known.join(", ")
            ));
        };
        Ok(Bundle {
            meta: meta(pair)?,
            document: pair.document.to_owned(),
            files: Vec::new(),
        })
    }
}

fn meta(pair: &Pair) -> Result<Meta, Error> {
    gallery::meta(pair.name, pair.meta, pair.document.as_bytes())
}

dlm_plugin::export_templates!(Bundled);

#[cfg(test)]
mod tests {
    use super::*;

    /// Fewer pairs teach a base nothing.
    const PAIRS_MIN: usize = 12;
    const PROSE_WORDS_MIN: usize = 100;

    #[test]
    fn every_template_is_whole() {
        let metas = Bundled.list().unwrap();
        assert!(metas.is_sorted_by_key(|meta| meta.name.clone()));
        for (meta, pair) in metas.iter().zip(&GALLERY) {
            assert_eq!(
                gallery::base_of(pair.document),
                Some(meta.recommended_base.as_str()),
                "{}",
                meta.name
            );
            assert!(meta.expected_steps.is_some() && !meta.tags.is_empty() && !meta.sample_prompts.is_empty());
            let lines = || pair.document.lines();
            let questions = lines().filter(|line| *line == "### Q").count();
            assert_eq!(
                questions,
                lines().filter(|line| *line == "### A").count(),
                "{}",
                meta.name
            );
            assert!(questions >= PAIRS_MIN, "{} has {questions} pairs", meta.name);
            let body = pair.document.splitn(3, "---\n").nth(2).unwrap();
            let prose = body.split("::instruction::").next().unwrap().split_whitespace().count();
            assert!(prose >= PROSE_WORDS_MIN, "{} has {prose} words of prose", meta.name);
        }
    }

    #[test]
    fn no_question_is_asked_twice_and_no_sample_is_trained() {
        for pair in &GALLERY {
            let mut questions: Vec<&str> = pair
                .document
                .split("### Q\n")
                .skip(1)
                .map(|rest| rest.split("\n### A").next().unwrap())
                .collect();
            let count = questions.len();
            questions.sort_unstable();
            questions.dedup();
            assert_eq!(questions.len(), count, "{}", pair.name);
            if pair.name != "personal-assistant" {
                for sample in meta(pair).unwrap().sample_prompts {
                    assert!(!questions.contains(&sample.as_str()), "{}: {sample}", pair.name);
                }
            }
        }
    }

    #[test]
    fn an_unknown_template_lists_the_known_ones() {
        let error = Bundled.fetch("cooking").unwrap_err().to_string();
        assert!(error.contains("cooking") && error.contains("regex-buddy"), "{error}");
        assert_eq!(Bundled.fetch("changelog").unwrap().meta.name, "changelog");
    }
}

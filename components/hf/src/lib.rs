//! `hf:<model>`, a judge and a teacher in one component: another model of the hub or of the registry, run by the engine.
//!
//! Invariants: the model is named by what the user typed and by nothing else; as judge it must be a sequence classifier with
//! one output, whose raw number is the score.

use dlm_plugin::guided::Guide;
use dlm_plugin::judge::{self, Item, Judge, Verdict};
use dlm_plugin::model::{self, Handle, RankRequest, Weights};
use dlm_plugin::teacher::{self, Completion, Request, Teacher};
use dlm_plugin::{Error, error};

/// Margin of a reward model that counts, on the scale of its output.
const THRESHOLD: f64 = 1.0;
/// Digits of a revision in a name.
const REVISION_CHARS: usize = 12;

struct RewardModel {
    model: Handle,
    /// `hf:<model>@<revision>`.
    name: String,
}

impl Judge for RewardModel {
    fn open(argument: &str) -> Result<Self, Error> {
        let typed = typed("judge", argument)?;
        let model = model::named(&model::selector(typed))?;
        let name = recorded(typed, model.info().revision.as_deref());
        Ok(RewardModel { model, name })
    }

    fn info(&self) -> judge::Info {
        judge::Info::pointwise(self.name.as_str())
            .detail("a sequence classifier with one output, run by the engine")
            .threshold(THRESHOLD)
    }

    fn score(&mut self, item: &Item) -> Result<Verdict, Error> {
        let request = |candidate: &String| RankRequest {
            prompt: model::chat(None, &item.prompt),
            completion: candidate.clone(),
        };
        let requests: Vec<RankRequest> = item.candidates.iter().map(request).collect();
        let scores = self.model.rank(&requests)?;
        match scores.iter().position(|score| !score.is_finite()) {
            Some(index) => Err(error!(
                Corrupt,
                "`{}` gave the number {} for candidate {}, a finite one was expected",
                self.name,
                scores[index],
                index + 1
            )),
            None => Ok(Verdict::new(scores)),
        }
    }
}

struct OtherModel {
    model: Handle,
    /// `hf:<model>`.
    name: String,
    guide: Guide,
}

impl Teacher for OtherModel {
    fn open(argument: &str) -> Result<Self, Error> {
        let typed = typed("teacher", argument)?;
        Ok(OtherModel {
            model: model::named(&model::selector(typed))?,
            name: recorded(typed, None),
            guide: Guide::default(),
        })
    }

    fn info(&self) -> teacher::Info {
        teacher::Info {
            identity: dlm_plugin::identity(self.name.as_str(), "a model run by the engine"),
            supports_seed: true,
            // One model, one answer at a time.
            max_concurrency: 1,
        }
    }

    fn complete(&mut self, request: &Request) -> Result<Completion, Error> {
        self.guide.complete(&self.name, &self.model, Weights::Base, request)
    }
}

fn typed<'a>(kind: &str, argument: &'a str) -> Result<&'a str, Error> {
    let typed = argument.trim();
    match typed.strip_prefix("hf:").unwrap_or(typed) {
        "" => Err(error!(
            InvalidInput,
            "{kind} `hf` needs a model: `--{kind} hf:org/name`, or a key of `dlm base list`"
        )),
        model => Ok(model),
    }
}

/// What provenance records.
fn recorded(model: &str, revision: Option<&str>) -> String {
    match revision {
        Some(revision) if !model.contains('@') => {
            let short: String = revision.chars().take(REVISION_CHARS).collect();
            format!("hf:{model}@{short}")
        }
        _ => format!("hf:{model}"),
    }
}

dlm_plugin::export_judge!(RewardModel);
dlm_plugin::export_teacher!(OtherModel);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_recorded_short() {
        let revision = Some("12fd25f77366fa6b3b4b768ec3050bf629380bac");
        assert_eq!(recorded("org/reward", revision), "hf:org/reward@12fd25f77366");
        assert_eq!(recorded("org/reward", None), "hf:org/reward");
        assert_eq!(recorded("org/reward@main", revision), "hf:org/reward@main");
    }

    #[test]
    fn a_model_must_be_named() {
        assert_eq!(typed("judge", " org/reward ").unwrap(), "org/reward");
        assert_eq!(typed("judge", "hf:org/reward").unwrap(), "org/reward");
        for blank in ["", "  ", "hf:"] {
            assert!(typed("teacher", blank).is_err());
        }
    }
}

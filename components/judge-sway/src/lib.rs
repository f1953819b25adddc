//! The judge `sway`: an answer scores high when training the document made it likelier.
//!
//! Invariants: one model call scores a whole batch; prompts are chats of the model's own template, except under `sway:ft`,
//! the reference's formula, which reads raw text.

mod formula;

use dlm_plugin::judge::{self, Info, Item, Judge, Verdict};
use dlm_plugin::model::{self, Handle, Prompt, Score, ScoreRequest, Weights};
use dlm_plugin::{Error, error};

use formula::{Formula, Opinion};

struct Sway {
    formula: Formula,
    /// The run's model, from the first batch on.
    model: Option<Handle>,
}

impl Judge for Sway {
    fn open(argument: &str) -> Result<Self, Error> {
        Ok(Sway {
            formula: Formula::parse(argument)?,
            model: None,
        })
    }

    fn info(&self) -> Info {
        Info::pointwise(self.formula.name()).detail(self.formula.detail())
    }

    fn score(&mut self, item: &Item) -> Result<Verdict, Error> {
        let mut verdicts = self.score_all(std::slice::from_ref(item))?;
        verdicts.pop().ok_or_else(too_few)
    }

    fn score_all(&mut self, items: &[Item]) -> Result<Vec<Verdict>, Error> {
        let requests: Vec<ScoreRequest> = items.iter().flat_map(|item| self.requests(item)).collect();
        let scores = self.model()?.score(&requests)?;
        let mut scores = scores.iter();
        items.iter().map(|item| self.verdict(item, &mut scores)).collect()
    }
}

impl Sway {
    /// The run's model, refused when nothing was trained yet.
    fn model(&mut self) -> Result<&Handle, Error> {
        if self.model.is_none() {
            let found = model::current()?;
            if !found.info().has_adapter {
                return Err(error!(
                    Unavailable,
                    "the judge `sway` compares the trained adapter with its base, and the document has no adapter yet; \
                     run `dlm train` first"
                ));
            }
            self.model = Some(found);
        }
        self.model.as_ref().ok_or_else(too_few)
    }

    /// The requests of one item: per candidate the adapter's, then the base's where the formula compares.
    fn requests(&self, item: &Item) -> Vec<ScoreRequest> {
        let prompt = match self.formula {
            Formula::Reward => model::chat(item.system.as_deref(), &item.prompt),
            Formula::Reference => Prompt::Raw(item.prompt.clone()),
        };
        let request = |candidate: &String, weights: Weights| ScoreRequest {
            prompt: prompt.clone(),
            completion: candidate.clone(),
            weights,
            per_token: false,
        };
        let of_candidate = |candidate| {
            self.formula
                .weights()
                .iter()
                .map(move |weights| request(candidate, *weights))
        };
        item.candidates.iter().flat_map(of_candidate).collect()
    }

    fn verdict<'a>(&self, item: &Item, scores: &mut impl Iterator<Item = &'a Score>) -> Result<Verdict, Error> {
        let opinion = |candidate: &String| {
            let adapter = scores.next().ok_or_else(too_few)?;
            match self.formula {
                Formula::Reward => formula::reward(adapter, scores.next().ok_or_else(too_few)?),
                Formula::Reference => formula::reference(candidate, adapter),
            }
        };
        let opinions: Vec<Opinion> = item.candidates.iter().map(opinion).collect::<Result<_, Error>>()?;
        let reasons: Vec<Option<String>> = opinions.iter().map(|opinion| Some(opinion.reason.clone())).collect();
        Ok(Verdict {
            scores: opinions.iter().map(|opinion| opinion.score).collect(),
            reasoning: judge::joined(&reasons),
        })
    }
}

fn too_few() -> Error {
    Error::Failed("the model gave fewer scores than were asked for".to_owned())
}

dlm_plugin::export_judge!(Sway);

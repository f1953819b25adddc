//! The mining loop: prompts in order, answers drawn in batches, judged, chosen, and what becomes of them.

use std::collections::BTreeSet;

use dlm_core::ports::model::Model;
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::{AutoMined, Event, Section, SectionId, SectionKind};
use dlm_doc::guard::is_inert;
use dlm_doc::marker::encode_name;
use dlm_doc::{Rows, explicit_probes, rows};
use dlm_store::metrics::{MiningMetrics, Strictness};
use dlm_store::{PlanKind, Store};

use super::check;
use super::choose::{Candidate, Choice, ScoredPair, candidates, choose, pairs};
use super::judge::{JudgeRequest, Scorer};
use super::sample::{Sample, Sampler};
use super::{MineOptions, MinePorts, MineReport, MinedPair, MiningResult, SUBJECT, preference_section};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::staging::{self, Outcome, Place, Placement, Skip, model_failure, plugin_failure};
use crate::surroundings::Surroundings;

/// Prompts whose answers are drawn together: with four samples, two requests of eight rows to the engine.
const PROMPTS_PER_BATCH: usize = 4;
/// The phase in progress events.
const PHASE: &str = "mining";

/// Mines preferences.
///
/// **Errors**: whatever stops it before the first sample. What stops it later comes with the report in [`MiningResult`], after
/// the pairs accepted so far were staged.
pub fn mine(around: &Surroundings, ports: &MinePorts<'_>, options: &MineOptions) -> Result<MiningResult, Failure> {
    check::numbers(options)?;
    let document = document::load(&options.path)?;
    check::adapter(&document, options)?;
    let front = document.parsed.frontmatter();
    let store = around.store(&front.dlm_id);
    let run_id = check::newest_run(&store, &options.path)?;
    check::base(around, &document, SUBJECT)?;
    check::backend(options)?;
    let judge = ports
        .judges
        .open_judge(options.judge.trim())
        .map_err(|e| plugin_failure(SUBJECT, e))?;
    let model = check::trained_model(ports.models, &options.path)?;
    let name = judge.info().identity.name.clone();
    let threshold = options.threshold.unwrap_or(judge.info().suggested_threshold);
    let mut run = Run {
        around,
        options,
        document: &document,
        run_id,
        threshold,
        judge_name: name.clone(),
        scorer: Scorer { judge },
        asks_alone: false,
        present: staging::ids(&document),
        sections: Vec::new(),
        made_from: Vec::new(),
        additions: Vec::new(),
        skipped: Vec::new(),
        asked: 0,
    };
    let prompts = run.prompts();
    run.asked = prompts.len();
    let stopped = run.mine(model.as_ref(), &prompts).err();
    run.settle(&store, stopped)
}

/// A question of the document.
#[derive(Clone, Debug)]
struct Prompt {
    text: String,
    /// The document's answer.
    answer: String,
    section: SectionId,
}

struct Run<'a> {
    around: &'a Surroundings,
    options: &'a MineOptions,
    document: &'a Document,
    run_id: u64,
    threshold: f64,
    judge_name: String,
    scorer: Scorer,
    /// A judge that was stopped over several prompts at once is asked about each alone from then on: a bad prompt costs one call, and
    /// at most one fresh instance.
    asks_alone: bool,
    /// Ids of the document and of what was accepted.
    present: BTreeSet<SectionId>,
    sections: Vec<Section>,
    made_from: Vec<SectionId>,
    additions: Vec<MinedPair>,
    skipped: Vec<Skip>,
    /// Questions that are put to the model.
    asked: usize,
}

impl Run<'_> {
    /// The questions to ask, in document order; what is left out goes to the skipped.
    fn prompts(&mut self) -> Vec<Prompt> {
        let sections = self.document.parsed.sections();
        let probes: BTreeSet<String> = explicit_probes(sections).into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut prompts = Vec::new();
        for section in sections.iter().filter(|s| s.kind == SectionKind::Instruction) {
            let id = section.id();
            let found = match rows(section) {
                Ok(Rows::Pairs(found)) => found,
                Ok(_) => Vec::new(),
                Err(error) => {
                    let detail = format!("line {}: {error}", error.line);
                    self.skipped
                        .push(Skip::new(id.as_str(), "malformed_instruction").because(detail));
                    continue;
                }
            };
            for pair in found {
                let question = pair.question;
                if !seen.insert(question.clone()) {
                    self.skipped.push(Skip::new(question, "duplicate_prompt"));
                } else if probes.contains(&question) && !self.options.includes_probes {
                    let detail = "training on a probe would spoil it; --include-probes mines it all the same";
                    self.skipped.push(Skip::new(question, "probe").because(detail));
                } else if !is_inert(&question, SectionKind::Preference) {
                    let detail = "the question holds a line that a preference section reads as a header";
                    self.skipped
                        .push(Skip::new(question, "unrepresentable").because(detail));
                } else {
                    prompts.push(Prompt {
                        text: question,
                        answer: pair.answer,
                        section: id.clone(),
                    });
                }
            }
        }
        prompts
    }

    /// Goes through the prompts until they or the cap are exhausted.
    fn mine(&mut self, model: &dyn Model, prompts: &[Prompt]) -> Result<(), Failure> {
        let front = self.document.parsed.frontmatter();
        let sampler = Sampler {
            model,
            system: front.system(),
            seed: self.options.seed.unwrap_or(front.training.seed),
            samples: self.options.samples,
            temperature: self.options.temperature,
            top_p: self.options.top_p,
        };
        self.around.progress.event(Event::PhaseStarted {
            phase: PHASE.to_owned(),
            total: Some(prompts.len() as u64),
            unit: "prompts",
        });
        let done = self.batches(&sampler, prompts);
        self.around.progress.event(Event::PhaseEnded {
            phase: PHASE.to_owned(),
        });
        done
    }

    fn batches(&mut self, sampler: &Sampler<'_>, prompts: &[Prompt]) -> Result<(), Failure> {
        let mut next = 0;
        while next < prompts.len() {
            // Each prompt gives at most one pair, so a batch that fits the room left draws no answer in vain.
            let room = self
                .options
                .pairs_max
                .map_or(usize::MAX, |max| max - self.additions.len());
            let batch = &prompts[next..(next + PROMPTS_PER_BATCH.min(room)).min(prompts.len())];
            if batch.is_empty() {
                break;
            }
            if self.around.cancel.is_cancelled() {
                return Err(Failure::interrupted(""));
            }
            let texts: Vec<&str> = batch.iter().map(|prompt| prompt.text.as_str()).collect();
            let drawn = sampler
                .draw(&texts, &self.around.cancel)
                .map_err(|e| model_failure(SUBJECT, &e))?;
            self.judge(batch, &drawn)?;
            next += batch.len();
            self.around.progress.event(Event::PhaseAdvanced {
                phase: PHASE.to_owned(),
                done: next as u64,
            });
        }
        Ok(())
    }

    /// Judges the drawn answers of some prompts and takes what is to be taken, in order.
    fn judge(&mut self, prompts: &[Prompt], drawn: &[Vec<Sample>]) -> Result<(), Failure> {
        let document = self.document;
        let system = document.parsed.frontmatter().system();
        let laid_out: Vec<Result<Comparison, Skip>> = prompts
            .iter()
            .zip(drawn)
            .map(|(prompt, samples)| Comparison::new(prompt, samples))
            .collect();
        let asked: Vec<JudgeRequest<'_>> = laid_out
            .iter()
            .zip(prompts)
            .filter_map(|(comparison, prompt)| Some(comparison.as_ref().ok()?.asked(prompt, system)))
            .collect();
        // All at once; where that fails, one by one, so that one bad prompt does not cost the others.
        let mut together = match asked.len() > 1 && !self.asks_alone {
            true => self.together(&asked)?.map(Vec::into_iter),
            false => None,
        };
        for (prompt, comparison) in prompts.iter().zip(&laid_out) {
            let comparison = match comparison {
                Ok(comparison) => comparison,
                Err(skip) => {
                    self.skipped.push(skip.clone());
                    continue;
                }
            };
            let scored = match together.as_mut().and_then(Iterator::next) {
                Some(scored) => Ok(scored),
                None => self
                    .scorer
                    .score(&[comparison.asked(prompt, system)])
                    .map(|mut one| one.remove(0)),
            };
            match scored {
                Ok(scored) => {
                    let choice = choose(&comparison.candidates, &scored, self.threshold);
                    self.take(prompt, &comparison.candidates, choice);
                }
                Err(failure) => self.judge_failed(prompt, failure)?,
            }
        }
        Ok(())
    }

    /// Scores several prompts in one go; nothing where the judge failed on one of them, which will be told when it is asked
    /// about that one alone.
    fn together(&mut self, asked: &[JudgeRequest<'_>]) -> Result<Option<Vec<Vec<ScoredPair>>>, Failure> {
        match self.scorer.score(asked) {
            Ok(scored) => Ok(Some(scored)),
            Err(failure) if failure.ends_the_run() => Err(plugin_failure(SUBJECT, failure)),
            Err(failure) => {
                self.asks_alone |= failure.was_stopped();
                Ok(None)
            }
        }
    }

    fn judge_failed(&mut self, prompt: &Prompt, failure: PluginFailure) -> Result<(), Failure> {
        if self.around.cancel.is_cancelled() {
            return Err(Failure::interrupted(""));
        }
        if failure.ends_the_run() {
            return Err(plugin_failure(SUBJECT, failure));
        }
        if !self.options.keeps_going {
            let failure = plugin_failure(SUBJECT, failure);
            return Err(failure.hint("`--keep-going` leaves out a prompt whose judge fails"));
        }
        self.skipped
            .push(Skip::new(&prompt.text, "judge_failed").because(failure.message));
        Ok(())
    }

    fn take(&mut self, prompt: &Prompt, candidates: &[Candidate], choice: Choice) {
        let (winner, loser, score_winner, score_loser, reasoning) = match choice {
            Choice::Pair {
                winner,
                loser,
                score_winner,
                score_loser,
                reasoning,
            } => (
                &candidates[winner],
                &candidates[loser],
                score_winner,
                score_loser,
                reasoning,
            ),
            Choice::Skip { reason, detail } => {
                return self.skipped.push(Skip::new(&prompt.text, reason).because(detail));
            }
        };
        let Some(mut section) = preference_section(&prompt.text, &winner.text, &loser.text) else {
            return self.skipped.push(Skip::new(&prompt.text, "unrepresentable"));
        };
        let id = section.id();
        if !self.present.insert(id.clone()) {
            return self
                .skipped
                .push(Skip::new(&prompt.text, "already_present").because(id.as_str()));
        }
        section.adapter = self.options.adapter.clone();
        section.mined = Some(AutoMined {
            judge_name: encode_name(&self.judge_name),
            judge_score_chosen: score_winner,
            judge_score_rejected: score_loser,
            mined_at: self.around.now().zoned(),
            mined_run_id: self.run_id,
        });
        self.sections.push(section);
        if !self.made_from.contains(&prompt.section) {
            self.made_from.push(prompt.section.clone());
        }
        self.additions.push(MinedPair {
            section_id: id,
            judge: self.judge_name.clone(),
            margin: score_winner - score_loser,
            score_chosen: score_winner,
            score_rejected: score_loser,
            reasoning,
            prompt: prompt.text.clone(),
            chosen: winner.text.clone(),
            rejected: loser.text.clone(),
            is_own_answer: winner.is_anchor,
        });
    }

    /// Stages or writes what was accepted, records the run, and says why it did not end well.
    fn settle(self, store: &Store, stopped: Option<Failure>) -> Result<MiningResult, Failure> {
        let path = &self.options.path;
        let place = Place {
            path,
            dlm_id: &self.document.parsed.frontmatter().dlm_id,
            store,
        };
        let count = self.additions.len();
        let mut written = 0;
        let outcome = match (count, self.options.applies && stopped.is_none()) {
            (0, _) => Outcome::Empty,
            (_, true) => {
                written = staging::write(
                    self.around,
                    PlanKind::Preference,
                    &place,
                    &self.sections,
                    Placement::End,
                )?
                .len();
                Outcome::Applied
            }
            (_, false) => {
                staging::stage(self.around, PlanKind::Preference, &place, self.made_from, self.sections)?;
                Outcome::Staged
            }
        };
        let metrics = MiningMetrics {
            run_id: self.run_id,
            judge_name: self.judge_name.clone(),
            sample_count: self.options.samples as u64,
            mined_pairs: count as u64,
            skipped_prompts: self.skipped.len() as u64,
            write_mode: outcome.name().to_owned(),
            at: self.around.now(),
        };
        record(self.around, store, &metrics);
        let stopped = match stopped {
            Some(failure) => Some(staging::with_count(failure, count, outcome, PlanKind::Preference, path)),
            None if count == 0 => Some(nothing_found(self.asked, self.skipped.len(), store)),
            None => None,
        };
        Ok(MiningResult {
            report: MineReport {
                path: path.clone(),
                judge: self.judge_name,
                threshold: self.threshold,
                run_id: self.run_id,
                additions: self.additions,
                skipped: self.skipped,
                outcome,
                written,
            },
            stopped,
        })
    }
}

/// The candidates of one prompt and the pairs of them that are worth scoring.
struct Comparison {
    candidates: Vec<Candidate>,
    pairs: Vec<(usize, usize)>,
}

impl Comparison {
    fn new(prompt: &Prompt, samples: &[Sample]) -> Result<Self, Skip> {
        let usable = |text: &str| text.is_empty() || is_inert(text, SectionKind::Preference);
        let kept: Vec<(String, bool)> = samples
            .iter()
            .filter(|sample| usable(&sample.text))
            .map(|sample| (sample.text.clone(), sample.is_cut))
            .collect();
        let lost = samples.len() - kept.len();
        let own = Some(prompt.answer.as_str()).filter(|answer| usable(answer));
        let candidates = candidates(&kept, own);
        let skip = |reason| Skip::new(&prompt.text, reason);
        if candidates.len() < 2 && lost > 0 {
            return Err(skip("unrepresentable").because(format!("{lost} answer(s) hold lines that are grammar")));
        }
        if candidates.len() < 2 {
            return Err(skip("insufficient_variety").because(format!("{} distinct answer(s)", candidates.len())));
        }
        let pairs = pairs(&candidates);
        if pairs.is_empty() {
            let is_cut = candidates.iter().all(|c| c.is_cut);
            return Err(match is_cut {
                true => skip("no_valid_winner").because("every answer was cut by the token limit"),
                false => skip("too_similar").because("the answers are nearly the same"),
            });
        }
        Ok(Self { candidates, pairs })
    }

    fn asked<'a>(&'a self, prompt: &'a Prompt, system: Option<&'a str>) -> JudgeRequest<'a> {
        JudgeRequest {
            system,
            prompt: &prompt.text,
            reference: Some(&prompt.answer),
            candidates: &self.candidates,
            pairs: &self.pairs,
        }
    }
}

/// Adds a row to the metrics; a failure is told and changes nothing else.
fn record(around: &Surroundings, store: &Store, metrics: &MiningMetrics) {
    let recorded = store
        .metrics_recorder(Strictness::Strict)
        .and_then(|mut recorder| recorder.mining(metrics));
    if let Err(error) = recorded {
        let what = format!("the mining run is missing from the metrics: {error}");
        around.warn(what);
    }
}

/// What to do depends on how far it came: more samples find nothing where nothing is asked.
fn nothing_found(asked: usize, skipped: usize, store: &Store) -> Failure {
    let kept = match store.pending_path(PlanKind::Preference).is_file() {
        true => "; the older staged plan stays",
        false => "",
    };
    let found = |what: String| Failure::misuse(SUBJECT, format!("{what}{kept}"));
    match (asked, skipped) {
        (0, 0) => found("the document has no question to ask".to_owned())
            .hint("write an `::instruction::` section with `### Q` and `### A`"),
        (0, skipped) => {
            found(format!("no question was asked: {skipped} prompt(s) were left out")).hint("the plan above says why")
        }
        (_, skipped) => found(format!(
            "no preference pair was found in {skipped} prompt(s) that were skipped"
        ))
        .hint("the plan above says why; try more `--samples`, a higher `--temp` or a lower `--threshold`"),
    }
}

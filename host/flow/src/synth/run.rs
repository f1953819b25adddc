//! The synthesis loop: checks, the crew of teachers, filters in the order of the document, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dlm_core::ports::model::Model;
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::teacher::{Teacher, TeacherInfo};
use dlm_core::shell::quoted_path;
use dlm_core::{AutoSynth, Event, FailureKind, Section, SectionId};
use dlm_doc::marker::encode_name;
use dlm_store::{PlanKind, Store};

use super::answers::{KeptAnswers, hosts, is_local, is_remote};
use super::ask::{Asker, Call, CallAnswer, SectionAnswer, Settings, TRIES};
use super::clean::{CleanPair, PairIndex, clean};
use super::grounding::{self, Measurement};
use super::passage::{CHARS_MAX, CHARS_MAX_LOCAL, passages, share};
use super::workers::{self, Crew, Next};
use super::{
    Filter, FilterReport, FilteredPair, GeneratedPair, SUBJECT, SynthOptions, SynthPorts, SynthReport, SynthSkip,
    SynthesisResult, UsageReport,
};
use crate::document::{self, Document};
use crate::failure::Failure;
use crate::named_adapters;
use crate::prefer::check;
use crate::staging::{self, Outcome, Place, Placement, model_failure, plugin_failure};
use crate::surroundings::Surroundings;

/// Most teachers side by side, whatever is asked for.
const TEACHERS_MAX: usize = 16;
/// Sections in a row that a teacher fails on before the run stops.
const FAILURES_MAX: usize = 3;
/// Stands for the section where none was found.
const NO_SECTION: &str = "-";
/// The phase in progress events.
const PHASE: &str = "synthesizing";

/// Synthesizes instruction pairs.
///
/// **Errors**: whatever stops it before the first request. What stops it later comes with the report in [`SynthesisResult`],
/// after the pairs accepted so far were staged.
pub fn instructions(
    around: &Surroundings,
    ports: &SynthPorts<'_>,
    options: &SynthOptions,
) -> Result<SynthesisResult, Failure> {
    check_flags(options)?;
    let filter = options.filter.unwrap_or(Filter::Sway);
    let document = document::load(&options.path)?;
    if let Some(adapter) = &options.adapter {
        named_adapters::slot(&document, Some(adapter), SUBJECT)?;
    }
    let front = document.parsed.frontmatter();
    let store = around.store(&front.dlm_id);
    let teacher = open_teacher(ports, options)?;
    let judge = match filter {
        Filter::Sway => Some(judge(around, ports, options, &document)),
        Filter::None | Filter::DedupOnly => None,
    };
    let judge = judge.transpose()?;
    let teacher = teacher.map_err(|e| plugin_failure(SUBJECT, e))?;
    let info = teacher.info().clone();
    tell_about_teacher(around, options, &info);
    let chars_max = if is_local(&info.identity) {
        CHARS_MAX_LOCAL
    } else {
        CHARS_MAX
    };
    let sections = calls(document.parsed.sections(), options, chars_max);
    let mut run = Run {
        around,
        options,
        filter,
        judge,
        teacher: info.identity.name.clone(),
        known: PairIndex::new(document.parsed.sections()),
        present: staging::ids(&document),
        routes: document
            .parsed
            .sections()
            .iter()
            .filter_map(|section| Some((section.id(), section.adapter.clone()?)))
            .collect(),
        accepted: Vec::new(),
        made_from: Vec::new(),
        report: empty_report(options, &info, filter),
        failed_in_row: 0,
        failed: 0,
        last_failure: None,
    };
    if sections.is_empty() {
        run.report.skipped.push(SynthSkip {
            section: NO_SECTION.to_owned(),
            strategy: None,
            reason: "no_prose",
            detail: Some("the document has no prose to write questions about".to_owned()),
        });
    }
    let stopped = run.work(ports, &store, teacher, &info, &sections).err();
    run.settle(&document, &store, stopped)
}

/// Refuses flags that exclude each other and numbers out of range.
fn check_flags(options: &SynthOptions) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::misuse(SUBJECT, what));
    if options.applies && options.is_dry_run {
        return refuse("`--apply` and `--dry-run` cannot be used together".to_owned());
    }
    if options.threshold.is_some() && options.filter.is_some_and(|filter| filter != Filter::Sway) {
        return refuse("`--threshold` only means something with `--filter sway`".to_owned());
    }
    if let Some(threshold) = options.threshold.filter(|t| !t.is_finite() || *t < 0.0) {
        return refuse(format!("`--threshold` is {threshold}, expected a number of at least 0"));
    }
    if options.per_section == 0 {
        return refuse("`--per-section` is 0, expected at least 1".to_owned());
    }
    if options.pairs_max == Some(0) {
        return refuse("`--max-pairs` is 0, expected at least 1".to_owned());
    }
    if options.new_tokens_max == 0 {
        return refuse("`--max-new-tokens` is 0, expected at least 1".to_owned());
    }
    if !options.temperature.is_finite() || options.temperature < 0.0 {
        return refuse(format!(
            "`--temp` is {}, expected a number of at least 0",
            options.temperature
        ));
    }
    if let Some(top_p) = options.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
        return refuse(format!("`--top-p` is {top_p}, expected a number over 0 and at most 1"));
    }
    if options.is_inline && !options.applies {
        return refuse("`--inline` says where sections are written, so it needs `--apply`".to_owned())
            .map_err(|failure: Failure| failure.hint("for a staged plan: `dlm synth apply --inline <document>`"));
    }
    Ok(())
}

/// Opens the first teacher. A wrong selector and a missing grant end the command at once; a teacher that is not available is
/// told after the judge was looked for.
fn open_teacher(
    ports: &SynthPorts<'_>,
    options: &SynthOptions,
) -> Result<Result<Box<dyn Teacher>, PluginFailure>, Failure> {
    match ports.teachers.open_teacher(options.teacher.trim()) {
        Err(failure) if failure.kind == FailureKind::Misuse || failure.code == "plugin::denied" => {
            Err(plugin_failure(SUBJECT, failure))
        }
        opened => Ok(opened),
    }
}

/// The base that judges pairs. Whoever types `--filter sway` wants a trained model; by default the bare base will do.
fn judge(
    around: &Surroundings,
    ports: &SynthPorts<'_>,
    options: &SynthOptions,
    document: &Document,
) -> Result<Arc<dyn Model>, Failure> {
    let without = "`--filter dedup-only` needs no model";
    check::base(around, document, SUBJECT).map_err(|failure| failure.hint(without))?;
    let model = ports
        .models
        .current()
        .map_err(|e| model_failure(SUBJECT, &e).hint(without))?;
    let is_trained = model.info().has_adapter;
    if !is_trained && options.filter.is_some() {
        return Err(Failure::new(
            SUBJECT,
            "`--filter sway` needs a trained adapter, and none was trained yet",
        )
        .hint(format!("dlm train {}", quoted_path(&options.path)))
        .hint("or leave out `--filter`: pairs are then held against the bare base"));
    }
    if !is_trained {
        around.note("no adapter was trained yet: pairs are held against the bare base");
    }
    Ok(model)
}

fn tell_about_teacher(around: &Surroundings, options: &SynthOptions, info: &TeacherInfo) {
    let note = |text: String| around.note(text);
    let hosts = hosts(&info.identity, options.teacher.trim());
    if !hosts.is_empty() {
        let where_to = match hosts.as_slice() {
            [host] => format!("is sent to {host}"),
            // Which of them the teacher asks is its own settings' affair.
            hosts => format!("may be sent to {}", hosts.join(", ")),
        };
        note(format!("synth: prose of this document {where_to}"));
    }
    if options.seed.is_some() && !info.supports_seed {
        let what = format!(
            "teacher `{}` takes no seed; `--seed` changes nothing there",
            info.identity.name
        );
        around.warn(what);
    }
}

/// The calls of every section that has prose.
fn calls(sections: &[Section], options: &SynthOptions, chars_max: usize) -> Vec<Vec<Call>> {
    let budget = options.strategies.budget(options.per_section);
    passages(sections, chars_max)
        .into_iter()
        .map(|pieces| {
            let mut calls = Vec::new();
            for (strategy, pairs) in &budget {
                for (passage, pairs) in pieces.iter().zip(share(*pairs, pieces.len())) {
                    if pairs > 0 {
                        calls.push(Call {
                            passage: passage.clone(),
                            strategy: *strategy,
                            pairs,
                        });
                    }
                }
            }
            calls
        })
        .collect()
}

fn empty_report(options: &SynthOptions, info: &TeacherInfo, filter: Filter) -> SynthReport {
    SynthReport {
        path: options.path.clone(),
        teacher: info.identity.name.clone(),
        additions: Vec::new(),
        skipped: Vec::new(),
        filter: FilterReport {
            filter,
            generated: 0,
            dedup: 0,
            judge_passed: (filter == Filter::Sway).then_some(0),
            accepted: 0,
            threshold: (filter == Filter::Sway).then(|| options.threshold.unwrap_or(grounding::THRESHOLD)),
        },
        filtered: Vec::new(),
        usage: UsageReport::default(),
        outcome: Outcome::Empty,
        written: 0,
    }
}

struct Run<'a> {
    around: &'a Surroundings,
    options: &'a SynthOptions,
    filter: Filter,
    judge: Option<Arc<dyn Model>>,
    teacher: String,
    known: PairIndex,
    /// Ids of the document and of what was accepted.
    present: BTreeSet<SectionId>,
    /// The adapter of each section that names one.
    routes: BTreeMap<SectionId, String>,
    accepted: Vec<Section>,
    made_from: Vec<SectionId>,
    report: SynthReport,
    failed_in_row: usize,
    failed: usize,
    last_failure: Option<PluginFailure>,
}

impl Run<'_> {
    fn work(
        &mut self,
        ports: &SynthPorts<'_>,
        store: &Store,
        teacher: Box<dyn Teacher>,
        info: &TeacherInfo,
        sections: &[Vec<Call>],
    ) -> Result<(), Failure> {
        let (around, options) = (self.around, self.options);
        let settings = Settings {
            new_tokens_max: options.new_tokens_max,
            temperature: options.temperature,
            top_p: options.top_p,
            seed: options.seed,
        };
        let kept =
            (options.uses_kept_answers && is_remote(&info.identity)).then(|| KeptAnswers::new(store, &info.identity));
        let asker = |teacher| Asker {
            teacher,
            settings: &settings,
            kept: kept.as_ref(),
            tries: if is_local(&info.identity) { 1 } else { TRIES },
            pause: ports.pause,
            cancel: &around.cancel,
        };
        let (teachers, selector) = (ports.teachers, options.teacher.trim());
        let open = || teachers.open_teacher(selector);
        let crew = Crew {
            sections,
            teachers: info.concurrency_max.min(options.concurrency).clamp(1, TEACHERS_MAX),
            allowed: self.lookahead(),
            cancel: &around.cancel,
        };
        around.progress.event(Event::PhaseStarted {
            phase: PHASE.to_owned(),
            total: Some(sections.len() as u64),
            unit: "sections",
        });
        let mut outcome = Ok(());
        let mut lost = |failure: PluginFailure| {
            let what = format!("one teacher less works, it could not be opened: {failure}");
            around.warn(what);
        };
        let mut take = |index: usize, answer: SectionAnswer| {
            outcome = self.section(&sections[index], answer);
            around.progress.event(Event::PhaseAdvanced {
                phase: PHASE.to_owned(),
                done: index as u64 + 1,
            });
            match (&outcome, self.lookahead()) {
                (Err(_), _) | (Ok(()), 0) => Next::Stop,
                (Ok(()), ahead) => Next::Allow((index + 1).saturating_add(ahead)),
            }
        };
        let is_cancelled = workers::run(&crew, teacher, &open, &asker, &mut lost, &mut take);
        around.progress.event(Event::PhaseEnded {
            phase: PHASE.to_owned(),
        });
        outcome?;
        match is_cancelled {
            true => Err(Failure::interrupted("")),
            false => Ok(()),
        }
    }

    /// How many more sections are surely needed: each gives at most `--per-section` pairs.
    fn lookahead(&self) -> usize {
        match self.options.pairs_max {
            None => usize::MAX,
            Some(max) => max
                .saturating_sub(self.accepted.len())
                .div_ceil(self.options.per_section),
        }
    }

    /// Takes what one section gave.
    fn section(&mut self, calls: &[Call], answer: SectionAnswer) -> Result<(), Failure> {
        let usage = &mut self.report.usage;
        usage.requests += answer.usage.requests;
        usage.prompt_tokens += answer.usage.prompt_tokens;
        usage.completion_tokens += answer.usage.completion_tokens;
        usage.kept_answers += answer.kept_answers;
        if let Some(problem) = answer.disk_problem {
            let what = format!("an answer could not be kept for the next run: {problem}");
            self.around.warn(what);
        }
        for (call, answer) in calls.iter().zip(&answer.answers) {
            self.answer(call, answer)?;
        }
        let Some(failure) = answer.failure else {
            self.failed_in_row = 0;
            return Ok(());
        };
        let call = calls.get(answer.answers.len()).or(calls.last());
        self.report.skipped.push(SynthSkip {
            section: call.map_or_else(|| "-".to_owned(), |call| call.passage.source.to_string()),
            strategy: call.map(|call| call.strategy),
            reason: "teacher_failed",
            detail: Some(failure.message.clone()),
        });
        self.failed_in_row += 1;
        self.failed += 1;
        self.last_failure = Some(failure.clone());
        if failure.ends_the_run() {
            return Err(plugin_failure(SUBJECT, failure));
        }
        if self.failed_in_row == FAILURES_MAX {
            let failure = plugin_failure(SUBJECT, failure);
            return Err(
                failure.reworded(|why| format!("the teacher failed on {FAILURES_MAX} sections in a row: {why}"))
            );
        }
        Ok(())
    }

    /// Takes the pairs of one call through hygiene, duplicates and filter.
    fn answer(&mut self, call: &Call, answer: &CallAnswer) -> Result<(), Failure> {
        let source = call.passage.source.to_string();
        let skip = |reason: &'static str, detail: Option<String>| SynthSkip {
            section: source.clone(),
            strategy: Some(call.strategy),
            reason,
            detail,
        };
        if let Some(complaint) = &answer.complaint {
            self.report
                .skipped
                .push(skip("invalid_output", Some(complaint.clone())));
        }
        if answer.dropped > 0 {
            let cut = if answer.is_truncated {
                ", the answer was cut at --max-new-tokens"
            } else {
                ""
            };
            let what = format!("{} item(s) of the answer were no pair{cut}", answer.dropped);
            self.report.skipped.push(skip("invalid_output", Some(what)));
        }
        let mut fresh = Vec::new();
        for (question, reply) in &answer.pairs {
            let pair = match clean(question, reply, &call.passage.text) {
                Ok(pair) => pair,
                Err((reason, detail)) => {
                    let what = detail.map_or_else(String::new, |detail| format!(": {detail}"));
                    let first = question.lines().next().unwrap_or_default();
                    self.report.skipped.push(skip(reason, Some(format!("{first}{what}"))));
                    continue;
                }
            };
            if self.present.contains(&pair.section.id()) {
                self.report.skipped.push(skip("already_present", Some(pair.question)));
                continue;
            }
            fresh.push(self.generated(call, &pair));
            if let Err(reason) = self.known.add(&pair.question, &pair.answer, self.filter) {
                let generated = fresh.pop().expect("it was pushed a line above");
                self.drop(generated, "duplicate_pair", reason);
                continue;
            }
        }
        self.report.filter.dedup += fresh.len();
        self.judge_pairs(call, fresh)
    }

    fn generated(&mut self, call: &Call, pair: &CleanPair) -> GeneratedPair {
        self.report.filter.generated += 1;
        GeneratedPair {
            section_id: pair.section.id(),
            source: call.passage.source.clone(),
            teacher: self.teacher.clone(),
            strategy: call.strategy,
            question: pair.question.clone(),
            answer: pair.answer.clone(),
            grounding: None,
            support: None,
            is_accepted: false,
        }
    }

    fn judge_pairs(&mut self, call: &Call, pairs: Vec<GeneratedPair>) -> Result<(), Failure> {
        let measured: Vec<Option<Measurement>> = match &self.judge {
            Some(model) if !pairs.is_empty() => {
                let texts: Vec<(&str, &str)> = pairs.iter().map(|p| (p.question.as_str(), p.answer.as_str())).collect();
                let measured = grounding::measure(model.as_ref(), &call.passage.text, &texts, &self.around.cancel)
                    .map_err(|e| model_failure(SUBJECT, &e))?;
                measured.into_iter().map(Some).collect()
            }
            _ => vec![None; pairs.len()],
        };
        for (mut pair, measured) in pairs.into_iter().zip(measured) {
            pair.grounding = measured.map(|m| m.gain);
            pair.support = measured.map(|m| m.support);
            let verdict = measured.map_or(Ok(()), |m| grounding::judge(&m, call.strategy, self.options.threshold));
            if let (Some(passed), false) = (
                self.report.filter.judge_passed.as_mut(),
                matches!(verdict, Err(("judge_disfavored" | "unsupported", _))),
            ) {
                *passed += 1;
            }
            match verdict {
                Err((reason, detail)) => self.drop(pair, reason, detail),
                Ok(()) if self.options.pairs_max.is_some_and(|max| self.accepted.len() >= max) => {
                    self.drop(pair, "over_max_pairs", "--max-pairs was reached".to_owned());
                }
                Ok(()) => self.accept(pair),
            }
        }
        Ok(())
    }

    fn drop(&mut self, pair: GeneratedPair, reason: &'static str, detail: String) {
        self.report.filtered.push(FilteredPair {
            section_id: pair.section_id.clone(),
            reason,
            detail,
            question: pair.question.clone(),
        });
        self.report.additions.push(pair);
    }

    fn accept(&mut self, mut pair: GeneratedPair) {
        pair.is_accepted = true;
        let content = format!("### Q\n{}\n### A\n{}", pair.question, pair.answer);
        let mut section = Section::text(dlm_core::SectionKind::Instruction, content);
        section.adapter = match &self.options.adapter {
            Some(adapter) => Some(adapter.clone()),
            None => self.routes.get(&pair.source).cloned(),
        };
        section.synth = Some(AutoSynth {
            synth_teacher: encode_name(&self.teacher),
            synth_strategy: pair.strategy.name().to_owned(),
            synth_at: self.around.now().zoned(),
            source_section_id: pair.source.clone(),
        });
        self.present.insert(pair.section_id.clone());
        if !self.made_from.contains(&pair.source) {
            self.made_from.push(pair.source.clone());
        }
        self.accepted.push(section);
        self.report.filter.accepted += 1;
        self.report.additions.push(pair);
    }

    /// Stages or writes what was accepted and says why the run did not end well.
    fn settle(
        mut self,
        document: &Document,
        store: &Store,
        stopped: Option<Failure>,
    ) -> Result<SynthesisResult, Failure> {
        let path = self.options.path.clone();
        let place = Place {
            path: &path,
            dlm_id: &document.parsed.frontmatter().dlm_id,
            store,
        };
        let count = self.accepted.len();
        let options = self.options;
        self.report.outcome = match (count, &stopped) {
            (0, None) if !options.is_dry_run && self.failed == 0 && store.pending_path(PlanKind::Synth).is_file() => {
                staging::lock(self.around, store)?.clear_pending(PlanKind::Synth)?;
                Outcome::Empty
            }
            (0, _) => Outcome::Empty,
            _ if options.is_dry_run => Outcome::Shown,
            (_, None) if options.applies => {
                let placement = if options.is_inline {
                    Placement::Inline
                } else {
                    Placement::End
                };
                let written = staging::write(self.around, PlanKind::Synth, &place, &self.accepted, placement)?;
                self.report.written = written.len();
                Outcome::Applied
            }
            _ => {
                staging::stage(self.around, PlanKind::Synth, &place, self.made_from, self.accepted)?;
                Outcome::Staged
            }
        };
        let stopped = match stopped {
            Some(failure) => Some(staging::with_count(
                failure,
                count,
                self.report.outcome,
                PlanKind::Synth,
                &path,
            )),
            None if count == 0 => Some(nothing_accepted(self.last_failure, &self.report)),
            None => None,
        };
        Ok(SynthesisResult {
            report: self.report,
            stopped,
        })
    }
}

fn nothing_accepted(failure: Option<PluginFailure>, report: &SynthReport) -> Failure {
    match failure {
        // A teacher that failed is the reason, whatever else was found wanting.
        Some(failure) if report.filter.generated == 0 => plugin_failure(SUBJECT, failure),
        _ => Failure::misuse(
            SUBJECT,
            format!(
                "no pair was accepted: {} generated, {} left out by the filter, {} skipped",
                report.filter.generated,
                report.filtered.len(),
                report.skipped.len()
            ),
        )
        .hint(remedy(report)),
    }
}

/// What helps where nothing was accepted: a lower threshold does nothing for a document without prose.
fn remedy(report: &SynthReport) -> &'static str {
    let has_prose = !report.skipped.iter().any(|skip| skip.section == NO_SECTION);
    let is_judged = report.filter.filter == Filter::Sway && !report.filtered.is_empty();
    match (has_prose, report.filter.generated, is_judged) {
        (false, ..) => "write prose into the document: pairs are made from it",
        (true, 0, _) => "the plan above says why; try another `--teacher`",
        (true, _, true) => {
            "the plan above says why; try another `--teacher`, a lower `--threshold` or `--filter dedup-only`"
        }
        (true, _, false) => "the plan above says why; try another `--teacher` or more `--per-section`",
    }
}

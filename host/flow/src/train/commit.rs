//! What a finished run leaves behind: the adapter's files, the summary, the manifest, the replay corpus and `dlm.lock`.

use std::collections::{BTreeMap, BTreeSet};

use dlm_core::lock::DlmLock;
use dlm_core::manifest::RunRecord;
use dlm_core::training::Ending;
use dlm_core::{SectionId, Subject};
use dlm_doc::Section;
use dlm_model::PeftMeta;
use dlm_store::log::{ProbeRecord, RunSummary};
use dlm_store::replay::{BUDGET_BYTES_DEFAULT, Remember, Snapshot};
use dlm_store::{CommitReport, PendingVersion, RunCommit};
use dlm_train::run::Outcome;
use serde_json::json;

use super::job::Job;
use super::measure::Findings;
use super::observe::Observer;
use super::pins::pinned_versions;
use crate::failure::Failure;

/// File beside the adapter with the recall of every pair.
const RECALL_FILE: &str = "recall.json";
/// What is known of a run beyond its summary, whose keys are fixed by contract: `logs/train-….details.json`.
const DETAILS: &str = "details";

/// The summary of a finished run; run and version numbers are filled in by the commit.
fn summary(job: &Job<'_>, run_id: u64, outcome: &Outcome, learned: &Findings) -> RunSummary {
    let is_prose_only = job.prepared.plan.rows.instruction_rows == 0;
    // The loss of a pair is none of a token.
    let token_loss = job.phase.preference.is_none().then_some(outcome.loss);
    RunSummary {
        steps: outcome.state.header.step,
        final_train_loss: Some(outcome.loss),
        final_val_loss: outcome.eval.map(|e| e.loss),
        final_val_perplexity: outcome.eval.map(|e| e.loss.exp()),
        train_loss_cpt: token_loss.filter(|_| is_prose_only),
        train_loss_sft: token_loss.filter(|_| !is_prose_only),
        val_loss_cpt: outcome.eval.and_then(|e| e.cpt),
        val_loss_sft: outcome.eval.and_then(|e| e.sft),
        retention_loss: learned.retention.map(|r| r.loss),
        retention_loss_delta: learned.retention.and_then(|r| r.delta),
        retention_sft: learned.retention.and_then(|r| r.sft),
        retention_cpt: learned.retention.and_then(|r| r.cpt),
        probes: learned
            .probes
            .iter()
            .map(|probe| ProbeRecord {
                prompt: probe.prompt.clone(),
                response: probe.response.clone(),
                reference: Some(probe.reference.clone()),
                section_id: probe.section_id.clone(),
            })
            .collect(),
        early_stopped: outcome.ending == Ending::EarlyStop,
        duration_seconds: outcome.seconds,
        determinism_class: job.prepared.plan.determinism,
        ..RunSummary::new(run_id, 0, job.prepared.plan.seed.value)
    }
}

/// Writes the adapter into its pending version and commits the run.
pub(crate) fn commit(
    job: &Job<'_>,
    pending: PendingVersion<'_>,
    outcome: &Outcome,
    learned: &Findings,
    observer: &Observer<'_>,
) -> Result<CommitReport, Failure> {
    observer.check()?;
    if let Err(error) = outcome.adapter.check_finite() {
        let place = pending.reject()?;
        return Err(Failure::new(Subject::Training, error).hint(format!(
            "the weights are set aside in {}; the last good version stays current",
            place.display()
        )));
    }
    let run_id = observer.run_id();
    write_files(job, &pending, outcome, learned, run_id)?;
    let front = job.prepared.document.parsed.frontmatter();
    let sections = job.prepared.document.parsed.sections();
    let run = RunRecord {
        steps: outcome.state.header.step,
        final_train_loss: Some(outcome.loss),
        final_val_loss: outcome.eval.map(|e| e.loss),
        ..job.record(run_id, pending.number(), observer.started_at())
    };
    let content_hashes: BTreeMap<String, String> = sections
        .iter()
        .map(|s| (s.id().as_str().to_owned(), s.kind.as_str().to_owned()))
        .collect();
    let lock = job.mode.writes().then(|| DlmLock {
        last_run_id: run_id,
        ..job.lock.clone()
    });
    let path = std::path::absolute(&job.prepared.document.path).unwrap_or_else(|_| job.prepared.document.path.clone());
    let report = job.guard.commit_run(
        pending,
        RunCommit {
            run,
            summary: summary(job, run_id, outcome, learned),
            remember: remember(job, run_id)?,
            superseded: job.prepared.replay.superseded.clone(),
            current_sections: sections.iter().map(|s| s.id().clone()).collect::<BTreeSet<SectionId>>(),
            replay_budget_bytes: BUDGET_BYTES_DEFAULT,
            content_hashes: job.prepared.is_last.then_some(content_hashes),
            base_model: front.base_model.clone(),
            base_model_revision: Some(job.lock.base_model_revision.clone()),
            base_model_sha256: job.lock.base_model_sha256.clone(),
            source_path: Some(path.display().to_string()),
            lock,
            now: job.around.now(),
        },
    )?;
    debug_assert_eq!(report.manifest.dlm_id, front.dlm_id.as_str());
    let details = json!({
        "replay": job.prepared.replay.report,
        "retention": learned.retention,
        "probes": learned.probes,
        "preference": learned.preference,
    });
    job.guard
        .write_run_sidecar(run_id, observer.started_at(), DETAILS, &details)?;
    Ok(report)
}

/// The sections that the replay corpus takes up: those that are new, and those that it lost.
fn remember(job: &Job<'_>, run_id: u64) -> Result<Vec<Remember>, Failure> {
    let at = job.around.now();
    let corpus = job.store.replay()?;
    let is_known = |id: &SectionId| corpus.entries().iter().any(|entry| entry.section_id == *id);
    let is_wanted = |section: &&Section| {
        let id = section.id();
        !section.kind.is_media()
            && !section.content.trim().is_empty()
            && job.lane.takes_section(section)
            // What the first phase took up is not seen again by the second.
            && (job.turn.is_first && job.prepared.replay.new.contains(&id) || !is_known(&id))
    };
    let sections = job.prepared.document.parsed.sections();
    Ok(sections
        .iter()
        .filter(is_wanted)
        .map(|s| Remember {
            snapshot: Snapshot {
                section_id: s.id(),
                section_type: s.kind,
                content: s.content.clone(),
                auto_mined: s.mined.is_some(),
                first_seen_at: at,
                last_seen_at: at,
                training_runs_seen: vec![run_id],
            },
            adapter: s.adapter.clone(),
            is_synthesized: s.synth.is_some(),
        })
        .collect())
}

fn write_files(
    job: &Job<'_>,
    pending: &PendingVersion<'_>,
    outcome: &Outcome,
    learned: &Findings,
    run_id: u64,
) -> Result<(), Failure> {
    let meta = PeftMeta {
        base: job.prepared.base.resolved.record.hf_id.clone(),
        revision: Some(job.lock.base_model_revision.clone()),
    };
    for (name, bytes) in outcome.adapter.peft_files(&meta) {
        pending.write(name, &bytes)?;
    }
    for (name, text) in job.prepared.text.files()? {
        pending.write(name, text.as_bytes())?;
    }
    pending.write_json("pinned_versions.json", &json!(pinned_versions()))?;
    pending.write_json(
        "training_run.json",
        &json!({ "use_qlora": job.prepared.was_quantized(), "precision": job.prepared.plan.precision.value.name(), "run_id": run_id }),
    )?;
    pending.write_json(RECALL_FILE, &json!(learned.recall))?;
    Ok(())
}

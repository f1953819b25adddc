//! One training run as the flow makes it, without a model: every write of a run in its real order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use dlm_core::Determinism;
use dlm_core::lock::{DlmLock, HardwareTier, LOCK_VERSION};
use dlm_core::manifest::{Manifest, RunRecord, RunStatus};
use dlm_core::stamp::Stamp;
use dlm_core::{Cancel, SectionId, SectionKind};
use dlm_store::log::{Banner, CompleteLine, RunSummary, StepLine};
use dlm_store::metrics::{EvalMetrics, RunStart, StepMetrics, Strictness};
use dlm_store::replay::{Remember, Snapshot};
use dlm_store::{
    AdapterSlot, CommitReport, LockWait, RunCommit, StateData, StateTensor, Store, StoreGuard, TrainingState, delta,
};

pub const DLM_ID: &str = "01HZ4X7TGZM3J1A2B3C4D5E6F7";

/// What one run trains on, and when.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    pub now_ms: i64,
    pub sections: &'a [&'a str],
    pub replay_budget_bytes: u64,
}

pub fn stamp(unix_ms: i64) -> Stamp {
    Stamp::from_unix_ms(unix_ms)
}

pub fn wait(now_ms: i64) -> LockWait {
    LockWait {
        timeout: std::time::Duration::ZERO,
        cancel: Cancel::new(),
        now: stamp(now_ms),
    }
}

pub fn id(content: &str) -> SectionId {
    SectionId::of_content(SectionKind::Prose, content)
}

/// A file that every reader of weights accepts.
pub fn weights(value: f32) -> Vec<u8> {
    let header = br#"{"lora_A":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}     "#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes.extend_from_slice(&(-value).to_le_bytes());
    bytes
}

pub fn state(step: u64) -> TrainingState {
    let mut state = TrainingState::default();
    let tensor = StateTensor {
        shape: vec![2, 2],
        data: StateData::F32(vec![step as f32, -0.0, f32::MIN_POSITIVE, 3.5]),
    };
    state.tensors.insert("exp_avg.lora_A".to_owned(), tensor);
    let tensor = StateTensor {
        shape: vec![3],
        data: StateData::U8(vec![1, 2, 3]),
    };
    state.tensors.insert("bytes".to_owned(), tensor);
    state.fields.insert("step".to_owned(), step.into());
    state.fields.insert("seed".to_owned(), 42.into());
    state.rng.insert("data".to_owned(), "0123456789abcdef".into());
    state
}

pub fn run_record(run_id: u64, version: u32, started_at: Stamp) -> RunRecord {
    RunRecord {
        run_id,
        started_at,
        ended_at: None,
        adapter_version: version,
        base_model_revision: Some("rev".to_owned()),
        seed: 42,
        steps: 3,
        final_train_loss: Some(0.25),
        final_val_loss: None,
        status: RunStatus::Running,
        pinned_versions: BTreeMap::from([("engine".to_owned(), "0.1.0".to_owned())]),
        summary_path: None,
        adapter_name: None,
        weight_distribution: None,
    }
}

pub fn lock_record(run_id: u64, now: Stamp) -> DlmLock {
    DlmLock {
        lock_version: LOCK_VERSION,
        created_at: now.zoned(),
        dlm_id: DLM_ID.to_owned(),
        dlm_sha256: "a".repeat(64),
        base_model_revision: "rev".to_owned(),
        base_model_sha256: None,
        pinned_versions: BTreeMap::from([("engine".to_owned(), "0.1.0".to_owned())]),
        cuda_version: None,
        rocm_version: None,
        hardware_tier: HardwareTier::Cpu,
        seed: 42,
        determinism_flags: BTreeMap::new(),
        determinism_class: Determinism::Strong,
        license_acceptance: None,
        last_run_id: run_id,
        world_size: 1,
    }
}

/// Runs once from taking the lock to giving it back.
pub fn train(store: &Store, run: &Run<'_>) -> Result<CommitReport> {
    let now = stamp(run.now_ms);
    let guard = store.lock(&wait(run.now_ms)).context("lock")?;
    if guard.manifest()?.is_none() {
        guard.initialize(&Manifest::new(DLM_ID, "smollm2-135m", now))?;
    }
    let mut recorder = guard.metrics_recorder(Strictness::Strict)?;
    let manifest = guard.manifest()?.context("just made")?;
    let run_id = manifest.next_run_id().max(recorder.last_run_id()? + 1);
    let version = guard.next_version(&AdapterSlot::Flat)?;
    recorder.run_started(&RunStart {
        run_id,
        started_at: now,
        adapter_version: version,
        phase: "sft",
        seed: 42,
    })?;
    guard.record_run(now, run_record(run_id, version, now))?;
    let report = write_and_commit(&guard, &mut recorder, run, run_id)?;
    recorder.run_ended(run_id, now, RunStatus::Completed)?;
    guard.release()?;
    Ok(report)
}

fn write_and_commit(
    guard: &StoreGuard,
    recorder: &mut dlm_store::metrics::MetricsRecorder,
    run: &Run<'_>,
    run_id: u64,
) -> Result<CommitReport> {
    let now = stamp(run.now_ms);
    let ids: Vec<_> = run.sections.iter().map(|content| id(content)).collect();
    let manifest = guard.manifest()?.context("recorded above")?;
    let change = delta(&ids, &manifest.content_hashes);
    let mut log = guard.open_run_log(run_id, now)?;
    log.banner(&Banner {
        run_id,
        seed: 42,
        determinism_class: Determinism::Strong,
        determinism_notes: Vec::new(),
        pinned_versions: Vec::new(),
        plan: serde_json::json!({"lora_r": 8}),
    })?;
    log.delta(&change)?;

    let pending = guard.begin_version(AdapterSlot::Flat)?;
    pending.write("adapter_config.json", b"{\"r\": 8}\n")?;
    pending.write("adapter_model.safetensors", &weights(run_id as f32))?;
    pending.write_state(state(run_id))?;
    log.step(&StepLine {
        step: 3,
        loss: 0.25,
        lr: 1e-4,
        grad_norm: Some(1.0),
        tokens_per_sec: None,
        val_loss: None,
        timestamp: now,
    })?;
    recorder.step(&StepMetrics {
        run_id,
        step: 3,
        loss: 0.25,
        lr: 1e-4,
        grad_norm: Some(1.0),
        tokens_per_sec: Some(100.0),
        peak_vram_mb: None,
        at: now,
    })?;
    recorder.eval(&EvalMetrics {
        run_id,
        step: 3,
        val_loss: Some(0.5),
        perplexity: Some(1.6),
        retention: None,
        at: now,
    })?;

    let new: BTreeSet<_> = change.new.iter().cloned().collect();
    let sections = run.sections.iter().filter(|content| new.contains(&id(content)));
    let version = pending.number();
    let commit = RunCommit {
        run: run_record(run_id, version, now),
        summary: RunSummary::new(run_id, version, 42),
        remember: sections.map(|content| remember(content, run_id, now)).collect(),
        superseded: Vec::new(),
        current_sections: ids.iter().cloned().collect(),
        replay_budget_bytes: run.replay_budget_bytes,
        content_hashes: Some(ids.iter().map(|id| (id.to_string(), "prose".to_owned())).collect()),
        base_model: "smollm2-135m".to_owned(),
        base_model_revision: Some("rev".to_owned()),
        base_model_sha256: None,
        source_path: Some("/doc.dlm".to_owned()),
        lock: Some(lock_record(run_id, now)),
        now,
    };
    let report = guard.commit_run(pending, commit)?;
    log.complete(&CompleteLine {
        run_id,
        adapter_version: version,
        steps: 3,
        elapsed_seconds: 0.5,
        early_stopped: false,
        summary_path: report.summary_path.clone(),
        timestamp: now,
    })?;
    Ok(report)
}

pub fn remember(content: &str, run_id: u64, now: Stamp) -> Remember {
    Remember {
        snapshot: Snapshot {
            section_id: id(content),
            section_type: SectionKind::Prose,
            content: content.to_owned(),
            auto_mined: false,
            first_seen_at: now,
            last_seen_at: now,
            training_runs_seen: vec![run_id],
        },
        adapter: None,
        is_synthesized: false,
    }
}

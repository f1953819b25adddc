//! The export-target port: what turns a prepared set of artefacts into something a runtime serves.
//!
//! Order of calls: [`TargetSource::open`], [`ExportTarget::prepare`], [`ExportTarget::install`],
//! [`ExportTarget::smoke`]; [`run_target`] makes the last three. Opening is cheap enough to come before the weights are
//! touched, so that an unknown target is refused first.

use std::path::PathBuf;

pub use super::plugin::{PluginFailure, PluginFailureDetail};

/// The artefact kinds a target can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    Gguf,
    Adapter,
    Tokenizer,
    ChatTemplate,
    Manifest,
    Pack,
    Document,
    Other,
}

/// One finished file that a target may use. It is never handed over by path: the target names it, the host opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Unique in one export: `base.gguf`, `merged.gguf`, `adapter.gguf`, `adapters/<name>.gguf`.
    pub name: String,
    pub kind: ArtifactKind,
    pub path: PathBuf,
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Its name relative to the export directory, with `/`; scripts use `$SCRIPT_DIR/<staged_path>`.
    pub staged_path: Option<String>,
}

/// Where a target works: the export directory and the finished files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The export directory; it exists. The target's files are written here.
    pub directory: PathBuf,
    pub artifacts: Vec<Artifact>,
    /// Names in `directory` that a target may not write, besides the artefacts' own: `export_manifest.json`, …
    pub reserved: Vec<String>,
    /// The artefacts are not written yet: what a target refuses by their names and the plan alone is refused before they are.
    pub is_draft: bool,
}

/// The base model, as targets show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetBase {
    /// Registry key or `hf:org/name`.
    pub reference: String,
    /// `org/name` on the hub, for runtimes that fetch the base themselves.
    pub hub_id: Option<String>,
    pub revision: Option<String>,
    pub architecture: String,
    /// Transformer blocks.
    pub layers: u32,
    pub context_length: u32,
    /// SPDX id or label.
    pub license: Option<String>,
}

/// One adapter of the export.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetAdapter {
    /// `default` for the single adapter of a document.
    pub name: String,
    pub version: u32,
    /// Name of its [`Artifact`]; when merged, the name of the merged model. For a target whose `accepts` begins with
    /// [`ArtifactKind::Adapter`] it is the prefix of two, in PEFT's form: `<artifact>/adapter_config.json` and
    /// `<artifact>/adapter_model.safetensors`.
    pub artifact: String,
    pub weight: f64,
}

/// How messages become text, in the model's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetChat {
    /// The Jinja template, whole.
    pub template: String,
    /// The dialect of the base registry: `chatml`, `qwen3thinking`, `smollm3`, `gemma2`, `olmo2`, `llama3`, `phi3`,
    /// `phi4mini`, `mistral`; nothing when unknown.
    pub family: Option<String>,
    /// What the template puts in the system block when the conversation has no system message.
    pub default_system: Option<String>,
    /// What the template prints at the head of the system block before any system text, such as SmolLM3's metadata with
    /// its pinned date; nothing for the family's usual (Llama-3's pinned date lines, Phi-4-mini's name).
    pub preamble: Option<String>,
    /// Stop texts in order, without repeats.
    pub stop: Vec<String>,
    /// False with `--no-template`: the runtime chooses its own template.
    pub is_written: bool,
}

/// A question whose greedy answer is known, so that the smoke test can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetProbe {
    pub system: Option<String>,
    pub user: String,
    /// What `dlm prompt --temp 0` answers, special tokens left out.
    pub answer: String,
    /// The prompt's token ids as `dlm` renders it, generation prompt included; empty when not to be compared.
    pub prompt_tokens: Vec<u32>,
    pub new_tokens_max: u32,
    /// True where the answer must be the same text (F16 and F32 weights); false where only an answer is asked for.
    pub is_exact: bool,
}

/// Everything a target knows about the export.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetPlan {
    /// Name to serve or register under.
    pub name: String,
    pub document_id: String,
    /// The `.dlm` file's name, without its directory.
    pub source: Option<String>,
    pub base: TargetBase,
    pub adapters: Vec<TargetAdapter>,
    /// `Q4_K_M`, `F16`, …
    pub quant: String,
    pub is_merged: bool,
    /// `min(training.sequence_len, base context length)`.
    pub context_length: u32,
    /// Nothing when the adapter's tokenizer has no chat template.
    pub chat: Option<TargetChat>,
    pub system_prompt: Option<String>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    /// Model tag for speculative decoding.
    pub draft: Option<String>,
    /// `os/arch` of this machine, such as `linux/x86_64`.
    pub platform: String,
    /// What was derived for this target, by name. Settings of the user do not go this way.
    pub options: Vec<(String, String)>,
    pub probe: Option<TargetProbe>,
}

/// What a target says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    pub name: String,
    /// The plugin's version.
    pub version: String,
    pub detail: Option<String>,
    /// Artefact kinds it can use, best first.
    pub accepts: Vec<ArtifactKind>,
    /// `os/arch` pairs; empty means any.
    pub platforms: Vec<String>,
    /// Programs it may run.
    pub programs: Vec<String>,
    /// Those of them that are not on this machine.
    pub missing: Vec<String>,
    /// The export is of no use before a program on this machine knows it; without that program nothing is exported.
    pub needs_registration: bool,
    /// What it may do, in grant syntax, for `--verbose` and for the record of the export.
    pub granted: Vec<String>,
    /// Hash of the component that runs, lower-case hex.
    pub sha256: String,
}

/// One file that a target wrote, already at its place in the export directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFile {
    /// Relative to the export directory, with `/`.
    pub name: String,
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    pub is_executable: bool,
}

/// What `prepare` made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PreparedTarget {
    pub files: Vec<TargetFile>,
    /// The file that starts the result, when there is one: a launch script, a Modelfile.
    pub entry: Option<String>,
    /// Commands that `install` will run.
    pub install_preview: Vec<String>,
    /// What to type to use the result.
    pub usage: Vec<String>,
}

/// What the runtime knows the result by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRegistration {
    pub name: String,
    pub runtime_version: Option<String>,
}

/// How the smoke test went. A failed one is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSmoke {
    /// Not run, and why.
    Skipped { reason: String },
    /// First line of the answer.
    Passed { detail: String },
}

/// Everything that one export target did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReport {
    pub info: TargetInfo,
    pub prepared: PreparedTarget,
    pub registration: Option<TargetRegistration>,
    pub smoke: TargetSmoke,
}

/// Finds targets by name.
pub trait TargetSource {
    /// The known names, in the order in which messages list them. Starts nothing.
    fn names(&self) -> Vec<String>;

    /// Checks that `selector` (`name` or `name:argument`) names a target, without starting it.
    ///
    /// **Errors**: code `plugin::unknown`, a misuse that lists the known names.
    fn check(&self, selector: &str) -> Result<(), PluginFailure>;

    /// Opens the target that `selector` names.
    ///
    /// **Errors**: as [`TargetSource::check`]; and when the plugin cannot be loaded or refuses.
    fn open(&self, selector: &str) -> Result<Box<dyn ExportTarget>, PluginFailure>;
}

/// One opened target.
pub trait ExportTarget {
    /// What it says about itself.
    fn info(&self) -> &TargetInfo;

    /// Writes the target's files into the stage's directory, all of them or none. On a draft it may be asked once before, and
    /// makes nothing where it would have to read an artefact.
    fn prepare(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<PreparedTarget, PluginFailure>;

    /// Registers the result with the runtime, where it has a notion of that.
    fn install(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<Option<TargetRegistration>, PluginFailure>;

    /// Serves the result once and asks it a question.
    ///
    /// **Errors**: an answer that is missing, empty or other than the probe's is an error with subject `smoke`.
    fn smoke(&mut self, plan: &TargetPlan, stage: &Stage) -> Result<TargetSmoke, PluginFailure>;
}

/// How far [`run_target`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRun {
    /// False where the result is not to be registered: stop after the files.
    pub is_installed: bool,
    /// False with `--no-smoke`.
    pub is_smoked: bool,
}

/// Takes a finished set of artefacts through an opened target: files, registration, smoke test.
///
/// **Errors**: the first failure; files that `prepare` wrote stay, so that a failed smoke test can be repeated by hand.
pub fn run_target(
    target: &mut dyn ExportTarget,
    plan: &TargetPlan,
    stage: &Stage,
    run: TargetRun,
) -> Result<TargetReport, PluginFailure> {
    let prepared = target.prepare(plan, stage)?;
    let registration = if run.is_installed {
        target.install(plan, stage)?
    } else {
        None
    };
    let smoke = if run.is_installed && run.is_smoked {
        target.smoke(plan, stage)?
    } else {
        TargetSmoke::Skipped {
            reason: match (run.is_smoked, run.is_installed) {
                (false, _) => "--no-smoke",
                (true, _) => "the result is not registered with its program",
            }
            .to_owned(),
        }
    };
    Ok(TargetReport {
        info: target.info().clone(),
        prepared,
        registration,
        smoke,
    })
}

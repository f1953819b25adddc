//! The words of the `training` block, and what an author wrote in it: read by the document, planned with, stored and
//! typed on the command line, always these types.
//!
//! Invariants: plain data; the words are those of the frontmatter (`spec/document.md`).

use serde::{Deserialize, Serialize, Serializer};

use crate::choice::Choice;

/// How an adapter is made: `training.adapter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// Two thin matrices beside each weight.
    Lora,
    /// The same on a base whose weights are kept in four bits.
    Qlora,
    /// The same with a length for every row of the sum.
    Dora,
}

impl Choice for AdapterKind {
    const TABLE: &'static [(&'static str, Self)] =
        &[("lora", Self::Lora), ("qlora", Self::Qlora), ("dora", Self::Dora)];
}

/// The rule of an update: `training.optimizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// AdamW with moments in `f32`.
    AdamW,
    /// AdamW with moments in eight bits.
    AdamW8bit,
    /// The same, with moments that may leave the accelerator's memory.
    PagedAdamW8bit,
    /// GaLore over AdamW.
    Galore,
    /// GaLore over AdamW with moments in eight bits.
    Galore8bit,
}

impl Choice for Optimizer {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("adamw_torch", Self::AdamW),
        ("adamw_bnb_8bit", Self::AdamW8bit),
        ("paged_adamw_8bit", Self::PagedAdamW8bit),
        ("galore_adamw", Self::Galore),
        ("galore_adamw_8bit", Self::Galore8bit),
    ];
}

impl Optimizer {
    /// How it keeps its moments.
    pub fn moments(self) -> MomentType {
        match self {
            Optimizer::AdamW | Optimizer::Galore => MomentType::F32,
            Optimizer::AdamW8bit | Optimizer::PagedAdamW8bit | Optimizer::Galore8bit => MomentType::EightBit,
        }
    }
}

/// How an optimizer keeps what it remembers of earlier gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentType {
    /// As they are.
    #[default]
    F32,
    /// In blocks of eight-bit codes with a scale each.
    EightBit,
}

impl Choice for MomentType {
    const TABLE: &'static [(&'static str, Self)] = &[("f32", Self::F32), ("8bit", Self::EightBit)];
}

impl MomentType {
    /// Says whether it is [`MomentType::F32`].
    pub fn is_f32(&self) -> bool {
        *self == MomentType::F32
    }

    /// The AdamW that keeps its moments so.
    pub fn adamw(self) -> Optimizer {
        match self {
            MomentType::F32 => Optimizer::AdamW,
            MomentType::EightBit => Optimizer::AdamW8bit,
        }
    }
}

/// How the learning rate falls: `training.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrSchedule {
    Cosine,
    Linear,
    Constant,
}

impl Choice for LrSchedule {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("cosine", Self::Cosine),
        ("linear", Self::Linear),
        ("constant", Self::Constant),
    ];
}

/// Whether a run is continued pretraining: `training.cpt.schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CptSchedule {
    /// By the share of prose.
    Auto,
    /// Continued pretraining (domain-adaptive).
    Dapt,
    /// Supervised fine-tuning.
    Sft,
}

impl Choice for CptSchedule {
    const TABLE: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("dapt", Self::Dapt), ("sft", Self::Sft)];
}

/// What a phase of a run trains; `dlm train`, `dlm metrics` and the plan say it with one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainPhase {
    /// Supervised fine-tuning on questions, answers and prose.
    Sft,
    /// Continued pretraining: the document is prose enough that it is read as a corpus.
    Cpt,
    /// Preferences, by how far they are from a reference.
    Dpo,
    /// Preferences, by their odds beside the likelihood of what is preferred.
    Orpo,
}

impl Choice for TrainPhase {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("sft", Self::Sft),
        ("cpt", Self::Cpt),
        ("dpo", Self::Dpo),
        ("orpo", Self::Orpo),
    ];
}

impl TrainPhase {
    /// Says whether preferences are taught.
    pub fn is_preference(self) -> bool {
        matches!(self, TrainPhase::Dpo | TrainPhase::Orpo)
    }
}

/// Which phases a run has: `dlm train --phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PhaseSelection {
    /// Questions, answers and prose alone.
    Sft,
    /// Preferences alone, on the current adapter.
    Preference,
    /// Whatever the document has.
    #[default]
    All,
}

impl Choice for PhaseSelection {
    const TABLE: &'static [(&'static str, Self)] =
        &[("sft", Self::Sft), ("preference", Self::Preference), ("all", Self::All)];
}

impl PhaseSelection {
    /// Says whether questions, answers and prose are trained.
    pub fn has_sft(self) -> bool {
        self != PhaseSelection::Preference
    }

    /// Says whether preferences are.
    pub fn has_preference(self) -> bool {
        self != PhaseSelection::Sft
    }
}

/// The precision of the frozen products: `training.precision`. Reductions, softmax, norms, the loss and the adapter stay
/// in `f32` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Bf16,
    Fp16,
    Fp32,
}

impl Choice for Precision {
    const TABLE: &'static [(&'static str, Self)] = &[("bf16", Self::Bf16), ("fp16", Self::Fp16), ("fp32", Self::Fp32)];
}

impl Precision {
    /// Bytes of one packed weight.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::Bf16 | Precision::Fp16 => 2,
            Precision::Fp32 => 4,
        }
    }
}

/// What the forward pass of a step drops and its backward pass computes anew, block by block.
///
/// A choice of blocks and not a longer stretch between kept inputs: an input is a tenth or less of what a block keeps else, so two
/// blocks computed anew at once would hold more than the one input that they save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpointing {
    /// One block of so many keeps its input alone; 0 where every block keeps all that its backward needs. The numbers are the same.
    pub every: u32,
    /// The inputs that are kept so are rounded to bf16, which changes gradients in their third digit.
    pub is_narrow: bool,
}

impl Checkpointing {
    /// Every block keeps all that its backward needs.
    pub const OFF: Checkpointing = Checkpointing {
        every: 0,
        is_narrow: false,
    };
    /// Every block keeps its input alone.
    pub const ALL: Checkpointing = Checkpointing {
        every: 1,
        is_narrow: false,
    };

    /// Says whether block `index` keeps its input alone.
    pub fn drops(self, index: usize) -> bool {
        self.every > 0 && index.is_multiple_of(self.every as usize)
    }
}

/// Which files a source may name: `training.sources_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcesPolicy {
    Permissive,
    /// Inside the document's directory only.
    Strict,
}

impl Choice for SourcesPolicy {
    const TABLE: &'static [(&'static str, Self)] = &[("permissive", Self::Permissive), ("strict", Self::Strict)];
}

/// How preferences are taught: `training.preference.method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferenceMethod {
    Dpo,
    Orpo,
}

impl Choice for PreferenceMethod {
    const TABLE: &'static [(&'static str, Self)] = &[("dpo", Self::Dpo), ("orpo", Self::Orpo)];
}

/// The loss of a preference: `training.preference.loss_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferenceLoss {
    Sigmoid,
    Hinge,
    Ipo,
}

impl Choice for PreferenceLoss {
    const TABLE: &'static [(&'static str, Self)] =
        &[("sigmoid", Self::Sigmoid), ("hinge", Self::Hinge), ("ipo", Self::Ipo)];
}

/// What a preference is measured against: `training.preference.reference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreferenceReference {
    /// The base alone.
    Base,
    /// The adapter as it was before preferences.
    PreAdapter,
}

impl Choice for PreferenceReference {
    const TABLE: &'static [(&'static str, Self)] = &[("base", Self::Base), ("pre_adapter", Self::PreAdapter)];
}

/// How a gate between the adapters of a document came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateMode {
    /// It was learned.
    Trained,
    /// Every adapter has the same weight.
    Uniform,
    /// Its training left the finite numbers.
    Diverged,
}

impl Choice for GateMode {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("trained", Self::Trained),
        ("uniform", Self::Uniform),
        ("diverged", Self::Diverged),
    ];
}

/// Whether the learned gate decides between adapters: `--gate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateChoice {
    /// Where there is one.
    Auto,
    /// Every adapter has the same weight.
    Off,
}

impl Choice for GateChoice {
    const TABLE: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("off", Self::Off)];
}

/// How adapters become one: `--adapter-mix-method`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MixMethod {
    /// The weighted sum, exact; its rank is the sum of theirs.
    #[default]
    Linear,
    /// The nearest adapter to that sum of the largest of their ranks.
    Svd,
}

impl Choice for MixMethod {
    const TABLE: &'static [(&'static str, Self)] = &[("linear", Self::Linear), ("svd", Self::Svd)];
}

/// Why a run took no further step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It took every step of the plan.
    Complete,
    /// The answers were known, or the loss on validation rows stopped falling.
    EarlyStop,
    /// `--max-steps` cut the plan short.
    MaxSteps,
    /// The caller asked to stop; the state is where it stood.
    Cancelled,
}

impl Choice for Ending {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("complete", Self::Complete),
        ("early_stop", Self::EarlyStop),
        ("max_steps", Self::MaxSteps),
        ("cancelled", Self::Cancelled),
    ];
}

crate::named_choices!(
    AdapterKind,
    Optimizer,
    MomentType,
    LrSchedule,
    CptSchedule,
    TrainPhase,
    PhaseSelection,
    Precision,
    SourcesPolicy,
    PreferenceMethod,
    PreferenceLoss,
    PreferenceReference,
    GateMode,
    GateChoice,
    MixMethod,
    Ending,
);

/// A number, or the word `auto`, which is the same as leaving the key out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto {
    Auto,
    Given(u32),
}

impl Auto {
    /// The number, unless the plan is to choose.
    pub fn given(self) -> Option<u32> {
        match self {
            Auto::Auto => None,
            Auto::Given(number) => Some(number),
        }
    }
}

impl Serialize for Auto {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Auto::Auto => serializer.serialize_str("auto"),
            Auto::Given(number) => serializer.serialize_u32(*number),
        }
    }
}

/// Which layers get an adapter: `training.target_modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    Auto,
    /// Presets (`attention`, `mlp`, `all-linear`), last path components, or dotted suffixes.
    Named(Vec<String>),
}

impl TargetModules {
    /// The names, unless the plan is to choose.
    pub fn named(&self) -> Option<&[String]> {
        match self {
            TargetModules::Auto => None,
            TargetModules::Named(names) => Some(names),
        }
    }
}

impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            TargetModules::Auto => serializer.serialize_str("auto"),
            TargetModules::Named(names) => names.serialize(serializer),
        }
    }
}

/// The training knobs that an author wrote; `None` leaves the choice to the plan, as the word `auto` does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WrittenKnobs {
    pub adapter: Option<AdapterKind>,
    pub lora_r: Option<u32>,
    pub lora_alpha: Option<u32>,
    pub lora_dropout: Option<f64>,
    /// As [`TargetModules::Named`].
    pub target_modules: Option<Vec<String>>,
    pub sequence_len: Option<u32>,
    pub micro_batch_size: Option<u32>,
    pub grad_accum: Option<u32>,
    pub learning_rate: Option<f64>,
    pub num_epochs: Option<u32>,
    pub optimizer: Option<Optimizer>,
    pub lr_scheduler: Option<LrSchedule>,
    pub warmup_ratio: Option<f64>,
    pub seed: Option<i64>,
    pub precision: Option<Precision>,
    pub cpt_schedule: Option<CptSchedule>,
    pub embed_warmup_steps: Option<u32>,
}

/// The block `training.preference`, as far as a plan reads it; a rate or a number of passes that was not written is left to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenPreference {
    pub method: PreferenceMethod,
    pub loss: PreferenceLoss,
    pub reference: PreferenceReference,
    pub beta: f64,
    pub alpha: f64,
    pub learning_rate: Option<f64>,
    pub num_epochs: Option<u32>,
}

impl Default for WrittenPreference {
    fn default() -> Self {
        WrittenPreference {
            method: PreferenceMethod::Dpo,
            loss: PreferenceLoss::Sigmoid,
            reference: PreferenceReference::PreAdapter,
            beta: 0.1,
            alpha: 0.1,
            learning_rate: None,
            num_epochs: None,
        }
    }
}

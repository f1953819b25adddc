//! Continuations of many prompts, in the loop that everything generates with.
//!
//! Invariants: what a sequence says does not depend on which others it is generated with, on a reader of fixed precision
//! paths.

use dlm_core::Cancel;
use dlm_model::Reader;
use dlm_model::generate::{GenerateError, GenerateJob, GenerateOptions, Generation, ManyOptions, Watch, generate_many};
use dlm_model::sampling::Sampling;
use dlm_model::text::TextModel;

/// Bytes that the caches of sequences side by side may take.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// One prompt to continue.
pub struct Prompt {
    pub ids: Vec<u32>,
    /// Most tokens to add, at least 1.
    pub tokens_max: usize,
    pub sampling: Sampling,
}

/// Continues every prompt until the base's stops; the answers come in the order of the prompts.
///
/// **Errors:** a prompt longer than the model's context, a model that fails.
pub fn continue_all(
    reader: &mut dyn Reader,
    text: &TextModel,
    prompts: Vec<Prompt>,
    watch: Watch<'_>,
    cancel: &Cancel,
) -> Result<Vec<Generation>, GenerateError> {
    let job = |prompt: Prompt| GenerateJob {
        prompt: prompt.ids,
        options: GenerateOptions {
            sampling: prompt.sampling,
            tokens_max: prompt.tokens_max,
            stops: text.stops.clone(),
            cancel: cancel.clone(),
        },
    };
    let jobs: Vec<GenerateJob> = prompts.into_iter().map(job).collect();
    let options = ManyOptions {
        // The engine refuses what is longer than the model's.
        context_max: usize::MAX,
        cache_bytes_max: CACHE_BYTES_MAX,
        watch,
    };
    generate_many(reader, &text.tokenizer, &jobs, &options)
}

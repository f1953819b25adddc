//! Finding the artefacts that a plan speaks of.

use crate::artifacts;
use crate::target::Plan;
use crate::{Error, error};

/// The staged paths of an export's model and, unless merged, its adapter.
pub struct Weights {
    pub model: artifacts::Info,
    pub adapter: Option<artifacts::Info>,
}

/// Finds the model that a runtime loads and the adapter that goes with it.
pub fn weights(plan: &Plan) -> Result<Weights, Error> {
    let model = staged(if plan.merged { "merged.gguf" } else { "base.gguf" })?;
    let adapter = match plan.adapters.as_slice() {
        _ if plan.merged => None,
        [adapter] => Some(staged(&adapter.artifact)?),
        [] => None,
        many => {
            let names: Vec<&str> = many.iter().map(|adapter| adapter.name.as_str()).collect();
            return Err(Error::Unsupported(format!(
                "this target serves one adapter, the plan has {}: {}",
                many.len(),
                names.join(", ")
            )));
        }
    };
    Ok(Weights { model, adapter })
}

fn staged(name: &str) -> Result<artifacts::Info, Error> {
    let found = artifacts::list_inputs().into_iter().find(|input| input.name == name);
    match found {
        Some(input) if input.staged_path.is_some() => Ok(input),
        Some(_) => Err(Error::NotFound(format!(
            "artefact `{name}` is not in the export directory"
        ))),
        None => Err(Error::NotFound(format!("the export has no artefact `{name}`"))),
    }
}

/// Bytes of an artefact, whole.
///
/// **Errors**: one that is larger than `bytes_max` is refused before it is read.
pub fn read(name: &str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    const CHUNK_BYTES: u32 = 1 << 20;
    let input = artifacts::open_input(name)?;
    let size = input.info().size;
    if size > bytes_max {
        return Err(error!(
            Unsupported,
            "the artefact `{name}` has {size} bytes, at most {bytes_max} are read"
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    loop {
        let chunk = input.read(bytes.len() as u64, CHUNK_BYTES)?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// The path a script in the export directory uses.
pub fn path(input: &artifacts::Info) -> String {
    input.staged_path.clone().unwrap_or_else(|| input.name.clone())
}

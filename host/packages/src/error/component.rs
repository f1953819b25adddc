//! A file that is no plugin which this dlm could run.

use std::path::{Path, PathBuf};

use super::{Diagnose, Diagnosis, quoted};
use crate::contract::API_SUPPORTED;
use crate::kind::Kind;
use crate::manifest::ManifestError;

/// What is wrong with a component or its manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    #[error("`{}` is no component that can be used: {cause}", path.display())]
    Malformed { path: PathBuf, cause: String },
    #[error("`{}` is a core module, not a component", path.display())]
    NotAComponent { path: PathBuf },
    #[error("the manifest in `{}` is wrong: {cause}", path.display())]
    Manifest { path: PathBuf, cause: String },
    #[error("`{}` exports {}, its manifest says {}", path.display(), names(exported), names(claimed))]
    Kinds {
        path: PathBuf,
        claimed: Vec<Kind>,
        exported: Vec<Kind>,
    },
    #[error("`{}` exports none of the interfaces of a plugin", path.display())]
    NoKind { path: PathBuf },
    #[error("plugin `{plugin}` {version} was built for plugin API {found}; this dlm has {API_SUPPORTED}")]
    Api {
        plugin: String,
        version: String,
        found: String,
    },
    #[error("plugin `{plugin}` imports `{import}`, {cause}")]
    Import {
        plugin: String,
        import: String,
        cause: String,
    },
    #[error("`{}` uses streams, futures or async functions of WASI 0.3, which no plugin may", path.display())]
    Async { path: PathBuf },
    #[error("plugin `{plugin}` imports WASI, which your settings refuse (`wasi = \"none\"`)")]
    Wasi { plugin: String },
}

impl ComponentError {
    /// A broken manifest of the file at `path`.
    pub(crate) fn of_manifest(path: &Path, error: ManifestError) -> ComponentError {
        let path = path.to_owned();
        match error {
            ManifestError::Malformed(cause) => ComponentError::Malformed { path, cause },
            ManifestError::NotAComponent => ComponentError::NotAComponent { path },
            ManifestError::Missing | ManifestError::Wrong(_) => ComponentError::Manifest {
                path,
                cause: error.to_string(),
            },
        }
    }
}

impl Diagnose for ComponentError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            ComponentError::Malformed { .. } => Diagnosis::runtime("plugin::malformed"),
            ComponentError::NotAComponent { path } => Diagnosis::runtime("plugin::not-a-component").hint(format!(
                "make a component of it: dlm plugin pack --wasm {}",
                quoted(path)
            )),
            ComponentError::Manifest { .. } => Diagnosis::runtime("plugin::manifest"),
            ComponentError::Kinds { claimed, exported, .. } => {
                Diagnosis::runtime("plugin::manifest").hint(kinds_hint(claimed, exported))
            }
            ComponentError::NoKind { .. } => Diagnosis::misuse("plugin::wrong-kind").hint(format!(
                "a plugin exports one of: {}",
                Kind::ALL.map(|kind| format!("dlm:plugin/{kind}@1.0.0")).join(", ")
            )),
            ComponentError::Api { plugin, .. } => Diagnosis::misuse("plugin::api").hint(format!(
                "install another version of `{plugin}`, built for plugin API {API_SUPPORTED}, or upgrade dlm"
            )),
            ComponentError::Import { import, .. } => {
                let is_other_wasi = import.starts_with("wasi:") && !import.contains("@0.2.");
                Diagnosis::runtime("plugin::import").hints(is_other_wasi.then(|| OLDER_WASI.to_owned()))
            }
            ComponentError::Async { .. } => Diagnosis::runtime("plugin::import").hint(OLDER_WASI),
            ComponentError::Wasi { .. } => Diagnosis::runtime("plugin::import")
                .hint("allow it: set `wasi = \"inert\"` under [plugins] in config.toml"),
        }
    }
}

/// What to do about a component for another WASI.
const OLDER_WASI: &str = "build it for WASI 0.2, as `dlm plugin new` does";

fn names(kinds: &[Kind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(" and ")
}

fn kinds_hint(claimed: &[Kind], exported: &[Kind]) -> String {
    let worlds: Vec<String> = claimed.iter().map(|kind| format!("`{}`", kind.world())).collect();
    let kinds: Vec<String> = exported.iter().map(|kind| format!("\"{kind}\"")).collect();
    format!(
        "build it for {}, or write in plugin.toml: kinds = [{}]",
        worlds.join(" and "),
        kinds.join(", ")
    )
}

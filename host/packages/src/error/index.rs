//! What is wrong with an index of plugins, or with what it lists.

use std::path::PathBuf;

use dlm_core::nearest::did_you_mean;
use dlm_core::shell::quoted_path;

use super::{Diagnose, Diagnosis};

/// Why an index is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("no index of plugins is known")]
    NotGiven,
    #[error("the index address `{url}` has a query or a fragment")]
    Address { url: String },
    #[error("there is no index.json at `{place}`")]
    Missing { place: String },
    #[error("the index at `{place}` cannot be used: {cause}")]
    Malformed { place: String, cause: String },
    #[error(
        "the index at `{place}` is number {serial} of {date}, and number {seen_serial} of {seen_date} was seen there before"
    )]
    Older {
        place: String,
        serial: u64,
        date: String,
        seen_serial: u64,
        seen_date: String,
        memory: PathBuf,
    },
    #[error("`{}` is damaged", path.display())]
    Memory { path: PathBuf },
    #[error("`{}` remembers as many indexes as it may", memory.display())]
    TooManyPlaces { memory: PathBuf },
    #[error("the index has no plugin `{name}`{}", did_you_mean(suggestions))]
    Unknown { name: String, suggestions: Vec<String> },
    #[error("the index has no version {wanted} of `{plugin}` that runs here")]
    NoVersion {
        plugin: String,
        wanted: String,
        versions: Vec<String>,
        /// The API of a version that fits and needs a newer dlm.
        newer_api: Option<String>,
    },
    #[error("`{file}` of `{plugin}` {version} is not the file that the index lists: {found}; {expected} were expected")]
    OtherFile {
        plugin: String,
        version: String,
        file: String,
        expected: String,
        found: String,
    },
    #[error(
        "the index says of `{plugin}` {version} something else than the file itself about its {what}: `{listed}`, and the file `{own}`"
    )]
    OtherManifest {
        plugin: String,
        version: String,
        what: &'static str,
        listed: String,
        own: String,
    },
    #[error(
        "`{plugin}` {version} was published with other bytes: the index that lies there lists another file of that version"
    )]
    Republished { plugin: String, version: String },
    #[error("`{}` has no packed plugin to list", directory.display())]
    NothingToList { directory: PathBuf },
    #[error("`{name}` {installed} is not older than what the index has ({newest})")]
    UpToDate {
        name: String,
        installed: String,
        newest: String,
    },
    #[error("no plugin called `{name}` is installed")]
    NotInstalled { name: String },
}

impl Diagnose for IndexError {
    fn diagnosis(&self) -> Diagnosis {
        match self {
            IndexError::NotGiven => Diagnosis::misuse("plugin::unknown")
                .hint("name one: --index https://plugins.example.com/, or a directory")
                .hint("or for good, in config.toml of dlm's home: [plugins] index = \"https://plugins.example.com/\""),
            IndexError::Address { .. } => {
                Diagnosis::misuse("plugin::invalid-input").hint("such as: --index https://plugins.example.com/")
            }
            IndexError::Missing { .. } => Diagnosis::runtime("plugin::not-found")
                .hint("make one of a directory of packed plugins: dlm plugin index DIR --sign"),
            IndexError::Malformed { .. } => {
                Diagnosis::runtime("plugin::malformed").hint("nothing was taken from it; tell its publisher")
            }
            IndexError::Older { memory, .. } => Diagnosis::runtime("plugin::tampered")
                .hint("somebody put an old index there, which hides newer versions; nothing was taken from it")
                .hint(format!(
                    "if its publisher says that it is right, take its lines out of {}",
                    quoted_path(memory)
                )),
            IndexError::Memory { path } => Diagnosis::runtime("plugin::lock").hint(format!(
                "move it away, which forgets what was seen: mv {0} {0}.bad",
                quoted_path(path)
            )),
            IndexError::TooManyPlaces { memory } => Diagnosis::runtime("plugin::lock").hint(format!(
                "take the places that you do not use any more out of {}",
                quoted_path(memory)
            )),
            IndexError::Unknown { .. } => {
                Diagnosis::misuse("plugin::unknown").hint("see what it has: dlm plugin search")
            }
            IndexError::NoVersion {
                versions, newer_api, ..
            } => Diagnosis::misuse("plugin::unknown")
                .hint(format!("it has: {}", versions.join(", ")))
                .hints(
                    newer_api
                        .as_ref()
                        .map(|api| format!("one that fits was built for plugin API {api}: upgrade dlm")),
                ),
            IndexError::OtherFile { .. } => Diagnosis::runtime("plugin::tampered")
                .hint("nothing was installed; the index and its files do not belong together"),
            IndexError::OtherManifest { .. } => {
                Diagnosis::runtime("plugin::tampered").hint("nothing was installed; tell the index's publisher")
            }
            IndexError::Republished { .. } => Diagnosis::runtime("plugin::conflict")
                .hint("who installed it is pinned to the old bytes; give the new ones a new version in plugin.toml"),
            IndexError::NothingToList { directory } => Diagnosis::misuse("plugin::not-found").hint(format!(
                "pack one into it: dlm plugin pack PLUGIN --out {}",
                quoted_path(&directory.join("NAME-VERSION.wasm"))
            )),
            IndexError::UpToDate { .. } => {
                Diagnosis::misuse("plugin::not-found").hint("another version: dlm plugin add NAME@VERSION")
            }
            IndexError::NotInstalled { name } => {
                Diagnosis::misuse("plugin::unknown").hint(format!("install it: dlm plugin add {name}"))
            }
        }
    }
}

//! Where everything lies: the home directory and the directory of one document's store.
//!
//! Invariants: pure path arithmetic; nothing here touches the disk. Names that come from outside are checked before
//! they become part of a path.

use std::fmt;
use std::path::{Path, PathBuf};

use dlm_core::Ulid;
use dlm_core::stamp::Stamp;

/// Names that a named adapter must not have, because the flat layout uses them.
const ADAPTER_NAMES_RESERVED: [&str; 2] = ["versions", "current"];
/// Longest name of a named adapter or a local base.
const NAME_LEN_MAX: usize = 32;
/// Longest name of a local base; base names may carry sizes and quantization levels.
const BASE_NAME_LEN_MAX: usize = 64;

/// The product's home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Takes the directory; it need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that holds one store per document.
    pub fn stores(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The store's directory of one document.
    pub fn store_root(&self, dlm_id: &Ulid) -> PathBuf {
        self.stores().join(dlm_id.as_str())
    }

    /// The directory of local base models.
    pub fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    /// What is made again when it is deleted.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Verdicts on the tokenizers and chat templates of bases.
    pub fn text_verdicts(&self) -> PathBuf {
        self.cache().join("text")
    }

    /// Compiled plugins.
    pub fn plugin_code(&self) -> PathBuf {
        self.cache().join("plugins")
    }

    /// Digests of bases and adapters, with what the system says of the files that have them.
    pub fn seen(&self) -> PathBuf {
        self.cache().join("seen")
    }

    /// Prompt history of `dlm repl`.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }
}

/// A name from outside that cannot become a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "`{name}` is not an adapter name: expected a lower-case letter, then at most {} lower-case letters, digits or `_`",
        NAME_LEN_MAX - 1
    )]
    Adapter { name: String },
    #[error("`{name}` cannot name an adapter: the word is reserved (reserved: `versions`, `current`)")]
    AdapterReserved { name: String },
    #[error(
        "`{name}` is not a base name: expected 1 to {BASE_NAME_LEN_MAX} letters, digits, `-`, `_` or `.`, beginning with a letter or digit"
    )]
    Base { name: String },
    #[error("`{name}` is not a plain file name")]
    File { name: String },
}

/// The part of a store that one adapter's versions live in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterSlot {
    /// The only adapter of a document without `training.adapters`.
    Flat,
    /// One of several; the name was checked by [`AdapterSlot::named`].
    Named(AdapterName),
}

/// A checked name of a named adapter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdapterName(String);

impl AdapterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AdapterSlot {
    /// Checks the name of a named adapter.
    ///
    /// **Errors** when it does not fit `[a-z][a-z0-9_]{0,31}` or is reserved.
    pub fn named(name: &str) -> Result<Self, NameError> {
        if ADAPTER_NAMES_RESERVED.contains(&name) {
            return Err(NameError::AdapterReserved { name: name.to_owned() });
        }
        let fits = name.len() <= NAME_LEN_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !fits {
            return Err(NameError::Adapter { name: name.to_owned() });
        }
        Ok(Self::Named(AdapterName(name.to_owned())))
    }

    /// The slot of an optional name.
    ///
    /// **Errors** as [`AdapterSlot::named`].
    pub fn of(name: Option<&str>) -> Result<Self, NameError> {
        name.map_or(Ok(Self::Flat), Self::named)
    }

    /// The name, none in the flat layout.
    pub fn name(&self) -> Option<&str> {
        match self {
            AdapterSlot::Flat => None,
            AdapterSlot::Named(name) => Some(name.as_str()),
        }
    }

    /// The slot's directory relative to the store root, with `/`.
    pub fn relative(&self) -> String {
        match self {
            AdapterSlot::Flat => "adapter".to_owned(),
            AdapterSlot::Named(name) => format!("adapter/{}", name.as_str()),
        }
    }
}

impl fmt::Display for AdapterSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdapterSlot::Flat => f.write_str("adapter"),
            AdapterSlot::Named(name) => write!(f, "adapter `{}`", name.as_str()),
        }
    }
}

/// Checks a local base's name and gives its directory.
///
/// **Errors** when the name could leave the directory of bases.
pub fn base_directory(home: &Home, name: &str) -> Result<PathBuf, NameError> {
    let fits = (1..=BASE_NAME_LEN_MAX).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        Ok(home.bases().join(name))
    } else {
        Err(NameError::Base { name: name.to_owned() })
    }
}

/// Checks that a name is one plain path component.
pub(crate) fn file_name(name: &str) -> Result<&str, NameError> {
    let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':']);
    if is_plain {
        Ok(name)
    } else {
        Err(NameError::File { name: name.to_owned() })
    }
}

/// The paths of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePaths {
    root: PathBuf,
}

impl StorePaths {
    /// Takes the store's root directory; it need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The store's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `manifest.json`.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// `dlm.lock`, the determinism contract.
    pub fn determinism_lock(&self) -> PathBuf {
        self.root.join("dlm.lock")
    }

    /// `.lock`, held by the one writer.
    pub fn exclusive_lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// `adapter/`, with versions or with one directory per named adapter.
    pub fn adapter(&self) -> PathBuf {
        self.root.join("adapter")
    }

    /// The directory of a slot.
    pub fn slot(&self, slot: &AdapterSlot) -> PathBuf {
        self.root.join(slot.relative())
    }

    /// The pointer to a slot's current version.
    pub fn pointer(&self, slot: &AdapterSlot) -> PathBuf {
        self.slot(slot).join("current.txt")
    }

    /// The directory of a slot's versions.
    pub fn versions(&self, slot: &AdapterSlot) -> PathBuf {
        self.slot(slot).join("versions")
    }

    /// `replay/`.
    pub fn replay(&self) -> PathBuf {
        self.root.join("replay")
    }

    /// `commit.json`: what is to be recorded of a run whose version is about to be current; there for that moment.
    pub fn journal(&self) -> PathBuf {
        self.root.join("commit.json")
    }

    /// `exports/<name>`.
    ///
    /// **Errors** when `name` is not a plain file name.
    pub fn export(&self, name: &str) -> Result<PathBuf, NameError> {
        Ok(self.root.join("exports").join(file_name(name)?))
    }

    /// `imatrix/`: the importance matrix of the base, made again when it is deleted.
    pub fn imatrix(&self) -> PathBuf {
        self.root.join("imatrix")
    }

    /// `logs/`.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The name of a run's log without its ending, relative to the store root.
    pub fn run_log_stem(run_id: u64, started_at: Stamp) -> String {
        format!("logs/train-{run_id:06}-{}", started_at.compact())
    }

    /// What the plugins of a command used.
    pub fn plugin_record(&self, command: &str, at: Stamp) -> PathBuf {
        self.logs().join(format!("plugins-{}-{command}.json", at.compact()))
    }

    /// The database of metrics.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.sqlite")
    }

    /// `preference/` or `synth/`: the directory of a command's staged plan.
    pub(crate) fn staging(&self, command: &str) -> PathBuf {
        self.root.join(command)
    }

    /// `synth/answers/`: answers of remote teachers, so that none is paid for twice.
    pub fn teacher_answers(&self) -> PathBuf {
        self.root.join("synth").join("answers")
    }

    /// `tokenized-cache/`.
    pub fn tokenized_cache(&self) -> PathBuf {
        self.root.join("tokenized-cache")
    }

    /// `blobs/`.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_names() {
        for good in ["a", "style", "a_1", &"a".repeat(32)] {
            assert!(AdapterSlot::named(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            "_gate",
            "a-b",
            "../x",
            "versions",
            "current",
            &"a".repeat(33),
        ] {
            assert!(AdapterSlot::named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base_names_stay_inside_their_directory() {
        let home = Home::new("/h");
        let path = base_directory(&home, "SmolLM2-135M.q4_1").expect("a fine name");
        assert_eq!(path, Path::new("/h/bases/SmolLM2-135M.q4_1"));
        for bad in ["", ".", "..", "a/b", "a\\b", ".hidden", "a b", &"a".repeat(65)] {
            assert!(base_directory(&home, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_of_one_store() {
        let paths = StorePaths::new("/h/store/ID");
        let slot = AdapterSlot::named("style").expect("a fine name");
        assert_eq!(
            paths.pointer(&AdapterSlot::Flat),
            Path::new("/h/store/ID/adapter/current.txt")
        );
        assert_eq!(paths.versions(&slot), Path::new("/h/store/ID/adapter/style/versions"));
        let stem = StorePaths::run_log_stem(1, Stamp::from_unix_ms(1_776_623_414_000));
        assert_eq!(stem, "logs/train-000001-20260419T183014");
        assert!(paths.export("../x").is_err());
    }
}

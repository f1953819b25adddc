//! Named secrets: the environment as it was handed over, then the key file `<home>/secrets.toml`.
//!
//! Invariants: a secret is looked up in this order and the first found is taken: `DLM_SECRET_<NAME>`; the variable `<NAME>`,
//! where it is one of [`FROM_ENVIRONMENT`] or `[secrets] <NAME> = "env"` stands in `<home>/config.toml`; the key file. No
//! message holds a value or a line of a file. The key file is read only while nobody but its owner may read it. Nothing
//! is kept between two questions.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dlm_core::ports::secrets::{SECRET_PREFIX, Secrets};

use crate::layout::Home;

/// Variables that are taken as they are: the names that the teachers of the specification document.
pub const FROM_ENVIRONMENT: [&str; 3] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "VLLM_API_KEY"];
/// The table of both files that is read here, and the value that maps a name to its variable.
const TABLE: &str = "secrets";
const MAPPED: &str = "env";
const NAME_BYTES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The secrets of one user.
pub struct KeyStore {
    environment: BTreeMap<OsString, OsString>,
    config: PathBuf,
    file: PathBuf,
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyStore({})", self.file.display())
    }
}

impl KeyStore {
    /// The store of a home directory; `environment` is the process's. Reads nothing yet.
    pub fn new(home: &Home, environment: impl IntoIterator<Item = (OsString, OsString)>) -> KeyStore {
        KeyStore {
            environment: environment.into_iter().collect(),
            config: home.root().join("config.toml"),
            file: home.root().join("secrets.toml"),
        }
    }

    /// A variable's text; an empty one counts as not set.
    fn value_of(&self, name: &str) -> Result<Option<String>, String> {
        let value = self
            .environment
            .get(&OsString::from(name))
            .filter(|value| !value.is_empty());
        let text = value.map(|value| {
            value
                .to_str()
                .map(str::to_owned)
                .ok_or(format!("`{name}` is not UTF-8"))
        });
        text.transpose()
    }

    /// Whether the user's settings take the name from the environment.
    fn is_mapped(&self, name: &str) -> Result<bool, String> {
        if FROM_ENVIRONMENT.contains(&name) {
            return Ok(true);
        }
        let Some(file) = open(&self.config)? else {
            return Ok(false);
        };
        let settings = table(&self.config, file)?;
        let mapped = match settings.get(TABLE) {
            None => return Ok(false),
            Some(toml::Value::Table(mapped)) => mapped.get(name),
            Some(_) => return Err(format!("`{}`: `{TABLE}` is not a table", self.config.display())),
        };
        match mapped {
            None => Ok(false),
            Some(toml::Value::String(word)) if word == MAPPED => Ok(true),
            // The value is not shown: whoever wrote a key into the wrong file is not helped by seeing it again.
            Some(_) => Err(format!(
                "`{}`: `[{TABLE}] {name}` takes only \"{MAPPED}\"; the secret itself belongs into `{}`",
                self.config.display(),
                self.file.display()
            )),
        }
    }

    fn stored(&self, name: &str) -> Result<Option<String>, String> {
        let Some(file) = open(&self.file)? else {
            return Ok(None);
        };
        check_private(&self.file, &file)?;
        match table(&self.file, file)?.get(name) {
            None => Ok(None),
            Some(toml::Value::String(value)) if value.is_empty() => Ok(None),
            Some(toml::Value::String(value)) => Ok(Some(value.clone())),
            Some(_) => Err(format!("`{}`: `{name}` is not a text in quotes", self.file.display())),
        }
    }
}

impl Secrets for KeyStore {
    fn find(&self, name: &str) -> Result<Option<String>, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
            return Err(format!(
                "`{}` is not the name of a secret: expected up to {NAME_BYTES_MAX} letters, digits and `_`",
                name.escape_debug()
            ));
        }
        if let Some(value) = self.value_of(&format!("{SECRET_PREFIX}{name}"))? {
            return Ok(Some(value));
        }
        if self.is_mapped(name)?
            && let Some(value) = self.value_of(name)?
        {
            return Ok(Some(value));
        }
        self.stored(name)
    }

    /// The plain name where that is taken as it is.
    fn variable(&self, name: &str) -> String {
        // Settings that cannot be read were told by `find`.
        match self.is_mapped(name).unwrap_or(false) {
            true => name.to_owned(),
            false => format!("{SECRET_PREFIX}{name}"),
        }
    }
}

fn open(path: &Path) -> Result<Option<File>, String> {
    match dlm_files::open_ordinary(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("`{}`: cannot read it: {error}", path.display())),
    }
}

/// Asks the open file, so that it cannot be changed for another between the question and the reading.
#[cfg(unix)]
fn check_private(path: &Path, file: &File) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;

    let found = file
        .metadata()
        .map_err(|e| format!("`{}`: cannot read it: {e}", path.display()))?;
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(format!(
            "`{path}` is open to others (mode {mode:04o}); close it: `chmod 600 {path}`"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &File) -> Result<(), String> {
    Ok(())
}

/// Parses a file. The parser's own messages quote the file, so of them only the line is kept.
fn table(path: &Path, file: File) -> Result<toml::Table, String> {
    let bad = |reason: String| format!("`{}`: {reason}", path.display());
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|e| bad(format!("cannot read it: {e}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(format!("the file has more than {FILE_BYTES_MAX} bytes")));
    }
    text.parse::<toml::Table>().map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        bad(format!("line {line} is not TOML; expected `NAME = \"value\"`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        dir: tempfile::TempDir,
        environment: Vec<(&'static str, &'static str)>,
    }

    impl Case {
        fn new(environment: &[(&'static str, &'static str)]) -> Case {
            Case {
                dir: tempfile::tempdir().unwrap(),
                environment: environment.to_vec(),
            }
        }

        fn file(self, name: &str, text: &str, mode: u32) -> Case {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            self
        }

        fn store(&self) -> KeyStore {
            let pairs = self
                .environment
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            KeyStore::new(&Home::new(self.dir.path()), pairs)
        }

        fn find(&self, name: &str) -> Result<Option<String>, String> {
            self.store().find(name)
        }
    }

    #[test]
    fn the_first_place_that_has_it_wins() {
        let all = [("DLM_SECRET_OPENAI_API_KEY", "own"), ("OPENAI_API_KEY", "usual")];
        let keys = "OPENAI_API_KEY = \"stored\"\n";
        let find = |environment: &[(&'static str, &'static str)]| {
            Case::new(environment)
                .file("secrets.toml", keys, 0o600)
                .find("OPENAI_API_KEY")
                .unwrap()
                .unwrap()
        };
        assert_eq!(find(&all), "own");
        assert_eq!(find(&all[1..]), "usual");
        assert_eq!(find(&[]), "stored");
        // An empty variable is one that is not set.
        assert_eq!(
            find(&[("DLM_SECRET_OPENAI_API_KEY", ""), ("OPENAI_API_KEY", "")]),
            "stored"
        );
        assert_eq!(Case::new(&[]).find("OPENAI_API_KEY"), Ok(None));
    }

    #[test]
    fn the_variable_to_set_is_one_that_is_read() {
        let mapped = "[secrets]\nMY_TOKEN = \"env\"\n";
        let case = Case::new(&[]).file("config.toml", mapped, 0o600);
        let store = case.store();
        for (name, variable) in [
            ("OPENAI_API_KEY", "OPENAI_API_KEY"),
            ("MY_TOKEN", "MY_TOKEN"),
            ("OTHER", "DLM_SECRET_OTHER"),
        ] {
            assert_eq!(store.variable(name), variable);
        }
    }

    #[test]
    fn a_variable_is_taken_by_documented_names_and_mapped_ones_alone() {
        let environment = [("MY_TOKEN", "mine"), ("VLLM_API_KEY", "v"), ("ANTHROPIC_API_KEY", "a")];
        assert_eq!(Case::new(&environment).find("MY_TOKEN"), Ok(None));
        assert_eq!(Case::new(&environment).find("VLLM_API_KEY"), Ok(Some("v".into())));
        assert_eq!(Case::new(&environment).find("ANTHROPIC_API_KEY"), Ok(Some("a".into())));
        let mapped =
            Case::new(&environment).file("config.toml", "[other]\nx = 1\n[secrets]\nMY_TOKEN = \"env\"\n", 0o644);
        assert_eq!(mapped.find("MY_TOKEN"), Ok(Some("mine".into())));
        let other = Case::new(&environment).file("config.toml", "[secrets]\nOTHER = \"env\"\n", 0o644);
        assert_eq!(other.find("MY_TOKEN"), Ok(None));
    }

    #[test]
    fn a_key_in_the_settings_file_is_refused_unseen() {
        for line in ["MY_TOKEN = \"hunter2\"", "MY_TOKEN = 2", "MY_TOKEN = [\"hunter2\"]"] {
            let case = Case::new(&[("MY_TOKEN", "mine")]).file("config.toml", &format!("[secrets]\n{line}\n"), 0o644);
            let error = case.find("MY_TOKEN").unwrap_err();
            assert!(error.contains("secrets.toml") && error.contains("MY_TOKEN"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let case = Case::new(&[]).file("config.toml", "secrets = 1\n", 0o644);
        assert!(case.find("MY_TOKEN").unwrap_err().contains("not a table"));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_open_to_others_is_refused_with_the_command_that_closes_it() {
        for mode in [0o644, 0o640, 0o604, 0o660, 0o620, 0o601] {
            let case = Case::new(&[("OPENAI_API_KEY", "usual")]).file("secrets.toml", "A = \"hunter2\"\n", mode);
            let error = case.find("A").unwrap_err();
            let command = format!("chmod 600 {}", case.dir.path().join("secrets.toml").display());
            assert!(
                error.contains(&command) && error.contains(&format!("{mode:04o}")),
                "{error}"
            );
            // What the environment has does not need the file.
            assert_eq!(case.find("OPENAI_API_KEY"), Ok(Some("usual".into())));
        }
        for mode in [0o600, 0o400, 0o700] {
            let case = Case::new(&[]).file("secrets.toml", "A = \"hunter2\"\n", mode);
            assert_eq!(case.find("A"), Ok(Some("hunter2".into())));
        }
    }

    #[test]
    fn a_damaged_key_file_is_refused_by_line_and_shows_nothing_of_itself() {
        for text in [
            "B = \"x\"\nA = hunter2\n",
            "B = \"x\"\nA = \"hunter2\n",
            "B = \"x\"\nhunter2\n",
            "B = \"x\"\nA = \"\\hunter2\"\n",
        ] {
            let error = Case::new(&[]).file("secrets.toml", text, 0o600).find("A").unwrap_err();
            assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        }
        let error = Case::new(&[])
            .file("secrets.toml", "A = 12345\n", 0o600)
            .find("A")
            .unwrap_err();
        assert!(error.contains("`A`") && !error.contains("12345"), "{error}");
        let huge = format!("A = \"{}\"\n", "x".repeat(2 << 20));
        assert!(
            Case::new(&[])
                .file("secrets.toml", &huge, 0o600)
                .find("A")
                .unwrap_err()
                .contains("more than")
        );
    }

    #[test]
    fn names_are_names() {
        for name in ["", "A B", "A=B", "../x", "A\n", "Ä", &"A".repeat(65)] {
            assert!(Case::new(&[]).find(name).is_err(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;

        let dir = tempfile::tempdir().unwrap();
        let pair = ("DLM_SECRET_A".into(), OsString::from_vec(vec![0xff]));
        let store = KeyStore::new(&Home::new(dir.path()), [pair]);
        assert!(store.find("A").unwrap_err().contains("DLM_SECRET_A"));
    }

    #[test]
    fn the_store_shows_no_secret() {
        let case = Case::new(&[("DLM_SECRET_A", "hunter2")]);
        assert!(!format!("{:?}", case.store()).contains("hunter2"));
    }
}

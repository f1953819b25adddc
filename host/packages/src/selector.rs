//! What a user types to name a plugin: `name[@version][:argument]`, `path.wasm[:argument]`, `--to scheme:rest`.
//!
//! Invariants: reading a selector looks at no file; what is written back reads the same.

use std::fmt;

use semver::VersionReq;

use crate::error::SelectorError;
use crate::manifest::is_name;
use dlm_core::inert::{cut, inert_line};

/// Longest selector.
const SELECTOR_BYTES_MAX: usize = 16 * 1024;
/// What a plugin file's name ends with.
const SUFFIX: &str = ".wasm";

/// The plugin part of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Name {
        name: String,
        version: Option<VersionReq>,
    },
    /// A file, as typed: `~/` is not resolved here.
    Path(String),
}

/// A plugin and what its `open` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub choice: Choice,
    /// Empty where there is none.
    pub argument: String,
}

/// Where `--to` points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A place on this machine.
    Local(String),
    /// `scheme:rest`; the scheme is the plugin's name.
    Plugin(Selector),
}

/// Where `--template` points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChoice {
    /// Nothing means the gallery inside dlm.
    pub source: Option<Choice>,
    pub name: String,
}

impl Selector {
    /// Reads a selector of `--judge`, `--teacher` and `--target`.
    ///
    /// **Errors**: too long, a name or version that cannot be one, or a path that does not end in `.wasm`.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(bad(text, "is longer than 16 KiB", None));
        }
        if text.is_empty() {
            return Err(bad(
                text,
                "is empty",
                Some("see what is here: dlm plugin list".to_owned()),
            ));
        }
        if looks_like_path(text) {
            return Self::parse_path(text);
        }
        let (plugin, argument) = text.split_once(':').unwrap_or((text, ""));
        let (name, version) = match plugin.split_once('@') {
            None => (plugin, None),
            Some((name, version)) => {
                let version = VersionReq::parse(version).map_err(|error| {
                    bad(
                        text,
                        &format!("has a version that cannot be read: {error}"),
                        Some("such as: rubric@^1.2".to_owned()),
                    )
                })?;
                (name, Some(version))
            }
        };
        if !is_name(name) {
            let hint = plugin
                .ends_with(SUFFIX)
                .then(|| format!("a file is named with its directory: ./{}", inert_line(plugin)));
            return Err(bad(
                text,
                "does not begin with a plugin name (a lower-case letter, then 1 to 39 lower-case letters, digits and `-`)",
                hint,
            ));
        }
        Ok(Selector {
            choice: Choice::Name {
                name: name.to_owned(),
                version,
            },
            argument: argument.to_owned(),
        })
    }

    fn parse_path(text: &str) -> Result<Selector, SelectorError> {
        let end = text.match_indices(SUFFIX).map(|(at, _)| at + SUFFIX.len());
        for end in end {
            let (path, after) = text.split_at(end);
            let argument = match after.strip_prefix(':') {
                Some(argument) => argument,
                None if after.is_empty() => "",
                None => continue,
            };
            // `./.wasm` is a directory's hidden file without a name.
            if path.ends_with("/.wasm") || path.ends_with("\\.wasm") || path.contains('\0') {
                break;
            }
            return Ok(Selector {
                choice: Choice::Path(path.to_owned()),
                argument: argument.to_owned(),
            });
        }
        Err(bad(
            text,
            "is a path that does not end in `.wasm`",
            Some("such as: ./rubric.wasm, or ./rubric.wasm:argument".to_owned()),
        ))
    }

    /// The plugin's name, where the selector has one.
    pub fn name(&self) -> Option<&str> {
        match &self.choice {
            Choice::Name { name, .. } => Some(name),
            Choice::Path(_) => None,
        }
    }
}

impl To {
    /// Reads the value of `--to`: anything that looks like a path, has a one-letter scheme (a drive) or no scheme at all is
    /// a place on this machine.
    ///
    /// **Errors**: a scheme that cannot be a plugin's name.
    pub fn parse(text: &str) -> Result<To, SelectorError> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        match scheme {
            _ if looks_like_path(text) => Ok(To::Local(text.to_owned())),
            None => Ok(To::Local(text.to_owned())),
            Some(drive) if drive.len() == 1 && drive.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                Ok(To::Local(text.to_owned()))
            }
            Some(_) => Selector::parse(text).map(To::Plugin),
        }
    }
}

impl TemplateChoice {
    /// Reads the value of `--template`: `source:name`, a path of a plugin with a name, or a name of the gallery inside dlm.
    ///
    /// **Errors**: as [`Selector::parse`], or no template name.
    pub fn parse(text: &str) -> Result<TemplateChoice, SelectorError> {
        if !looks_like_path(text) && !text.contains(':') {
            return match text {
                "" => Err(bad(
                    text,
                    "is empty",
                    Some("see the templates: dlm templates list".to_owned()),
                )),
                name => Ok(TemplateChoice {
                    source: None,
                    name: name.to_owned(),
                }),
            };
        }
        let selector = Selector::parse(text)?;
        if selector.argument.is_empty() {
            let hint = format!(
                "give its name after the source: {}:NAME",
                inert_line(text.trim_end_matches(':'))
            );
            return Err(bad(text, "names no template", Some(hint)));
        }
        Ok(TemplateChoice {
            source: Some(selector.choice),
            name: selector.argument,
        })
    }
}

/// `./`, `../`, `/`, `~/`, or a drive letter with a separator.
fn looks_like_path(text: &str) -> bool {
    let is_drive = || {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && bytes.next() == Some(b':')
            && matches!(bytes.next(), Some(b'/' | b'\\'))
    };
    ["./", "../", "/", "~/"].iter().any(|start| text.starts_with(start)) || is_drive()
}

fn bad(text: &str, cause: &str, hint: Option<String>) -> SelectorError {
    SelectorError {
        text: inert_line(&cut(text, 80)),
        cause: cause.to_owned(),
        hint,
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Name { name, version } => {
                f.write_str(name)?;
                version.iter().try_for_each(|version| write!(f, "@{version}"))
            }
            Choice::Path(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.choice)?;
        match self.argument.as_str() {
            "" => Ok(()),
            argument => write!(f, ":{argument}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Diagnose;

    fn name(text: &str) -> (String, Option<String>, String) {
        let selector = Selector::parse(text).unwrap();
        match selector.choice {
            Choice::Name { name, version } => (name, version.map(|version| version.to_string()), selector.argument),
            Choice::Path(path) => panic!("{text} is a path: {path}"),
        }
    }

    fn path(text: &str) -> (String, String) {
        let selector = Selector::parse(text).unwrap();
        match selector.choice {
            Choice::Path(path) => (path, selector.argument),
            Choice::Name { name, .. } => panic!("{text} is a name: {name}"),
        }
    }

    #[test]
    fn names_versions_and_arguments() {
        let of = |name: &str, version: Option<&str>, argument: &str| {
            (name.to_owned(), version.map(str::to_owned), argument.to_owned())
        };
        assert_eq!(name("rubric"), of("rubric", None, ""));
        assert_eq!(name("rubric:terse"), of("rubric", None, "terse"));
        assert_eq!(name("rubric@^1.2:a@b:c"), of("rubric", Some("^1.2"), "a@b:c"));
        assert_eq!(name("rubric@>=1, <2"), of("rubric", Some(">=1, <2"), ""));
        assert_eq!(name("hf:org/name@main"), of("hf", None, "org/name@main"));
        assert_eq!(name("cli:./score.sh --fast"), of("cli", None, "./score.sh --fast"));
        assert_eq!(
            name("mine:http://10.0.0.5:8000"),
            of("mine", None, "http://10.0.0.5:8000")
        );
        assert_eq!(name("rubric:"), of("rubric", None, ""));
    }

    #[test]
    fn paths_end_at_the_first_suffix_before_an_argument() {
        let of = |path: &str, argument: &str| (path.to_owned(), argument.to_owned());
        assert_eq!(path("./a.wasm"), of("./a.wasm", ""));
        assert_eq!(path("../a.wasm:x.wasm:y"), of("../a.wasm", "x.wasm:y"));
        assert_eq!(path("/d.wasm/e.wasm:z"), of("/d.wasm/e.wasm", "z"));
        assert_eq!(path("~/a.wasm"), of("~/a.wasm", ""));
        assert_eq!(path("C:\\a.wasm:b"), of("C:\\a.wasm", "b"));
        assert_eq!(path("c:/a.wasm"), of("c:/a.wasm", ""));
        assert_eq!(path("./a:b.wasm"), of("./a:b.wasm", ""));
    }

    #[test]
    fn each_wrong_selector_is_refused_with_its_reason() {
        for (text, part) in [
            ("", "is empty"),
            ("Rubric", "plugin name"),
            ("r", "plugin name"),
            ("rubric.wasm", "plugin name"),
            ("rubric@one", "version that cannot be read"),
            ("rubric@:x", "version that cannot be read"),
            ("./rubric", "does not end in `.wasm`"),
            ("./.wasm", "does not end in `.wasm`"),
            ("./a.wasmx", "does not end in `.wasm`"),
            ("a b", "plugin name"),
            ("\u{1b}[31m", "\\u{1b}"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.code(), "plugin::invalid-input");
        }
        let long = Selector::parse(&"a".repeat(20_000)).unwrap_err();
        assert!(long.to_string().contains("16 KiB"));
        let error = Selector::parse("rubric.wasm").unwrap_err();
        assert_eq!(
            error.diagnosis().hints,
            ["a file is named with its directory: ./rubric.wasm"]
        );
    }

    #[test]
    fn to_is_local_unless_it_has_a_scheme() {
        for local in ["./a.wasm:b", "/tmp/x", "C:\\x", "c:x", "out", "~/a:b", "a/b.pack"] {
            assert_eq!(To::parse(local).unwrap(), To::Local(local.to_owned()), "{local}");
        }
        let To::Plugin(selector) = To::parse("hub:org/name:x").unwrap() else {
            panic!("a scheme is a plugin");
        };
        assert_eq!(
            (selector.name(), selector.argument.as_str()),
            (Some("hub"), "org/name:x")
        );
        assert!(To::parse("Hub:x").is_err());
    }

    #[test]
    fn templates_have_a_source_or_are_bundled() {
        assert_eq!(TemplateChoice::parse("cooking").unwrap().source, None);
        let chosen = TemplateChoice::parse("acme:faq").unwrap();
        assert_eq!(
            (chosen.source.unwrap().to_string(), chosen.name),
            ("acme".to_owned(), "faq".to_owned())
        );
        let chosen = TemplateChoice::parse("./t.wasm:faq").unwrap();
        assert_eq!(chosen.source.unwrap(), Choice::Path("./t.wasm".to_owned()));
        for wrong in ["", "acme:", "./t.wasm"] {
            assert!(TemplateChoice::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_selector_or_an_error_and_reads_back(text in ".{0,80}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
            }
            let _ = To::parse(&text);
            let _ = TemplateChoice::parse(&text);
        }

        #[test]
        fn made_selectors_read_back(
            plugin in "[a-z][a-z0-9-]{1,39}", version in proptest::option::of("[\\^~=]?[1-9][0-9]{0,2}\\.[1-9][0-9]{0,2}"),
            argument in ".{0,40}",
        ) {
            let text = format!("{plugin}{}:{argument}", version.map(|v| format!("@{v}")).unwrap_or_default());
            let selector = Selector::parse(&text).unwrap();
            prop_assert_eq!(selector.name(), Some(plugin.as_str()));
            prop_assert_eq!(&selector.argument, &argument);
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn made_paths_read_back(directory in "(\\./|\\.\\./|/|~/|c:/)", stem in "[a-z:. -]{1,20}", argument in ".{0,20}") {
            let text = format!("{directory}{stem}x.wasm:{argument}");
            let selector = Selector::parse(&text).unwrap();
            let written = selector.to_string();
            prop_assert_eq!(written.trim_end_matches(':'), text.trim_end_matches(':'));
        }
    }
}

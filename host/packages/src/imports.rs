//! What a component may import, by the kinds that it exports: the tables of `plugins.md` section 3.
//!
//! Invariants: a component with several kinds may import only what each of them may; importing is not having, every call
//! still needs its grant.

use semver::Version;

use crate::component::{Item, PACKAGE};
use crate::kind::Kind;

/// Interfaces of WASI that are there and hold nothing; `terminal-` ones are matched by their start.
const WASI: [&str; 17] = [
    "io/error",
    "io/poll",
    "io/streams",
    "clocks/wall-clock",
    "clocks/monotonic-clock",
    "random/random",
    "random/insecure",
    "random/insecure-seed",
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "filesystem/types",
    "filesystem/preopens",
    "http/types",
    "http/outgoing-handler",
];
/// Interfaces of which only the name of the package and a start is known.
const WASI_STARTS: [&str; 2] = ["cli/terminal-", "sockets/"];

/// An import that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedImport {
    pub import: String,
    /// A fragment, such as `which a judge may not`.
    pub cause: String,
}

/// How much of WASI a component imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi {
    None,
    /// Present and without authority.
    Inert,
    /// The same with HTTP, which goes through the checks of our own.
    InertHttp,
}

impl Wasi {
    /// The words of `inspect`.
    pub fn name(self) -> &'static str {
        match self {
            Wasi::None => "none",
            Wasi::Inert => "inert",
            Wasi::InertHttp => "inert, http",
        }
    }

    /// Looks at the imports.
    pub fn of(imports: &[Item]) -> Wasi {
        let has = |start: &str| imports.iter().any(|import| import.name.starts_with(start));
        match (has("wasi:http/"), has("wasi:")) {
            (true, _) => Wasi::InertHttp,
            (false, true) => Wasi::Inert,
            (false, false) => Wasi::None,
        }
    }
}

/// Holds imports against the tables.
///
/// **Errors**: the first import that one of the kinds may not have.
pub(crate) fn check(kinds: &[Kind], imports: &[Item]) -> Result<(), RefusedImport> {
    for import in imports {
        let refused = |cause: String| RefusedImport {
            import: import.name.clone(),
            cause,
        };
        if let Some((interface, _)) = import.ours() {
            if let Some(kind) = kinds.iter().find(|kind| !kind.may_import(interface)) {
                let is_split = kinds.iter().any(|kind| kind.may_import(interface));
                return Err(refused(if is_split {
                    format!("which a {kind} may not; split the plugin, one file for each kind")
                } else {
                    format!("which a {kind} may not")
                }));
            }
            continue;
        }
        if import.name.starts_with(PACKAGE) {
            return Err(refused("which has no version".to_owned()));
        }
        wasi(&import.name).map_err(refused)?;
    }
    Ok(())
}

fn wasi(import: &str) -> Result<(), String> {
    let Some(rest) = import.strip_prefix("wasi:") else {
        return Err("which no plugin may".to_owned());
    };
    let Some((interface, version)) = rest.split_once('@') else {
        return Err("which has no version".to_owned());
    };
    let is_known = WASI.contains(&interface) || WASI_STARTS.iter().any(|start| interface.starts_with(start));
    match Version::parse(version) {
        Ok(version) if (version.major, version.minor) == (0, 2) && is_known => Ok(()),
        Ok(version) if (version.major, version.minor) == (0, 2) => {
            Err("which no plugin may; settings and log lines go through `config` and `log`".to_owned())
        }
        _ => Err("which is of another WASI than 0.2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&str]) -> Vec<Item> {
        let item = |name: &&str| Item {
            name: (*name).to_owned(),
            functions: Vec::new(),
        };
        names.iter().map(item).collect()
    }

    #[test]
    fn each_kind_has_its_own_interfaces() {
        for (kind, import, is_allowed) in [
            (Kind::Judge, "dlm:plugin/model@1.0.0", true),
            (Kind::Judge, "dlm:plugin/process@1.3.0", true),
            (Kind::Judge, "dlm:plugin/output@1.0.0", false),
            (Kind::Teacher, "dlm:plugin/process@1.0.0", false),
            (Kind::Target, "dlm:plugin/model@1.0.0", false),
            (Kind::Target, "dlm:plugin/output@1.0.0", true),
            (Kind::Destination, "dlm:plugin/upload@1.0.0", true),
            (Kind::Destination, "dlm:plugin/output@1.0.0", false),
            (Kind::Templates, "dlm:plugin/artifacts@1.0.0", true),
            (Kind::Templates, "dlm:plugin/upload@1.0.0", false),
            (Kind::Templates, "dlm:plugin/log@1.0.0", true),
            (Kind::Judge, "dlm:plugin/log", false),
            (Kind::Judge, "wasi:filesystem/preopens@0.2.3", true),
            (Kind::Judge, "wasi:cli/terminal-stdout@0.2.0", true),
            (Kind::Judge, "wasi:sockets/tcp@0.2.6", true),
            (Kind::Judge, "wasi:keyvalue/store@0.2.0", false),
            (Kind::Judge, "wasi:io/streams@0.3.0", false),
            (Kind::Judge, "wasi:io/streams", false),
            (Kind::Judge, "env", false),
        ] {
            assert_eq!(check(&[kind], &items(&[import])).is_ok(), is_allowed, "{kind} {import}");
        }
    }

    #[test]
    fn two_kinds_share_only_what_both_may() {
        let kinds = [Kind::Judge, Kind::Templates];
        assert!(check(&kinds, &items(&["dlm:plugin/http@1.0.0"])).is_ok());
        let refused = check(&kinds, &items(&["dlm:plugin/process@1.0.0"])).unwrap_err();
        assert!(
            refused.cause.contains("a templates may not; split"),
            "{}",
            refused.cause
        );
    }

    #[test]
    fn wasi_in_words() {
        assert_eq!(Wasi::of(&items(&["dlm:plugin/log@1.0.0"])), Wasi::None);
        assert_eq!(Wasi::of(&items(&["wasi:io/poll@0.2.0"])), Wasi::Inert);
        assert_eq!(
            Wasi::of(&items(&["wasi:http/types@0.2.0", "wasi:io/poll@0.2.0"])),
            Wasi::InertHttp
        );
    }
}

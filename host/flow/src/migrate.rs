//! `dlm migrate`: raises a document's frontmatter to the current schema version, with a backup beside it.
//!
//! Invariants: the backup is whole on disk before the document changes; an older backup is never overwritten.

use std::path::{Path, PathBuf};

use dlm_core::Subject;
use dlm_doc::{EditError, SCHEMA_VERSION, chain, migrate_text};
use dlm_files::Disk;
use serde::Serialize;

use crate::document::{read_bytes, replace, unparsable};
use crate::failure::Failure;

/// Most backups of one document; more are a script gone wild.
const BACKUPS_MAX: u32 = 1000;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct MigrateOptions {
    pub path: PathBuf,
    /// Write nothing.
    pub is_dry_run: bool,
    pub keeps_backup: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigrateReport {
    pub path: PathBuf,
    pub from: u32,
    pub to: u32,
    /// `v1 → v2 → … → v15`.
    pub chain: String,
    pub outcome: Migration,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Migration {
    /// Nothing had to change.
    Current,
    /// `--dry-run`: the frontmatter as it would be.
    Planned {
        frontmatter: String,
    },
    Written {
        backup: Option<PathBuf>,
    },
}

/// Migrates a document.
///
/// **Errors**, all under `migrate`: the file does not parse, is of a newer version, or cannot be written.
pub fn migrate(options: &MigrateOptions) -> Result<MigrateReport, Failure> {
    let path = &options.path;
    let disk = Disk::new();
    let bytes = read_bytes(path).map_err(|failure| failure.under(Subject::Migrate))?;
    let fail_parse = |errors| unparsable(path, &bytes, &errors).under(Subject::Migrate);
    // Decoding goes through the parser, which knows the place of a byte that is no text.
    dlm_doc::parse_bytes(&bytes, &dlm_doc::Limits::default()).map_err(fail_parse)?;
    let text = String::from_utf8(bytes.clone()).expect("what parses is UTF-8");
    let migrated = migrate_text(&text).map_err(|error| match error {
        EditError::Source(errors) => fail_parse(errors),
        other => Failure::from(other).under(Subject::Migrate),
    })?;
    let outcome = if migrated.from == SCHEMA_VERSION {
        Migration::Current
    } else if options.is_dry_run {
        Migration::Planned {
            frontmatter: migrated.frontmatter,
        }
    } else {
        let backup = match options.keeps_backup {
            true => Some(back_up(path, &bytes)?),
            false => None,
        };
        replace(&disk, path, migrated.text.as_bytes(), Subject::Migrate)?;
        Migration::Written { backup }
    };
    Ok(MigrateReport {
        path: path.clone(),
        from: migrated.from,
        to: SCHEMA_VERSION,
        chain: chain(migrated.from),
        outcome,
    })
}

/// Writes the bytes to `<name>.dlm.bak`, or the next free `<name>.dlm.bak.N`; a backup that holds them already is enough.
fn back_up(path: &Path, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    for number in 0..BACKUPS_MAX {
        let candidate = match number {
            0 => path.with_file_name(format!("{name}.bak")),
            n => path.with_file_name(format!("{name}.bak.{n}")),
        };
        // A migration that was killed has made it already.
        if dlm_files::read(&candidate, bytes.len() as u64).is_ok_and(|found| found.as_deref() == Some(bytes)) {
            return Ok(candidate);
        }
        // Half a backup would look like a whole one.
        let disk = Disk::new();
        let is_made = disk.create_whole(&candidate, bytes);
        let _left = disk.sweep_beside(&candidate);
        if is_made.map_err(|error| unwritable(&candidate, &error.into_io()))? {
            return Ok(candidate);
        }
    }
    let what = format!("there are {BACKUPS_MAX} backups of {} already", path.display());
    Err(Failure::new(Subject::Migrate, what).hint("move them away, or pass `--no-backup`"))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Subject::Migrate,
        format!("{} cannot be written: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const OLD: &str = "---\n# mine\ndlm_id: 01HF7YAT0004106R0430MG2000\nbase_model: smollm2-135m\ntraining:\n  dpo:\n    enabled: true\n---\n\nbody\n";

    fn options(path: &Path) -> MigrateOptions {
        MigrateOptions {
            path: path.to_path_buf(),
            is_dry_run: false,
            keeps_backup: true,
        }
    }

    fn old() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.dlm");
        fs::write(&path, OLD).unwrap();
        (directory, path)
    }

    #[test]
    fn backups_are_numbered_and_never_overwritten() {
        let (directory, path) = old();
        for (expected, body) in [("a.dlm.bak", ""), ("a.dlm.bak.1", "more\n"), ("a.dlm.bak.1", "more\n")] {
            let old = format!("{OLD}{body}");
            fs::write(&path, &old).unwrap();
            let report = migrate(&options(&path)).unwrap();
            let backup = directory.path().join(expected);
            assert_eq!(
                report.outcome,
                Migration::Written {
                    backup: Some(backup.clone())
                }
            );
            assert_eq!(fs::read_to_string(backup).unwrap(), old);
            assert!(fs::read_to_string(&path).unwrap().contains("# mine\n"));
            assert_eq!((report.from, report.to), (1, SCHEMA_VERSION));
        }
        let again = migrate(&options(&path)).unwrap();
        assert_eq!(again.outcome, Migration::Current);
    }

    #[test]
    fn a_dry_run_and_no_backup_leave_what_they_say() {
        let (directory, path) = old();
        let dry = MigrateOptions {
            is_dry_run: true,
            ..options(&path)
        };
        let Migration::Planned { frontmatter } = migrate(&dry).unwrap().outcome else {
            panic!("a dry run plans");
        };
        assert!(frontmatter.contains("dlm_version: 15") && frontmatter.contains("preference:"));
        assert_eq!(fs::read_to_string(&path).unwrap(), OLD);
        let bare = MigrateOptions {
            keeps_backup: false,
            ..options(&path)
        };
        migrate(&bare).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_newer_version_is_refused_under_migrate() {
        let (_directory, path) = old();
        fs::write(&path, OLD.replace("base_model", "dlm_version: 99\nbase_model")).unwrap();
        let failure = migrate(&options(&path)).unwrap_err();
        assert_eq!((failure.subject.as_str(), failure.kind.exit_code()), ("migrate", 1));
        assert!(
            failure.message().contains("a.dlm:4:1: VersionError"),
            "{}",
            failure.message()
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, path) = old();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = directory.path().join("link.dlm");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        migrate(&options(&link)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::read_to_string(&path).unwrap().contains("dlm_version: 15"));
    }
}

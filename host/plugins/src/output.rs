//! The files that a target writes: kept in memory until the guest is done, then put into the export directory.
//!
//! Invariants: a guest never touches the file system; a name is checked before it is kept; each file appears whole or not
//! at all, by rename from a temporary name beside it; a symbolic link in the way is replaced, never followed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dlm_core::ports::target::{Stage, TargetFile};
use dlm_files::{Access, Disk, DiskError};

use crate::error::OutputError;

/// Most parts of a name.
const PARTS_MAX: usize = 8;
const PART_BYTES_MAX: usize = 255;
/// Names that Windows keeps for devices.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Bytes {
        bytes: Vec<u8>,
        is_executable: bool,
    },
    /// A finished artefact to link or copy.
    Placed {
        path: PathBuf,
        size: u64,
        sha256: String,
    },
}

/// The files of one export.
#[derive(Debug, Default)]
pub(crate) struct Output {
    files: BTreeMap<String, Contents>,
}

impl Output {
    /// Keeps a file under a name that [`check_name`] accepted.
    pub fn put(&mut self, name: &str, contents: Contents) {
        self.files.insert(name.to_owned(), contents);
    }

    pub fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// True for a kept file, and for a directory that holds one.
    pub fn holds(&self, name: &str) -> bool {
        let is_below = |file: &String| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        self.contains(name) || self.files.keys().any(is_below)
    }

    pub fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Number of files and written bytes without the one called `name`.
    pub fn count_without(&self, name: &str) -> (u64, u64) {
        let others = self.files.iter().filter(|(other, _)| *other != name);
        others.fold((0, 0), |(files, bytes), (_, contents)| match contents {
            Contents::Bytes { bytes: more, .. } => (files + 1, bytes + more.len() as u64),
            Contents::Placed { .. } => (files + 1, bytes),
        })
    }

    /// Says which kept name differs from `name` by letter case only.
    pub fn case_twin(&self, name: &str) -> Option<&str> {
        let folded = name.to_ascii_lowercase();
        let mut names = self.files.keys().map(String::as_str);
        names.find(|other| *other != name && other.to_ascii_lowercase() == folded)
    }

    /// Puts every file into the stage's directory: all are written beside their places first, then renamed.
    pub fn commit(&self, stage: &Stage) -> Result<Vec<TargetFile>, OutputError> {
        let disk = Disk::new();
        let mut waiting = Vec::new();
        let written = self.write_beside(stage, &mut waiting);
        let renamed = written.and_then(|()| {
            waiting.iter().try_for_each(|(beside, place)| {
                let placed = disk.rename(beside, place).map_err(DiskError::into_io);
                placed.map_err(OutputError::files("write", place))
            })
        });
        if let Err(error) = renamed {
            for (beside, _) in &waiting {
                // Those already renamed are not there any more; the first error is the one to report.
                let _gone = disk.remove_file(beside);
            }
            return Err(error);
        }
        Ok(self.records())
    }

    fn write_beside(&self, stage: &Stage, waiting: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), OutputError> {
        let disk = Disk::new();
        for (index, (name, contents)) in self.files.iter().enumerate() {
            let place = make_directories(&stage.directory, name)?;
            if place.is_dir() && !place.is_symlink() {
                return Err(OutputError::InTheWay {
                    name: name.clone(),
                    cause: "it is a directory",
                });
            }
            let beside = place.with_file_name(format!(".dlm-target-{}-{index}.tmp", std::process::id()));
            waiting.push((beside.clone(), place));
            let written = match contents {
                Contents::Bytes { bytes, is_executable } => write_new(&beside, bytes, *is_executable),
                Contents::Placed { path, .. } => disk.duplicate(path, &beside).map_err(DiskError::into_io),
            };
            written.map_err(OutputError::files("write", &beside))?;
        }
        Ok(())
    }

    fn records(&self) -> Vec<TargetFile> {
        let record = |(name, contents): (&String, &Contents)| match contents {
            Contents::Bytes { bytes, is_executable } => TargetFile {
                name: name.clone(),
                size: bytes.len() as u64,
                sha256: dlm_core::digest::sha256_hex(bytes),
                is_executable: *is_executable,
            },
            Contents::Placed { size, sha256, .. } => TargetFile {
                name: name.clone(),
                size: *size,
                sha256: sha256.clone(),
                is_executable: false,
            },
        };
        self.files.iter().map(record).collect()
    }
}

/// Makes the directories of a name, refusing to go through a symbolic link.
fn make_directories(directory: &Path, name: &str) -> Result<PathBuf, OutputError> {
    let mut place = directory.to_owned();
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        place.push(part);
        if parts.peek().is_none() {
            break;
        }
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(OutputError::InTheWay {
                    name: part.to_owned(),
                    cause: "a directory is needed there, and it is something else",
                });
            }
            Err(_) => Disk::new()
                .create_directory(&place)
                .map_err(|error| OutputError::files("make", &place)(error.into_io()))?,
        }
    }
    Ok(place)
}

/// Writes a file that must not be there yet, so that nothing is followed.
fn write_new(path: &Path, bytes: &[u8], is_executable: bool) -> std::io::Result<()> {
    // The run bit of a launch script is part of what was promised.
    let access = match is_executable {
        true => Access::Program,
        false => Access::Usual,
    };
    match Disk::new().create(path, bytes, access) {
        Ok(true) => Ok(()),
        Ok(false) => Err(std::io::ErrorKind::AlreadyExists.into()),
        Err(error) => Err(error.into_io()),
    }
}

/// Says why a name is refused.
///
/// A name is relative, `/`-separated, of printable ASCII, and means the same file on every system.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    let is_plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !b"\\:*?\"<>|".contains(&byte);
    if !name.bytes().all(is_plain) {
        return Err("it holds a character that is not printable ASCII, or one of \\ : * ? \" < > |");
    }
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > PARTS_MAX {
        return Err("it has more than 8 parts");
    }
    for part in parts {
        check_part(part)?;
    }
    Ok(())
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("it is absolute or has an empty part");
    }
    if part == "." || part == ".." {
        return Err("it has a `.` or `..` part");
    }
    if part.len() > PART_BYTES_MAX {
        return Err("it has a part longer than 255 bytes");
    }
    if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        return Err("a part begins with a space or ends with a dot or a space");
    }
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let is_numbered = |prefix: &str| {
        let number = stem.strip_prefix(prefix);
        number.is_some_and(|number| number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if DEVICES.contains(&stem.as_str()) || is_numbered("com") || is_numbered("lpt") {
        return Err("a part is the name of a device on Windows");
    }
    if stem.is_empty() && part.starts_with(".dlm-") {
        return Err("names that begin with `.dlm-` are kept for dlm");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dlm_packages::error::Diagnose;

    use super::*;

    fn stage(directory: &Path) -> Stage {
        Stage {
            directory: directory.to_owned(),
            artifacts: Vec::new(),
            reserved: Vec::new(),
            is_draft: false,
        }
    }

    fn bytes(text: &str) -> Contents {
        Contents::Bytes {
            bytes: text.as_bytes().to_vec(),
            is_executable: false,
        }
    }

    #[test]
    fn good_names_pass_and_bad_names_do_not() {
        for name in [
            "Modelfile",
            "a/b/c.txt",
            "chat-template.jinja",
            "with space.txt",
            ".hidden",
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "",
            "/x",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "C:\\x",
            "C:x",
            "a\\b",
            "CON",
            "nul.txt",
            "com1.log",
            "x.",
            "x ",
            "a\0b",
            "a\nb",
            "ü",
            "\u{202e}x",
            &long,
            "1/2/3/4/5/6/7/8/9",
            "*",
            ".dlm-target-1.tmp",
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn files_appear_with_their_bytes_and_run_bit() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::default();
        output.put(
            "sub/run.sh",
            Contents::Bytes {
                bytes: b"#!".to_vec(),
                is_executable: true,
            },
        );
        output.put("b.txt", bytes("b"));
        let files = output.commit(&stage(directory.path())).unwrap();
        assert_eq!(
            files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
            ["b.txt", "sub/run.sh"]
        );
        assert_eq!(fs::read(directory.path().join("b.txt")).unwrap(), b"b");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(directory.path().join("sub/run.sh"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        let names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_replaced_or_refused_never_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "old").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join("a")).unwrap();
        let mut output = Output::default();
        output.put("a", bytes("new"));
        output.commit(&stage(directory.path())).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"old");
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"new");

        std::os::unix::fs::symlink(outside.path(), directory.path().join("dir")).unwrap();
        let mut output = Output::default();
        output.put("dir/victim", bytes("new"));
        let error = output.commit(&stage(directory.path())).unwrap_err();
        assert_eq!(error.code(), "plugin::conflict");
        assert_eq!(fs::read(&victim).unwrap(), b"old");
    }

    #[test]
    fn a_failure_leaves_the_old_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "old").unwrap();
        fs::create_dir(directory.path().join("b")).unwrap();
        let mut output = Output::default();
        output.put("a", bytes("new"));
        output.put("b", bytes("new"));
        output.commit(&stage(directory.path())).unwrap_err();
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}

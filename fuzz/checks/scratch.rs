//! A directory for the files of one check, gone when the check is.

use std::path::{Path, PathBuf};

/// The directory; dropping it removes it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory of the check `of`; a process and thread has one of each name at a time.
    ///
    /// **Panics** when the directory for temporary files cannot be written.
    pub fn new(of: &str) -> Scratch {
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
        let path = std::env::temp_dir().join(format!("dlm-fuzz-{of}-{}-{thread}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the directory for temporary files can be written");
        Scratch(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, with the directories above it.
    ///
    /// **Panics** when it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.0.join(name);
        let above = path.parent().expect("the file is in the directory");
        std::fs::create_dir_all(above).expect("the directory for temporary files can be written");
        std::fs::write(&path, content).expect("the directory for temporary files can be written");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory for temporary files; what is left there harms nobody.
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

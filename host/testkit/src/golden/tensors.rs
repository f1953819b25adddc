//! A small reader of golden safetensors files (F32 and I64).

use std::collections::BTreeMap;
use std::path::Path;

use super::{GoldenError, malformed, read};

/// Named tensors of one golden file.
#[derive(Debug)]
pub struct Tensors {
    bytes: Vec<u8>,
    path: std::path::PathBuf,
}

impl Tensors {
    /// Reads a file.
    ///
    /// **Errors:** a file that is not there or no safetensors.
    pub fn open(path: &Path) -> Result<Tensors, GoldenError> {
        let bytes = read(path)?;
        safetensors::SafeTensors::deserialize(&bytes).map_err(|error| malformed(path, error))?;
        Ok(Tensors {
            bytes,
            path: path.to_owned(),
        })
    }

    /// Returns shape and values of an `F32` tensor.
    ///
    /// **Errors:** no such tensor, or another type.
    pub fn f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), GoldenError> {
        let file = safetensors::SafeTensors::deserialize(&self.bytes).map_err(|error| malformed(&self.path, error))?;
        let view = file.tensor(name).map_err(|error| malformed(&self.path, error))?;
        if view.dtype() != safetensors::Dtype::F32 {
            return Err(malformed(
                &self.path,
                format!("`{name}` is {:?}, expected F32", view.dtype()),
            ));
        }
        let values = view.data().as_chunks::<4>().0;
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok((view.shape().to_vec(), values))
    }

    /// Returns every `F32` tensor.
    ///
    /// **Errors:** a tensor of another type.
    pub fn all_f32(&self) -> Result<BTreeMap<String, Vec<f32>>, GoldenError> {
        let file = safetensors::SafeTensors::deserialize(&self.bytes).map_err(|error| malformed(&self.path, error))?;
        let names = file.names().into_iter().map(str::to_owned);
        names.map(|name| Ok((name.clone(), self.f32(&name)?.1))).collect()
    }

    /// Says whether a tensor exists.
    pub fn has(&self, name: &str) -> bool {
        safetensors::SafeTensors::deserialize(&self.bytes).is_ok_and(|file| file.tensor(name).is_ok())
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

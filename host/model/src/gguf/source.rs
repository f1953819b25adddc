//! A GGUF file as a [`WeightSource`]: Hugging Face names, Hugging Face row order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use dlm_kernels::quant::{GgmlType, dequantize_row};

use super::error::GgufSourceError;
use super::names::{Change, TensorPlace, places};
use super::{GgufFile, TensorInfo};
use crate::weights::{RawTensor, WeightError, WeightSource};

/// The weights of a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufWeights {
    file: Arc<GgufFile>,
    places: BTreeMap<String, TensorPlace>,
}

impl GgufWeights {
    /// Finds the Hugging Face name of every tensor of a file.
    ///
    /// **Errors:** an architecture or a tensor that is not known.
    pub fn new(file: Arc<GgufFile>) -> Result<Self, GgufSourceError> {
        let places = places(&file)?;
        Ok(Self { file, places })
    }

    fn unreadable(&self, name: &str, cause: String) -> WeightError {
        WeightError::Unreadable {
            name: name.to_owned(),
            place: self.file.path().display().to_string(),
            cause,
        }
    }

    /// Returns where each tensor lies, by its Hugging Face name.
    pub fn places(&self) -> &BTreeMap<String, TensorPlace> {
        &self.places
    }
}

/// Puts the rows of each head back: file row `2i+j` is row `j*half+i`.
fn deinterleave(bytes: &[u8], rows: usize, heads: usize) -> Result<Vec<u8>, String> {
    if heads == 0 || !rows.is_multiple_of(2 * heads) {
        return Err(format!("{rows} rows do not divide into {heads} heads of rotary pairs"));
    }
    let row_bytes = bytes.len() / rows;
    let head_rows = rows / heads;
    let half = head_rows / 2;
    let mut out = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let (head, in_head) = (row / head_rows, row % head_rows);
        let (j, i) = (in_head / half, in_head % half);
        let from = (head * head_rows + 2 * i + j) * row_bytes;
        out.extend_from_slice(&bytes[from..from + row_bytes]);
    }
    Ok(out)
}

fn minus_one(info: &TensorInfo, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut values = vec![0.0; info.shape.iter().product()];
    dequantize_row(info.dtype, bytes, &mut values).map_err(|cause| cause.to_string())?;
    Ok(values.iter().flat_map(|value| (value - 1.0).to_le_bytes()).collect())
}

fn changed<'a>(info: &TensorInfo, bytes: &'a [u8], change: Change) -> Result<RawTensor<'a>, String> {
    let mut tensor = RawTensor {
        dtype: info.dtype,
        shape: info.shape.clone(),
        bytes: Cow::Borrowed(bytes),
    };
    match change {
        Change::None => {}
        Change::Deinterleave { heads } => {
            tensor.bytes = Cow::Owned(deinterleave(bytes, info.shape[0], heads)?);
        }
        Change::MinusOne => {
            tensor.bytes = Cow::Owned(minus_one(info, bytes)?);
            tensor.dtype = GgmlType::F32;
        }
        Change::Expert(expert) => {
            let each = bytes.len() / info.shape[0];
            tensor.bytes = Cow::Borrowed(&bytes[expert * each..(expert + 1) * each]);
            tensor.shape.remove(0);
        }
    }
    Ok(tensor)
}

impl WeightSource for GgufWeights {
    fn tensor(&self, name: &str) -> Result<RawTensor<'_>, WeightError> {
        let missing = || WeightError::Missing {
            name: name.to_owned(),
            place: self.file.path().display().to_string(),
        };
        let place = self.places.get(name).ok_or_else(missing)?;
        let (info, bytes) = self.file.raw(&place.file_name).ok_or_else(missing)?;
        changed(info, bytes, place.change).map_err(|cause| self.unreadable(name, cause))
    }

    fn stored_as(&self, name: &str) -> Option<GgmlType> {
        let place = self.places.get(name)?;
        Some(self.file.header().tensors.get(&place.file_name)?.dtype)
    }

    fn release_pages(&self) {
        self.file.release_pages();
    }

    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::deinterleave;

    #[test]
    fn rows_of_each_head_go_back() {
        // Two heads of four rows; the file holds (0, 2, 1, 3) of each, one byte per row.
        let file = [0, 2, 1, 3, 10, 12, 11, 13];
        assert_eq!(deinterleave(&file, 8, 2).unwrap(), [0, 1, 2, 3, 10, 11, 12, 13]);
    }

    #[test]
    fn heads_that_do_not_divide_are_refused() {
        assert!(deinterleave(&[0; 6], 6, 4).unwrap_err().contains("6 rows"));
        assert!(deinterleave(&[0; 6], 6, 0).is_err());
    }
}

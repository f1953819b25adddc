//! Reading and writing safetensors: eight bytes of length, a JSON header, the data.

use std::collections::BTreeMap;

use dlm_plugin::serde_json::{self, Map, Value, json};
use dlm_plugin::{Error, error};

/// Longest header that is read, as the format's own library has it.
const HEADER_BYTES_MAX: usize = 100_000_000;
/// The data begins at a multiple of this.
const ALIGNMENT: usize = 8;

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// As the header names it, such as `F32`.
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// Reads every tensor of a file called `name` in messages.
pub fn read(name: &str, file: &[u8]) -> Result<Vec<(String, Tensor)>, Error> {
    let bad = |why: &str| error!(Corrupt, "`{name}` is no safetensors file: {why}");
    let length = file
        .first_chunk::<8>()
        .ok_or_else(|| bad("it is shorter than 8 bytes"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > HEADER_BYTES_MAX {
        return Err(bad("its header is too long"));
    }
    let header = file
        .get(8..8 + length)
        .ok_or_else(|| bad("it ends inside of its header"))?;
    let data = &file[8 + length..];
    let header: Map<String, Value> = serde_json::from_slice(header).map_err(|error| bad(&error.to_string()))?;
    let entries = header.iter().filter(|(tensor, _)| *tensor != "__metadata__");
    entries
        .map(|(tensor, entry)| {
            let found = read_entry(entry, data).ok_or_else(|| bad(&format!("the entry of `{tensor}` is broken")))?;
            Ok((tensor.clone(), found))
        })
        .collect()
}

fn read_entry(entry: &Value, data: &[u8]) -> Option<Tensor> {
    let dtype = entry.get("dtype")?.as_str()?;
    let numbers = |key: &str| -> Option<Vec<usize>> {
        let list = entry.get(key)?.as_array()?;
        list.iter()
            .map(|number| usize::try_from(number.as_u64()?).ok())
            .collect()
    };
    let shape = numbers("shape")?;
    let offsets = numbers("data_offsets")?;
    let [from, to] = offsets.as_slice() else {
        return None;
    };
    let bytes = data.get(*from..*to)?;
    let count = shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let is_whole = count.checked_mul(width(dtype)?)? == bytes.len();
    is_whole.then(|| Tensor {
        dtype: dtype.to_owned(),
        shape,
        data: bytes.to_vec(),
    })
}

/// Bytes of one number.
fn width(dtype: &str) -> Option<usize> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" => Some(8),
        _ => None,
    }
}

impl Tensor {
    /// The matrix with rows and columns exchanged.
    pub fn transposed(&self, name: &str) -> Result<Tensor, Error> {
        let ([rows, columns], Some(width)) = (self.shape.as_slice(), width(&self.dtype)) else {
            return Err(error!(
                Corrupt,
                "the tensor `{name}` has {} dimensions, a matrix was expected",
                self.shape.len()
            ));
        };
        let mut data = Vec::with_capacity(self.data.len());
        for column in 0..*columns {
            for row in 0..*rows {
                let at = (row * columns + column) * width;
                data.extend_from_slice(&self.data[at..at + width]);
            }
        }
        Ok(Tensor {
            dtype: self.dtype.clone(),
            shape: vec![*columns, *rows],
            data,
        })
    }
}

/// Writes tensors in the order of their names.
pub fn write(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "mlx"}));
    let mut end = 0;
    for (name, tensor) in tensors {
        let from = end;
        end += tensor.data.len();
        header.insert(
            name.clone(),
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [from, end]}),
        );
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(ALIGNMENT) {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    for tensor in tensors.values() {
        file.extend_from_slice(&tensor.data);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(shape: &[usize], data: &[u8]) -> Vec<u8> {
        let tensor = Tensor {
            dtype: "F16".to_owned(),
            shape: shape.to_vec(),
            data: data.to_vec(),
        };
        write(&BTreeMap::from([("x".to_owned(), tensor)]))
    }

    #[test]
    fn what_is_written_is_read() {
        let file = one(&[2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let found = read("f", &file).unwrap();
        assert_eq!(found[0].0, "x");
        assert_eq!(found[0].1.transposed("x").unwrap().data, [1, 2, 5, 6, 3, 4, 7, 8]);
        assert!(usize::from(file[0]).is_multiple_of(8));
    }

    #[test]
    fn broken_files_are_refused() {
        let good = one(&[2, 2], &[0; 8]);
        for end in [0, 7, 8, 20, good.len() - 1] {
            assert!(read("f", &good[..end]).is_err(), "{end}");
        }
        let mut long = good.clone();
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read("f", &long).is_err());
        let text = String::from_utf8_lossy(&good).replace("[2,2]", "[2,3]");
        assert!(read("f", text.as_bytes()).is_err());
    }
}

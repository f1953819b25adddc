//! Bytes of GGUF files for tests, made without minding whether they make sense.
//!
//! Knows the layout of the format and nothing of the product's own writer, so that the two can judge each other.

/// A GGUF file in the making.
#[derive(Clone, Debug, Default)]
pub struct GgufBytes {
    metadata: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = (value.len() as u64).to_le_bytes().to_vec();
    bytes.extend(value.as_bytes());
    bytes
}

impl GgufBytes {
    /// Adds a metadata entry with a type number and the bytes of its value.
    pub fn value(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let mut entry = text(key);
        entry.extend(kind.to_le_bytes());
        entry.extend(value);
        self.metadata.push(entry);
        self
    }

    /// Adds a text.
    pub fn string(self, key: &str, value: &str) -> Self {
        self.value(key, 8, &text(value))
    }

    /// Adds a whole number.
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.value(key, 4, &value.to_le_bytes())
    }

    /// Adds a number.
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.value(key, 6, &value.to_le_bytes())
    }

    /// A truth value.
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.value(key, 7, &[u8::from(value)])
    }

    /// Adds a list of texts.
    pub fn strings(self, key: &str, values: &[&str]) -> Self {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(text(value)));
        self.value(key, 9, &bytes)
    }

    /// Adds a row of the tensor table; `dims` has the fastest dimension first, as the file does.
    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let mut row = text(name);
        row.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| row.extend(dim.to_le_bytes()));
        row.extend(kind.to_le_bytes());
        row.extend(offset.to_le_bytes());
        self.tensors.push(row);
        self
    }

    /// Adds an `f32` tensor and its values behind those that are there.
    pub fn floats(mut self, name: &str, dims: &[u64], values: &[f32]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.tensor(name, dims, 0, offset)
    }

    /// Makes the tensor data so many zeros.
    pub fn data(mut self, bytes: usize) -> Self {
        self.data = vec![0; bytes];
        self
    }

    /// Returns the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        bytes.extend(self.metadata.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

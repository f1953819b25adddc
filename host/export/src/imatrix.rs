//! Importance matrices: how strongly each input column of each matrix is used, as files that llama.cpp's tools share.
//!
//! Invariants: sums and counts are kept, not means, so that files can be added up; the same sums give the same bytes. A file from
//! outside is believed where it names a matrix of the model and has as many columns, and refused where it does not fit.
//! **Source:** `spec/export.md` section 9; llama.cpp `tools/imatrix`.

use std::collections::BTreeMap;
use std::path::Path;

use dlm_kernels::quant::{GgmlType, dequantize_row};
use dlm_model::config::DecoderConfig;
use dlm_model::gguf::{GgufFile, Value};
use dlm_model::{InputSquares, ModuleInfo};

use crate::error::ExportError;
use crate::names::{Place, place};
use crate::plan::ModelPlan;
use crate::tensor::Importance;
use crate::writer::{GgufWriter, Metadata, TensorRow, WrittenFile};

/// Ends the name of a tensor of sums.
const SUMS: &str = ".in_sum2";
/// Ends the name of a tensor of counts.
const COUNTS: &str = ".counts";

/// What is known of one matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImatrixEntry {
    /// Sums of squares by input column, expert after expert: `[experts, in]`.
    pub sums: Vec<f32>,
    /// Rows that each expert read; one number where there are none.
    pub counts: Vec<f32>,
}

impl ImatrixEntry {
    /// Columns of one expert.
    fn columns(&self) -> usize {
        self.sums.len() / self.counts.len().max(1)
    }
}

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// Names of the texts.
    pub datasets: Vec<String>,
    pub chunk_count: u32,
    /// Tokens of a chunk.
    pub chunk_size: u32,
    /// By name of the matrix in a model file.
    pub entries: BTreeMap<String, ImatrixEntry>,
}

/// A column that was never used counts this part of the mean: a block whose weights are all zero has no best scale.
const UNUSED: f32 = 1e-6;

fn refuse(cause: impl Into<String>) -> ExportError {
    ExportError::Imatrix { cause: cause.into() }
}

impl Imatrix {
    /// Takes the sums that a model's products were seen to read.
    ///
    /// **Errors:** a sum that is not finite, a module without a place in a file.
    pub fn of(config: &DecoderConfig, modules: &[ModuleInfo], squares: &InputSquares) -> Result<Imatrix, ExportError> {
        let experts = config.experts.map_or(0, |experts| experts.count);
        let mut entries: BTreeMap<String, ImatrixEntry> = BTreeMap::new();
        for module in modules {
            let (sums, rows) = squares.of(module);
            let sums: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
            if sums.iter().any(|sum| !sum.is_finite()) {
                return Err(refuse(format!("what `{}` reads is not finite", module.path)));
            }
            match place(config, &format!("{}.weight", module.path))? {
                Place::Own { name, .. } => {
                    let counts = vec![rows as f32];
                    entries.insert(name, ImatrixEntry { sums, counts });
                }
                Place::Expert { name, expert } => {
                    let entry = entries.entry(name).or_insert_with(|| ImatrixEntry {
                        sums: vec![0.0; experts * sums.len()],
                        counts: vec![0.0; experts],
                    });
                    entry.sums[expert * sums.len()..][..sums.len()].copy_from_slice(&sums);
                    entry.counts[expert] = rows as f32;
                }
                Place::Implied => {}
            }
        }
        Ok(Imatrix {
            entries,
            ..Imatrix::default()
        })
    }

    /// The weights of columns for the matrices of a model file, and how many of its matrices the file knows.
    ///
    /// **Errors:** an entry with other columns or experts than the matrix of that name, or none that fits.
    pub fn importance(&self, plan: &ModelPlan) -> Result<Importance, ExportError> {
        let mut importance = Importance::new();
        for tensor in &plan.tensors {
            let (name, shape) = (&tensor.row.name, &tensor.row.shape);
            let Some(entry) = self.entries.get(name).filter(|_| shape.len() >= 2) else {
                continue;
            };
            let columns = *shape.last().expect("a matrix has columns");
            let experts = if shape.len() == 3 { shape[0] } else { 1 };
            if entry.counts.len() != experts || entry.sums.len() != experts * columns {
                return Err(refuse(format!(
                    "`{name}` has {} columns for {} experts in it, and {columns} for {experts} in the model",
                    entry.columns(),
                    entry.counts.len()
                )));
            }
            let means = entry.sums.chunks_exact(columns).zip(&entry.counts);
            importance.insert(
                name.clone(),
                means.map(|(sums, count)| means_of(sums, *count)).collect(),
            );
        }
        if importance.is_empty() {
            return Err(refuse("it knows none of this model's matrices"));
        }
        Ok(importance)
    }

    /// Writes the matrix as llama.cpp's `llama-imatrix` does.
    ///
    /// **Errors:** a failed write, which leaves nothing behind.
    pub fn write(&self, path: &Path) -> Result<WrittenFile, ExportError> {
        let text = |text: &str| Value::String(text.to_owned());
        let datasets = self.datasets.iter().map(|name| text(name)).collect();
        let metadata: Metadata = vec![
            ("general.type".to_owned(), text("imatrix")),
            ("imatrix.datasets".to_owned(), Value::Array(datasets)),
            ("imatrix.chunk_count".to_owned(), Value::U32(self.chunk_count)),
            ("imatrix.chunk_size".to_owned(), Value::U32(self.chunk_size)),
        ];
        let row = |name: String, shape: [usize; 2]| TensorRow {
            name,
            shape: shape.to_vec(),
            ty: GgmlType::F32,
        };
        let mut rows = Vec::with_capacity(2 * self.entries.len());
        let mut values = Vec::with_capacity(rows.capacity());
        for (name, entry) in &self.entries {
            let experts = entry.counts.len();
            rows.push(row(format!("{name}{SUMS}"), [experts, entry.columns()]));
            values.push(&entry.sums);
            rows.push(row(format!("{name}{COUNTS}"), [experts, 1]));
            values.push(&entry.counts);
        }
        let mut writer = GgufWriter::create(path, &metadata, &rows)?;
        for (row, values) in rows.iter().zip(values) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            writer.tensor(&row.name, &bytes)?;
        }
        writer.finish()
    }

    /// Reads a file that llama.cpp's `llama-imatrix` or [`Imatrix::write`] wrote.
    ///
    /// **Errors:** a file that is none, sums without counts, numbers that are not finite or below zero.
    pub fn read(path: &Path) -> Result<Imatrix, ExportError> {
        let file = GgufFile::open(path).map_err(|cause| refuse(format!("`{}`: {cause}", path.display())))?;
        let of_path = |cause: String| refuse(format!("`{}`: {cause}", path.display()));
        let kind = file.value("general.type").and_then(Value::as_str);
        if kind != Some("imatrix") {
            let found = kind.map_or_else(|| "of no stated type".to_owned(), |kind| format!("a {kind}"));
            return Err(of_path(format!("it is {found}, expected an imatrix")));
        }
        let number = |key: &str| {
            file.value(key)
                .and_then(Value::as_u64)
                .and_then(|n| u32::try_from(n).ok())
        };
        let names = file.value("imatrix.datasets").and_then(Value::as_array);
        let names = names.unwrap_or_default().iter().filter_map(Value::as_str);
        let mut matrix = Imatrix {
            datasets: names.map(str::to_owned).collect(),
            chunk_count: number("imatrix.chunk_count").unwrap_or(0),
            chunk_size: number("imatrix.chunk_size").unwrap_or(0),
            entries: BTreeMap::new(),
        };
        for name in file.header().tensors.keys() {
            let Some(matrix_name) = name.strip_suffix(SUMS) else {
                continue;
            };
            let (sums, shape) = values(&file, name).map_err(of_path)?;
            let (counts, _) = values(&file, &format!("{matrix_name}{COUNTS}")).map_err(of_path)?;
            let columns = shape.last().copied().unwrap_or(0);
            if columns == 0 || counts.len() * columns != sums.len() {
                return Err(of_path(format!(
                    "`{matrix_name}` has sums of the shape {shape:?} and {} counts",
                    counts.len()
                )));
            }
            matrix
                .entries
                .insert(matrix_name.to_owned(), ImatrixEntry { sums, counts });
        }
        match matrix.entries.is_empty() {
            true => Err(of_path("it holds no sums".to_owned())),
            false => Ok(matrix),
        }
    }
}

/// Mean squares of columns; `None` where nothing was read, so that the columns are alike.
fn means_of(sums: &[f32], count: f32) -> Option<Vec<f32>> {
    if count <= 0.0 {
        return None;
    }
    let mean = sums.iter().sum::<f32>() / sums.len() as f32 / count;
    if mean <= 0.0 {
        return None;
    }
    Some(sums.iter().map(|sum| (sum / count).max(mean * UNUSED)).collect())
}

/// The numbers of a tensor and its shape.
fn values(file: &GgufFile, name: &str) -> Result<(Vec<f32>, Vec<usize>), String> {
    let (info, bytes) = file.raw(name).ok_or_else(|| format!("`{name}` is missing"))?;
    let mut values = vec![0.0; info.shape.iter().product()];
    if info.dtype != GgmlType::F32 || dequantize_row(info.dtype, bytes, &mut values).is_err() {
        return Err(format!("`{name}` is of type {}, expected F32", info.dtype));
    }
    match values.iter().find(|value| !value.is_finite() || **value < 0.0) {
        Some(bad) => Err(format!("`{name}` holds {bad}")),
        None => Ok((values, info.shape.clone())),
    }
}

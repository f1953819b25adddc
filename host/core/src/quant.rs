//! The quantization levels of an export, with what every part of the program must agree on about them.
//!
//! Invariants: the names are case-sensitive and stand in documents, records, file names and flags. Which type a tensor
//! gets at a level is the exporter's table.

use crate::choice::Choice;

/// A quantization level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "these are the names that users type")]
pub enum Quant {
    Q4_K_M,
    Q5_K_M,
    Q6_K,
    Q8_0,
    F16,
    IQ4_XS,
    Q3_K_M,
}

/// What is fixed about one level.
struct Level {
    /// Number of `general.file_type` in a GGUF file.
    file_type: u32,
    /// Bytes of one parameter in the mean, for estimates of a file's size.
    bytes_per_parameter: f64,
    /// Its blocks' scales are searched for, which gains from an importance matrix.
    is_k_quant: bool,
}

impl Choice for Quant {
    const TABLE: &'static [(&'static str, Self)] = &[
        ("Q4_K_M", Self::Q4_K_M),
        ("Q5_K_M", Self::Q5_K_M),
        ("Q6_K", Self::Q6_K),
        ("Q8_0", Self::Q8_0),
        ("F16", Self::F16),
        ("IQ4_XS", Self::IQ4_XS),
        ("Q3_K_M", Self::Q3_K_M),
    ];
}

crate::named_choices!(Quant);

impl Quant {
    /// Every level, largest file first.
    pub const ALL: [Quant; 7] = [
        Quant::F16,
        Quant::Q8_0,
        Quant::Q6_K,
        Quant::Q5_K_M,
        Quant::Q4_K_M,
        Quant::IQ4_XS,
        Quant::Q3_K_M,
    ];

    const fn level(self) -> Level {
        let (file_type, bytes_per_parameter, is_k_quant) = match self {
            Quant::Q4_K_M => (15, 0.56, true),
            Quant::Q5_K_M => (17, 0.66, true),
            Quant::Q6_K => (18, 0.83, true),
            Quant::Q8_0 => (7, 1.0, false),
            Quant::F16 => (1, 2.0, false),
            Quant::IQ4_XS => (30, 0.53, true),
            Quant::Q3_K_M => (12, 0.48, true),
        };
        Level {
            file_type,
            bytes_per_parameter,
            is_k_quant,
        }
    }

    /// Number of `general.file_type` in a GGUF file.
    pub const fn file_type(self) -> u32 {
        self.level().file_type
    }

    /// Bytes of one parameter in the mean, for estimates only.
    pub const fn bytes_per_parameter(self) -> f64 {
        self.level().bytes_per_parameter
    }

    /// Whether the level gains from an importance matrix.
    pub const fn is_k_quant(self) -> bool {
        self.level().is_k_quant
    }
}

/// The levels that `export.default_quant` of a document may name: those that quantize and that other readers of documents know.
pub fn document_levels() -> &'static [(&'static str, Quant)] {
    &Quant::TABLE[..DOCUMENT_LEVELS]
}

/// How many of the table's levels those are; they come first.
const DOCUMENT_LEVELS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_name_the_levels_that_others_know() {
        let names: Vec<_> = document_levels().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]);
    }

    #[test]
    fn levels_are_ordered_by_the_size_of_their_files() {
        let sizes = Quant::ALL.map(Quant::bytes_per_parameter);
        assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
        assert_eq!(Quant::ALL.map(Quant::file_type), [1, 7, 18, 17, 15, 30, 12]);
    }

    #[test]
    fn case_matters() {
        assert_eq!(Quant::from_word("Q4_K_M"), Some(Quant::Q4_K_M));
        assert_eq!((Quant::from_word("q4_k_m"), Quant::from_word("Q4_0")), (None, None));
    }
}

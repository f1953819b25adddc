//! Limits on what is read.
//!
//! Invariants: nothing in this crate grows without one of these.

/// Caps of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest document, in bytes. Above it nothing is parsed.
    pub document_bytes_max: usize,
    /// Largest frontmatter, in bytes; YAML costs much more memory per byte than a body.
    pub frontmatter_bytes_max: usize,
    /// Largest content of one section, in bytes.
    pub section_bytes_max: usize,
    /// Content of one section from which a warning is given, in bytes: the author's guide calls more a waste.
    pub section_bytes_warn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            document_bytes_max: 64 * 1024 * 1024,
            frontmatter_bytes_max: 1024 * 1024,
            section_bytes_max: 4 * 1024 * 1024,
            section_bytes_warn: 200 * 1000,
        }
    }
}

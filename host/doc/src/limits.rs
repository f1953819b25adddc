//! Limits on what is read: all that there are in this crate.
//!
//! Invariants: nothing in this crate grows without one of these, and each has a test at the limit and one past it
//! (`tests/spec/limits.rs`).

/// Most mistakes of one kind that are told, and as many warnings: nobody reads more, and a hostile file has millions.
pub const FINDINGS_MAX: usize = 100;

/// Caps of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest document, in bytes. Above it nothing is parsed.
    pub document_bytes_max: usize,
    /// Largest frontmatter, in bytes; YAML costs much more memory per byte than a body.
    pub frontmatter_bytes_max: usize,
    /// Deepest nesting of mappings and lists in the frontmatter; the schema itself needs five.
    pub yaml_depth_max: usize,
    /// Most values in the frontmatter after aliases were expanded; the largest sensible one has a few thousand.
    pub yaml_values_max: usize,
    /// Most bytes of text in these values, what lies behind an anchor counted once more.
    pub yaml_bytes_max: usize,
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
            yaml_depth_max: 64,
            yaml_values_max: 100_000,
            yaml_bytes_max: 4 * 1024 * 1024,
            section_bytes_max: 4 * 1024 * 1024,
            section_bytes_warn: 200 * 1000,
        }
    }
}

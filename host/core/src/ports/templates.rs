//! The template port: lists and fetches `.dlm` templates.

use super::plugin::{PluginFailure, PluginIdentity};

/// What a template source says about one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMeta {
    pub name: String,
    pub title: String,
    pub summary: String,
    pub tags: Vec<String>,
    pub recommended_base: String,
    pub expected_steps: Option<u32>,
    /// Hardware and time, such as `2 cores` and `2 min`.
    pub expected_duration: Vec<(String, String)>,
    pub sample_prompts: Vec<String>,
    /// Opaque; changes when the template does.
    pub revision: String,
    pub license: Option<String>,
}

/// A fetched template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateBundle {
    pub meta: TemplateMeta,
    /// Text of the `.dlm` file; untrusted.
    pub document: String,
    /// Files that it refers to: checked relative names with `/`, and their bytes.
    pub files: Vec<(String, Vec<u8>)>,
}

/// One opened template source.
pub trait Templates {
    /// Which plugin it is.
    fn identity(&self) -> &PluginIdentity;

    /// How long a listing may be reused, in seconds.
    fn cache_seconds(&self) -> u32;

    /// Lists what matches `query`, or everything.
    fn list(&mut self, query: Option<&str>) -> Result<Vec<TemplateMeta>, PluginFailure>;

    /// Fetches one template.
    fn fetch(&mut self, name: &str) -> Result<TemplateBundle, PluginFailure>;
}

/// Finds template sources.
pub trait TemplateSource {
    /// Opens the source called `name` with its configured location; the bundled gallery is `bundled`.
    fn open_templates(&self, name: &str, location: &str) -> Result<Box<dyn Templates>, PluginFailure>;
}

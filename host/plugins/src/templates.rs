//! A plugin as a template source. Whether a document is safe to write is the caller's to check; names and sizes are

//! checked here.

mod directory;

use std::collections::BTreeSet;

use dlm_core::ports::plugin::{PluginFailure, PluginIdentity};
use dlm_core::ports::templates::{TemplateBundle, TemplateMeta, Templates};

use crate::error::PluginError;
use crate::host::Phase;
use crate::instance::Running;
use crate::limits::short;
use crate::open::OpenPlugin;
use crate::output::check_name;
use bindings::TemplatesExport;
use bindings::exports::dlm::plugin::templates as wire;
use dlm_core::units::size;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package dlm:host-templates; world templates-export { export dlm:plugin/templates@1.0.0; }",
        world: "dlm:host-templates/templates-export",
        exports: { default: async },
        with: { "dlm:plugin/types": crate::host::wit::types },
    });
}

/// Most templates of one listing.
const LISTED_MAX: usize = 10_000;
/// Longest document.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Most tags, durations and sample prompts of one template.
const LIST_MAX: usize = 64;

/// An opened template source.
pub(crate) struct PluginTemplates {
    running: Running<TemplatesExport>,
    identity: PluginIdentity,
    cache_seconds: u32,
}

impl PluginTemplates {
    pub fn open(opened: OpenPlugin<'_>) -> Result<PluginTemplates, PluginError> {
        let (identity, argument) = (opened.identity(), opened.argument().to_owned());
        let directory = opened.new.facts.directory.join(&argument);
        let mut running = opened.start(|store, instance| TemplatesExport::new(store, instance))?;
        // A location that is a directory of this machine was typed or configured by the user, which grants reading it.
        if !argument.is_empty() && directory.is_dir() {
            running.store.data_mut().hand_over(directory::inputs(&directory)?);
        }
        let info = running.call(Phase::Open, async |world, store| {
            world.dlm_plugin_templates().call_open(store, &argument).await
        })?;
        Ok(PluginTemplates {
            running,
            identity: identity.named(info.identity),
            cache_seconds: info.cache_seconds,
        })
    }

    fn listed(&mut self, query: Option<&str>) -> Result<Vec<TemplateMeta>, PluginError> {
        let metas = self.running.call(Phase::List, async |world, store| {
            world.dlm_plugin_templates().call_list(store, query).await
        })?;
        if metas.len() > LISTED_MAX {
            let rule = format!("it lists {} templates, at most {LISTED_MAX} were expected", metas.len());
            return Err(self.running.bad_result(rule));
        }
        let mut names = BTreeSet::new();
        for meta in &metas {
            self.check_meta(meta)?;
            if !names.insert(&meta.name) {
                let rule = format!("it lists the template `{}` twice", meta.name);
                return Err(self.running.bad_result(rule));
            }
        }
        Ok(metas.into_iter().map(meta).collect())
    }

    fn fetched(&mut self, name: &str) -> Result<TemplateBundle, PluginError> {
        let bundle = self.running.call(Phase::Fetch, async |world, store| {
            world.dlm_plugin_templates().call_fetch(store, name).await
        })?;
        self.check_meta(&bundle.meta)?;
        let limits = self.running.store.data().new.limits;
        if bundle.document.len() > DOCUMENT_BYTES_MAX {
            let (found, allowed) = (size(bundle.document.len() as u64), size(DOCUMENT_BYTES_MAX as u64));
            let rule = format!("the document has {found}, at most {allowed} were expected");
            return Err(self.running.bad_result(rule));
        }
        let bytes: u64 = bundle.files.iter().map(|file| file.contents.len() as u64).sum();
        if bundle.files.len() as u64 > limits.output_files || bytes > limits.output_bytes {
            let (files, allowed) = (limits.output_files, size(limits.output_bytes));
            let rule = format!(
                "it brings {} files of {} together, at most {files} of {allowed} were expected",
                bundle.files.len(),
                size(bytes)
            );
            return Err(self.running.bad_result(rule));
        }
        let mut names = BTreeSet::new();
        for file in &bundle.files {
            let wrong = |why: &str| self.running.bad_result(format!("the file name `{}`: {why}", file.name));
            check_name(&file.name).map_err(wrong)?;
            if !names.insert(file.name.to_ascii_lowercase()) {
                return Err(wrong("it is there twice"));
            }
        }
        Ok(TemplateBundle {
            meta: meta(bundle.meta),
            document: bundle.document,
            files: bundle
                .files
                .into_iter()
                .map(|file| (file.name, file.contents))
                .collect(),
        })
    }

    fn check_meta(&self, meta: &wire::Meta) -> Result<(), PluginError> {
        let is_name = !meta.name.is_empty()
            && meta.name.len() <= 64
            && meta
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_name {
            let rule = format!(
                "`{}` is not a template name: up to 64 letters, digits, `-` and `_`",
                meta.name
            );
            return Err(self.running.bad_result(rule));
        }
        let longest = meta
            .tags
            .len()
            .max(meta.expected_duration.len())
            .max(meta.sample_prompts.len());
        if longest > LIST_MAX {
            let rule = format!("the template `{}` has more than {LIST_MAX} tags or prompts", meta.name);
            return Err(self.running.bad_result(rule));
        }
        Ok(())
    }
}

fn meta(meta: wire::Meta) -> TemplateMeta {
    let short_all = |texts: Vec<String>| texts.iter().map(|text| short(text)).collect();
    let durations = meta.expected_duration.iter();
    TemplateMeta {
        title: short(&meta.title),
        summary: short(&meta.summary),
        tags: short_all(meta.tags),
        recommended_base: short(&meta.recommended_base),
        expected_steps: meta.expected_steps,
        expected_duration: durations
            .map(|field| (short(&field.name), short(&field.value)))
            .collect(),
        sample_prompts: short_all(meta.sample_prompts),
        revision: short(&meta.revision),
        license: meta.license.map(|text| short(&text)),
        name: meta.name,
    }
}

impl Templates for PluginTemplates {
    fn identity(&self) -> &PluginIdentity {
        &self.identity
    }

    fn cache_seconds(&self) -> u32 {
        self.cache_seconds
    }

    fn list(&mut self, query: Option<&str>) -> Result<Vec<TemplateMeta>, PluginFailure> {
        Ok(self.listed(query)?)
    }

    fn fetch(&mut self, name: &str) -> Result<TemplateBundle, PluginFailure> {
        Ok(self.fetched(name)?)
    }
}

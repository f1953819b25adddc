//! A plugin as a push destination.

use bindings::DestinationExport;
use bindings::exports::dlm::plugin::destination as wire;
use dlm_core::ports::destination::{Destination, DestinationInfo, PushOptions, PushPack, PushReceipt};
use dlm_core::ports::plugin::PluginFailure;
use dlm_core::ports::target::{Artifact, ArtifactKind};
use dlm_packages::capability::Capability;

use crate::error::{CallFailure, GuestFailure, OutputError, PluginError};
use crate::host::Phase;
use crate::host::wit::types::Field;
use crate::instance::Running;
use crate::limits::short;
use crate::open::OpenPlugin;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package dlm:host-destination; world destination-export { export dlm:plugin/destination@1.0.0; }",
        world: "dlm:host-destination/destination-export",
        exports: { default: async },
        with: { "dlm:plugin/types": crate::host::wit::types },
    });
}

/// Names under which a plugin finds the pack and its signature.
const PACK: &str = "pack";
const SIGNATURE: &str = "pack.minisig";

/// An opened destination.
pub(crate) struct PluginDestination {
    running: Running<DestinationExport>,
    info: DestinationInfo,
}

impl PluginDestination {
    pub fn open(opened: OpenPlugin<'_>) -> Result<PluginDestination, PluginError> {
        let (identity, argument) = (opened.identity(), opened.argument().to_owned());
        let mut running = opened.start(|store, instance| DestinationExport::new(store, instance))?;
        let info = running.call(Phase::Open, async |world, store| {
            world.dlm_plugin_destination().call_open(store, &argument).await
        })?;
        check_contacts(&running, &info.contacts)?;
        Ok(PluginDestination {
            running,
            info: DestinationInfo {
                identity: identity.named(info.identity),
                contacts: info.contacts.iter().map(|text| short(text)).collect(),
                bytes_max: info.max_bytes,
            },
        })
    }

    fn stage(&mut self, pack: &PushPack) -> Result<(), PluginError> {
        if let Some(bytes_max) = self.info.bytes_max.filter(|bytes_max| pack.size > *bytes_max) {
            let rejected = CallFailure::Returned {
                failure: GuestFailure::Rejected,
                message: format!("the pack has {} bytes, the destination takes {bytes_max}", pack.size),
                after_ms: None,
                status: None,
            };
            return Err(rejected.of(self.running.store.data().who()));
        }
        let artifact = |name: &str, kind, path: &std::path::Path, size, sha256: &str| Artifact {
            name: name.to_owned(),
            kind,
            path: path.to_owned(),
            size,
            sha256: sha256.to_owned(),
            staged_path: None,
        };
        let mut artifacts = vec![artifact(PACK, ArtifactKind::Pack, &pack.path, pack.size, &pack.sha256)];
        if let Some(path) = &pack.signature {
            let bytes = std::fs::read(path).map_err(OutputError::files("read", path))?;
            let sha256 = dlm_core::digest::sha256_hex(&bytes);
            artifacts.push(artifact(
                SIGNATURE,
                ArtifactKind::Other,
                path,
                bytes.len() as u64,
                &sha256,
            ));
        }
        self.running.store.data_mut().hand_over(artifacts);
        Ok(())
    }

    fn previewed(&mut self, pack: &PushPack, options: &PushOptions) -> Result<Vec<String>, PluginError> {
        self.stage(pack)?;
        let (pack, options) = (wire_pack(pack), wire_options(options));
        let steps = self.running.call(Phase::Preview, async |world, store| {
            world
                .dlm_plugin_destination()
                .call_preview(store, &pack, &options)
                .await
        })?;
        Ok(steps.iter().map(|step| short(&step.text)).collect())
    }

    fn pushed(&mut self, pack: &PushPack, options: &PushOptions) -> Result<PushReceipt, PluginError> {
        self.stage(pack)?;
        let (pack, options) = (wire_pack(pack), wire_options(options));
        let receipt = self.running.call(Phase::Push, async |world, store| {
            world.dlm_plugin_destination().call_push(store, &pack, &options).await
        })?;
        Ok(PushReceipt {
            location: short(&receipt.location),
            bytes_sent: receipt.bytes_sent,
            is_unchanged: receipt.unchanged,
        })
    }
}

/// What a destination says it will talk to must be readable and within what it was granted.
fn check_contacts(running: &Running<DestinationExport>, contacts: &[String]) -> Result<(), PluginError> {
    let rules = running.store.data().new.grants.http_rules();
    for contact in contacts {
        let Ok(Capability::Http(wanted)) = Capability::parse(contact) else {
            return Err(running.bad_result(format!("its contact `{contact}` is not an `http:` capability")));
        };
        let is_within = |rule: &dlm_core::http_rule::HttpRule| {
            let path = wanted.prefix.strip_prefix(rule.prefix.as_str());
            rule.scheme == wanted.scheme
                && rule.port == wanted.port
                && rule.host == wanted.host
                && path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !rules.iter().any(is_within) {
            let state = running.store.data();
            let denial = state.denied(contact.clone(), "it would talk to this address");
            return Err(crate::instance::returned_error(state, denial));
        }
    }
    Ok(())
}

fn wire_pack(pack: &PushPack) -> wire::Pack {
    wire::Pack {
        artifact: PACK.to_owned(),
        file_name: pack.file_name.clone(),
        size: pack.size,
        sha256: pack.sha256.clone(),
        document_id: pack.document_id.clone(),
        document_name: pack.document_name.clone(),
        base_model: pack.base_model.clone(),
        adapter_version: pack.adapter_version,
        license: pack.license.clone(),
        signature: pack.signature.as_ref().map(|_| SIGNATURE.to_owned()),
        readme: pack.readme.clone(),
    }
}

fn wire_options(options: &PushOptions) -> wire::Options {
    let field = |(name, value): &(String, String)| Field {
        name: name.clone(),
        value: value.clone(),
    };
    wire::Options {
        private: options.is_private,
        force: options.is_forced,
        extra: options.extra.iter().map(field).collect(),
    }
}

impl Destination for PluginDestination {
    fn info(&self) -> &DestinationInfo {
        &self.info
    }

    fn preview(&mut self, pack: &PushPack, options: &PushOptions) -> Result<Vec<String>, PluginFailure> {
        Ok(self.previewed(pack, options)?)
    }

    fn push(&mut self, pack: &PushPack, options: &PushOptions) -> Result<PushReceipt, PluginFailure> {
        Ok(self.pushed(pack, options)?)
    }
}

//! What the launch script and `vllm_config.json` say.

use dlm_plugin::serde_json::{Map, Value, json};
use dlm_plugin::target::Plan;
use dlm_plugin::types::Field;
use dlm_plugin::{Error, error};

use crate::modules::{self, Module};

const HOST: &str = "127.0.0.1";
const PORT: u16 = 8000;
/// The largest rank that vLLM serves without being told.
const RANK_DEFAULT: u64 = 16;

/// How the server is started.
pub struct Settings {
    /// `org/name` on the hub.
    model: String,
    revision: Option<String>,
    served_name: String,
    model_len: u32,
    /// What samples start from where a request says nothing.
    sampling: Map<String, Value>,
    pub environment: Vec<(String, String)>,
}

impl Settings {
    /// Gathers the settings of a plan.
    pub fn new(plan: &Plan) -> Result<Settings, Error> {
        let Some(model) = plan
            .base
            .hub_id
            .clone()
            .filter(|id| !id.is_empty() && !id.starts_with('-'))
        else {
            return Err(error!(
                Unsupported,
                "vllm fetches the base by its name on the hub, and `{}` has none", plan.base.reference
            ));
        };
        let environment = match plan.platform.as_str() {
            "macos/aarch64" => vec![
                ("VLLM_METAL_USE_PAGED_ATTENTION".to_owned(), "0".to_owned()),
                ("VLLM_METAL_MEMORY_FRACTION".to_owned(), "auto".to_owned()),
            ],
            _ => Vec::new(),
        };
        Ok(Settings {
            model,
            revision: plan.base.revision.clone(),
            served_name: plan.name.clone(),
            model_len: plan.context_length,
            sampling: sampling(plan),
            environment,
        })
    }

    /// The command up to `--lora-modules`.
    pub fn words(&self, host: &str, port: &str, modules: &[Module]) -> Vec<String> {
        let mut words = vec!["vllm".to_owned(), "serve".to_owned(), self.model.clone()];
        let mut add = |flag: &str, value: &str| words.extend([flag.to_owned(), value.to_owned()]);
        if let Some(revision) = &self.revision {
            add("--revision", revision);
        }
        add("--host", host);
        add("--port", port);
        add("--dtype", "auto");
        add("--served-model-name", &self.served_name);
        add("--max-model-len", &self.model_len.to_string());
        words.push("--enable-lora".to_owned());
        let rank = modules.iter().map(|module| module.rank).max().unwrap_or(0);
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        if rank > RANK_DEFAULT {
            add("--max-lora-rank", modules::rank_limit(rank).unwrap_or(rank).to_string());
        }
        add("--max-loras", modules.len().to_string());
        words.push("--lora-modules".to_owned());
        words
    }

    /// The words of the script, paths in the form `$SCRIPT_DIR/…`.
    pub fn script_words(&self, modules: &[Module]) -> Vec<String> {
        let mut words = self.words(HOST, &PORT.to_string(), modules);
        if !self.sampling.is_empty() {
            let value = Value::Object(self.sampling.clone()).to_string();
            let before = words
                .iter()
                .position(|word| word == "--enable-lora")
                .unwrap_or(words.len());
            words.splice(before..before, ["--override-generation-config".to_owned(), value]);
        }
        words.extend(
            modules
                .iter()
                .map(|module| format!("{}=$SCRIPT_DIR/{}", module.name, module.folder())),
        );
        words
    }

    /// The settings file: sorted keys, two spaces, one final newline.
    pub fn json(&self, modules: &[Module]) -> String {
        let module =
            |module: &Module| json!({"name": module.name, "path": module.folder(), "adapter_version": module.version});
        let environment = self
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)));
        let value = json!({
            "target": "vllm",
            "model": self.model,
            "revision": self.revision,
            "served_model_name": self.served_name,
            "dtype": "auto",
            "host": HOST,
            "port": PORT,
            "max_model_len": self.model_len,
            "override_generation_config": self.sampling,
            "environment": Value::Object(environment.collect()),
            "lora_modules": modules.iter().map(module).collect::<Vec<_>>(),
        });
        format!("{value:#}\n")
    }

    /// The environment of a start by the host.
    pub fn env(&self) -> Vec<Field> {
        let field = |(name, value): &(String, String)| Field {
            name: name.clone(),
            value: value.clone(),
        };
        self.environment.iter().map(field).collect()
    }
}

/// The sampling defaults of a plan, in the words of a generation config: `0.7`, not `0.699999988079071`.
fn sampling(plan: &Plan) -> Map<String, Value> {
    let given = [("temperature", plan.temperature), ("top_p", plan.top_p)];
    let short = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
    given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(short(value?)))))
        .collect()
}

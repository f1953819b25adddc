//! The LoRA modules of an export, and what vLLM cannot serve.

use dlm_plugin::peft::{self, AdapterConfig};
use dlm_plugin::target::Plan;
use dlm_plugin::{Error, error, inputs};

/// The two files of a module.
pub const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// One adapter as vLLM serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// What requests name as their model.
    pub name: String,
    /// The prefix of its two artefacts.
    pub artifact: String,
    pub version: u32,
    pub rank: u64,
}

impl Module {
    /// Its folder in the export directory.
    pub fn folder(&self) -> String {
        format!("adapters/{}", self.name)
    }
}

/// Refuses bases that are no text models, whose weights vLLM would need in another form.
pub fn check_base(target: &str, plan: &Plan) -> Result<(), Error> {
    let architecture = plan.base.architecture.as_str();
    let is_text = !["ConditionalGeneration", "Audio", "InternVL"]
        .iter()
        .any(|part| architecture.contains(part));
    if is_text {
        return Ok(());
    }
    Err(error!(
        Unsupported,
        "target `{target}` serves text bases; `{}` is a {architecture}", plan.base.reference
    ))
}

/// The modules of a plan.
pub fn find(plan: &Plan) -> Result<Vec<Module>, Error> {
    if plan.merged || plan.adapters.is_empty() {
        return Err(error!(
            Unsupported,
            "vllm serves a base with adapters, and this export has none of its own; leave out --merged"
        ));
    }
    let module = |adapter: &dlm_plugin::target::Adapter| {
        let name = module_name(&adapter.name)?;
        let file = format!("{}/{}", adapter.artifact, FILES[0]);
        let config = peft::parse(&file, &inputs::read(&file, CONFIG_BYTES_MAX)?)?;
        check(&name, &config)?;
        Ok(Module {
            name,
            artifact: adapter.artifact.clone(),
            version: adapter.version,
            rank: config.rank,
        })
    };
    plan.adapters.iter().map(module).collect()
}

/// `adapter` for the single adapter of a document, the adapter's own name otherwise.
fn module_name(name: &str) -> Result<String, Error> {
    if name == "default" {
        return Ok("adapter".to_owned());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !name.is_empty() && !name.starts_with(['-', '.']) && name.bytes().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err(error!(
        InvalidInput,
        "`{name}` cannot name a module of vllm; letters, digits, `_`, `.` and `-` can"
    ))
}

/// Refuses what vLLM's LoRA loader refuses, before a server is started for it.
fn check(name: &str, config: &AdapterConfig) -> Result<(), Error> {
    let merged = "export it with `--target ollama --merged` or `--target llama-server --merged`";
    if config.is_dora {
        return Err(error!(
            Unsupported,
            "vllm cannot serve the DoRA adapter `{name}`; {merged}"
        ));
    }
    if !config.modules_to_save.is_empty() {
        return Err(error!(
            Unsupported,
            "vllm cannot serve the adapter `{name}`, which brings whole matrices of its own ({}); {merged}",
            config.modules_to_save.join(", ")
        ));
    }
    rank_limit(config.rank).map(drop)
}

/// The smallest `--max-lora-rank` of vLLM that holds a rank.
pub fn rank_limit(rank: u64) -> Result<u64, Error> {
    const SUPPORTED: [u64; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];
    SUPPORTED.into_iter().find(|limit| *limit >= rank).ok_or_else(|| {
        error!(
            Unsupported,
            "vllm serves adapters up to rank 512, this one has rank {rank}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AdapterConfig {
        AdapterConfig {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: vec!["q_proj".to_owned()],
            is_dora: false,
            is_rslora: false,
            modules_to_save: Vec::new(),
            has_patterns: false,
        }
    }

    #[test]
    fn what_the_runtime_refuses_is_refused_first() {
        assert!(check("a", &config()).is_ok());
        let dora = AdapterConfig {
            is_dora: true,
            ..config()
        };
        assert!(check("a", &dora).unwrap_err().to_string().contains("DoRA"));
        let saved = AdapterConfig {
            modules_to_save: vec!["lm_head".to_owned()],
            ..config()
        };
        assert!(check("a", &saved).unwrap_err().to_string().contains("lm_head"));
        assert!(check("a", &AdapterConfig { rank: 513, ..config() }).is_err());
        assert_eq!(rank_limit(17).unwrap(), 32);
        assert_eq!(rank_limit(16).unwrap(), 16);
    }

    #[test]
    fn a_module_name_is_one_word() {
        assert_eq!(module_name("default").unwrap(), "adapter");
        assert_eq!(module_name("tone_2").unwrap(), "tone_2");
        for name in ["", "-x", "a b", "a=b", "../a", "ü"] {
            assert!(module_name(name).is_err(), "{name}");
        }
    }
}

//! PEFT's `adapter_config.json`: which modules it names, and the rank and the scale of each.
//!
//! Invariants: names and patterns mean what they mean to PEFT (`check_target_module_exists`, `get_pattern_key`); a setting that
//! would change the numbers and is not applied here is refused by its name, one that is not known too.
//! **Source:** PEFT 0.21.2, `tuners/lora/config.py`, `tuners/tuners_utils.py`, `utils/other.py`.

use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::super::{AdapterError, AdapterKind};
use crate::model::{Model, ModuleInfo};

/// Longest pattern that is compiled: PEFT's own are a line.
const PATTERN_LEN_MAX: usize = 4096;
/// Steps of one match and bytes of one compiled pattern: a settings file may come from anywhere.
const PATTERN_STEPS_MAX: usize = 100_000;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What is read, or says nothing about how the adapter is applied. Whatever else is on would change an answer.
const KNOWN: [&str; 24] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
];
/// Ways to begin that leave the base as it is. The others take a part of it away, which the adapter then needs.
const INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What the settings say.
#[derive(Debug)]
pub(super) struct PeftSettings {
    path: String,
    /// `base_model_name_or_path`.
    pub base: Option<String>,
    pub kind: AdapterKind,
    pub dropout: f32,
    r: usize,
    alpha: f32,
    /// The scale is `alpha / sqrt(r)`.
    is_rank_stabilized: bool,
    targets: Names,
    exclude: Option<Names>,
    layers: Option<Vec<usize>>,
    layers_patterns: Vec<Regex>,
    /// In the order of the file: the first that matches counts.
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f32)>,
}

/// What names modules.
#[derive(Debug)]
enum Names {
    /// Paths, or the ends of some.
    List(Vec<String>),
    /// Matches whole paths.
    Pattern(Regex),
    /// `all-linear`.
    AllLinear,
}

/// Rank and scale of one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ModuleScale {
    pub r: usize,
    pub alpha: f32,
    pub scale: f32,
}

/// A settings file that is being read.
struct Reading<'a> {
    path: &'a str,
    settings: &'a Map<String, Value>,
}

impl Reading<'_> {
    fn malformed(&self, cause: impl Into<String>) -> AdapterError {
        AdapterError::Malformed {
            path: self.path.to_owned(),
            cause: cause.into(),
        }
    }

    fn unsupported(&self, feature: String) -> AdapterError {
        AdapterError::Unsupported {
            path: self.path.to_owned(),
            feature,
        }
    }

    /// A setting that is there and not `null`.
    fn get(&self, key: &str) -> Option<&Value> {
        self.settings.get(key).filter(|value| !value.is_null())
    }

    /// Refuses what is not applied here.
    fn check(&self) -> Result<(), AdapterError> {
        let is_off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        for (key, value) in self.settings {
            if !KNOWN.contains(&key.as_str()) && !is_off(value) {
                return Err(self.unsupported(format!("{key}: {value}")));
            }
        }
        for (key, expected) in [("peft_type", "LORA"), ("bias", "none")] {
            if let Some(value) = self.get(key).filter(|value| value.as_str() != Some(expected)) {
                return Err(self.unsupported(format!("{key}: {value}")));
            }
        }
        match self.get("init_lora_weights") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(Value::String(name)) if INITS.contains(&name.as_str()) => Ok(()),
            Some(value) => Err(self.unsupported(format!("init_lora_weights: {value}"))),
        }
    }

    fn switch(&self, key: &str) -> Result<bool, AdapterError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(is_on)) => Ok(*is_on),
            Some(value) => Err(self.malformed(format!("`{key}: {value}` is neither true nor false"))),
        }
    }

    fn rank(&self, key: &str, value: Option<&Value>) -> Result<usize, AdapterError> {
        let rank = value.and_then(Value::as_u64).and_then(|r| usize::try_from(r).ok());
        rank.filter(|r| *r > 0)
            .ok_or_else(|| self.malformed(format!("`{key}` holds no rank")))
    }

    fn alpha(&self, key: &str, value: Option<&Value>) -> Result<f32, AdapterError> {
        let alpha = value.and_then(Value::as_f64).map(|alpha| alpha as f32);
        alpha
            .filter(|alpha| alpha.is_finite())
            .ok_or_else(|| self.malformed(format!("`{key}` holds no number")))
    }

    fn pattern(&self, key: &str, text: &str, whole: String) -> Result<Regex, AdapterError> {
        let compiled = match text.len() <= PATTERN_LEN_MAX {
            true => RegexBuilder::new(&whole)
                .backtrack_limit(PATTERN_STEPS_MAX)
                .delegate_size_limit(PATTERN_BYTES_MAX)
                .build()
                .map_err(|error| error.to_string()),
            false => Err(format!("it is longer than {PATTERN_LEN_MAX} bytes")),
        };
        compiled.map_err(|error| self.malformed(format!("`{key}` holds the pattern `{text}`: {error}")))
    }

    fn names(&self, key: &str, value: &Value) -> Result<Names, AdapterError> {
        match value {
            Value::String(text) => Ok(Names::Pattern(self.pattern(key, text, format!("^(?:{text})$"))?)),
            Value::Array(list) => Ok(Names::List(self.texts(key, list)?)),
            other => Err(self.malformed(format!("`{key}: {other}` names no modules"))),
        }
    }

    fn texts(&self, key: &str, list: &[Value]) -> Result<Vec<String>, AdapterError> {
        let texts = list.iter().map(|name| name.as_str().map(str::to_owned));
        texts
            .collect::<Option<_>>()
            .ok_or_else(|| self.malformed(format!("`{key}` holds what is no text")))
    }

    /// The numbers of single modules, by pattern.
    fn patterns<T>(
        &self,
        key: &str,
        number: impl Fn(&str, Option<&Value>) -> Result<T, AdapterError>,
    ) -> Result<Vec<(Regex, T)>, AdapterError> {
        let map = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(self.malformed(format!("`{key}: {other}` is no map"))),
        };
        let entry = |(text, value): (&String, &Value)| {
            let regex = self.pattern(key, text, format!(r"^(?:.*\.)?(?:{text})$"))?;
            Ok((regex, number(key, Some(value))?))
        };
        map.iter().map(entry).collect()
    }

    fn layers(&self) -> Result<Option<Vec<usize>>, AdapterError> {
        let index = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
        let layers: Option<Vec<usize>> = match self.get("layers_to_transform") {
            None => return Ok(None),
            Some(Value::Array(list)) if list.is_empty() => return Ok(None),
            Some(Value::Array(list)) => list.iter().map(index).collect(),
            Some(value) => index(value).map(|index| vec![index]),
        };
        match layers {
            Some(layers) => Ok(Some(layers)),
            None => Err(self.malformed("`layers_to_transform` holds what is no layer")),
        }
    }

    /// What stands before the number of a layer; none for anything.
    fn layers_patterns(&self) -> Result<Vec<Regex>, AdapterError> {
        let key = "layers_pattern";
        let texts = match self.get(key) {
            None => Vec::new(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(list)) => self.texts(key, list)?,
            Some(other) => return Err(self.malformed(format!("`{key}: {other}` is no pattern"))),
        };
        let texts = texts.iter();
        texts
            .map(|text| self.pattern(key, text, format!(r"^(?:|.*?\.)(?:{text})\.(?<idx>\d+)\.")))
            .collect()
    }
}

impl PeftSettings {
    /// Reads the file's bytes; `path` names them in errors.
    ///
    /// **Errors:** no settings of a LoRA, a setting that is not applied here.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<PeftSettings, AdapterError> {
        let malformed = |cause: String| AdapterError::Malformed {
            path: path.to_owned(),
            cause,
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(settings) = &value else {
            return Err(malformed("expected an object".to_owned()));
        };
        let reading = Reading { path, settings };
        reading.check()?;
        let targets = reading
            .get("target_modules")
            .ok_or_else(|| malformed("`target_modules` is missing".to_owned()))?;
        let exclude = reading
            .get("exclude_modules")
            .filter(|value| value.as_str() != Some(""));
        let exclude = exclude.map(|value| reading.names("exclude_modules", value));
        Ok(PeftSettings {
            path: path.to_owned(),
            base: reading
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            kind: match reading.switch("use_dora")? {
                true => AdapterKind::Dora,
                false => AdapterKind::Lora,
            },
            dropout: match reading.get("lora_dropout") {
                None => 0.0,
                value => reading.alpha("lora_dropout", value)?,
            },
            r: reading.rank("r", reading.get("r"))?,
            alpha: reading.alpha("lora_alpha", reading.get("lora_alpha"))?,
            is_rank_stabilized: reading.switch("use_rslora")?,
            targets: match targets.as_str() {
                Some("all-linear") => Names::AllLinear,
                _ => reading.names("target_modules", targets)?,
            },
            exclude: exclude.transpose()?,
            layers: reading.layers()?,
            layers_patterns: reading.layers_patterns()?,
            ranks: reading.patterns("rank_pattern", |key, value| reading.rank(key, value))?,
            alphas: reading.patterns("alpha_pattern", |key, value| reading.alpha(key, value))?,
        })
    }

    /// Returns the paths of the modules that the settings name, with the rank and the scale of each.
    ///
    /// **Errors:** settings that name no module, a name in a list that is none's, a pattern that takes too long.
    pub fn modules(&self, model: &Model) -> Result<Vec<(String, ModuleScale)>, AdapterError> {
        if let Names::List(names) = &self.targets {
            self.check_list(model, names)?;
        }
        let mut modules = Vec::new();
        for module in &model.modules {
            if self.is_target(module)? {
                modules.push((module.path.clone(), self.scale(&module.path)?));
            }
        }
        match modules.is_empty() {
            true => Err(AdapterError::Target {
                target: self.shown_targets(),
                known: super::super::targets::components(model),
            }),
            false => Ok(modules),
        }
    }

    /// The largest rank that a module may have.
    pub fn rank_max(&self) -> usize {
        self.ranks.iter().map(|(_, r)| *r).fold(self.r, usize::max)
    }

    fn shown_targets(&self) -> String {
        match &self.targets {
            Names::AllLinear => "all-linear".to_owned(),
            Names::Pattern(regex) => {
                let text = regex.as_str();
                text.strip_prefix("^(?:")
                    .and_then(|text| text.strip_suffix(")$"))
                    .unwrap_or(text)
                    .to_owned()
            }
            Names::List(names) => names.join(", "),
        }
    }

    fn check_list(&self, model: &Model, names: &[String]) -> Result<(), AdapterError> {
        let stray = names
            .iter()
            .find(|name| !model.modules.iter().any(|module| is_named(&module.path, name)));
        match stray {
            None => Ok(()),
            Some(name) => Err(AdapterError::Target {
                target: name.clone(),
                known: super::super::targets::components(model),
            }),
        }
    }

    fn is_target(&self, module: &ModuleInfo) -> Result<bool, AdapterError> {
        let path = &module.path;
        if let Some(exclude) = &self.exclude
            && self.is_in(exclude, path)?
        {
            return Ok(false);
        }
        if !self.is_in(&self.targets, path)? {
            return Ok(false);
        }
        let (Names::List(names), Some(layers)) = (&self.targets, &self.layers) else {
            return Ok(true);
        };
        // A module that is named in full is meant wherever it is.
        if names.contains(path) {
            return Ok(true);
        }
        if self.layers_patterns.is_empty() {
            return Ok(layers.contains(&module.layer));
        }
        for pattern in &self.layers_patterns {
            let captures = pattern.captures(path).map_err(|error| self.too_slow(&error))?;
            if let Some(index) = captures.and_then(|captures| captures.name("idx")?.as_str().parse().ok()) {
                return Ok(layers.contains(&index));
            }
        }
        Ok(false)
    }

    fn is_in(&self, names: &Names, path: &str) -> Result<bool, AdapterError> {
        match names {
            Names::List(names) => Ok(names.iter().any(|name| is_named(path, name))),
            Names::Pattern(regex) => regex.is_match(path).map_err(|error| self.too_slow(&error)),
            Names::AllLinear => Ok(true),
        }
    }

    fn too_slow(&self, error: &fancy_regex::Error) -> AdapterError {
        AdapterError::Malformed {
            path: self.path.clone(),
            cause: format!("a pattern cannot be matched: {error}"),
        }
    }

    fn scale(&self, path: &str) -> Result<ModuleScale, AdapterError> {
        let r = self.first(&self.ranks, path)?.unwrap_or(self.r);
        let alpha = self.first(&self.alphas, path)?.unwrap_or(self.alpha);
        let divisor = match self.is_rank_stabilized {
            true => (r as f64).sqrt(),
            false => r as f64,
        };
        Ok(ModuleScale {
            r,
            // What `alpha / r` gives the scale.
            alpha: match self.is_rank_stabilized {
                true => (f64::from(alpha) * divisor) as f32,
                false => alpha,
            },
            scale: (f64::from(alpha) / divisor) as f32,
        })
    }

    fn first<T: Copy>(&self, patterns: &[(Regex, T)], path: &str) -> Result<Option<T>, AdapterError> {
        for (regex, value) in patterns {
            if regex.is_match(path).map_err(|error| self.too_slow(&error))? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

fn is_named(path: &str, name: &str) -> bool {
    let rest = path.strip_suffix(name);
    !name.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

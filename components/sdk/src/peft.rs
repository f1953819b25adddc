//! `adapter_config.json` as PEFT writes it.

use serde_json::Value;

use crate::{Error, error};

/// What a runtime needs to know about a LoRA.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    pub rank: u64,
    pub alpha: f64,
    pub dropout: f64,
    /// Names of layers, such as `q_proj`.
    pub targets: Vec<String>,
    pub is_dora: bool,
    pub is_rslora: bool,
    /// Whole matrices besides the LoRA's.
    pub modules_to_save: Vec<String>,
    /// True where single modules have a rank or alpha of their own.
    pub has_patterns: bool,
}

/// Reads the file called `name`.
pub fn parse(name: &str, bytes: &[u8]) -> Result<AdapterConfig, Error> {
    let bad = |why: String| error!(Corrupt, "`{name}`: {why}");
    let json: Value = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let number = |key: &str| {
        json.get(key)
            .and_then(Value::as_f64)
            .filter(|number| number.is_finite())
    };
    let kind = json.get("peft_type").and_then(Value::as_str).unwrap_or("LORA");
    if kind != "LORA" {
        return Err(error!(
            Unsupported,
            "`{name}` describes an adapter of kind {kind}, LORA was expected"
        ));
    }
    let rank = json.get("r").and_then(Value::as_u64).filter(|rank| *rank > 0);
    let texts = |key: &str| -> Result<Vec<String>, Error> {
        match json.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| bad(format!("`{key}` holds something that is not a text"))),
            Some(_) => Err(bad(format!("`{key}` is not a list"))),
        }
    };
    let is = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let is_filled = |key: &str| {
        json.get(key)
            .and_then(Value::as_object)
            .is_some_and(|map| !map.is_empty())
    };
    Ok(AdapterConfig {
        rank: rank.ok_or_else(|| bad("`r` is not a whole number above 0".to_owned()))?,
        alpha: number("lora_alpha").ok_or_else(|| bad("`lora_alpha` is not a number".to_owned()))?,
        dropout: number("lora_dropout").unwrap_or(0.0),
        targets: texts("target_modules")?,
        is_dora: is("use_dora"),
        is_rslora: is("use_rslora"),
        modules_to_save: texts("modules_to_save")?,
        has_patterns: is_filled("rank_pattern") || is_filled("alpha_pattern"),
    })
}

impl AdapterConfig {
    /// What the product of the two matrices is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.is_rslora { rank.sqrt() } else { rank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: &Value) -> Result<AdapterConfig, Error> {
        parse("adapter_config.json", json.to_string().as_bytes())
    }

    #[test]
    fn a_config_is_read_whole() {
        let config = read(
            &json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.05,
            "target_modules": ["q_proj", "v_proj"], "use_dora": true, "modules_to_save": null, "rank_pattern": {}}),
        );
        let config = config.unwrap();
        assert_eq!((config.rank, config.scale(), config.dropout), (8, 2.0, 0.05));
        assert_eq!(config.targets, ["q_proj", "v_proj"]);
        assert!(config.is_dora && !config.has_patterns && config.modules_to_save.is_empty());
        let scaled =
            read(&json!({"r": 16, "lora_alpha": 8, "use_rslora": true, "alpha_pattern": {"q_proj": 2}})).unwrap();
        assert_eq!((scaled.scale(), scaled.has_patterns), (2.0, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, part) in [
            (json!({"lora_alpha": 16}), "`r`"),
            (json!({"r": 0, "lora_alpha": 16}), "`r`"),
            (json!({"r": 8}), "`lora_alpha`"),
            (
                json!({"r": 8, "lora_alpha": 1, "target_modules": "all-linear"}),
                "`target_modules` is not a list",
            ),
            (json!({"r": 8, "lora_alpha": 1, "peft_type": "IA3"}), "IA3"),
        ] {
            let error = read(&json).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

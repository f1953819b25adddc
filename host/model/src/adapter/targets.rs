//! From target names to modules, and back to the shortest names that mean the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{AdaptedModule, AdapterError};
use crate::config::DecoderConfig;
use crate::model::{Model, last_component};

/// Last components that a preset stands for; `None` when `target` is no preset.
///
/// `auto` follows the family: the four attention projections, or every projection of a model with fused ones.
fn preset(config: &DecoderConfig, target: &str) -> Option<Vec<&'static str>> {
    let attention = match config.fused_projections {
        true => vec!["qkv_proj", "o_proj"],
        false => vec!["q_proj", "k_proj", "v_proj", "o_proj"],
    };
    let mlp = match (config.fused_projections, config.experts.is_some()) {
        (true, _) => vec!["gate_up_proj", "down_proj"],
        (false, true) => vec!["w1", "w2", "w3"],
        (false, false) => vec!["gate_proj", "up_proj", "down_proj"],
    };
    let both = || attention.iter().chain(&mlp).copied().collect();
    match target {
        "auto" if config.fused_projections => Some(both()),
        "auto" | "attention" => Some(attention),
        "mlp" => Some(mlp),
        "all-linear" => Some(both()),
        _ => None,
    }
}

/// Marks the modules that the targets name.
pub(super) fn choose(model: &Model, targets: &[String]) -> Result<Vec<bool>, AdapterError> {
    if targets.is_empty() {
        return Err(AdapterError::NoTargets);
    }
    let mut chosen = vec![false; model.modules.len()];
    for target in targets {
        let names = preset(&model.config, target).unwrap_or_else(|| vec![target.as_str()]);
        for name in names {
            let mut found = false;
            for (module, chosen) in model.modules.iter().zip(&mut chosen) {
                let is_match = module
                    .path
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                *chosen |= is_match;
                found |= is_match;
            }
            if name.is_empty() || !found {
                return Err(AdapterError::Target {
                    target: target.clone(),
                    known: components(model),
                });
            }
        }
    }
    Ok(chosen)
}

/// The last components of the modules' paths.
pub(super) fn components(model: &Model) -> Vec<String> {
    let names: BTreeSet<&str> = model
        .modules
        .iter()
        .map(|module| last_component(&module.path))
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Returns the names for `target_modules` of PEFT's settings: a last component where every module with that name is
/// adapted, whole paths otherwise.
pub(super) fn names(modules: &[AdaptedModule], model: &Model) -> Vec<String> {
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for module in &model.modules {
        *totals.entry(last_component(&module.path)).or_default() += 1;
    }
    let mut adapted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in modules {
        adapted
            .entry(last_component(&module.path))
            .or_default()
            .push(&module.path);
    }
    let mut names: Vec<String> = Vec::new();
    for (component, paths) in adapted {
        match paths.len() == totals[component] {
            true => names.push(component.to_owned()),
            false => names.extend(paths.iter().map(|path| (*path).to_owned())),
        }
    }
    names.sort();
    names
}

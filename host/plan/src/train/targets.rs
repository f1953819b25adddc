//! Which layers get an adapter.

use crate::base::shape::{LinearKind, Part};
use crate::knob::Knob;

use super::refuse::PlanError;

/// Resolves `target_modules` to names of layers that exist.
///
/// An entry is a preset (`attention`, `mlp`, `all-linear`), the last component of a module's path, or a dotted suffix
/// of it (kept as written; which layers it matches is known when the model is loaded); none stands for `auto`. **Errors** on an entry that
/// matches nothing, and on an empty list.
pub fn resolve_targets(
    written: Option<&[String]>,
    linears: &[LinearKind],
    is_moe: bool,
) -> Result<Knob<Vec<String>>, PlanError> {
    match written {
        None => Ok(auto(linears, is_moe)),
        Some(entries) => {
            let mut names: Vec<String> = Vec::new();
            for entry in entries {
                for name in expand(entry, linears)? {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            if names.is_empty() {
                return Err(PlanError::NoTargets { modules: all(linears) });
            }
            Ok(Knob::written(names))
        }
    }
}

fn auto(linears: &[LinearKind], is_moe: bool) -> Knob<Vec<String>> {
    if is_moe {
        return Knob::chosen(
            of_part(linears, Part::Attention),
            "an expert sees only the tokens routed to it, too few for an adapter of its own",
        );
    }
    Knob::chosen(
        all(linears),
        "the feed-forward layers carry facts: with attention alone the same document was learned to two thirds",
    )
}

fn all(linears: &[LinearKind]) -> Vec<String> {
    linears.iter().map(|linear| linear.name.to_owned()).collect()
}

fn of_part(linears: &[LinearKind], part: Part) -> Vec<String> {
    linears
        .iter()
        .filter(|linear| linear.part == part)
        .map(|linear| linear.name.to_owned())
        .collect()
}

fn expand(entry: &str, linears: &[LinearKind]) -> Result<Vec<String>, PlanError> {
    let last = entry.rsplit('.').next().unwrap_or(entry);
    match entry {
        "all-linear" => Ok(all(linears)),
        "attention" => Ok(of_part(linears, Part::Attention)),
        "mlp" => Ok(of_part(linears, Part::Mlp)),
        _ if linears.iter().any(|linear| linear.name == last) => Ok(vec![entry.to_owned()]),
        _ => Err(PlanError::UnknownTarget {
            entry: entry.to_owned(),
            modules: all(linears),
        }),
    }
}

/// Refuses a DoRA of experts, which no other program loads: PEFT keeps the experts of a block in one tensor, and has no magnitudes
/// for parts of one.
pub(crate) fn check_dora_targets(targets: &[String], linears: &[LinearKind]) -> Result<(), PlanError> {
    let attention = of_part(linears, Part::Attention);
    let is_attention = |target: &&String| attention.iter().any(|name| target.rsplit('.').next() == Some(name));
    let (kept, experts): (Vec<&String>, Vec<&String>) = targets.iter().partition(is_attention);
    match experts.is_empty() {
        true => Ok(()),
        false => Err(PlanError::DoraOfExperts {
            experts: experts.into_iter().cloned().collect(),
            nearest: match kept.is_empty() {
                true => attention,
                false => kept.into_iter().cloned().collect(),
            },
        }),
    }
}

/// How many adapter parameters targets make: dotted suffixes count as their last component, so this is an upper bound.
pub(crate) fn last_components(targets: &[String]) -> Vec<String> {
    let mut names: Vec<String> = targets
        .iter()
        .map(|target| target.rsplit('.').next().unwrap_or(target).to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Registry;
    use crate::base::shape::linears;

    fn check(key: &str, entries: &[&str]) -> Result<String, PlanError> {
        let base = Registry::builtin().get(key).unwrap();
        let shape = base.shape.unwrap();
        let linears = linears(&base.architecture, &shape);
        let named: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        let written = (entries != ["auto"]).then_some(named.as_slice());
        resolve_targets(written, &linears, shape.n_experts > 0).map(|knob| knob.value.join(" "))
    }

    #[test]
    fn auto_takes_every_linear_of_a_dense_base() {
        assert_eq!(
            check("smollm2-135m", &["auto"]).unwrap(),
            "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
        );
        assert_eq!(
            check("phi-3.5-mini", &["auto"]).unwrap(),
            "qkv_proj o_proj gate_up_proj down_proj"
        );
        assert_eq!(
            check("mixtral-8x7b-instruct", &["auto"]).unwrap(),
            "q_proj k_proj v_proj o_proj"
        );
    }

    #[test]
    fn presets_and_names_combine_without_repeats() {
        assert_eq!(
            check("smollm2-135m", &["attention"]).unwrap(),
            "q_proj k_proj v_proj o_proj"
        );
        assert_eq!(check("phi-3.5-mini", &["mlp"]).unwrap(), "gate_up_proj down_proj");
        assert_eq!(
            check("smollm2-135m", &["q_proj", "mlp", "up_proj"]).unwrap(),
            "q_proj gate_proj up_proj down_proj"
        );
        assert_eq!(
            check("smollm2-135m", &["self_attn.q_proj"]).unwrap(),
            "self_attn.q_proj"
        );
    }

    #[test]
    fn a_dora_of_experts_is_refused_with_the_nearest_targets() {
        let base = Registry::builtin().get("mixtral-8x7b-instruct").unwrap();
        let linears = linears(&base.architecture, &base.shape.unwrap());
        let check = |targets: &[&str]| {
            let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
            check_dora_targets(&targets, &linears)
        };
        assert_eq!(check(&["q_proj", "self_attn.v_proj"]), Ok(()));
        let refused = |targets: &[&str]| match check(targets) {
            Err(PlanError::DoraOfExperts { experts, nearest }) => (experts.join(" "), nearest.join(" ")),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(&["q_proj", "w1", "experts.3.w2"]),
            ("w1 experts.3.w2".into(), "q_proj".into())
        );
        assert_eq!(refused(&["w3"]).1, "q_proj k_proj v_proj o_proj");
    }

    #[test]
    fn an_entry_that_matches_nothing_lists_what_exists() {
        let error = check("phi-3.5-mini", &["q_proj"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`target_modules` names `q_proj`, which matches no layer; \
             layers: qkv_proj, o_proj, gate_up_proj, down_proj"
        );
        assert!(matches!(check("smollm2-135m", &[]), Err(PlanError::NoTargets { .. })));
    }
}

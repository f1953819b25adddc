//! How often the parts of a component would be instantiated, counted without instantiating or compiling anything.
//!
//! Invariant: what cannot be counted counts as too much. A component of a few hundred bytes can hold one that holds two of
//! another, and so on; the compiler writes every one of them out.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef, Instance,
    Parser, Payload,
};

/// Most instances of core modules and of components together. A run allows far fewer core instances.
const MADE_MAX: u64 = 1000;

/// What is wrong with a component that makes more.
pub const TOO_MANY: &str = "its parts are instantiated more than 1000 times, or one is handed to another";

/// One component that is being read; nothing for a core module.
type Level = Option<InstanceCount>;

#[derive(Default)]
struct InstanceCount {
    /// What an instance of each component of its index space would make.
    components: Vec<u64>,
    made: u64,
}

/// Says whether a component makes too many instances. Bytes that are no component are left to the compiler's own message.
pub fn is_too_many(bytes: &[u8]) -> bool {
    count(bytes).is_ok_and(|made| made > MADE_MAX)
}

fn count(bytes: &[u8]) -> Result<u64, wasmparser::BinaryReaderError> {
    let mut levels: Vec<Level> = vec![Some(InstanceCount::default())];
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } => levels.push(None),
            Payload::ComponentSection { .. } => levels.push(Some(InstanceCount::default())),
            Payload::End(_) => {
                let ended = levels.pop().flatten();
                match (ended, levels.last_mut()) {
                    (Some(ended), None) => return Ok(ended.made),
                    (Some(ended), Some(Some(outer))) => outer.components.push(ended.made),
                    _ => {}
                }
            }
            payload => within(&mut levels, payload)?,
        }
    }
    Ok(0)
}

fn within(levels: &mut [Level], payload: Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
    let mut known: Vec<u64> = Vec::new();
    let mut made: u64 = 0;
    let of = |levels: &[Level], outwards: u32, index: u32| {
        let level = levels.iter().rev().nth(outwards as usize).and_then(Option::as_ref);
        level
            .and_then(|level| level.components.get(index as usize))
            .copied()
            .unwrap_or(u64::MAX)
    };
    match payload {
        Payload::InstanceSection(section) => {
            for instance in section {
                made = made.saturating_add(u64::from(matches!(instance?, Instance::Instantiate { .. })));
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section {
                if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                    made = made.saturating_add(of(levels, 0, component_index)).saturating_add(1);
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section {
                match alias? {
                    ComponentAlias::Outer {
                        kind: ComponentOuterAliasKind::Component,
                        count,
                        index,
                    } => known.push(of(levels, count, index)),
                    ComponentAlias::InstanceExport {
                        kind: ComponentExternalKind::Component,
                        ..
                    } => known.push(u64::MAX),
                    _ => {}
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section {
                if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                    known.push(u64::MAX);
                }
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section {
                let export = export?;
                if export.kind == ComponentExternalKind::Component {
                    known.push(of(levels, 0, export.index));
                }
            }
        }
        _ => {}
    }
    if let Some(Some(level)) = levels.last_mut() {
        level.components.extend(known);
        level.made = level.made.saturating_add(made);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> u64 {
        count(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn instances_are_counted_through_every_level() {
        let leaf =
            "(component $leaf (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))";
        assert_eq!(counted(&format!("(component {leaf})")), 0, "nothing of it is made");
        let twice = format!("(component $twice {leaf} (instance (instantiate $leaf)) (instance (instantiate $leaf)))");
        assert_eq!(
            counted(&format!("(component {leaf} (instance (instantiate $leaf)))")),
            3
        );
        assert_eq!(
            counted(&format!("(component {twice} (instance (instantiate $twice)))")),
            7
        );
        let outer = format!(
            "(component {leaf} (component $in (alias outer 1 $leaf (component $l)) (instance (instantiate $l))) (instance (instantiate $in)))"
        );
        assert_eq!(counted(&outer), 4);
    }

    #[test]
    fn a_component_that_was_handed_in_counts_as_too_much() {
        let text = "(component (component $in (import \"a\" (component $a)) (instance (instantiate $a)))
                     (component $b) (instance (instantiate $in (with \"a\" (component $b)))))";
        assert!(is_too_many(&wat::parse_str(text).unwrap()));
    }

    #[test]
    fn the_plugins_inside_dlm_are_far_below() {
        for builtin in crate::builtins() {
            let made = count(builtin.wasm).unwrap();
            assert!((1..=16).contains(&made), "{}: {made}", builtin.name);
        }
    }
}

//! Bytes that nobody made with care.

use proptest::prelude::*;

use super::*;
use crate::check::check;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever is cut off, overwritten or inserted, the readers answer.
    #[test]
    fn damaged_components_never_break_a_reader(
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(), how in 0u8..4, is_builtin: bool,
    ) {
        let mut bytes = match is_builtin {
            true => crate::builtin::builtins()[0].wasm.to_vec(),
            false => judge("rubric", "1.2.0", &[MODEL]),
        };
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, byte),
            _ => { bytes.drain(at..at + cut.index(bytes.len() - at)); }
        }
        let path = Path::new("x");
        if check(path, &bytes).is_ok() {
            let _ = wit(path, &bytes);
        }
        let _ = crate::component::Shape::read(path, &bytes);
    }
}

/// Places at which each plugin inside dlm is cut off and damaged.
const DAMAGES: usize = 100;

#[test]
fn every_plugin_inside_dlm_damaged_anywhere_is_checked_without_harm() {
    let path = Path::new("damaged.wasm");
    for builtin in crate::builtin::builtins() {
        for number in 0..DAMAGES {
            let place = builtin.wasm.len() * number / DAMAGES;
            let mut changed = builtin.wasm.to_vec();
            changed[place] = changed[place].wrapping_add(127);
            for bytes in [&builtin.wasm[..place], &changed] {
                // Taken or refused: nothing more is asked of it.
                let _checked = check(path, bytes);
            }
        }
    }
}

//! AdamW in eight bits against steps of bitsandbytes: `tests/golden/optimizer/adamw_8bit.safetensors`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;

use dlm_kernels::quant::dynamic::{DYNAMIC_BLOCK, DynamicMap, dynamic_levels};
use dlm_kernels::{AdamW, Ctx, EightBit, Moments, Simd};
use safetensors::SafeTensors;

const STEPS: u64 = 4;
/// Of the script that made the file.
const SETTINGS: AdamW = AdamW {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
};

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    let (raw, _) = view.data().as_chunks::<4>();
    raw.iter().map(|raw| f32::from_le_bytes(*raw)).collect()
}

fn moment(file: &SafeTensors<'_>, name: &str, step: u64) -> EightBit {
    EightBit {
        codes: file.tensor(&format!("{name}.codes.{step}")).unwrap().data().to_vec(),
        scales: floats(file, &format!("{name}.scales.{step}")),
    }
}

/// What codes and scales stand for.
fn values(moment: &EightBit, levels: &[f32]) -> Vec<f32> {
    let scale = |i: usize| moment.scales[i / DYNAMIC_BLOCK];
    let codes = moment.codes.iter().enumerate();
    codes.map(|(i, code)| levels[usize::from(*code)] * scale(i)).collect()
}

fn assert_near(found: &[f32], expected: &[f32], relative: f32, what: &str) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let bound = relative * expected.abs() + f32::MIN_POSITIVE;
        assert!(
            (found - expected).abs() <= bound,
            "{what}: {i} is {found}, not {expected}"
        );
    }
}

/// Codes are the same, but for what their routine on a CPU does: it takes the code of a number up to [`COARSE`] away, in a block of
/// zeros any.
fn check_codes(found: &EightBit, theirs: &EightBit, levels: &[f32], what: &str) {
    /// Of a block's scale; measured 2.1e-5.
    const COARSE: f32 = 2.5e-5;
    /// Of the codes, may differ at all; measured 3.2 % of second moments, which lie at the low end of their map.
    const DIFFERENT_MAX: f64 = 0.035;
    let mut different = 0;
    for (i, (found, their)) in found.codes.iter().zip(&theirs.codes).enumerate() {
        if theirs.scales[i / DYNAMIC_BLOCK] == 0.0 || found == their {
            continue;
        }
        different += 1;
        let [a, b] = [*found, *their].map(|code| levels[usize::from(code)]);
        assert!(
            found.abs_diff(*their) == 1 || (a - b).abs() <= COARSE,
            "{what}: code {i} is {found}, theirs {their}"
        );
    }
    let share = f64::from(different) / found.codes.len() as f64;
    assert!(share <= DIFFERENT_MAX, "{what}: {share} of the codes differ");
}

#[test]
fn the_maps_are_theirs() {
    let raw = file();
    let file = SafeTensors::deserialize(&raw).unwrap();
    assert_eq!(dynamic_levels(DynamicMap::Signed), floats(&file, "signed"));
    assert_eq!(dynamic_levels(DynamicMap::Unsigned), floats(&file, "unsigned"));
}

/// Every step goes from their state, so that a code that rightly differs in one does not hide the next.
#[test]
fn every_step_from_their_state_ends_in_theirs() {
    let raw = file();
    let file = SafeTensors::deserialize(&raw).unwrap();
    let ctx = Ctx::new(2, Simd::detect());
    let [signed, unsigned] = [DynamicMap::Signed, DynamicMap::Unsigned].map(dynamic_levels);
    let mut moments = Moments::eight_bit(floats(&file, "params.0").len());
    for step in 1..=STEPS {
        let mut params = floats(&file, &format!("params.{}", step - 1));
        let grads = floats(&file, &format!("grads.{step}"));
        moments.step(&ctx, &SETTINGS, (step, 1.0), &mut params, &grads);
        let expected = floats(&file, &format!("params.{step}"));
        let largest = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        for (i, (found, expected)) in params.iter().zip(&expected).enumerate() {
            assert!(
                (found - expected).abs() <= 1e-6 * largest,
                "step {step}: parameter {i}: {found}, not {expected}"
            );
        }
        let Moments::EightBit { m, v } = &moments else {
            panic!("moments are in eight bits");
        };
        let (their_m, their_v) = (moment(&file, "m", step), moment(&file, "v", step));
        assert_near(&m.scales, &their_m.scales, 1e-6, "scales of first moments");
        assert_near(&v.scales, &their_v.scales, 1e-6, "scales of second moments");
        check_codes(m, &their_m, &signed, &format!("step {step}: first moments"));
        check_codes(v, &their_v, &unsigned, &format!("step {step}: second moments"));
        moments = Moments::EightBit { m: their_m, v: their_v };
    }
}

/// On its own way of four steps it stays where they are.
#[test]
fn four_steps_on_its_own_stay_beside_theirs() {
    let raw = file();
    let file = SafeTensors::deserialize(&raw).unwrap();
    let ctx = Ctx::new(1, Simd::detect());
    let mut params = floats(&file, "params.0");
    let mut moments = Moments::eight_bit(params.len());
    for step in 1..=STEPS {
        let grads = floats(&file, &format!("grads.{step}"));
        moments.step(&ctx, &SETTINGS, (step, 1.0), &mut params, &grads);
    }
    let expected = floats(&file, &format!("params.{STEPS}"));
    let far = |(found, expected): &(&f32, &f32)| f64::from((*found - *expected).abs()) > 0.02 * SETTINGS.lr;
    let share = params.iter().zip(&expected).filter(far).count() as f64 / params.len() as f64;
    assert!(
        share < 0.02,
        "{share} of the parameters are more than 2 % of a step away"
    );
    let Moments::EightBit { m, .. } = &moments else {
        panic!("moments are in eight bits");
    };
    let levels = dynamic_levels(DynamicMap::Signed);
    let theirs = values(&moment(&file, "m", STEPS), &levels);
    let distance: f64 = values(m, &levels)
        .iter()
        .zip(&theirs)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    let norm: f64 = theirs.iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!(
        (distance / norm).sqrt() < 1e-3,
        "first moments are {} away",
        (distance / norm).sqrt()
    );
}

fn file() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/optimizer/adamw_8bit.safetensors"))
        .unwrap()
}

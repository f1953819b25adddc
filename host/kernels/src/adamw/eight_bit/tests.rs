use super::super::Moments;
use super::*;
use crate::quant::dynamic::dynamic_levels;
use crate::testing::{ELEMENTWISE, assert_near, assert_same_bits, contexts, values};

const SETTINGS: AdamW = AdamW {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
};

/// Gradients whose blocks have scales of their own, one of them none at all.
fn gradients(len: usize, seed: u32) -> Vec<f32> {
    let mut grads = values(len, seed);
    for (block, grads) in grads.chunks_mut(DYNAMIC_BLOCK).enumerate() {
        let scale = [1.0, 1e-4, 0.0, 30.0][block % 4];
        grads.iter_mut().for_each(|g| *g *= scale);
    }
    grads
}

/// The values of codes, in the twin's precision.
fn decoded(moment: &EightBit, levels: &[f32]) -> Vec<f64> {
    let value = |i: usize, code: &u8| f64::from(levels[usize::from(*code)] * moment.scales[i / DYNAMIC_BLOCK]);
    moment
        .codes
        .iter()
        .enumerate()
        .map(|(i, code)| value(i, code))
        .collect()
}

/// Codes are those of the midpoint rule; a value as near to a midpoint as rounding goes may have either of its codes.
fn check_codes(found: &EightBit, exact: &[f64], levels: &[f32], least: u8, what: &str) {
    const NEAR: f64 = 4e-6;
    for (block, exact) in exact.chunks(DYNAMIC_BLOCK).enumerate() {
        let scale = exact.iter().fold(0.0f64, |greatest, x| greatest.max(x.abs()));
        let kept = f64::from(found.scales[block]);
        assert!(
            (kept - scale).abs() <= 1e-6 * scale,
            "{what}: scale {block}: {kept} for {scale}"
        );
        for (i, x) in exact.iter().enumerate() {
            let z = if scale == 0.0 { 0.0 } else { x / scale };
            let rule = |z: f64| {
                let below = levels
                    .windows(2)
                    .filter(|pair| f64::from((pair[0] + pair[1]) / 2.0) < z);
                let code = below.count() as u8;
                if *x == 0.0 { code } else { code.max(least) }
            };
            let code = found.codes[block * DYNAMIC_BLOCK + i];
            let near = NEAR * z.abs();
            assert!(
                (rule(z - near)..=rule(z + near)).contains(&code),
                "{what}: code {code} of {i} in block {block}, {z} should be {}",
                rule(z)
            );
        }
    }
}

#[test]
fn steps_follow_a_twin_in_f64_with_the_same_codes() {
    let signed = dynamic_levels(DynamicMap::Signed);
    let unsigned = dynamic_levels(DynamicMap::Unsigned);
    for ctx in contexts() {
        let len = CHUNK + DYNAMIC_BLOCK + 37;
        let mut params = values(len, 1);
        let (mut m, mut v) = (
            EightBit::zeros(len, DynamicMap::Signed),
            EightBit::zeros(len, DynamicMap::Unsigned),
        );
        for step in 1..=6u64 {
            let grads = gradients(len, 10 + step as u32);
            let mut wide: Vec<f64> = params.iter().map(|x| f64::from(*x)).collect();
            let (mut wide_m, mut wide_v) = (decoded(&m, &signed), decoded(&v, &unsigned));
            adamw_step_8bit(&ctx, &SETTINGS, (step, 0.5), &mut params, &grads, &mut m, &mut v);
            for i in 0..len {
                let g = 0.5 * f64::from(grads[i]);
                wide_m[i] = 0.9 * wide_m[i] + 0.1 * g;
                wide_v[i] = 0.999 * wide_v[i] + 0.001 * g * g;
                let m_hat = wide_m[i] / (1.0 - 0.9f64.powi(step as i32));
                let v_hat = wide_v[i] / (1.0 - 0.999f64.powi(step as i32));
                wide[i] -= 1e-2 * 0.1 * wide[i] + 1e-2 * m_hat / (v_hat.sqrt() + 1e-8);
            }
            assert_near(&params, &wide, ELEMENTWISE, "parameters");
            check_codes(&m, &wide_m, &signed, 0, "first moments");
            check_codes(&v, &wide_v, &unsigned, 1, "second moments");
        }
    }
}

#[test]
fn every_instruction_set_and_team_makes_the_same_steps() {
    let len = 3 * CHUNK + 300;
    let mut results: Vec<(Vec<f32>, Moments)> = Vec::new();
    let teams = [1, 2, 5].map(|threads| Ctx::new(threads, crate::Simd::detect()));
    for ctx in contexts().into_iter().chain(teams) {
        let (mut params, mut moments) = (values(len, 1), Moments::eight_bit(len));
        for step in 1..=3u64 {
            let grads = gradients(len, step as u32);
            moments.step(&ctx, &SETTINGS, (step, 1.0), &mut params, &grads);
        }
        results.push((params, moments));
    }
    for (params, moments) in &results[1..] {
        assert_same_bits(&results[0].0, params, "parameters");
        assert!(results[0].1 == *moments, "moments");
    }
}

/// Loss of a bowl whose axes have curvatures from 1 to 1e-4, after steps from noisy gradients at a falling rate.
fn loss_after(mut moments: Moments) -> f64 {
    const LEN: usize = 3000;
    const STEPS: u64 = 600;
    let ctx = Ctx::new(2, crate::Simd::detect());
    let curvature: Vec<f32> = (0..LEN).map(|i| 10f32.powf(-4.0 * i as f32 / LEN as f32)).collect();
    let mut x = values(LEN, 7);
    let loss = |x: &[f32]| -> f64 {
        let terms = x.iter().zip(&curvature).map(|(x, c)| f64::from(c * x * x));
        terms.sum::<f64>() / LEN as f64
    };
    let before = loss(&x);
    for step in 1..=STEPS {
        let noise = values(LEN, 1000 + step as u32);
        let of = |((x, c), noise): ((&f32, &f32), &f32)| c * (x + 0.3 * noise);
        let grads: Vec<f32> = x.iter().zip(&curvature).zip(&noise).map(of).collect();
        let settings = AdamW {
            lr: 2e-2 * (1.0 - (step - 1) as f64 / STEPS as f64),
            weight_decay: 0.0,
            ..SETTINGS
        };
        moments.step(&ctx, &settings, (step, 1.0), &mut x, &grads);
    }
    loss(&x) / before
}

#[test]
fn eight_bits_learn_what_f32_does() {
    /// How much more of the loss may be left.
    const WORSE: f64 = 1.1;
    let (full, eight_bit) = (loss_after(Moments::full(3000)), loss_after(Moments::eight_bit(3000)));
    assert!(full < 2e-3, "f32 leaves {full} of the loss");
    assert!(
        eight_bit < WORSE * full,
        "eight bits leave {eight_bit} of the loss, f32 {full}"
    );
}

/// Beside a value with a large gradient one with a small one has a second moment below half of the lowest level. Were it zero, the
/// first step with next to no gradient would go thousands of rates far.
#[test]
fn a_small_gradient_beside_a_large_one_takes_no_giant_step() {
    let ctx = Ctx::new(1, crate::Simd::detect());
    let (mut params, mut moments) = (vec![0.0f32; 2], Moments::eight_bit(2));
    let settings = AdamW {
        weight_decay: 0.0,
        ..SETTINGS
    };
    for step in 1..=20u64 {
        let small = if step < 20 { 3e-4 } else { 1e-9 };
        let before = params[1];
        moments.step(&ctx, &settings, (step, 1.0), &mut params, &[1.0, small]);
        let moved = f64::from((params[1] - before).abs());
        assert!(moved <= 2.0 * settings.lr, "step {step} moved by {moved}");
    }
}

//! The dot product of one stored row with a quantized activation, straight from the stored bytes.
//!
//! The slow obvious version that judges the panels, and the way for a weight that was not packed. Its sums run in the
//! panels' order with the same roundings, so the two agree bit for bit.

use super::activation::Activation;
use super::groups::{has_halves, is_known, unpack};
use super::{BLOCK, GgmlType, QuantError, check_row};

/// Multiplies a row of type `ty` with row `row` of `activation`.
///
/// **Errors:** lengths that do not fit, or a type without integer product.
pub fn dot_row(ty: GgmlType, bytes: &[u8], activation: &Activation, row: usize) -> Result<f32, QuantError> {
    if !is_known(ty) {
        return Err(QuantError::Unsupported {
            ty,
            purpose: "an integer product",
        });
    }
    check_row(ty, activation.len(), bytes.len())?;
    let groups = activation.len() / BLOCK;
    let mut sum = 0.0f32;
    for index in 0..groups {
        let group = unpack(ty, bytes, index);
        let at = row * groups + index;
        let codes = &activation.codes[at * BLOCK..][..BLOCK];
        let mut dots = [0i32; 2];
        for (j, (weight, code)) in group.codes.iter().zip(codes).enumerate() {
            dots[j / 16] += i32::from(*weight) * i32::from(*code);
        }
        let scale = activation.scales[at];
        if has_halves(ty) {
            for (half, dot) in dots.iter().enumerate() {
                sum = (group.scales[half] * scale).mul_add(*dot as f32, sum);
                sum = group.offsets[half].mul_add(activation.half_sums[2 * at + half], sum);
            }
        } else {
            sum = (group.scales[0] * scale).mul_add((dots[0] + dots[1]) as f32, sum);
            sum = group.offsets[0].mul_add(activation.sums[at], sum);
        }
    }
    Ok(sum)
}

//! What an engine outside of this crate needs to compute a decoder as this one does: which modules stand in which slot of a
//! block, and the rotary angles of a sequence.
//!
//! Invariant: nothing is worked out here a second time; names and frequencies are those of the processor's engine.

use crate::arena::Arena;
use crate::config::{DecoderConfig, LayerRope};
use crate::rotary::{Rotary, Tables};

pub use crate::model::names::{SlotPlan, slot_plans};
pub use crate::model::{OUT, QKV, down, gate_up};

/// Cosines and sines of one sequence from its first position on.
#[derive(Debug)]
pub struct SequenceAngles {
    tables: Tables,
}

impl SequenceAngles {
    /// Works out the angles of a sequence of `len` tokens.
    pub fn new(config: &DecoderConfig, len: usize) -> SequenceAngles {
        let rotary = Rotary::new(config);
        let mut tables = rotary.table(&Arena::default(), len);
        let is_long = rotary.is_long(len);
        for position in 0..len {
            rotary.write(&mut tables, position, position as u32, is_long);
        }
        SequenceAngles { tables }
    }

    /// Returns cosines and sines of a layer, `[len, half]` each; nothing where it is not rotated.
    pub fn of(&self, rope: LayerRope) -> Option<(&[f32], &[f32])> {
        let angles = self.tables.of(rope)?;
        Some((&angles.cos, &angles.sin))
    }
}

//! Rotary frequencies of a configuration, and the cosine and sine tables of a batch.
//!
//! Invariants: frequencies are rounded to `f32` before they meet a position, as the reference implementation does.
//! Long and short factors (LongRope, of the main embedding only) are chosen per group of rows that see each other, so packing changes nothing.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use dlm_kernels::Segment;

use crate::arena::{Arena, Buffer};
use crate::config::{DecoderConfig, LayerRope, Rope, RopeScaling};

/// Inverse frequencies of one rotary embedding.
#[derive(Clone, Debug)]
struct Frequencies {
    short: Vec<f32>,
    /// Frequencies and first length of long sequences, for LongRope.
    long: Option<(Vec<f32>, usize)>,
    /// Factor of cosine and sine.
    amplitude: f32,
}

impl Frequencies {
    fn new(rope: &Rope) -> Frequencies {
        let plain: Vec<f32> = (0..rope.dim / 2)
            .map(|i| (1.0 / rope.theta.powf(2.0 * i as f64 / rope.dim as f64)) as f32)
            .collect();
        let divided = |factors: &[f32]| -> Vec<f32> { plain.iter().zip(factors).map(|(f, by)| f / by).collect() };
        let mut frequencies = Frequencies {
            short: plain.clone(),
            long: None,
            amplitude: 1.0,
        };
        match &rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => frequencies.short.iter_mut().for_each(|f| *f /= factor),
            RopeScaling::Divisors(factors) => frequencies.short = divided(factors),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max,
            } => {
                let bounds = [*factor, *low_freq_factor, *high_freq_factor].map(f64::from);
                for f in &mut frequencies.short {
                    *f = llama3(f64::from(*f), bounds, *original_max) as f32;
                }
            }
            RopeScaling::LongRope {
                short,
                long,
                original_max,
                attention_factor,
            } => {
                frequencies.short = divided(short);
                frequencies.long = Some((divided(long), original_max + 1));
                frequencies.amplitude = *attention_factor;
            }
        }
        frequencies
    }

    fn write(&self, position: u32, is_long: bool, cos: &mut [f32], sin: &mut [f32]) {
        let frequencies = match &self.long {
            Some((long, _)) if is_long => long,
            _ => &self.short,
        };
        for ((f, cos), sin) in frequencies.iter().zip(cos).zip(sin) {
            let angle = position as f32 * f;
            *cos = angle.cos() * self.amplitude;
            *sin = angle.sin() * self.amplitude;
        }
    }
}

/// The rotary embeddings of one model: one for all layers, or a second one for those with a window.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    main: Frequencies,
    local: Option<Frequencies>,
}

/// Cosines and sines `[rows, half]` of one rotary embedding.
#[derive(Debug)]
pub(crate) struct Angles {
    pub cos: Buffer,
    pub sin: Buffer,
}

/// The angles of a batch, for every rotary embedding of the model.
#[derive(Debug)]
pub(crate) struct Tables {
    main: Angles,
    local: Option<Angles>,
}

impl Tables {
    /// Returns the angles of a layer; nothing where it is not rotated.
    pub fn of(&self, rope: LayerRope) -> Option<&Angles> {
        match rope {
            LayerRope::None => None,
            LayerRope::Main => Some(&self.main),
            LayerRope::Local => self.local.as_ref(),
        }
    }
}

impl Rotary {
    pub fn new(config: &DecoderConfig) -> Rotary {
        Rotary {
            main: Frequencies::new(&config.rope),
            local: config.rope_local.as_ref().map(Frequencies::new),
        }
    }

    /// Pairs that turn.
    pub fn half(&self) -> usize {
        self.main.short.len()
    }

    /// Returns the length from which a sequence uses other frequencies than a shorter one.
    pub fn long_from(&self) -> Option<usize> {
        self.main.long.as_ref().map(|(_, from)| *from)
    }

    /// Says whether a sequence of `len` tokens uses other frequencies than a shorter one.
    pub fn is_long(&self, len: usize) -> bool {
        self.long_from().is_some_and(|from| len >= from)
    }

    /// Makes tables of so many rows, to be written row by row.
    pub fn table(&self, arena: &Arena, rows: usize) -> Tables {
        let angles = || Angles {
            cos: arena.take(rows * self.half()),
            sin: arena.take(rows * self.half()),
        };
        Tables {
            main: angles(),
            local: self.local.as_ref().map(|_| angles()),
        }
    }

    /// Writes a row: the angles of one position, for a sequence that is long or not.
    pub fn write(&self, tables: &mut Tables, row: usize, position: u32, is_long: bool) {
        let at = row * self.half()..(row + 1) * self.half();
        let locals = self.local.as_ref().zip(tables.local.as_mut());
        for (frequencies, angles) in [(&self.main, &mut tables.main)].into_iter().chain(locals) {
            let (cos, sin) = (&mut angles.cos[at.clone()], &mut angles.sin[at.clone()]);
            frequencies.write(position, is_long, cos, sin);
        }
    }

    /// Builds the tables of a packed batch.
    pub fn tables(&self, arena: &Arena, segments: &[Segment], positions: &[u32]) -> Tables {
        let mut tables = self.table(arena, positions.len());
        let lengths = group_lengths(segments, positions);
        for segment in segments {
            let is_long = self.is_long(lengths[&group(segment)]);
            for row in segment.q.clone() {
                self.write(&mut tables, row, positions[row], is_long);
            }
        }
        tables
    }
}

/// Rows that share a prefix belong together; the prefix's first row names the group.
fn group(segment: &Segment) -> usize {
    if segment.prefix.is_empty() {
        segment.q.start
    } else {
        segment.prefix.start
    }
}

/// Length of the longest sequence of each group.
fn group_lengths(segments: &[Segment], positions: &[u32]) -> BTreeMap<usize, usize> {
    let mut lengths = BTreeMap::new();
    for segment in segments {
        let longest = positions[segment.q.clone()]
            .iter()
            .max()
            .map_or(0, |last| *last as usize + 1);
        let length = lengths.entry(group(segment)).or_insert(0);
        *length = longest.max(*length);
    }
    lengths
}

/// **Source:** `_compute_llama3_parameters` of transformers: wavelengths below `original_max / high` are kept, those
/// above `original_max / low` divided by the factor, a linear ramp between.
fn llama3(f: f64, [factor, low, high]: [f64; 3], original_max: usize) -> f64 {
    let context = original_max as f64;
    let wavelength = 2.0 * PI / f;
    if wavelength < context / high {
        f
    } else if wavelength > context / low {
        f / factor
    } else {
        let smooth = (context / wavelength - low) / (high - low);
        (1.0 - smooth) * f / factor + smooth * f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(theta: f64, scaling: RopeScaling) -> Frequencies {
        Frequencies::new(&Rope { dim: 4, theta, scaling })
    }

    fn one(scaling: RopeScaling) -> Rotary {
        Rotary {
            main: rope(10_000.0, scaling),
            local: None,
        }
    }

    #[test]
    fn layers_with_a_window_may_turn_by_another_base() {
        let rotary = Rotary {
            main: rope(1e6, RopeScaling::Linear { factor: 8.0 }),
            local: Some(rope(1e4, RopeScaling::None)),
        };
        let mut tables = rotary.table(&Arena::default(), 2);
        rotary.write(&mut tables, 1, 3, false);
        let sines = |rope| tables.of(rope).unwrap().sin[2..].to_vec();
        assert_eq!(
            sines(LayerRope::Main),
            [(3.0f32 / 8.0).sin(), (3.0 * (1e-3f32 / 8.0)).sin()]
        );
        assert_eq!(sines(LayerRope::Local), [3.0f32.sin(), (3.0 * 1e-2f32).sin()]);
        assert!(tables.of(LayerRope::None).is_none());
    }

    #[test]
    fn a_shared_prefix_is_long_when_one_of_its_readers_is() {
        let rotary = one(RopeScaling::LongRope {
            short: vec![1.0, 1.0],
            long: vec![2.0, 2.0],
            original_max: 4,
            attention_factor: 1.0,
        });
        let segments = [
            Segment { q: 0..2, prefix: 0..0 },
            Segment { q: 2..3, prefix: 0..2 },
            Segment { q: 3..6, prefix: 0..2 },
            Segment { q: 6..8, prefix: 0..0 },
        ];
        let positions = [0, 1, 2, 2, 3, 4, 0, 1];
        let tables = rotary.tables(&Arena::default(), &segments, &positions);
        assert_eq!(tables.main.sin[2], 0.5f32.sin(), "row 1 sees long factors");
        assert_eq!(tables.main.sin[14], 1.0f32.sin(), "row 7 is of a short sequence");
    }

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaled = one(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max: 64,
        });
        assert_eq!(scaled.main.short[0], 1.0);
        assert!((scaled.main.short[1] - 0.01 / 8.0).abs() < 1e-9);
    }
}

//! The learned gate: a small network that says from a prompt's embedding how much each adapter of a document should speak.
//!
//! `Linear(inputs, hidden) → GELU → Linear(hidden, outputs) → softmax`, trained with AdamW on a loss of cross-entropy less a
//! share of the entropy. Embeddings are standardized for training, and the standardization is folded into the first layer, so
//! that whoever evaluates the network hands it embeddings as they are.
//!
//! Invariants: a gate is a function of its samples and the seed; it is trained only where it guesses samples that it has not seen
//! better than the largest class does.
//!
//! **Source:** `spec/training.md` section 9.

use dlm_core::random::Rng;
use dlm_model::sampling::argmax;

/// Samples of one step at most.
const BATCH_MAX: usize = 16;
/// Share of the past in the running means that are reported.
const EWMA: f64 = 0.9;
/// Keeps a logarithm and a division finite.
const EPS: f32 = 1e-9;
/// Times that the samples are split to measure what a gate says of unseen ones: each alone up to so many.
const FOLDS_MAX: usize = 64;

/// The network. Rows of the first layer are those of its inputs, so that sums run along the hidden units.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    pub inputs: usize,
    pub hidden: usize,
    pub outputs: usize,
    /// `[inputs, hidden]`.
    pub first: Vec<f32>,
    /// `[hidden]`.
    pub first_bias: Vec<f32>,
    /// `[hidden, outputs]`.
    pub second: Vec<f32>,
    /// `[outputs]`.
    pub second_bias: Vec<f32>,
}

/// One prompt's embedding and the adapter that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct GateSample {
    pub embedding: Vec<f32>,
    pub class: usize,
}

/// How a gate is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateOptions {
    pub hidden: usize,
    pub steps: usize,
    pub lr: f64,
    pub entropy_lambda: f64,
    pub seed: u64,
}

/// A gate that was trained, and what it is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct GateFit {
    pub gate: Gate,
    /// Share of the samples that gates trained without them put into their class.
    pub accuracy: f64,
    /// Share of the samples that the largest class has: what guessing it would reach.
    pub majority: f64,
    /// Mean weight of each adapter over the samples.
    pub mean_weights: Vec<f64>,
    /// Running mean of the loss at the end.
    pub loss: f64,
    /// Running mean of the weights' entropy at the end, in nats.
    pub entropy: f64,
}

impl GateFit {
    /// Says whether the gate is better than always choosing the adapter with the most samples.
    pub fn is_useful(&self) -> bool {
        self.accuracy > self.majority
    }
}

impl Gate {
    /// Returns the weight of each adapter for an embedding; they sum to 1.
    ///
    /// **Panics:** when the embedding is not [`Gate::inputs`] long.
    pub fn weights(&self, embedding: &[f32]) -> Vec<f32> {
        assert_eq!(embedding.len(), self.inputs, "an embedding of the gate's base");
        self.forward(embedding).probabilities
    }

    /// Uniform in `±1/sqrt(fan in)`, as PyTorch's linear layers begin.
    fn init(inputs: usize, outputs: usize, options: &GateOptions) -> Gate {
        let mut rng = Rng::stream(options.seed, "gate init", &[]);
        let mut uniform = |count: usize, fan_in: usize| -> Vec<f32> {
            let bound = 1.0 / (fan_in as f64).sqrt();
            (0..count).map(|_| ((2.0 * rng.unit() - 1.0) * bound) as f32).collect()
        };
        let hidden = options.hidden;
        Gate {
            inputs,
            hidden,
            outputs,
            first: uniform(inputs * hidden, inputs),
            first_bias: uniform(hidden, inputs),
            second: uniform(hidden * outputs, hidden),
            second_bias: uniform(outputs, hidden),
        }
    }

    fn forward(&self, x: &[f32]) -> Activations {
        let mut raw = self.first_bias.clone();
        for (x, row) in x.iter().zip(self.first.chunks_exact(self.hidden)) {
            add_scaled(&mut raw, *x, row);
        }
        let active: Vec<f32> = raw.iter().map(|x| x * normal_cdf(*x)).collect();
        let mut logits = self.second_bias.clone();
        for (h, row) in active.iter().zip(self.second.chunks_exact(self.outputs)) {
            add_scaled(&mut logits, *h, row);
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> = logits.iter().map(|z| (z - max).exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        Activations {
            raw,
            active,
            probabilities: exponentials.iter().map(|e| e / sum).collect(),
        }
    }

    fn params(&self) -> impl Iterator<Item = &f32> {
        let layers = [&self.first, &self.first_bias, &self.second, &self.second_bias];
        layers.into_iter().flatten()
    }

    fn layers_mut(&mut self) -> [&mut Vec<f32>; 4] {
        [
            &mut self.first,
            &mut self.first_bias,
            &mut self.second,
            &mut self.second_bias,
        ]
    }

    /// A gate of the same shape with every number zero: a gradient, a moment.
    fn zeros(&self) -> Gate {
        let mut zeros = self.clone();
        zeros.layers_mut().into_iter().for_each(|layer| layer.fill(0.0));
        zeros
    }

    /// Lets the gate take embeddings as they are, which was trained on `(x - mean) * scale`.
    fn fold(&mut self, standard: &Standard) {
        for (row, mean) in self.first.chunks_exact_mut(self.hidden).zip(&standard.mean) {
            row.iter_mut().for_each(|w| *w *= standard.scale);
            add_scaled(&mut self.first_bias, -mean, row);
        }
    }
}

struct Activations {
    raw: Vec<f32>,
    active: Vec<f32>,
    probabilities: Vec<f32>,
}

/// Trains a gate on all samples and measures it on each in turn, left out; none where training diverged.
///
/// **Panics:** without samples, or when a class is not below `classes`.
pub fn fit(samples: &[GateSample], classes: usize, options: &GateOptions) -> Option<GateFit> {
    let all: Vec<&GateSample> = samples.iter().collect();
    let trained = train(&all, classes, options)?;
    let folds = samples.len().min(FOLDS_MAX);
    let mut hits = 0;
    for fold in 0..folds {
        let is_out = |index: &usize| index % folds == fold;
        let kept: Vec<&GateSample> = (0..samples.len()).filter(|i| !is_out(i)).map(|i| &samples[i]).collect();
        let Some(other) = (!kept.is_empty()).then(|| train(&kept, classes, options)).flatten() else {
            continue;
        };
        let is_hit = |sample: &GateSample| argmax(&other.gate.weights(&sample.embedding)) as usize == sample.class;
        hits += (0..samples.len())
            .filter(is_out)
            .filter(|i| is_hit(&samples[*i]))
            .count();
    }
    let mut counts = vec![0usize; classes];
    samples.iter().for_each(|sample| counts[sample.class] += 1);
    let count = samples.len() as f64;
    let mut mean_weights = vec![0.0; classes];
    for sample in samples {
        let weights = trained.gate.weights(&sample.embedding);
        for (sum, weight) in mean_weights.iter_mut().zip(weights) {
            *sum += f64::from(weight) / count;
        }
    }
    Some(GateFit {
        accuracy: hits as f64 / count,
        majority: *counts.iter().max().expect("there are classes") as f64 / count,
        mean_weights,
        loss: trained.loss,
        entropy: trained.entropy,
        gate: trained.gate,
    })
}

struct Trained {
    gate: Gate,
    loss: f64,
    entropy: f64,
}

/// What embeddings of a base have in common: their mean, and how far they are from it. One scale for all inputs: an input that hardly
/// differs between samples must not be made as loud as those that do.
struct Standard {
    mean: Vec<f32>,
    scale: f32,
}

impl Standard {
    fn of(samples: &[&GateSample]) -> Standard {
        let count = samples.len() as f32;
        let mut mean = vec![0.0f32; samples[0].embedding.len()];
        for sample in samples {
            add_scaled(&mut mean, 1.0 / count, &sample.embedding);
        }
        let squares = samples.iter().flat_map(|sample| {
            let differences = sample.embedding.iter().zip(&mean).map(|(x, m)| f64::from(x - m));
            differences
                .map(|difference| difference * difference)
                .collect::<Vec<_>>()
        });
        let variance = squares.sum::<f64>() / (count as f64 * mean.len() as f64);
        Standard {
            scale: (1.0 / (variance + f64::from(EPS)).sqrt()) as f32,
            mean,
        }
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        x.iter()
            .zip(&self.mean)
            .map(|(x, mean)| (x - mean) * self.scale)
            .collect()
    }
}

/// Trains one gate; none where a number stops being finite.
fn train(samples: &[&GateSample], classes: usize, options: &GateOptions) -> Option<Trained> {
    let standard = Standard::of(samples);
    let inputs: Vec<Vec<f32>> = samples.iter().map(|sample| standard.apply(&sample.embedding)).collect();
    let mut gate = Gate::init(inputs[0].len(), classes, options);
    let mut adam = Adam::new(&gate, options.lr);
    let batch = BATCH_MAX.min(samples.len());
    let mut order: Vec<usize> = Vec::new();
    let mut epoch = 0;
    let (mut loss, mut entropy) = (None, None);
    for _ in 0..options.steps {
        let mut gradient = gate.zeros();
        let (mut step_loss, mut step_entropy) = (0.0, 0.0);
        for _ in 0..batch {
            if order.is_empty() {
                order = (0..samples.len()).collect();
                Rng::stream(options.seed, "gate", &[epoch]).shuffle(&mut order);
                epoch += 1;
            }
            let index = order.pop().expect("there are samples");
            let lambda = options.entropy_lambda as f32;
            let (one, spread) = back(&gate, &inputs[index], samples[index].class, lambda, &mut gradient);
            step_loss += f64::from(one) / batch as f64;
            step_entropy += f64::from(spread) / batch as f64;
        }
        for layer in gradient.layers_mut() {
            layer.iter_mut().for_each(|g| *g /= batch as f32);
        }
        adam.step(&mut gate, &mut gradient);
        let mix = |before: Option<f64>, now: f64| Some(before.map_or(now, |before| EWMA * before + (1.0 - EWMA) * now));
        (loss, entropy) = (mix(loss, step_loss), mix(entropy, step_entropy));
        if !step_loss.is_finite() {
            return None;
        }
    }
    gate.fold(&standard);
    let is_finite = gate.params().all(|value| value.is_finite());
    is_finite.then_some(Trained {
        gate,
        loss: loss.unwrap_or(0.0),
        entropy: entropy.unwrap_or(0.0),
    })
}

/// Adds one sample's gradient; returns its loss and the entropy of its weights.
fn back(gate: &Gate, x: &[f32], class: usize, lambda: f32, gradient: &mut Gate) -> (f32, f32) {
    let Activations {
        raw,
        active,
        probabilities: p,
    } = gate.forward(x);
    let entropy: f32 = -p.iter().map(|p| p * (p + EPS).ln()).sum::<f32>();
    // d entropy / d p.
    let slope: Vec<f32> = p.iter().map(|p| -((p + EPS).ln() + p / (p + EPS))).collect();
    let mean: f32 = p.iter().zip(&slope).map(|(p, s)| p * s).sum();
    let d_logits: Vec<f32> = (0..p.len())
        .map(|k| p[k] - f32::from(u8::from(k == class)) - lambda * p[k] * (slope[k] - mean))
        .collect();
    add_scaled(&mut gradient.second_bias, 1.0, &d_logits);
    let mut d_raw = vec![0.0; raw.len()];
    let rows = gate.second.chunks_exact(gate.outputs);
    for ((j, row), d_row) in rows.enumerate().zip(gradient.second.chunks_exact_mut(gate.outputs)) {
        add_scaled(d_row, active[j], &d_logits);
        let d_active: f32 = row.iter().zip(&d_logits).map(|(w, d)| w * d).sum();
        d_raw[j] = d_active * (normal_cdf(raw[j]) + raw[j] * normal_density(raw[j]));
    }
    add_scaled(&mut gradient.first_bias, 1.0, &d_raw);
    for (x, d_row) in x.iter().zip(gradient.first.chunks_exact_mut(gate.hidden)) {
        add_scaled(d_row, *x, &d_raw);
    }
    (-(p[class] + EPS).ln() - lambda * entropy, entropy)
}

/// AdamW without decay over the gate's numbers.
struct Adam {
    m: Gate,
    v: Gate,
    lr: f64,
    updates: i32,
}

impl Adam {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;
    const EPS: f32 = 1e-8;

    fn new(gate: &Gate, lr: f64) -> Adam {
        Adam {
            m: gate.zeros(),
            v: gate.zeros(),
            lr,
            updates: 0,
        }
    }

    fn step(&mut self, gate: &mut Gate, gradient: &mut Gate) {
        self.updates += 1;
        let rate = (self.lr / (1.0 - Self::BETA1.powi(self.updates))) as f32;
        let unbias = (1.0 - Self::BETA2.powi(self.updates)) as f32;
        let (beta1, beta2) = (Self::BETA1 as f32, Self::BETA2 as f32);
        let layers = gate.layers_mut().into_iter().zip(gradient.layers_mut());
        let moments = self.m.layers_mut().into_iter().zip(self.v.layers_mut());
        for ((params, gradient), (m, v)) in layers.zip(moments) {
            for (((p, g), m), v) in params.iter_mut().zip(gradient.iter()).zip(m).zip(v) {
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p -= rate * *m / ((*v / unbias).sqrt() + Self::EPS);
            }
        }
    }
}

fn add_scaled(out: &mut [f32], factor: f32, row: &[f32]) {
    out.iter_mut().zip(row).for_each(|(out, x)| *out += factor * x);
}

/// The standard normal distribution, with an error under 1e-7.
///
/// **Source:** Abramowitz and Stegun 1964, formula 26.2.17.
fn normal_cdf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.231_641_9 * f64::from(x.abs()));
    let tail =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let above = (f64::from(normal_density(x)) * tail) as f32;
    if x > 0.0 { 1.0 - above } else { above }
}

fn normal_density(x: f32) -> f32 {
    const INVERSE_ROOT_2_PI: f32 = 0.398_942_3;
    INVERSE_ROOT_2_PI * (-0.5 * x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: GateOptions = GateOptions {
        hidden: 16,
        steps: 200,
        lr: 3e-3,
        entropy_lambda: 0.01,
        seed: 7,
    };

    /// Two clouds, each around a direction of its own when `is_separable`.
    fn samples(count: usize, is_separable: bool) -> Vec<GateSample> {
        let mut rng = Rng::stream(3, "clouds", &[]);
        let sample = |index: usize| {
            let class = index % 2;
            let mut embedding: Vec<f32> = (0..24).map(|_| (2.0 * rng.unit() - 1.0) as f32).collect();
            if is_separable {
                embedding[class] += 5.0;
            }
            embedding[5] = 4.0;
            GateSample { embedding, class }
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn what_can_be_told_apart_is_and_what_cannot_is_not_useful() {
        let fitted = fit(&samples(24, true), 2, &OPTIONS).unwrap();
        assert!(fitted.accuracy > 0.9 && fitted.is_useful(), "{}", fitted.accuracy);
        assert!((fitted.mean_weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        // The classes of an odd number of samples of noise: the larger one has 13 of 25.
        let noise = fit(&samples(25, false), 2, &OPTIONS).unwrap();
        assert!(noise.accuracy < 0.8, "{}", noise.accuracy);
        assert_eq!(fit(&samples(24, true), 2, &OPTIONS).unwrap(), fitted);
    }

    #[test]
    fn gradients_are_the_derivatives() {
        let samples = samples(2, true);
        let gate = Gate::init(24, 3, &OPTIONS);
        let (x, class, lambda) = (&samples[0].embedding, 2, 0.3);
        let mut gradient = gate.zeros();
        back(&gate, x, class, lambda, &mut gradient);
        const STEP: f32 = 1e-2;
        for layer in 0..4 {
            let at = |offset: f32| {
                let mut moved = gate.clone();
                moved.layers_mut()[layer][1] += offset;
                back(&moved, x, class, lambda, &mut gate.zeros()).0
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let found = gradient.layers_mut()[layer][1];
            assert!((found - expected).abs() < 1e-3, "layer {layer}: {found} for {expected}");
        }
    }

    #[test]
    fn the_normal_distribution_is_that_of_tables() {
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.0, 0.158_655_25), (3.0, 0.998_650_1)] {
            assert!((normal_cdf(x) - expected).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn numbers_that_leave_the_finite_are_no_gate() {
        let mut broken = samples(8, true);
        broken[3].embedding[2] = f32::INFINITY;
        assert_eq!(fit(&broken, 2, &OPTIONS), None);
    }
}

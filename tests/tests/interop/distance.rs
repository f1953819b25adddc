//! How far two programs' next-token distributions are from each other.

/// The distance over all positions of some rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    pub positions: usize,
    /// Mean Kullback-Leibler divergence of theirs from ours, in nats.
    pub kl_mean: f64,
    /// Largest difference of a log-probability, of tokens that we give at least one in ten thousand.
    pub worst: f64,
    /// Positions at which another token is the most likely one.
    pub argmax_differs: usize,
}

/// Probabilities below this say nothing that anybody would see.
const SEEN: f64 = 1e-4;

/// The log-probabilities of one position.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let peak = logits.iter().fold(f64::NEG_INFINITY, |peak, x| peak.max(f64::from(*x)));
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - peak).exp()).sum();
    logits.iter().map(|x| f64::from(*x) - peak - sum.ln()).collect()
}

impl Distance {
    /// Adds a position: log-probabilities, ours first.
    pub fn add(&mut self, ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len(), "vocabularies differ");
        let (mut kl, mut worst) = (0.0f64, 0.0f64);
        for (our, their) in ours.iter().zip(theirs) {
            let p = our.exp();
            if p > SEEN {
                worst = worst.max((our - their).abs());
            }
            // A token that theirs cannot say at all would count without end; ours must not say it either then.
            if p > f64::from(f32::MIN_POSITIVE) {
                kl += p * (our - their);
            }
        }
        assert!(kl.is_finite(), "a token that one of the two cannot say");
        let best = |of: &[f64]| of.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
        self.argmax_differs += usize::from(best(ours) != best(theirs));
        self.kl_mean = (self.kl_mean * self.positions as f64 + kl) / (self.positions + 1) as f64;
        self.worst = self.worst.max(worst);
        self.positions += 1;
    }
}

#[test]
fn the_distance_sees_a_shift_and_a_swap() {
    let ours = log_softmax(&[2.0, 1.0, 0.0]);
    let mut same = Distance::default();
    same.add(&ours, &ours);
    assert_eq!((same.worst, same.argmax_differs), (0.0, 0));
    let mut other = Distance::default();
    other.add(&ours, &log_softmax(&[1.0, 2.0, 0.0]));
    assert!(
        other.worst > 0.9 && other.kl_mean > 0.1 && other.argmax_differs == 1,
        "{other:?}"
    );
}

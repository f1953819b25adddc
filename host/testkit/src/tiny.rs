//! What several tests do with a tiny model: an adapter that changes what it says, and sequences to read.

use dlm_model::{Adapter, AdapterKind, AdapterSpec, Model};

/// An adapter on every module whose `B` is not zero.
///
/// **Panics:** when the model takes no adapter.
pub fn adapter(model: &Model, kind: AdapterKind, dropout: f32) -> Adapter {
    adapter_on(model, kind, dropout, &["all-linear"])
}

/// The same on some modules.
///
/// **Panics:** as [`adapter`].
pub fn adapter_on(model: &Model, kind: AdapterKind, dropout: f32, targets: &[&str]) -> Adapter {
    let spec = AdapterSpec {
        kind,
        r: 4,
        alpha: 8.0,
        dropout,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    };
    let mut adapter = Adapter::init(model, &spec, 7).expect("a tiny model takes an adapter");
    for module in adapter.modules.clone() {
        for (i, value) in adapter.params[module.b].iter_mut().enumerate() {
            *value = 0.05 * ((i as f32 * 0.7).sin());
        }
    }
    adapter
}

/// Three sequences of different lengths, within every tiny vocabulary.
pub fn sequences() -> Vec<Vec<u32>> {
    let row = |seed: u32, len: u32| (0..len).map(|i| 20 + (i * i * 31 + i * seed) % 290).collect();
    vec![row(3, 13), row(8, 9), row(5, 21)]
}

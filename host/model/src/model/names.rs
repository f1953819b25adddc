//! Names of weights and modules of a block, in the order in which a slot computes them.

use std::ops::Range;

use crate::config::DecoderConfig;

/// A linear layer that an adapter can be put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Path as in the Hugging Face model, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Output width.
    pub n: usize,
    /// Input width.
    pub k: usize,
    pub(crate) layer: usize,
    pub(crate) slot: usize,
    /// Parts of the slot that are this module's outputs.
    pub(crate) parts: Range<usize>,
}

/// Returns what follows the last dot of a module path.
pub fn last_component(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// One slot before its weights are loaded: input width, and each module with the rows of its parts.
pub struct SlotPlan {
    /// Input width.
    pub k: usize,
    /// Whether its modules add a bias.
    pub bias: bool,
    /// Path of each module, with the rows of its parts.
    pub modules: Vec<(String, Vec<usize>)>,
}

/// Lists the slots of a layer in slot order.
pub fn slot_plans(config: &DecoderConfig, layer: usize) -> Vec<SlotPlan> {
    let base = format!("model.layers.{layer}");
    let (d, q, kv) = (config.d_model, config.q_width(), config.kv_width());
    let attention = |name: &str, parts: &[usize]| (format!("{base}.self_attn.{name}"), parts.to_vec());
    let qkv = if config.fused_projections {
        vec![attention("qkv_proj", &[q, kv, kv])]
    } else {
        vec![
            attention("q_proj", &[q]),
            attention("k_proj", &[kv]),
            attention("v_proj", &[kv]),
        ]
    };
    let mut plans = vec![
        SlotPlan {
            k: d,
            bias: config.qkv_bias,
            modules: qkv,
        },
        SlotPlan {
            k: q,
            bias: config.o_bias,
            modules: vec![attention("o_proj", &[d])],
        },
    ];
    match config.experts {
        None => plans.extend(feed_forward(
            config,
            &format!("{base}.mlp"),
            ["gate_proj", "up_proj", "down_proj"],
        )),
        Some(experts) => {
            for expert in 0..experts.count {
                let place = format!("{base}.block_sparse_moe.experts.{expert}");
                plans.extend(feed_forward(config, &place, ["w1", "w3", "w2"]));
            }
        }
    }
    plans
}

/// The two slots of one gated feed-forward part, whose gate, up and down projections have the given names.
fn feed_forward(config: &DecoderConfig, place: &str, [gate, up, down]: [&str; 3]) -> [SlotPlan; 2] {
    let (d, ff) = (config.d_model, config.d_ff);
    let joined = if config.fused_projections {
        vec![(format!("{place}.gate_up_proj"), vec![ff, ff])]
    } else {
        vec![
            (format!("{place}.{gate}"), vec![ff]),
            (format!("{place}.{up}"), vec![ff]),
        ]
    };
    [
        SlotPlan {
            k: d,
            bias: config.mlp_bias,
            modules: joined,
        },
        SlotPlan {
            k: ff,
            bias: config.mlp_bias,
            modules: vec![(format!("{place}.{down}"), vec![d])],
        },
    ]
}

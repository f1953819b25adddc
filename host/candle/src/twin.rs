//! The decoder once more, slow and obvious: plain candle ops with candle's own gradients, on any device.
//!
//! It judges the fast path in tests and is the precision path for CUDA. One sequence at a time, no packing, no cache, no chunks.
//!
//! Invariants: only ops whose backward candle computes (its fused softmax, norm and rotary ops return none, silently; the
//! softmax of candle-nn that stands here is made of plain ones); frozen products are a custom op that captures the weight,
//! so the weight gets no gradient and costs no product for one.

mod frozen;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{log_softmax, softmax};
use dlm_model::adapter::{AdaptedModule, Adapter};
use dlm_model::config::{Activation, DecoderConfig, LayerRope, NormPlacement, QkNorm};
use dlm_model::layout::{OUT, QKV, SequenceAngles, down, gate_up, slot_plans};
use dlm_model::weights::{WeightError, WeightSource};
use frozen::frozen_linear;

/// Added to the scores of rows that are not seen.
const UNSEEN: f32 = -1e30;

/// A twin that cannot be made or run.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    #[error(transparent)]
    Weight(#[from] WeightError),
    #[error("decode tensor `{name}`: {cause}")]
    Decode { name: String, cause: String },
    #[error("run candle: {0}")]
    Candle(#[from] candle_core::Error),
    #[error("a sequence of {0} tokens has no next token to predict")]
    Short(usize),
}

/// A module: path, weight `[n, k]` and bias.
struct Linear {
    path: String,
    weight: Tensor,
    bias: Option<Tensor>,
}

struct TwinLayer {
    /// Per slot, its modules.
    slots: Vec<Vec<Linear>>,
    router: Option<Tensor>,
    before_attention: Option<Tensor>,
    after_attention: Option<Tensor>,
    before_mlp: Option<Tensor>,
    after_mlp: Option<Tensor>,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
}

/// The decoder in candle ops.
pub struct Twin {
    config: DecoderConfig,
    device: Device,
    embed: Tensor,
    head: Tensor,
    final_norm: Tensor,
    layers: Vec<TwinLayer>,
}

/// The tensors of an adapter as candle variables.
pub struct TwinAdapter<'a> {
    adapter: &'a Adapter,
    /// Per module: `A`, `B`, magnitude.
    vars: Vec<(Var, Var, Option<Var>)>,
}

impl<'a> TwinAdapter<'a> {
    /// Copies an adapter to a device.
    ///
    /// **Errors:** a device that is out of memory.
    pub fn new(adapter: &'a Adapter, device: &Device) -> Result<TwinAdapter<'a>, TwinError> {
        let r = adapter.spec.r;
        let var = |range: &std::ops::Range<usize>, shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(&adapter.params[range.clone()], shape, device)?)
        };
        let mut vars = Vec::new();
        for module in &adapter.modules {
            let (n, k) = (module.b.len() / r, module.a.len() / r);
            let magnitude = module.magnitude.as_ref().map(|range| var(range, &[n])).transpose()?;
            vars.push((var(&module.a, &[r, k])?, var(&module.b, &[n, r])?, magnitude));
        }
        Ok(TwinAdapter { adapter, vars })
    }

    /// Returns every variable, in the order of the adapter's tensors.
    pub fn vars(&self) -> Vec<Var> {
        let all = self.vars.iter();
        all.flat_map(|(a, b, magnitude)| [a.clone(), b.clone()].into_iter().chain(magnitude.clone()))
            .collect()
    }

    /// Returns the variables' values in the layout of the adapter's parameters.
    ///
    /// **Errors:** what candle says.
    pub fn params(&self) -> Result<Vec<f32>, TwinError> {
        let mut params = vec![0.0; self.adapter.params.len()];
        for (module, (a, b, magnitude)) in self.adapter.modules.iter().zip(&self.vars) {
            let mut put = |range: &std::ops::Range<usize>, var: &Var| -> Result<(), TwinError> {
                params[range.clone()].copy_from_slice(&var.flatten_all()?.to_vec1::<f32>()?);
                Ok(())
            };
            put(&module.a, a)?;
            put(&module.b, b)?;
            if let (Some(range), Some(magnitude)) = (&module.magnitude, magnitude) {
                put(range, magnitude)?;
            }
        }
        Ok(params)
    }

    fn find(&self, path: &str) -> Option<&(Var, Var, Option<Var>)> {
        let index = self
            .adapter
            .modules
            .iter()
            .position(|module: &AdaptedModule| module.path == path)?;
        Some(&self.vars[index])
    }
}

impl Twin {
    /// Loads every weight as `f32`.
    ///
    /// **Errors:** a missing or undecodable tensor, a device that is out of memory.
    pub fn load(config: &DecoderConfig, source: &dyn WeightSource, device: &Device) -> Result<Twin, TwinError> {
        let get = |name: &str| dense(source, name, device);
        let norm = |name: &str| -> Result<Tensor, TwinError> {
            let weight = get(name)?;
            Ok(if config.norm_plus_one { (weight + 1.0)? } else { weight })
        };
        let embed = get("model.embed_tokens.weight")?;
        let head = if config.tied {
            embed.clone()
        } else {
            get("lm_head.weight")?
        };
        let mut layers = Vec::new();
        for index in 0..config.n_layers {
            let base = format!("model.layers.{index}");
            let optional =
                |wanted: bool, name: &str| wanted.then(|| norm(&format!("{base}.{name}.weight"))).transpose();
            let place = config.norm_placement;
            let (pre, post) = (place != NormPlacement::Post, place != NormPlacement::Pre);
            let before_mlp = if place == NormPlacement::Both {
                "pre_feedforward_layernorm"
            } else {
                "post_attention_layernorm"
            };
            let mut slots = Vec::new();
            for plan in slot_plans(config, index) {
                let mut modules = Vec::new();
                for (path, _) in plan.modules {
                    modules.push(Linear {
                        weight: get(&format!("{path}.weight"))?,
                        bias: plan.bias.then(|| get(&format!("{path}.bias"))).transpose()?,
                        path,
                    });
                }
                slots.push(modules);
            }
            let router = format!("{base}.block_sparse_moe.gate.weight");
            layers.push(TwinLayer {
                slots,
                router: config.experts.map(|_| get(&router)).transpose()?,
                before_attention: optional(pre, "input_layernorm")?,
                after_attention: optional(post, "post_attention_layernorm")?,
                before_mlp: optional(pre, before_mlp)?,
                after_mlp: optional(post, "post_feedforward_layernorm")?,
                q_norm: optional(config.qk_norm != QkNorm::None, "self_attn.q_norm")?,
                k_norm: optional(config.qk_norm != QkNorm::None, "self_attn.k_norm")?,
            });
        }
        Ok(Twin {
            final_norm: norm("model.norm.weight")?,
            config: config.clone(),
            device: device.clone(),
            embed,
            head,
            layers,
        })
    }

    /// Returns the logits of one sequence: `[tokens, vocab]`.
    ///
    /// **Errors:** what candle says.
    pub fn logits(&self, adapter: Option<&TwinAdapter<'_>>, tokens: &[u32]) -> Result<Tensor, TwinError> {
        let ids = Tensor::new(tokens, &self.device)?;
        let mut x = (self.embed.index_select(&ids, 0)? * f64::from(self.config.embed_scale))?;
        let angles = SequenceAngles::new(&self.config, tokens.len());
        for index in 0..self.layers.len() {
            let turns = self.turns(&angles, self.config.layers[index].rope, tokens.len())?;
            x = self.block(adapter, index, &x, turns.as_ref())?;
        }
        let x = self.norm(&x, Some(&self.final_norm))?;
        let logits = frozen_linear(&x, &self.head)?;
        self.cap(logits, self.config.final_softcap)
    }

    /// Returns the sum of `-log p(next token)` over a sequence and the number of its terms.
    ///
    /// **Errors:** a sequence of less than two tokens, what candle says.
    pub fn loss_sum(&self, adapter: Option<&TwinAdapter<'_>>, tokens: &[u32]) -> Result<(Tensor, usize), TwinError> {
        let count = tokens.len().saturating_sub(1);
        if count == 0 {
            return Err(TwinError::Short(tokens.len()));
        }
        let logits = self.logits(adapter, tokens)?.narrow(0, 0, count)?;
        let next = Tensor::new(&tokens[1..], &self.device)?.unsqueeze(1)?;
        let chosen = log_softmax(&logits, D::Minus1)?.gather(&next, D::Minus1)?;
        Ok((chosen.sum_all()?.neg()?, count))
    }

    /// Returns the mean loss over the targets of all sequences, and its gradients in the layout of the adapter's
    /// parameters.
    ///
    /// **Errors:** as [`Twin::loss_sum`].
    pub fn loss_and_gradients(&self, adapter: &Adapter, rows: &[Vec<u32>]) -> Result<(f64, Vec<f32>), TwinError> {
        let twin = TwinAdapter::new(adapter, &self.device)?;
        let count: usize = rows.iter().map(|row| row.len().saturating_sub(1)).sum();
        let mut gradients = vec![0.0; adapter.params.len()];
        let mut loss = 0.0;
        for row in rows {
            let sum = (self.loss_sum(Some(&twin), row)?.0 * (1.0 / count as f64))?;
            loss += f64::from(sum.to_scalar::<f32>()?);
            let store = sum.backward()?;
            for (module, (a, b, magnitude)) in adapter.modules.iter().zip(&twin.vars) {
                let places = [(Some(a), Some(&module.a)), (Some(b), Some(&module.b))];
                for (var, range) in places
                    .into_iter()
                    .chain([(magnitude.as_ref(), module.magnitude.as_ref())])
                {
                    let (Some(var), Some(range)) = (var, range) else {
                        continue;
                    };
                    // An expert that no row chose is still computed here, so every variable has a gradient.
                    if let Some(gradient) = store.get(var.as_tensor()) {
                        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
                        gradients[range.clone()]
                            .iter_mut()
                            .zip(values)
                            .for_each(|(sum, g)| *sum += g);
                    }
                }
            }
        }
        Ok((loss, gradients))
    }

    /// Cosines and sines of a layer, `[1, tokens, half]` each, where it is rotated.
    fn turns(
        &self,
        angles: &SequenceAngles,
        rope: LayerRope,
        tokens: usize,
    ) -> Result<Option<(Tensor, Tensor)>, TwinError> {
        let Some((cos, sin)) = angles.of(rope) else {
            return Ok(None);
        };
        let table =
            |values: &[f32]| Tensor::from_slice(values, (1, tokens, values.len() / tokens.max(1)), &self.device);
        Ok(Some((table(cos)?, table(sin)?)))
    }

    fn norm(&self, x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor, TwinError> {
        let Some(weight) = weight else {
            return Ok(x.clone());
        };
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        let inverse = (mean + f64::from(self.config.norm_eps))?.sqrt()?.recip()?;
        Ok(x.broadcast_mul(&inverse)?.broadcast_mul(weight)?)
    }

    fn cap(&self, x: Tensor, cap: Option<f32>) -> Result<Tensor, TwinError> {
        match cap {
            None => Ok(x),
            Some(cap) => Ok(((x / f64::from(cap))?.tanh()? * f64::from(cap))?),
        }
    }

    fn linear(&self, adapter: Option<&TwinAdapter<'_>>, module: &Linear, x: &Tensor) -> Result<Tensor, TwinError> {
        let mut y = frozen_linear(x, &module.weight)?;
        if let Some(adapter) = adapter
            && let Some((a, b, magnitude)) = adapter.find(&module.path)
        {
            let scale = f64::from(adapter.adapter.spec.scale());
            let low_rank = x.matmul(&a.t()?)?.matmul(&b.t()?)?;
            y = (y + (low_rank * scale)?)?;
            if let Some(magnitude) = magnitude {
                let merged = (&module.weight + (b.matmul(a)? * scale)?)?.detach();
                let norms = merged.sqr()?.sum(1)?.sqrt()?;
                y = y.broadcast_mul(&(magnitude.as_tensor() / norms)?)?;
            }
        }
        match &module.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    /// The outputs of a slot, cut into parts of the given widths.
    fn slot(
        &self,
        adapter: Option<&TwinAdapter<'_>>,
        modules: &[Linear],
        x: &Tensor,
        widths: &[usize],
    ) -> Result<Vec<Tensor>, TwinError> {
        let outputs: Vec<Tensor> = modules
            .iter()
            .map(|module| self.linear(adapter, module, x))
            .collect::<Result<_, _>>()?;
        let all = Tensor::cat(&outputs, 1)?;
        let mut start = 0;
        let mut parts = Vec::new();
        for &width in widths {
            parts.push(all.narrow(1, start, width)?);
            start += width;
        }
        Ok(parts)
    }

    fn block(
        &self,
        adapter: Option<&TwinAdapter<'_>>,
        index: usize,
        x: &Tensor,
        angles: Option<&(Tensor, Tensor)>,
    ) -> Result<Tensor, TwinError> {
        let layer = &self.layers[index];
        let input = self.norm(x, layer.before_attention.as_ref())?;
        let attention = self.attention(adapter, index, &input, angles)?;
        let x = (x + self.norm(&attention, layer.after_attention.as_ref())?)?;
        let input = self.norm(&x, layer.before_mlp.as_ref())?;
        let mlp = match &layer.router {
            None => self.gated(adapter, index, 0, &input)?,
            Some(router) => self.experts(adapter, index, router, &input)?,
        };
        Ok((x + self.norm(&mlp, layer.after_mlp.as_ref())?)?)
    }

    fn heads(&self, x: &Tensor, count: usize) -> Result<Tensor, TwinError> {
        let len = x.dim(0)?;
        Ok(x.reshape((len, count, self.config.head_dim))?
            .transpose(0, 1)?
            .contiguous()?)
    }

    fn attention(
        &self,
        adapter: Option<&TwinAdapter<'_>>,
        index: usize,
        x: &Tensor,
        angles: Option<&(Tensor, Tensor)>,
    ) -> Result<Tensor, TwinError> {
        let (config, layer, kind) = (&self.config, &self.layers[index], self.config.layers[index]);
        let widths = [config.q_width(), config.kv_width(), config.kv_width()];
        let parts = self.slot(adapter, &layer.slots[QKV], x, &widths)?;
        let normed = |x: &Tensor, weight: &Option<Tensor>, count: usize| match config.qk_norm {
            QkNorm::Whole => self.heads(&self.norm(x, weight.as_ref())?, count),
            _ => self.norm(&self.heads(x, count)?, weight.as_ref()),
        };
        let mut q = normed(&parts[0], &layer.q_norm, config.n_heads)?;
        let mut k = normed(&parts[1], &layer.k_norm, config.n_kv_heads)?;
        let v = self.heads(&parts[2], config.n_kv_heads)?;
        if let Some((cos, sin)) = angles {
            q = turn(&q, cos, sin)?;
            k = turn(&k, cos, sin)?;
        }
        let len = x.dim(0)?;
        let repeat = |x: Tensor| -> Result<Tensor, TwinError> {
            let groups = config.n_heads / config.n_kv_heads;
            let wide = x.unsqueeze(1)?.repeat((1, groups, 1, 1))?;
            Ok(wide.reshape((config.n_heads, len, config.head_dim))?)
        };
        let (k, v) = (repeat(k)?, repeat(v)?);
        let scores = (q.matmul(&k.t()?)? * f64::from(config.attention_scale))?;
        let scores = self.cap(scores, config.attention_softcap)?;
        let weights = softmax(&scores.broadcast_add(&self.mask(len, kind.window)?)?, D::Minus1)?;
        let out = weights.matmul(&v)?.transpose(0, 1)?.reshape((len, config.q_width()))?;
        self.linear(adapter, &layer.slots[OUT][0], &out)
    }

    fn mask(&self, len: usize, window: Option<usize>) -> Result<Tensor, TwinError> {
        let values: Vec<f32> = (0..len * len)
            .map(|at| (at / len, at % len))
            .map(
                |(row, column)| match column <= row && row - column < window.unwrap_or(usize::MAX) {
                    true => 0.0,
                    false => UNSEEN,
                },
            )
            .collect();
        Ok(Tensor::from_vec(values, (1, len, len), &self.device)?)
    }

    fn gated(
        &self,
        adapter: Option<&TwinAdapter<'_>>,
        index: usize,
        expert: usize,
        x: &Tensor,
    ) -> Result<Tensor, TwinError> {
        let (layer, width) = (&self.layers[index], self.config.d_ff);
        let parts = self.slot(adapter, &layer.slots[gate_up(expert)], x, &[width, width])?;
        let gate = match self.config.activation {
            Activation::Silu => (&parts[0] / (parts[0].neg()?.exp()? + 1.0)?)?,
            Activation::GeluTanh => {
                let inner = ((&parts[0] + (parts[0].powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
                ((&parts[0] * 0.5)? * (inner.tanh()? + 1.0)?)?
            }
        };
        self.linear(adapter, &layer.slots[down(expert)][0], &(gate * &parts[1])?)
    }

    /// Every expert computes every row; rows that did not choose it get weight zero.
    fn experts(
        &self,
        adapter: Option<&TwinAdapter<'_>>,
        index: usize,
        router: &Tensor,
        x: &Tensor,
    ) -> Result<Tensor, TwinError> {
        let logits = frozen_linear(x, router)?;
        let (count, per_token) = self
            .config
            .experts
            .map_or((1, 1), |experts| (experts.count, experts.per_token));
        let mut mask = Vec::new();
        for row in logits.to_vec2::<f32>()? {
            let rank = |expert: usize| {
                let before =
                    |other: &usize| row[*other] > row[expert] || (row[*other] == row[expert] && *other < expert);
                (0..count).filter(before).count()
            };
            mask.extend((0..count).map(|expert| if rank(expert) < per_token { 0.0 } else { UNSEEN }));
        }
        let mask = Tensor::from_vec(mask, logits.shape(), &self.device)?;
        let weights = softmax(&(logits + mask)?, D::Minus1)?;
        let mut sum = x.zeros_like()?;
        for expert in 0..count {
            let part = self.gated(adapter, index, expert, x)?;
            sum = (sum + part.broadcast_mul(&weights.narrow(1, expert, 1)?)?)?;
        }
        Ok(sum)
    }
}

fn dense(source: &dyn WeightSource, name: &str, device: &Device) -> Result<Tensor, TwinError> {
    let raw = source.tensor(name)?;
    let mut values = vec![0.0; raw.shape.iter().product()];
    dlm_kernels::quant::dequantize_row(raw.dtype, &raw.bytes, &mut values).map_err(|error| TwinError::Decode {
        name: name.to_owned(),
        cause: error.to_string(),
    })?;
    Ok(Tensor::from_vec(values, raw.shape, device)?.to_dtype(DType::F32)?)
}

/// Turns the leading dimensions of every head, half against half; `x` is `[heads, len, head_dim]`.
fn turn(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, TwinError> {
    let half = cos.dim(2)?;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let low = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let high = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    let rest = x.narrow(2, 2 * half, x.dim(2)? - 2 * half)?;
    Ok(Tensor::cat(&[low, high, rest], 2)?)
}

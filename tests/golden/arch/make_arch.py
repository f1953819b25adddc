"""A tiny random model of one architecture, and what transformers computes from it.

    python make_arch.py NAME            # draws the weights of CASES[NAME] and writes the directory NAME
    python make_arch.py --check NAME    # computes everything again from the files of NAME and says how far it is off

Python 3.11, torch 2.15, transformers 5.23.0, peft 0.21.2; on a CPU, float32, eager attention. README.md says what the files hold.
The directories that were there before this script pass `--check`; only those in CASES can be drawn again.
"""
import argparse
import json
import platform
import shutil
from pathlib import Path

import numpy
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig

HERE = Path(__file__).resolve().parent
VOCAB, PAD, LENGTHS, LONG, NEW_TOKENS = 320, 3, (17, 11), 40, 12
# The ids of ordinary tokens; those below are special ones of the shared tokenizer.
ORDINARY = 12
GAP = 0.02
ADAMW = {"lr": 1e-2, "weight_decay": 0.0, "betas": [0.9, 0.999], "eps": 1e-8, "steps": 3}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES = {
    # Six layers would show the pattern; the seventh shows that it goes on.
    "gemma3": {
        "config": Gemma3TextConfig(
            vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=7, num_attention_heads=4,
            num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=20, sliding_window=8, max_position_embeddings=512,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
            bos_token_id=0, eos_token_id=2, pad_token_id=PAD,
        ),
        "norm": "plus one",
        # The older keys: no `layer_types`, but the pattern; one key for each base.
        "hub": {
            "sliding_window_pattern": 6,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "mistakes": {
            "one rotary base for all layers (the global one)": {"rope_parameters": {"sliding_attention": {"rope_theta": 1_000_000.0}}},
            "no scaling of the global layers": {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "scaling of all layers": {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 8.0}}},
            "no sliding window": {"sliding_window": 512},
            "window one longer": {"sliding_window": 9},
            "every layer with a window": {"layer_types": ["sliding_attention"] * 7},
            "the global layer one earlier": {"layer_types": ["full_attention" if i == 4 else "sliding_attention" for i in range(7)]},
            "scale from head_dim, not query_pre_attn_scalar": {"query_pre_attn_scalar": 32},
            "erf gelu instead of tanh gelu": {"hidden_activation": "gelu"},
        },
    },
}


def draw(model, seed, norm):
    """N(0, 0.2) for matrices, embeddings and biases; norms around what leaves a value as it is."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name:
                value.copy_(0.1 * noise if norm == "plus one" else 1 + 0.1 * noise)
            else:
                value.copy_(0.2 * noise)


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(LENGTHS), max(LENGTHS)), PAD)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(ORDINARY, VOCAB, (length,), generator=generator)
        mask[row, :length] = 1
    return ids, mask, torch.randint(ORDINARY, VOCAB, (1, LONG), generator=generator)


def add_lora(model, seed):
    lora = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=LINEAR, task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(lora.named_parameters()):
            if "lora_" in name:
                value.copy_((0.125 if "lora_A" in name else 0.05) * torch.randn(value.shape, generator=generator))
    return lora


def token_losses(logits, ids):
    logp = torch.log_softmax(logits[:, :-1], -1)
    return -logp.gather(-1, ids[:, 1:, None])[..., 0]


def batch_loss(model, ids, mask):
    losses, wanted = token_losses(model(input_ids=ids, attention_mask=mask).logits, ids), mask[:, 1:]
    return (losses * wanted).sum() / wanted.sum(), (losses * wanted).sum(-1) / wanted.sum(-1)


@torch.no_grad()
def greedy(model, prompt):
    """The most likely next token, everything computed again at each step; the smallest lead of a winner."""
    tokens, gap = list(prompt), float("inf")
    for _ in range(NEW_TOKENS):
        best = torch.topk(model(input_ids=torch.tensor([tokens])).logits[0, -1], 2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
    return tokens[len(prompt):], gap


def prompts(ids, mask, long):
    return [row[: int(kept.sum())].tolist() for row, kept in zip(ids, mask)] + [long[0].tolist()]


def trained(lora, ids, mask):
    """The losses before three AdamW steps and after the last, and the gradients of the first."""
    names = [name for name, value in lora.named_parameters() if "lora_" in name]
    params = [value for name, value in lora.named_parameters() if "lora_" in name]
    start = [value.detach().clone() for value in params]
    optimizer = torch.optim.AdamW(params, lr=ADAMW["lr"], betas=ADAMW["betas"], eps=ADAMW["eps"], weight_decay=0.0)
    losses, grads = [], {}
    for step in range(ADAMW["steps"]):
        optimizer.zero_grad()
        loss, _ = batch_loss(lora, ids, mask)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            grads = {name.replace(".default", ""): value.grad.detach().clone() for name, value in zip(names, params)}
        optimizer.step()
    with torch.no_grad():
        losses.append(batch_loss(lora, ids, mask)[0].item())
        for value, old in zip(params, start):
            value.copy_(old)
    return losses, grads


def wide(model):
    """The same model in float64, its rotary frequencies still those that float32 rounds to."""
    frequencies = {name: value.clone() for name, value in model.named_buffers() if "inv_freq" in name}
    model = model.double()
    for name, value in model.named_buffers():
        if name in frequencies:
            value.copy_(frequencies[name].double())
    return model


def numbers(folder, dtype=torch.float32):
    """Everything that follows from the files of a directory."""
    def load():
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        return wide(model) if dtype == torch.float64 else model
    stored = load_file(folder / "golden.safetensors") if (folder / "golden.safetensors").exists() else load_file(folder / "inputs.safetensors")
    ids, mask, long = (stored[key].long() for key in ("input_ids", "attention_mask", "long_input_ids"))
    model = load()
    with torch.no_grad():
        logits, long_logits = model(input_ids=ids, attention_mask=mask).logits, model(input_ids=long).logits
        loss, rows = batch_loss(model, ids, mask)
    answers = [greedy(model, prompt) for prompt in prompts(ids, mask, long)]
    lora = PeftModel.from_pretrained(load(), folder / "adapter", is_trainable=True).eval()
    if dtype == torch.float64:
        lora = lora.double()
    with torch.no_grad():
        adapter_logits, adapter_loss = lora(input_ids=ids, attention_mask=mask).logits, batch_loss(lora, ids, mask)[0].item()
    losses, grads = trained(lora, ids, mask)
    return {
        "ids": ids, "mask": mask, "long": long, "logits": logits, "long_logits": long_logits, "adapter_logits": adapter_logits,
        "nll": rows.tolist(), "loss": loss.item(), "long_nll": token_losses(long_logits, long).mean().item(),
        "greedy": answers, "adapter_loss": adapter_loss, "losses": losses, "grads": grads,
    }


def distance(one, other, mask=None):
    difference = (one.double() - other.double()).abs()
    return (difference if mask is None else difference[mask.bool()]).max().item()


def noise(one, other):
    return {
        "logits": distance(one["logits"], other["logits"], one["mask"]),
        "loss": abs(one["loss"] - other["loss"]),
        "long_logits": distance(one["long_logits"], other["long_logits"]),
        "grads": max(distance(one["grads"][name], other["grads"][name]) for name in one["grads"]),
        "grads_max_abs": max(value.abs().max().item() for value in one["grads"].values()),
        "loss_after_3_adamw": abs(one["losses"][-1] - other["losses"][-1]),
        "greedy_same": [tokens for tokens, _ in one["greedy"]] == [tokens for tokens, _ in other["greedy"]],
    }


@torch.no_grad()
def logits_of(folder, config, ids, mask, long):
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, attn_implementation="eager", dtype=torch.float32).eval()
    return model(input_ids=ids, attention_mask=mask).logits, model(input_ids=long).logits


def merged(settings, changes):
    out = dict(settings)
    for key, value in changes.items():
        out[key] = merged(settings.get(key) or {}, value) if isinstance(value, dict) else value
    return out


def mistakes(folder, case, found):
    settings = json.loads((folder / "config.json").read_text())
    for what, changes in case["mistakes"].items():
        config = AutoConfig.for_model(**merged(settings, changes))
        logits, long = logits_of(folder, config, found["ids"], found["mask"], found["long"])
        print(f"| {folder.name} | {what} | {distance(logits, found['logits'], found['mask']):.3g} | {distance(long, found['long_logits']):.3g} |")


def hub_config(folder, case):
    """The settings under the keys that published models use."""
    settings = json.loads((folder / "config.json").read_text())
    for key in ("dtype", "rope_parameters", "layer_types", "transformers_version"):
        settings.pop(key, None)
    # Published files of families with a tied head leave the setting out.
    settings.pop("tie_word_embeddings", None)
    return settings | {"torch_dtype": "float32"} | case["hub"]


def make(name):
    case, folder = CASES[name], HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(HERE / "llama" / file, folder / file)
    model = AutoModelForCausalLM.from_config(case["config"], attn_implementation="eager").float().eval()
    ids, mask, long = inputs(1)
    for seed in range(1, 200):
        draw(model, seed, case["norm"])
        if min(greedy(model, prompt)[1] for prompt in prompts(ids, mask, long)) >= GAP:
            break
    else:
        raise SystemExit("no draw leads by enough")
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    add_lora(model, 2).save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = None
    settings["target_modules"] = sorted(settings["target_modules"])
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True))
    (folder / "config.hub.json").write_text(json.dumps(hub_config(folder, case), indent=1) + "\n")
    save_file({"input_ids": ids, "attention_mask": mask, "long_input_ids": long}, folder / "inputs.safetensors")

    found, exact = numbers(folder), numbers(folder, torch.float64)
    (folder / "inputs.safetensors").unlink()
    save_file({
        "input_ids": ids, "attention_mask": mask, "long_input_ids": long, "logits": found["logits"].contiguous(),
        "long_logits": found["long_logits"].contiguous(), "adapter_logits": found["adapter_logits"].contiguous(),
    }, folder / "golden.safetensors")
    save_file({name: value.contiguous() for name, value in found["grads"].items()}, folder / "grads.safetensors")
    hub = AutoConfig.for_model(**json.loads((folder / "config.hub.json").read_text()))
    hub_logits, hub_long = logits_of(folder, hub, ids, mask, long)
    cached = [
        model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None)[0, len(prompt):].tolist()
        for prompt in prompts(ids, mask, long)
    ] if hasattr(model, "generate") else None
    golden = {
        "name": name, "architecture": json.loads((folder / "config.json").read_text())["architectures"],
        "config_class": type(case["config"]).__name__,
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0],
                     "transformers": transformers.__version__, "peft": peft.__version__, "numpy": numpy.__version__},
        "attention": "eager", "dtype": "float32",
        "input_ids": ids.tolist(), "attention_mask": mask.tolist(), "long_input_ids": long.tolist(),
        "lora": {
            "r": 4, "alpha": 8, "scale": 2.0, "targets": LINEAR, "adamw": ADAMW,
            "losses_before_each_step_and_after": found["losses"], "loss_with_adapter": found["adapter_loss"],
            "loss_after_3_adamw": found["losses"][-1], "tensors": len(found["grads"]),
            "grad_l2": sum(value.double().pow(2).sum() for value in found["grads"].values()).sqrt().item(),
        },
        "nll_per_sequence": found["nll"], "loss_token_mean": found["loss"], "long_nll": found["long_nll"],
        "logit_std": found["logits"][mask.bool()].std().item(),
        "greedy": [
            {"prompt_len": len(prompt), "tokens": tokens, "min_top2_gap": round(gap, 5), "cached_generate_agrees": tokens == other}
            for prompt, (tokens, gap), other in zip(prompts(ids, mask, long), found["greedy"], cached)
        ],
        "max_abs_diff_config_hub": max(distance(hub_logits, found["logits"], mask), distance(hub_long, found["long_logits"])),
        "max_abs_diff_sdpa_long_logits": None, "min_router_gap_2nd_3rd": None,
        "max_abs_diff_f32_vs_f64": noise(found, exact),
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(json.dumps({key: golden[key] for key in ("loss_token_mean", "logit_std", "max_abs_diff_config_hub", "max_abs_diff_f32_vs_f64")}, indent=1))
    mistakes(folder, case, found)


def check(name):
    folder = HERE / name
    found, golden = numbers(folder), json.loads((folder / "golden.json").read_text())
    stored, grads = load_file(folder / "golden.safetensors"), load_file(folder / "grads.safetensors")
    off = {
        "logits": distance(found["logits"], stored["logits"], found["mask"]),
        "long_logits": distance(found["long_logits"], stored["long_logits"]),
        "adapter_logits": distance(found["adapter_logits"], stored["adapter_logits"], found["mask"]),
        "grads": max(distance(found["grads"][name], grads[name]) for name in grads),
        "loss": abs(found["loss"] - golden["loss_token_mean"]),
        "losses": max(abs(a - b) for a, b in zip(found["losses"], golden["lora"]["losses_before_each_step_and_after"])),
        "greedy": [tokens for tokens, _ in found["greedy"]][: len(golden["greedy"])] == [row["tokens"] for row in golden["greedy"]][:3],
    }
    print(name, json.dumps(off))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--check", action="store_true")
parser.add_argument("names", nargs="+")
arguments = parser.parse_args()
torch.set_grad_enabled(True)
for name in arguments.names:
    check(name) if arguments.check else make(name)

"""Adapters that use the less common settings of PEFT, on the tiny Llama of ../arch, and what PEFT computes with them.

    python make_adapters.py            # draws every adapter of CASES and writes its directory
    python make_adapters.py --check    # computes everything again from the files and says how far it is off

Python 3.11, torch 2.15, transformers 5.23.0, peft 0.21.2; on a CPU, float32, eager attention. README.md says what the files hold.
"""
import argparse
import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
BASE = HERE.parent / "arch" / "llama"
ROW, NEW_TOKENS, GAP = 17, 12, 0.02

CASES = {
    "rslora": dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"]),
    "patterns": dict(
        r=4, lora_alpha=8, target_modules=r".*\.(q_proj|v_proj|down_proj)",
        rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.down_proj": 7},
        alpha_pattern={r"^model\.layers\.0\.self_attn\.v_proj": 20, "q_proj": 3},
    ),
    "patterns_rslora_dora": dict(
        r=3, lora_alpha=5, use_rslora=True, use_dora=True, target_modules="all-linear", exclude_modules=["k_proj"],
        rank_pattern={r"(gate|up)_proj": 6}, alpha_pattern={r"layers\.1\..*": 2.5},
    ),
    "layers": dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], layers_to_transform=[1], layers_pattern="layers"),
    "lookahead": dict(r=4, lora_alpha=8, target_modules=r"model\.layers\.(?!1\.).*_proj", init_lora_weights="gaussian"),
}


def base():
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager").eval()


def answers(model, ids):
    """Logits of the row, and what is said greedily after it with the smallest lead of the winner."""
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
        tokens, gap, row = [], float("inf"), ids
        for _ in range(NEW_TOKENS):
            best = model(input_ids=row).logits[0, -1].topk(2)
            gap = min(gap, float(best.values[0] - best.values[1]))
            tokens.append(int(best.indices[0]))
            row = torch.cat([row, best.indices[:1].view(1, 1)], 1)
    return logits, tokens, gap


def draw(name, settings, seed):
    torch.manual_seed(seed)
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    for key, tensor in model.named_parameters():
        if "lora_B" in key:
            tensor.data.normal_(0, 0.05)
        elif "magnitude" in key:
            tensor.data *= 0.9 + 0.2 * torch.rand_like(tensor)
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    path = HERE / name / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = None
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true")
    is_check = arguments.parse_args().check
    ids = torch.tensor([json.loads((BASE / "golden.json").read_text())["input_ids"][0][:ROW]])
    golden, logits_of = {}, {}
    for name, settings in CASES.items():
        for seed in range(1, 50):
            if not is_check:
                draw(name, settings, seed)
            logits, tokens, gap = answers(PeftModel.from_pretrained(base(), HERE / name).eval(), ids)
            if is_check or gap >= GAP:
                break
        plain, _, _ = answers(base(), ids)
        golden[name] = {"tokens": tokens, "min_top2_gap": gap, "max_abs_change": float((logits - plain).abs().max())}
        logits_of[name] = logits.contiguous()
        print(name, golden[name])
    golden["input_ids"] = ids[0].tolist()
    if is_check:
        wanted, found = load_file(HERE / "golden.safetensors"), json.loads((HERE / "golden.json").read_text())
        for name in CASES:
            worst = float((wanted[name] - logits_of[name]).abs().max())
            print(name, "worst logit", worst, "tokens", found[name]["tokens"] == golden[name]["tokens"])
        return
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    save_file(logits_of, HERE / "golden.safetensors")


main()

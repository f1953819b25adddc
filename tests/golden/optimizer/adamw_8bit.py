"""Makes adamw_8bit.safetensors and adamw_8bit.json: four steps of bitsandbytes' AdamW8bit on a CPU.

    python -m venv venv && venv/bin/pip install torch==2.15.0 bitsandbytes==0.50.2 safetensors numpy
    venv/bin/python adamw_8bit.py
"""

import json
from pathlib import Path

import bitsandbytes
import torch
from bitsandbytes import functional
from bitsandbytes.optim import AdamW8bit
from safetensors.torch import save_file

# Sixteen whole blocks and one of 37: bitsandbytes keeps less than 4096 values in 32 bits.
LEN = 16 * 256 + 37
STEPS = 4
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}


def gradients(generator: torch.Generator) -> torch.Tensor:
    """Normal values, each block at a scale of its own, one block without any."""
    values = torch.randn(LEN, generator=generator)
    scales = 10.0 ** torch.linspace(-6, 2, 17).repeat_interleave(256)[:LEN]
    values *= scales
    values[512:768] = 0.0
    return values


def main() -> None:
    generator = torch.Generator().manual_seed(11)
    parameter = torch.nn.Parameter(torch.randn(LEN, generator=generator))
    tensors = {
        "signed": functional.create_dynamic_map(signed=True),
        "unsigned": functional.create_dynamic_map(signed=False),
        "params.0": parameter.detach().clone(),
    }
    optimizer = AdamW8bit([parameter], **SETTINGS)
    for step in range(1, STEPS + 1):
        parameter.grad = gradients(generator)
        tensors[f"grads.{step}"] = parameter.grad.clone()
        optimizer.step()
        state = optimizer.state[parameter]
        tensors[f"params.{step}"] = parameter.detach().clone()
        for name, key in [("m", "1"), ("v", "2")]:
            tensors[f"{name}.codes.{step}"] = state[f"state{key}"].flatten().clone()
            tensors[f"{name}.scales.{step}"] = state[f"absmax{key}"].clone()
    here = Path(__file__).parent
    save_file(tensors, here / "adamw_8bit.safetensors")
    facts = {
        "len": LEN,
        "steps": STEPS,
        **SETTINGS,
        "bitsandbytes": bitsandbytes.__version__,
        "torch": torch.__version__,
    }
    (here / "adamw_8bit.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""One LoRA training step in PyTorch + PEFT on the CPU, as the peer of `cargo xtask bench`.

Reads a JSON job on standard input: {"gguf": path, "threads": n, "dtype": "float32"|"bfloat16", "steps": n,
"rows": [[token ids]], "answers": [[first, end]]}; instead of "gguf" a "directory" of safetensors, which with "four_bits" is
quantized to NF4 with double quantization (bitsandbytes), as QLoRA has it. Every step trains all rows as one right-padded batch with loss on the
answer span. Prints {"ms": [per step], "peak_mib": x}.
"""

import json
import os
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

job = json.load(sys.stdin)
torch.set_num_threads(job["threads"])
torch.manual_seed(0)
dtype = getattr(torch, job["dtype"])
if "directory" in job:
    how = {}
    if job.get("four_bits"):
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(job["directory"], dtype=dtype, **how)
else:
    folder, name = os.path.split(job["gguf"])
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=dtype)
config = LoraConfig(r=8, lora_alpha=16, target_modules=job["targets"], task_type="CAUSAL_LM")
model = get_peft_model(model, config)
model.train()
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
longest = max(len(row) for row in job["rows"])
ids = torch.zeros(len(job["rows"]), longest, dtype=torch.long)
mask = torch.zeros_like(ids)
labels = torch.full_like(ids, -100)
for i, (row, (first, end)) in enumerate(zip(job["rows"], job["answers"])):
    ids[i, : len(row)] = torch.tensor(row)
    mask[i, : len(row)] = 1
    labels[i, first:end] = torch.tensor(row[first:end])
times = []
for _ in range(job["steps"]):
    start = time.perf_counter()
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    times.append((time.perf_counter() - start) * 1000)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"ms": times, "peak_mib": peak, "loss": loss.item()}))

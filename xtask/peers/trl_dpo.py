"""DPO steps of TRL's trainer on the CPU, as the peer of `cargo xtask bench preferences`.

Reads a JSON job on standard input: {"gguf": path, "threads": n, "steps": n, "pairs_per_step": n, "beta": x, "lr": x, "r": n,
"alpha": n, "targets": [names], "pairs": [{"prompt": text, "chosen": text, "rejected": text}]}; the texts are rendered already.
The reference is the base, the adapter switched off. Prints {"ms": [per step], "peak_mib": x, "losses": [per step]}.
"""

import json
import os
import resource
import sys
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

job = json.load(sys.stdin)
torch.set_num_threads(job["threads"])
folder, name = os.path.split(job["gguf"])
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
# The weights are dequantized already; the trainer refuses a model that says it is quantized.
model.hf_quantizer, model.quantization_method, model.is_quantized = None, None, False
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
times, losses = [], []


class Watch(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        times.append((time.perf_counter() - self.start) * 1000)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}):
            losses.append(logs["loss"])


with tempfile.TemporaryDirectory() as directory:
    arguments = DPOConfig(
        output_dir=directory,
        per_device_train_batch_size=job["pairs_per_step"],
        max_steps=job["steps"],
        learning_rate=job["lr"],
        lr_scheduler_type="linear",
        warmup_steps=0,
        beta=job["beta"],
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=0,
    )
    config = LoraConfig(
        r=job["r"], lora_alpha=job["alpha"], target_modules=job["targets"], lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    trainer = DPOTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(job["pairs"]),
        processing_class=tokenizer,
        peft_config=config,
        callbacks=[Watch()],
    )
    trainer.train()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"ms": times, "peak_mib": peak, "losses": losses}))

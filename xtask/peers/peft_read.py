"""Loads adapters with PEFT and says what they make of some rows.

Jobs come on stdin: a list of `{"base", "adapter", "rows", "tokens"}`, rows of token ids. Answers with a list a job, of a
`{"logits", "tokens"}` a row: the logits at every position, and so many greedy tokens after the row.
"""

import json
import logging
import sys
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging as told

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
told.disable_progress_bar()


def read(model, row, tokens):
    ids = torch.tensor([row])
    logits = model(input_ids=ids).logits[0]
    said = []
    for _ in range(tokens):
        # All is computed again for each token, so that no cache is a part of the comparison.
        token = int(model(input_ids=ids).logits[0, -1].argmax())
        said.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return {"logits": logits.tolist(), "tokens": said}


def answer(job):
    base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32, attn_implementation="eager")
    # A tensor that PEFT does not know, or one that it misses, is no warning here.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(base, job["adapter"]).eval()
    with torch.no_grad():
        return [read(model, row, job["tokens"]) for row in job["rows"]]


torch.set_num_threads(2)
print(json.dumps([answer(job) for job in json.load(sys.stdin)]))

---
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
base_model: smollm2-135m
dlm_version: 1
training:
  dpo: {beta: 0.3, reference: pre_dpo_adapter}
  adapters: {a: &x {lora_r: 4}, b: {<<: *x}}
---
::image path="a.png" alt="b"::
caption
::audio path="a.wav" transcript="t"::

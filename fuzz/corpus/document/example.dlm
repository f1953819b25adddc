---
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
base_model: smollm2-135m
training:
  lora_r: 8
---

# Notes

Alpha.

::instruction::
### Q
One?

### A
Uno.

::preference#tone::
### Prompt
p
### Chosen
c
### Rejected
r

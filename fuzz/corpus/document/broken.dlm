---
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
base_model: smollm2-135m
lora: 1
---
::note::
::prose#A::
```

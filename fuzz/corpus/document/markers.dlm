---
dlm_id: 01HZ4X7TGZM3J1A2B3C4D5E6F7
base_model: smollm2-135m
system_prompt: |
  a

  b
---


::instruction::
<!-- dlm-auto-harvest: source="x" -->
<!-- dlm-auto-synth: synth_teacher="t" synth_strategy="s" synth_at="2026-01-31" source_section_id="0123456789abcdef" -->
### Q !probe
a
```
::prose::
```
### A
b

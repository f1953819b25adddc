#!/bin/sh
# Builds rubric.wasm: needs Python and `pip install componentize-py==0.25.1` (any later one should do).
set -eu
cd "$(dirname "$0")"
WIT="${DLM_WIT:-../../../wit}"
componentize-py --wit-path "$WIT" --world judge-plugin componentize --stub-wasi app --output component.wasm
dlm plugin pack . --wasm component.wasm --out rubric.wasm

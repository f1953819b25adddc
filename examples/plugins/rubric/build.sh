#!/bin/sh
# Builds rubric.wasm: needs Python 3.10 or newer and `pip install componentize-py==0.25.1`.
set -eu
cd "$(dirname "$0")"
WIT="${DLM_WIT:-../../../wit}"
mkdir -p build
componentize-py --wit-path "$WIT" --world judge-plugin componentize --stub-wasi app --output build/component.wasm
dlm plugin pack . --wasm build/component.wasm --out rubric.wasm

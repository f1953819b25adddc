#!/bin/sh
# Builds starters.wasm: needs Node and, once, `npm install` (jco, which brings the interpreter).
set -eu
cd "$(dirname "$0")"
PATH="$PWD/node_modules/.bin:$PATH"
mkdir -p build
jco componentize starters.js --wit "${DLM_WIT:-../../../wit}" --world-name template-plugin \
    --backend quickjs --backend-qjs-stub-wasi --backend-qjs-disable-async --out build/component.wasm
dlm plugin pack . --wasm build/component.wasm --out starters.wasm

#!/bin/sh
# Builds starters.wasm: needs Node and `npm install` (jco and componentize-js).
set -eu
cd "$(dirname "$0")"
PATH="$PWD/node_modules/.bin:$PATH"
jco componentize starters.js --wit "${DLM_WIT:-../../../wit}" --world-name template-plugin \
    --backend quickjs --backend-qjs-stub-wasi --backend-qjs-disable-async --out component.wasm
dlm plugin pack . --wasm component.wasm --out starters.wasm

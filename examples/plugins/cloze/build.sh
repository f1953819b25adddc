#!/bin/sh
# Builds cloze.wasm. Needs clang with a wasm target, wasi-libc and wasm-tools; on Debian:
#   apt-get install clang-19 lld-19 wasi-libc && cargo install wasm-tools
set -eu
cd "$(dirname "$0")"
mkdir -p build
# A library without a start function. What of the C library is used (malloc, memcpy) needs no WASI, so the component has
# no import at all.
"${CLANG:-clang-19}" --target=wasm32-wasi --sysroot="${WASI_SYSROOT:-/usr}" -Os -Wall -Wextra -mexec-model=reactor \
    -nostartfiles -nodefaultlibs teacher.c pairs.c -lc -Wl,--no-entry -Wl,--strip-all -o build/cloze.core.wasm
# Says which world the exports belong to; packing makes it a component with its manifest inside.
wasm-tools component embed "${DLM_WIT:-../../../wit}" --world teacher-plugin build/cloze.core.wasm --output build/cloze.wasm
dlm plugin pack . --wasm build/cloze.wasm --out cloze.wasm

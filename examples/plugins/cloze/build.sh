#!/bin/sh
# Builds cloze.wasm. Needs clang with a wasm target and wasi-libc; on Debian: apt-get install clang-19 lld-19 wasi-libc
set -eu
cd "$(dirname "$0")"
mkdir -p build
# A library without a start function. What of the C library is used (malloc, memcpy) needs no WASI, so the component has
# no import at all.
"${CLANG:-clang-19}" --target=wasm32-wasi --sysroot="${WASI_SYSROOT:-/usr}" -Os -Wall -Wextra -mexec-model=reactor \
    -nostartfiles -nodefaultlibs teacher.c pairs.c -lc -Wl,--no-entry -Wl,--strip-debug -o build/cloze.core.wasm
# The module does not say for which world it is built: packing gives it the world of the kind in plugin.toml.
dlm plugin pack . --wasm build/cloze.core.wasm --out cloze.wasm

#!/bin/sh
# Builds compose.wasm: needs `rustup target add wasm32-unknown-unknown`. Without that target, on Debian:
#   apt-get install rustc-web cargo-web rust-web-src lld-19
set -eu
cd "$(dirname "$0")"
TARGET="${CARGO_TARGET_DIR:-target}"
if [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library ] && [ -x /usr/bin/wasm-ld-19 ]; then
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19 \
        /usr/bin/cargo build --quiet --release --target wasm32-unknown-unknown -Z build-std=std,panic_abort
else
    cargo build --quiet --release --target wasm32-unknown-unknown
fi
dlm plugin pack . --wasm "$TARGET/wasm32-unknown-unknown/release/compose.wasm" --out compose.wasm

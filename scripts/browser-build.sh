#!/bin/sh
# Builds examples/browser into target/browser/site: the page, its wasm, and the nano model.
# Takes a Rust toolchain with the wasm32-unknown-unknown target where there is one (`rustup target add
# wasm32-unknown-unknown`); else rustc-web of Debian 12 or newer, whose standard library is then built from source.
set -eu
cd "$(dirname "$0")/.."
out=$PWD/target/browser
target=wasm32-unknown-unknown
mkdir -p "$out/bin" "$out/site"

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    cargo build --release --locked --target "$target" \
        --manifest-path examples/browser/Cargo.toml --target-dir "$out/wasm"
else
    echo "browser: this Rust has no $target; run: rustup target add $target" >&2
    linker=$(ls /usr/bin/wasm-ld /usr/bin/wasm-ld-* 2>/dev/null | tail -n 1)
    if [ -z "$linker" ] || ! [ -x /usr/bin/cargo ]; then
        echo "browser: or, on Debian 12 or newer without rustup:" \
            "apt-get install rustc-web cargo-web rust-web-src libstd-rust-web-dev lld-19" >&2
        exit 2
    fi
    ln -sf "$linker" "$out/bin/wasm-ld"
    # Building std for a target without a prebuilt one is a nightly option of cargo; RUSTC_BOOTSTRAP allows it.
    PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$out/bin/wasm-ld \
        /usr/bin/cargo build --release --locked --target "$target" -Z build-std=std,panic_abort \
        --manifest-path examples/browser/Cargo.toml --target-dir "$out/wasm"
fi

cargo build --locked --manifest-path examples/browser/tool/Cargo.toml --target-dir "$out/tool"
"$out/tool/debug/wgquant-browser-tool" bind "$out/wasm/$target/release/wgquant_browser.wasm" "$out/site"
cp examples/browser/page/* "$out/site/"
cp assets/nano/config.json assets/nano/model.safetensors assets/nano/tokenizer.json assets/nano/val_ids_u16.npy "$out/site/"

# `make demo` and `make test` do all their own set-up on a fresh Debian 12, Ubuntu 22.04 or newer with make and rustup's Rust.

# Without a display, Mesa's device-select layer complains on every start.
export NODEVICE_SELECT = 1

.PHONY: demo test driver lint clean browser browser-test

# Vulkan comes from the GPU's own driver. Where there is none, Mesa's software driver serves. Nor does rustup bring a C linker.
driver:
	@sh scripts/vulkan-driver.sh

demo: driver
	cargo run --release --locked -- demo

# Optimised, with debug assertions (the dev profile). A missing GPU driver fails the tests. What may be absent is skipped and said
# (seen with --nocapture): trained models in ../shared/models, tint, spirv-val where pip cannot install it, variants and probes
# of what the adapter lacks. WGQUANT_REQUIRE_MODELS=1, WGQUANT_REQUIRE_TINT=1 and WGQUANT_REQUIRE_SPIRV_VAL=1 fail instead.
test: driver
	@sh scripts/spirv-val.sh || true
	cargo test --locked --no-fail-fast

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# The page of examples/browser, on http://localhost:8123. Needs the wasm32-unknown-unknown target; see the script.
browser:
	@sh scripts/browser-build.sh
	@./target/browser/tool/debug/wgquant-browser-tool serve target/browser/site

# The page in headless Chromium. Not part of `test`: few machines have a wasm toolchain and a Chromium.
browser-test:
	@sh scripts/browser-test.sh

clean:
	cargo clean

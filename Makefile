# `make demo` and `make test` do all their own set-up on a fresh Debian or Ubuntu with a Rust toolchain.

# Without a display, Mesa's device-select layer complains on every start.
export NODEVICE_SELECT = 1

.PHONY: demo test driver lint clean

# Vulkan comes from the GPU's own driver. Where there is none, Mesa's software driver serves.
driver:
	@sh scripts/vulkan-driver.sh

demo: driver
	cargo build --release --locked
	./target/release/wgquant demo

# Optimised, with debug assertions (the dev profile). A missing GPU driver fails the tests; nothing is skipped.
test: driver
	cargo test --locked --no-fail-fast

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

clean:
	cargo clean

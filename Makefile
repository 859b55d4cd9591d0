# GNU make. What is longer than a line is in scripts/, each of which says what it does.

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help run build plugins model test check

help:
	@echo 'make run     build, fetch the starter model, start the server (ARGS="--port 9000" adds to its command line)'
	@echo 'make test    build and run every test'
	@echo 'make check   formatting, lints, documentation'
	@echo 'make build   the binary and the plugins, in $(TARGET)/release'
	@echo 'make plugins the same, and the plugins into plugins/installed'
	@echo 'make model   the starter model into models/'

run: plugins model
	@exec $(TARGET)/release/impetus serve $(ARGS)

build:
	@scripts/need.sh build
	@scripts/build.sh

plugins: build
	@scripts/install-plugins.sh

model:
	@scripts/fetch-model.sh

test: model
	@scripts/checkpoint.sh
	@scripts/minilm.sh
	@scripts/clients.sh >/dev/null
	@scripts/need.sh build
	@scripts/build.sh --workspace --all-targets
	# One after another: llama.cpp's threads spin, and two servers on the same cores starve each other.
	RUST_TEST_THREADS=1 cargo test --release --locked --workspace
	@scripts/web.sh test

# In the release profile, whose build of llama.cpp they share with everything else.
check:
	@scripts/need.sh build
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --workspace --no-deps
	# The fuzz targets are a workspace of their own, whose lock file follows ours.
	cargo metadata --locked --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null

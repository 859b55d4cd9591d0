#!/bin/sh
# Runs the tests of the safetensors plugin's kernels as an AArch64 program under qemu, with every instance that qemu's
# processor has (NEON, with byte products, with brain floats). What is missing for it is named.
#
# The modules are compiled by themselves (checkpoint, kernels, pool): nothing else is needed for their tests, and the rest
# takes long. `scripts/neon.sh all` compiles the whole plugin and runs all of its tests.
set -eu
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
missing=
[ -d "$(rustc --print target-libdir --target $target)" ] || missing="$missing
  the standard library for AArch64: rustup target add $target"
command -v aarch64-linux-gnu-gcc >/dev/null || missing="$missing
  a C compiler and libraries for AArch64: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
[ -n "$qemu" ] || missing="$missing
  qemu: apt-get install qemu-user"
if [ -n "$missing" ]; then
    echo "to run AArch64's kernels here, install:$missing" >&2
    exit 1
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Those of this machine are for another processor.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-cpu=generic"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L /usr/aarch64-linux-gnu -cpu max"

if [ "${1:-}" = all ]; then
    exec cargo test --release --locked --target $target -p impetus-plugin-safetensors --lib
fi

root=$PWD
crate=target/neon
mkdir -p $crate/src
cp Cargo.lock $crate/
version() { sed -n "s/^$1 = //p" Cargo.toml | head -1; }
{
    echo '[package]'
    echo 'name = "neon"'
    echo 'version = "0.0.0"'
    echo 'edition = "2024"'
    echo '[workspace]'
    echo '[dependencies]'
    for name in half memmap2 safetensors serde serde_json tempfile; do echo "$name = $(version $name)"; done
    echo "impetus-plugin-api = { path = \"$root/plugin-api\" }"
} >$crate/Cargo.toml
{
    echo '#![allow(dead_code, unused_imports)]'
    for module in checkpoint kernels pool; do
        echo "#[path = \"$root/plugins/safetensors/src/$module/mod.rs\"]"
        echo "mod $module;"
    done
} >$crate/src/lib.rs
cd $crate
exec cargo test --release --target $target --lib

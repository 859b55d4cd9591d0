#!/bin/sh
# Runs every fuzz target, a minute each (or SECONDS_EACH), on a stable toolchain: rustc's own passes give the coverage that
# libFuzzer goes by. What it finds is left in fuzz/artifacts/TARGET. `scripts/fuzz.sh stops` runs one of them.
# Inputs that led somewhere new go to fuzz/found/TARGET; the committed corpus is only read.
set -eu
cd "$(dirname "$0")/../fuzz"
targets=${*:-header bodies template tools stops}
seconds=${SECONDS_EACH:-60}

# `--cfg fuzzing` opens the doors that only the targets use.
RUSTFLAGS="--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
-C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
-C llvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS
# Without an explicit target the flags would reach build scripts too, which have no libFuzzer to link with.
host=$(rustc -vV | sed -n 's/^host: //p')
for target in $targets; do
    "${CARGO:-cargo}" build --release --locked --target "$host" --bin "$target"
done
for target in $targets; do
    mkdir -p "found/$target" "artifacts/$target"
    echo "== $target, $seconds s"
    "${CARGO_TARGET_DIR:-target}/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -print_final_stats=1 -artifact_prefix="artifacts/$target/" "found/$target" "corpus/$target"
done

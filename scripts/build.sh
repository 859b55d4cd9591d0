#!/usr/bin/env bash
# Builds the host and every plugin; with arguments, what cargo makes of these instead.
set -euo pipefail
cd "$(dirname "$0")/.."
release="${CARGO_TARGET_DIR:-target}/release"

if ! compgen -G "$release/build/llama-cpp-sys-2-*/out/lib*" >/dev/null; then
    echo 'building; llama.cpp is compiled once, which takes about five minutes on two cores' >&2
fi
if [ $# = 0 ]; then
    set -- -p impetus
    for manifest in plugins/*/Cargo.toml; do
        set -- "$@" -p "$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -n1)"
    done
fi
scripts/web.sh build
exec cargo build --release --locked "$@"

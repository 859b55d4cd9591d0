#!/usr/bin/env bash
# Makes a Hugging Face checkpoint of the starter model's weights, for the tests, where it is not there yet. The Python
# packages that this takes are put beside it, not into the system.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-${CARGO_TARGET_DIR:-target}/checkpoints}"

script=tests/oracles/smollm2_checkpoint.py
shuffle=tests/oracles/shuffled_checkpoint.py
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
stamp="$folder/.made-by"
made_by=$(cat "$script" "$shuffle" | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$made_by" ]; then
    exit 0
fi
scripts/need.sh model
packages="$folder/.packages"
if [ ! -d "$packages/gguf" ]; then
    echo 'fetching the Python packages gguf and numpy with pip' >&2
    rm -rf "$packages"
    mkdir -p "$folder"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$packages.part" \
        gguf==0.19.0 numpy
    mv "$packages.part" "$packages"
fi
PYTHONPATH="$packages" python3 "$script" "$model" "$folder/SmolLM2-135M-Instruct" "$folder/SmolLM2-135M-Instruct.BF16.gguf"
# The same function with its columns in another order, as weights are that were never rounded.
PYTHONPATH="$packages" python3 "$shuffle" "$folder/SmolLM2-135M-Instruct" "$folder/SmolLM2-135M-Instruct.shuffled"
echo "$made_by" >"$stamp"

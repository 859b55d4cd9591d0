#!/usr/bin/env bash
# Puts the built plugin libraries into the plugin folder. A running server keeps the file that it has open: the new one
# takes its name in one step.
set -euo pipefail
cd "$(dirname "$0")/.."
release="${CARGO_TARGET_DIR:-target}/release"
folder="${1:-plugins/installed}"

case "$(uname -s)" in
    Darwin) ending=dylib ;;
    *) ending=so ;;
esac
mkdir -p "$folder"
for manifest in plugins/*/Cargo.toml; do
    name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -n1)
    library="lib${name//-/_}.$ending"
    if cmp -s "$release/$library" "$folder/$library"; then
        continue
    fi
    temporary="$folder/.$library.$$"
    trap 'rm -f "$temporary"' EXIT
    cp "$release/$library" "$temporary"
    chmod 755 "$temporary"
    mv -f "$temporary" "$folder/$library"
    echo "installed $folder/$library"
done

#!/usr/bin/env bash
# The web page in host/web: `web.sh build` makes the files that the binary takes in, where npm is installed, and says what
# is missing where it is not; `web.sh types` writes the API's types anew from the built server; `web.sh test` runs the
# page's tests, those in a browser against the built server included.
set -euo pipefail
cd "$(dirname "$0")/.."
page=host/web
export PATH="$PWD/$page/node_modules/.bin:$PATH"
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
release=$target/release

# Why the page cannot be built here; nothing where it can.
missing() {
    local version
    if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
        echo 'Node.js with npm is not installed'
        return
    fi
    version=$(node --version)
    if [ "$(printf '%s\n' v20.19 "$version" | sort -V | head -n1)" != v20.19 ]; then
        echo "Node.js 20.19 or newer is needed, this is $version"
    fi
}

# The packages of package-lock.json, where they are not there yet.
install() {
    local stamp=$page/node_modules/.made-by made_by
    made_by=$(cat $page/package.json $page/package-lock.json | cksum)
    if [ "$(cat $stamp 2>/dev/null)" != "$made_by" ]; then
        echo 'fetching the packages of the web page with npm' >&2
        (cd $page && npm ci --no-audit --no-fund --loglevel=error) || return
        echo "$made_by" >$stamp
    fi
}

# Says why there is no new page, and what the binary takes in then.
not_built() {
    if [ -e $page/dist/index.html ]; then
        echo "the web page is not built anew: $1; the one in $page/dist, of an older source, is taken in as it is" >&2
    else
        echo "the web page is not built: $1; the server does without it" >&2
    fi
}

build() {
    local why stamp=$page/dist/.made-by made_by
    made_by=$(cd $page && find index.html package-lock.json vite.config.ts scripts src -type f -exec cksum {} + | sort | cksum)
    if [ "$(cat $stamp 2>/dev/null)" = "$made_by" ]; then
        return
    fi
    why=$(missing)
    if [ -n "$why" ]; then
        not_built "$why"
        return
    fi
    if ! install; then
        not_built 'npm could not fetch its packages'
        return
    fi
    (cd $page && npm run --silent build >&2) || exit
    echo "$made_by" >$stamp
}

# Runs a command with the address of a server of the built binary in $IMPETUS_URL.
with_server() {
    folder=$(mktemp -d)
    mkdir "$folder/plugins" "$folder/models"
    printf '[plugins]\nfolder = "plugins"\n[server]\nport = 0\n' >"$folder/plugins.toml"
    (cd "$folder" && XDG_CACHE_HOME=$folder XDG_DATA_HOME=$folder exec "$release/impetus" serve >"$folder/out" 2>/dev/null) &
    server=$!
    trap 'kill $server 2>/dev/null || true; rm -rf "$folder"' EXIT
    for _ in $(seq 100); do
        IMPETUS_URL=$(sed -n 's/^Impetus .* listens on //p' "$folder/out" 2>/dev/null)
        [ -n "$IMPETUS_URL" ] && break
        sleep 0.1
    done
    export IMPETUS_URL
    "$@"
}

types_into() {
    (cd $page && openapi-typescript "$IMPETUS_URL/openapi.json" -o "$1" >/dev/null)
}

same_types() {
    local new
    new=$(mktemp --suffix=.ts)
    types_into "$new"
    if ! cmp -s "$new" $page/src/api/schema.ts; then
        echo "error: $page/src/api/schema.ts is not what the server's /openapi.json says: run scripts/web.sh types" >&2
        diff "$new" $page/src/api/schema.ts | head -n 20 >&2
        exit 1
    fi
    rm "$new"
}

case "${1:-}" in
build) build ;;
types)
    install
    with_server types_into src/api/schema.ts
    ;;
test)
    scripts/need.sh web
    why=$(missing)
    [ -z "$why" ] || { echo "error: the web page cannot be tested: $why" >&2; exit 1; }
    install
    with_server same_types
    (cd $page && tsc --noEmit && npm run --silent test)
    (cd $page && IMPETUS=$release node --test --test-concurrency=1 --test-reporter=spec e2e/*.test.mjs)
    ;;
*)
    echo "usage: scripts/web.sh build | types | test" >&2
    exit 2
    ;;
esac

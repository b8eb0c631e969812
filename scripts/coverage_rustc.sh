#!/usr/bin/env bash
# The compiler as scripts/fuzz.sh has cargo call it for the crates of this workspace: with the counters that libFuzzer
# follows. These are passes of LLVM's, which the stable compiler has, too; a build script has nothing to count for it.
set -euo pipefail
if [[ " $* " == *' --crate-name build_script_build '* ]]; then
    exec "$@"
fi
exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares

#!/usr/bin/env bash
# Fuzzes every parser and codec, or those that are named, each for so many seconds: scripts/fuzz.sh 60 [pth config …]
# As many run at once as there are cores. Bytes that break something stay in target/fuzz/TARGET/; put them into
# tests/fuzz/found/TARGET/, where every run begins, once they are mended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds="${1:?how many seconds for each target}"
shift
targets=("$@")
if (( ${#targets[@]} == 0 )); then
    mapfile -t targets < <(sed -nE 's/^    \("([a-z]+)", .*/\1/p' tests/fuzz/src/main.rs)
fi

RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/coverage_rustc.sh" cargo build --release --locked --package spnas-fuzz
program="${CARGO_TARGET_DIR:-target}/release/fuzz"
export LD_LIBRARY_PATH="${LIBTORCH:-$PWD/.libtorch/torch}/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# What a target begins with: real files, and what once broke it.
seeds_of() {
    case "$1" in
        config) ls configs/*.yml examples/*.yml tests/configs_bad/*.yml ;;
        pth) ls tests/reference/pth/*.pth ;;
        *) ;;
    esac
    find "tests/fuzz/seeds/$1" "tests/fuzz/found/$1" -type f 2>/dev/null || true
}

fuzz() {
    local target="$1" folder="target/fuzz/$1"
    mkdir -p "$folder/corpus"
    seeds_of "$target" | while read -r seed; do
        cp "$seed" "$folder/corpus/$(tr / _ <<<"$seed")"
    done
    # A seed that stays: what a run finds, the next one finds, too.
    if ! FUZZ_TARGET="$target" OMP_NUM_THREADS=1 "$program" "$folder/corpus" -seed=1 \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$folder/" \
        -print_final_stats=1 >"$folder/log" 2>&1; then
        echo "$target: broken, see $folder/log:" >&2
        tail -n 30 "$folder/log" >&2
        return 1
    fi
    local runs covered
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")"
    covered="$(grep -oE 'cov: [0-9]+' "$folder/log" | tail -n 1)"
    if [[ -z "$covered" || "$covered" == 'cov: 0' ]]; then
        echo "$target: the program was built without counters, see $folder/log" >&2
        return 1
    fi
    echo "$target: $runs inputs, ${covered#cov: } places reached"
}

export -f fuzz seeds_of
export program seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET bash -euo pipefail -c 'fuzz TARGET'

#!/usr/bin/env bash
# Puts libtorch into `.libtorch/`: fetched from the Python package index, pinned, checked by hash. Runs again in no time
# when nothing changed; an interrupted run leaves `.libtorch/` as it was.
#
#   SPNAS_LIBTORCH=cpu|cuda   overrides the choice; without it a machine with an NVIDIA GPU gets the CUDA libraries.
#
# A `.libtorch` that this script did not make (a link, or a folder without `.stamp`) is the user's own and is left alone.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
# shellcheck source=scripts/pip.sh
source scripts/pip.sh

has_gpu() { [[ -e /dev/nvidia0 ]] || { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }; }

needs() { command -v "$1" >/dev/null || fail "$1 is missing; $2"; }
needs cargo "install Rust 1.95 (rustup.rs)"
needs c++ "on Debian or Ubuntu: apt-get install g++"

[[ "$(uname -s)" == Linux ]] || fail "only Linux is supported; elsewhere put a libtorch 2.13 into .libtorch/torch by hand"
machine="$(uname -m)"
[[ "$machine" == x86_64 || "$machine" == aarch64 ]] || fail "no libtorch is published for $machine"

if [[ -e .libtorch && ! -e .libtorch/.stamp ]]; then
    [[ -e .libtorch/torch/lib/libtorch_cpu.so ]] ||
        fail ".libtorch exists, was not made by this script and holds no libtorch: remove it and run again"
    say "using the libtorch found in .libtorch (not made by this script, left as it is)"
    exit 0
fi

have="$(cut -d' ' -f1 .libtorch/.stamp 2>/dev/null || true)"
variant="${SPNAS_LIBTORCH:-}"
if [[ -z "$variant" ]]; then
    # The CUDA libraries serve a machine without a GPU too: never go back by ourselves.
    if has_gpu || [[ "$have" == cuda ]]; then variant=cuda; else variant=cpu; fi
fi
[[ "$variant" == cpu || "$variant" == cuda ]] || fail "SPNAS_LIBTORCH is '$variant'; it may be cpu or cuda"

requirements="scripts/libtorch-$variant.txt"
stamp="$variant $machine $(cat "$requirements" scripts/unpack_libtorch.py | sha256sum | cut -d' ' -f1)"
if [[ "$(cat .libtorch/.stamp 2>/dev/null || true)" == "$stamp" ]]; then
    say "libtorch ($variant) is in place"
    exit 0
fi

mkdir -p .cache
exec 9>.cache/setup.lock
flock 9 # two set-ups at once: the second waits, then finds the work done
if [[ "$(cat .libtorch/.stamp 2>/dev/null || true)" == "$stamp" ]]; then
    say "libtorch ($variant) is in place"
    exit 0
fi

if [[ "$variant" == cuda ]]; then size="2.5 GB to fetch, 3.6 GB on disk"; else size="0.5 GB to fetch, 0.5 GB on disk"; fi
say "fetching libtorch for $variant ($size), once"
find_pip
new="$ROOT/.libtorch.new"
old="$ROOT/.libtorch.old"
rm -rf "$new" "$old"
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/wheels"
platforms=()
for minor in $(seq 28 -1 17); do platforms+=("manylinux_2_${minor}_$machine"); done
platforms+=("manylinux2014_$machine" "manylinux2010_$machine" "manylinux1_$machine")
fetch_wheels "$requirements" "$new/wheels" "${platforms[@]}"
python3 scripts/unpack_libtorch.py "$variant" "$new/wheels" "$new"
printf '%s\n' "$stamp" >"$new/.stamp"
if [[ -e .libtorch ]]; then
    mv .libtorch "$old"
fi
mv "$new" .libtorch
if [[ -e "$old" ]]; then
    # What was built against the other set of libraries names them to the linker.
    cargo clean --quiet --package torch-sys || true
    cargo clean --quiet --package torch-sys --release || true
    rm -rf "$old"
fi
say "libtorch ($variant) is in .libtorch"

#!/usr/bin/env bash
# The C++ compiler as cargo calls it (`CXX` in .cargo/config.toml). Keeps every object file under `.cache/cxx/`, named by
# the hash of all that decides its content: compiler, arguments, preprocessed source. The dev and the release profile,
# and a build after `cargo clean`, so compile the C++ part of torch-sys once. Whatever is not a plain compilation, and
# whatever goes wrong here, goes to the compiler as it is.
#
#   SPNAS_CXX=NAME     the compiler behind it (default: c++)
set -u
compiler="${SPNAS_CXX:-c++}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cache="$root/.cache/cxx"
kept=16 # objects; the large ones of torch-sys are two, 25 and 77 MB

args=() # the arguments without `-c` and without the output's name
output=""
compiles=false
previous=""
for arg in "$@"; do
    if [[ "$previous" == -o ]]; then
        output="$arg"
    else
        case "$arg" in
            -o) ;;
            -c) compiles=true ;;
            */libtch/torch_api.cpp | libtch/torch_api.cpp)
                args+=("$arg")
                if [[ -n "${LIBTORCH:-}" && ! -d "$LIBTORCH/include" ]]; then
                    echo "error: no libtorch in $LIBTORCH: run \`make setup\` first" >&2
                    exit 1
                fi
                ;;
            *) args+=("$arg") ;;
        esac
    fi
    previous="$arg"
done

if ! $compiles || [[ -z "$output" ]] || ! mkdir -p "$cache" 2>/dev/null; then
    exec "$compiler" "$@"
fi

key="$(
    set -o pipefail
    { "$compiler" --version && printf '%s\n' "$PWD" "${args[@]}" && "$compiler" "${args[@]}" -E; } 2>/dev/null |
        sha256sum | cut -d' ' -f1
)" || exec "$compiler" "$@"

object="$cache/$key.o"
if [[ -f "$object" ]] && cp "$object" "$output" 2>/dev/null; then
    touch "$object" 2>/dev/null
    exit 0
fi

"$compiler" "$@" || exit
if fresh="$(mktemp "$cache/new.XXXXXX" 2>/dev/null)"; then
    if cp "$output" "$fresh" 2>/dev/null; then mv "$fresh" "$object"; else rm -f "$fresh"; fi
    find "$cache" -name 'new.*' -mmin +60 -delete 2>/dev/null
    find "$cache" -name '*.o' -printf '%T@ %p\n' 2>/dev/null | sort -rn | tail -n "+$((kept + 1))" | cut -d' ' -f2- |
        while IFS= read -r stale; do rm -f "$stale"; done
fi
exit 0

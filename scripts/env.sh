# Sourced by train.sh, val.sh and test.sh, which set ROOT to the checkout. POSIX sh; prints only when there is work.
#
# use_environment FILE...  sets PYTHON to an interpreter that has every pin of these requirement files and this ttrd3:
#   1. $TTRD3_PYTHON, `python` or `python3` as it is, if it satisfies them (an active virtualenv or conda environment);
#   2. else .venv in the checkout, made and filled the first time and whenever a requirement file has changed.
# TTRD3_PYTHON names the interpreter to use or to make .venv with; pip's own variables (PIP_INDEX_URL ...) reach pip.

# torch's CPU threads (libgomp) spin while they wait for each other. Its default spins so long that a second busy process
# slows a step down several times; not spinning at all costs a third on idle cores. This count gives neither up: 20
# convolutions forward and backward on 2 cores take 43 / 183 ms (idle / one core busy), the default 50 / 185 to 730,
# OMP_WAIT_POLICY=PASSIVE 64 / 133.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-5000}"

VENV=$ROOT/.venv
LOCK=$ROOT/.venv.partial # one installation at a time; the folder holds its owner's host and process id

say() {
    printf 'ttrd3: %s\n' "$*" >&2
}

fail() {
    say "error: $*"
    exit 2
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

version_of() {
    "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo 'does not run'
}

use_environment() {
    for PYTHON in "${TTRD3_PYTHON:-python}" "${TTRD3_PYTHON:-python3}"; do
        if is_recent "$PYTHON" && satisfies "$PYTHON" "$@"; then
            return
        fi
    done
    PYTHON=$VENV/bin/python
    if [ -n "${TTRD3_PYTHON:-}" ]; then
        find_python
        refuse_other_version
    fi
    all_installed "$@" && return
    take_lock
    all_installed "$@" || make_venv # another run may have finished it meanwhile
    for file in "$@"; do
        all_installed "$file" || install "$file"
    done
    release_lock
}

# Whether an interpreter has every pin of the files FILE... and ttrd3 from this checkout: satisfies PYTHON FILE...
satisfies() {
    interpreter=$1
    shift
    (cd "$ROOT" && "$interpreter" -P codes/ttrd3/environment.py "$@" >/dev/null 2>&1)
}

# --- .venv ---

# The stamp is written after the last package: an interrupted installation, a changed file or a moved checkout has none.
stamp() {
    printf '%s %s\n' "$(cksum <"$ROOT/$1")" "$ROOT"
}

all_installed() {
    is_recent "$PYTHON" || return 1
    for wanted in "$@"; do
        [ "$(cat "$VENV/.installed-$wanted" 2>/dev/null)" = "$(stamp "$wanted")" ] || return 1
    done
}

# Sets BASE to the first interpreter that is recent enough and can make virtual environments.
find_python() {
    if [ -n "${TTRD3_PYTHON:-}" ]; then
        set -- "$TTRD3_PYTHON"
    else
        set -- python3 python python3.14 python3.13 python3.12 python3.11
    fi
    found=
    for BASE in "$@"; do
        if ! command -v "$BASE" >/dev/null 2>&1; then
            continue
        elif ! is_recent "$BASE"; then
            found="$found $BASE ($(version_of "$BASE")),"
        elif ! "$BASE" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            found="$found $BASE ($(version_of "$BASE"), without the venv module: on Debian and Ubuntu 'sudo apt install python3-venv'),"
        else
            return 0
        fi
    done
    found=${found%,}
    fail "no suitable Python. Expected: Python >= 3.11 with the venv module as one of: $*. Found:${found:- none of them}." \
        "Install one (apt install python3 python3-venv, brew install python, conda create -n ttrd3 python=3.12," \
        "or https://www.python.org/downloads) and, if it has another name, set TTRD3_PYTHON=/path/to/python3."
}

refuse_other_version() {
    [ -x "$PYTHON" ] || return 0
    wanted=$(version_of "$BASE")
    present=$(version_of "$PYTHON")
    [ "$wanted" = "$present" ] ||
        fail "TTRD3_PYTHON=$TTRD3_PYTHON is Python $wanted, but $VENV was made with Python $present." \
            "Remove $VENV to make it anew, or unset TTRD3_PYTHON."
}

make_venv() {
    if is_recent "$PYTHON" && "$PYTHON" -m pip --version >/dev/null 2>&1; then
        return # made before; it lacks packages only
    fi
    if [ -x "$PYTHON" ] && ! is_recent "$PYTHON"; then
        fail "$VENV holds Python $(version_of "$PYTHON"), expected >= 3.11. Remove $VENV to have it made anew."
    fi
    find_python
    say "making $VENV with $BASE (Python $(version_of "$BASE")). This happens once;" \
        "on Linux it downloads about 3 GB and takes 6 GB of disk ($(free_space) free), mostly PyTorch with CUDA."
    "$BASE" -m venv --clear "$VENV" >&2 ||
        fail "$BASE -m venv could not make $VENV (its message is above). Is the folder writable, is the disk full?"
}

install() {
    say "installing $1 into $VENV; interrupted, it goes on with the next run"
    (cd "$ROOT" && "$PYTHON" -m pip install --disable-pip-version-check --no-input -r "$1" >&2) ||
        fail "pip could not install $1 (its message is above; $(free_space) of disk free, Python $(version_of "$PYTHON"))." \
            "Without a network, set PIP_INDEX_URL or PIP_FIND_LINKS to a mirror, or activate an environment that has" \
            "these versions; if no version fits this Python, set TTRD3_PYTHON to another. Then run the same command again."
    stamp "$1" >"$VENV/.installed-$1"
}

free_space() {
    df -Pk "$ROOT" | awk 'NR == 2 { printf "%.1f GB", $4 / 1e6 }'
}

# --- the lock ---

take_lock() {
    [ -w "$ROOT" ] || fail "$ROOT cannot be written, so $VENV cannot be made. Activate an environment that has requirements.txt."
    waited=0
    until mkdir "$LOCK" 2>/dev/null; do
        if adopt_stale_lock; then
            break
        fi
        [ "$waited" -gt 0 ] ||
            say "another run is installing ($LOCK); waiting for it. If there is none, remove that folder."
        waited=$((waited + 1))
        sleep 1
    done
    trap release_lock EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    printf '%s %s\n' "$(uname -n)" "$$" >"$LOCK/owner"
}

# Takes over the lock of a run that was killed. Of several that find it at once, the one that makes `heir` gets it;
# it looks again, because the lock may have passed to another between its first look and `heir`.
adopt_stale_lock() {
    owner_is_gone && mkdir "$LOCK/heir" 2>/dev/null || return 1
    if owner_is_gone; then
        printf '%s %s\n' "$(uname -n)" "$$" >"$LOCK/owner"
        rmdir "$LOCK/heir"
        return 0
    fi
    rmdir "$LOCK/heir"
    return 1
}

owner_is_gone() {
    if ! read -r host process 2>/dev/null <"$LOCK/owner"; then
        [ "$waited" -ge 10 ] # taken this moment, or by a run killed before it wrote its name
        return
    fi
    [ "$host" = "$(uname -n)" ] && ! kill -0 "$process" 2>/dev/null && ! [ -d "/proc/$process" ]
}

release_lock() {
    rm -rf "$LOCK"
    trap - EXIT INT HUP TERM
}

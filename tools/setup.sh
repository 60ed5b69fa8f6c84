#!/usr/bin/env bash
# Make the environment in .venv, or bring it up to date. Called by make; safe to repeat.
#
# The first of these that works: LTGATE_PYTHON, conda (micromamba, mamba), Python 3.10 on the PATH or
# in pyenv, uv, Python 3.11 to 3.13 (all but Lava works there). Python 3.10 comes first because Lava
# runs on no other.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

say() { echo "setup: $*"; }

has_gpu() { nvidia-smi >/dev/null 2>&1; }

# is_python PROGRAM MINOR...: does it run, is it Python 3.MINOR, and can it make environments?
is_python() {
    local program=$1 && shift
    [ "$("$program" -c 'import sys, venv, ensurepip; print(sys.version_info.minor)' 2>/dev/null)" ] &&
        "$program" -c 'import sys; sys.exit(sys.version_info[0] != 3 or
            str(sys.version_info[1]) not in sys.argv[1:])' "$@" 2>/dev/null
}

# find_python MINOR...: print the first such Python on the PATH or among pyenv's versions.
find_python() {
    local minor program
    for minor in "$@"; do
        for program in "python3.$minor" python3 python \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python; do
            if is_python "$program" "$minor"; then
                echo "$program"
                return
            fi
        done
    done
    return 1
}

with_python() {
    say "using $("$1" --version) ($1)"
    rm -rf .venv
    "$1" -m venv .venv
}

# environment.yml has the CPU build of torch; with a GPU conda brings Python alone and pip the rest.
with_conda() {
    local tool name create
    export CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true
    for tool in "${MAMBA_EXE:-micromamba}" mamba "${CONDA_EXE:-conda}"; do
        command -v "$tool" >/dev/null || continue
        name=$(basename "$tool")
        create="env create"
        [ "$name" = micromamba ] && create=create
        rm -rf .venv
        if ! has_gpu; then
            say "using $name and environment.yml"
            # shellcheck disable=SC2086 # two words are meant
            "$tool" $create --prefix ./.venv --file environment.yml </dev/null && return
            say "$name could not make environment.yml's environment; trying it for Python 3.10 alone"
            rm -rf .venv
        fi
        "$tool" create --prefix ./.venv --override-channels --channel conda-forge \
            python=3.10 pip </dev/null && return
        say "$name does not work here; trying something else"
        rm -rf .venv
    done
    return 1
}

with_uv() {
    command -v uv >/dev/null || return 1
    say "using uv for Python 3.10"
    rm -rf .venv
    uv venv --seed --python 3.10 .venv && return
    say "uv cannot bring Python 3.10; trying something else"
    return 1
}

make_environment() {
    local program
    if [ "${LTGATE_PYTHON:-}" ]; then
        is_python "$LTGATE_PYTHON" 10 11 12 13 && with_python "$LTGATE_PYTHON" && return
        say "LTGATE_PYTHON=$LTGATE_PYTHON: must be a Python 3.10 to 3.13 with venv" >&2
        exit 1
    fi
    with_conda && return
    program=$(find_python 10) && with_python "$program" && return
    with_uv && return
    program=$(find_python 11 12 13) && with_python "$program" && return
    say "no Python 3.10 found: install it (with its venv module), or conda, or uv, then repeat" >&2
    exit 1
}

# Without an NVIDIA GPU: the CPU build from PyTorch's own index, if that can be reached. Only torch
# itself is taken from there.
install_cpu_torch() {
    local python=.venv/bin/python index=https://download.pytorch.org/whl/cpu torch
    torch=$(sed -n 's/^ *"torch==\([^"]*\)".*/\1/p' pyproject.toml)
    [ "$(uname -s)" = Linux ] || return 0 # elsewhere the default build has no CUDA
    has_gpu && return
    $python -c "import importlib.metadata as m; assert m.version('torch').split('+')[0] == '$torch'" \
        2>/dev/null && return
    if timeout 20 $python -m pip index versions torch --index-url $index --timeout 5 --retries 0 \
        2>/dev/null | grep -F "$torch+cpu" >/dev/null; then
        say "no NVIDIA GPU: taking the CPU build of torch"
        $python -m pip install $quiet --no-deps --index-url $index "torch==$torch+cpu" && return
    fi
    say "no CPU build of torch within reach: taking the default one (with CUDA, 5.3 GB on disk)"
}

[ -t 1 ] && quiet='' || quiet=--quiet
if is_python .venv/bin/python 10 11 12 13 && [ -z "${LTGATE_PYTHON:-}" ]; then
    say "bringing .venv up to date"
else
    make_environment
fi
install_cpu_torch
say "installing the packages of pyproject.toml"
# shellcheck disable=SC2086 # an empty $quiet is no argument
.venv/bin/python -m pip install $quiet --editable '.[test]'
is_python .venv/bin/python 10 ||
    say "this is not Python 3.10: everything works but Lava (notebook 05 says what it leaves out)"
say "$(.venv/bin/python --version) ready after $((SECONDS - started)) s," \
    "$(du -sh .venv | cut -f1) in .venv"

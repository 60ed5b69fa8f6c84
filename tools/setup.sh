#!/usr/bin/env bash
# Make the environment in .venv, or bring it up to date. Called by make; safe to repeat.
#
# The interpreter is the first of: LTGATE_PYTHON, a Python 3.14, 3.13 or 3.12 on the PATH or in
# pyenv, conda's or mamba's (environment.yml), uv's. The packages are those of requirements/, each
# checked against its hash.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
python=.venv/bin/python

say() { echo "setup: $*"; }

# is_python PROGRAM: does it run, is it one of ours, and can it make environments?
is_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 14))' \
        2>/dev/null
}

own_python() {
    local minor program
    for minor in 14 13 12; do
        for program in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python; do
            is_python "$program" || continue
            say "taking $("$program" --version) ($(command -v "$program"))"
            "$program" -m venv --clear .venv && return
        done
    done
    return 1
}

# environment.yml brings the CPU build of torch; with an NVIDIA GPU conda brings Python alone.
conda_python() {
    local tool
    export CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true
    for tool in "${MAMBA_EXE:-micromamba}" mamba "${CONDA_EXE:-conda}"; do
        command -v "$tool" >/dev/null || continue
        say "taking Python 3.13 from $(basename "$tool")"
        rm -rf .venv
        if nvidia-smi >/dev/null 2>&1; then
            set -- create --prefix ./.venv --override-channels --channel conda-forge python=3.13 pip
        elif [ "$(basename "$tool")" = micromamba ]; then
            set -- create --prefix ./.venv --file environment.yml
        else
            set -- env create --prefix ./.venv --file environment.yml
        fi
        "$tool" "$@" </dev/null && return
        say "$(basename "$tool") does not work here; trying something else"
    done
    return 1
}

uv_python() {
    command -v uv >/dev/null || return 1
    say "taking Python 3.13 from uv"
    uv venv --clear --seed --python 3.13 .venv
}

# without_cuda: have torch's CPU build, from conda or from PyTorch's own index where that is within
# reach. That index's files are not in the lock: their version is checked, their hash is not.
without_cuda() {
    local index=https://download.pytorch.org/whl/cpu version
    version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' requirements/torch.txt)
    $python - "$version" <<'check' 2>/dev/null && return
import importlib.metadata, json, sys
found = importlib.metadata.distribution("torch")
cuda = any(line.startswith("nvidia") for line in found.requires or ())
sys.exit(found.version.split("+")[0] != sys.argv[1] or cuda)
check
    [ "$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1 || return 1
    timeout 20 $python -m pip index versions torch --index-url $index --timeout 5 --retries 0 \
        2>/dev/null | grep -F "$version+cpu" >/dev/null || return 1
    say "no NVIDIA GPU: taking the CPU build of torch"
    $python -m pip install --quiet --no-deps --index-url $index "torch==$version+cpu"
}

if [ "${LTGATE_PYTHON:-}" ]; then
    is_python "$LTGATE_PYTHON" || {
        say "LTGATE_PYTHON=$LTGATE_PYTHON: must be a Python 3.12 to 3.14 with venv" >&2
        exit 1
    }
    say "taking $("$LTGATE_PYTHON" --version) (LTGATE_PYTHON)"
    "$LTGATE_PYTHON" -m venv --clear .venv
elif is_python $python; then
    say "bringing .venv up to date ($($python --version))"
else
    own_python || conda_python || uv_python || {
        say "no Python 3.12 to 3.14 found: install one (with its venv module), or conda, or uv" >&2
        exit 1
    }
fi
# PIP_CONSTRAINT and a machine's own pip.conf must not bend what is locked.
install() { PIP_CONSTRAINT='' $python -m pip install --quiet --no-deps --require-hashes "$@"; }
say "installing the packages of requirements/"
install --requirement requirements/default.txt
without_cuda || install --requirement requirements/torch.txt
install --ignore-requires-python --requirement requirements/lava.txt ||
    say "Lava could not be installed: everything else works, notebook 05 says what it leaves out"
$python -m pip install --quiet --no-deps --no-build-isolation --editable .
say "$($python --version) ready after $((SECONDS - started)) s, $(du -sh .venv | cut -f1) in .venv"

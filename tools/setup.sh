#!/bin/bash
# setup.sh EXTRA PACKAGE...: Debian packages, a virtual environment .venv with this project and its EXTRA
# (demo or dev), and CRIU in .venv/opt/criu. Quick when everything is there; never needs root when it is.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=$1
shift

tools/debian-packages.sh "$@"

# two `make` in one clone would spoil each other's .venv (not every file system has flock on a folder: go on then)
exec 9<.
flock 9 2>/dev/null || true

# The system's python first: others may live in a home folder that an ordinary user, or a compute node, cannot enter.
find_python() {
    local python
    for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        python=$(command -v "$python") || continue
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "setup: no python3 >= 3.11 with venv found; put one on PATH" >&2
    return 1
}

# A venv cannot be moved: its scripts name its folder.
if [ -e .venv ] && ! { .venv/bin/python -c '' && grep -qF "$PWD/.venv/bin/" .venv/bin/pip; } 2>/dev/null; then
    echo "setup: .venv is broken or was made in another folder: made anew"
    rm -rf .venv
fi
if [ ! -d .venv ]; then
    python=$(find_python)
    echo "setup: .venv from $python"
    "$python" -m venv .venv
fi
# what is installed depends on this file and on nothing else
state=$(sha256sum <pyproject.toml)
if [ "$(cat ".venv/.installed-$extra" 2>/dev/null)" != "$state" ]; then
    echo "setup: python packages ($extra)"
    .venv/bin/python -m pip install -qq --disable-pip-version-check -e ".[$extra]"
    echo "$state" >".venv/.installed-$extra"
fi

PYTHON=.venv/bin/python tools/install-criu.sh "$PWD/.venv/opt/criu"

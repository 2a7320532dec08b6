#!/bin/sh
# Make the virtual environment $1 with all that the make targets need.
# Safe to run again after an interruption: the stamp is written last.
set -eu
venv=$1

supported() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

find_python() {
    for name in ${PYTHON:-python3.12 python3.13 python3.11 python3 python}; do
        if supported "$name"; then echo "$name"; return; fi
    done
    asked=${PYTHON:-python3}
    found=$("$asked" --version 2>&1) || found=none
    echo "make: e6tag needs Python 3.11, 3.12 or 3.13 with venv ($asked here: $found)." \
         "Install one (Debian: python3-venv), or name one: make demo PYTHON=/path/to/python3.12" >&2
    exit 2
}

# Where the making of it was interrupted, its Python is there and its pip is not.
if ! supported "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# tensorflow-cpu is a much smaller download; it exists for Linux and Windows on x86-64 only.
tensorflow=tensorflow
if ! command -v nvidia-smi >/dev/null 2>&1; then
    case "$(uname -s)-$(uname -m)" in Linux-x86_64 | MINGW*-x86_64) tensorflow=tensorflow-cpu ;; esac
fi

log=$venv/install.log
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@" >>"$log" 2>&1; }

echo "installing e6tag and $tensorflow into $venv: about 300 MB, 2 to 5 minutes (log: $log)"
: >"$log"
if ! pip install --no-input -c constraints.txt -e ".[$tensorflow,train-tools,demo,dev]"; then
    grep -iE '^(error|fatal)|could not|no matching|no space|timed out' "$log" | tail -n 3 >&2 || tail -n 3 "$log" >&2
    echo "make: the packages could not be installed. Is the package index reachable (pip's own" \
         "proxy and index settings are used)? Is there 3 GB of disk left? Then run make again." >&2
    exit 3
fi
if ! pip install --no-input -c constraints.txt -e ".[search]"; then
    echo "make: Annoy was not installed (it needs a C++ compiler: Debian g++, Fedora gcc-c++, macOS" \
         "xcode-select --install). Searching works without it, exactly but slower. To add it later:" \
         "$venv/bin/pip install annoy" >&2
fi
touch "$venv/.installed"
echo "done: $venv"

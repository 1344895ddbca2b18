#!/usr/bin/env bash
# Make the file to hand in:  ./export_py.sh <student id>
#
# The same as `python -m lstm_sentiment hand-in <student id>` in this folder, with a Python that has
# what it needs.
set -eu

refuse() {
    echo "export_py.sh: $1" >&2
    exit "$2"
}

[ $# -eq 1 ] || refuse "expected one argument, got $#; usage: export_py.sh <student id>" 2
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

usable='import sys
from importlib.util import find_spec
sys.exit(sys.version_info < (3, 10) or not (find_spec("torch") and find_spec("nbformat")))'
for python in python3 python; do
    if "$python" -c "$usable" >/dev/null 2>&1; then
        exec "$python" -m lstm_sentiment hand-in "$1"
    fi
done
refuse "neither python3 nor python is Python 3.10 or newer with what the package needs; activate \
the project's environment, or: pip install -r requirements.txt" 1

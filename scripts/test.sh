#!/bin/sh
# Check style and run all tests:  sh scripts/test.sh [pytest arguments]     (`-n 0`: one process)
# The environment is that of train.sh with the tools of requirements-dev.txt on top.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/scripts/env.sh"
use_environment requirements.txt requirements-dev.txt
cd "$ROOT"
"$PYTHON" -m ruff check
"$PYTHON" -m ruff format --check
# Small networks gain nothing from threads, and threads that wait for each other on busy cores cost a lot: one a worker.
export OMP_NUM_THREADS=1
exec "$PYTHON" -m pytest -n auto --maxprocesses 4 "$@"

#!/bin/sh
# Check style and run all tests:  sh scripts/test.sh [pytest arguments]
# The environment is that of train.sh with the tools of requirements-dev.txt on top.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/scripts/env.sh"
use_environment requirements.txt requirements-dev.txt
cd "$ROOT"
"$PYTHON" -m ruff check
"$PYTHON" -m ruff format --check
exec "$PYTHON" -m pytest "$@"

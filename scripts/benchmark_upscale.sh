#!/bin/sh
# Seconds and peak memory per tile and megapixel of sampling, beside the plain path and the floor:
#   sh scripts/benchmark_upscale.sh [--help]          (the environment is that of train.sh)
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/scripts/env.sh"
use_environment requirements.txt
exec "$PYTHON" -P "$ROOT/scripts/benchmark_upscale.py" "$@"

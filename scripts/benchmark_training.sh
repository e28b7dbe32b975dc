#!/bin/sh
# Steps/s, images/s, waiting for data, peak memory and FLOP/s of training beside the plain loop:
#   sh scripts/benchmark_training.sh [--help]          (the environment is that of train.sh)
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/scripts/env.sh"
use_environment requirements.txt
exec "$PYTHON" -P "$ROOT/scripts/benchmark_training.py" "$@"

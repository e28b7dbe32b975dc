#!/bin/sh
# Validate TTRD3:  sh val.sh [OPTIONS.yml] [section.key=value ...]    (default: options/sample.yml; more with --help)
# Makes the environment the first time (scripts/env.sh), from any working directory.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$ROOT/scripts/env.sh"
use_environment requirements.txt
exec "$PYTHON" -P -m ttrd3 val "$@" # -P: nothing in the working directory can pass for a module

#!/usr/bin/env bash
# From images to 4-, 3- and 2-bit models: sets up .venv if need be, then trains, inherits, searches and extracts on
# handwritten digits (no download). Continues where an interrupted run stopped. Further flags go to tools/run.py.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

echo "quickstart: the environment, .venv"
scripts/setup_env.sh
echo "quickstart: .venv/bin/python tools/run.py --flagfile=digits_oqa $*"
exec .venv/bin/python tools/run.py --flagfile=digits_oqa "$@"

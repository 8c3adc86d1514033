#!/usr/bin/env bash
# ./test.sh [--all] [pytest arguments]: sets up .venv if need be; lint, types, tests. --all adds the slow tests.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

all=false
for argument in "$@"; do # takes --all out of the arguments, wherever it stands
    shift
    if [[ "$argument" == --all ]]; then all=true; else set -- "$@" "$argument"; fi
done
if ! $all; then set -- -m "not slow" "$@"; fi

echo "test: the environment, .venv"
scripts/setup_env.sh
echo "test: ruff check ."
.venv/bin/ruff check .
echo "test: ruff format --check ."
.venv/bin/ruff format --quiet --check . || { .venv/bin/ruff format --check .; exit 1; }
echo "test: mypy, of what pyproject.toml names"
.venv/bin/python -m mypy
# A file to a process, as many as there are cores: most tests use one. Each needs more than a gigabyte.
set -- --numprocesses=auto --maxprocesses=4 --dist=loadfile "$@"
echo "test: pytest $*"
exec .venv/bin/python -m pytest "$@"

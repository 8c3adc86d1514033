#!/usr/bin/env bash
# ./test.sh [--quick | --all] [pytest arguments]: sets up .venv if need be; then lint, types and tests.
#   --quick   only the tests that need no TensorFlow: a minute
#   --all     the slow tests as well, and with other interpreters those without TensorFlow
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

quick=false all=false selected=(-m "not slow")
for argument in "$@"; do # takes --quick and --all out of the arguments, wherever they stand
    shift
    case "$argument" in
        --quick) quick=true selected=(-m "not slow and not tensorflow") ;;
        --all) all=true selected=() ;;
        *) set -- "$@" "$argument" ;;
    esac
done

echo "test: the environment, .venv"
scripts/setup_env.sh
echo "test: ruff check ."
.venv/bin/ruff check .
echo "test: ruff format --check ."
.venv/bin/ruff format --quiet --check . || { .venv/bin/ruff format --check .; exit 1; }
echo "test: mypy, of what pyproject.toml names"
.venv/bin/python -m mypy
if $quick; then export PYTHONPATH="$PWD/tests/without_tensorflow${PYTHONPATH:+:$PYTHONPATH}"; fi
# A file to a process, as many as there are cores: most tests use one. Each needs more than a gigabyte.
set -- --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder ${selected[@]+"${selected[@]}"} "$@"
echo "test: pytest $*"
if ! $all; then exec .venv/bin/python -m pytest "$@"; fi
.venv/bin/python -m pytest "$@"
scripts/other_pythons.sh

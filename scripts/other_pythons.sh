#!/usr/bin/env bash
# Runs the tests that need no TensorFlow with each of Python 3.11, 3.12 and 3.13 that is on the machine and not in .venv.
#
#   scripts/other_pythons.sh [pytest arguments]
#
# Each has an environment of its own, such as .venv-3.12, with the few packages that these tests need. An interpreter that
# is missing, or packages that cannot be had, are said and are no failure. A failing test is one.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages=(absl-py ai-edge-litert ethos-u-vela flatbuffers grpcio importlib_resources lazy_loader matplotlib numpy packaging
    pillow pymoo pytest pytest-xdist requests scikit-learn scipy)

is_version() { "$1" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" >/dev/null 2>&1; }

# Prints an interpreter of a version. Names lie (pyenv's shims exist for versions that are not active): each one is asked.
find_version() {
    local candidate
    while IFS= read -r candidate; do
        if is_version "$candidate" "$1"; then
            printf '%s\n' "$candidate"
            return
        fi
    done < <(
        # Each of these fails where it knows no such interpreter, which is an answer and no error.
        type -ap "python$1" python3 python || true
        printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python
        if command -v uv >/dev/null; then uv python find --no-project "$1" 2>/dev/null || true; fi
    )
}

for version in 3.11 3.12 3.13; do
    if is_version .venv/bin/python "$version"; then continue; fi
    python="$(find_version "$version")"
    if [[ -z "$python" ]]; then
        echo "test: no Python $version on this machine, so nothing is tested with it"
        continue
    fi
    venv=".venv-$version" wanted="$(cat constraints.txt; echo "$python ${packages[*]}")"
    if [[ ! -f "$venv/wanted" || "$(<"$venv/wanted")" != "$wanted" ]]; then
        echo "test: making $venv with $python"
        rm -rf "$venv"
        if ! { "$python" -m venv "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --no-input -c constraints.txt "${packages[@]}" >"$venv/pip.log" 2>&1; }; then
            tail -n 3 "$venv/pip.log" 2>/dev/null || true # there is no log if pip was not reached
            echo "test: $venv could not be made (see above), so nothing is tested with Python $version"
            continue
        fi
        printf '%s\n' "$wanted" >"$venv/wanted"
    fi
    echo "test: $("$venv/bin/python" --version), the tests without TensorFlow"
    # packaging_test.py builds a wheel and reads the packages of a whole environment, .venv, where it has been run.
    PYTHONPATH="$PWD/tests/without_tensorflow:$PWD" "$venv/bin/python" -m pytest --quiet -m "not slow and not tensorflow" \
        --numprocesses=auto --maxprocesses=4 --dist=loadfile --ignore=tests/packaging_test.py "$@"
done

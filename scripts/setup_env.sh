#!/usr/bin/env bash
# Makes .venv in the checkout: Python 3.11, 3.12 or 3.13, the pinned requirements, this package (editable), its tools.
#
#   scripts/setup_env.sh       called by quickstart.sh and test.sh; says what it does, and nothing where all is ready
#   TFQNAS_PYTHON=/path/to/python3.11 scripts/setup_env.sh
#
# May be interrupted at any moment and repeated, and called by several at once. How that works:
#   .venv.lock             held while something is changed, also by a pip that outlives this script
#   .venv/.tfqnas-owned    there from the first moment of a .venv that this script made: only such a one is ever removed
#   .venv/.tfqnas-<hash>   written last, removed first. Its name is the hash of what was asked for, its content the
#                          checkout's path, which an environment has written into itself: it cannot be moved or copied.
# An environment of ours without a stamp was interrupted somewhere: it is made anew, since neither pip nor uv can tell
# a half-unpacked package from a whole one. With the stamp of older requirements it is brought up to date.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
cd "$root"

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash="$(cat pyproject.toml constraints.txt setup.py | sha256)"
stamp="$venv/.tfqnas-${hash:0:16}"

stamps() { find "$venv" -maxdepth 1 -name '.tfqnas-*' ! -name '.tfqnas-owned'; }
ready() { [[ -f "$stamp" && -x "$venv/bin/python" && "$(<"$stamp")" == "$root" ]]; }
ready && exit 0

has_stamp() { stamps | grep -q .; }
owned() { [[ -f "$venv/.tfqnas-owned" && "$(<"$venv/.tfqnas-owned")" == "$root" ]]; }
copied() { [[ -f "$venv/.tfqnas-owned" ]] && ! owned; }
suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Sets $python to an interpreter that really is 3.11, 3.12 or 3.13, the oldest first. Names lie (pyenv's shims exist for
# versions that are not active), so each one found is asked; a look that finds none fails, which is an answer and no error.
# One without the venv module (Debian splits it off) is the second choice.
find_python() {
    local candidate second=""
    python=""
    while IFS= read -r candidate; do
        # A .venv that is active may be about to go.
        if [[ "$candidate" == "$venv"/* ]] || ! suits "$candidate"; then continue; fi
        if has_venv "$candidate"; then python="$candidate"; return; fi
        second="${second:-$candidate}"
    done < <(
        if [[ -n "${TFQNAS_PYTHON:-}" ]]; then command -v "$TFQNAS_PYTHON" || true; exit; fi
        type -ap python3.11 python3.12 python3.13 python3 python || true
        if command -v uv >/dev/null; then uv python find --no-project '>=3.11,<3.14' 2>/dev/null || true; fi
    )
    if [[ -n "$second" ]]; then
        command -v uv >/dev/null || die "finding Python: $second lacks the modules venv and ensurepip." \
            "On Debian and Ubuntu: apt install python3-venv. Or install uv."
        python="$second"
    elif [[ -n "${TFQNAS_PYTHON:-}" ]]; then
        die "finding Python: TFQNAS_PYTHON=$TFQNAS_PYTHON is not a Python 3.11 to 3.13 that runs."
    else
        die "finding Python: no Python 3.11, 3.12 or 3.13. Asked every one on PATH, and uv if installed; found:" \
            "$(found_pythons). Install Python 3.11 (for instance \`uv python install 3.11\` or \`pyenv install 3.11\`)," \
            "or set TFQNAS_PYTHON to one."
    fi
}

found_pythons() {
    local candidate version list=""
    while IFS= read -r candidate; do
        version="$("$candidate" --version 2>/dev/null || echo 'does not run')"
        list="$list${list:+, }$candidate ($version)"
    done < <(type -ap python3.11 python3.12 python3.13 python3 python || true)
    printf '%s' "${list:-none}"
}

# A directory that carries the mark of ownership from the moment it has its name.
new_venv() {
    if [[ -e "$venv" || -L "$venv" ]]; then mv "$venv" "$venv.old.$$"; fi
    rm -rf "$venv".old.* "$venv".new.*
    mkdir "$venv.new.$$"
    printf '%s\n' "$root" >"$venv.new.$$/.tfqnas-owned"
    mv "$venv.new.$$" "$venv"
}

with_uv() {
    [[ -x "$venv/bin/python" ]] || uv venv --quiet --allow-existing --no-project --python "$python" "$venv" || return
    uv pip install --python "$venv/bin/python" -e '.[dev]' -c constraints.txt
}

with_pip() {
    if [[ ! -x "$venv/bin/python" ]]; then
        "$python" -m venv "$venv" || die "making .venv: '$python -m venv' failed (see above)."
    elif ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then # uv makes environments without pip
        "$venv/bin/python" -m ensurepip >/dev/null || die "making .venv: ensurepip failed (see above)."
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        -e '.[dev]' -c constraints.txt 2>&1 | show_pip "$venv/pip.log" && return
    tail -n 15 "$venv/pip.log" >&2
    die "installing the requirements: pip failed (its last lines are above, all of them in .venv/pip.log)." \
        "TensorFlow and the rest are downloaded, about 1 GB: is there a network, or an index in pip's configuration?" \
        "Then run the same command again."
}

# pip's output goes to a file; on a terminal its present step is shown in one line.
show_pip() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line" >&3
        case "$line" in
            Collecting* | *Downloading* | Installing*) if [[ -t 1 ]]; then printf '\r  %.70s\033[K' "$line"; fi ;;
        esac
    done 3>"$1"
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

# pip ends by itself on Ctrl-C; without the trap the script would take that for a failure of pip.
trap 'say "interrupted; the same command continues"; exit 130' INT

# -- from here on one at a time ---------------------------------------------------------------------------------------
if command -v flock >/dev/null; then
    exec 9>"$venv.lock"
    if ! flock -n 9; then
        say "another set-up of this checkout is running; waiting for it"
        flock 9
    fi
    if ready; then exit 0; fi
else
    say "no flock here: do not run two set-ups of this checkout at once"
fi

if [[ ! -e "$venv" && ! -L "$venv" ]]; then
    find_python
    say "making .venv with $python ($("$python" --version))"
    new_venv
elif copied || { owned && { ! has_stamp || ! suits "$venv/bin/python"; }; }; then
    find_python
    say "making .venv anew with $python ($("$python" --version)): the one here is unfinished, broken or moved"
    new_venv
elif suits "$venv/bin/python"; then
    python="$venv/bin/python"
    if owned; then say "the requirements have changed: bringing .venv up to date"; else say "using the .venv found here"; fi
else
    die "using .venv: it was not made by this script and has no Python 3.11 to 3.13 that runs. Move it away or remove it."
fi
stamps | while IFS= read -r old; do rm -f "$old"; done

started=$SECONDS
if command -v uv >/dev/null; then
    say "installing the requirements with uv"
    if ! with_uv; then
        say "uv could not (see above; it does not read pip's configuration); installing with pip: some minutes"
        if owned; then new_venv; fi
        with_pip
    fi
else
    say "installing the requirements with pip: about 1 GB, some minutes"
    with_pip
fi

printf '%s\n' "$root" >"$venv/stamp.new"
mv "$venv/stamp.new" "$stamp"
say "done in $((SECONDS - started)) s"

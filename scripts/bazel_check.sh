#!/usr/bin/env bash
# Checks the BUILD files with a real Bazel, without a network but for the package registry of npm.
#
#   scripts/bazel_check.sh                       # buildifier, all targets, the tests below
#   scripts/bazel_check.sh //tests/layers/...    # the same with other tests, or with other options of bazel test
#
# What it does: buildifier -mode=check -lint=warn on every BUILD, .bzl and MODULE.bazel file; bazel build //..., which
# resolves every label, every visibility and every circle; bazel test of a few tests that need no TensorFlow.
#
# What only a Bazel with a network can check: MODULE.bazel, that is, how modules are resolved (rules_python from the
# registry of modules, a Python 3.11 for Bazel, the hub @pypi made of constraints.txt). The Bazel that npm has is 2.1.0
# and knows WORKSPACE files alone, so this script writes one, with repositories that stand for those: `rules_python`
# hands the rules of Bazel itself on, and the packages of `@pypi` are those that constraints.txt pins, empty, since the
# interpreter of .venv has them. The same interpreter does not see the checkout: a source that a target does not
# declare is not found.
#
# Everything is kept in ${XDG_CACHE_HOME:-~/.cache}/tfqnas/bazel (300 MB); nothing is installed or written elsewhere.
# Exit code 1: something is wrong. Exit code 3: it cannot be checked here, and why.
set -euo pipefail

bazel_version=2.1.0 buildifier_version=8.2.1
tests=("$@")
if [[ $# == 0 ]]; then
    tests=(//tests:arch_test //tests:cost_test //tests:files_test //tests:progress_test //tests:spaces_test
        //tests:spaces_bits_test //tests/report:page_test //tests/search:pareto_test //tests/search:nsga2_test
        //tests/tflite_export:meters_test)
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tfqnas/bazel"
say() { printf 'bazel_check: %s\n' "$*"; }
fail() { printf 'bazel_check: error: %s\n' "$*" >&2; exit 1; }
cannot() { printf 'bazel_check: not possible here: %s\n' "$*" >&2; exit 3; }

[[ "$(uname -sm)" == "Linux x86_64" ]] || cannot "npm's Bazel is for Linux on x86_64, this is $(uname -sm)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || cannot "no $python; scripts/setup_env.sh makes it"

# -- Bazel and buildifier ---------------------------------------------------------------------------------------------

npm="$cache/npm-$bazel_version-$buildifier_version"
if [[ ! -d "$npm" ]]; then
    command -v npm >/dev/null || cannot "Bazel comes from npm, and there is no npm on PATH"
    say "fetching Bazel $bazel_version and buildifier $buildifier_version from npm (90 MB)"
    mkdir -p "$cache"
    made="$(mktemp -d "$cache/.npm.XXXXXX")"
    trap 'rm -rf "$made"' EXIT
    npm install --prefix "$made" --no-audit --no-fund --ignore-scripts --loglevel=error --fetch-retries=1 \
        "@bazel/bazel-linux_x64@$bazel_version" "@bazel/buildifier@$buildifier_version" >"$made/log" 2>&1 ||
        cannot "npm has no Bazel for us: $(tail -n 3 "$made/log")"
    mv -T "$made" "$npm" 2>/dev/null || [[ -d "$npm" ]] || fail "cannot make $npm" # another may have been faster
    trap - EXIT
fi
bazel="$npm/node_modules/@bazel/bazel-linux_x64/bazel-$bazel_version-linux-x86_64"
buildifier="$npm/node_modules/@bazel/buildifier/buildifier-linux_amd64"
chmod +x "$bazel" "$buildifier"

# -- a workspace: links to the checkout, and repositories that stand for those from the network -----------------------

work="$cache/workspace-$(printf '%s' "$root" | sha256sum | cut -c 1-12)"
if command -v flock >/dev/null; then # two checks of one checkout come one after the other
    exec 9>"$work.lock"
    flock 9
fi
rm -rf "$work"
mkdir -p "$work"/{checkout,bin,stubs}
for path in "$root"/* "$root"/.bazelignore "$root"/.venv; do
    case "${path##*/}" in
        build | dist | runs | *.egg-info | bazel-*) ;;
        *) ln -s "$path" "$work/checkout/${path##*/}" ;;
    esac
done

# The packages of .venv without its .pth files: one of them leads to the checkout.
site="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
cat >"$work/bin/python" <<END
#!/bin/sh
PYTHONPATH="\${PYTHONPATH:+\$PYTHONPATH:}$site" PYTHONDONTWRITEBYTECODE=1 exec "$python" -S "\$@"
END
chmod +x "$work/bin/python"

# stub NAME FILE: a file of a repository, from standard input.
stub() {
    mkdir -p "$(dirname "$work/stubs/$1/$2")"
    touch "$work/stubs/$1/WORKSPACE"
    cat >"$work/stubs/$1/$2"
}

stub local_python BUILD <<END
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")
py_runtime(name = "python3", interpreter_path = "$work/bin/python", python_version = "PY3")
py_runtime_pair(name = "pair", py3_runtime = ":python3")
toolchain(name = "python", toolchain = ":pair", toolchain_type = "@bazel_tools//tools/python:toolchain_type")
# Python rules ask for a C++ compiler, too; nothing is compiled, so it may be the empty one.
toolchain(name = "cc", toolchain = "@local_config_cc//:local", toolchain_type = "@bazel_tools//tools/cpp:toolchain_type")
END
while read -r package; do # names as rules_python writes them
    stub pypi "$package/BUILD" <<<"py_library(name = \"$package\", visibility = [\"//visibility:public\"])"
done < <(sed -n 's/^\([A-Za-z][^=]*\)==.*/\1/p' "$root/constraints.txt" | tr 'A-Z.-' 'a-z__')
# Bazel's own tools load these, for languages that are not here, and for the coverage of tests.
hand_on() { # REPOSITORY DIRECTORY RULE...
    stub "$1" "$2/BUILD" </dev/null
    printf '%s\n' "${@:3}" | sed 's/.*/& = native.&/' | stub "$1" "$2/defs.bzl"
}
hand_on rules_cc cc cc_binary cc_library cc_proto_library cc_test cc_toolchain cc_toolchain_suite objc_library
hand_on rules_java java java_binary java_import java_library java_proto_library java_runtime java_toolchain
hand_on rules_proto proto proto_lang_toolchain proto_library
hand_on rules_python python py_binary py_library py_test
stub remote_coverage_tools BUILD <<'END'
filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])
filegroup(name = "lcov_merger", visibility = ["//visibility:public"])
END

# Not named tfqnas: runfiles would hold a directory of that name, which Python would take for the package.
echo 'workspace(name = "checkout")' >"$work/checkout/WORKSPACE"
for path in "$work"/stubs/*; do
    echo "local_repository(name = \"${path##*/}\", path = \"$path\")" >>"$work/checkout/WORKSPACE"
done

# -- the checks -------------------------------------------------------------------------------------------------------

say "buildifier -mode=check -lint=warn"
(cd "$work/checkout" && find -L . -name .venv -prune -o -type f \( -name BUILD -o -name '*.bazel' -o -name '*.bzl' \) -print0 |
    xargs -0 "$buildifier" -mode=check -lint=warn) ||
    fail "buildifier does not accept the files above: scripts/bazel_build_files.py writes them"

run() {
    local command="$1"
    shift
    say "bazel $command $*"
    (cd "$work/checkout" && PATH="$work/bin:$PATH" BAZEL_DO_NOT_DETECT_CPP_TOOLCHAIN=1 \
        "$bazel" --nohome_rc --nosystem_rc --output_user_root="$cache/output" --max_idle_secs=60 \
        --host_jvm_args=-Xmx512m "$command" \
        --jobs="${TFQNAS_BAZEL_JOBS:-1}" --cpu=local --host_cpu=local --extra_toolchains=@local_python//:all --noshow_progress \
        --incompatible_default_to_explicit_init_py --action_env=PATH="$work/bin:/usr/bin:/bin" "$@" 9>&-) # the server stays for a minute: it must not hold the lock
}
run build --build_runfile_links=false --build_runfile_manifests=false //... || fail "bazel build (see above)"
run test --nocache_test_results --test_output=errors "${tests[@]}" || fail "bazel test (see above)"
say "all is well"

#!/usr/bin/env bash
# Builds every target with a real Bazel and runs tests under it. docs/bazel.md says what this cannot check.
#
#   scripts/bazel_check.sh                          # three tests that need no TensorFlow
#   scripts/bazel_check.sh //:tests/subnet_test     # other tests or options of `bazel test`
#
# Writes to ${XDG_CACHE_HOME:-~/.cache}/tfqnas/bazel only. Exit code 3: this machine cannot run the check.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tfqnas/bazel"
work="$cache/workspace${root//\//+}"
bazel="$cache/node_modules/@bazel/bazel-linux_x64/bazel-2.1.0-linux-x86_64"
buildifier="$cache/node_modules/@bazel/buildifier/buildifier-linux_amd64"
cannot() { printf 'bazel_check: not possible here: %s\n' "$*" >&2; exit 3; }

[[ "$(uname -sm)" == "Linux x86_64" ]] || cannot "the Bazel of npm is for Linux on x86_64"
[[ -x "$root/.venv/bin/python" ]] || cannot "no .venv; scripts/setup_env.sh makes it"
if [[ ! -x "$bazel" ]]; then # a complete installation makes it executable
    npm install --prefix "$cache" --silent --no-audit --no-fund --ignore-scripts \
        @bazel/bazel-linux_x64@2.1.0 @bazel/buildifier@8.2.1 || cannot "npm does not install Bazel"
    chmod +x "$buildifier" "$bazel"
fi
"$buildifier" -mode=check -lint=warn "$root/BUILD" "$root/MODULE.bazel"

# This Bazel is older than modules. One directory stands for every external repository: its rules are Bazel's own, its
# packages are empty. The interpreter has the packages of .venv, but not the .pth file that leads to the checkout.
rm -rf "$work"
mkdir -p "$work"/{bin,checkout,stubs/{cc,java,python}}
ln -s "$root"/{.bazelignore,.ci,*} "$work/checkout"
printf 'local_repository(name = "%s", path = "../stubs")\n' pypi remote_coverage_tools rules_{cc,java,python} \
    >"$work/checkout/WORKSPACE"
touch "$work"/stubs/{WORKSPACE,{cc,java,python}/BUILD}
printf '%s = native.%s\n' {cc_{binary,library,test,toolchain{,_suite}},java_{import,runtime,toolchain},py_{binary,library,test}}{,} |
    tee "$work"/stubs/{cc,java,python}/defs.bzl >/dev/null
packages="[$(sed -n 's/^\([A-Za-z].*\)==.*/"\L\1", /p' "$root/constraints.txt" | tr -d '\n' | tr _ -)]"
cat >"$work/stubs/BUILD" <<END
package(default_visibility = ["//visibility:public"])
[py_library(name = name) for name in $packages + ["coverage_report_generator", "lcov_merger"]]
toolchain(name = "cc", toolchain = "@local_config_cc//:local", toolchain_type = "@bazel_tools//tools/cpp:toolchain_type")
END
cat >"$work/stubs/requirements.bzl" <<END
def requirement(name): return "@pypi//:" + name.replace("_", "-")
all_requirements = [requirement(name) for name in $packages]
END
printf '#!/bin/sh\nPYTHONPATH="$PYTHONPATH:%s" exec "%s/.venv/bin/python" -S "$@"\n' \
    "$root"/.venv/lib/python3.11/site-packages "$root" >"$work/bin/python"
chmod +x "$work/bin/python"

export BAZEL_DO_NOT_DETECT_CPP_TOOLCHAIN=1 PATH="$work/bin:$PATH"
if [[ $# == 0 ]]; then set -- //:tests/arch_test //:tests/report/page_test //:tests/search/pareto_test; fi
options=(--noshow_progress --incompatible_disallow_empty_glob --cpu=local --host_cpu=local --extra_toolchains=@pypi//:cc
    --noincompatible_use_python_toolchains --python_path="$work/bin/python" --action_env=PATH)
cd "$work/checkout"
bazel() { "$bazel" --ignore_all_rc_files --output_user_root="$cache/output" --max_idle_secs=60 "$@"; }
bazel build "${options[@]}" //:all
bazel test "${options[@]}" --nocache_test_results --test_output=errors "$@"

"""The main of every `py_test`: pytest on one file, in a directory that holds what its target declares and no more."""

import os
import shutil
import sys

import pytest


def own_copy(repository, scratch):
    """A copy without symbolic links: a test that looks for its neighbours would follow them to the checkout."""
    copy = os.path.join(scratch, "checkout")
    skipped = shutil.ignore_patterns("external", "*.venv", "__pycache__")
    shutil.copytree(repository, copy, ignore=skipped, dirs_exist_ok=True)
    return copy


def import_paths(paths, repository, copy):
    """`sys.path` with the copy in place of the repository, and without the directory of this file."""
    inside = [path for path in paths if (path + os.sep).startswith(repository + os.sep)]
    moved = [copy + path[len(repository) :] for path in inside if path != os.path.join(repository, "tests")]
    above = os.path.dirname(repository)  # the directory of all repositories: in it this one would be a package
    return [copy, *(path for path in moved if path != copy), *(p for p in paths if p not in inside and p != above)]


def main(arguments):
    repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    scratch = os.environ.get("TEST_TMPDIR")
    if not scratch:
        sys.exit("bazel_main: expected TEST_TMPDIR, which `bazel test` sets")
    copy = own_copy(repository, scratch)
    sys.path[:] = import_paths(sys.path, repository, copy)
    temporary = os.path.join(scratch, "tmp")
    os.makedirs(temporary, exist_ok=True)
    # For the processes that tests start, too.
    os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, sys.path)), TMPDIR=temporary)
    os.environ.setdefault("HOME", scratch)
    os.environ.setdefault("MPLCONFIGDIR", temporary)
    os.chdir(copy)
    options = ["-p", "no:cacheprovider"]
    if "XML_OUTPUT_FILE" in os.environ:
        options.append(f"--junitxml={os.environ['XML_OUTPUT_FILE']}")
    if "TESTBRIDGE_TEST_ONLY" in os.environ:  # --test_filter
        options += ["-k", os.environ["TESTBRIDGE_TEST_ONLY"]]
    return pytest.main([*options, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

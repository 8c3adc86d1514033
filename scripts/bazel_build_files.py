"""Writes the BUILD files of this checkout from its imports and its layers, or says which are not up to date.

    .venv/bin/python scripts/bazel_build_files.py --check      # exit code 1 where a file differs
    .venv/bin/python scripts/bazel_build_files.py --write

Written by a program because they repeat what the sources say; plain, so that they can be read and reviewed. A new
room needs its line in `ROOMS` of tests/layering_test.py; nothing else is to be told here. See docs/bazel.md.
"""

import argparse
import collections
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bazel_sources as sources

HEAD = "# Made by scripts/bazel_build_files.py --write; tests/bazel_test.py checks it.\n"
OUTSIDE = "//:outside"  # tests, tools, benchmarks, examples and scripts: they may know every room
# Rooms of the library that the exporter knows (docs/design.md): models, their quantizers, errors.
EXPORTER = {"arch", "spaces", "cost", "conversion", "errors", "layers", "quantizers", "sites", "subnet", "supernet"}
# These are about the whole checkout, or about what lies outside of the workspace that Bazel sees.
MANUAL = ("tests/bazel_test.py", "tests/packaging_test.py")
# buildifier's order of arguments; all others come between, by name.
FIRST = ("name", "size", "testonly", "srcs", "outs")
LAST = ("deps",)

# -- the text of a rule -----------------------------------------------------------------------------------------------


class Raw(str):
    """An expression, not a string."""


def sort_key(label):
    """buildifier's order: files and targets of the package, then `//`, then `@`."""
    kind = 4 if label.startswith("@") else 2 if label.startswith("//") else 1 if label.startswith(":") else 0
    return kind, label.replace(":", ".").split(".")


def text_of(value, depth=1):
    if isinstance(value, Raw | bool):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    items = [f'"{item}"' for item in value]
    if len(items) < 2:
        return f"[{', '.join(items)}]"
    inner, outer = "    " * (depth + 1), "    " * depth
    return "[\n" + "".join(f"{inner}{item},\n" for item in items) + f"{outer}]"


def rule(kind, **attributes):
    """One call of a BUILD file; lists are sorted, empty ones left out."""

    def place(name):
        return (FIRST.index(name) if name in FIRST else len(FIRST) + (name in LAST), name)

    lines = []
    for name in sorted(attributes, key=place):
        value = attributes[name]
        if not isinstance(value, str | bool):
            value = sorted(value, key=sort_key)
        if value or name == "srcs":
            lines.append(f"    {name} = {text_of(value)},\n")
    return f"{kind}(\n{''.join(lines)})\n"


def glob(*patterns):
    return Raw(f"glob({text_of(patterns)})")


def build_file(package, rules):
    text = "\n" + "\n".join(rules)
    kinds = [kind for kind in ("py_binary", "py_library", "py_test") if f"\n{kind}(" in text]
    load = f"load({', '.join(text_of(part) for part in ('@rules_python//python:defs.bzl', *kinds))})\n"
    return "\n".join([HEAD, *([load] if kinds else []), *rules])


def local(labels, package):
    """Labels as they are written in a package: `:name` for its own targets."""
    return {label.removeprefix(f"//{package}") if label.startswith(f"//{package}:") else label for label in labels}


def library(package, name, paths, srcs=None, **attributes):
    """A py_library of `paths`; `srcs` where they are written in another way."""
    own = f"//{package}" if name == package.rpartition("/")[2] else f"//{package}:{name}"
    deps = local(sources.deps_of(paths, own) | set(attributes.pop("deps", ())), package)
    srcs = srcs or [path.relative_to(package).as_posix() for path in paths]
    return rule("py_library", name=name, srcs=srcs, deps=deps, **attributes)


# -- the files --------------------------------------------------------------------------------------------------------


def package_of(room):
    """The Bazel package of a room: its directory, or //tfqnas for single modules."""
    return f"tfqnas/{room}" if (sources.ROOT / "tfqnas" / room).is_dir() else "tfqnas"


def rooms():
    return sorted(room for room in sources.layering().ROOMS if room != "__init__" and exists(room))


def exists(room):
    return (sources.ROOT / f"tfqnas/{room}.py").exists() or (sources.ROOT / f"tfqnas/{room}/__init__.py").exists()


def visibility_of(room):
    """Who may depend on a room: the packages of those rooms that the plan lets know it, and what is outside."""
    knowing = [other for other, known in sources.layering().ROOMS.items() if room in known and other != "__init__"]
    packages = {f"//{package_of(other)}:__pkg__" for other in knowing if exists(other)}
    packages |= {"//tflite_export:__pkg__"} if room in EXPORTER else set()
    return {OUTSIDE, "//tfqnas:__pkg__", *packages}  # //tfqnas: the target of the whole library


def tfqnas():
    files = sources.python_files("tfqnas")
    single = [path for path in files if len(path.parts) == 2 and path.name != "__init__.py"]
    public = [f"//{package_of(r)}" if package_of(r) != "tfqnas" else f":{r}" for r in rooms()]
    yield (
        "tfqnas",
        [
            "# The library, for those who use it. The rooms below are seen by those alone that docs/design.md names.\n"
            + rule("py_library", name="tfqnas", srcs=[], visibility=["//visibility:public"], deps=[":init", *public]),
            "# The package itself: public names by name only, on first use. Every room is imported through it.\n"
            + rule("py_library", name="init", srcs=["__init__.py"], visibility=["//tfqnas:__subpackages__"]),
            *(
                library("tfqnas", path.stem, [path], deps=["//tfqnas:init"], visibility=visibility_of(path.stem))
                for path in single
            ),
        ],
    )
    for room in rooms():
        if package_of(room) == "tfqnas":
            continue
        paths = sources.python_files(f"tfqnas/{room}")
        every = "**/*" if any(len(path.parts) > 3 for path in paths) else "*"
        others = {path.suffix for path in (sources.ROOT / "tfqnas" / room).glob(every)} & {".css", ".js", ".json"}
        data = {"data": glob(*sorted(f"{every}{suffix}" for suffix in others))} if others else {}
        yield (
            f"tfqnas/{room}",
            [
                library(
                    f"tfqnas/{room}",
                    room,
                    paths,
                    glob(f"{every}.py"),
                    visibility=visibility_of(room),
                    deps=["//tfqnas:init"],
                    **data,
                )
            ],
        )


def tflite_export():
    light = sources.without_tensorflow()
    heavy = [path for path in sources.python_files("tflite_export") if path not in light]
    yield (
        "tflite_export",
        [
            library("tflite_export", "tflite_export", heavy, visibility=["//visibility:public"]),
            "# An IntGraph, what it computes and its file; phones, processors, compilers. Public, too: no TensorFlow.\n"
            + library("tflite_export", "without_tensorflow", sorted(light), visibility=["//visibility:public"]),
        ],
    )


def programs(package, paths, **attributes):
    for path in paths:
        if sources.parsed(path).is_program and not path.name.startswith("bazel_"):  # those are for the checkout
            deps = local(sources.deps_of([path], None), package)
            yield rule("py_binary", name=path.stem, srcs=[path.name], deps=deps, **attributes)


def tools():
    paths = sources.python_files("tools")
    copy = rule(
        "genrule",
        name="installed",
        srcs=glob("*.py"),
        outs=Raw('["tfqnas.cli/" + name for name in glob(["*.py"])]'),
        cmd="cp $(SRCS) $(RULEDIR)/tfqnas.cli/",
    )
    yield (
        "tools",
        [
            "# As setup.py does: the files of this directory are the package tfqnas.cli.\n" + copy,
            library("tools", "tfqnas.cli", paths, [":installed"], imports=["."], visibility=["//visibility:public"]),
            *programs("tools", paths, visibility=["//visibility:public"]),
            "# Tests run the tools by their path.\n"
            + rule("filegroup", name="files", srcs=glob("*.py"), visibility=["//tests:__subpackages__"]),
        ],
    )


def programs_of(package):
    """benchmarks/, examples/: programs, which import each other from their own directory."""
    paths = sources.python_files(package)
    if paths:
        yield (
            package,
            [
                "# Programs, which import each other from their own directory.\n"
                + library(package, package, paths, glob("*.py"), imports=["."], visibility=["//tests:__subpackages__"]),
                *programs(package, paths),
                rule("filegroup", name="files", srcs=glob("*.py"), visibility=["//tests:__subpackages__"]),
            ],
        )


def benchmarks():
    yield from programs_of("benchmarks")
    yield from programs_of("examples")


def scripts():
    paths = sources.python_files("scripts")
    yield (
        "scripts",
        [
            library("scripts", "scripts", paths, glob("*.py"), imports=["."], visibility=["//tests:__subpackages__"]),
            *programs("scripts", paths),
            rule("filegroup", name="files", srcs=glob("*.py", "*.sh"), visibility=["//tests:__subpackages__"]),
        ],
    )


def tests():
    directories = collections.defaultdict(list)
    for path in sources.python_files("tests"):
        directories[path.parent].append(path)
    wanted = {sources.modules().get(name) for path in sources.python_files("tests") for name in sources.imported(path)}
    for directory, paths in sorted(directories.items()):
        package, rules = directory.as_posix(), []
        if package == "tests":
            rules.append('exports_files(["bazel_main.py"])\n')
        for path in paths:
            is_test = path.stem.endswith("_test")
            if not is_test or path in wanted:
                rules.append(
                    library(
                        package,
                        sources.library_name(path),
                        [path],
                        testonly=True,
                        deps=conftests(path),
                        visibility=["//tests:__subpackages__"],
                    )
                )
            if is_test:
                rules.append(py_test(package, path))
        yield package, rules


def conftests(path):
    """The conftest.py files that pytest reads for a test: they are no imports."""
    folders = [parent for parent in path.parents if parent.parts]
    found = [parent / "conftest.py" for parent in folders if (sources.ROOT / parent / "conftest.py").exists()]
    return {f"//{conftest.parent}:conftest" for conftest in found if conftest != path}


def py_test(package, path):
    data, deps = sources.read_by(path)
    if path.name == "layering_test.py":  # reads every source
        data, deps = {"//tools:files"}, {"//tflite_export", "//tfqnas"}
    deps |= sources.deps_of([path], None) | conftests(path) | {"@pypi//pytest"}
    tags = [*(["slow"] if sources.parsed(path).is_slow else []), *(["manual"] if path.as_posix() in MANUAL else [])]
    main = "bazel_main.py" if package == "tests" else "//tests:bazel_main.py"
    comment = "# About the whole checkout, which no target declares: run by pytest alone.\n" if "manual" in tags else ""
    return comment + rule(
        "py_test",
        name=path.stem,
        srcs=[path.name, main],
        args=[f"$(rootpath {path.name})"],
        main=main,
        data={"//:pytest_settings", *data},
        deps=local(deps, package),
        tags=tags,
        **({"size": "large"} if "slow" in tags else {}),
    )


def top():
    yield (
        "",
        [
            "# Who may know every room of the library; tests/layering_test.py holds that nothing else imports tools.\n"
            + rule(
                "package_group",
                name="outside",
                packages=["//benchmarks", "//examples", "//scripts", "//tests/...", "//tools"],
            ),
            "# The two libraries: @tfqnas and @tfqnas//:tflite_export for those who depend on this module.\n"
            + "\n".join(
                rule("alias", name=name, actual=f"//{name}", visibility=["//visibility:public"])
                for name in ("tfqnas", "tflite_export")
            ),
            "# The lock of the hub @pypi (MODULE.bazel).\n" + 'exports_files(["constraints.txt"])\n',
            rule("filegroup", name="pytest_settings", srcs=["pyproject.toml"], visibility=["//tests:__subpackages__"]),
            rule("filegroup", name="configs", srcs=glob("configs/*"), visibility=["//tests:__subpackages__"]),
            rule(
                "filegroup", name="docs", srcs=glob("*.md", "*.yml", "docs/**"), visibility=["//tests:__subpackages__"]
            ),
        ],
    )


def build_files():
    """{path relative to the checkout: its text}"""
    made = {}
    for part in (top, tfqnas, tflite_export, tools, benchmarks, scripts, tests):
        for package, rules in part():
            made[f"{package}/BUILD".lstrip("/")] = build_file(package, rules)
    return made


def stale(made):
    """Paths of files that are not as they should be, or should not be."""
    found = {
        path.relative_to(sources.ROOT).as_posix()
        for top in sources.LOCAL
        if top != "tfqnas.cli"
        for path in (sources.ROOT / top).rglob("BUILD")
    }
    return sorted(
        path
        for path in found | {*made}
        if path not in made or not (sources.ROOT / path).is_file() or (sources.ROOT / path).read_text() != made[path]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="say which files differ; exit code 1 if any")
    what.add_argument("--write", action="store_true", help="write them")
    flags = parser.parse_args()
    made = build_files()
    for path in stale(made):
        if flags.check:
            print(f"{path}: not what the sources say; scripts/bazel_build_files.py --write mends it")
        elif path in made:
            (sources.ROOT / path).write_text(made[path], encoding="utf-8")
            print(f"{path}: written")
        else:
            (sources.ROOT / path).unlink()
            print(f"{path}: removed")
    return int(bool(stale(made)))


if __name__ == "__main__":
    sys.exit(main())

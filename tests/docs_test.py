"""What README and documentation show can be done as it stands there: commands, Python, links."""

import ast
import dataclasses
import functools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DIRECTORIES = "docs|configs|tests|tools|scripts|benchmarks|studies|examples|tfqnas|tflite_export"
# A command of ours, in an indented or fenced line, with what continues it.
COMMAND = re.compile(
    r"^(?:    |# +)?(?:[A-Z_]+=\S+ +)?(?:\.venv/bin/)?python (?:-u )?"
    r"((?:tools|benchmarks|studies|scripts|examples)/\w+\.py.*)$"
)
FILE = re.compile(rf"(?<![\w./-])((?:{DIRECTORIES})/[\w./-]*\w\.(?:cfg|js|json|md|png|py|sh))\b")
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)")
FENCED = re.compile(r"^```.*?^```", re.M | re.S)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
# Each command line of standard input, in a process of its own that has imported what all tools share.
CHECK_FLAGS = """
import json, os, runpy, sys
import tfqnas.cli.command, tfqnas.search.search_config, tfqnas.train.run_config
for arguments in json.load(sys.stdin):
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            print(json.dumps(arguments), flush=True)
    else:
        sys.argv = [arguments[0], "--only_check_args", *arguments[1:]]
        runpy.run_path(arguments[0], run_name="__main__")
        os._exit(0)
"""


def text_of(page):
    return page.read_text(encoding="utf-8")


def commands():
    """Every command line that starts a file of ours, once, as a list of arguments."""
    found = {}
    for page in [*PAGES, *sorted(ROOT.glob("*/configs/*.cfg")), *sorted(ROOT.glob("studies/*.cfg"))]:
        text = re.sub(r"\\\n(# )?", " ", text_of(page))
        for line in text.splitlines():
            if match := COMMAND.match(line):
                found.setdefault(tuple(shlex.split(re.sub(r"\s#.*", "", match[1]))), page)
    return found


def snippets():
    for page in PAGES:
        for number, code in enumerate(PYTHON.findall(text_of(page))):
            marks = [pytest.mark.slow] if re.search(r"keras|tensorflow|^import tfqnas$", code, re.M) else []
            yield pytest.param(code, id=f"{page.stem}-{number}", marks=marks)


def environment():
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}


@functools.cache
def options_of(path):
    """The options that a program names in its source and in that of the neighbours which it imports."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    options = {s for s in strings if re.fullmatch(r"--\w+", s)}
    options |= {
        f"--{name}"
        for name in re.findall(r'DEFINE_\w+\(\s*"(\w+)"|^    (\w+): .* = setting\(', source, re.M)
        for name in name
    }
    for config in (RunConfig, SearchConfig):
        if config.__name__ in source:
            options |= {f"--{field.name}" for field in dataclasses.fields(config)} | {"--flagfile"}
    for name in re.findall(r"^\s*(?:import|from) (\w+)", source, re.M):
        neighbour = path.with_name(f"{name}.py")
        options |= options_of(neighbour) if neighbour.exists() else set()
    return options


def test_every_command_of_the_tools_has_their_flags():
    asked = [command for command in commands() if command[0].startswith("tools/")]
    assert len(asked) > 40
    done = subprocess.run(
        [sys.executable, "-c", CHECK_FLAGS],
        cwd=ROOT,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert not done.returncode and not done.stdout, done.stdout + done.stderr


def test_every_command_of_other_programs_has_their_options():
    others = {command: page for command, page in commands().items() if not command[0].startswith("tools/")}
    assert len(others) > 20
    wrong = []
    for (program, *arguments), page in others.items():
        if not (ROOT / program).exists():
            wrong.append(f"{page.name}: there is no {program}")
            continue
        known = options_of(ROOT / program)
        names = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
        wrong += [f"{page.name}: {program} {n}" for n in names if not {n, n.replace("--no", "--", 1)} & known]
    assert not wrong


@pytest.mark.parametrize("code", list(snippets()))
def test_python_in_the_documentation_runs(code, tmp_path):
    done = processes.run(["-c", code], cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_readme_is_short():
    assert README.stat().st_size <= 6000


def anchors_of(page):
    """The anchors of a page's headings: alike on GitHub and in the site for the headings that we write."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text_of(page)), re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    wrong = []
    for path, anchor in LINK.findall(FENCED.sub("", text_of(page))):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            wrong.append(f"{path}#{anchor}" if anchor else path)
    assert not wrong


def test_files_that_the_documentation_names_exist():
    named = [f"{page.name}: {path}" for page in PAGES for path in FILE.findall(text_of(page))]
    assert len(named) > 100
    assert not [name for name in named if not (ROOT / name.partition(": ")[2]).exists()]


def test_pages_that_code_and_settings_name_exist():
    named = []
    for directory in DIRECTORIES.split("|"):
        for path in (ROOT / directory).rglob("*"):
            if path.suffix in (".py", ".cfg", ".sh"):
                named += [(path.name, page) for page in re.findall(r"\bdocs/[\w./-]+\.md\b", text_of(path))]
    assert len(named) > 10
    assert not [f"{name}: {page}" for name, page in named if not (ROOT / page).exists()]


def test_names_in_the_api_pages_are_those_of_their_modules():
    names = [n for page in PAGES for n in re.findall(r"^::: ([\w.]+)\.(\w+)$", text_of(page), re.M)]
    assert len(names) > 50
    for module, name in names:
        path = ROOT / module.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert re.search(rf"\b{name}\b", text_of(source)), f"{module} has no {name}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={tmp_path / 'site'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    page = (tmp_path / "site" / "api" / "quantizers" / "index.html").read_text()
    assert all(f">{name}<" in page for name in ("LSQ", "APoT", "Mixture"))  # headings, made from docstrings
    assert "round(clip(" in page

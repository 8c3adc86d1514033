"""What README and documentation show can be done as it stands there: commands, Python, links."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tfqnas.train.run_config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A command of ours, in an indented or fenced line, with what continues it.
COMMAND = re.compile(
    r"^(?:    )?(?:[A-Z_]+=\S+ +)?(?:\.venv/bin/)?python (?:-u )?"
    r"((?:tools|benchmarks|studies|scripts|examples)/\w+\.py.*)$"
)
FILE = re.compile(
    r"`((?:docs|configs|tests|tools|scripts|benchmarks|studies|examples|tfqnas|tflite_export)/[\w./-]+\.\w+)`"
)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def commands():
    """Every command line that starts a file of ours, once, as a list of arguments."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            if match := COMMAND.match(line):
                found.setdefault(tuple(shlex.split(re.sub(r"\s#.*", "", match[1]))), page)
    return found


def snippets():
    for page in PAGES:
        for number, code in enumerate(PYTHON.findall(page.read_text(encoding="utf-8"))):
            yield pytest.param(code, id=f"{page.stem}-{number}")


def environment():
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}


def refused(arguments):
    """What a command says that does not take its own flags, or None."""
    program, *flags = arguments
    if not (ROOT / program).exists():
        return "no such file"
    if program.startswith("tools/"):  # absl: parses, and ends
        flags = ["--only_check_args", *flags]
    else:  # argparse: --help ends before anything runs, but only known options come so far
        known = subprocess.run(
            [sys.executable, program, "--help"], cwd=ROOT, capture_output=True, text=True, env=environment()
        ).stdout
        if "--flagfile" in known or any(f.startswith("--flagfile") for f in flags):  # it takes a run's settings, too
            known += "".join(f"--{field.name} " for field in dataclasses.fields(RunConfig)) + "--flagfile"
        names = [f.partition("=")[0] for f in flags if f.startswith("--")]
        unknown = [n for n in names if n not in known and n.replace("--no", "--") not in known]
        return f"{program}: unknown {unknown}" if unknown else None
    done = subprocess.run(
        [sys.executable, program, *flags], cwd=ROOT, capture_output=True, text=True, env=environment()
    )
    return (done.stderr or done.stdout)[-500:] if done.returncode else None


@pytest.mark.slow
def test_every_command_is_one_that_the_tool_takes():
    found = commands()
    assert len(found) > 40
    with ThreadPoolExecutor(2) as pool:
        problems = dict(zip(found, pool.map(refused, found), strict=True))
    wrong = {f"{found[c].name}: {shlex.join(c)}": said for c, said in problems.items() if said}
    assert not wrong, "\n".join(f"{c}\n    {said}" for c, said in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("code", list(snippets()))
def test_python_in_the_documentation_runs(code, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]


def test_files_that_the_documentation_names_exist():
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            if not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
        missing += [f"{page.name}: {path}" for path in FILE.findall(text) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={tmp_path / 'site'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    page = (tmp_path / "site" / "api" / "quantizers" / "index.html").read_text()
    assert all(f">{name}<" in page for name in ("LSQ", "APoT", "Mixed"))  # headings, made from docstrings
    assert "round(clip(" in page

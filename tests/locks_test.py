"""A directory has one writer, however the writers before it ended, and what killed ones left is swept."""

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import pytest

from tfqnas import files, locks
from tfqnas.errors import UserError

# Takes the lock of argv[1], says so, and waits for its standard input to end; with argv[2] a child of it waits too.
HOLDER = """
import os, sys
from tfqnas.locks import writer
sys.argv[0] = "tfqnas"
with writer(sys.argv[1], "run_dir"):
    if sys.argv[2:] == ["child"] and not os.fork():
        sys.stdin.read()
        os._exit(0)
    print("has it", flush=True)
    sys.stdin.read()
"""


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def holder(path, *more):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "has it\n"
    return process


def test_the_second_is_told_who_writes_and_changes_nothing(tmp_path):
    run = tmp_path / "runs" / "digits"
    first = holder(run)
    before = (run / ".lock").read_text()
    with pytest.raises(UserError) as refused, locks.writer(run, "run_dir"):
        pass
    assert re.fullmatch(
        rf"{run} is being written by tfqnas {run} \(process {first.pid} on [\w.-]+, since [\d: -]+\): "
        "wait until it ends, or give another `run_dir`",
        str(refused.value),
    )
    assert names(run) == [".lock"] and (run / ".lock").read_text() == before
    first.communicate()
    assert not (tmp_path / "runs").exists()  # it held nothing else, and both directories were made for it
    with locks.writer(run, "run_dir"):
        assert names(run) == [".lock"]


@pytest.mark.parametrize("more", [(), ("child",)])
def test_a_killed_process_holds_nothing_even_if_a_child_of_it_lives(tmp_path, more):
    first = holder(tmp_path, *more)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (tmp_path / ".lock").exists()
    with locks.writer(tmp_path, "run_dir"):
        assert f'"process": {os.getpid()}' in (tmp_path / ".lock").read_text()
    first.stdin.close()  # ends the child
    first.stdout.close()
    assert names(tmp_path) == []


def _one_of_many(path, begin, ended, won):
    begin.wait()
    try:
        with locks.writer(path, "run_dir"):
            won.put(os.getpid())
            ended.wait()
    except UserError as error:
        won.put(str(error))
        ended.wait()


def test_of_many_that_begin_at_the_same_instant_exactly_one_goes_on(tmp_path):
    context = multiprocessing.get_context("fork")
    count = 8
    begin, ended, won = context.Barrier(count), context.Barrier(count), context.Queue()
    run = tmp_path / "new"
    processes = [context.Process(target=_one_of_many, args=(run, begin, ended, won)) for _ in range(count)]
    for process in processes:
        process.start()
    said = [won.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    (winner,) = [one for one in said if isinstance(one, int)]
    assert all(f"(process {winner} on " in one for one in said if isinstance(one, str))
    # It is empty. It is still there if one of the others made it, since the winner removes only what is its own.
    assert not run.exists() or names(run) == []


def test_a_process_may_enter_it_again_by_any_path(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "run")
    with locks.writer(tmp_path / "run", "run_dir"):
        with locks.writer(link, "run_dir"):
            pass
        process = subprocess.run(
            [sys.executable, "-c", HOLDER, tmp_path / "run"], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert "is being written by" in process.stderr and process.returncode == 1


def test_where_there_are_no_locks_it_says_so_goes_on_and_sweeps_nothing(tmp_path, monkeypatch, capsys):
    def without(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", without)
    left = tmp_path / locks.temporary_name("a.json")
    left.touch()
    with locks.writer(tmp_path, "run_dir"):
        files.write_json(tmp_path / "a.json", 1)
    assert "has no locks (No locks available), so nothing stops a second command" in capsys.readouterr().err
    assert left.exists()


def test_a_directory_that_cannot_be_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "run"):
        with (
            pytest.raises(UserError, match=r"`run_dir=.*`: expected a directory, .*notes.txt"),
            locks.writer(path, "run_dir"),
        ):
            pass
    assert names(tmp_path) == ["notes.txt"]


def test_a_directory_that_may_not_be_written_to_is_refused_with_advice(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OSError, match="choose a directory that you may write to"), locks.writer(tmp_path, "run_dir"):
        pass


@pytest.mark.parametrize("name", ["a.json", "model.keras", "plain", "a.b.tflite", ".hidden", "step-00000001.npz"])
def test_a_temporary_name_is_known_with_its_target(name):
    temporary = locks.temporary_name(name)
    assert temporary != locks.temporary_name(name) and locks.target_of(temporary) == name
    assert temporary.startswith(".") and os.path.splitext(temporary)[1] in (os.path.splitext(name)[1], ".tfqnas")


@pytest.mark.parametrize("name", ["a.json", ".a.1234.tmp", ".lock", ".a.tfqnas.json", "a.0123abcd.tfqnas.json"])
def test_other_names_are_not_temporary(name):
    assert locks.target_of(name) is None


def test_the_holder_sweeps_the_directories_that_it_writes_to(tmp_path):
    run = tmp_path / "run"
    for directory in (run, run / "models", run / "search", tmp_path):
        directory.mkdir(exist_ok=True)
        (directory / locks.temporary_name("x.keras")).touch()
    (run / ".notes.1234.tmp").touch()  # of another program
    assert locks.has_contents(run)
    with locks.writer(run, "run_dir"):
        files.write_json(run / "config.json", {})
        files.write_json(run / "models" / "m.json", {})
    assert names(run) == [".notes.1234.tmp", "config.json", "models", "search"]
    assert names(run / "models") == ["m.json"]
    assert len(names(run / "search")) == 1 and len(names(tmp_path)) == 2


def test_the_holder_of_single_files_sweeps_what_was_to_become_them(tmp_path):
    output, page, other = tmp_path / "m.tflite", tmp_path / "m.md", tmp_path / "n.tflite"
    left = [tmp_path / locks.temporary_name(path.name) for path in (output, page, other)]
    for path in left:
        path.touch()
    with locks.writer(output, "output", files=[output, page]):
        files.write_atomically(output, b"")
    assert names(tmp_path) == sorted([left[2].name, "m.tflite"])


def test_a_directory_with_leftovers_alone_has_no_contents(tmp_path):
    (tmp_path / locks.temporary_name("a.json")).touch()
    (tmp_path / ".lock").touch()
    assert not locks.has_contents(tmp_path)
    (tmp_path / "a").touch()
    assert locks.has_contents(tmp_path)

"""The processes are real; what they score with is a fake, so that they start without TensorFlow."""

import functools
import pathlib
import sys

import pytest

from tfqnas import spaces
from tfqnas.errors import UserError
from tfqnas.scoring.pool import Pool

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # the processes import the fake by its name

from fake_scorer import FakeScorer

SPACE = spaces.get("tiny")


@pytest.fixture
def archs(rng):
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(60)))


def scores(archs, rivals=None, processes=2, said=None, **settings):
    said = [] if said is None else said
    with Pool(functools.partial(FakeScorer, **settings), SPACE, processes, said.append) as pool:
        found = list(pool.score(archs, rivals))
        again = list(pool.score(archs[:3]))
        assert list(pool.score([])) == []
    assert sorted(index for index, _ in again) == [0, 1, 2]
    assert sorted(index for index, _ in found) == list(range(len(archs)))  # each once
    return {archs[index]: score for index, score in found}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_subnet_is_scored_once_whatever_the_number_of_processes(processes, archs, tmp_path):
    found = scores(archs, processes=processes, directory=tmp_path)
    assert {arch: score.accuracy for arch, score in found.items()} == {arch: sum(arch.expands) for arch in archs}


def test_each_subnet_meets_its_own_rival(archs, tmp_path):
    rivals = [[True] if i % 3 else None for i in range(len(archs))]
    found = scores(archs, rivals, directory=tmp_path)
    assert [found[arch].outcomes is None for arch in archs] == [bool(i % 3) for i in range(len(archs))]


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(archs, tmp_path):
    said = []
    scores(archs, said=said, directory=tmp_path, accident="kill", after=2)
    (line,) = said
    assert "SIGKILL" in line and "another one goes on" in line


def test_processes_that_end_again_and_again_are_an_error(archs, tmp_path):
    with pytest.raises(UserError, match=r"--workers=2: 3 scoring processes .* exit code 3; if memory is short"):
        scores(archs, directory=tmp_path, accident="always", after=0)


def test_an_exception_in_a_process_is_shown(archs, tmp_path):
    with pytest.raises(UserError, match="a scoring process failed:\n(.|\n)*ArithmeticError: as the test wants it"):
        scores(archs, directory=tmp_path, accident="raise")

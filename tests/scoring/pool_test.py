"""The processes are real; what they score with is a fake, so that they start without TensorFlow."""

import dataclasses
import functools
import itertools
import pathlib
import sys

import pytest

from tfqnas import spaces
from tfqnas.errors import UserError
from tfqnas.scoring.pool import Pool, split
from tfqnas.scoring.prefixes import common_length, path_of

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


def computed(paths):
    """How many pieces of networks sorted paths have between them."""
    beginnings = {path[:length] for path in paths for length in range(1, len(path) + 1)}
    return len(beginnings)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_pieces_are_even_and_compute_little_twice(processes, archs):
    kernels = [dataclasses.replace(archs[0], kernels=kernels) for kernels in itertools.product((3, 5), repeat=5)]
    for drawn in (archs, [dataclasses.replace(arch, depths=(2, 2, 1), expands=(3, 6, 4, 4, 3)) for arch in kernels]):
        paths = sorted(path_of(SPACE, arch) for arch in drawn)
        pieces = split(paths, processes)
        assert sorted(itertools.chain(*(range(start, end) for start, end in pieces))) == list(range(len(paths)))
        costs = [computed(paths[start:end]) for start, end in pieces]
        assert len(pieces) >= processes and costs == sorted(costs, reverse=True)
        assert max(costs) <= 1.3 * sum(costs) / processes
        # The cut of a few processes apart, a tenth at most.
        assert sum(costs) <= 1.1 * computed(paths) + (processes - 1) * len(paths[0])


def test_pieces_of_a_few_paths():
    assert split([], 2) == []
    assert split([(1, 2)], 2) == [(0, 1)]
    assert sorted(split([(1, 1), (1, 2), (2, 1)], 8)) == [(0, 1), (1, 2), (2, 3)]
    assert common_length((1, 1), (1, 2)) == 1


def test_each_subnet_meets_its_own_rival(archs, tmp_path):
    rivals = [[True] if i % 3 else None for i in range(len(archs))]
    found = scores(archs, rivals, directory=tmp_path)
    assert [found[arch].outcomes is None for arch in archs] == [bool(i % 3) for i in range(len(archs))]


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(archs, tmp_path):
    said = []
    scores(archs, said=said, directory=tmp_path, accident="kill", after=2)
    (line,) = said
    assert "SIGKILL" in line and "another one continues" in line


def test_processes_that_end_again_and_again_are_an_error(archs, tmp_path):
    with pytest.raises(UserError, match=r"`workers=2`: 3 scoring processes .* exit code 3; if memory is short"):
        scores(archs, directory=tmp_path, accident="always", after=0)


def test_an_exception_in_a_process_is_shown(archs, tmp_path):
    with pytest.raises(UserError, match="a scoring process failed:\n(.|\n)*ArithmeticError: as the test wants it"):
        scores(archs, directory=tmp_path, accident="raise")

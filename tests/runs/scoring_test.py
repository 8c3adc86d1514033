"""How many processes score."""

import os

import pytest

from tfqnas.runs.scoring import processes_for

GIGABYTE = 2**30


@pytest.mark.parametrize(
    ("budget", "cores", "gigabytes", "expected"),
    [(999, 8, 64, 1), (1000, 8, 64, 8), (1000, None, 64, 1), (5000, 8, 7, 3), (5000, 8, 1, 1)],
)
def test_processes_are_as_many_as_are_worth_their_start(budget, cores, gigabytes, expected, monkeypatch):
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes * GIGABYTE // 4096}
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert processes_for(budget) == expected

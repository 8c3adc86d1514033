"""A chief or a worker, as keras-tuner's variables say, that scores without a model: a process of tuner_test.py."""

import dataclasses
import json
import os
import pathlib
import signal
import sys
import time

import numpy as np

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.files import append_jsonl, read_jsonl
from tfqnas.integrations.keras_tuner.remote import role
from tfqnas.integrations.keras_tuner.tuner import SearcherOracle, SubnetTuner
from tfqnas.scoring.score import Score
from tfqnas.search import NSGA2, CoarseToFine, Objectives, Result, model_costs

SPACE = spaces.get("tiny")
OBJECTIVES = Objectives(SPACE, model_costs(SPACE, 4, 10, 1), ("params",))
BUDGET = 60


def accuracy(arch):
    """Some number that a float32 cannot hold."""
    return (sum(arch.kernels) + sum(arch.expands)) / 300


def parts(kind):
    """`(searcher, batch)`."""
    if kind == "nsga2":
        return NSGA2(OBJECTIVES, population=12), None
    return CoarseToFine(OBJECTIVES, 3, 8, per_skeleton=4, rounds=2), BUDGET


class Fake:
    """Scores, after the files that it waits for are there, and dies with the `deadly`-th subnet."""

    def __init__(self, deadly=None, directory=None, awaited=()):
        self._deadly, self._directory, self._awaited, self._scored = deadly, directory, awaited, 0

    def score(self, archs, rivals=None):
        self._scored += 1
        if self._directory:
            self._touch("here")
            while not all((self._directory / name).exists() for name in self._awaited):
                time.sleep(0.05)
        if self._scored == self._deadly:
            self._touch("died")
            os.kill(os.getpid(), signal.SIGKILL)
        for index, arch in enumerate(archs):
            yield index, Score(accuracy(arch), 300, np.ones(300, bool))

    def _touch(self, what):
        (self._directory / f"{what}-{os.environ['KERASTUNER_TUNER_ID']}").touch()


def main(kind, deadly=0, awaited=(), bits=4, timeout=600.0):
    """The process dies with its `deadly`-th score, and gives none before `awaited`, names of files, are there."""
    directory, chief = pathlib.Path.cwd(), role() == "chief"
    records = read_jsonl(directory / "scored.jsonl")
    results = [Result(**{**record, "arch": Arch.from_json(record["arch"])}) for record in records]
    searcher, batch = parts(kind)

    def keep(result):
        append_jsonl(directory / "scored.jsonl", dataclasses.asdict(result))
        if len(oracle.results) + 1 == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def say(line):
        print(line, flush=True)

    oracle = SearcherOracle(
        searcher, OBJECTIVES, BUDGET, batch, results, keep, {"bits": bits}, timeout=timeout, say=say
    )
    place = directory if chief else directory / os.environ["KERASTUNER_TUNER_ID"]
    SubnetTuner(oracle, Fake(deadly, directory, awaited), place, heartbeat=1, say=say).search()
    say("ended")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

"""TF_CONFIG, in which people name the processes of a training on several hosts."""

import json

from tests.campaign.states import TRAIN
from tests.campaign.trials import refused, right

ALONE = f"train --run_dir=new {TRAIN}"
TOGETHER = f"{ALONE} --distribution=multiworker"
TWO, ONE, FIRST = ["localhost:20011", "localhost:20012"], ["localhost:20011"], {"type": "worker", "index": 0}


def _config(cluster, task=FIRST):
    return json.dumps({"cluster": cluster, "task": task})


def _wrong(config, *says, command=TOGETHER):
    return refused(command, "TF_CONFIG", *says, given="space", env={"TF_CONFIG": config})


TRIALS = [
    refused(TOGETHER, "TF_CONFIG", '"cluster"', given="space"),
    # No JSON, or JSON of something else.
    *[
        _wrong(text)
        for text in (
            "",
            " ",
            "none",
            "{",
            "[]",
            "null",
            "12",
            '"worker"',
            "{}",
            "[" * 100_000,
            '{"cluster"}',
            "{'a': 1}",
        )
    ],
    _wrong('{"cluster": {"worker": ["a:1"]}} and more'),
    _wrong(json.dumps({"task": FIRST}), "cluster"),
    _wrong(json.dumps({"cluster": {"worker": TWO}}), "task"),
    # Addresses.
    *[
        _wrong(_config(cluster), "expected")
        for cluster in (
            None,
            {},
            [],
            "localhost:1",
            {"worker": None},
            {"worker": []},
            {"worker": "localhost:1"},
            {"": TWO},
        )
    ],
    *[
        _wrong(_config({"worker": [address, "localhost:20012"]}))
        for address in (
            "",
            "localhost",
            "localhost:",
            ":20011",
            "localhost:port",
            "localhost:0",
            "localhost:70000",
            "localhost:-1",
            "http://localhost:20011",
            "local host:20011",
            None,
            20011,
            ["localhost", 20011],
        )
    ],
    _wrong(_config({"worker": ["localhost:20011", "localhost:20011"]}), "localhost:20011"),
    _wrong(_config({"workers": TWO}, {"type": "workers", "index": 0}), "workers"),
    _wrong(_config({"worker": TWO, "ps": ["localhost:20013"]}), "ps"),
    _wrong(_config({"ps": TWO}, {"type": "ps", "index": 0}), "ps"),
    # The own part.
    *[
        _wrong(_config({"worker": TWO}, task), "task")
        for task in (
            None,
            {},
            [],
            "worker",
            {"type": "worker"},
            {"index": 0},
            {"type": "worker", "index": -1},
            {"type": "worker", "index": 2},
            {"type": "worker", "index": 0.5},
            {"type": "worker", "index": None},
            {"type": "worker", "index": True},
            {"type": "worker", "index": 10**30},
            {"type": "wrker", "index": 0},
            {"type": "chief", "index": 0},
            {"type": None, "index": 0},
        )
    ],
    # A cluster with which this command does not train.
    _wrong(_config({"worker": TWO}), "--distribution=none", command=ALONE),
    _wrong(_config({"worker": TWO}), "--distribution=mirrored", command=f"{ALONE} --distribution=mirrored"),
    _wrong("{", command=ALONE),
    refused(f"{ALONE} --distribution=worker", "did you mean multiworker?", given="space"),
    right("evaluate --run_dir=run --bits=3", "test images", given="run", env={"TF_CONFIG": "{"}),
    right(
        "predict --model=model.keras up.png",
        "up.png: top",
        given="model up",
        env={"TF_CONFIG": _config({"worker": TWO})},
    ),
]

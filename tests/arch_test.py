import json
import subprocess
import sys

import numpy as np
import pytest

from tfqnas.arch import Arch

ARCH = Arch("tiny", 24, (2, 1), (3, 5, 3), (3, 4, 6))


def test_lists_numpy_values_and_whole_floats_give_the_same_architecture():
    other = Arch("tiny", np.int64(24), [np.int32(2), 1], np.array([3, 5, 3]), [3.0, 4, np.float32(6)])
    assert other == ARCH and hash(other) == hash(ARCH)
    assert other.to_json() == ARCH.to_json() and other.key == ARCH.key


def test_json_is_stable_and_restores_the_architecture():
    assert ARCH.to_json() == (
        '{"space": "tiny", "resolution": 24, "depths": [2, 1], "kernels": [3, 5, 3], "expands": [3, 4, 6]}'
    )
    for arch in (ARCH, Arch("my-net", 32, (1,), (3,), (3.5,)), Arch("fixed", 32, (), (), ())):
        assert Arch.from_json(arch.to_json()) == arch
        assert Arch.from_json(json.loads(arch.to_json())) == arch


def test_key_is_readable():
    assert ARCH.key == "tiny-r24-d2.1-k3.5.3-e3.4.6"


def test_key_tells_architectures_apart():
    archs = [
        ARCH,
        Arch("tiny", 28, (2, 1), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (1, 2), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (3,), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (2, 1), (3, 3, 3), (3, 4, 6)),
        Arch("tiny", 24, (2, 1), (3, 5, 3), (3, 4, 4)),
        Arch("tiny", 24, (1, 1), (3, 5), (3.5, 4)),
        Arch("tiny", 24, (1, 1), (3, 5), (3, 5.4)),
        Arch("tiny-r24", 24, (2, 1), (3, 5, 3), (3, 4, 6)),
        Arch("tiny", 24, (), (), ()),
    ]
    assert len({arch.key for arch in archs}) == len(archs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kernels": (3, 5)},
            r"kernels: expected 3 values, one for each block of depths \(2, 1\), received 2",
        ),
        ({"expands": (3, 4, 6, 6)}, "expands: expected 3 values, .* received 4"),
        ({"kernels": "353"}, "kernels: expected a list of numbers, received '353'"),
        ({"kernels": (3, 5, 3.5)}, "kernels: expected a whole number, received 3.5"),
        ({"depths": 3}, "depths: expected a list of numbers, received 3"),
        ({"depths": (4, -1)}, "depths: expected a positive number, received -1"),
        ({"expands": (3, 4, float("nan"))}, "expands: expected a positive number, received nan"),
        ({"resolution": True}, "resolution: expected a positive number, received True"),
        ({"space": "a/b"}, "space: expected letters, digits, .* received 'a/b'"),
    ],
)
def test_constructor_says_what_is_wrong(fields, message):
    right = {"space": "tiny", "resolution": 24, "depths": (2, 1), "kernels": (3, 5, 3), "expands": (3, 4, 6)}
    with pytest.raises(ValueError, match=message):
        Arch(**{**right, **fields})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"space": "tiny"}', "architecture: missing field resolution, depths, kernels, expands"),
        (
            {**json.loads(ARCH.to_json()), "width": 1},
            "architecture: unknown field width; known are space, .*",
        ),
        ("[1]", r"architecture: expected a JSON object, received \[1\]"),
        ("{", "architecture: not valid JSON"),
    ],
)
def test_from_json_says_what_is_wrong(source, message):
    with pytest.raises(ValueError, match=message):
        Arch.from_json(source)


@pytest.mark.parametrize("module", ["arch", "spaces", "cost", "search"])
def test_imports_without_tensorflow(module):
    program = (
        f"import sys, tfqnas.{module}; "
        "assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules), sorted(sys.modules)"
    )
    path = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    result = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

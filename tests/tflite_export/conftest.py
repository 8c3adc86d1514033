"""What the tests of the exporter share. What needs Keras is imported where it is used: many of them run without."""

import dataclasses

import numpy as np
import pytest

from tests.tflite_export.phones import fake, program  # noqa: F401  fixtures


def images(shape, n=48, seed=0):
    """On the grid of 8-bit pixels, as evaluation images are: blobs, whose neighbours are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-128, 128, (n, -(-shape[0] // 3), -(-shape[1] // 3), shape[2]))
    fine = np.repeat(np.repeat(coarse, 3, 1), 3, 2)[:, : shape[0], : shape[1]] + rng.integers(-20, 21, (n, *shape))
    return np.clip(fine, -128, 127).astype(np.float32) / 128


@pytest.fixture(scope="session")
def subnets(micro, make_supernet, cut):
    """`subnets(bits, relu, channels)`: the largest subnet of a small supernet, which no test may change."""
    made = {}

    def make(bits, relu=False, channels=1):
        key = (bits, relu, channels)
        if key not in made:
            space = micro
            if relu:
                stages = tuple(dataclasses.replace(s, activation="relu") for s in micro.stages)
                space = dataclasses.replace(micro, stages=stages, stem_activation="relu", head_activation="relu6")
            made[key] = cut(make_supernet(space, bits=bits, channels=channels), space.largest())[0]
        return made[key]

    return make


@pytest.fixture
def same_weights(keras):
    keras.utils.set_random_seed(1)

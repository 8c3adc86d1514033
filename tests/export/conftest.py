"""What the tests of the exporter share."""

import dataclasses

import numpy as np
import pytest


def images(shape, n=48, seed=0):
    """On the grid of 8-bit pixels, as evaluation images are: blobs, whose neighbours are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-128, 128, (n, -(-shape[0] // 3), -(-shape[1] // 3), shape[2]))
    fine = np.repeat(np.repeat(coarse, 3, 1), 3, 2)[:, : shape[0], : shape[1]] + rng.integers(-20, 21, (n, *shape))
    return np.clip(fine, -128, 127).astype(np.float32) / 128


@pytest.fixture(scope="module")
def subnets(micro, make_supernet):
    """`subnets(bits, **space or settings)`: the largest subnet of a small supernet."""
    from tests.subnet_test import cut

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

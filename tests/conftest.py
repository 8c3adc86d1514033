"""What the tests share. TensorFlow is imported by the fixtures that need it: many tests run without."""

import os
import sys

import numpy as np
import pytest

from tfqnas.spaces import SearchSpace, Stage

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# A test that asks for one of these needs TensorFlow.
_FIXTURES_WITH_TENSORFLOW = {"cut", "keras", "make_supernet"}


def pytest_configure(config):
    # Keras' `Variable.__array__` is older than numpy 2, and saving a model calls it.
    keras_saves = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    config.addinivalue_line("filterwarnings", keras_saves)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """With `./test.sh --quick` a file or a directory that imports TensorFlow has no tests."""
    report = yield
    blocked = getattr(sys.modules.get("sitecustomize"), "BLOCKED", None)
    if blocked and report.failed and blocked in str(report.longrepr):
        report.outcome, report.longrepr, report.result = "passed", None, []
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if _FIXTURES_WITH_TENSORFLOW & set(item.fixturenames):
            item.add_marker("tensorflow")
    # Files with slow tests come first: one that began last would keep one core busy, and the others idle.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


_ELASTIC = {"kernels": (3, 5), "expands": (3, 6)}


@pytest.fixture
def rng():
    """A numpy Generator with the same numbers in every run."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def keras():
    """Keras, for files whose other tests do without TensorFlow."""
    import keras

    return keras


@pytest.fixture(scope="session")
def micro():
    """The smallest space with every feature: no expansion, SE, residual, h-swish, optional blocks, mix."""
    return SearchSpace(
        name="micro",
        resolutions=(8, 12),
        stem_channels=8,
        stem_stride=1,
        stem_activation="hswish",
        stages=(
            Stage(8, stride=1, depths=(1,), kernels=(3,), expands=(1,)),
            Stage(8, stride=2, depths=(1, 2), se=True, **_ELASTIC),
            Stage(16, stride=1, depths=(1, 2), activation="hswish", **_ELASTIC),
        ),
        head_channels=16,
        feature_channels=24,
        head_activation="hswish",
    )


@pytest.fixture(scope="session")
def make_supernet():
    """`make_supernet(space, bits=4, **settings)`: initialised, its BatchNorms and biases moved from 1 and 0."""
    from tfqnas.quantizers import LSQ
    from tfqnas.supernet import Supernet, initialize

    def make(space, bits=4, channels=1, num_classes=10, initialized=True, seed=0, **settings):
        rng = np.random.default_rng(seed)
        if bits is not None:
            settings = {"weights": LSQ(bits=bits), "inputs": LSQ(bits=bits, signed=False), **settings}
        supernet = Supernet(space, channels=channels, num_classes=num_classes, **settings)
        for variable in supernet.trainable_variables:
            if not variable.path.endswith("step"):
                spread = {"kernel": 2**0.5 / np.prod(variable.shape[:-1]) ** 0.5}.get(variable.name, 0.1)
                variable.assign(spread * rng.normal(size=variable.shape) + (variable.name == "gamma"))
            if variable.name.startswith("transform"):
                variable.assign(np.eye(variable.shape[0]) + variable.numpy())
            if variable.path.endswith("depthwise/kernel"):
                variable.assign(rng.normal(size=variable.shape) * 2**0.5 / variable.shape[0])
        if bits is not None and initialized:
            size = max(space.resolutions)
            initialize(supernet, rng.normal(size=(16, size, size, channels)).astype(np.float32))
        return supernet

    return make


@pytest.fixture(scope="session")
def cut():
    """`cut(supernet, arch)`: the extracted `(model, statistics)`, with the statistics of a batch."""
    from tfqnas.subnet import extract

    def cut(supernet, arch):
        shape = (16, arch.resolution, arch.resolution, supernet.settings["channels"])
        x = np.random.default_rng(6).normal(size=shape).astype(np.float32)
        _, statistics = supernet(x, supernet.space.encode(arch), collect=True)
        statistics = [s.numpy() for s in statistics]
        return extract(supernet, arch, statistics), statistics

    return cut

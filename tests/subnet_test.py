"""Extraction: subnets as ordinary Keras models."""

import dataclasses

import keras
import numpy as np
import pytest

from tfqnas.cost import count
from tfqnas.layers import QuantConv2D, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, BySize, quantizers_of
from tfqnas.subnet import extract


def images(resolution, channels=1, batch=8, seed=5):
    return np.random.default_rng(seed).normal(size=(batch, resolution, resolution, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def supernet(micro, make_supernet):
    return make_supernet(micro, bits=4, dropout=0.2)


@pytest.fixture(scope="module")
def smallest(supernet, micro, cut):
    return cut(supernet, micro.smallest())


@pytest.fixture(scope="module")
def largest(supernet, micro, cut):
    return cut(supernet, micro.largest())


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        pytest.param({}, {}, id="4-bits"),
        pytest.param({}, {"bits": None, "channels": 3}, id="float-rgb"),
        pytest.param({"feature_channels": None, "head_activation": "relu6"}, {"bits": 2}, id="no-mix-2-bits"),
        pytest.param({"stem_stride": 2}, {"kernel_transform": True, "channels": 3}, id="transform-rgb"),
    ],
)
def test_a_subnet_computes_what_the_supernet_does_with_its_code(space, settings, micro, make_supernet, rng, cut):
    space = dataclasses.replace(micro, **space)
    supernet = make_supernet(space, **settings)
    for arch in (space.largest(), space.sample(rng)):
        model, statistics = cut(supernet, arch)
        x = images(arch.resolution, supernet.settings["channels"])
        expected = supernet(x, space.encode(arch), statistics=statistics).numpy()
        computed = model(x).numpy()
        error = np.abs(computed - expected).max(axis=1) / np.abs(expected).max()
        # A value that rounding carries over a tie moves by a step: not in most images, and never in floating point.
        assert (np.max if supernet.bits is None else np.median)(error) <= 1e-5, arch.key
        assert np.ptp(expected, axis=0).max() > 1e-2  # the logits do depend on the image


def test_a_subnet_is_an_ordinary_functional_model_of_its_own_static_size(supernet, micro, smallest):
    model, _ = smallest
    assert type(model) is keras.Model or type(model).__name__ == "Functional"
    assert model.input_shape == (None, 8, 8, 1) and model.output_shape == (None, 10)
    assert all(None not in layer.output.shape[1:] for layer in model.layers)
    kinds = {type(layer) for layer in model.layers}
    assert {QuantConv2D, QuantDepthwiseConv2D} <= kinds
    assert all(kind.__module__.startswith("keras.") for kind in kinds - {QuantConv2D, QuantDepthwiseConv2D})
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.2]
    assert model.name == micro.smallest().key
    assert extract(supernet, micro.smallest(), smallest[1], name="mine").name == "mine"


def test_a_subnet_has_the_parameters_that_the_cost_model_counts(micro, smallest, largest):
    for arch, model in ((micro.smallest(), smallest[0]), (micro.largest(), largest[0])):
        params = sum(np.prod(v.shape) for v in model.trainable_variables if not v.path.endswith("step"))
        assert params == count(micro, arch, 4, num_classes=10, in_channels=1).params


def test_steps_are_those_of_the_supernet_whatever_the_sizes(supernet, smallest, largest):
    shared = {q.path.replace("/", "_"): q.step.numpy() for q in supernet.quantizers}
    for model in (smallest[0], largest[0]):
        seen = 0
        for layer in model.layers:
            for quantizer in getattr(layer, "quantizers", ()):
                assert quantizer.step.numpy() == shared[f"{layer.name}_{quantizer.name}"]
                assert quantizer.step is not None and all(quantizer is not q for q in supernet.quantizers)
                seen += 1
        assert seen == 2 * sum(isinstance(la, QuantConv2D | QuantDepthwiseConv2D) for la in model.layers)


def test_a_subnet_has_weights_of_its_own(supernet, micro, smallest):
    _, statistics = smallest
    x = images(8)
    before = supernet(x).numpy()
    changed = extract(supernet, micro.smallest(), statistics)
    for variable in changed.variables:
        variable.assign(variable * 0.5)
    np.testing.assert_array_equal(supernet(x), before)


def test_saved_and_loaded_it_computes_the_same(smallest, tmp_path):
    model, _ = smallest
    model.save(tmp_path / "subnet.keras")
    loaded = keras.saving.load_model(tmp_path / "subnet.keras")
    np.testing.assert_array_equal(loaded(images(8)), model(images(8)))
    assert loaded.input_shape == model.input_shape and loaded.name == model.name
    assert [w.path for w in loaded.trainable_variables] == [w.path for w in model.trainable_variables]


def test_it_trains_by_compile_and_fit(supernet, micro, smallest, rng):
    model = extract(supernet, micro.smallest(), smallest[1])
    labels = rng.integers(0, 10, 32)
    x = images(8, batch=32) + images(8, batch=10, seed=9)[labels]  # a pattern for each class
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    steps = [q.step.numpy() for layer in model.layers for q in getattr(layer, "quantizers", ())]
    losses = model.fit(x, labels, batch_size=16, epochs=20, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    trained = [q.step.numpy() for layer in model.layers for q in getattr(layer, "quantizers", ())]
    assert sum(a != b for a, b in zip(steps, trained, strict=True)) > 0.8 * len(steps)


def test_statistics_of_another_length_are_refused(supernet, micro, smallest):
    count = len(supernet.observers)
    expected = f"one array for each of {count} BatchNorms and quantizers, received {count - 1}"
    with pytest.raises(ValueError, match=expected):
        extract(supernet, micro.smallest(), smallest[1][:-1])


def test_an_architecture_of_another_space_is_refused_with_stage_and_block(supernet, micro, smallest):
    wrong = dataclasses.replace(micro.smallest(), kernels=(3, 7))
    with pytest.raises(ValueError, match="micro: stage 3, block 1: kernel size 7 is not one of"):
        extract(supernet, wrong, smallest[1])


def test_with_a_step_for_each_size_a_subnet_takes_those_of_its_sizes(micro, make_supernet, rng, cut):
    prototypes = {"weights": BySize(LSQ(bits=4)), "inputs": BySize(LSQ(bits=4, signed=False))}
    supernet = make_supernet(micro, **prototypes)
    assert max(len(q.step.shape) for q in supernet.quantizers) == 2  # kernel size and width of depthwise kernels
    for quantizer in supernet.quantizers:
        quantizer.step.assign(quantizer.step * rng.uniform(0.7, 1.4, quantizer.step.shape))
    for arch in (micro.largest(), micro.smallest(), micro.sample(rng)):
        model, statistics = cut(supernet, arch)
        x = images(arch.resolution)
        expected = supernet(x, micro.encode(arch), statistics=statistics).numpy()
        error = np.abs(model(x) - expected).max(axis=1) / np.abs(expected).max()
        assert np.median(error) <= 1e-5, arch.key
        assert all(q.step.shape == () for q in quantizers_of(model))

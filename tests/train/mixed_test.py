"""A supernet of every mixture of bit widths (QFA): one trace, the same as extracted models, and their integer files."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqnas
from tfqnas import LSQ, Supernet
from tfqnas.quantizers import FLOAT, BatchQuant, ByBits
from tfqnas.scoring.scorer import Scorer
from tfqnas.subnet import snap_zero_points
from tfqnas.train.calibrate import recalibrate, subnet_logits
from tfqnas.train.inherit import copy_weights
from tfqnas.train.loop import Trainer
from tfqnas.train.run_config import RunConfig

CHOICES = (2, 3, 4)
INPUTS = {"batch_quant": BatchQuant(bits=4), "lsq": LSQ(bits=4, signed=False)}


@pytest.fixture(scope="module")
def space(micro):
    return dataclasses.replace(micro, weight_bits=CHOICES, input_bits=CHOICES)


@pytest.fixture(scope="module")
def make_mixed(make_supernet):
    def make(space, inputs="batch_quant", **settings):
        weights, inputs = ByBits(LSQ(bits=4), space.weight_bits), ByBits(INPUTS[inputs], space.input_bits)
        supernet = make_supernet(space, weights=weights, inputs=inputs, **settings)
        rng = np.random.default_rng(5)
        for quantizer in supernet.quantizers:
            for name in ("theta", "offset"):
                if (parameter := getattr(quantizer, name, None)) is not None:
                    parameter.assign(0.3 * rng.normal(size=parameter.shape))
        return supernet

    return make


@pytest.fixture(scope="module")
def supernet(space, make_mixed):
    return make_mixed(space)


def pixels(count, resolution, seed=0):
    """Images of different brightness, as integers from 0 to 255."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(40, 200, (count, 1, 1, 1)) + 40 * rng.normal(size=(count, resolution, resolution, 1))
    return np.clip(np.rint(values), 0, 255)


def images(count, resolution, seed=0):
    return np.float32((pixels(count, resolution, seed) - 128) / 128)


def some_archs(space, count=4):
    rng = np.random.default_rng(1)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(count))]


def test_one_trace_serves_every_mixture(supernet, space):
    for arch in some_archs(space):
        code, x = space.encode(arch), images(8, arch.resolution)
        supernet.logits(x, code, [tf.constant(s) for s in recalibrate(supernet, code, x)])
    assert supernet.logits.experimental_get_tracing_count() == 1
    assert supernet.batch_statistics.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("inputs", INPUTS)
def test_an_extracted_mixture_computes_what_the_supernet_computes(inputs, space, make_mixed, tmp_path):
    supernet = make_mixed(space, inputs)
    for arch in some_archs(space, 2):
        x, code = images(16, arch.resolution), space.encode(arch)
        statistics = recalibrate(supernet, code, x)
        model = tfqnas.extract(supernet, arch, statistics)
        np.testing.assert_allclose(model(x), subnet_logits(supernet, code, statistics, x), atol=1e-5)
        found = [
            (layer.weight_quantizer.bits, layer.input_quantizer.bits)
            for layer in model.layers
            if getattr(layer, "weight_quantizer", None) is not None
        ]
        assert found == [tuple(pair) for pair in arch.bits]
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def test_32_bits_are_floating_point(space, make_mixed, make_supernet):
    both = space.with_float()
    supernet = make_mixed(both)
    assert both.largest().bits[0] == (FLOAT, FLOAT)
    plain = make_supernet(space, None)
    copy_weights(supernet, plain)
    x, code = images(8, 12), both.encode(both.largest())
    np.testing.assert_allclose(supernet(x, tf.constant(code)), plain(x), atol=1e-4)
    model = tfqnas.extract(supernet, both.largest(), recalibrate(supernet, code, x))
    assert tfqnas.quantizers.quantizers_of(model) == []


def test_quantizers_that_do_not_fit_the_space_are_refused(space, micro):
    with pytest.raises(ValueError, match=r"weights: expected a quantizer for the bit widths of .* micro, \(2, 3, 4\)"):
        Supernet(space, weights=LSQ(bits=4), inputs=ByBits(BatchQuant(4)))
    with pytest.raises(ValueError, match=r"none to choose, received \(2, 3, 4\)"):
        Supernet(micro, weights=ByBits(LSQ(bits=4)), inputs=LSQ(bits=4, signed=False))


def test_scores_are_those_of_recalibration_and_prediction(supernet, space):
    class Images:
        def __init__(self, resolution, seed):
            self.x, self.labels = images(48, resolution, seed), np.random.default_rng(seed).integers(0, 10, 48)

        def __len__(self):
            return len(self.x)

        def batches(self, size):
            return (self.x[i : i + size] for i in range(0, len(self.x), size))

    seen, held_out = ({r: Images(r, seed) for r in space.resolutions} for seed in (1, 2))
    scorer = Scorer(supernet, seen.__getitem__, held_out.__getitem__, first_look=16, batch_size=16, shown_at_once=16)
    archs = some_archs(space)
    rng = np.random.default_rng(2)
    archs += [space.mutate(archs[2], rng, 0.05) for _ in range(3)]  # relatives: of the same blocks, or all but bits
    for index, score in scorer.score(archs):
        arch, code = archs[index], space.encode(archs[index])
        shown = held_out[arch.resolution]
        statistics = recalibrate(supernet, code, seen[arch.resolution].x, 16)
        classes = subnet_logits(supernet, code, statistics, shown.x).argmax(axis=1)
        np.testing.assert_array_equal(score.outcomes, classes == shown.labels)


def test_a_step_with_floating_point_moves_the_parameters_of_the_bit_widths_in_use_alone(space, make_mixed):
    both = space.with_float()
    supernet = make_mixed(both)
    trainer = Trainer(supernet, RunConfig(random_subnets=2), space=space)
    x, labels = tf.constant(images(8, 12)), tf.constant(np.arange(8), tf.int32)
    quantizers = {q.path: q for q in supernet.quantizers}
    before = {path: q.variables[0].numpy().copy() for path, q in quantizers.items()}
    result = trainer.run_step((x, labels), [both.largest(), both.smallest()], [0.0, 0.0], (0, 0), 0.1)
    assert result.finite
    for path, quantizer in quantizers.items():
        moved = quantizer.variables[0].numpy() != before[path]
        if path.startswith(("stage2_block2", "stage3_block2")):  # the largest alone has these, in floating point
            assert not moved.any(), path
        else:
            assert not moved[1:].any(), path  # the smallest has 2 bits, the largest 32
    assert any(q.variables[0].numpy()[0].sum() != before[p][0].sum() for p, q in quantizers.items())


@pytest.mark.parametrize("place", range(4))
def test_a_mixture_becomes_integers_exactly(place, supernet, space):
    from tflite_export import reference, writer
    from tflite_export.lower import lower
    from tflite_export.runtime import Runtime

    arch = some_archs(space)[place]
    x = images(64, arch.resolution)
    model = tfqnas.extract(supernet, arch, recalibrate(supernet, space.encode(arch), x, 64))
    graph = lower(model, x)
    integers = np.int8(pixels(64, arch.resolution, seed=3) - 128)
    expected = reference.run(graph, integers)
    np.testing.assert_array_equal(Runtime(writer.write(graph)).run(integers), expected)
    found = {tensor.bits for tensor in graph.tensors.values()}
    assert {width for pair in arch.bits for width in pair} <= found


def test_snapping_is_what_evaluation_does_unless_told_otherwise(supernet, space):
    arch = space.largest()
    x = images(32, arch.resolution)
    model = tfqnas.extract(supernet, arch, recalibrate(supernet, space.encode(arch), x))
    snapped = model(x).numpy()
    snap_zero_points(model, False)
    fractional = model(x).numpy()
    assert np.abs(snapped - fractional).max() > 1e-3
    snap_zero_points(model)
    np.testing.assert_array_equal(model(x), snapped)

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.quantizers import LSQ, CalibratedWeights, LSQPerChannel
from tfqnas.quantizers.lsq import first_step
from tfqnas.supernet import Supernet, initialize
from tfqnas.train.calibrate import recalibrate


@pytest.fixture(scope="module")
def supernet(micro, make_supernet):
    """Of 16 bits and fine steps: where rounding carries a value over a tie, little moves."""
    supernet = make_supernet(micro, bits=16, dropout=0.3)
    for quantizer in supernet.quantizers:
        quantizer.step.assign(quantizer.step / 16)
    return supernet


def images(rng, resolution=12, batch=6, channels=1):
    return tf.constant(rng.normal(size=(batch, resolution, resolution, channels)), tf.float32)


def small(micro):
    """The architecture with one block a stage, the smaller kernels and widths, at the largest resolution."""
    return dataclasses.replace(micro.smallest(), resolution=max(micro.resolutions))


# -- The architecture is an argument ---------------------------------------------------------------------------


def test_no_code_is_the_code_of_the_largest(micro, supernet, rng):
    x, code = images(rng), micro.encode(micro.largest())
    np.testing.assert_allclose(supernet(x), supernet(x, code), rtol=1e-5, atol=1e-5)
    y, statistics = supernet(x, collect=True)
    coded, coded_statistics = supernet(x, code, collect=True)
    np.testing.assert_allclose(y, coded, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(statistics, coded_statistics, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_one_trace_for_statistics_and_one_for_logits_serve_every_architecture_and_size(micro, supernet, rng):
    archs = [micro.largest(), micro.smallest(), *(micro.sample(rng) for _ in range(6))]
    assert len({arch.resolution for arch in archs}) == 2
    for batch, arch in enumerate(archs, 3):
        code = micro.encode(arch)
        x = images(rng, arch.resolution, batch)
        statistics = recalibrate(supernet, code, x, batch_size=batch // 2)
        logits = supernet.logits(x, code, statistics)
        if batch % 3:
            continue
        # The graph computes what eager TensorFlow does, whichever architecture came first.
        np.testing.assert_allclose(logits, supernet(x, code, statistics=statistics), rtol=1e-3, atol=1e-3)
    assert supernet.batch_statistics.experimental_get_tracing_count() == 1
    assert supernet.logits.experimental_get_tracing_count() == 1


def test_genes_of_blocks_beyond_the_depth_change_nothing(micro, supernet, rng):
    arch = small(micro)
    code = micro.encode(arch)
    free = ~micro.active(code)
    assert free.sum() == 4
    other = np.where(free, micro.choice_counts - 1, code).astype(np.int32)
    x = images(rng)
    np.testing.assert_array_equal(supernet(x, code), supernet(x, other))


def test_every_active_gene_but_the_resolution_changes_the_output(micro, supernet, rng):
    largest = micro.encode(micro.largest())
    x = images(rng)
    statistics = supernet.batch_statistics(x, largest)
    y = supernet.logits(x, largest, statistics).numpy()
    for position, gene in enumerate(micro.genes[1:], 1):
        code = largest.copy()
        code[position] = 0
        assert np.abs(supernet.logits(x, code, statistics) - y).max() > 1e-3, gene


def test_given_the_statistics_of_the_batch_it_computes_what_the_batch_gave(micro, supernet, rng):
    x = images(rng)
    for arch in (micro.largest(), small(micro)):
        code = micro.encode(arch)
        y, statistics = supernet(x, code, collect=True)
        assert [s.shape for s in statistics] == [(2, o.statistics_size) for o in supernet.observers]
        np.testing.assert_array_equal(supernet(x, code), y)
        np.testing.assert_allclose(supernet(x, code, statistics=statistics), y, rtol=1e-3, atol=1e-3)


def test_statistics_of_absent_blocks_and_channels_are_zeros(micro, supernet, rng):
    arch = small(micro)
    _, statistics = supernet(images(rng), micro.encode(arch), collect=True)
    by_norm = dict(zip([id(norm) for norm in supernet.observers], statistics, strict=True))
    widths = {(b.stage, b.index): b.hidden for b in micro.blocks(arch)}
    for block, spec in zip(supernet.blocks, micro.blocks(micro.largest()), strict=True):
        width = widths.get((spec.stage, spec.index), 0)
        variance = by_norm[id(block.depthwise_norm)][1].numpy()
        assert (variance[:width] > 0).all() and not variance[width:].any()


# -- Gradients -------------------------------------------------------------------------------------------------


def gradients(supernet, x, code):
    variables = supernet.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(supernet(x, code) ** 2)
    found = tape.gradient(loss, [v.value for v in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return {v.path: tf.convert_to_tensor(g).numpy() for v, g in zip(variables, found, strict=True)}


def test_absent_blocks_and_channels_get_no_gradient_and_present_ones_do(micro, supernet, rng):
    found = gradients(supernet, images(rng), micro.encode(small(micro)))
    for path, gradient in found.items():
        if "_block2/" in path:
            assert not gradient.any(), path
        elif not path.endswith("input_quantizer/step"):  # of an unclipped input it may be small
            assert gradient.any(), path
    width = {1: 24, 2: 24}  # expand ratio 3 of 8 channels
    for stage, hidden in width.items():
        block = f"stage{stage + 1}_block1"
        assert not found[f"{block}/expand/kernel"][..., hidden:].any()
        assert not found[f"{block}/depthwise_norm/gamma"][hidden:].any()
        assert not found[f"{block}/project/kernel"][:, :, hidden:].any()
        kernel = found[f"{block}/depthwise/kernel"]
        assert kernel[1:4, 1:4, :hidden].any() and not kernel[:, :, hidden:].any()
        assert not kernel[0].any() and not kernel[-1].any() and not kernel[:, 0].any() and not kernel[:, -1].any()


def test_of_the_largest_every_weight_gets_a_gradient(supernet, rng):
    for path, gradient in gradients(supernet, images(rng), None).items():
        assert np.isfinite(gradient).all() and gradient.any(), path


# -- Quantizers ------------------------------------------------------------------------------------------------


def test_first_convolution_squeeze_excite_and_classifier_are_not_quantized(supernet):
    quantized = [q.path.rsplit("/", 1)[0] for q in supernet.quantizers if q.name == "weight_quantizer"]
    assert quantized == [
        "stage1_block1/depthwise",
        "stage1_block1/project",
        *(f"stage{s}_block{b}/{c}" for s in (2, 3) for b in (1, 2) for c in ("expand", "depthwise", "project")),
        "head",
        "mix",
    ]
    inputs = [q.path.rsplit("/", 1)[0] for q in supernet.quantizers if q.name == "input_quantizer"]
    assert inputs == quantized and supernet.bits == 16
    steps = [v.path for v in supernet.variables if v.path.endswith("step")]
    assert sorted(steps) == sorted(f"{q.path}/step" for q in supernet.quantizers)  # one each, for all subnets
    assert len({id(q) for q in supernet.quantizers}) == len(supernet.quantizers)
    assert all(q.signed == (q.name == "weight_quantizer") for q in supernet.quantizers)


@pytest.mark.parametrize("kernel_transform", [False, True])
def test_initialize_sets_every_quantizer_weights_from_the_whole_kernel(kernel_transform, micro, make_supernet, rng):
    supernet = make_supernet(micro, initialized=False, kernel_transform=kernel_transform)
    assert all("not set" in q.problem for q in supernet.quantizers)
    x = images(rng, batch=16)
    assert np.isnan(supernet(x)).all()
    initialize(supernet, x)
    assert all(q.problem is None for q in supernet.quantizers)
    convolutions = [c for b in supernet.blocks for c in (b.expand, b.depthwise, b.project) if c is not None]
    for layer in [*convolutions, supernet.head, supernet.feature]:
        expected = first_step(layer.kernel, -8, 7)
        assert layer.weight_quantizer.step.numpy() == pytest.approx(expected, rel=1e-4), layer.path
    # The first quantized convolution reads what the stem gives for these images.
    stem = supernet.stem_activation(supernet.stem_norm(supernet.stem(x)))
    expected = first_step(stem, 0, 15)
    assert supernet.blocks[0].depthwise.input_quantizer.step.numpy() == pytest.approx(expected, rel=1e-4)


def test_without_quantizers_there_are_none(micro, make_supernet, rng):
    supernet = make_supernet(micro, bits=None)
    assert supernet.quantizers == [] and supernet.bits is None
    before = [v.numpy() for v in supernet.variables]
    initialize(supernet, images(rng))
    for variable, value in zip(supernet.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_another_like_it_has_its_settings_and_weights_of_its_own(supernet):
    other = supernet.like(weights=LSQ(bits=2), num_classes=3)
    assert other.settings == {**supernet.settings, "weights": other.settings["weights"], "num_classes": 3}
    assert other.bits == 2 and other.space is supernet.space
    assert not {id(v) for v in other.variables} & {id(v) for v in supernet.variables}


# -- Dropout and shapes ----------------------------------------------------------------------------------------


def test_features_are_dropped_in_training_alone_and_by_the_seed(supernet, rng):
    x = images(rng)

    def logits(seed=(0, 1), training=True):
        return supernet(x, training=training, seed=tf.constant(seed)).numpy()

    np.testing.assert_array_equal(logits(), logits())
    assert np.abs(logits() - logits((0, 2))).max() > 1e-3
    np.testing.assert_array_equal(logits(training=False), supernet(x))
    assert np.abs(logits() - supernet(x)).max() > 1e-3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mix", [24, None])
def test_logits_are_one_a_class(channels, mix, micro, rng):
    supernet = Supernet(dataclasses.replace(micro, feature_channels=mix), num_classes=7, channels=channels)
    assert supernet(images(rng, 8, 5, channels)).shape == (5, 7)
    assert (supernet.feature is None) == (mix is None)
    assert supernet.stem.kernel.shape[2] == channels


def test_scales_for_the_channels_of_one_kernel_are_refused(micro):
    for weights in (LSQPerChannel(4), CalibratedWeights(4, axis=-1)):
        with pytest.raises(ValueError, match=f"weights: {type(weights).__name__} keeps a scale for each channel"):
            Supernet(micro, weights, LSQ(4, signed=False))
    Supernet(micro, CalibratedWeights(4), LSQ(4, signed=False))

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.data.splits import Arrays
from tfqnas.errors import TrainingDivergedError
from tfqnas.train.distill import subnet_loss
from tfqnas.train.loop import StepResult, Teacher, Trainer, cosine, soft_weights, total_steps
from tfqnas.train.run_config import RunConfig
from tfqnas.train.sampling import sampler
from tfqnas.train.stages import TrainingStage, finetuning

CONFIG = RunConfig(
    batch_size=8,
    weight_decay=0.01,
    momentum=0.9,
    label_smoothing=0.1,
    distillation_temperature=2.0,
    random_subnets=2,
    warmup_epochs=0.0,
    dropout=0.0,
    checkpoint_steps=2,
)
STAGE = TrainingStage("some", 4, 1.0, 0.1, "sandwich", "in_place")


@pytest.fixture(scope="module")
def supernet(micro, make_supernet):
    return make_supernet(micro, bits=4)


@pytest.fixture(scope="module")
def trainer(supernet):
    """Its step is traced once, by the first test that takes one."""
    return Trainer(supernet, CONFIG)


@pytest.fixture(scope="module")
def initial(trainer):
    return [v.numpy() for v in variables(trainer)]


@pytest.fixture
def fresh(trainer, initial):
    """The trainer with its initial weights and no momentum."""
    for variable, value in zip(variables(trainer), initial, strict=True):
        variable.assign(value)
    return trainer


def variables(trainer):
    return [*trainer.supernet.variables, *trainer.optimizer.variables]


def weights(trainer):
    return [v.numpy() for v in trainer.supernet.trainable_variables]


@pytest.fixture
def batch(rng):
    x = rng.normal(size=(8, 12, 12, 1)).astype(np.float32)
    return tf.constant(x), tf.constant(rng.integers(0, 10, 8), tf.int32)


def subnets_of(trainer, archs, soft_weights):
    return [*trainer._padded(archs, soft_weights), tf.constant((5, 6), tf.int32)]


def one_by_one(supernet, batch, archs, soft_weights, soft_labels):
    """Losses, accuracies and the summed gradients, each subnet on its own with a tape.

    `soft_labels(i, images, logits of the first)` gives the teacher's logits.
    """
    images, labels = batch
    own = [v.value for v in supernet.trainable_variables]
    losses, accuracies, total, first = [], [], [np.zeros(v.shape) for v in own], None
    for i, (arch, weight) in enumerate(zip(archs, soft_weights, strict=True)):
        x = images
        if arch.resolution != 12:
            x = tf.image.resize(images, (arch.resolution, arch.resolution), antialias=True)
        with tf.GradientTape() as tape:
            logits = supernet(x, supernet.space.encode(arch))
            first = tf.stop_gradient(logits) if first is None else first
            loss = subnet_loss(logits, labels, soft_labels(i, x, first), weight, 0.1, 2.0)
        gradients = tape.gradient(loss, own, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        total = [t + np.float64(tf.convert_to_tensor(g)) for t, g in zip(total, gradients, strict=True)]
        losses.append(loss.numpy())
        accuracies.append(np.mean(np.argmax(logits, axis=1) == labels))
    return total, losses, accuracies


def assert_gradients(computed, expected):
    scale = math.sqrt(sum(np.sum(g**2) for g in expected))
    for ours, theirs in zip(computed, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * scale)


# -- The gradients of a step -----------------------------------------------------------------------------------


def test_a_step_sums_the_gradients_of_its_subnets_with_soft_labels_of_the_first(micro, fresh, batch, rng):
    archs = [micro.largest(), micro.smallest(), micro.sample(rng)]
    soft_weights = [0.0, 1.0, 0.5]
    gradients, losses, accuracies = fresh.gradients(*batch, *subnets_of(fresh, archs, soft_weights))
    expected = one_by_one(fresh.supernet, batch, archs, soft_weights, lambda i, x, first: first)
    assert_gradients(gradients, expected[0])
    np.testing.assert_allclose(losses, expected[1], rtol=1e-4)
    np.testing.assert_allclose(accuracies, expected[2], rtol=1e-6)


@pytest.fixture(scope="module")
def teacher_supernet(micro, make_supernet):
    return make_supernet(micro, bits=8, seed=9)


def test_a_teacher_gives_the_logits_of_its_largest_for_every_subnet(micro, fresh, teacher_supernet, batch):
    images, _ = batch
    _, statistics = teacher_supernet(images * 1.1, collect=True)
    trainer = Trainer(fresh.supernet, CONFIG, teacher=Teacher(teacher_supernet, statistics))
    archs, soft_weights = [micro.largest(), micro.smallest()], [1.0, 0.7]
    gradients, losses, _ = trainer.gradients(*batch, *subnets_of(trainer, archs, soft_weights))
    soft = teacher_supernet(images, statistics=statistics)  # at full resolution, whatever the student's
    expected = one_by_one(fresh.supernet, batch, archs, soft_weights, lambda i, x, first: soft)
    assert_gradients(gradients, expected[0])
    np.testing.assert_allclose(losses, expected[1], rtol=1e-4)


def test_a_teacher_of_the_same_architecture_takes_the_students_image_and_code(micro, fresh, teacher_supernet, batch):
    trainer = Trainer(fresh.supernet, CONFIG, teacher=Teacher(teacher_supernet, None))
    archs, soft_weights = [micro.largest(), micro.smallest()], [1.0, 1.0]
    before = [v.numpy() for v in teacher_supernet.variables]
    gradients, losses, _ = trainer.gradients(*batch, *subnets_of(trainer, archs, soft_weights))
    expected = one_by_one(
        fresh.supernet, batch, archs, soft_weights, lambda i, x, first: teacher_supernet(x, micro.encode(archs[i]))
    )
    assert_gradients(gradients, expected[0])
    np.testing.assert_allclose(losses, expected[1], rtol=1e-4)
    for variable, value in zip(teacher_supernet.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


# -- The update ------------------------------------------------------------------------------------------------


def test_an_update_is_nesterov_on_the_summed_gradient_and_the_decay_of_kernels_alone(micro, fresh, batch):
    archs, rate = [micro.largest(), micro.smallest()], 0.05
    soft_weights = [0.0, 1.0]
    gradients, losses, accuracies = fresh.gradients(*batch, *subnets_of(fresh, archs, soft_weights))
    gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
    before = weights(fresh)
    result = fresh.run_step(batch, archs, soft_weights, (5, 6), rate)
    decayed = 0
    paths = [v.path for v in fresh.supernet.trainable_variables]
    for path, old, new, g in zip(paths, before, weights(fresh), gradients, strict=True):
        decays = path.endswith("/kernel")
        step = -rate * 1.9 * (g + 0.01 * old * decays)  # the first of momentum 0.9
        expected = np.maximum(old + step, 1e-6) if path.endswith("/step") else old + step
        np.testing.assert_allclose(new, expected, rtol=1e-3, atol=2e-4 * max(1, np.abs(step).max()), err_msg=path)
        decayed += decays
    assert decayed == sum(path.endswith("/kernel") for path in paths) and 0 < decayed < len(paths)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-3)
    np.testing.assert_allclose(result.accuracies, accuracies, rtol=1e-6)
    norm = math.sqrt(sum(np.sum(np.float64(g) ** 2) for g in gradients))
    assert result.gradient_norm == pytest.approx(norm, rel=1e-3) and result.finite


def test_decay_alone_shrinks_kernels_and_spares_batch_norm_biases_and_steps(micro, fresh, batch):
    """Where no gradient comes: the second blocks are not in the smallest subnet."""
    before = dict(zip([v.path for v in fresh.supernet.trainable_variables], weights(fresh), strict=True))
    fresh.run_step(batch, [micro.smallest()], [0.0], (0, 0), 0.5)
    absent = [v for v in fresh.supernet.trainable_variables if "_block2/" in v.path]
    kinds = {v.path.rsplit("/", 1)[1] for v in absent}
    assert kinds == {"kernel", "bias", "gamma", "beta", "step"}
    for variable in absent:
        factor = 1 - 0.5 * 1.9 * 0.01 if variable.path.endswith("/kernel") else 1
        np.testing.assert_allclose(variable, before[variable.path] * factor, rtol=1e-5, err_msg=variable.path)


def test_one_trace_serves_every_stage_architecture_and_number_of_subnets(micro, fresh, batch, rng):
    stages = [dataclasses.replace(STAGE, sampling="largest"), STAGE, finetuning(4, micro.smallest(), 1.0, 0.1)]
    for stage in (*stages, *stages):
        archs = sampler(micro, stage, 2)(rng)
        fresh.run_step(batch, archs, soft_weights(stage, len(archs), CONFIG.distillation_weight), (0, 1), 0.01)
    for _ in range(4):
        archs = sampler(micro, STAGE, 2)(rng)
        fresh.run_step(batch, archs, [0.0, 1.0, 1.0, 1.0], (0, 1), 0.01)
    assert fresh.compiled_step.experimental_get_tracing_count() == 1


# -- What is sampled, and how fast it learns -------------------------------------------------------------------


def test_a_sandwich_is_the_largest_the_smallest_and_random_ones_in_that_order(micro):
    sample = sampler(micro, STAGE, 3)
    drawn = [sample(np.random.default_rng(seed)) for seed in range(20)]
    for archs in drawn:
        assert archs[:2] == [micro.largest(), micro.smallest()] and len(archs) == 5
    assert len({arch for archs in drawn for arch in archs[2:]}) > 30
    assert sample(np.random.default_rng(3)) == drawn[3]  # of the generator alone
    assert {arch.resolution for archs in drawn for arch in archs[2:]} == set(micro.resolutions)


def test_other_stages_train_one_subnet_a_step(micro, rng):
    arch = micro.sample(rng)
    assert sampler(micro, dataclasses.replace(STAGE, sampling="largest"), 3)(rng) == [micro.largest()]
    assert sampler(micro, finetuning(4, arch, 1.0, 0.1), 3)(rng) == [arch]


@pytest.mark.parametrize(
    ("soft_labels", "expected", "own"),
    [
        (None, [0, 0, 0], [0, 0, 0]),
        ("in_place", [0, 1, 1], [0, 1, 1]),
        ("supernet_b8", [0.8, 0.8, 0.8], [0.25, 0.25, 0.25]),
    ],
)
def test_in_place_the_largest_learns_from_labels_and_under_a_teacher_all_learn_from_it(soft_labels, expected, own):
    stage = dataclasses.replace(STAGE, soft_labels=soft_labels)
    assert soft_weights(stage, 3, 0.8) == expected
    # A stage may have a weight of its own.
    assert soft_weights(dataclasses.replace(stage, soft_weight=0.25), 3, 0.8) == own


@pytest.mark.parametrize(("total", "warmup"), [(100, 0), (100, 10), (7, 3), (1, 5), (2, 5)])
def test_the_learning_rate_rises_linearly_and_falls_as_half_a_cosine(total, warmup):
    rates = [cosine(0.4, step, total, warmup) for step in range(total)]
    warmup = min(warmup, total // 2)
    rising, falling = np.arange(1, warmup + 1) / max(1, warmup), np.arange(total - warmup) / max(1, total - warmup)
    expected = 0.4 * np.concatenate([rising, 0.5 * (1 + np.cos(np.pi * falling))])
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert max(rates) == pytest.approx(0.4) and min(rates) > 0


def test_a_stage_is_as_many_steps_as_its_epochs_have_batches():
    assert [total_steps(dataclasses.replace(STAGE, epochs=e), 1200, 64) for e in (0.0, 1.0, 10.0, 0.5)] == [
        0,
        19,
        188,
        9,
    ]


def test_a_result_with_a_number_that_is_not_finite_says_so():
    one, nan = np.ones(2), np.array([1.0, np.nan])
    assert StepResult(one, one, 1.0).finite
    assert not StepResult(nan, one, 1.0).finite and not StepResult(one, one, math.inf).finite


# -- A whole stage ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    return Arrays(rng.integers(0, 256, (40, 8, 8, 1), np.uint8), rng.integers(0, 10, 40).astype(np.int32))


def recorded(trainer, data, start=0, stage=STAGE):
    steps, checkpoints = [], []
    trainer.fit(
        stage,
        data,
        start,
        on_step=lambda step, result, rate, waited: steps.append((step, result, rate, waited)),
        on_checkpoint=checkpoints.append,
    )
    return steps, checkpoints


def test_a_stage_takes_its_steps_and_asks_for_checkpoints_at_intervals_and_its_end(fresh, data):
    steps, checkpoints = recorded(fresh, data)
    assert [step for step, *_ in steps] == [0, 1, 2, 3, 4] and checkpoints == [2, 4, 5]
    np.testing.assert_allclose([rate for *_, rate, _ in steps], [cosine(0.1, s, 5, 0) for s in range(5)])
    assert all(len(result.losses) == 4 and waited >= 0 for _, result, _, waited in steps)
    assert fresh.compiled_step.experimental_get_tracing_count() == 1


def test_a_stage_that_goes_on_ends_where_one_without_a_stop_ends(fresh, initial, data):
    recorded(fresh, data)
    whole = weights(fresh)
    for variable, value in zip(variables(fresh), initial, strict=True):
        variable.assign(value)

    class Stop(Exception):
        pass

    def stop(step):
        raise Stop

    with pytest.raises(Stop):
        fresh.fit(STAGE, data, on_checkpoint=stop)
    between = [v.numpy() for v in variables(fresh)]
    recorded(fresh, data)  # something else happens to these weights
    for variable, value in zip(variables(fresh), between, strict=True):
        variable.assign(value)
    steps, _ = recorded(fresh, data, start=2)
    assert [step for step, *_ in steps] == [2, 3, 4]
    for ours, theirs in zip(weights(fresh), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_training_on_one_batch_makes_the_loss_of_every_subnet_fall(micro, fresh, batch):
    archs = [micro.largest(), micro.smallest()]
    losses = [fresh.run_step(batch, archs, [0.0, 0.0], (0, s), 0.05).losses for s in range(15)]
    assert (losses[-1] < 0.8 * losses[0]).all()


def test_a_loss_that_is_not_finite_stops_with_stage_step_rate_and_quantizer(fresh, data):
    quantizer = fresh.supernet.blocks[0].depthwise.weight_quantizer
    quantizer.step.assign(np.nan)
    checkpoints = []
    # A ReLU fused into the graph can make 0 of NaN: the loss may look like one, the gradient does not.
    message = r"stage some, step 3 of 5, learning rate 0\.0345: .*the loss is .*gradient's norm nan; " + (
        f"{quantizer.path}: the step size is not set"
    )
    with pytest.raises(TrainingDivergedError, match=message):
        fresh.fit(STAGE, data, start=3, on_checkpoint=checkpoints.append)
    assert checkpoints == []

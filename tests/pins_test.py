"""What a restructuring must not change: exported files, scores, trained weights, names, flags and settings.

Every test compares with a result that was recorded once, here or in `tests/pins/`. A pin moves only in a commit of its
own whose message says why the result is another one. `TFQNAS_WRITE_PINS=1 pytest tests/pins_test.py` writes the files
in `tests/pins/` anew, except `config.json`, `model.json` and `nano.json`, which stand for files that users have, and
`images.json`, the choice of images that the scores need.

Another processor rounds sums of floating-point numbers differently. What is compared exactly is therefore made so that
no rounding reaches it: weights, steps, ranges and statistics are given, as small integers times powers of two, and no
quotient that is rounded to an integer lies near a half. What depends on rounding is compared with a tolerance, whose
reason stands beside it.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
import pkgutil
import re
import shutil

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PINS = ROOT / "tests" / "pins"


def tool_modules():
    """`{command: module}` of every command-line tool. Nothing else here knows where tools live."""
    sources = {path.stem: path.read_text() for path in sorted((ROOT / "tools").glob("*.py"))}
    commands = {name: re.search(r'run\("([\w-]+)"\)', text)[1] for name, text in sources.items()}
    return {name: f"tfqnas.cli.{command.replace('-', '_')}" for name, command in commands.items()}


def assert_pinned(name, found, compare):
    """Calls `compare(found, kept)` with what `tests/pins/<name>.json` keeps; both are JSON data."""
    path = PINS / f"{name}.json"
    found = json.loads(json.dumps(found))
    if os.environ.get("TFQNAS_WRITE_PINS"):
        path.write_text(_lines(found) + "\n")
    compare(found, json.loads(path.read_text()))


def _lines(data, depth=2):
    """JSON with a line for each entry of a dict and of the dicts in it."""
    if not depth or not isinstance(data, dict):
        return json.dumps(data)
    indent = " " * (3 - depth)
    entries = (f"{indent}{json.dumps(key)}: {_lines(value, depth - 1)}" for key, value in sorted(data.items()))
    return "{\n" + ",\n".join(entries) + f"\n{indent[1:]}}}"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# -- networks without a random float ----------------------------------------------------------------------------------

# Steps of kernels in units of their weights, by bits: an odd multiple of a quarter or a half, so that no weight
# divided by its step lies nearer to a half than 1/74.
WEIGHT_STEPS = {2: 18.5, 3: 8.5, 4: 4.5, 8: 0.25}
LARGEST = 31  # weights are whole numbers up to this, times a power of two
GAIN_EXPONENT = 32.0  # the softplus of BatchQuant's gain is the identity there, so the gain is 32 on every processor


def power_of_two(x):
    return 2.0 ** round(float(np.log2(x)))


def kernel_of(rng, shape):
    """`(kernel, its unit)` with a largest weight of the same odd number of units in every channel."""
    kernel = rng.integers(-LARGEST, LARGEST + 1, shape)
    fan = int(np.prod(shape[:-1])) if shape[-1] > 1 else int(np.prod(shape[:2]))
    kernel[(0,) * (2 if shape[-1] == 1 else len(shape) - 1)] = LARGEST
    unit = power_of_two((2 / fan) ** 0.5 / (LARGEST / 3**0.5))
    return kernel * unit, unit


def settle(variables, seed=0):
    """Gives all variables of a network values that are whole numbers times powers of two; ranges are left alone."""
    rng = np.random.default_rng(seed)
    units = {}
    values = {
        "gamma": lambda shape: 1 + rng.integers(-3, 4, shape) / 8,
        # A channel that is zero everywhere gives this number: it must not be halfway between two codes.
        "beta": lambda shape: rng.integers(-4, 5, shape) / 8 + 1 / 128,
        "bias": lambda shape: rng.integers(-8, 9, shape) / 32,
        "moving_mean": lambda shape: rng.integers(-4, 5, shape) / 8,
        "moving_variance": lambda shape: rng.integers(2, 7, shape) / 4,
        "offset": lambda shape: rng.integers(0, 2, shape),
        "theta": lambda shape: np.full(shape, GAIN_EXPONENT),
    }
    for variable in variables:
        shape, layer = tuple(variable.shape), variable.path.rpartition("/")[0]
        if variable.name == "kernel":
            value, units[layer] = kernel_of(rng, shape)
            variable.assign(value)
        elif variable.name in values:
            variable.assign(values[variable.name](shape))
    return units


def settle_steps(quantizers, units, bits, seed=1):
    """Sets the steps of LSQ, those of kernels by their units; `bits`: ascending where a quantizer has several."""
    rng = np.random.default_rng(seed)
    for quantizer in quantizers:
        step = getattr(quantizer, "step", None)
        if step is None:
            continue
        layer, _, role = step.path.removesuffix("/step").rpartition("/")
        widths = bits if len(step.shape) else (quantizer.bits,)
        if "weight" in role:
            of_bits = np.array([WEIGHT_STEPS[width] * units[layer] for width in widths])
        else:  # up to about four; what "mix" reads is a mean over the image, which varies less
            unit = 1 / 8 if layer.endswith("mix") else 1 / 2
            of_bits = np.array([rng.integers(5, 9) * unit / 2.0**width for width in widths])
        of_bits = of_bits.reshape([-1] + [1] * (len(step.shape) - 1))
        step.assign(np.broadcast_to(of_bits, step.shape) if len(step.shape) else of_bits.item())


def given_statistics(observers, seed=2):
    """Statistics for `extract`: means and variances of BatchNorm, ranges of BatchQuant, for its gain of 32."""
    rng = np.random.default_rng(seed)

    def of(size, is_norm):
        if is_norm:
            return np.stack([rng.integers(-4, 5, size) / 8, rng.integers(2, 7, size) / 4])
        # From low to high an odd number of quarters: then no zero point is a half before it is rounded.
        low, width = rng.integers(0, 3, size), 2 * rng.integers(5, 8, size) + 1
        return GAIN_EXPONENT * np.stack([-low, width - low]) / 4

    return [of(o.statistics_size, hasattr(o, "gamma")).astype(np.float32) for o in observers]


def settle_ranges(model, seed=3):
    """Sets the ranges that calibration would set, within the bounds that they have."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        quantizer = getattr(layer, "quantizer", None)
        if hasattr(quantizer, "fixed") and quantizer.fixed is None:
            lowest = quantizer.bounds[0]
            low, high = -rng.integers(5, 12) / 4, rng.integers(9, 20) / 4
            quantizer.low.assign(low if lowest is None else max(low, lowest))
            quantizer.high.assign(high)


def pixels(count, shape, seed=0):
    """Images of blobs on the grid of 8-bit pixels, float32 from -1 to 1."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-108, 108, (count, -(-shape[0] // 3), -(-shape[1] // 3), shape[2]))
    fine = np.repeat(np.repeat(coarse, 3, 1), 3, 2)[:, : shape[0], : shape[1]] + rng.integers(-20, 20, (count, *shape))
    return fine.astype(np.float32) / 128


@pytest.fixture(scope="module")
def lsq_supernet(micro):
    """A supernet of 4 bits of the smallest space."""
    from tfqnas import LSQ, Supernet

    supernet = Supernet(micro, LSQ(bits=4), LSQ(bits=4, signed=False), num_classes=3, channels=1)
    settle_steps(supernet.quantizers, settle(supernet.variables), (4,))
    supernet.classifier.bias.assign(np.array([0, 11, 21]) / 64)  # so that every class is the answer to some images
    return supernet


@pytest.fixture(scope="module")
def mixed_supernet(micro):
    """A supernet of 2, 3 and 4 bits of the same space, with the quantizers of QFA."""
    from tfqnas import LSQ, Supernet
    from tfqnas.quantizers import BatchQuant, ByBits

    bits = (2, 3, 4)
    space = dataclasses.replace(micro, weight_bits=bits, input_bits=bits)
    weights, inputs = ByBits(LSQ(bits=4), bits), ByBits(BatchQuant(bits=4), bits)
    supernet = Supernet(space, weights, inputs, num_classes=10, channels=1)
    settle_steps(supernet.quantizers, settle(supernet.variables, seed=10), bits)
    return supernet


def cut(supernet, arch):
    import tfqnas

    return tfqnas.extract(supernet, arch, given_statistics(supernet.observers))


def integer_aware(model):
    """A subnet with ranges for its 8-bit tensors, so that its export calibrates nothing."""
    import tfqnas

    model = tfqnas.quantize(model, integer_aware=True)
    settle_ranges(model)
    return model


def residual_model():
    """A user's model: residual addition, depthwise, h-swish, a gate, both poolings; every layer has a name."""
    import keras

    layers, shape = keras.layers, (12, 12, 3)
    x = inputs = keras.Input(shape, name="image")

    def norm(x, name):
        return layers.BatchNormalization(name=name)(x)

    x = norm(layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x), "stem_norm")
    x = layers.ReLU(name="stem_relu")(x)
    y = layers.Conv2D(16, 1, activation="hard_silu", name="expand")(x)
    y = norm(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y), "depthwise_norm")
    y = layers.Activation("hard_silu", name="depthwise_swish")(y)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(y)
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(16, 1, activation="hard_sigmoid", name="excite")(gate)
    y = layers.Multiply(name="gated")([y, gate])
    y = norm(layers.Conv2D(8, 1, name="project")(y), "project_norm")
    x = layers.ReLU(name="sum_relu")(layers.Add(name="sum")([x, y]))
    x = layers.MaxPooling2D(2, name="max")(x)
    left = layers.Conv2D(8, 3, name="left")(layers.ZeroPadding2D(1, name="pad")(x))
    right = layers.Conv2D(8, 1, name="right")(x)
    right = layers.AveragePooling2D(3, 1, padding="same", name="average")(right)
    x = layers.Flatten(name="flat")(layers.Add(name="both")([left, right]))
    x = layers.Dense(12, "relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="classifier")(x), name="user")


@pytest.fixture(scope="module")
def user_model():
    """`(model, images)`: that model of 4 bits, integer-aware, initialised on the images."""
    import tfqnas

    model = residual_model()
    settle(model.variables, seed=20)
    quantizers = {"weights": tfqnas.LSQ(bits=4), "inputs": tfqnas.LSQ(bits=4, signed=None)}
    model = tfqnas.quantize(model, **quantizers, integer_aware=True)
    images = pixels(32, (12, 12, 3))
    tfqnas.initialize(model, images)
    return model, images


# -- exported files ---------------------------------------------------------------------------------------------------

# SHA-256 of whole files, which hold no version and no command: of metadata there is the normalization alone.
FILES = {
    "lsq": "8c6a45bea956c4f6ab035e3d7c8df0e60814ee62554e77c7c3092271295ce3fc",
    "lsq_packed_uint8": "7ece9ba4a9391e4a8bcbb018a26b2fc325ed40cd4b2527c1b1d4766f12a2b099",
    "mixed": "207f473e16b1cf7fc70931b7d39b56e08a5e98b9084256633d61221101d7b417",
    "user": "626f70d0a8203181b04e3209542cbc97c669a7f0e3f6a76d1acd2cb91e381a99",
}


def exported(model, images=None, **settings):
    from tflite_export import export

    images = pixels(4, model.input_shape[1:]) if images is None else images
    return export(model, images, **settings)


@pytest.mark.tensorflow
def test_a_subnet_of_4_bits_becomes_the_same_file(lsq_supernet):
    model = integer_aware(cut(lsq_supernet, lsq_supernet.space.largest()))
    assert sha256(exported(model)) == FILES["lsq"]
    assert sha256(exported(model, storage="packed", input_type="uint8")) == FILES["lsq_packed_uint8"]


def mixed_arch(space):
    """A subnet of all bit widths that is neither the largest nor the smallest."""
    return space.sample(np.random.default_rng(1))


@pytest.mark.tensorflow
def test_a_mixture_of_bit_widths_becomes_the_same_file(mixed_supernet):
    arch = mixed_arch(mixed_supernet.space)
    assert {width for pair in arch.bits for width in pair} == {2, 3, 4}
    assert sha256(exported(integer_aware(cut(mixed_supernet, arch)))) == FILES["mixed"]


def parameters(model):
    """`{path: values}` of what initialisation sets in a model."""
    from tfqnas.quantizers import quantizers_of

    return {v.path: np.ravel(v.numpy()).tolist() for q in quantizers_of(model) for v in q.variables}


@pytest.mark.tensorflow
def test_a_users_model_is_initialised_to_the_same_steps_and_ranges(user_model):
    """To a thousandth: means over tensors and percentiles of them move with the rounding of every sum before.

    On one processor with other instructions by 2e-7. A value that crosses a tie of a quantizer moves them further.
    """

    def compare(found, kept):
        assert found.keys() == kept.keys()
        for path, values in kept.items():
            np.testing.assert_allclose(found[path], values, rtol=1e-3, err_msg=path)

    assert_pinned("initialized", parameters(user_model[0]), compare)


@pytest.mark.tensorflow
def test_a_users_model_becomes_the_same_file(user_model):
    """With the recorded steps and ranges, since its own are only nearly the same."""
    from tfqnas.quantizers import quantizers_of

    model, images = user_model
    kept = json.loads((PINS / "initialized.json").read_text())
    for variable in (v for q in quantizers_of(model) for v in q.variables):
        variable.assign(np.reshape(kept[variable.path], variable.shape))
    assert sha256(exported(model, images)) == FILES["user"]


def described(blob):
    """What a file computes: `{"operators": texts, "tensors": {name: [type, shape, scales, zero points]}}`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    (graph,) = model.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    operators = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        ends = (",".join(names[i] for i in end) for end in (op.inputs, op.outputs))
        operators.append(f"{code.builtinCode} v{code.version}: {' -> '.join(ends)}")
    tensors = {}
    for name, tensor in zip(names, graph.tensors, strict=True):
        if model.buffers[tensor.buffer].data is None:  # not a constant
            grid = tensor.quantization
            tensors[name] = [tensor.type, tensor.shape.tolist(), grid.scale.tolist(), grid.zeroPoint.tolist()]
    return {"operators": operators, "tensors": tensors}


@pytest.mark.tensorflow
def test_calibration_finds_the_same_grids(mixed_supernet, lsq_supernet):
    """Operators and tensors exactly, scales to a thousandth and zero points to 1.

    Ranges come from images through float32 convolutions, whose sums another processor rounds otherwise; a value that
    crosses a tie of a quantizer of few bits moves by a whole step. Weights and biases are left out: how fine they are
    depends on these scales. The files of the tests above have them, to the bit.
    """
    found = {}
    for name, supernet in (("lsq", lsq_supernet), ("mixed", mixed_supernet)):
        space = supernet.space
        arch = space.largest() if name == "lsq" else mixed_arch(space)
        model = cut(supernet, arch)
        for method in ("percentile", "mse"):
            blob = exported(model, pixels(32, model.input_shape[1:]), method=method)
            found[f"{name}_{method}"] = described(blob)

    def compare(found, kept):
        assert found.keys() == kept.keys()
        for name in kept:
            assert found[name]["operators"] == kept[name]["operators"]
            ours, theirs = found[name]["tensors"], kept[name]["tensors"]
            assert ours.keys() == theirs.keys()
            for tensor, (dtype, shape, scales, zeros) in theirs.items():
                assert ours[tensor][:2] == [dtype, shape], tensor
                np.testing.assert_allclose(ours[tensor][2], scales, rtol=1e-3, err_msg=tensor)
                np.testing.assert_allclose(ours[tensor][3], zeros, atol=1, err_msg=tensor)

    assert_pinned("calibrated", found, compare)


# -- scores -----------------------------------------------------------------------------------------------------------


class Stripes:
    """Images of one resolution, as a run hands them to its scorer: stripes, which differ in all that stripes have.

    Args:
        seed: of all images together. count: how many they are. chosen: which ones of them, by number; by default all.
            The label of image `n` is `n % 3`.
    """

    def __init__(self, resolution, seed, chosen=None, count=3000):
        rng = np.random.default_rng((seed, resolution))
        across, down = rng.integers(0, 5, (2, count, 1, 1, 1))
        place = across * np.arange(resolution)[:, None, None] + down * np.arange(resolution)[None, :, None]
        phase, width = rng.integers(0, 12, (count, 1, 1, 1)), rng.integers(1, 12, (count, 1, 1, 1))
        low, high = rng.integers(-120, 60, (count, 1, 1, 1)), rng.integers(0, 120, (count, 1, 1, 1))
        stripes = np.where((place + phase) % 12 < width, low, high) + rng.integers(-7, 8, place.shape)
        chosen = np.arange(count) if chosen is None else np.array(chosen)
        self.images, self.labels = stripes[chosen].astype(np.float32) / 128, chosen % 3

    def __len__(self):
        return len(self.images)

    def batches(self, size):
        return (self.images[i : i + size] for i in range(0, len(self), size))


def some_archs(space, count):
    rng = np.random.default_rng(4)
    archs = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(2 * count))]
    return list({arch.key: arch for arch in archs}.values())[:count]


@pytest.mark.tensorflow
def test_subnets_get_the_same_images_right(lsq_supernet):
    """Exactly, by a margin in the data.

    Another rounding of the sums in BatchNorm's statistics moves some quantized values by a whole step, and logits by up
    to 0.85 of their standard deviation in one of 3,000 images, and by 0.3 in one of a hundred. `images.json` keeps
    those images of each resolution for which the largest logit of every subnet leads by 0.45 (8 pixels, where there
    was less to move) or 0.5 (12 pixels) standard deviations, with oneDNN, without it, and with it on another
    processor's instructions.
    """
    from tfqnas.scoring.scorer import Scorer

    space, chosen = lsq_supernet.space, json.loads((PINS / "images.json").read_text())
    seen = {r: Stripes(r, 1, count=64) for r in space.resolutions}
    held_out = {r: Stripes(r, 2, chosen[str(r)]) for r in space.resolutions}
    scorer = Scorer(lsq_supernet, seen.__getitem__, held_out.__getitem__, first_look=40)
    archs = some_archs(space, 20)
    scores = dict(scorer.score(archs))
    assert all(score.images == 80 for score in scores.values())
    found = {arch.key: round(scores[i].accuracy * 80) for i, arch in enumerate(archs)}

    def compare(found, kept):
        assert found == kept

    assert_pinned("scores", found, compare)


# -- training ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As SIGKILL does, it ends a training wherever it is, and nothing catches it."""


class KilledAt:
    """A run's progress that ends the run after a share of a stage's steps."""

    def __init__(self, progress, stage, share):
        self._progress, self._stage, self._share = progress, stage, share

    def __getattr__(self, name):
        return getattr(self._progress, name)

    @contextlib.contextmanager
    def part(self, name):
        with self._progress.part(name) as part:
            update = part.update

            def update_or_die(done, text=None):
                if name == self._stage and done >= self._share:
                    raise Killed
                update(done, text)

            part.update = update_or_die
            yield part


def small_run(directory):
    """Settings of a run on the digits: the float network for 2 steps, a supernet of 4 bits for 2, of 3 bits for 4.

    Batches are large and steps few, since training is chaotic: a value that another rounding moves over a tie of a
    quantizer moves all gradients of the next step. Of batches of 8 nothing is left to compare after 4 steps.
    """
    from tfqnas.train.run_config import RunConfig

    step = 64 / 1300  # epochs of a step
    return RunConfig(
        run_dir=str(directory),
        space=str(PINS / "nano.json"),
        bits=(4, 3),
        batch_size=64,
        held_out=100,
        recalibration_images=64,
        float_epochs=2 * step,
        float_learning_rate=0.05,
        largest_epochs=0.0,
        supernet_epochs=(2 * step, 4 * step),
        supernet_learning_rate=(0.05,),
        warmup_epochs=0.0,
        random_subnets=1,
        dropout=0.2,
        shift=0.1,
        rotation=5.0,
        checkpoint_steps=2,
    )


def trained(config, stage=None, share=1.0):
    """`{stage: last checkpoint}` of a run, which is trained to its end or to a share of a stage."""
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    run = Run.create(config)
    if stage is not None:
        with pytest.raises(Killed):
            train(run, KilledAt(run.costs.progress(), stage, share))
    else:
        train(run, run.costs.progress())
    checkpoints = ((stage.name, run.checkpoints(stage).load()) for stage in run.stages)
    return {name: loaded for name, loaded in checkpoints if loaded is not None}


@pytest.mark.slow
def test_a_training_that_is_killed_and_goes_on_ends_with_the_same_weights(tmp_path):
    """Bit for bit with the training that was not, and to rounding with the one that was recorded."""
    whole = trained(small_run(tmp_path / "whole"))
    killed, stages = small_run(tmp_path / "killed"), ["float", "supernet_b4", "supernet_b3"]
    # Where it is killed the stages before are the same ones: a copy saves their time.
    shutil.copytree(tmp_path / "whole", tmp_path / "killed", ignore=shutil.ignore_patterns("supernet_b3"))
    half = trained(killed, "supernet_b3", share=3 / 4)  # its third step is done and lost
    assert [(name, meta["step"]) for name, (_, meta) in half.items()] == [*zip(stages, (2, 2, 2), strict=True)]
    resumed = trained(killed)
    assert [(name, meta["step"]) for name, (_, meta) in resumed.items()] == [*zip(stages, (2, 2, 4), strict=True)]
    for stage, (values, _) in whole.items():
        again, _ = resumed[stage]
        assert values.keys() == again.keys()
        for name in values:
            np.testing.assert_array_equal(again[name], values[name], err_msg=f"{stage}: {name}")

    # A layer is pinned by its norm and by its sum with random signs, which sees values that keep the norm.
    found = {}
    for stage, (values, _) in whole.items():
        for name in sorted(name for name in values if not name.startswith("optimizer/")):
            value, rng = values[name], np.random.default_rng(len(name))
            signs = rng.choice([-1.0, 1.0], value.shape)
            found[f"{stage}: {name}"] = [float(np.sqrt(np.sum(np.square(value)))), float(np.sum(signs * value))]

    def compare(found, kept):
        assert found.keys() == kept.keys()
        for name, (norm, projection) in kept.items():
            # What starts at zero is all movement. Some of it has no gradient but rounding errors: the last term.
            tolerance = (1e-2 if name.endswith(("beta", "bias")) else 1e-3) * norm + 1e-6
            assert abs(found[name][0] - norm) <= tolerance, name
            assert abs(found[name][1] - projection) <= tolerance, name

    assert_pinned("trained", found, compare)


# -- names and settings that users have written down ------------------------------------------------------------------

# The classes that saved models name.
SERIALIZED = [
    "tfqnas>APoT",
    "tfqnas>BatchQuant",
    "tfqnas>ByBits",
    "tfqnas>BySize",
    "tfqnas>Calibrated",
    "tfqnas>CalibratedWeights",
    "tfqnas>DSQ",
    "tfqnas>DepthToSpace",
    "tfqnas>DoReFa",
    "tfqnas>ElasticBatchNorm",
    "tfqnas>ElasticConv2D",
    "tfqnas>ElasticDepthwiseConv2D",
    "tfqnas>ElasticMBConv",
    "tfqnas>ElasticSqueezeExcite",
    "tfqnas>LSQ",
    "tfqnas>LSQPerChannel",
    "tfqnas>LSQPlus",
    "tfqnas>MinMax",
    "tfqnas>MinimumStep",
    "tfqnas>Mixed",
    "tfqnas>PACT",
    "tfqnas>QuantConv2D",
    "tfqnas>QuantDense",
    "tfqnas>QuantDepthwiseConv2D",
    "tfqnas>Quantize",
]
OF_TF_KERAS = ["tfqnas>LSQConfig", "tfqnas>LSQQuantizer"]


def every_module(package):
    """Imports a package with all its modules, except what needs tf_keras."""
    package = importlib.import_module(package)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith("tfqnas.integrations"):
            importlib.import_module(module.name)


@pytest.mark.tensorflow
def test_saved_models_name_the_same_classes():
    import keras

    every_module("tfqnas")
    registered = keras.saving.get_custom_objects()
    assert not [name for name in SERIALIZED if name not in registered]  # a new class adds a name and takes none away
    assert [keras.saving.get_registered_name(registered[name]) for name in SERIALIZED] == SERIALIZED


def without_modules(data):
    """A configuration of Keras without the modules of our classes: those of other releases may have other ones."""
    if isinstance(data, list):
        return [without_modules(item) for item in data]
    if not isinstance(data, dict):
        return data
    own = str(data.get("registered_name")).startswith("tfqnas>")
    return {key: without_modules(value) for key, value in data.items() if not (own and key == "module")}


def without_old_settings(data):
    """The configuration of an old model without what newer ones do not say: that LSQ has one step for all sizes."""
    if isinstance(data, list):
        return [without_old_settings(item) for item in data]
    if not isinstance(data, dict):
        return data
    if data.get("registered_name") == "tfqnas>LSQ":
        config = dict(data["config"])
        assert config.pop("shared") is True and config.pop("sizes") == []
        data = {**data, "config": config}
    return {key: without_old_settings(value) for key, value in data.items()}


@pytest.mark.tensorflow
def test_the_configuration_of_an_old_model_makes_the_same_model():
    import keras

    importlib.import_module("tfqnas.layers")
    text = (PINS / "model.json").read_text()
    again = keras.models.model_from_json(text).to_json()
    assert without_modules(json.loads(again)) == without_old_settings(without_modules(json.loads(text)))


@pytest.mark.slow
def test_saved_models_of_tf_keras_name_the_same_classes():
    tf_keras = pytest.importorskip("tf_keras")
    pytest.importorskip("tensorflow_model_optimization")
    importlib.import_module("tfqnas.integrations.tfmot")
    names = sorted(name for name in tf_keras.saving.get_custom_objects() if name.startswith("tfqnas>"))
    assert names == OF_TF_KERAS


def test_tools_have_the_same_flags_with_the_same_defaults():
    found = {}
    for tool, module in tool_modules().items():
        flags = importlib.import_module(module).FLAGS
        found[tool] = {name: [flags[name].default, flags[name].flag_type()] for name in flags}

    def compare(found, kept):
        assert found.keys() == kept.keys()
        for tool in kept:
            assert found[tool] == kept[tool], tool

    assert_pinned("flags", found, compare)


# The settings in `config.json`, a file of a run that users have; the other ones in it are the defaults.
CONFIG = {
    "run_dir": "runs/flowers",
    "dataset": "flowers",
    "data_dir": "/data",
    "train_split": "train[:80%]",
    "test_split": "test",
    "space": "mbv3",
    "bits": (4, 3, 2),
    "seed": 7,
    "supernet_epochs": (20.0, 10.0, 5.5),
    "supernet_learning_rate": (0.02, 0.01, 0.005),
    "mixed_epochs": (12.0, 8.0),
    "distillation": "teacher",
    "random_subnets": 3,
    "crop_area": 0.35,
    "flip": True,
    "brightness": 0.1,
    "kernel_transform": True,
    "shared_steps": False,
    "narrow_range": True,
    "evaluation_crop": 0.875,
    "weight_decay": 1e-5,
    "cache_gb": 2.5,
    "distribution": "mirrored",
}


def test_the_settings_of_an_old_run_are_read_as_they_were_written():
    from tfqnas.train.run_config import RunConfig

    text = (PINS / "config.json").read_text()
    config = RunConfig.from_json(text)
    assert config == RunConfig(**CONFIG)
    # A field that is younger than the file has its default; all in the file are written as they stand there, but those
    # that are gone.
    written = json.loads(config.to_json())
    gone = {"sample_full_depth": 0.0, "sample_full_resolution": 0.0}
    assert {name: written[name] for name in written.keys() & json.loads(text)} | gone == json.loads(text)

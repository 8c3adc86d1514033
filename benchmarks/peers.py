"""Compares tfmot's 8-bit QAT, pruning and clustering with LSQ of tfqnas on one network, with the same data and steps.

    .venv/bin/python tools/prepare_data.py fashion_mnist
    .venv/bin/python benchmarks/peers.py --run_dir=runs/peers

MobileNetV2 (width 0.35, 32 pixels, random weights) is trained in tf_keras in floating point. From those weights every
method trains for the same number of steps on the same batches (each a function of its number). The methods are floating
point as before, tfmot's `quantize_model`, its pruning to three quarters of zeros and its clustering to 16 values (both
of convolutions and dense layers), and `tfqnas.quantize` with LSQ. The last one follows
`tfqnas.integrations.tfmot.to_keras3` and trains as tools/quantize.py --mode=qat --integer_aware does, on labels only.
The official converter makes the files of tfmot's methods, and tflite_export those of tfqnas. Layers that tfmot does not
quantize are quantized after training, with the same calibration images.

Each finished method is a line in RUN_DIR/peers.jsonl, after which the same command continues. In the end all training
steps, and the files in LiteRT with one thread, are timed in turn; ratios are to LSQ at 8 bits.
"""

import argparse
import contextlib
import pathlib
import sys
import time
import zlib

import numpy as np
import table

from tfqnas.data.data_config import DataConfig
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_jsonl, write_atomically

# Name in the results: what it is called in the table.
ARMS = {
    "float": "float, as before",
    "qat": "tfmot, 8-bit QAT",
    "pruning": "tfmot, pruned",
    "clustering": "tfmot, clustered",
    "lsq8": "tfqnas, LSQ 8 bits",
    "lsq4": "tfqnas, LSQ 4 bits",
}
OURS = {"lsq8": 8, "lsq4": 4}
REFERENCE = "lsq8"
SPARSITY, CLUSTERS = 0.75, 16
CALIBRATION = 512
FLOAT_RATE, RATE, MOMENTUM = 0.1, 0.01, 0.9


def network(arguments, task):
    """The tf_keras model, with random weights that are the same each time."""
    import tf_keras

    tf_keras.utils.set_random_seed(arguments.seed)
    shape, classes = (task.resolution, task.resolution, task.dataset.channels), task.dataset.num_classes
    if arguments.short:
        layers, x = tf_keras.layers, (images := tf_keras.Input(shape))
        for number, layer in enumerate(
            (layers.Conv2D(8, 3, strides=2, use_bias=False), layers.DepthwiseConv2D(3, padding="same", use_bias=False))
        ):
            x = layers.ReLU(6.0)(layers.BatchNormalization(name=f"norm{number}")(layer(x)))
        x = layers.GlobalAveragePooling2D()(x)
        model = tf_keras.Model(images, layers.Dense(classes, activation="softmax")(x), name="tiny")
    else:
        model = tf_keras.applications.MobileNetV2(shape, alpha=0.35, weights=None, classes=classes)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = 0.9  # with its own, 0.999, statistics lag behind so short a training
    return model


def compiled(model, rate, steps):
    """The model, ready for SGD with a cosine schedule, as all methods have it."""
    import tf_keras

    rate = tf_keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(tf_keras.optimizers.SGD(rate, MOMENTUM, nesterov=True), "sparse_categorical_crossentropy")
    return model


def fitted(model, task, arguments, rate, start, stop, callbacks=()):
    """Trains on the batches from `start` to `stop`."""
    batches = task.batches(arguments.batch, start, stop, arguments.seed)
    compiled(model, rate, stop - start)
    model.fit(batches, steps_per_epoch=stop - start, verbose=0, callbacks=list(callbacks))
    return model


def prepared(name, start, steps):
    """The model of a method of tfmot, with the float model's weights, and the callbacks that its training needs."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)  # a DepthwiseConv2D is a Conv2D there

    def wrapped(wrap):
        def clone(layer):
            depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
            return wrap(layer) if isinstance(layer, kinds) and not depthwise else layer

        copy = tf_keras.models.clone_model(start)
        copy.set_weights(start.get_weights())
        return tf_keras.models.clone_model(copy, clone_function=clone)

    if name == "qat":
        return tfmot.quantization.keras.quantize_model(start), ()
    if name == "pruning":
        sparsity = tfmot.sparsity.keras
        schedule = sparsity.PolynomialDecay(0.0, SPARSITY, 0, max(1, steps // 2), frequency=max(1, steps // 20))
        pruned = wrapped(lambda layer: sparsity.prune_low_magnitude(layer, pruning_schedule=schedule))
        return pruned, (sparsity.UpdatePruningStep(),)
    if name == "clustering":
        clustering = tfmot.clustering.keras
        settings = {
            "number_of_clusters": CLUSTERS,
            "cluster_centroids_init": clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
        }
        return wrapped(lambda layer: clustering.cluster_weights(layer, **settings)), ()
    return wrapped(lambda layer: layer), ()


def stripped(name, model):
    import tensorflow_model_optimization as tfmot

    strips = {"pruning": tfmot.sparsity.keras.strip_pruning, "clustering": tfmot.clustering.keras.strip_clustering}
    return strips[name](model) if name in strips else model


def official(model, images, integers, quantized):
    """The bytes of the official converter's file: of float32, or int8 with int8 at its ends."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if integers:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        if not quantized:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
    with contextlib.redirect_stdout(sys.stderr):
        return converter.convert()


def our_settings(bits, arguments, steps):
    from tfqnas.dqss.quantize_settings import TrainingSettings

    return TrainingSettings(
        bits=bits,
        weights=("lsq",),
        inputs=("lsq",),
        train_steps=steps,
        batch_size=arguments.batch,
        distill=0.0,
        learning_rate=RATE,
        weight_decay=0.0,
        seed=arguments.seed,
        integer_aware=True,
    )


class Shifted:
    """A task whose steps are counted from another one on."""

    def __init__(self, task, start):
        self._task, self._start = task, start

    def __getattr__(self, name):
        return getattr(self._task, name)

    def batches(self, batch_size, start, stop, *settings, **named):
        return self._task.batches(batch_size, start + self._start, stop + self._start, *settings, **named)


def files_of(name, model, images):
    """`{kind: bytes}` of a trained model."""
    if name in OURS:
        import tflite_export

        storages = {"int8": "int8", **({"int4": "packed"} if OURS[name] <= 4 else {})}
        return {
            kind: tflite_export.export(model, calibration=images, storage=storage) for kind, storage in storages.items()
        }
    if name == "qat":
        return {"int8": official(model, images, True, True)}
    return {"float32": official(model, images, False, False), "int8": official(model, images, True, False)}


def as_input(runtime, images):
    """float32 images as what a file takes."""
    scale, zero = runtime.input["quantization"]
    if not scale:
        return images
    return np.clip(np.round(images / scale) + zero, -128, 127).astype(np.int8)


def measured(blob, task, images):
    """What is known of a file."""
    from tflite_export.runtime import Runtime

    runtime = Runtime(blob)
    accuracy = top1(runtime.run(as_input(runtime, images)), task)
    return {"kB": len(blob) / 1000, "zip_kB": len(zlib.compress(blob, 9)) / 1000, "accuracy": accuracy}


def top1(outputs, task):
    """Share of the test images that are right."""
    return float(np.mean(outputs.reshape(len(outputs), -1).argmax(-1) == task.test.labels))


def trained(name, arguments, task, start, first, steps):
    """The trained model of a method, tfmot's wrappers taken off."""
    if name not in OURS:
        model, callbacks = prepared(name, start, steps)
        return stripped(name, fitted(model, task, arguments, RATE, first, first + steps, callbacks))
    from tfqnas.dqss.training import search_training
    from tfqnas.integrations.tfmot import to_keras3

    settings = our_settings(OURS[name], arguments, steps)
    return search_training(to_keras3(start), Shifted(task, first), settings).model


def float_start(arguments, task, steps):
    """The float model that all begin with, trained once."""
    model, path = network(arguments, task), arguments.run_dir / "start.npz"
    if path.exists():
        with np.load(path) as saved:
            model.set_weights([saved[f"arr_{number}"] for number in range(len(saved.files))])
        return model
    print("float training", flush=True)
    fitted(model, task, arguments, FLOAT_RATE, 0, steps)
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, *model.get_weights())
    temporary.rename(path)
    return model


def opened(arguments):
    """`(task, steps of the float training, steps of a method)`."""
    from tfqnas.data.dataset import load
    from tfqnas.tasks.classification import Classification, Labelled

    dataset = load(DataConfig(dataset=arguments.dataset, data_dir=arguments.data_dir), held_out=1)
    limit = 100 if arguments.short else None
    task = Labelled(dataset, 16 if arguments.short else 32, 1.0, Classification(probabilities=True), limit)
    each = 8 * arguments.batch if arguments.short else len(dataset.train)
    epochs = arguments.float_epochs, arguments.epochs
    return task, *(max(1, round(number * each / arguments.batch)) for number in epochs)


def settings_of(arguments):
    names = ("dataset", "batch", "float_epochs", "epochs", "seed", "short")
    return {name: getattr(arguments, name) for name in names}


def run(arguments):
    """Computes what is missing."""
    results = arguments.run_dir / "peers.jsonl"
    rows = list(read_jsonl(results))
    for row in rows[:1]:
        for name, value in settings_of(arguments).items():
            if row["settings"][name] != value:
                raise UserError(
                    f"--{name}={value}: {results} was made with --{name}={row['settings'][name]}: give the "
                    "same, or another --run_dir"
                )
    done = {row.get("arm", row.get("part")) for row in rows}
    missing = [name for name in (*ARMS, "steps", "latency") if name not in done]
    if not missing:
        return
    if not rows:
        append_jsonl(results, {"settings": settings_of(arguments), "part": "settings"})
    import tfqnas.integrations.tfmot  # noqa: F401  (tfmot before TensorFlow's converter: both then mean tf_keras)
    from tfqnas.data.images import EvaluationImages

    task, float_steps, steps = opened(arguments)
    start = float_start(arguments, task, float_steps)
    images = task.calibration(CALIBRATION if not arguments.short else 32, arguments.seed)
    evaluated = EvaluationImages(task.test, task.resolution, task.crop, memory=0)
    tests = np.concatenate(list(evaluated.batches(256)))
    for number, name in enumerate(missing, 1):
        print(f"[{number}/{len(missing)}] {ARMS.get(name, name)}", flush=True)
        if name == "steps":
            append_jsonl(results, {"part": name, "seconds": step_times(arguments, task, start)})
            continue
        if name == "latency":
            append_jsonl(results, {"part": name, "seconds": latencies(arguments)})
            continue
        began = time.perf_counter()
        model = trained(name, arguments, task, start, float_steps, steps)
        took = time.perf_counter() - began
        row = {"arm": name, "seconds": took, "accuracy": top1(model.predict(tests, 256, verbose=0), task), "files": {}}
        for kind, blob in files_of(name, model, images).items():
            write_atomically(file_of(arguments, name, kind), blob)
            row["files"][kind] = measured(blob, task, tests)
        append_jsonl(results, row)


def file_of(arguments, name, kind):
    return arguments.run_dir / f"{name}.{kind}.tflite"


def step_times(arguments, task, start):
    """Seconds of a training step of each method, a list each, in turn: `train_on_batch` of either Keras."""
    import keras

    import tfqnas
    from tfqnas.integrations.tfmot import to_keras3

    ((x, y),) = task.batches(arguments.batch, 0, 1, arguments.seed)
    models = {}
    for name in ARMS:
        if name in OURS:
            bits = OURS[name]
            prototypes = {"weights": tfqnas.LSQ(bits), "inputs": tfqnas.LSQ(bits, signed=None)}
            model = tfqnas.quantize(to_keras3(start), **prototypes)
            tfqnas.initialize(model, x)
            model.compile(keras.optimizers.SGD(RATE, MOMENTUM, nesterov=True), "sparse_categorical_crossentropy")
        else:
            model, callbacks = prepared(name, start, 1000)
            compiled(model, RATE, 1000)
            for callback in callbacks:
                callback.set_model(model)
                callback.on_train_begin()
        models[name] = model
    steps = [lambda model=model: float(np.ravel(model.train_on_batch(x, y))[0]) for model in models.values()]
    return dict(zip(models, table.in_turn(steps, arguments.rounds).tolist(), strict=True))


def latencies(arguments):
    """Seconds of an image in each file, a list each, in turn."""
    from tflite_export.runtime import Runtime

    names = {f"{name}.{kind}": file_of(arguments, name, kind) for name, kind in files_present(arguments)}
    calls = []
    for path in names.values():
        runtime = Runtime(path.read_bytes())
        image = np.zeros((1, *runtime.input["shape"][1:]), runtime.input["dtype"])
        many = 3 if arguments.short else 200
        calls.append(lambda runtime=runtime, image=image, many=many: [runtime.run(image) for _ in range(many)])
    taken = table.in_turn(calls, arguments.rounds) / (3 if arguments.short else 200)
    return dict(zip(names, taken.tolist(), strict=True))


def files_present(arguments):
    return [
        (row["arm"], kind)
        for row in read_jsonl(arguments.run_dir / "peers.jsonl")
        if "arm" in row
        for kind in row["files"]
    ]


def show(arguments):
    """Prints both tables of what is there."""
    rows = list(read_jsonl(arguments.run_dir / "peers.jsonl"))
    arms = [row for row in rows if "arm" in row]
    if not arms:
        raise UserError(f"--run_dir: {arguments.run_dir} has no results yet")
    parts = {row["part"]: row["seconds"] for row in rows if row.get("part") in ("steps", "latency")}
    print("| method | Keras | file | `.tflite` | kB | zip kB | ms |\n|---|---|---|---|---|---|---|")
    for row in arms:
        for kind, file in row["files"].items():
            times = parts.get("latency", {}).get(f"{row['arm']}.{kind}")
            took = "-" if times is None else f"{1e3 * np.median(times):.3f}"
            sizes = f"{file['kB']:.1f} | {file['zip_kB']:.1f}"
            keras = f"{ARMS[row['arm']]} | {row['accuracy']:.2%}"
            how = ", after training" if kind == "int8" and row["arm"] not in ("qat", *OURS) else ""
            print(f"| {keras} | {kind}{how} | {file['accuracy']:.2%} | {sizes} | {took} |")
    print()
    table.show(ratios(parts))


def ratios(parts):
    for part, words in (("steps", "training step: {}"), ("latency", "latency: {}")):
        seconds = {name: np.array(values) for name, values in parts.get(part, {}).items()}
        reference = next((name for name in seconds if name.partition(".")[0] == REFERENCE), None)
        for name, values in seconds.items():
            if reference is not None and name != reference:
                yield table.ratio_row(f"{words.format(name)} / {REFERENCE}", values, seconds[reference])


def parsed(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", type=pathlib.Path, default=pathlib.Path("runs/peers"), help="where all is written")
    parser.add_argument(
        "--dataset", default="", help="digits, a TFDS name or a folder; by default fashion_mnist, digits"
    )
    parser.add_argument("--data_dir", default="", help="where TFDS keeps its data sets")
    parser.add_argument("--float_epochs", type=float, default=1.0, help="of the float training that all begin with")
    parser.add_argument("--epochs", type=float, default=0.5, help="of every method after it")
    parser.add_argument("--batch", type=int, default=0, help="images a step; 128, of --short 16")
    parser.add_argument("--rounds", type=int, default=0, help="of the timings; 15, of --short 2")
    parser.add_argument("--seed", type=int, default=0, help="of weights, and of the order of the images")
    parser.add_argument("--report", action="store_true", help="the tables of what is there, nothing is computed")
    parser.add_argument("--short", action="store_true", help="a tiny network, a few steps: the figures mean nothing")
    arguments = parser.parse_args(argv)
    for name, usual, short in (("dataset", "fashion_mnist", "digits"), ("batch", 128, 16), ("rounds", 15, 2)):
        if not getattr(arguments, name):
            setattr(arguments, name, short if arguments.short else usual)
    for name in ("float_epochs", "epochs", "batch", "rounds"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name}: expected a number above 0, received {getattr(arguments, name)}")
    return arguments


def main(argv=None):
    arguments = parsed(argv)
    try:
        if not arguments.report:
            run(arguments)
        show(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

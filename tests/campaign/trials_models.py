"""Model files: damaged, foreign, of another shape, with wrong weights, and what must come of them in each command."""

import json
import zipfile

import numpy as np

from tests.campaign.states import QUANTIZE
from tests.campaign.trials import closed, copy, cut, delete, directory, field, link, move, pipe, refused, right, text

PREDICT, EVALUATE = "predict --model=model.keras up.png", "evaluate --model=model.keras --dataset=./sides"
EXPORT = "export --model=model.keras --dataset=./sides --output=new.tflite"
QUANTIZED = f"quantize --model=model.keras --dataset=./sides --output=new {QUANTIZE}"
KEPT = ("quantize.json",)  # which the same command with another model replaces
COMMANDS = {"model up": PREDICT, "model sides": EVALUATE}
DIGITS = "evaluate --model=float.keras --dataset=digits"


def _weights(change, path="model.keras"):
    """Other weights in a model."""

    def edit(home):
        import keras

        model = keras.saving.load_model(home / path)
        model.set_weights([change(array) for array in model.get_weights()])
        model.save(home / path)

    return edit


def _layers(make, path="model.keras"):
    """Another model, of the layers that `make(keras)` returns, the first of which is its input."""

    def edit(home):
        import keras

        keras.Sequential(make(keras)).save(home / path)

    return edit


def _graph(make, path="model.keras"):
    """Another model, `make(keras)`."""

    def edit(home):
        import keras

        make(keras).save(home / path)

    return edit


def _archive(change, path="model.keras"):
    """Other files in the archive that a model is: `change` gets and changes `{name: bytes}`."""

    def edit(home):
        with zipfile.ZipFile(home / path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        change(files)
        with zipfile.ZipFile(home / path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return edit


def _layer(**changes):
    """Other fields in the configuration of a model's last layer."""

    def change(files):
        config = json.loads(files["config.json"])
        config["config"]["layers"][-1].update(changes)
        files["config.json"] = json.dumps(config)

    return _archive(change)


def _two_outputs(keras):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(4)(flat), keras.layers.Dense(4)(flat)])


def _two_inputs(keras):
    inputs = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(keras.layers.Add()(inputs))))


def _of_shape(shape, classes=4):
    return _layers(lambda keras: [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)])


def _nan(array):
    return np.full_like(array, np.nan)


def _infinite(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 0, np.inf, array)


# What makes a file no model, or one that must not be loaded.
NO_MODELS = {
    "cut": cut("model.keras"),
    "almost whole": cut("model.keras", 0.95),
    "empty": text("model.keras", b""),
    "text": text("model.keras", "no model"),
    "zeros": text("model.keras", bytes(5000)),
    "a directory": directory("model.keras"),
    "a pipe": pipe("model.keras"),
    "a link to itself": [delete("model.keras"), link("model.keras", "model.keras")],
    "no archive inside": _archive(dict.clear),
    "no weights": _archive(lambda files: files.pop("model.weights.h5")),
    "no configuration": _archive(lambda files: files.pop("config.json")),
    "empty weights": _archive(lambda files: files.update({"model.weights.h5": b""})),
    "half of the weights": _archive(lambda files: files.update({"model.weights.h5": files["model.weights.h5"][:900]})),
    "a configuration that is no JSON": _archive(lambda files: files.update({"config.json": b"{"})),
    "a configuration that is a list": _archive(lambda files: files.update({"config.json": b"[]"})),
    "a deep configuration": _archive(lambda files: files.update({"config.json": b"[" * 100_000 + b"]" * 100_000})),
    "an unknown layer": _layer(class_name="Foreign", module="foreign"),
    "a foreign function": _layer(class_name="system", module="os", config={"command": "touch foreign"}),
    "foreign code": _layer(class_name="exec", module="builtins", config="open('foreign', 'w')"),
    "weights of another shape": _layer(config={"name": "logits", "units": 5}),
}
FOREIGN = [
    _layers(lambda keras: [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Lambda(lambda x: x[:, :4])])
]

TRIALS = [
    *[refused(command, "model.keras", given=g, edit=e) for g, command in COMMANDS.items() for e in NO_MODELS.values()],
    *[refused(command, "model.keras", given=g, edit=e) for g, command in COMMANDS.items() for e in FOREIGN],
    *[refused(EXPORT, "model.keras", given="model sides", edit=edit) for edit in (*FOREIGN, NO_MODELS["cut"])],
    *[refused(QUANTIZED, "model.keras", given="model sides", edit=edit) for edit in (*FOREIGN, NO_MODELS["text"])],
    refused(PREDICT, "model.keras", given="model up", edit=closed("model.keras"), user=True),
    refused(PREDICT, "model.keras", given="up"),
    refused("predict --model=. up.png", ".keras", given="up"),
    refused("predict --model=b3.tflite up.png", "expected a .keras file", given="up quantized"),
    refused("predict --model=up.png up.png", "expected a .keras file", given="up"),
    refused("predict --model=x.h5 up.png", "x.h5", given="up", edit=text("x.h5", "no model")),
    right(
        "predict --model='a #1 ö.keras' up.png", "up.png: 0", given="model up", edit=move("model.keras", "a #1 ö.keras")
    ),
    right("predict --model=link.keras up.png", "up.png: ", given="model up", edit=link("link.keras", "model.keras")),
    # Weights that are no numbers.
    *[
        refused(command, "model.keras", "finite", given="model up sides", edit=_weights(change))
        for command in (PREDICT, EVALUATE, EXPORT, QUANTIZED)
        for change in (_nan, _infinite)
    ],
    refused("evaluate --model=b3.keras", "b3.keras", "finite", given="quantized", edit=_weights(_nan, "b3.keras")),
    # Models of other images, or of another kind.
    *[
        refused(PREDICT, "model", given="model up", edit=edit)
        for edit in (
            _of_shape((64,)),
            _of_shape((8, 9, 1)),
            _of_shape((8, 8, 2)),
            _of_shape((8, 8, 8, 1)),
            _layers(lambda keras: [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)]),
            _layers(lambda keras: [keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D()]),
            _graph(_two_inputs),
            _graph(_two_outputs),
        )
    ],
    *[
        refused(command, "model", given="model sides", edit=edit, writes=KEPT)
        for command in (EVALUATE, EXPORT, QUANTIZED)
        for edit in (
            _of_shape((64,)),
            _of_shape((8, 9, 1)),
            _of_shape((8, 8, 2)),
            _of_shape((8, 8, 1), 5),
            _graph(_two_inputs),
            _graph(_two_outputs),
        )
    ],
    # Classes and data that are not those of the model.
    refused("evaluate --model=model.keras", "4", "10", given="model"),
    refused("evaluate --model=float.keras --dataset=./sides", "10", "4", given="float sides"),
    refused("export --model=model.keras --output=new.tflite", "4", "10", given="model"),
    refused(f"quantize --model=model.keras --output=new {QUANTIZE}", "4", "10", given="model", writes=KEPT),
    refused(EVALUATE, "top", "above", given="model sides", edit=field("model.json", "class_names.0", "above")),
    right(
        EVALUATE,
        "another order",
        "0.00% of 4 test images",
        given="model sides",
        edit=field("model.json", "class_names", ["bottom", "top", "right", "left"]),
    ),
    right(EVALUATE, "100.00% of 4 test images", given="model sides", edit=copy("model.keras", "other.keras")),
    # Outputs.
    refused(EXPORT.replace("new.tflite", "sides"), "sides", given="model sides"),
    refused(EXPORT.replace("new.tflite", "new.keras"), "--output", ".tflite", given="model sides"),
    refused(EXPORT.replace("new.tflite", ""), "--output", given="model sides"),
    refused(EXPORT.replace("new.tflite", "model.json/new.tflite"), "model.json", given="model sides"),
    refused(EXPORT.replace("new.tflite", f"{'x' * 300}.tflite"), "File name too long", given="model sides"),
    refused(QUANTIZED.replace("=new", "=model.keras"), "--output", "model.keras", given="model sides"),
    refused(QUANTIZED, "--output=new", "something else", given="model sides", edit=text("new/notes.txt", "mine")),
    refused("train-float --output=. --steps=1", "--output"),
    # .tflite files.
    *[
        refused(command, "b3.tflite", given="quantized", edit=edit, writes=("latency.csv",))
        for command in ("npu-check b3.tflite", "benchmark --host --models=b3.tflite")
        for edit in (
            cut("b3.tflite"),
            text("b3.tflite", b""),
            text("b3.tflite", "no model"),
            text("b3.tflite", bytes(5000)),
            directory("b3.tflite"),
            pipe("b3.tflite"),
            delete("b3.tflite"),
        )
    ],
    refused("benchmark --host --models=*.tflite", "*.tflite"),
    refused("benchmark --host --models=b3.keras", "b3.keras", given="quantized"),
    refused("npu-check b3.keras", "b3.keras", given="quantized"),
    refused("npu-check", "MODEL.tflite", given="quantized"),
]

"""What trials are given, made once: a small run, models, photos, pictures, records.

Each function writes one of them into a directory that has nothing else.
"""

import functools
import json
import pathlib
import shutil

import numpy as np
import PIL.Image

SPACE = {
    "name": "nano",
    "resolutions": [8, 12],
    "stem_channels": 8,
    "stages": [{"channels": 8, "stride": 2, "depths": [1, 2], "kernels": [3, 5], "expands": [3, 4]}],
    "head_channels": 16,
}
TRAIN = "--space=nano.json --bits=3 --batch_size=16 --held_out=64 --recalibration_images=64 --largest_epochs=0 \
--supernet_epochs=0.05 --random_subnets=1"
SEEN = f"{TRAIN} --dataset=./sides --batch_size=4 --held_out=2 --recalibration_images=4 --supernet_epochs=0.5 --bits=3"
QUANTIZE = "--weights=lsq --inputs=lsq --steps=2 --tune_steps=2 --images=16 --batch_size=8"
SIDES = ("top", "bottom", "left", "right")
SEARCH = "--search_bins=2 --search_per_bin=3 --models=1"


class States:
    """Copies of prepared things.

    Args:
        base: an empty directory for them.
        command: runs a command in a directory.
    """

    def __init__(self, base, command):
        self.base, self.command = base, command

    def give(self, names: str, home: pathlib.Path) -> None:
        """Copies the things with these names into `home`."""
        for name in names.split():
            shutil.copytree(self._made(name), home, symlinks=True, dirs_exist_ok=True)

    @functools.cache  # noqa: B019  it lives as long as the tests
    def _made(self, name: str) -> pathlib.Path:
        home = self.base / name
        home.mkdir()
        globals()[f"make_{name}"](home, self)
        return home


def make_space(home, states):
    """nano.json, a space of two networks' depth."""
    (home / "nano.json").write_text(json.dumps(SPACE))


def make_run(home, states):
    """run/, a finished run on digits, with nano.json."""
    states.give("space", home)
    states.command(home, f"run --run_dir=run {TRAIN} {SEARCH}")


def make_model(home, states):
    """model.keras and its record, three classes by which side of a picture of 8 x 8 pixels is bright."""
    import keras

    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(4, name="logits")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    sides = np.zeros((8, 8, 4), np.float32)
    sides[:4, :, 0] = sides[4:, :, 1] = sides[:, :4, 2] = sides[:, 4:, 3] = 1
    model.layers[-1].set_weights([sides.reshape(64, 4), np.zeros(4, np.float32)])
    model.save(home / "model.keras")
    record = {"class_names": SIDES, "evaluation_crop": 1.0}
    (home / "model.json").write_text(json.dumps(record))


def make_quantized(home, states):
    """b3.keras, b3.json and b3.tflite, the largest network of the run."""
    for path in (states._made("run") / "run" / "models").glob("b3_largest.*"):
        shutil.copy(path, home / f"b3{path.suffix}")


def picture(side="top", mode="L", size=(8, 8), bright=220):
    """A picture whose top, bottom, left or right half is bright."""
    pixels = np.full(size, 30, np.uint8)
    half = {
        "top": np.s_[: size[0] // 2],
        "bottom": np.s_[size[0] // 2 :],
        "left": np.s_[:, : size[1] // 2],
        "right": np.s_[:, size[1] // 2 :],
    }
    pixels[half[side]] = bright
    return PIL.Image.fromarray(pixels).convert(mode)


def make_up(home, states):
    """up.png, whose top is bright."""
    picture().save(home / "up.png")


def make_sides(home, states):
    """sides/, 12 pictures in the classes of model.keras, of which 4 are for testing."""
    for name in SIDES:
        (home / "sides" / name).mkdir(parents=True)
        for i in range(3):
            picture(name, bright=200 + i).save(home / "sides" / name / f"{i}.png")


def make_seen(home, states):
    """seen/, a run that was trained on sides/."""
    states.give("space sides", home)
    states.command(home, f"train --run_dir=seen {SEEN}")


def make_float(home, states):
    """float.keras, a small network for digits that was not trained."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu", name="first")]
    layers += [keras.layers.Conv2D(4, 3, activation="relu", name="middle"), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([*layers, keras.layers.Dense(10, name="last")], name="small").save(home / "float.keras")


def make_four(home, states):
    """four/, float.keras with 4 bits."""
    states.give("float", home)
    states.command(home, f"quantize --model=float.keras --output=four {QUANTIZE}")


def make_table(home, states):
    """table.json, a latency table of the space."""
    from tfqnas.search.latency import LatencyTable, Validation, pieces_of
    from tfqnas.spaces import SearchSpace

    space = SearchSpace.from_json(SPACE)
    values = {piece.key: 0.25 for piece in pieces_of(space)}
    made = LatencyTable(
        space, "a phone", "ms", 1, 3, 10, 1, "2026-01-01", values, 1.0, 0.0, Validation(("a", "b"), (1, 2), (1, 2))
    )
    (home / "table.json").write_text(made.to_json())


def make_csv(home, states):
    """latency.csv, a table of measurements with one row."""
    from tflite_export.measurements import MeasurementTable, Row

    path = home / "latency.csv"
    numbers = [50, *[10.0] * 11]
    MeasurementTable(path).append(
        Row("m.tflite", "0" * 16, 1.0, "host", "s", "Linux", 1000, "app", "cpu", 1, *numbers[:12], "", "ok", "2026")
    )

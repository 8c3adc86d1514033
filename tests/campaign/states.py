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
    record = {"class_names": ["top", "bottom", "left", "right"], "evaluation_crop": 1.0}
    (home / "model.json").write_text(json.dumps(record))


def make_quantized(home, states):
    """b3.keras, b3.json and b3.tflite, the largest network of the run."""
    for path in (states._made("run") / "run" / "models").glob("b3_largest.*"):
        shutil.copy(path, home / f"b3{path.suffix}")


def picture(side="top", mode="L", size=(8, 8)):
    """A picture whose top, bottom, left or right half is bright."""
    pixels = np.full(size, 30, np.uint8)
    half = {
        "top": np.s_[: size[0] // 2],
        "bottom": np.s_[size[0] // 2 :],
        "left": np.s_[:, : size[1] // 2],
        "right": np.s_[:, size[1] // 2 :],
    }
    pixels[half[side]] = 220
    return PIL.Image.fromarray(pixels).convert(mode)


def make_up(home, states):
    """up.png, whose top is bright."""
    picture().save(home / "up.png")


def make_photos(home, states):
    """photos/, 12 images of 10 x 10 pixels in the classes dark and light."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (home / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.clip(rng.normal(level, 30, (10, 10, 3)), 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(home / "photos" / name / f"{i}.png")

"""Runs .tflite files in LiteRT on an emulated ARM64 processor and here, and demands the same integers.

scripts/arm64_check.sh MODEL.tflite [...]
"""

import argparse
import os
import pathlib
import sys

import numpy as np

from tflite_export import arm64
from tflite_export.runtime import Runtime
from tfqnas.errors import UserError
from tfqnas.progress import Progress


def main(arguments=None):
    """Compares each file and returns 0 if all compute the same integers on both processors."""
    parser = argparse.ArgumentParser(prog="scripts/arm64_check.sh", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL.tflite")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--images", help=".npy or .npz with uint8 pixels (n, height, width, channels)")
    source.add_argument("--dataset", help="test images of a data set: digits, a folder or a TFDS name; neither: noise")
    parser.add_argument("--data_dir", default="", help="directory of prepared TFDS data sets")
    parser.add_argument("--crop", type=float, default=1.0, help="share of the shorter side, as --evaluation_crop")
    parser.add_argument("--count", type=int, default=64, help="images, chosen at random, always the same ones")
    flags = parser.parse_args(arguments)
    if flags.count < 1:
        parser.error(f"--count: expected at least 1, received {flags.count}")
    failed, progress = 0, Progress([(path, 1) for path in dict.fromkeys(flags.models)], stream=sys.stderr)
    for path in dict.fromkeys(flags.models):
        try:
            with progress.part(path) as part:
                pixels = images_for(path, flags)
                count, same, largest = arm64.compare(path, pixels, part.log, part.update)
        except (UserError, OSError) as error:
            text = str(error)
            print(f"error: {text if text.startswith(path) else f'{path}: {text}'}", file=sys.stderr)
            return 1
        what = flags.images or (f"test images of {flags.dataset}" if flags.dataset else "images of noise")
        print(
            f"{path}: same integers here and on ARM64 in {same:.2%} of {count} {what}, largest difference {largest:g}"
        )
        failed += same < 1
    return int(failed > 0)


def images_for(path, flags):
    """uint8 pixels (n, height, width, channels) of the size of the model at `path`; None for noise."""
    height, width, channels = shape_of(path)
    if flags.images:
        pixels = stored(flags.images)
        if pixels.shape[1:] != (height, width, channels):
            expected = (height, width, channels)
            raise UserError(f"{flags.images}: expected images of {expected}, received {pixels.shape[1:]}")
        return pixels[chosen(len(pixels), flags.count)]
    if not flags.dataset:
        return arm64.noise(flags.count, (height, width, channels), np.uint8)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tfqnas.data.data_config import DataConfig
    from tfqnas.data.dataset import load
    from tfqnas.data.images import EvaluationImages

    data = load(DataConfig(dataset=flags.dataset, data_dir=flags.data_dir), held_out=1)
    if height != width or data.channels != channels:
        raise UserError(f"expects images of {(height, width, channels)}, {flags.dataset} has {data.channels} channels")
    split = data.test.take(chosen(len(data.test), flags.count))
    images = np.concatenate(list(EvaluationImages(split, height, flags.crop).batches(256)))
    return np.rint(np.asarray(images) * 128 + 128).astype(np.uint8)


def shape_of(path):
    shape = tuple(int(n) for n in Runtime(pathlib.Path(path).read_bytes()).input["shape"][1:])
    if len(shape) != 3:
        raise UserError(f"expected an input of images, it is {shape}")
    return shape


def stored(path):
    """The array in a .npy file, or in an .npz file the only one or "images"."""
    try:
        found = np.load(path)
        if isinstance(found, np.lib.npyio.NpzFile):
            found = found["images" if "images" in found.files or len(found.files) != 1 else found.files[0]]
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"--images={path}: expected a .npy file, or an .npz with images ({error})") from None
    if found.ndim != 4 or found.dtype != np.uint8 or not len(found):
        received = f"{found.dtype} {found.shape}"
        raise UserError(f"--images={path}: expected uint8 (n, height, width, channels), received {received}")
    return found


def chosen(count, limit):
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


if __name__ == "__main__":
    sys.exit(main())

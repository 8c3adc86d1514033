"""Small scenes with masks, and a small network that segments them."""

import numpy as np
from PIL import Image


def scene(rng, size=24):
    """`(image uint8 (size, size, 3), mask uint8 (size, size))`: a reddish square and a greenish disc on noise."""
    image = rng.integers(60, 120, (size, size, 3)).astype(np.uint8)
    mask = np.zeros((size, size), np.uint8)
    top, left = rng.integers(0, size - 8, 2)
    mask[top : top + 8, left : left + 8] = 1
    y, x = rng.integers(4, size - 4, 2)
    rows, columns = np.mgrid[:size, :size]
    mask[(rows - y) ** 2 + (columns - x) ** 2 < 16] = 2
    for label in (1, 2):
        image[mask == label, label - 1] += 100
    return image, mask


def write_scenes(root, count=40, seed=0):
    """A folder of images and masks; the first pixel of each mask does not count."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        image, mask = scene(rng)
        mask[0, 0] = 255
        Image.fromarray(image).save(root / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:03}.png")
    return root


def network(size=24, classes=3, activation=None):
    import keras

    layers = keras.layers
    x = images = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="middle")(x)
    x = layers.UpSampling2D(2, name="larger")(x)
    x = layers.Conv2D(classes, 3, padding="same", activation=activation, name="last")(x)
    return keras.Model(images, x, name="segmenting")

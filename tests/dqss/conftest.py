"""A tiny classifier, trained enough that its outputs say something, and its images."""

import numpy as np
import pytest


def network(size=8, channels=1, classes=4):
    import keras

    layers = keras.layers
    x = images = keras.Input((size, size, channels))
    x = layers.ReLU(name="stem_relu")(
        layers.BatchNormalization(momentum=0.8, name="norm")(layers.Conv2D(8, 3, padding="same", name="stem")(x))
    )
    x = layers.ReLU(6.0, name="depth_relu")(layers.DepthwiseConv2D(3, padding="same", name="depth")(x))
    x = layers.ReLU(name="point_relu")(layers.Conv2D(8, 1, name="point")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(classes, name="head")(x), name="tiny")


def pictures(count, seed=0, classes=4):
    """`(uint8 images (count, 8, 8, 1), int32 labels)`: a bright quarter says which class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count).astype(np.int32)
    images = rng.integers(0, 120, (count, 8, 8, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[top : top + 4, left : left + 4] += (30 * (1 + label)).astype(np.uint8)
    return images, labels


def normalized(images):
    return (images.astype(np.float32) - 128) / 128


@pytest.fixture(scope="session")
def trained(keras):
    """`(float model, images, labels)`."""
    keras.utils.set_random_seed(0)
    model = network()
    images, labels = pictures(256)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(normalized(images), labels, batch_size=32, epochs=8, verbose=0)
    return model, images, labels

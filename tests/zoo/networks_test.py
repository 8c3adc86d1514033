import keras
import numpy as np
import pytest

from tests.data.conftest import smooth
from tfqnas import LSQ, initialize, quantize, zoo
from tfqnas.errors import UserError
from tfqnas.graph.reading import sites_of
from tfqnas.zoo.super_resolution import scale_of


@pytest.mark.parametrize(
    ("name", "settings", "params", "output"),
    [
        ("mobilenet_small", {}, 107_818, (10,)),
        ("mobilenet_small", {"size": 32, "channels": 3, "num_classes": 7, "activation": "relu"}, None, (7,)),
        ("resnet_small", {}, 78_426, (10,)),
        ("resnet_small", {"blocks": 2, "channels": 3}, None, (10,)),
        ("edsr", {}, 69_027, (None, None, 3)),
        ("edsr", {"scale": 4, "size": 6}, 89_859, (24, 24, 3)),
        ("srresnet", {"channels": 1, "filters": 8, "blocks": 1}, None, (None, None, 1)),
        ("srresnet", {"scale": 4}, 92_811, (None, None, 3)),
        ("segmenter_small", {}, None, (64, 64, 3)),
        ("segmenter_small", {"num_classes": 1, "channels": 1, "size": 8, "filters": 4, "blocks": 2}, None, (8, 8, 1)),
    ],
)
def test_networks_are_as_large_as_they_say_and_have_an_integer_form(name, settings, params, output):
    model = zoo.build(name, **settings)
    assert model.output_shape[1:] == output
    assert params is None or model.count_params() == params
    assert sites_of(model)[-1].kind in ("fully_connected", "conv_2d")
    scale = settings.get("scale", 2) if name in zoo.SUPER_RESOLUTION else 1
    assert scale_of(model) == scale


def test_every_name_is_built():
    assert [zoo.build(name).name.split("_x")[0] for name in zoo.NAMES] == list(zoo.NAMES)


def test_a_quantized_network_trains_by_compile_and_fit():
    keras.utils.set_random_seed(0)
    model = zoo.build("edsr", filters=8, blocks=1)
    model = quantize(model, weights=LSQ(bits=4), inputs=LSQ(bits=4, signed=None))
    x = np.stack([smooth(number, 8, 8) for number in range(4)]).astype(np.float32) / 128 - 1
    initialize(model, x)
    model.compile(keras.optimizers.Adam(0.01), "mae")
    losses = model.fit(x, x.repeat(2, 1).repeat(2, 2), epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0], losses


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.build("vgg"), "net: expected one of mobilenet_small, .*, received 'vgg'"),
        (lambda: zoo.build("edsr", classes=3), "net edsr: expected settings of scale, .*, received classes"),
        (lambda: zoo.build("edsr", scale=3), "scale: expected one of 2, 4, received 3"),
        (lambda: zoo.build("mobilenet_small", activation="gelu"), "activation: expected relu6 or relu"),
        (lambda: zoo.load("resnet50"), "net: expected efficientnet_lite0, received 'resnet50'"),
    ],
)
def test_other_names_and_settings_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()

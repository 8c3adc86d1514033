import keras
import numpy as np
import pytest

from tests.data.conftest import smooth
from tfqnas import LSQ, initialize, quantize, zoo
from tfqnas.data import restoration
from tfqnas.errors import UserError
from tfqnas.layers import DepthToSpace
from tfqnas.zoo import upscaling


def network(name="edsr", scale=2):
    keras.utils.set_random_seed(2)
    return zoo.build(name, scale=scale, filters=4, blocks=1)


@pytest.mark.parametrize(("name", "scale"), [("edsr", 4), ("srresnet", 2)])
def test_tiles_give_what_the_whole_photo_gives(name, scale, rng):
    model = network(name, scale)
    low = rng.integers(0, 256, (21, 34, 3), np.uint8)
    whole = zoo.upscaled(model, low)
    assert whole.shape == (21 * scale, 34 * scale, 3)
    np.testing.assert_array_equal(zoo.upscaled(model, low, tile=8), whole)


def test_less_overlap_than_the_reach_would_be_seen(rng, monkeypatch):
    model = network()
    low = rng.integers(0, 256, (20, 20, 3), np.uint8)
    whole = zoo.upscaled(model, low)
    monkeypatch.setattr(upscaling, "reach_of", lambda model: 1)
    assert np.any(zoo.upscaled(model, low, tile=8) != whole)


def test_quantized_models_of_one_size_take_photos_of_any(rng):
    model = quantize(network(), weights=LSQ(bits=4), inputs=LSQ(bits=4, signed=None), integer_aware=True)
    x = rng.integers(-128, 128, (2, 6, 8, 3)).astype(np.float32) / 128
    initialize(model, x)
    fixed = zoo.with_input_size(model, (6, 8))
    assert fixed.input_shape == (None, 6, 8, 3) and fixed.output_shape == (None, 12, 16, 3)
    np.testing.assert_array_equal(fixed(x), model(x))
    low = rng.integers(0, 256, (9, 11, 3), np.uint8)
    np.testing.assert_array_equal(zoo.upscaled(fixed, low), zoo.upscaled(model, low))


def test_a_network_that_repeats_pixels_scores_as_nearest_neighbours():
    """Kernels of one whose weights copy the image four times, then channels to pixels."""
    low = keras.Input((None, None, 3))
    repeat = keras.layers.Conv2D(12, 1, use_bias=False, kernel_initializer="zeros")
    model = keras.Model(low, DepthToSpace(2)(repeat(low)))
    kernel = np.zeros((1, 1, 3, 12), np.float32)
    for channel in range(12):
        kernel[0, 0, channel % 3, channel] = 1
    repeat.kernel.assign(kernel)
    photos = [smooth(1, 41, 60), smooth(2, 50, 33)]
    found = upscaling.score(model, photos)
    expected = []
    for high in photos:
        small, high = restoration.downscaled(high, 2), restoration.cropped(high, 2)
        expected.append(restoration.psnr_y(small.repeat(2, 0).repeat(2, 1), high, 2))
    assert found["psnr"] == pytest.approx(np.mean(expected)) and found["images"] == 2 and found["scale"] == 2
    assert found["bicubic_psnr"] > found["psnr"] and found["bicubic_ssim"] > found["ssim"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.upscaled(zoo.build("resnet_small"), np.zeros((8, 8, 1), np.uint8)), "expected a super-resolution"),
        (lambda: zoo.with_input_size(network(), (0, 4)), "expected a height and a width"),
        (lambda: zoo.with_input_size("edsr", (4, 4)), "expected a model with one image input"),
    ],
)
def test_other_models_and_sizes_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()

import importlib.util
import itertools

import numpy as np
import pytest

from scripts.data_from_packages import TEST
from tfqnas.data import restoration
from tfqnas.data.image_files import read_image
from tfqnas.data.packages import file_of
from tfqnas.errors import UserError

# TensorFlow computes both figures in float32. On the seven test photos PSNR is within 4e-6 dB and SSIM within 2e-6 of
# what float64 gives.
FLOAT32 = 1e-5
needs_skimage = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="not installed: scikit-image (the extra zoo)"
)


def test_luma_is_that_of_bt_601():
    colours = np.uint8([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    np.testing.assert_allclose(restoration.luma(colours)[0], [16, 235, 81.481, 144.553, 40.966], atol=1e-9)


@pytest.mark.tensorflow
def test_psnr_is_that_of_its_formula_and_counts_no_border(rng):
    a = rng.integers(0, 250, (20, 30, 3), np.uint8)
    b = a + np.uint8(5)  # luma differs by 5 * 219 / 255 everywhere
    expected = 20 * np.log10(255 / (5 * 219 / 255))
    assert restoration.psnr_y(a, b, 3) == pytest.approx(expected, abs=FLOAT32)
    b[:3] = 0
    assert restoration.psnr_y(a, b, 3) == pytest.approx(expected, abs=FLOAT32)
    assert restoration.psnr_y(a, b, 2) < expected
    assert restoration.psnr_y(a, a, 0) == np.inf and restoration.ssim_y(a, a, 2) == 1


@pytest.mark.tensorflow
@needs_skimage
def test_ssim_is_that_of_scikit_image(photo, rng):
    from skimage.metrics import structural_similarity

    a = photo(3, 60, 47)
    b = np.uint8(np.clip(a + rng.normal(size=a.shape) * 12, 0, 255))
    expected = structural_similarity(
        *(restoration.luma(x[4:-4, 4:-4]) for x in (a, b)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert 0.2 < expected < 0.95
    assert restoration.ssim_y(a, b, 4) == pytest.approx(expected, abs=FLOAT32)


@pytest.mark.tensorflow
def test_downscaling_averages_over_what_it_drops_and_bicubic_brings_back_what_is_smooth(photo):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 200
    inner = restoration.downscaled(stripes, 4)[1:-1, 1:-1]
    assert np.abs(inner - 100.0).max() < 8  # without antialiasing it would be 0 or 200
    high = photo(1, 47, 66)
    low = restoration.downscaled(high, 4)
    assert low.shape == (11, 16, 3) and restoration.cropped(high, 4).shape == (44, 64, 3)
    assert restoration.psnr_y(restoration.bicubic(low, 4), restoration.cropped(high, 4), 4) > 30


@pytest.mark.tensorflow
@needs_skimage
@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 31.35, 0.9033), (4, 27.73, 0.7961)])
def test_bicubic_interpolation_of_the_seven_test_photos(scale, psnr, ssim):
    """Measured once: what super-resolution on these photos is compared with."""
    photos = [read_image(file_of(photo.package, photo.path)) for photo in TEST]
    found = []
    for photo in photos:
        back = restoration.bicubic(restoration.downscaled(photo, scale), scale)
        high = restoration.cropped(photo, scale)
        found.append((restoration.psnr_y(back, high, scale), restoration.ssim_y(back, high, scale)))
    assert len(found) == 7
    assert np.mean(found, axis=0)[0] == pytest.approx(psnr, abs=0.005)
    assert np.mean(found, axis=0)[1] == pytest.approx(ssim, abs=0.00006)


def test_patches_belong_together_and_lie_where_the_photos_are(photo):
    photos = [photo(1, 40, 64), photo(2, 50, 38)]
    low, high = next(restoration.patches(photos, 2, 16, 6, seed=0))
    assert low.shape == (6, 16, 16, 3) and high.shape == (6, 32, 32, 3)
    assert low.dtype == high.dtype == np.float32
    back = np.uint8(high * 128 + 128)
    for small, large in zip(low, back, strict=True):
        # At the edges the photo had neighbours; and Pillow rounds between rows and columns, whichever is first.
        difference = np.abs(restoration.downscaled(large, 2) - (small * 128 + 128))[2:-2, 2:-2]
        assert difference.max() <= 1 and (difference == 0).mean() > 0.9


def test_patches_are_turned_and_mirrored_in_all_eight_ways():
    photo = np.zeros((8, 8, 3), np.uint8)
    photo[0, 1] = 255  # one pixel apart from every symmetry
    highs = [next(restoration.patches([photo], 2, 4, 1, seed))[1] for seed in range(80)]
    assert len({tuple(np.argwhere(high[0, ..., 0] > 0)[0]) for high in highs}) == 8


def test_batches_are_functions_of_seed_and_number(photo):
    photos = [photo(1, 40, 44)]

    def batches(seed, start, count):
        return list(itertools.islice(restoration.patches(photos, 2, 8, 3, seed, start), count))

    whole = batches(0, 0, 4)
    for found, expected in zip(batches(0, 2, 2), whole[2:], strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    assert np.any(whole[0][0] != whole[1][0]) and np.any(batches(1, 0, 1)[0][0] != whole[0][0])


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: restoration.patches([np.zeros((30, 90, 3), np.uint8)], 2, 16, 1, 0), UserError, "at least 32 pixels"),
        (lambda: restoration.patches([], 2, 16, 1, 0), UserError, "received none"),
        (lambda: restoration.psnr_y(np.zeros((8, 8, 3)), np.zeros((8, 9, 3)), 0), ValueError, "of one size"),
        (lambda: restoration.ssim_y(*np.zeros((2, 14, 14, 3), np.uint8), 2), ValueError, "at least 11 pixels"),
    ],
)
def test_images_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()

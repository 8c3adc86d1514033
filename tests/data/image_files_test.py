"""Every kind of file is read as people see it. TensorFlow is not needed to tell what Pillow hands on."""

import io
import os

import numpy as np
import PIL.Image
import pytest

from tfqnas.data.image_files import (
    LARGEST_PIXELS,
    ON_BACKGROUND,
    ORIENTATION,
    REDUCED,
    TURNED,
    changes_in,
    facts,
    read_image,
    shown,
)
from tfqnas.files import read_regular

# A picture of 2 x 3 pixels. Its values are those of `coloured`, in the first channel for grey.
VALUES = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]], [[11, 22, 33], [44, 55, 66], [77, 88, 99]]], np.uint8)
GREY = VALUES[..., 0]
CLEAR = np.array([[0, 255, 255], [255, 255, 0]], np.uint8)  # alpha: the first and the last pixel are transparent


def file_of(image, form="PNG", **options):
    if not isinstance(image, PIL.Image.Image):
        image = PIL.Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels_of(data, channels):
    """What the file that is handed on holds, as decoded by Pillow, and turned."""
    picture = shown(data, channels)
    image = PIL.Image.open(io.BytesIO(picture.file))
    assert image.format in ("JPEG", "PNG", "BMP")
    assert picture.orientation == 1
    array = np.asarray(image)
    if image.mode.startswith("I"):  # 16 bits, of which TensorFlow takes the upper byte
        array = (array >> 8).astype(np.uint8)
    return array


def on_white(values):
    return np.where(CLEAR.reshape(CLEAR.shape + (1,) * (values.ndim - 2)) == 0, 255, values)


def palette(transparency=None):
    """Pixel 0 is transparent if this is 0."""
    image = PIL.Image.fromarray(np.array([[0, 1, 2], [1, 2, 0]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image, np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)[[[0, 1, 2], [1, 2, 0]]]


KINDS = {
    "16-bit grey PNG": (file_of(GREY.astype(np.uint16) * 256 + 77), GREY),
    "16-bit grey TIFF": (file_of(GREY.astype(np.uint16) * 256 + 77, "TIFF"), GREY),
    "float TIFF from 0 to 1": (file_of(GREY.astype(np.float32) / 255, "TIFF"), GREY),
    "float TIFF from 0 to 255": (file_of(GREY.astype(np.float32), "TIFF"), GREY),
    "whole numbers of 32 bits": (file_of(GREY.astype(np.int32), "TIFF"), GREY),
    "grey PNG": (file_of(GREY), GREY),
    "PNG": (file_of(VALUES), VALUES),
    "BMP": (file_of(VALUES, "BMP"), VALUES),
    "grey BMP": (file_of(GREY, "BMP"), GREY),
    "WebP": (file_of(VALUES, "WEBP", lossless=True), VALUES),
    "TIFF": (file_of(VALUES, "TIFF"), VALUES),
    "RGBA PNG": (file_of(np.dstack([VALUES, CLEAR])), on_white(VALUES)),
    "RGBA WebP": (file_of(np.dstack([VALUES, CLEAR]), "WEBP", lossless=True, exact=True), on_white(VALUES)),
    "grey PNG with alpha": (file_of(np.dstack([GREY, CLEAR])), on_white(GREY)),
    "grey PNG with a transparent value": (file_of(GREY, transparency=10), np.where(GREY == 10, 255, GREY)),
    "16-bit PNG with a transparent value": (
        file_of(GREY.astype(np.uint16) * 256, transparency=2560),
        np.where(GREY == 10, 255, GREY),
    ),
    "palette PNG with a transparent entry": (
        file_of(palette()[0], transparency=0),
        np.where(palette()[1][..., :1] == 10, 255, palette()[1]),
    ),
    "GIF": (file_of(palette()[0], "GIF"), palette()[1]),
    "GIF with a transparent entry": (
        file_of(palette()[0], "GIF", transparency=0),
        np.where(palette()[1][..., :1] == 10, 255, palette()[1]),
    ),
    "1-bit PNG": (file_of(PIL.Image.fromarray(GREY > 30)), np.uint8(255) * (GREY > 30)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_kind_of_file_has_the_values_that_people_see(kind, channels, tmp_path):
    data, expected = KINDS[kind]
    found = pixels_of(data, channels)
    if channels == 1 and expected.ndim == 3:  # as Pillow weighs the colours; what passes unchanged is still coloured
        expected = (
            expected if found.ndim == 3 else np.asarray(PIL.Image.fromarray(expected.astype(np.uint8)).convert("L"))
        )
    if channels == 3 and expected.ndim == 2 and found.ndim == 3:
        expected = np.repeat(expected[..., np.newaxis], 3, axis=2)
    found = found * np.uint8(255) if found.dtype == bool else found
    if kind != "1-bit PNG" or found.ndim == 2:
        np.testing.assert_array_equal(found, expected)
    (tmp_path / "file").write_bytes(data)
    read = read_image(tmp_path / "file", channels)
    assert read.shape == (2, 3, channels) and read.dtype == np.uint8
    if channels == 3:
        np.testing.assert_array_equal(read, np.broadcast_to(KINDS[kind][1].reshape(2, 3, -1), (2, 3, 3)))


def test_facts_say_of_each_kind_what_reading_changes():
    changed = {kind: facts(data)[2:] for kind, (data, _) in KINDS.items()}
    grey = {kind for kind, (channels, _) in changed.items() if channels == 1}
    assert grey == {kind for kind, (_, expected) in KINDS.items() if expected.ndim == 2}
    reduced = {kind for kind, (_, what) in changed.items() if REDUCED in what}
    assert reduced == {kind for kind in KINDS if any(word in kind for word in ("16-bit", "float", "32 bits"))}
    clear = {kind for kind, (_, what) in changed.items() if ON_BACKGROUND in what}
    assert clear == {kind for kind in KINDS if any(word in kind for word in ("transparent", "RGBA", "alpha"))}
    assert facts(file_of(np.zeros((4, 5, 3), np.uint16)[..., 0])) == (4, 5, 1, (REDUCED,))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_upright(form, orientation, tmp_path):
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    image = np.kron(VALUES, np.ones((8, 8, 1), np.uint8))
    data = file_of(image, form, exif=exif, **lossless)
    size = (16, 24) if orientation < 5 else (24, 16)
    assert facts(data) == (*size, 3, (TURNED,) * (orientation > 1))
    (tmp_path / "file").write_bytes(data)
    found = read_image(tmp_path / "file")
    corner = {1: (0, 0), 2: (0, 2), 3: (1, 2), 4: (1, 0), 5: (0, 0), 6: (1, 0), 7: (1, 2), 8: (0, 2)}[orientation]
    assert found.shape[:2] == size
    assert np.abs(np.int32(found[4, 4]) - VALUES[corner]).max() <= 3
    assert shown(data, 3).orientation == (orientation if form == "JPEG" else 1)


def test_damaged_exif_data_do_not_turn_an_image():
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    data = file_of(VALUES, "JPEG", exif=exif)
    for wrong in (data.replace(b"MM\x00*", b"XX\x00*"), data.replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x07")):
        assert wrong != data and shown(wrong, 3).orientation == 1


def test_what_is_right_already_passes_byte_by_byte():
    for data in (file_of(VALUES), file_of(GREY), file_of(VALUES, "JPEG"), file_of(palette()[0])):
        assert shown(data, 3) == (data, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image that can be decoded$"),
        (file_of(VALUES, "TIFF")[:40], "not an image"),
        (file_of(np.array([[0, np.nan]], np.float32), "TIFF"), "values from nan to nan, expected 0 to 1 or 0 to 255"),
        (file_of(np.array([[-1, 0.5]], np.float32), "TIFF"), "values from -1 to 0.5, expected"),
        (file_of(np.array([[0, 70000]], np.int32), "TIFF"), "values from 0 to 70000, expected 0 to 255"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that can be decoded$"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_what_is_no_image_is_refused_with_the_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        shown(data, 3)


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(form):
    """The header of a small file is changed to say 30,000 x 30,000 pixels."""
    data, at = bytearray(file_of(VALUES, form)), {"PNG": 16, "BMP": 18}[form]
    order = {"PNG": "big", "BMP": "little"}[form]
    data[at : at + 8] = 2 * (30000).to_bytes(4, order)
    if form == "PNG":
        import zlib

        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    for reads in (facts, lambda d: shown(d, 3)):
        with pytest.raises(
            ValueError, match=f"30000 x 30000 pixels, expected at most {LARGEST_PIXELS // 10**6} million"
        ):
            reads(bytes(data))
    assert PIL.Image.MAX_IMAGE_PIXELS  # Pillow's own limit stays for others


def test_changes_are_counted_in_a_line():
    kinds = [facts(KINDS[kind][0]) for kind in ("PNG", "RGBA PNG", "16-bit grey PNG", "16-bit grey TIFF")]
    assert changes_in(kinds) == f"of 4 images 3 are not shown as they are stored: 1 {ON_BACKGROUND}, 2 {REDUCED}"
    assert changes_in(kinds[:1]) == ""


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path, tmp_path / "pipe.jpg", "/dev/null"):
        with pytest.raises(OSError, match="not a file, but a directory, pipe or device"):
            read_regular(path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")

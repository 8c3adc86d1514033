"""Pictures for `predict`: what people have on their disks. model.keras says which half of a picture is bright."""

import io
import struct
import zlib

import numpy as np
import PIL.Image

from tests.campaign.states import picture
from tests.campaign.trials import closed, cut, directory, link, move, pipe, refused, right, text

PREDICT = "predict --model=model.keras"


def shot(path, side="top", mode="L", orientation=None, **options):
    """A picture in a format of its own."""

    def edit(home):
        image = picture(side, mode)
        if orientation:
            options["exif"] = image.getexif()
            options["exif"][0x0112] = orientation
        image.save(home / path, **options)

    return edit


def seen(path, says, *edits, command=PREDICT, **more):
    return right(f"{command} {path}", says, given="model up", edit=edits, **more)


def unread(path, says, *edits, given="model up", **more):
    return refused(f"{PREDICT} {path}", "1 of 1 files could not be read", given=given, edit=edits, **more)


def _sixteen_bits(home):
    pixels = np.asarray(picture("left")).astype(np.uint16) * 257
    PIL.Image.fromarray(pixels).save(home / "deep.png")


def _floats(home):
    PIL.Image.fromarray(np.asarray(picture("left"), np.float32)).save(home / "float.tiff")


def _transparent(home):
    """Where nothing is to be seen, the stored colour is black: on white the right half is bright."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (30, 30, 30, 255)
    PIL.Image.fromarray(pixels).save(home / "clear.png")


def _animated(home):
    frames = [picture("left"), picture("right")]
    frames[0].save(home / "film.gif", save_all=True, append_images=frames[1:])


def _header_only(width, height):
    """A PNG that says that it is large, and has no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def _jpeg(side="top"):
    file = io.BytesIO()
    picture(side).save(file, "JPEG", quality=95)
    return file.getvalue()


# Where the bright top of a stored picture is for who sees it.
TURNED = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}

TRIALS = [
    seen("up.png", "up.png: top"),
    *[seen("t.jpg", f"t.jpg: {side}", shot("t.jpg", orientation=n, quality=95)) for n, side in TURNED.items()],
    *[seen("t.png", f"t.png: {TURNED[n]}", shot("t.png", orientation=n)) for n in (3, 6, 8)],
    seen("t.webp", "t.webp: right", shot("t.webp", orientation=6, lossless=True)),
    seen("t.tif", "t.tif: bottom", shot("t.tif", orientation=3)),
    seen("t.jpg", "t.jpg: top", shot("t.jpg", orientation=99, quality=95)),
    *[seen(f"m.{kind}", f"m.{kind}: left", shot(f"m.{kind}", "left")) for kind in ("png", "bmp", "gif", "tif", "jpg")],
    *[seen("m.png", "m.png: left", shot("m.png", "left", mode)) for mode in ("1", "LA", "P", "RGB", "RGBA")],
    seen("m.jpg", "m.jpg: left", shot("m.jpg", "left", "CMYK", quality=95)),
    seen("m.jpg", "m.jpg: left", shot("m.jpg", "left", "YCbCr", quality=95)),
    seen("deep.png", "deep.png: left", _sixteen_bits),
    seen("float.tiff", "float.tiff: left", _floats),
    seen("clear.png", "clear.png: right", _transparent),
    seen("film.gif", "film.gif: left", _animated),
    seen("t.png", "t.png: left", text("t.png", _jpeg("left"))),  # a JPEG under another name
    seen("photo", "photo: top", move("up.png", "photo")),
    seen("'a b.png'", "a b.png: top", move("up.png", "a b.png")),
    seen("'a#1.png'", "a#1.png: top", move("up.png", "a#1.png")),
    seen("'größe ö.png'", "größe ö.png: top", move("up.png", "größe ö.png")),
    seen('"it\'s.png"', "it's.png: top", move("up.png", "it's.png")),
    seen("'[a]*.png'", "[a]*.png: top", move("up.png", "[a]*.png")),
    seen("'100%.png'", "100%.png: top", move("up.png", "100%.png")),
    seen("-- -up.png", "-up.png: top", move("up.png", "-up.png")),
    seen("./-up.png", "./-up.png: top", move("up.png", "-up.png")),
    seen("link.png", "link.png: top", link("link.png", "up.png")),
    seen("up.png --top=99", "top"),
    seen("up.png --top=1", "up.png: top"),
    # No pictures.
    unread("no.png", "no.png: No such file"),
    unread("t.png", "t.png", text("t.png", b"")),
    unread("t.png", "t.png", text("t.png", b"no picture")),
    unread("t.png", "t.png", text("t.png", b"\0" * 4000)),
    unread("up.png", "up.png", cut("up.png")),
    unread("up.png", "up.png", cut("up.png", 0.9)),
    unread("t.jpg", "t.jpg", text("t.jpg", _jpeg()), cut("t.jpg", 0.6)),
    unread("t.png", "t.png: ", text("t.png", _header_only(30000, 30000))),
    unread("t.png", "t.png", text("t.png", _header_only(2**31 - 1, 2**31 - 1))),
    unread("t.png", "t.png", text("t.png", _header_only(0, 0))),
    unread("t.svg", "t.svg", text("t.svg", "<svg/>")),
    unread("t.eps", "t.eps", text("t.eps", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")),
    unread(".", ".: not a file"),
    unread("''", "No such file"),
    unread("t.png", "t.png", directory("t.png")),
    unread("t.png", "t.png", pipe("t.png")),
    unread("t.png", "t.png", link("t.png", "t.png")),
    unread("t.png", "t.png", link("t.png", "no.png")),
    unread("up.png", "up.png: Permission denied", closed("up.png"), user=True),
    unread("/dev/null", "/dev/null: not a file"),
    unread("'up.png,up.png'", "No such file"),
    unread(f"{'x' * 300}.png", "File name too long"),
    refused(f"{PREDICT} up.png no.png", "1 of 2 files could not be read", given="model up"),
]

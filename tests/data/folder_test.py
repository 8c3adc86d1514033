import os

import numpy as np
import PIL.Image
import pytest

from tfqnas.data.data_config import DataConfig
from tfqnas.data.dataset import load
from tfqnas.data.splits import Arrays, Encoded
from tfqnas.errors import UserError

pytestmark = pytest.mark.tensorflow


def loaded(root, held_out=1, say=lambda text: None, **settings):
    return load(DataConfig(dataset=str(root), **settings), held_out, say=say)


def test_classes_are_the_sub_folders_and_each_has_its_share_of_test_images(make_folder):
    root = make_folder({"dogs": 10, "cats": 5, "eels": 2})
    data = loaded(root, test_share=0.2)
    assert data.class_names == ("cats", "dogs", "eels")
    assert isinstance(data.train, Encoded) and data.channels == 3
    assert np.bincount(data.test.labels).tolist() == [1, 2, 1]
    assert len(data.train) + len(data.held_out) == 13
    assert data.image_size == (23, 24)  # the median of 20 to 29, 20 to 24 and 20, 21
    again = loaded(root, test_share=0.2)
    assert [again.test.read(i) for i in again.test.numbers] == [data.test.read(i) for i in data.test.numbers]
    names, held_out, test = ({part.read(i)[0] for i in part.numbers} for part in (data.train, data.held_out, data.test))
    names |= held_out
    assert len(names) == 13 and not names & test


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_folders_named_train_and_test_are_these_splits(make_folder, tmp_path, name):
    make_folder({"a": 3, "b": 2}, root=tmp_path / "photos/train")
    data = loaded(make_folder({"a": 2, "b": 4}, root=tmp_path / f"photos/{name}").parent)
    assert data.class_names == ("a", "b") and len(data.train) == 4
    assert data.test.labels.tolist() == [0, 0, 1, 1, 1, 1]


def test_images_of_one_size_are_held_in_memory(make_folder, rng):
    images = {name: [rng.integers(0, 256, (9, 9, 1), np.uint8) for _ in range(3)] for name in "ab"}
    data = loaded(make_folder(images))
    assert isinstance(data.train, Arrays) and data.channels == 1 and data.image_size == (9, 9)
    together = [*data.train.images, *data.held_out.images, *data.test.images]
    assert sorted(image.tobytes() for image in together) == sorted(i.tobytes() for c in images.values() for i in c)


def test_one_coloured_image_makes_all_of_them_coloured(make_folder, rng):
    grey, coloured = (rng.integers(0, 256, (9, 9, c), np.uint8) for c in (1, 3))
    assert loaded(make_folder({"a": [grey] * 3, "b": [grey, grey, coloured]})).channels == 3


def test_corrupt_images_are_an_error_that_names_each_of_them(make_folder):
    root = make_folder({"a": 4, "b": 4}, form="JPEG")
    (root / "a/text.jpg").write_text("no image")
    whole = (root / "b/001.jpeg").read_bytes()
    (root / "b/001.jpeg").write_bytes(whole[: len(whole) // 2])
    (root / "b/new.webp").write_bytes(b"RIFF")
    (root / "b/phone.heic").write_bytes(b"ftypheic")
    os.mkfifo(root / "b/pipe.png")
    (root / "b/notes.txt").write_text("is no image, nor says so")
    with pytest.raises(UserError) as error:
        loaded(root, max_bad_images=2)
    text = str(error.value)
    assert "5 of 12 images cannot be read, expected at most `max_bad_images=2`" in text
    assert all(f"{root}/{name}: not an image" in text for name in ("a/text.jpg", "b/001.jpeg", "b/new.webp"))
    assert f"{root}/b/phone.heic: .heic is not supported, expected one of .jpg" in text and "notes.txt" not in text
    assert f"{root}/b/pipe.png: not a file, but a directory, pipe or device" in text


def test_images_are_read_as_people_see_them_and_a_line_says_so(make_folder, rng):
    """The same pixels, one part of them stored turned or with 16 bits, the other plainly."""
    images = [rng.integers(0, 256, (9, 12), np.uint8) for _ in range(3)]
    root = make_folder({"a": [image[..., np.newaxis] for image in images], "b": []})
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(np.rot90(images[0])).save(root / "b/0.png", exif=exif)
    PIL.Image.fromarray(images[1].astype(np.uint16) * 256 + 9).save(root / "b/1.tiff")
    PIL.Image.fromarray(images[2]).convert("RGBA").save(root / "b/2.png")
    said = []
    data = loaded(root, say=said.append)
    assert data.channels == 3 and data.image_size == (9, 12)
    found = {0: set(), 1: set()}
    for split in (data.train, data.held_out, data.test):
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            found[label].add(image.tobytes())
    assert found[0] == found[1] and len(found[0]) == 3
    assert "of 6 images 3 are not shown as they are stored: 1 turned upright" in said[-1]
    assert "1 reduced to 8 bits" in said[-1] and "1 shown on white" in said[-1]


def test_so_many_corrupt_images_as_allowed_are_listed_and_skipped(make_folder):
    root = make_folder({"a": 4, "b": 4})
    (root / "a/bad.png").write_bytes(b"")
    said = []
    for _ in range(2):  # once checked, once remembered
        data = loaded(root, say=said.append, max_bad_images=1)
        assert len(data.train) + len(data.held_out) + len(data.test) == 8
        assert "1 of 9 images cannot be read and are skipped" in said[-1] and "a/bad.png" in said[-1]
    with pytest.raises(UserError, match=r"a/bad\.png"):
        loaded(root)


def test_a_changed_image_is_checked_again(make_folder):
    root = make_folder({"a": 3, "b": 3})
    loaded(root)
    (root / "a/001.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"a/001\.png"):
        loaded(root)


def test_a_folder_that_cannot_serve_is_refused_with_the_reason(make_folder, tmp_path):
    with pytest.raises(UserError, match="expected a folder with one sub-folder a class, there is none"):
        loaded(f"{tmp_path}/missing")
    root = make_folder({"a": 3})
    with pytest.raises(UserError, match="expected at least two classes, received 1: a"):
        loaded(root)
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="expected images .* in every class, there are none in empty"):
        loaded(root)
    with pytest.raises(UserError, match="found no sub-folder"):
        loaded(root / "a")
    make_folder({"b": 1}, root=root)
    (root / "empty").rmdir()
    with pytest.raises(UserError, match=r"at least 2 images in every class.*; b has 1"):
        loaded(root)


def test_a_class_of_which_nothing_can_be_read_is_empty(make_folder):
    root = make_folder({"a": 3, "b": 2})
    for file in (root / "b").iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(UserError, match="in every class, there are none in b"):
        loaded(root, max_bad_images=9)


def test_test_folders_with_other_classes_are_refused(make_folder, tmp_path):
    make_folder({"a": 3, "b": 2}, root=tmp_path / "photos/train")
    root = make_folder({"a": 2, "c": 4}, root=tmp_path / "photos/test").parent
    with pytest.raises(UserError, match="same classes in train and test, only one of them has b, c"):
        loaded(root)


def test_a_folder_without_permission_is_named(make_folder, monkeypatch):
    root = make_folder({"a": 3, "b": 2})
    real = os.scandir

    def scandir(path="."):  # root may read everything, so the refusal is made here
        if str(path).endswith("photos/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match="photos/b cannot be read .Permission denied"):
        loaded(root)


# Links and copies


def test_links_never_count_an_image_twice_and_a_line_names_them(make_folder, tmp_path):
    root = make_folder({"cats": 6, "dogs": 6})
    before = loaded(root)
    os.symlink(".", root / "cats/self")
    os.symlink("..", root / "cats/up")
    os.symlink("../cats/001.png", root / "cats/again.png")
    os.link(root / "dogs/002.png", root / "dogs/hard.png")
    os.symlink("b", root / "dogs/a")
    os.symlink("a", root / "dogs/b")
    os.symlink("/nowhere", root / "dogs/gone")
    said = []
    data = loaded(root, say=said.append)
    assert [len(data.split(n)) for n in ("train", "held_out", "test")] == [
        len(before.split(n)) for n in ("train", "held_out", "test")
    ]
    assert [line.split("already: ")[1] for line in said] == [f"{root}/cats/again.png and 6 more"]


def test_links_to_images_elsewhere_are_followed_once(make_folder, tmp_path):
    outside = make_folder({"more": 3}, root=tmp_path / "outside") / "more"
    root = make_folder({"cats": 2, "dogs": 2})
    os.symlink(outside, root / "cats/linked")
    os.symlink(outside, root / "cats/linked_again")
    data = loaded(root)
    assert sum(len(data.split(n)) for n in ("train", "held_out", "test")) == 7


@pytest.mark.parametrize(
    ("target", "link", "message"),
    [
        ("../dogs", "cats/others", "cats/others belongs to dogs as well, by a link"),
        (
            "../dogs/001.png",
            "cats/one.png",
            "cats/one.png belongs to dogs as well|dogs/001.png belongs to cats as well",
        ),
        ("dogs", "hounds", "hounds is a link to .*dogs, expected a folder of its own"),
        (".", "all", "all is a link to .*photos, expected a folder of its own"),
    ],
)
def test_an_image_of_two_classes_is_refused_by_name(target, link, message, make_folder):
    root = make_folder({"cats": 3, "dogs": 3})
    os.symlink(target, root / link)
    with pytest.raises(UserError, match=message):
        loaded(root)


def test_a_link_to_nothing_with_an_images_name_cannot_be_read(make_folder):
    root = make_folder({"cats": 3, "dogs": 3})
    os.symlink("/nowhere", root / "cats/gone.png")
    with pytest.raises(UserError, match=r"1 of 7 images cannot be read.*\n.*cats/gone.png: No such file"):
        loaded(root)


def test_copies_in_other_classes_and_splits_are_said(make_folder, photo):
    picture = photo(3, 20, 24)
    root = make_folder({"cats": [photo(1, 20, 25), photo(2, 20, 26), picture], "dogs": [photo(4, 20, 27), picture]})
    said = []
    loaded(root, say=said.append)
    assert any("1 images are in more than one class, such as cats/002.png and dogs/001.png" in line for line in said)
    make_folder({"cats": [picture], "dogs": [photo(5, 20, 28)]}, root=root.parent / "two/train")
    make_folder({"cats": [picture], "dogs": [photo(6, 20, 29)]}, root=root.parent / "two/test")
    with pytest.raises(UserError, match="held_out"):  # two training images, of which one is held out, is enough
        loaded(root.parent / "two", held_out=2, say=said.append)
    assert "1 images are in training and test images, such as train/cats/000.png and test/cats/000.png" in said[-1]

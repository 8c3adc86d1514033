import json
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from tfqnas.data import photos
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def prepared(tmp_path, photo):
    """A directory with two photos to train with and one to test with."""
    known = {"version": photos.VERSION}
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        (tmp_path / "photos" / split).mkdir(parents=True)
        known[split] = [
            {"name": f"p{n}", "file": f"{split}/p{n}.png", "size": [20 + n, 30], "source": "", "sha256": ""}
            for n in numbers
        ]
        for number, record in zip(numbers, known[split], strict=True):
            PIL.Image.fromarray(photo(number, 20 + number, 30)).save(tmp_path / "photos" / record["file"])
    (tmp_path / "photos/index.json").write_text(json.dumps(known))
    return tmp_path


def test_prepared_photos_are_read_by_split(prepared, photo):
    found = photos.load(str(prepared))
    assert found.train_names == ("p1", "p2") and found.test_names == ("p3",)
    assert [pixels.shape for pixels in found.train] == [(21, 30, 3), (22, 30, 3)]
    np.testing.assert_array_equal(found.test[0], photo(3, 23, 30))


def test_photos_that_are_not_prepared_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=rf"not prepared in {tmp_path}/photos: .*data_from_packages.py photos"):
        photos.load()


def test_photos_of_an_older_version_count_as_not_prepared(prepared):
    (prepared / "photos/index.json").write_text('{"version": 0}')
    with pytest.raises(UserError, match="are not prepared"):
        photos.load(str(prepared))


def test_a_damaged_photo_is_named(prepared):
    path = prepared / "photos/train/p2.png"
    PIL.Image.new("RGB", (3, 4)).save(path)
    with pytest.raises(UserError, match=r"p2.png: not the photo .*expected 22 x 30 pixels, received 4 x 3"):
        photos.load(str(prepared))
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"p2.png: not the photo that was prepared"):
        photos.load(str(prepared))


def test_the_tool_says_where_photos_are(prepared):
    command = [sys.executable, "tools/prepare_data.py", "photos", f"--data_dir={prepared}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"photos: train 2, test 1 in {prepared}/photos; next: tfqnas train-float" in done.stdout


def test_the_tool_says_what_prepares_photos_that_are_not_there(tmp_path):
    command = [sys.executable, "tools/prepare_data.py", "photos", f"--data_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"error: photos are not prepared in {tmp_path}/photos: on Debian or Ubuntu a checkout" in done.stderr
    assert "python scripts/data_from_packages.py photos" in done.stderr


def test_crops_are_seeded_squares_from_details_to_whole_scenes(photo):
    some = photos.Photos([photo(1, 64, 90), photo(2, 70, 66)], [])
    made = photos.crops(some, 32, 10, seed=0)
    assert made.shape == (10, 32, 32, 3) and made.dtype == np.uint8
    np.testing.assert_array_equal(photos.crops(some.train, 32, 10, seed=0), made)
    np.testing.assert_array_equal(photos.crops(some, 32, 4, seed=0), made[:4])
    assert np.any(photos.crops(some, 32, 10, seed=1) != made)
    # A square of another size is scaled: neighbours differ more than within the photo itself.
    steepness = [np.abs(np.diff(crop.astype(int), axis=1)).mean() for crop in photos.crops(some.train[:1], 32, 40, 2)]
    assert max(steepness) > 1.5 * min(steepness)


@pytest.mark.parametrize(("some", "received"), [([np.zeros((20, 40, 3), np.uint8)], r"\(20, 40\)"), ([], "no photo")])
def test_photos_smaller_than_a_crop_are_refused(some, received):
    with pytest.raises(UserError, match=f"at least 32 pixels each way, received {received}"):
        photos.crops(some, 32, 1, 0)

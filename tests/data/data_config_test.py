"""A name means one data set, and a line says which where it could mean two."""

import pytest

from tfqnas.data.data_config import DIGITS, FOLDER, PHOTOS, TFDS, DataConfig


@pytest.mark.parametrize(
    ("name", "folders", "source", "note"),
    [
        ("digits", [], DIGITS, ""),
        ("photos", [], PHOTOS, ""),
        (
            "photos",
            ["photos"],
            PHOTOS,
            "`dataset=photos` is a data set of tfqnas; the folder of that name here is `dataset=photos/`",
        ),
        (
            "photos/",
            ["photos"],
            FOLDER,
            "`dataset=photos/` is read as a folder; the data set of tfqnas is `dataset=photos`",
        ),
        ("photos/", [], FOLDER, "`dataset=photos/` is read as a folder; the data set of tfqnas is `dataset=photos`"),
        ("./photos", ["photos"], FOLDER, ""),
        ("cifar10", [], TFDS, ""),
        ("cifar10", ["cifar10"], FOLDER, "`dataset=cifar10` is the folder "),
        ("cifar10/", [], FOLDER, ""),
        ("imagenet_v2/matched", [], TFDS, ""),
        ("some/images", ["some/images"], FOLDER, ""),
    ],
)
def test_names_and_folders_are_told_apart(name, folders, source, note, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    config = DataConfig(dataset=name)
    assert config.source == source
    assert config.note.startswith(note) and bool(config.note) == bool(note)

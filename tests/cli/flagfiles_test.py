"""Flag files of tfqnas are found by their names, from any directory."""

import pytest

from tfqnas.cli import flagfiles
from tfqnas.errors import UserError

DIGITS = str(flagfiles.FOLDER / "digits_oqa.cfg")


@pytest.mark.parametrize("name", ["digits_oqa", "digits_oqa.cfg", "configs/digits_oqa.cfg"])
@pytest.mark.parametrize("form", [["--flagfile={}"], ["-flagfile={}"], ["--flagfile", "{}"]])
def test_a_flag_file_is_found_by_its_name(name, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = flagfiles.with_paths(["--seed=1", *(part.format(name) for part in form), "word"])
    assert found == ["--seed=1", *(part.format(DIGITS) for part in form), "word"]


def test_a_file_that_is_there_is_taken_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits_oqa").write_text("--seed=2")
    assert flagfiles.with_paths(["--flagfile=digits_oqa"]) == ["--flagfile=digits_oqa"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits_oka", "--flagfile=digits_oka: is not there, expected a file .*, did you mean digits_oqa"),
        ("no/such.cfg", r"--flagfile=no/such\.cfg: is not there, expected a file with flags, or one of digits_oqa"),
        (".", r"--flagfile=\.: is a directory"),
    ],
)
def test_another_name_is_refused_with_those_that_exist(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        flagfiles.with_paths([f"--flagfile={name}"])


def test_words_after_two_hyphens_are_no_flags():
    assert flagfiles.with_paths(["--", "--flagfile=none"]) == ["--", "--flagfile=none"]
    assert flagfiles.with_paths(["--flagfile"]) == ["--flagfile"]

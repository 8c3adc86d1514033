"""Model files as people hand them to the tools."""

import pytest

from tfqnas.errors import UserError
from tfqnas.runs.model_files import load_model


@pytest.mark.parametrize(("name", "what"), [("m.tflite", "a .tflite file"), ("model", "another")])
def test_another_kind_of_file_is_refused_by_its_name(name, what, tmp_path):
    (tmp_path / name).write_bytes(b"\x1c\x00\x00\x00TFL3")
    with pytest.raises(UserError, match=f"{name}: expected a .keras file, received {what}$"):
        load_model(tmp_path / name)

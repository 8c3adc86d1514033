"""LiteRT on files of others."""

import pytest

from tflite_export.runtime import Runtime
from tfqnas.errors import UserError


@pytest.mark.parametrize("blob", [b"", b"not a model", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 90])
def test_a_foreign_file_is_refused_and_kills_nothing(blob):
    with pytest.raises(UserError, match="not a .tflite model"):
        Runtime(blob)

"""Models for images of another size or normalisation; other tests of `with_input_size` are beside its networks."""

import keras
import numpy as np
import pytest

from tests.tflite_export.models import assert_exact
from tfqnas import zoo
from tfqnas.errors import UserError


def test_a_model_of_other_pixels_takes_those_of_the_commands():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.float32)
    changed = zoo.with_normalization(model, 0, 255)
    np.testing.assert_allclose(changed((pixels - 128) / 128), model(pixels / 255), atol=1e-5)
    graph, values = assert_exact(changed, (pixels - 128) / 128)
    assert [op.kind for op in graph.ops][:1] == ["conv_2d"]  # the rescaling needs no operation
    assert np.abs(values - model(pixels / 255)).max() < 0.05 * np.ptp(values)
    with pytest.raises(UserError, match="expected a positive divisor, received 0"):
        zoo.with_normalization(model, 0, 0)

"""Models of Keras 2: read as models of Keras 3 with the same results, and exported."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact
from tfqnas.errors import UserError
from tfqnas.integrations import keras2

tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
SHAPE = (12, 12, 3)


def old_model():
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(1)
    x = inputs = layers.Input(SHAPE)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Add()([x, layers.Conv2D(8, 1)(y)])
    return tf_keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["saved_model", "model.h5", "model.keras"])
def test_a_saved_model_computes_the_same_and_is_exported(name, tmp_path):
    old, x = old_model(), images(SHAPE)
    old.save(tmp_path / name)
    model = keras2.load_model(tmp_path / name)
    np.testing.assert_allclose(model(x), old(x), atol=1e-5)
    _, logits = assert_exact(model, x)
    assert np.abs(logits - old(x)).max() < 0.05 * np.ptp(old(x))


def test_what_is_no_model_of_keras_2_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing: there is no such file"):
        keras2.load_model(tmp_path / "nothing")
    (tmp_path / "model.h5").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"model.h5: not a model of Keras 2 that can be loaded \("):
        keras2.load_model(tmp_path / "model.h5")

"""Models of mixed precision: quantizers compute in float32, layers in the type of their policy."""

import keras
import numpy as np
import pytest

import tfqnas
from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact
from tfqnas.quantizers import LSQ, quantizers_of

SHAPE = (12, 12, 3)


def model(policy):
    keras.utils.set_random_seed(1)
    layers, settings = keras.layers, {"dtype": policy}
    inputs = keras.Input(SHAPE)
    x = layers.ReLU(**settings)(layers.BatchNormalization(**settings)(layers.Conv2D(8, 3, **settings)(inputs)))
    y = layers.DepthwiseConv2D(3, padding="same", activation="silu", **settings)(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, **settings)(layers.Add(**settings)([x, y]))
    x = layers.Dense(4, **settings)(layers.GlobalAveragePooling2D(**settings)(x))
    return keras.Model(inputs, layers.Activation("linear", dtype="float32")(x))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_is_quantized_trained_and_exported(policy, tmp_path):
    x, float_model = images(SHAPE), model(policy)
    aware = tfqnas.quantize(float_model, LSQ(8), LSQ(8, signed=None), integer_aware=True)
    tfqnas.initialize(aware, x)
    assert {q.compute_dtype for q in quantizers_of(aware)} == {"float32"}
    assert {layer.compute_dtype for layer in aware.layers if hasattr(layer, "weight_quantizer")} == {policy[6:]}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    aware.compile(keras.optimizers.SGD(1e-5), loss)
    steps = [q.step.numpy() for q in quantizers_of(aware) if isinstance(q, LSQ)]
    history = aware.fit(x, np.arange(48) % 4, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and all(s.dtype == np.float32 for s in steps)
    assert steps != [q.step.numpy() for q in quantizers_of(aware) if isinstance(q, LSQ)]
    aware.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for each in (float_model, again):
        _, logits = assert_exact(each, x)
        np.testing.assert_allclose(logits, each(x), atol=0.1 * np.ptp(logits))

"""Where integers depart from the model, layer by layer."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import chain, quantized
from tflite_export.explain import costliest, explain
from tflite_export.lower import lower

pytestmark = pytest.mark.usefixtures("same_weights")


def test_explaining_ends_with_the_layer_that_costs_most():
    model, x = chain(keras.layers.Conv2D(6, 3, activation="relu"), quantized(name="inner")), images((7, 5, 2))
    labels = np.asarray(model(x)).argmax(1)
    model.get_layer("inner").input_quantizer.step.assign(100.0)  # all of it is zero
    graph, parts = lower(model, x), []
    labels = np.asarray(model(x)).argmax(1)
    records, accuracy = explain(model, graph, x, labels, parts.append)
    assert accuracy == 1 and parts == [0.25, 0.5, 0.75, 1.0] and len(records) == 4
    assert costliest(records, accuracy).startswith("no layer alone costs accuracy; most noise: ")
    records[2]["alone"], records[1]["alone"] = 0.5, 0.75
    line = costliest(records, accuracy)
    assert line == f"costs most: {records[2]['layer']}, 50.00 points of the Keras model's 100.00% on these images"

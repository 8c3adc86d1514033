"""A file against the reference and the Keras model: what verification sees, and on which images."""

import dataclasses

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tflite_export import reference
from tflite_export.int_graph import pixels_of, with_interface
from tflite_export.lower import lower
from tflite_export.verify import verify
from tflite_export.writer import write

pytestmark = pytest.mark.usefixtures("same_weights")


def test_verify_sees_a_difference_and_a_loss(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:])
    labels = model(x).numpy().argmax(axis=-1)
    graph = lower(model, x)
    good = verify(model, graph, write(graph), x, labels)
    assert good.identical == 1 and good.largest_difference == 0 and good.scores["keras"] == 1
    calls = []
    some = verify(model, graph, write(graph), x, labels, limit=8, batch_size=8, update=calls.append)
    assert (some.images, some.compared, set(some.scores)) == (len(x), 8, {"litert"})
    assert set(some.record()["compared"]) == {"keras", "reference", "litert", "images"}
    assert some.record()["images"] == len(x)
    assert calls == list(range(8, 49, 8)) and "compared" not in good.record()
    assert good.problem(100) is None and "identical in 100.00%" in str(good)

    weights = graph.tensors["classifier/weights"]
    changed = dataclasses.replace(weights, data=np.roll(weights.data, 1, axis=0))
    other = dataclasses.replace(graph, tensors={**graph.tensors, weights.name: changed})
    assert "differ in" in verify(model, graph, write(other), x, labels).problem()
    lost = verify(model, other, write(other), x, labels)
    assert lost.identical == 1 and "top-1 falls by" in lost.problem(0.5) and lost.problem(100) is None
    floats = with_interface(graph, output_type="float32")
    assert verify(model, floats, write(floats), x).identical == 1


def test_the_images_compared_are_not_the_first(subnets, monkeypatch):
    """A folder's split is sorted by class."""
    model = subnets(4)
    x = images(model.input_shape[1:])
    graph, seen, run = lower(model, x), [], reference.run
    monkeypatch.setattr(reference, "run", lambda graph, pixels: seen.append(pixels) or run(graph, pixels))
    for _ in range(2):
        assert verify(model, graph, write(graph), x, np.arange(len(x)), limit=8).compared == 8
    pixels = pixels_of(graph, x)
    places = [int(np.flatnonzero((pixels == one).all((1, 2, 3)))[0]) for one in np.concatenate(seen)]
    assert places[:8] == places[8:] and max(places) > 24 and len({*places}) == 8

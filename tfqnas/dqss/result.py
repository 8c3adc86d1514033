"""What a search for strategies hands over."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from tfqnas.quantizers import Mixture, Quantizer, name_of, quantizers_of

# (layer, role, names of its candidates) of a mixture.
Searched = tuple[str, str, list[str]]
# Arguments of layers that hold quantizers, and what those quantize.
_ROLES = {"weight_quantizer": "weights", "input_quantizer": "inputs", "quantizer": "inputs"}
# How `quantize(..., integer_aware=True)`, and a search for images, name 8-bit tensors that no layer reads as its input.
_STORED = ("_stored", "pixels")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The strategy of one tensor.

    Args:
        layer, role, bits: which tensor. strategy: its name. candidates: `{name: coefficient}` at the end of the search.
        deployable: whether an integer model computes it exactly.
    """

    layer: str
    role: str
    bits: int
    strategy: str
    candidates: dict[str, float]
    deployable: bool

    @property
    def coefficient(self) -> float:
        return self.candidates[self.strategy]

    @property
    def best_other(self) -> str | None:
        """The one of the others with the largest coefficient, which refinement may leave behind, or None."""
        others = {name: a for name, a in self.candidates.items() if name != self.strategy}
        return max(others, key=lambda name: others[name]) if others else None

    @property
    def row(self) -> dict[str, Any]:
        """As a record of a table."""
        return {
            "layer": self.layer,
            "role": self.role,
            "bits": self.bits,
            "strategy": self.strategy,
            "coefficient": round(self.coefficient, 4),
            "best_other": self.best_other or "",
        }


@dataclasses.dataclass(frozen=True)
class DqssResult:
    """A searched model.

    Args:
        model: Keras model with one quantizer a tensor. choices: `Choice`s in the order of its layers.
        history: records `{"step", "loss", "coefficients": [[...], ...]}` of the search, a list for each searched tensor
            in the order of `searched`. searched: `(layer, role, names)` of those.
        losses: `{what: loss}` on the calibration images. kept: None, or in words which single strategy was better than
            what the search found, and is what `model` has.
        way: what chose the strategies: "coefficients" (the largest), "refinement" (tried layer by layer) or "single".
    """

    model: keras.Model
    choices: list[Choice]
    history: list[dict[str, Any]]
    searched: list[Searched]
    losses: dict[str, float]
    kept: str | None = None
    way: str = "coefficients"

    def record(self) -> dict[str, Any]:
        """As JSON data, without the model."""
        choices = [{**c.row, "candidates": c.candidates, "deployable": c.deployable} for c in self.choices]
        return {
            "choices": choices,
            "searched": [list(s) for s in self.searched],
            "history": self.history,
            "losses": self.losses,
            "kept": self.kept,
            "way": self.way,
        }


def quantized_tensors(model: keras.Model) -> list[tuple[str, str, Quantizer]]:
    """`[(layer name, role, quantizer)]` in the order of the layers; without what an integer model rounds besides."""
    return [
        (layer.name, role, quantizer)
        for layer in model.layers
        for name, role in _ROLES.items()
        if (quantizer := getattr(layer, name, None)) is not None
        and quantizer in getattr(layer, "quantizers", ())
        and not (name == "quantizer" and layer.name.endswith(_STORED))
    ]


def searched_of(model: keras.Model) -> list[Searched]:
    """`[(layer, role, names of candidates)]` of the mixtures of a model, in the order of `variables.mixtures`."""
    by_id = {id(q): (layer, role) for layer, role, q in quantized_tensors(model)}
    return [(*by_id[id(q)], q.strategies) for q in quantizers_of(model) if isinstance(q, Mixture)]


def choices_of(
    frozen: keras.Model, searched: Sequence[Searched] = (), coefficients: Sequence[Sequence[float]] = ()
) -> list[Choice]:
    """`Choice`s of a model without mixtures.

    Args:
        searched, coefficients: of the mixtures that it was frozen from; the other tensors had nothing to choose.
    """
    known = {
        (layer, role): dict(zip(names, map(float, values), strict=True))
        for (layer, role, names), values in zip(searched, coefficients, strict=True)
    }
    found = []
    for layer, role, quantizer in quantized_tensors(frozen):
        label = name_of(quantizer)
        candidates = known.get((layer, role), {})
        candidates = candidates if label in candidates else {label: 1.0}
        works = quantizer.traits.deployable(quantizer.bits, role)
        found.append(Choice(layer, role, quantizer.bits, label, candidates, works))
    return found

"""The result of a search for strategies."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from tfqnas.quantizers import Mixture, Quantizer, name_of, quantizers_of

# The layer, the role and the names of the candidates of a mixture.
Searched = tuple[str, str, list[str]]
# Arguments of layers that hold quantizers, with the role of the quantizer.
_ROLES = {"weight_quantizer": "weights", "input_quantizer": "inputs", "quantizer": "inputs"}
# Endings of the names that `quantize(..., integer_aware=True)` and a search give layers which round stored tensors.
_STORED = ("_stored", "pixels")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The strategy of one tensor.

    Args:
        layer, role: name of the layer, and "weights" or "inputs".
        bits: bit width of the tensor.
        strategy: name of the chosen strategy.
        candidates: `{name: coefficient}` at the end of the search.
        deployable: whether an integer model computes the strategy exactly.
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
        """The other candidate with the largest coefficient, which may be larger than the chosen one's, or None."""
        others = {name: a for name, a in self.candidates.items() if name != self.strategy}
        return max(others, key=lambda name: others[name]) if others else None

    @property
    def row(self) -> dict[str, Any]:
        """The row of a table, `{column: value}`."""
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
        model: Keras model with one quantizer for each tensor.
        choices: `Choice`s in the order of its layers.
        history: records `{"step", "loss", "coefficients": [[...], ...]}` of the search, with a list of coefficients for
            each tensor in the order of `searched`.
        searched: `(layer, role, names)` of each searched tensor.
        losses: `{name: loss}` on the calibration images.
        kept: the text for the single strategy of `model` if it was better than the result of the search, else None.
        way: how the strategies were chosen, by "coefficients" (the largest), "refinement" (layer by layer) or "single".
    """

    model: keras.Model
    choices: list[Choice]
    history: list[dict[str, Any]]
    searched: list[Searched]
    losses: dict[str, float]
    kept: str | None = None
    way: str = "coefficients"

    def record(self) -> dict[str, Any]:
        """The result as JSON data, without the model."""
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
    """`[(layer name, role, quantizer)]` in the order of the layers, without those of `integer_aware`."""
    return [
        (layer.name, role, quantizer)
        for layer in model.layers
        for name, role in _ROLES.items()
        if (quantizer := getattr(layer, name, None)) is not None
        and quantizer in getattr(layer, "quantizers", ())
        and not (name == "quantizer" and layer.name.endswith(_STORED))
    ]


def searched_of(model: keras.Model) -> list[Searched]:
    """`[(layer, role, names of candidates)]` of a model's mixtures, in the order of `variables.mixtures`."""
    by_id = {id(q): (layer, role) for layer, role, q in quantized_tensors(model)}
    return [(*by_id[id(q)], q.strategies) for q in quantizers_of(model) if isinstance(q, Mixture)]


def choices_of(
    frozen: keras.Model, searched: Sequence[Searched] = (), coefficients: Sequence[Sequence[float]] = ()
) -> list[Choice]:
    """`Choice`s of a model without mixtures.

    Args:
        frozen: Keras model.
        searched, coefficients: the mixtures that it was frozen from. The other tensors had a single candidate.
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

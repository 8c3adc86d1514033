"""Parameters go from a model without mixtures back into the mixtures that it was, or could have been, frozen from."""

from tfqnas.quantizers import Mixed
from tfqnas.strategy.candidates import label_of, labels_of
from tfqnas.strategy.result import quantized_tensors


def _pairs(model, mixed):
    """`[(quantizer of the model, Mixed in its place)]`, in the order of the mixtures."""
    own = {(layer, role): quantizer for layer, role, quantizer in quantized_tensors(model)}
    found = [(layer, role, q) for layer, role, q in quantized_tensors(mixed) if isinstance(q, Mixed)]
    return [(own[layer, role], q) for layer, role, q in found]


def places_of(model, mixed):
    """For each mixture the place of the candidate that a model without mixtures has there."""
    return [labels_of(mixture).index(label_of(quantizer)) for quantizer, mixture in _pairs(model, mixed)]


def give_back(model, mixed):
    """Gives the parameters of a model's quantizers to those candidates of the mixtures that are of their strategy.

    Returns:
        Whether every quantizer has such a candidate; if not, nothing is done.
    """
    pairs = _pairs(model, mixed)
    if any(label_of(quantizer) not in labels_of(mixture) for quantizer, mixture in pairs):
        return False
    for quantizer, mixture in pairs:
        candidate = mixture.candidates[labels_of(mixture).index(label_of(quantizer))]
        # The sign of codes is decided by images, and these are the same.
        for source, target in zip(quantizer.variables, candidate.variables, strict=True):
            target.assign(source)
    return True

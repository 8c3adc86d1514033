"""Compares the outputs of two models, as numpy arrays."""

import numpy as np
from scipy.special import log_softmax


def agreement(outputs: np.ndarray, reference: np.ndarray, probabilities: bool = False) -> dict[str, float]:
    """Agreement of a classifier's outputs with those of the float model.

    Args:
        outputs, reference: float32 (n, classes), logits or, with `probabilities`, probabilities.

    Returns:
        `{"agreement", "kl", "cosine"}`: the share of images with the same prediction, the mean divergence of the
        softmax from the reference's in nats, and the mean cosine of the two output vectors.
    """
    p, q = (
        np.log(np.maximum(y, 1e-12)) if probabilities else log_softmax(np.float64(y), axis=-1)
        for y in (reference, outputs)
    )
    norms = np.linalg.norm(outputs, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = np.sum(np.float64(outputs) * reference, axis=1) / np.maximum(norms, 1e-12)
    return {
        "agreement": float(np.mean(outputs.argmax(1) == reference.argmax(1))),
        "kl": float(np.mean(np.sum(np.exp(p) * (p - q), axis=1))),
        "cosine": float(np.mean(cosines)),
    }

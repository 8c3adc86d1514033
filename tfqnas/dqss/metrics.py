"""How good a model's outputs are, and how far they are from another model's. All of numpy arrays."""

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64 (n, classes)."""
    shifted = np.float64(logits) - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def agreement(outputs: np.ndarray, reference: np.ndarray, probabilities: bool = False) -> dict[str, float]:
    """How far the outputs of a classifier agree with those of the float model.

    Args:
        outputs, reference: float32 (n, classes), logits, or with `probabilities` those.

    Returns:
        `{"agreement", "kl", "cosine"}`: share of images with the same prediction; mean divergence of the softmax from
        the reference's, in nats; mean cosine of the two output vectors.
    """
    p, q = (np.log(np.maximum(y, 1e-12)) if probabilities else log_softmax(y) for y in (reference, outputs))
    norms = np.linalg.norm(outputs, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = np.sum(np.float64(outputs) * reference, axis=1) / np.maximum(norms, 1e-12)
    return {
        "agreement": float(np.mean(outputs.argmax(1) == reference.argmax(1))),
        "kl": float(np.mean(np.sum(np.exp(p) * (p - q), axis=1))),
        "cosine": float(np.mean(cosines)),
    }


def wilson(successes: float, count: int, z: float = 1.96) -> tuple[float, ...]:
    """`(low, high)`: the 95% interval of a share (Wilson, 1927), which holds for shares near 0 and 1, too."""
    share = successes / count
    middle = share + z * z / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return tuple(float((middle + sign * half) / (1 + z * z / count)) for sign in (-1, 1))

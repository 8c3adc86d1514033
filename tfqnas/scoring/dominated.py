"""Is a subnet, shown some of the images, behind another one by more than chance explains?

Both were shown the same images, so their difference is that of pairs (McNemar, 1947): its variance counts only the
images on which they differ, a small part of what two independent accuracies would have.
"""

import numpy as np
from numpy.typing import ArrayLike

# Standard errors. With two looks and thousands of subnets a handful are given up wrongly, each close to its rival.
CONFIDENCE = 3.0


def is_behind(outcomes: np.ndarray, rival: np.ndarray, confidence: float = CONFIDENCE) -> bool:
    """Whether the accuracy on all images will be below the rival's.

    Args:
        outcomes: bool (n,), which of the first n images were classified correctly.
        rival: bool (N,), which of all N images the rival classified correctly.
        confidence: in standard errors of the difference, of n images drawn out of N without replacement.
    """
    shown, total = len(outcomes), len(rival)
    difference = outcomes.astype(np.float64) - rival[:shown]
    left = (total - shown) / max(total - 1, 1)
    return difference.mean() < -confidence * np.sqrt(difference.var() * left / shown)


def estimate(outcomes: np.ndarray, rival: np.ndarray) -> float:
    """The accuracy on all images, float: the rival's and the difference so far."""
    return float(rival.mean() + outcomes.mean() - rival[: len(outcomes)].mean())


def rivals_of(costs: ArrayLike, front: ArrayLike) -> list[int | None]:
    """For each subnet the place in a front of the one that it has to beat: the most accurate that costs no more.

    Args:
        costs: float (n, k), less is better. front: float (m, k + 1), accuracies and then costs.

    Returns:
        list of n places in the front, None where all of it costs more in something.
    """
    own, rivals = np.asarray(costs, np.float64), np.asarray(front, np.float64)
    if not len(rivals):
        return [None] * len(own)
    cheaper = np.all(rivals[np.newaxis, :, 1:] <= own[:, np.newaxis], axis=2)
    best = np.where(cheaper, rivals[:, 0], -np.inf).argmax(axis=1)
    return [int(place) if found else None for place, found in zip(best, cheaper.any(axis=1), strict=True)]

"""Decides from some of the images whether a subnet is worse than a rival by more than chance explains.

Both subnets classify the same images, so their difference is a paired one (McNemar, 1947). Its variance counts only the
images on which they differ, and is a small part of the variance of two independent accuracies.
"""

import numpy as np
from numpy.typing import ArrayLike

# In standard errors. With two looks at thousands of subnets a handful are given up wrongly, each close to its rival.
CONFIDENCE = 3.0


def is_behind(outcomes: np.ndarray, rival: np.ndarray, confidence: float = CONFIDENCE) -> bool:
    """Whether a subnet's accuracy on all images will be below its rival's.

    Args:
        outcomes: bool (n,), which of the first n images the subnet classified correctly.
        rival: bool (N,), which of all N images the rival classified correctly.
        confidence: number of standard errors of the difference, for n of N images drawn without replacement.
    """
    shown, total = len(outcomes), len(rival)
    difference = outcomes.astype(np.float64) - rival[:shown]
    left = (total - shown) / max(total - 1, 1)
    return difference.mean() < -confidence * np.sqrt(difference.var() * left / shown)


def estimate(outcomes: np.ndarray, rival: np.ndarray) -> float:
    """An estimate of the accuracy on all images: the rival's accuracy plus the difference so far, from 0 to 1."""
    return float(np.clip(rival.mean() + outcomes.mean() - rival[: len(outcomes)].mean(), 0, 1))


def rivals_of(costs: ArrayLike, front: ArrayLike) -> list[int | None]:
    """The rival of each subnet, which is the most accurate member of the front that costs no more.

    Args:
        costs: float (n, k), costs of the subnets; less is better.
        front: float (m, k + 1), accuracies and costs of the front.

    Returns:
        A list of n indices into the front, None if every member costs more in some cost.
    """
    own, rivals = np.asarray(costs, np.float64), np.asarray(front, np.float64)
    if not len(rivals):
        return [None] * len(own)
    cheaper = np.all(rivals[np.newaxis, :, 1:] <= own[:, np.newaxis], axis=2)
    best = np.where(cheaper, rivals[:, 0], -np.inf).argmax(axis=1)
    return [int(place) if found else None for place, found in zip(best, cheaper.any(axis=1), strict=True)]

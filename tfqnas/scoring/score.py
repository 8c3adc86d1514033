"""The result of scoring a subnet."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of a subnet.

    Args:
        accuracy: fraction of the images that it classifies correctly; an estimate if it was given up.
        images: number of images that it classified.
        outcomes: bool (images,), which of them it classified correctly, in the scorer's order; None if it was given up.
    """

    accuracy: float
    images: int
    outcomes: np.ndarray | None

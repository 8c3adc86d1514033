"""What scoring finds out about a subnet."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Score:
    """What is known of a subnet.

    Args:
        accuracy: share of the images that it classifies correctly; of one that was given up, an estimate.
        images: how many it was shown.
        outcomes: bool (images,), which of them, in the order of the scorer; None where it was given up.
    """

    accuracy: float
    images: int
    outcomes: np.ndarray | None

"""Settings of the analyses."""

import dataclasses

from tfqnas.settings import Settings, setting

NAMES = ("transfer", "drop", "depth", "ranking", "alone")


@dataclasses.dataclass(frozen=True)
class AnalysisConfig(Settings):
    """Which questions are asked, and of how many subnets."""

    only: tuple[str, ...] = setting(
        (),
        "transfer: fronts at lower bit widths; drop: shallow-fat against deep-slim subnets; depth: along the "
        "fronts; ranking: agreement of bit widths; alone: of supernet and separate training; by default all possible",
        choices=NAMES,
    )
    subnets: int = setting(
        60,
        "random subnets, spread over cost, for ranking, and as many in pairs for drop",
        at_least=4,
        only={"only": ("drop", "ranking", "alone")},
    )
    alone: int = setting(
        0,
        "how many of them are trained alone, from scratch; 0: none, it takes long",
        at_least=3,
        or_zero=True,
        only={"only": ("alone",)},
    )
    alone_epochs: float = setting(
        0.0, "epochs of each of these trainings; 0: those of the run's largest network", at_least=0, only={"alone": ()}
    )
    alone_bits: int = setting(
        0, "their bit width; 0: the run's highest", at_least=2, at_most=16, or_zero=True, only={"alone": ()}
    )
    float_supernet_epochs: float = setting(
        0.0,
        "train a float supernet first, to compare with, unless the run has one; 0: the highest bit width stands in",
        at_least=0,
    )
    float_supernet_learning_rate: float = setting(
        0.05, "its peak learning rate", at_least=0, only={"float_supernet_epochs": ()}
    )

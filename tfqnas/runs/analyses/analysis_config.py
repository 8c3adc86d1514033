"""Settings of the analyses."""

import dataclasses

from tfqnas.settings import Settings, setting

NAMES = ("transfer", "drop", "depth", "ranking", "alone")


@dataclasses.dataclass(frozen=True)
class AnalysisConfig(Settings):
    """The analyses to make, and the number of subnets for them."""

    only: tuple[str, ...] = setting(
        (),
        "transfer: fronts at lower bit widths; drop: shallow-fat against deep-slim subnets; depth: depth along the "
        "fronts; ranking: rank agreement of bit widths; alone: that of supernet and separate training; by default all "
        "that are possible",
        choices=NAMES,
    )
    subnets: int = setting(
        60,
        "random subnets, spread over cost, for ranking, and the same number in pairs for drop",
        at_least=4,
        only={"only": ("drop", "ranking", "alone")},
    )
    alone: int = setting(
        0,
        "number of these subnets that are trained alone from scratch, which takes long; 0: none",
        at_least=3,
        or_zero=True,
        only={"only": ("alone",)},
    )
    alone_epochs: float = setting(
        0.0, "epochs of each training alone; 0: those of the run's largest network", at_least=0, only={"alone": ()}
    )
    alone_bits: int = setting(
        0,
        "bit width of the trainings alone; 0: the run's highest",
        at_least=2,
        at_most=16,
        or_zero=True,
        only={"alone": ()},
    )
    float_supernet_epochs: float = setting(
        0.0,
        "epochs of a float supernet to compare with, trained first unless the run has one; 0: compare with the highest "
        "bit width",
        at_least=0,
    )
    float_supernet_learning_rate: float = setting(
        0.05, "peak learning rate of the float supernet", at_least=0, only={"float_supernet_epochs": ()}
    )

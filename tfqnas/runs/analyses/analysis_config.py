"""Settings of the analyses."""

import dataclasses
from collections.abc import Sequence

from tfqnas.errors import UserError
from tfqnas.settings import setting

NAMES = ("transfer", "drop", "depth", "ranking", "alone")


@dataclasses.dataclass(frozen=True)
class AnalysisConfig:
    """Which questions are asked, and of how many subnets."""

    only: tuple[str, ...] = setting(
        (),
        "transfer: fronts at lower bit widths; drop: shallow-fat against deep-slim subnets; depth: along the "
        "fronts; ranking: agreement of bit widths; alone: of supernet and separate training; by default all possible",
    )
    subnets: int = setting(60, "random subnets, spread over cost, for ranking, and as many in pairs for drop")
    alone: int = setting(0, "how many of them are trained alone, from scratch; 0: none, it takes long")
    alone_epochs: float = setting(0.0, "epochs of each of these trainings; 0: those of the run's largest network")
    alone_bits: int = setting(0, "their bit width; 0: the run's highest")
    float_supernet_epochs: float = setting(
        0.0, "train a float supernet first, to compare with, unless the run has one; 0: the highest bit width stands in"
    )
    float_supernet_learning_rate: float = setting(0.05, "its peak learning rate")
    analysis_seed: int = setting(0, "of the random subnets, and of the resampling behind intervals")

    def check(self, bits: Sequence[int | str | None]) -> None:
        """Raises UserError where a setting makes no sense; `bits`: the run's bit widths."""

        def expect(ok: object, name: str, expected: str) -> None:
            if not ok:
                raise UserError(f"--{name}: expected {expected}, received {getattr(self, name)}")

        expect(set(self.only) <= set(NAMES), "only", f"some of {', '.join(NAMES)}")
        expect(self.subnets >= 4, "subnets", "a number from 4 on")
        expect(self.alone == 0 or self.alone >= 3, "alone", "0, or at least 3 subnets to be ranked")
        expect(self.alone_epochs >= 0, "alone_epochs", "a positive number, or 0 for the run's own")
        expect(self.float_supernet_epochs >= 0, "float_supernet_epochs", "a positive number, or 0")
        expect(self.alone_bits in (0, *bits), "alone_bits", f"one of this run's {list(bits)}, or 0 for the highest")
        expect(self.analysis_seed >= 0, "analysis_seed", "a number from 0 on")

"""Settings of the first search."""

import dataclasses

from tfqnas.settings import setting


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Random subnets, the same number in each bin of MACs (OQA, section 3.3)."""

    search_bins: int = setting(6, "bins of equal width from the smallest to the largest subnet's MACs")
    search_edges: tuple[float, ...] = setting((), "instead: edges of the bins in millions of MACs")
    search_per_bin: int = setting(10, "random subnets in each bin")
    search_seed: int = setting(0, "of the random subnets")
    models: int = setting(
        4, "subnets of each front to extract, evenly spread, the most accurate always among them", fixed=False
    )

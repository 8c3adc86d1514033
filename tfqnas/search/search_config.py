"""Settings of a search."""

import dataclasses

from tfqnas.errors import SettingError, did_you_mean
from tfqnas.search.searcher import SEARCHERS
from tfqnas.settings import Settings, setting

_EQUAL, _OWN = "bins of equal width", "edges of its own"
# Settings that are limits, and the costs that they limit.
LIMITS = {
    "max_effective_mflops": "effective_mflops",
    "max_mmacs": "mmacs",
    "max_mbitops": "mbitops",
    "max_params": "params",
    "max_kb": "kB",
    "max_file_kb": "file_kB",
    "max_latency_ms": "latency_ms",
    "max_npu_cycles": "npu_cycles",
}
# Costs by the unit of a latency table.
TABLE_COSTS = {"ms": "latency_ms", "cycles": "npu_cycles"}


def cost_of(objective: str) -> str:
    """The name of the cost that an objective is: "latency" is short for "latency_ms"."""
    return "latency_ms" if objective == "latency" else objective


@dataclasses.dataclass(frozen=True)
class SearchConfig(Settings):
    """Which subnets are looked at, what they are to be good at, and how they are scored."""

    search: str = setting(
        "coarse_to_fine",
        "coarse_to_fine: random subnets in bins of MACs, then other kernel sizes for the best (OQA, "
        "3.3); nsga2: evolution of the front; ageing: evolution of the most accurate within the limits; random",
        choices=SEARCHERS,
    )
    objectives: tuple[str, ...] = setting(
        ("accuracy", "effective_mflops"),
        "what the front is made of: accuracy and some of effective_mflops, mmacs, "
        "mbitops, params, kB (weights at their bit width), file_kB (the int8 .tflite), latency (with `latency_table`), "
        "npu_cycles (with that of an NPU)",
    )
    max_effective_mflops: float = setting(
        0.0, "no subnet above so many million effective FLOPs; 0: no limit", at_least=0
    )
    max_mmacs: float = setting(0.0, "no subnet above so many million MACs; 0: no limit", at_least=0)
    max_mbitops: float = setting(0.0, "no subnet above so many million BitOPs; 0: no limit", at_least=0)
    max_params: int = setting(0, "no subnet above so many parameters; 0: no limit", at_least=0)
    max_kb: float = setting(
        0.0,
        "no subnet above so many kB (1,000 bytes) of weights at their bit width; 0: no limit; see `max_file_kb`",
        at_least=0,
    )
    max_file_kb: float = setting(
        0.0,
        "no subnet whose int8 .tflite, a byte a weight, has more than so many kB; computed, to about 0.2%; 0: no limit",
        at_least=0,
    )
    max_latency_ms: float = setting(0.0, "no subnet slower than so many ms by `latency_table`; 0: no limit", at_least=0)
    max_npu_cycles: float = setting(
        0.0, "no subnet above so many cycles by `latency_table` of an NPU; 0: no limit", at_least=0
    )
    latency_table: str = setting(
        "", "file of tfqnas latency-table; with another content it is another search", fixed=False
    )
    search_bins: int = setting(
        0,
        "coarse_to_fine, random: bins of equal width in MACs; 0: 6, or the paper's edges",
        at_least=0,
        only={"bins": (_EQUAL,)},
    )
    search_edges: tuple[float, ...] = setting((), "instead: edges of the bins in millions of MACs", above=0)
    search_per_bin: int = setting(
        0, "random subnets in each bin; 0: 20, or the paper's 2,000 in its spaces", at_least=0
    )
    search_rounds: int = setting(
        2, "coarse_to_fine: rounds of other kernel sizes for the front's skeletons", at_least=0
    )
    search_per_skeleton: int = setting(8, "coarse_to_fine: other kernel sizes for each skeleton in a round", at_least=1)
    search_population: int = setting(
        0, "nsga2, ageing: size of the population; 0: 100, or a fifth of the budget", at_least=0
    )
    search_budget: int = setting(1000, "nsga2, ageing: how many subnets are scored", at_least=1)
    search_screen: int = setting(
        1,
        "propose so many subnets for each that is scored, and let an accuracy predictor choose; 1: no predictor",
        at_least=1,
    )
    early_stopping: bool = setting(True, "give a subnet up that is behind the front by more than chance explains")
    search_seed: int = setting(0, "of the random subnets", at_least=0)
    search_weight_bits: tuple[int, ...] = setting(
        (), "mixed supernets: bit widths of weights to choose from, such as what a target supports; by default all"
    )
    search_input_bits: tuple[int, ...] = setting((), "the same of inputs")
    search_bits_by: str = setting(
        "",
        "mixed supernets: one bit width for each tensor, layer (weights and inputs), block or stage; by default as "
        "in the space",
    )
    workers: int = setting(
        0,
        "processes that score; 1: this one; 0: one a core to score a thousand subnets or more, else this one",
        fixed=False,
        at_least=0,
    )
    models: int = setting(
        4,
        "subnets of each front to extract, evenly spread, the most accurate always among them",
        fixed=False,
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if "accuracy" not in self.objectives:
            raise SettingError("objectives", "accuracy and some costs", self.objectives)
        if len(self.objectives) == 1 and SEARCHERS[self.search].needs_cost:
            raise SettingError("objectives", "accuracy and at least one cost", self.objectives)
        for name in self.objectives:
            if name != "accuracy" and cost_of(name) not in LIMITS.values():
                known = [cost for cost in LIMITS.values() if cost not in TABLE_COSTS.values()]
                expected = (
                    f"accuracy and some of {', '.join(known)}, latency (with `latency_table`), npu_cycles (with "
                    "`latency_table` of an NPU)"
                )
                hint = did_you_mean(name, ("accuracy", *known, "latency", "npu_cycles"))
                raise SettingError("objectives", expected, name, hint)
        of_tables = set(TABLE_COSTS.values())
        wants_table = self.max_latency_ms or self.max_npu_cycles or of_tables & set(map(cost_of, self.objectives))
        if wants_table and not self.latency_table:
            expected = (
                "the table of a device for `objectives=latency` and npu_cycles, `max_latency_ms` and `max_npu_cycles`"
            )
            raise SettingError("latency_table", expected, "", "; tfqnas latency-table makes one")

    def without_effect(self, name: str) -> tuple[str, str] | None:
        """As in `Settings`. Each searcher says which settings it reads."""
        readers = [search for search, kind in SEARCHERS.items() if name in kind.reads(search)]
        if readers and self.search not in readers:
            return f"with `search={self.search}`", " or ".join(f"`search={search}`" for search in readers)
        return super().without_effect(name)

    @property
    def bins(self) -> str:
        """What divides the costs, in words."""
        return _OWN if self.search_edges else _EQUAL

"""Settings of a search."""

import dataclasses

from tfqnas.errors import UserError, did_you_mean
from tfqnas.settings import setting

SEARCHES = ("coarse_to_fine", "nsga2", "ageing", "random")
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
class SearchConfig:
    """Which subnets are looked at, what they are to be good at, and how they are scored."""

    search: str = setting(
        "coarse_to_fine",
        "coarse_to_fine: random subnets in bins of MACs, then other kernel sizes for the best (OQA, "
        "3.3); nsga2: evolution of the front; ageing: evolution of the most accurate within the limits; random",
    )
    objectives: tuple[str, ...] = setting(
        ("accuracy", "effective_mflops"),
        "what the front is made of: accuracy and some of effective_mflops, mmacs, "
        "mbitops, params, kB (weights at their bit width), file_kB (the int8 .tflite), latency (with --latency_table), "
        "npu_cycles (with that of an NPU)",
    )
    max_effective_mflops: float = setting(0.0, "no subnet above so many million effective FLOPs; 0: no limit")
    max_mmacs: float = setting(0.0, "no subnet above so many million MACs; 0: no limit")
    max_mbitops: float = setting(0.0, "no subnet above so many million BitOPs; 0: no limit")
    max_params: int = setting(0, "no subnet above so many parameters; 0: no limit")
    max_kb: float = setting(
        0.0, "no subnet above so many kB (1,000 bytes) of weights at their bit width; 0: no limit; see --max_file_kb"
    )
    max_file_kb: float = setting(
        0.0,
        "no subnet whose int8 .tflite, a byte a weight, has more than so many kB; computed, to about 0.2%; 0: no limit",
    )
    max_latency_ms: float = setting(0.0, "no subnet slower than so many ms by --latency_table; 0: no limit")
    max_npu_cycles: float = setting(0.0, "no subnet above so many cycles by --latency_table of an NPU; 0: no limit")
    latency_table: str = setting(
        "", "file of tools/latency_table.py; with another content it is another search", fixed=False
    )
    search_bins: int = setting(0, "coarse_to_fine, random: bins of equal width in MACs; 0: 6, or the paper's edges")
    search_edges: tuple[float, ...] = setting((), "instead: edges of the bins in millions of MACs")
    search_per_bin: int = setting(0, "random subnets in each bin; 0: 20, or the paper's 2,000 in its spaces")
    search_rounds: int = setting(2, "coarse_to_fine: rounds of other kernel sizes for the front's skeletons")
    search_per_skeleton: int = setting(8, "coarse_to_fine: other kernel sizes for each skeleton in a round")
    search_population: int = setting(0, "nsga2, ageing: size of the population; 0: 100, or a fifth of the budget")
    search_budget: int = setting(1000, "nsga2, ageing: how many subnets are scored")
    search_screen: int = setting(
        1, "propose so many subnets for each that is scored, and let an accuracy predictor choose; 1: no predictor"
    )
    early_stopping: bool = setting(True, "give a subnet up that is behind the front by more than chance explains")
    search_seed: int = setting(0, "of the random subnets")
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
    )
    models: int = setting(
        4, "subnets of each front to extract, evenly spread, the most accurate always among them", fixed=False
    )

    def check(self) -> None:
        """Raises UserError where a setting makes no sense by itself."""

        def expect(ok: object, name: str, expected: str) -> None:
            if not ok:
                raise UserError(f"--{name}: expected {expected}, received {getattr(self, name)}")

        if self.search not in SEARCHES:
            hint = did_you_mean(self.search, SEARCHES)
            raise UserError(f"--search: expected one of {', '.join(SEARCHES)}, received {self.search}{hint}")
        expect("accuracy" in self.objectives, "objectives", "accuracy and some costs")
        expect(len(self.objectives) > 1 or self.search == "ageing", "objectives", "accuracy and at least one cost")
        for name in self.objectives:
            if name != "accuracy" and cost_of(name) not in LIMITS.values():
                known = [cost for cost in LIMITS.values() if cost not in TABLE_COSTS.values()]
                hint = did_you_mean(name, ("accuracy", *known, "latency", "npu_cycles"))
                raise UserError(
                    f"--objectives: expected accuracy and some of {', '.join(known)}, latency (with --latency_table), "
                    f"npu_cycles (with --latency_table of an NPU), received {name!r}{hint}"
                )
        for name in LIMITS:
            expect(getattr(self, name) >= 0, name, "a positive number, or 0 for no limit")
        for name in ("search_bins", "search_per_bin", "search_rounds", "search_population", "workers"):
            expect(getattr(self, name) >= 0, name, "a number from 0 on")
        for name in ("search_per_skeleton", "search_budget", "search_screen", "models"):
            expect(getattr(self, name) >= 1, name, "a number from 1 on")
        of_tables = set(TABLE_COSTS.values())
        wants_table = self.max_latency_ms or self.max_npu_cycles or of_tables & set(map(cost_of, self.objectives))
        if wants_table and not self.latency_table:
            raise UserError(
                "--latency_table: expected the table of a device for --objectives=latency and npu_cycles, "
                "--max_latency_ms and --max_npu_cycles; tools/latency_table.py makes one"
            )

"""Search: searchers that propose architectures, the loop that scores them, and Pareto fronts."""

from tfqnas.search.ageing import AgeingEvolution
from tfqnas.search.coarse_to_fine import CoarseToFine
from tfqnas.search.dominance import hypervolume
from tfqnas.search.nsga2 import NSGA2
from tfqnas.search.objectives import Objectives, model_costs
from tfqnas.search.pareto import ParetoFront, Result, kendall_tau, pareto_front
from tfqnas.search.random_bins import RandomBins
from tfqnas.search.searcher import Searcher, run

__all__ = [
    "NSGA2",
    "AgeingEvolution",
    "CoarseToFine",
    "Objectives",
    "ParetoFront",
    "RandomBins",
    "Result",
    "Searcher",
    "hypervolume",
    "kendall_tau",
    "model_costs",
    "pareto_front",
    "run",
]

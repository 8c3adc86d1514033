"""Search: searchers that propose architectures, the loop that scores them, and Pareto fronts."""

import importlib
import pkgutil

from tfqnas.search.ageing import AgeingEvolution
from tfqnas.search.coarse_to_fine import CoarseToFine
from tfqnas.search.dominance import hypervolume
from tfqnas.search.nsga2 import NSGA2
from tfqnas.search.objectives import Objectives, model_costs
from tfqnas.search.pareto import ParetoFront, Result, kendall_tau, pareto_front
from tfqnas.search.random_bins import RandomBins
from tfqnas.search.searcher import SEARCHERS, Searcher, register, run

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")  # each searcher registers itself

__all__ = [
    "NSGA2",
    "SEARCHERS",
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
    "register",
    "run",
]

"""Search: proposers of architectures, the loop that has them scored, and Pareto fronts."""

from tfqnas.search.pareto import ParetoFront, Result, kendall_tau, pareto_front
from tfqnas.search.random_bins import RandomBins
from tfqnas.search.searcher import Searcher, run

__all__ = ["ParetoFront", "RandomBins", "Result", "Searcher", "kendall_tau", "pareto_front", "run"]

"""Settings of a search: which of them a searcher reads is said by the searcher."""

import pytest

from tfqnas.errors import SettingError
from tfqnas.search import SEARCHERS, Searcher, register
from tfqnas.search.search_config import SearchConfig


@pytest.fixture
def hill_climb():
    """A searcher that somebody adds, registered for one test."""
    register("hill_climb")(type("HillClimb", (Searcher,), {"needs_cost": False}))
    yield
    del SEARCHERS["hill_climb"]


def test_a_registered_searcher_can_be_chosen_and_reads_its_budget(hill_climb):
    config = SearchConfig(search="hill_climb", objectives=("accuracy",), search_budget=9)
    assert config.without_effect("search_budget") is None and config.without_effect("search_screen") is None
    assert config.without_effect("search_population") == (
        "with `search=hill_climb`",
        "`search=ageing` or `search=nsga2`",
    )
    why, where = SearchConfig().without_effect("search_budget")
    assert why == "with `search=coarse_to_fine`" and "`search=hill_climb`" in where


def test_other_names_are_refused_with_the_registered_ones():
    with pytest.raises(SettingError, match=f"search: expected one of {', '.join(SEARCHERS)}, received hill_climb"):
        SearchConfig(search="hill_climb")


@pytest.mark.parametrize("name", list(SEARCHERS))
def test_what_a_searcher_reads_are_settings(name):
    config = SearchConfig(search=name)
    for setting in SEARCHERS[name].reads(name):
        assert hasattr(config, setting) and config.without_effect(setting) is None

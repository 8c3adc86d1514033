"""Chooses one candidate for each tensor by the loss, among single strategies and by a descent layer by layer."""

import itertools
from collections.abc import Callable, Sequence

from tfqnas.dqss.candidates import clipping, names_for
from tfqnas.dqss.quantize_settings import SearchSettings
from tfqnas.dqss.result import Searched
from tfqnas.quantizers import ROLES


def ranked_pairs(
    searched: Sequence[Searched],
    loss_at: Callable[[list[int]], float],
    config: SearchSettings,
    signed: Sequence[str] = (),
) -> list[tuple[float, tuple[str, str], list[int]]]:
    """The single strategies, with one name for all weights and one for all inputs, by increasing loss.

    Args:
        searched: `[(layer, role, names)]` of the mixtures.
        loss_at: function that returns the loss of a list of indices, one for each mixture.
        config: `SearchSettings` with the strategy of a role without mixtures.
        signed: layers from `signed_inputs`. If there are any, strategies that clip at zero are left out.

    Returns:
        `[(loss, (weights, inputs), places)]`.
    """
    names = {role: _common(searched, role) or names_for(config, role) for role in ROLES}
    if signed:
        lost = clipping(names["inputs"])
        names["inputs"] = [name for name in names["inputs"] if name not in lost]
    found = []
    for pair in itertools.product(names["weights"], names["inputs"]):
        wanted = dict(zip(ROLES, pair, strict=True))
        places = [_place(own, wanted[role]) for _, role, own in searched]
        found.append((loss_at(places), pair, places))
    return sorted(found, key=lambda one: one[0])


def _common(searched: Sequence[Searched], role: str) -> Sequence[str]:
    """The names of a role's candidates, from the longest list since the ends may have fewer."""
    return max((names for _, own, names in searched if own == role), key=len, default=())


def in_words(pair: Sequence[str]) -> str:
    """The text for a single strategy, given its names for weights and for inputs."""
    return "weights by {}, inputs by {}".format(*pair)


def _place(names: Sequence[str], wanted: str) -> int:
    """The index of a name in a list, or 0 if the list is of the ends and does not have it."""
    return names.index(wanted) if wanted in names else 0


def refined(
    places: Sequence[int],
    loss: float,
    order: Sequence[Sequence[int]],
    loss_at: Callable[[list[int], float], float],
    on_step: Callable[[float], object],
    tried: int = 2,
) -> tuple[list[int], float]:
    """Coordinate descent, which tries for each tensor in turn its likeliest other candidates while the loss falls.

    Args:
        places: index of a candidate for each mixture, at the start.
        loss: loss at the start.
        order: for each mixture the indices of its candidates by decreasing coefficient.
        loss_at: function that returns the loss of a list of indices, given a bound above which it need not be exact.
        on_step: called with the completed share after each mixture.
        tried: number of other candidates to try for each mixture.

    Returns:
        `(places, loss)`.
    """
    places = list(places)
    for number, ranking in enumerate(order):
        for place in [p for p in ranking if p != places[number]][:tried]:
            trial = [*places[:number], int(place), *places[number + 1 :]]
            at_trial = loss_at(trial, loss)
            if at_trial < loss:
                places, loss = trial, at_trial
        on_step((number + 1) / len(order))
    return places, loss

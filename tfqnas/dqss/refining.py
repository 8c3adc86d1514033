"""From coefficients to one candidate a tensor, by the loss: single strategies, and a descent layer by layer."""

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
    """The single strategies, one name for all weights and one for all inputs, those with the smallest loss first.

    Args:
        searched: `[(layer, role, names)]`. loss_at: the loss of a list of places, one for each of them.
        config: `SearchSettings`: what a role without mixtures has. signed: see `signed_inputs`: with such layers
            strategies that clip at zero are none for the whole network.

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
    """The names that every mixture of a role has, of the longest list where ends have fewer."""
    return max((names for _, own, names in searched if own == role), key=len, default=())


def in_words(pair: Sequence[str]) -> str:
    """A single strategy's names for weights and for inputs, as a text."""
    return "weights by {}, inputs by {}".format(*pair)


def _place(names: Sequence[str], wanted: str) -> int:
    """Where a name is in a list; the first place in a list of those at the ends, which have fewer."""
    return names.index(wanted) if wanted in names else 0


def refined(
    places: Sequence[int],
    loss: float,
    order: Sequence[Sequence[int]],
    loss_at: Callable[[list[int], float], float],
    on_step: Callable[[float], object],
    tried: int = 2,
) -> tuple[list[int], float]:
    """Coordinate descent: of each tensor in turn the likeliest other candidates, kept where the loss falls.

    Args:
        places: where it starts, a place a mixture, with this loss. order: for each mixture its places, those with the
            largest coefficients first. loss_at: the loss of a list of places, given a
            bound above which it need not be exact. tried: others that are tried.

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

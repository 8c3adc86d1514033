"""From coefficients to one candidate a tensor, by the loss: single strategies, and a descent layer by layer."""


def ranked_pairs(searched, loss_at):
    """The single strategies, one name for all weights and one for all inputs, those with the smallest loss first.

    Args:
        searched: `[(layer, role, names)]`. loss_at: the loss of a list of places, one for each of them.

    Returns:
        `[(loss, (weights, inputs), places)]`.
    """
    names = {role: _common(searched, role) for role in ("weights", "inputs")}
    found = []
    for weights in names["weights"]:
        for inputs in names["inputs"]:
            wanted = {"weights": weights, "inputs": inputs}
            places = [_place(own, wanted[role]) for _, role, own in searched]
            found.append((loss_at(places), (weights, inputs), places))
    return sorted(found, key=lambda one: one[0])


def _common(searched, role):
    """The names that every mixture of a role has, of the longest list where ends have fewer; None without mixtures."""
    lists = [names for _, own, names in searched if own == role]
    return max(lists, key=len) if lists else [None]


def _place(names, wanted):
    """Where a name is in a list; the first place in a list of those at the ends, which have fewer."""
    return names.index(wanted) if wanted in names else 0


def refined(places, loss, order, loss_at, on_step, tried=2):
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

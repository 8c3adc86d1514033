"""Sequences with common beginnings, each beginning computed once."""

import itertools


def walk(paths, root, step):
    """Computes the end of every path; what two of them have in common is computed once.

    Depth first in sorted order, so that only states to which a later path returns are in memory.

    Args:
        paths: tuples of one length, their elements in some order.
        root: the state before the first step.
        step: `step(state, prefix) -> state`, with `prefix` the path up to and with this step.

    Yields:
        `(index of a path, its last state)`, in sorted order of the paths.
    """
    order = sorted(range(len(paths)), key=paths.__getitem__)
    shared = [common_length(paths[a], paths[b]) for a, b in itertools.pairwise(order)]
    states = {0: root}  # by the length of the prefix
    for place, index in enumerate(order):
        path = paths[index]
        # The lengths at which later paths leave this one.
        wanted = set(itertools.accumulate(shared[place:], min))
        length = max(states)
        state = states[length]
        while length < len(path):
            length += 1
            state = step(state, path[:length])
            if length in wanted:
                states[length] = state
        yield index, state
        states = {length: state for length, state in states.items() if length in wanted}


def common_length(a, b):
    """How many of the first elements of two sequences of one length are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def path_of(space, arch):
    """What each block of a subnet has chosen, in the order in which they are computed.

    Returns:
        For each block of the space's largest architecture a tuple of the indices of its kernel size and its expand
        ratio, empty where `arch` has no such block.
    """
    code = space.encode(arch)
    active = space.active(code)
    path = []
    for block in space.blocks(space.largest()):
        if block.stage not in space.searched:
            path.append((0, 0))
            continue
        kernel = space.gene_index("kernel", block.stage, block.index)
        path.append((int(code[kernel]), int(code[kernel + 1])) if active[kernel] else ())
    return tuple(path)

"""Sequences with common beginnings, each beginning computed once."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tfqnas.arch import Arch
from tfqnas.spaces import SearchSpace

State = TypeVar("State")


def walk(
    paths: Sequence[tuple[Any, ...]], root: State, step: Callable[[State, tuple[Any, ...]], State]
) -> Iterator[tuple[int, State]]:
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


def common_length(a: Sequence[object], b: Sequence[object]) -> int:
    """How many of the first elements of two sequences of one length are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def path_of(space: SearchSpace, arch: Arch) -> tuple[tuple[int, ...], ...]:
    """What each piece of a subnet has chosen, in the order in which they are computed, and the head at last.

    A block is two pieces, its expansion and what follows, of which the first does not depend on the kernel size.

    Returns:
        For each block of the space's largest architecture two tuples, both empty where `arch` has no such block: of the
        expansion, empty in a block without one, the index of its expand ratio; of the rest the indices of kernel size
        and expand ratio; and each with the bit widths of weights and inputs of its convolutions in a mixed space. Then
        a tuple of the head's bit widths, empty in other spaces.
    """
    code = space.encode(arch)
    present = {(block.stage, block.index): block for block in space.blocks(arch)}
    path: list[tuple[int, ...]] = []
    for block in space.blocks(space.largest()):
        found = present.get((block.stage, block.index))
        if found is None:
            path += [(), ()]
            continue
        kernel = expand = 0
        if block.stage in space.searched:
            gene = space.gene_index("kernel", block.stage, block.index)
            kernel, expand = int(code[gene]), int(code[gene + 1])
        bits = found.bits or ()
        of_expansion = 1 if block.has_expansion else 0
        path.append((expand, *itertools.chain(*bits[:of_expansion])) if of_expansion else ())
        path.append((kernel, expand, *itertools.chain(*bits[of_expansion:])))
    ends = (pair for pair in space.end_bits(arch) if pair is not None)
    return (*path, tuple(itertools.chain(*ends)))

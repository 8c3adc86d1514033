"""Computes sequences with common prefixes, each prefix once."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tfqnas.arch import Arch
from tfqnas.spaces import SearchSpace

State = TypeVar("State")


def walk(
    paths: Sequence[tuple[Any, ...]], root: State, step: Callable[[State, tuple[Any, ...]], State]
) -> Iterator[tuple[int, State]]:
    """Computes the last state of every path, and the states of common prefixes once.

    The walk is depth first in sorted order, so that only states to which a later path returns stay in memory.

    Args:
        paths: tuples of equal length with sortable elements.
        root: the state before the first step.
        step: `step(state, prefix) -> state`; `prefix` is the path up to and including this step.

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
    """The length of the common prefix of two sequences of equal length."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def path_of(space: SearchSpace, arch: Arch) -> tuple[tuple[int, ...], ...]:
    """The choices of a subnet for each piece, in the order of computation; the head comes last.

    A block has two pieces, its expansion and the rest, since the expansion does not depend on the kernel size.

    Returns:
        Two tuples for each block of the space's largest architecture, both empty if `arch` has no such block. The first
        holds the index of the expand ratio, and is empty for a block without an expansion. The second holds the indices
        of kernel size and expand ratio. In a mixed space each also holds the bit widths of the weights and inputs of
        its convolutions. A last tuple holds the bit widths of the head, and is empty in other spaces.
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

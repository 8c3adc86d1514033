import itertools

import pytest

from tfqnas import spaces
from tfqnas.scoring.prefixes import common_length, path_of, walk


@pytest.mark.parametrize("count, length", [(1, 4), (2, 1), (40, 5), (200, 3)])
def test_every_path_ends_in_the_state_that_its_own_steps_lead_to(count, length, rng):
    paths = [tuple(map(int, path)) for path in rng.integers(0, 3, (count, length))]
    ends = dict(walk(paths, "", lambda state, prefix: f"{state}{prefix[-1]}"))
    assert ends == {i: "".join(map(str, path)) for i, path in enumerate(paths)}


def test_a_common_beginning_is_computed_once(rng):
    paths = [tuple(map(int, path)) for path in rng.integers(0, 2, (50, 6))]
    steps = []
    list(walk(paths, None, lambda state, prefix: steps.append(prefix)))
    assert sorted(steps) == sorted({path[:n] for path in paths for n in range(1, 7)})


def test_states_that_no_later_path_returns_to_are_dropped():
    class State:
        alive = 0

        def __init__(self):
            State.alive += 1

        def __del__(self):
            State.alive -= 1

    paths = [(0, i, j, k) for i, j, k in itertools.product(range(3), repeat=3)]
    most = 0
    for _ in walk(paths, State(), lambda state, prefix: State()):
        most = max(most, State.alive)
    assert most <= 6  # root, three lengths at which paths part, the last state, the one before


def test_no_paths_no_states():
    assert list(walk([], None, None)) == []


@pytest.mark.parametrize("a, b, length", [((), (), 0), ((1, 2), (1, 2), 2), ((1, 2), (1, 3), 1), ((1,), (2,), 0)])
def test_common_length(a, b, length):
    assert common_length(a, b) == length


@pytest.mark.parametrize("name", ["tiny", "mbv3", "mbv2", "tiny_qfa"])
def test_a_path_says_the_choices_of_every_block_in_the_order_of_computation(name, rng):
    space = spaces.get(name)
    largest = space.blocks(space.largest())
    for arch in [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(20))]:
        *path, of_head = path_of(space, arch)
        assert len(path) == 2 * len(largest)
        assert of_head == (sum(space.end_bits(arch), ()) if space.mixed else ())
        pieces = list(zip(path[::2], path[1::2], strict=True))
        present = [block for block, (_, rest) in zip(largest, pieces, strict=True) if rest]
        blocks = space.blocks(arch)
        assert [(b.stage, b.index) for b in present] == [(b.stage, b.index) for b in blocks]
        for (first, (kernel, expand, *bits)), block in zip([p for p in pieces if p[1]], blocks, strict=True):
            assert space.stages[block.stage].kernels[kernel] == block.kernel
            assert space.hidden_choices(block.stage, block.index)[expand] == block.hidden
            assert bool(first) == block.has_expansion and first[:1] in ((), (expand,))
            assert [*first[1:], *bits] == list(sum(block.bits or (), ()))

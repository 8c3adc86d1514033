import dataclasses
import itertools
import json

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.spaces import SearchSpace, Stage


def three_deep(space):
    """`space` with up to three blocks a stage, whatever its own depths are tuned to."""
    first, *others = space.stages
    return dataclasses.replace(space, stages=(first, *(dataclasses.replace(s, depths=(1, 2, 3)) for s in others)))


TINY, MBV3 = three_deep(spaces.get("tiny")), spaces.get("mbv3")


@pytest.fixture(params=spaces.names())
def space(request):
    return spaces.get(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# -- Structure -----------------------------------------------------------------------------------------------


def test_make_divisible_is_the_rule_of_mobilenet():
    def reference(v, divisor=8):  # in floats, as in MobileNetV2's release
        new = max(divisor, int(v + divisor / 2) // divisor * divisor)
        return new + divisor if new < 0.9 * v else new

    assert [spaces.make_divisible(v) for v in range(1, 2000)] == [reference(v) for v in range(1, 2000)]


def test_tiny_blocks_by_hand():
    arch = Arch("tiny", 28, (1, 2, 1), (5, 3, 5, 3), (4, 3, 6, 3))
    columns = (
        "stage",
        "index",
        "size",
        "in_channels",
        "hidden",
        "out_channels",
        "kernel",
        "stride",
        "has_expansion",
        "se_channels",
        "activation",
        "residual",
        "bits",
    )
    expected = [  # 28 pixels: 14 after the stem, 7 after stage 2, 4 after stage 3
        (0, 0, 14, 16, 16, 16, 3, 1, False, 0, "relu", True),
        (1, 0, 14, 16, 64, 24, 5, 2, True, 0, "relu", False),
        (2, 0, 7, 24, 72, 40, 3, 2, True, 24, "relu", False),  # 72 // 4 = 18: 16 would be below 90%
        (2, 1, 4, 40, 240, 40, 5, 1, True, 64, "relu", True),  # 240 // 4 = 60
        (3, 0, 4, 40, 120, 64, 3, 1, True, 0, "hswish", False),
    ]
    assert [dict(zip(columns, (*row, None), strict=True)) for row in expected] == [
        block._asdict() for block in TINY.blocks(arch)
    ]


def test_blocks_follow_each_other(space, rng):
    for _ in range(50):
        arch = space.sample(rng)
        blocks = space.blocks(arch)
        assert blocks[0].in_channels == space.stem_channels and blocks[0].size == (arch.resolution + 1) // 2
        for a, b in itertools.pairwise(blocks):
            assert b.in_channels == a.out_channels
            assert b.size == (a.size + a.stride - 1) // a.stride
        elastic = [block for block in blocks if block.stage in space.searched]
        assert tuple(block.kernel for block in elastic) == arch.kernels
        for block in blocks:
            assert block.residual == (block.stride == 1 and block.in_channels == block.out_channels)
            assert block.hidden in space.hidden_choices(block.stage, block.index)
            assert block.se_channels in space.se_choices(block.stage, block.index)


def test_mbv3_has_the_published_structure():
    blocks = MBV3.blocks(MBV3.largest())
    assert len(blocks) == 21
    first = [block for block in blocks if block.index == 0]
    assert [block.out_channels for block in first] == [16, 24, 40, 80, 112, 160]
    assert [block.size for block in first] == [112, 112, 56, 28, 14, 14]  # appendix A.4
    assert [block.se_channels > 0 for block in first] == [False, False, True, False, True, True]
    assert [block.activation for block in first] == ["relu"] * 3 + ["hswish"] * 3
    assert MBV3.hidden_choices(3, 0) == (120, 160, 240)
    assert MBV3.se_choices(2, 1) == (32, 40, 64)
    assert MBV3.se_choices(3, 0) == (0, 0, 0)


def test_mbv3_relu_differs_from_mbv3_in_activations_alone():
    relu = spaces.get("mbv3_relu")
    assert relu.stem_activation == relu.head_activation == "relu"
    for space_field in ("resolutions", "stem_channels", "head_channels", "feature_channels"):
        assert getattr(relu, space_field) == getattr(MBV3, space_field)
    for a, b in zip(relu.stages, MBV3.stages, strict=True):
        assert a.activation == "relu" and dataclasses.replace(b, activation="relu") == a


def test_a_block_without_expansion_keeps_its_width():
    stage = Stage(12, 1, (2,), (3,), (1,))  # 12 is no multiple of 8
    space = SearchSpace("odd", (8,), 12, (stage,), 16)
    assert [(b.hidden, b.has_expansion) for b in space.blocks(space.largest())] == [(12, False)] * 2


def test_a_stride_forbids_the_residual_even_between_equal_channels():
    space = SearchSpace("equal", (8,), 16, (Stage(16, 2, (2,), (3,), (2,)),), 16)
    assert [(b.stride, b.residual) for b in space.blocks(space.largest())] == [(2, False), (1, True)]


# -- Sizes ---------------------------------------------------------------------------------------------------


def test_published_size_of_mbv3():
    assert MBV3.size_without_resolutions == 21758655492572485851
    assert MBV3.size == 21758655492572485851 * 25


def test_size_of_tiny_by_hand():
    assert TINY.size == 3 * (6 + 6**2 + 6**3) ** 3


def test_size_counts_what_can_be_chosen():
    # Small enough to list: 2 resolutions, depth 1 or 2 of 2 kernel sizes, and a stage of one kernel gene.
    stages = (Stage(8, 2, (1, 2), (3, 5), (3,)), Stage(16, 1, (1,), (3, 5, 7), (6,)))
    space = SearchSpace("small", (8, 12), 8, stages, 16)
    rng = np.random.default_rng(0)
    assert len({space.sample(rng) for _ in range(2000)}) == space.size == 2 * (2 + 4) * 3


# -- Codes ---------------------------------------------------------------------------------------------------


def test_number_of_genes():
    assert len(MBV3.genes) == 1 + 5 + 2 * 20
    assert len(spaces.get("mbv2").genes) == 1 + 6 + 2 * 21  # stage 7 has a depth gene with one choice
    assert len(TINY.genes) == 1 + 3 + 2 * 9


def test_genes_are_found_by_what_they_mean(space):
    for position, gene in enumerate(space.genes):
        assert space.gene_index(gene.kind, gene.stage, gene.block, gene.layer) == position
    with pytest.raises(ValueError, match="no gene 'kernel' with stage=0, block=0"):
        space.gene_index("kernel", 0, 0)


def test_decode_inverts_encode(space, rng):
    for arch in (space.largest(), space.smallest(), *(space.sample(rng) for _ in range(200))):
        code = space.encode(arch)
        assert code.dtype == np.int32 and code.shape == (len(space.genes),)
        assert space.decode(code) == arch
        assert not code[~space.active(code)].any()


def test_genes_beyond_the_depth_are_ignored(space, rng):
    for _ in range(100):
        code = rng.integers(0, space.choice_counts)
        arch = space.decode(code)
        canonical = space.encode(arch)
        active = space.active(code)
        np.testing.assert_array_equal(canonical, np.where(active, code, 0))
        assert active.sum() == 1 + len(space.searched) + 2 * sum(arch.depths) + 2 * len(arch.bits or ())
    codes = rng.integers(0, space.choice_counts, (7, len(space.genes)))
    np.testing.assert_array_equal(space.active(codes), [space.active(code) for code in codes])


def test_code_says_each_choice():
    arch = Arch("tiny", 28, (1, 2, 3), (5, 3, 5, 3, 3, 5), (4, 3, 6, 3, 4, 6))
    code = TINY.encode(arch)
    assert code[TINY.gene_index("resolution")] == 1
    assert [code[TINY.gene_index("depth", s)] for s in (1, 2, 3)] == [0, 1, 2]
    assert [code[TINY.gene_index("kernel", 2, b)] for b in (0, 1, 2)] == [0, 1, 0]
    assert [code[TINY.gene_index("expand", 3, b)] for b in (0, 1, 2)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda code: code[:-1], r"tiny: code: expected \(22,\) integers, received \(21,\) int32"),
        (lambda code: code[None], r"expected \(22,\) integers, received \(1, 22\)"),
        (lambda code: code.astype(float), "integers, received .* float64"),
        (lambda code: [3, *code[1:]], "tiny: resolution: expected an index below 3, received 3"),
        (lambda code: [*code[:-2], -1, 0], "tiny: stage 4, block 3: kernel: expected an index below 2, received -1"),
    ],
)
def test_decode_says_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        TINY.decode(change(TINY.encode(TINY.smallest())))


# -- Choosing ------------------------------------------------------------------------------------------------


def test_extremes():
    assert MBV3.largest() == Arch("mbv3", 224, [4] * 5, [7] * 20, [6] * 20)
    assert MBV3.smallest() == Arch("mbv3", 128, [2] * 5, [3] * 10, [3] * 10)
    assert spaces.get("mbv2").largest().depths == (4, 4, 4, 4, 4, 1)


def test_every_choice_is_sampled_uniformly(rng):
    archs = [TINY.sample(rng) for _ in range(6000)]
    codes = np.stack([TINY.encode(arch) for arch in archs])
    active = TINY.active(codes)
    for position, gene in enumerate(TINY.genes):
        counts = np.bincount(codes[active[:, position], position], minlength=len(gene.choices))
        expected = counts.sum() / len(gene.choices)
        chi2 = ((counts - expected) ** 2 / expected).sum()
        assert chi2 < 16, (gene, counts)  # above the 99.9% quantile with 2 degrees of freedom, 13.8


def test_sampling_mutation_and_crossover_are_reproducible(space):
    def draw(seed):
        rng = np.random.default_rng(seed)
        a, b = space.sample(rng), space.sample(rng)
        return a, b, space.mutate(a, rng, 0.3), space.crossover(a, b, rng)

    assert draw(1) == draw(1) != draw(2)


def test_mutation_stays_in_the_space_and_respects_its_probability(space, rng):
    arch = space.sample(rng)
    assert space.mutate(arch, rng, 0) == arch
    for probability in (0.1, 1.0):
        mutants = [space.mutate(arch, rng, probability) for _ in range(100)]
        for mutant in mutants:
            space.validate(mutant)
        assert len(set(mutants)) > 20
    with pytest.raises(ValueError, match="probability: expected a number from 0 to 1, received 2"):
        space.mutate(arch, rng, 2)


def test_mutation_draws_the_genes_of_new_blocks(rng):
    mutants = [TINY.mutate(TINY.smallest(), rng, 0.1) for _ in range(2000)]
    # Redrawing alone would change a gene in 5% of the mutants; in new blocks half are the other choice.
    new = [arch.kernels[1] for arch in mutants if arch.depths[0] == 3]
    assert 0.35 < np.mean(np.array(new) == 5) < 0.65


def test_crossover_takes_every_gene_from_a_parent_that_has_it(space, rng):
    for _ in range(100):
        a, b = space.sample(rng), space.sample(rng)
        child = space.crossover(a, b, rng)
        space.validate(child)
        codes = [space.encode(arch) for arch in (a, b, child)]
        active_a, active_b, active = (space.active(code) for code in codes)
        from_a, from_b = active_a & (codes[2] == codes[0]), active_b & (codes[2] == codes[1])
        assert (from_a | from_b)[active].all()
    assert space.crossover(a, a, rng) == a


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernels": [3, 3, 3, 4, *[3] * 6]}, r"mbv3: stage 3, block 2: kernel size 4 is not one of \(3, 5, 7\)"),
        ({"expands": [5, *[3] * 9]}, r"mbv3: stage 2, block 1: expand ratio 5 is not one of \(3, 4, 6\)"),
        ({"depths": [2, 2, 1, 3, 2]}, r"mbv3: stage 4: depth 1 is not one of \(2, 3, 4\)"),
        ({"depths": [5, 5]}, "mbv3: depths: expected 5 values, one for each searched stage, received 2"),
        ({"resolution": 130}, r"mbv3: resolution 130 is not one of \(128, 132, .*"),
        ({"space": "mbv2"}, "mbv3: this architecture is of the space 'mbv2'"),
    ],
)
def test_validate_says_where_and_what_is_wrong(fields, message):
    arch = dataclasses.replace(MBV3.smallest(), **fields)
    for check in (MBV3.validate, MBV3.blocks, MBV3.encode):
        with pytest.raises(ValueError, match=message):
            check(arch)


# -- The space as a whole ------------------------------------------------------------------------------------


def test_pruned_space_is_one_fixed_network(space, rng):
    for arch in (space.largest(), space.sample(rng)):
        pruned = space.pruned(arch)
        assert pruned.size == 1 and pruned.searched == () and len(pruned.genes) == 1
        assert pruned.largest() == pruned.smallest() == Arch(arch.key, arch.resolution, (), (), (), arch.bits)
        numbers = {"stage": 0, "index": 0}
        assert [b._replace(**numbers) for b in pruned.blocks(pruned.largest())] == [
            b._replace(**numbers) for b in space.blocks(arch)
        ]
        assert SearchSpace.from_json(pruned.to_json()) == pruned


def test_space_survives_json(space, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(space.to_json())
    loaded = spaces.get(path)
    assert loaded == space and hash(loaded) == hash(space)


def test_fields_left_out_take_their_defaults(tmp_path):
    path = tmp_path / "space.json"
    stage = {"channels": 8, "stride": 2, "depths": [1, 2], "kernels": [3], "expands": [2.5]}
    fields = {"name": "own", "resolutions": [16], "stem_channels": 8, "stages": [stage], "head_channels": 32}
    path.write_text(json.dumps(fields))
    expected = SearchSpace("own", (16,), 8, (Stage(8, 2, (1, 2), (3,), (2.5,)),), 32)
    assert spaces.get(str(path)) == expected
    assert expected.hidden_choices(0, 0) == (24,)  # 20 to the next multiple of 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 1}, "space.json: unknown field width"),
        ({"stages": [{"chanels": 8}]}, "space.json: stage 1: unknown field chanels"),
        ({"stages": [{"channels": 8}]}, "space.json: stage 1: missing field stride, depths, kernels, expands"),
        ({"stages": 3}, "space.json: stages: expected a list, received 3"),
        ({"stem_stride": 3}, "space.json: tiny: stem_stride: expected 1 or 2, received 3"),
    ],
)
def test_errors_of_a_file_name_it(change, message, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(json.dumps({**json.loads(TINY.to_json()), **change}))
    with pytest.raises(ValueError, match=message):
        spaces.get(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernels": (5, 3)}, r"stage 2: kernels: expected ascending, different choices, received \(5, 3\)"),
        ({"kernels": (3, 3)}, "stage 2: kernels: expected ascending, different choices"),
        ({"kernels": (2, 3)}, r"stage 2: kernels: expected a list of odd numbers, received \(2, 3\)"),
        ({"kernels": 3}, "stage 2: kernels: expected a list of odd numbers, received 3"),
        ({"depths": ()}, r"stage 2: depths: expected a list of positive integers up to 1000, received \(\)"),
        ({"depths": (0, 1)}, "stage 2: depths: expected a list of positive integers"),
        ({"expands": (1, 3)}, r"stage 2: expands: expected \(1,\) alone or numbers above 1, received \(1, 3\)"),
        ({"expands": (0.5,)}, "stage 2: expands: expected a list of numbers from 1 on"),
        ({"stride": 3}, "stage 2: stride: expected 1 or 2, received 3"),
        ({"channels": 0}, "stage 2: channels: expected a positive integer up to 65536, received 0"),
        ({"activation": "gelu"}, "stage 2: activation: expected one of .*, received 'gelu'"),
        ({"se": 1}, "stage 2: se: expected True or False, received 1"),
    ],
)
def test_wrong_stages_are_named(fields, message):
    stages = (TINY.stages[0], dataclasses.replace(TINY.stages[1], **fields))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, stages=stages)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "name: expected letters"),
        ({"resolutions": (28, 24)}, "tiny: resolutions: expected ascending"),
        ({"stem_channels": 1.5}, "tiny: stem_channels: expected a positive integer up to 65536, received 1.5"),
        ({"feature_channels": 0}, "tiny: feature_channels: expected a positive integer up to 65536, received 0"),
        ({"stem_kernel": 2}, "tiny: stem_kernel: expected an odd number, received 2"),
        ({"head_activation": "swish"}, "tiny: head_activation: expected one of"),
        ({"stages": ()}, "tiny: stages: expected at least one Stage"),
        ({"head_channels": 10**12}, "tiny: head_channels: expected a positive integer up to 65536, received 10"),
        ({"resolutions": (10**12,)}, "tiny: resolutions: expected a list of positive integers up to 8192"),
        ({"stages": TINY.stages * 500}, "tiny: stages: expected at most 1000, received"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **fields)


def test_unknown_names_are_answered_with_the_known_ones():
    known = "mbv3, mbv3_relu, mbv2, tiny, tiny_relu, mbv3_qfa, tiny_qfa"
    with pytest.raises(ValueError, match=f"search space 'mbv4': expected {known} or a path"):
        spaces.get("mbv4")

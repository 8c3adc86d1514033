"""Bit widths as choices of a space."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.spaces import Gene, SearchSpace, Stage

TINY, QFA, MBV3_QFA = (spaces.get(name) for name in ("tiny", "tiny_qfa", "mbv3_qfa"))
TIES = ("tensor", "layer", "block", "stage")

# A fixed stage of two blocks without expansion, and one with an optional block.
STAGES = (Stage(8, 1, (2,), (3,), (1,)), Stage(8, 2, (1, 2), (3, 5), (2,)))


def nano(bits_by="tensor", weight_bits=(2, 4), input_bits=None, **fields):
    inputs = input_bits or ((4,) if bits_by == "tensor" else weight_bits)
    fields = {"stages": STAGES, "resolutions": (8,), **fields}
    return SearchSpace(
        "nano", stem_channels=8, head_channels=16, weight_bits=weight_bits, input_bits=inputs, bits_by=bits_by, **fields
    )


@pytest.fixture(params=TIES)
def tied(request):
    return QFA.restricted(bits_by=request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# -- The spaces ----------------------------------------------------------------------------------------------


def test_published_size_of_mbv3_qfa():
    assert round(math.log10(MBV3_QFA.size_without_resolutions), 2) == 76.34
    block = 3 * 3 * (3 * 3) ** 3
    assert MBV3_QFA.size_without_resolutions == (block**2 + block**3 + block**4) ** 5
    assert MBV3_QFA.size_of_other_bits == 9 ** (2 + 1 + 1)  # of the block without expansion, head and feature layer
    assert MBV3_QFA.size == 25 * MBV3_QFA.size_without_resolutions * MBV3_QFA.size_of_other_bits


def test_mbv3_qfa_is_mbv3_with_a_width_of_six_fifths():
    mbv3 = spaces.get("mbv3")
    assert [stage.channels for stage in MBV3_QFA.stages] == [24, 32, 48, 96, 136, 192]
    assert (MBV3_QFA.stem_channels, MBV3_QFA.head_channels, MBV3_QFA.feature_channels) == (24, 1152, 1536)
    same = {
        field: getattr(mbv3, field)
        for field in ("name", "stem_channels", "stages", "head_channels", "feature_channels")
    }
    assert dataclasses.replace(MBV3_QFA, weight_bits=(), input_bits=(), **same) == mbv3
    for wider, stage in zip(MBV3_QFA.stages, mbv3.stages, strict=True):
        assert dataclasses.replace(wider, channels=stage.channels) == stage


def test_number_of_genes_and_convolutions():
    assert len(MBV3_QFA.convolutions()) == 2 + 20 * 3 + 2
    assert len(MBV3_QFA.genes) == len(spaces.get("mbv3").genes) + 2 * 64 == 174
    assert len(QFA.convolutions()) == 2 + 6 * 3 + 2


def test_tiny_qfa_is_tiny_with_bits():
    assert QFA.mixed and not TINY.mixed
    assert QFA.genes[: len(TINY.genes)] == TINY.genes
    assert dataclasses.replace(QFA, name="tiny", weight_bits=(), input_bits=()) == TINY
    assert QFA.convolutions() == TINY.convolutions()  # a matter of structure


def test_convolutions_by_hand():
    assert nano(feature_channels=24).convolutions() == (
        (0, 0, "depthwise"),
        (0, 0, "project"),
        (0, 1, "depthwise"),
        (0, 1, "project"),
        (1, 0, "expand"),
        (1, 0, "depthwise"),
        (1, 0, "project"),
        (1, 1, "expand"),
        (1, 1, "depthwise"),
        (1, 1, "project"),
        (None, None, "head"),
        (None, None, "feature"),
    )


@pytest.mark.parametrize("bits_by", TIES)
def test_genes_by_hand(bits_by):
    space, c = nano(bits_by, feature_channels=24), (2, 4)
    blocks = ((0, 0), (0, 1), (1, 0), (1, 1))
    both = {
        "tensor": [
            Gene(kind, stage, block, choices, layer)
            for stage, block, layer in space.convolutions()
            for kind, choices in (("weight_bits", c), ("input_bits", (4,)))
        ],
        "layer": [Gene("bits", stage, block, c, layer) for stage, block, layer in space.convolutions()],
        "block": [Gene("bits", stage, block, c) for stage, block in blocks],
        "stage": [Gene("bits", stage, None, c) for stage in (0, 1)],
    }
    ends = [Gene("bits", None, None, c, "head"), Gene("bits", None, None, c, "feature")]
    plain = dataclasses.replace(space, weight_bits=(), input_bits=(), bits_by="tensor").genes
    assert list(space.genes) == [*plain, *both[bits_by], *(ends if bits_by in ("block", "stage") else [])]
    assert space.bit_genes.shape == (12, 2)
    for (stage, block, layer), genes in zip(space.convolutions(), space.bit_genes, strict=True):
        for kind, position in zip(("weight_bits", "input_bits"), genes, strict=True):
            gene = space.genes[position]
            assert gene.kind in (kind, "bits") and gene.layer in (layer, None)
            assert gene.stage == stage and gene.block in (block, None)


def test_genes_of_bits_are_found_by_what_they_mean(tied):
    for position, gene in enumerate(tied.genes):
        assert tied.gene_index(gene.kind, gene.stage, gene.block, gene.layer) == position
    with pytest.raises(ValueError, match="no gene 'bits' with stage=None, block=None, layer='stem'"):
        tied.gene_index("bits", layer="stem")


# -- Sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        *(nano(bits_by) for bits_by in TIES),
        nano("tensor", (4,), (2, 3)),
        nano("stage", (2, 3, 4), stages=(*STAGES, Stage(16, 1, (1, 3), (3,), (1,))), feature_channels=8),
        nano("tensor", (2, 4), (4, 8), stages=(Stage(8, 1, (1, 2), (3, 5), (1,)),)),
        nano("block", stages=(STAGES[1],), resolutions=(8, 12)),
        nano("layer", stages=(STAGES[0],)),
    ],
    ids=lambda space: f"{space.bits_by}-{space.weight_bits}-{len(space.stages)}",
)
def test_size_counts_different_architectures(space):
    archs = {space.decode(code) for code in itertools.product(*map(range, space.choice_counts))}
    assert len(archs) == space.size
    # The two parts of the size, each counted by itself: what is left when the other part has one choice.
    ends = 2 if space.feature_channels else 1
    fixed = sum(stage.depths[0] * (2 if stage.expands == (1,) else 3) for stage in space.stages if stage.fixed)
    other = {(arch.bits[:fixed], arch.bits[-ends:]) for arch in archs}
    assert len(other) == space.size_of_other_bits
    searched = {(arch.depths, arch.kernels, arch.expands, arch.bits[fixed:-ends]) for arch in archs}
    assert len(searched) == space.size_without_resolutions


def test_sizes_without_bits_are_as_before():
    assert TINY.size_of_other_bits == 1 and TINY.size == 3 * (6 + 6**2) ** 3


# -- Codes ---------------------------------------------------------------------------------------------------


def test_decode_inverts_encode_whatever_is_tied(tied, rng):
    for arch in (tied.largest(), tied.smallest(), *(tied.sample(rng) for _ in range(100))):
        code = tied.encode(arch)
        assert code.dtype == np.int32 and code.shape == (len(tied.genes),)
        assert tied.decode(code) == arch and not code[~tied.active(code)].any()


def test_genes_of_fixed_stages_whole_stages_and_ends_are_always_active(tied, rng):
    codes = rng.integers(0, tied.choice_counts, (200, len(tied.genes)))
    active = tied.active(codes)
    for position, gene in enumerate(tied.genes):
        if gene.stage in tied.searched and gene.block is not None:
            depth = np.array(tied.stages[gene.stage].depths)[codes[:, tied.gene_index("depth", gene.stage)]]
            assert (active[:, position] == (gene.block < depth)).all()
        else:
            assert active[:, position].all()
    for code in codes:
        np.testing.assert_array_equal(tied.encode(tied.decode(code)), np.where(tied.active(code), code, 0))


def test_code_says_each_bit_width():
    bits = [(2 + i % 3, 4 - (i // 3) % 3) for i in range(13)]
    arch = Arch("tiny_qfa", 28, (1, 1, 1), (5, 3, 5), (4, 3, 6), bits)
    code = QFA.encode(arch)
    present = [c for c in QFA.convolutions() if c[1] in (0, None)]
    assert len(present) == 13
    for place, (weights, inputs) in zip(present, bits, strict=True):
        assert code[QFA.gene_index("weight_bits", *place)] == weights - 2
        assert code[QFA.gene_index("input_bits", *place)] == inputs - 2
    assert not code[QFA.gene_index("weight_bits", 1, 1, "expand")]


def test_bits_of_codes_are_those_of_architectures(tied, rng):
    codes = rng.integers(0, tied.choice_counts, (20, len(tied.genes)))
    bits = tied.bits_of_codes(codes)
    assert bits.shape == (20, len(tied.convolutions()), 2)
    for code, own in zip(codes, bits, strict=True):
        arch = tied.decode(code)
        depths = dict(zip(tied.searched, arch.depths, strict=True))
        present = [block is None or block < depths.get(stage, 1) for stage, block, _ in tied.convolutions()]
        assert tuple(map(tuple, own[present].tolist())) == arch.bits
        np.testing.assert_array_equal(tied.bits_of_codes(code), own)
    with pytest.raises(ValueError, match="tiny: expected a space with bit widths"):
        TINY.bits_of_codes(TINY.encode(TINY.smallest()))


def test_blocks_and_ends_have_the_bits_in_order(tied, rng):
    for _ in range(20):
        arch = tied.sample(rng)
        blocks, ends = tied.blocks(arch), tied.end_bits(arch)
        assert [len(block.bits) for block in blocks] == [3 if block.has_expansion else 2 for block in blocks]
        assert (*itertools.chain(*(block.bits for block in blocks)), *ends) == arch.bits and len(ends) == 2
    no_mix = dataclasses.replace(tied, feature_channels=None)
    assert no_mix.end_bits(no_mix.smallest()) == ((2, 2),)


def test_without_bits_blocks_and_ends_have_none():
    assert {block.bits for block in TINY.blocks(TINY.largest())} == {None}
    assert TINY.end_bits(TINY.largest()) == (None, None)
    mbv2 = spaces.get("mbv2")
    assert mbv2.end_bits(mbv2.smallest()) == (None,)


def test_wrong_index_of_a_bit_width_is_named():
    code = QFA.encode(QFA.smallest())
    code[QFA.gene_index("input_bits", 1, 0, "expand")] = 3
    message = "tiny_qfa: stage 2, block 1, expand: input_bits: expected an index below 3, received 3"
    with pytest.raises(ValueError, match=message):
        QFA.decode(code)


# -- Choosing ------------------------------------------------------------------------------------------------


def test_largest_has_the_most_bits_and_smallest_the_fewest(tied):
    assert set(tied.largest().bits) == {(4, 4)} and len(tied.largest().bits) == 22
    assert set(tied.smallest().bits) == {(2, 2)} and len(tied.smallest().bits) == 13


def test_samples_mutants_and_children_keep_the_ties(tied, rng):
    for _ in range(50):
        a, b = tied.sample(rng), tied.sample(rng)
        for arch in (a, tied.mutate(a, rng, 0.3), tied.crossover(a, b, rng)):
            tied.validate(arch)
            if tied.bits_by != "tensor":
                assert all(weights == inputs for weights, inputs in arch.bits)
            if tied.bits_by in ("block", "stage"):
                assert all(len(set(block.bits)) == 1 for block in tied.blocks(arch))
            if tied.bits_by == "stage":
                stages = {(block.stage, pair) for block in tied.blocks(arch) for pair in block.bits}
                assert len(stages) == len(tied.stages)


def changed(space, place, pair):
    """The smallest architecture with other bits in the convolution at a place."""
    bits = list(space.smallest().bits)
    bits[place] = pair
    return dataclasses.replace(space.smallest(), bits=bits)


@pytest.mark.parametrize(
    ("bits_by", "place", "pair", "message"),
    [
        ("tensor", 3, (2, 8), r"stage 2, block 1, depthwise: input bits 8 is not one of \(2, 3, 4\)"),
        ("tensor", 11, (32, 2), r"tiny_qfa: head: weight bits 32 is not one of \(2, 3, 4\)"),
        (
            "layer",
            12,
            (2, 3),
            r"feature: expected bits \(2, 2\), since bits_by is 'layer' and .* feature have 2, rec.* \(2, 3",
        ),
        (
            "block",
            4,
            (3, 3),
            r"stage 2, block 1, project: expected bits \(2, 2\), since bits_by is 'block' and the "
            r"weights of stage 2, block 1, expand have 2, received \(3, 3\)",
        ),
        ("stage", 1, (4, 4), "stage 1, block 1, project: expected .* weights of stage 1, block 1, depthwise have 2"),
    ],
)
def test_bits_that_the_space_does_not_have_are_named_with_their_place(bits_by, place, pair, message):
    space = QFA.restricted(bits_by=bits_by)
    for check in (space.validate, space.encode, space.blocks, space.end_bits):
        with pytest.raises(ValueError, match=message):
            check(changed(space, place, pair))


def test_bits_are_as_many_as_convolutions():
    arch = QFA.smallest()
    with pytest.raises(ValueError, match="tiny_qfa: bits: expected 13 pairs .* received 12"):
        QFA.validate(dataclasses.replace(arch, bits=arch.bits[:-1]))
    with pytest.raises(ValueError, match="tiny_qfa: bits: expected 13 pairs .* received None"):
        QFA.encode(dataclasses.replace(arch, bits=None))
    with pytest.raises(ValueError, match="tiny: bits: expected None, the space has no bit widths"):
        TINY.validate(dataclasses.replace(TINY.smallest(), bits=arch.bits))


# -- Other spaces of the same architectures ------------------------------------------------------------------


@pytest.mark.parametrize("bits_by", TIES)
def test_architectures_of_a_restricted_space_are_architectures_of_the_full_one(bits_by, rng):
    few = QFA.restricted((2, 4), (4, 2), bits_by)
    assert few.name == QFA.name and few.weight_bits == few.input_bits == (2, 4) and few.bits_by == bits_by
    for _ in range(20):
        arch = few.sample(rng)
        assert QFA.decode(QFA.encode(arch)) == arch and QFA.blocks(arch) == few.blocks(arch)


def test_restricting_nothing_changes_nothing():
    assert QFA.restricted() == QFA == QFA.restricted((2, 3, 4), [4, 3, 2], "tensor")
    assert QFA.restricted(weight_bits=(4,)).input_bits == (2, 3, 4)


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        (QFA, {"weight_bits": (4, 8)}, r"tiny_qfa: weight_bits: expected some of \(2, 3, 4\), received \(4, 8\)"),
        (QFA, {"input_bits": ()}, r"tiny_qfa: input_bits: expected some of \(2, 3, 4\), received \(\)"),
        (QFA, {"input_bits": 4}, r"tiny_qfa: input_bits: expected some of \(2, 3, 4\), received 4"),
        (QFA, {"bits_by": "net"}, r"bits_by: expected one of \('tensor', 'layer', 'block', 'stage'\), received 'net'"),
        (
            QFA.restricted(bits_by="block"),
            {"bits_by": "layer"},
            r"bits_by: expected one of \('block', 'stage'\), received 'layer'",
        ),
        (
            QFA,
            {"weight_bits": (2,), "bits_by": "layer"},
            r"input_bits: expected weight_bits \(2,\), since bits_by is 'layer', received \(2, 3, 4\)",
        ),
        (TINY, {"bits_by": "layer"}, "tiny: expected a space with bit widths to choose"),
    ],
)
def test_a_space_cannot_be_restricted_to_what_it_has_not(space, arguments, message):
    with pytest.raises(ValueError, match=message):
        space.restricted(**arguments)


def test_float_is_the_last_choice_and_the_others_keep_their_indices(tied, rng):
    wider = tied.with_float()
    assert wider.weight_bits == wider.input_bits == (2, 3, 4, 32) and wider.bits_by == tied.bits_by
    assert set(wider.largest().bits) == {(32, 32)} and wider.with_float() == wider
    for _ in range(20):
        arch = tied.sample(rng)
        np.testing.assert_array_equal(wider.encode(arch), tied.encode(arch))
    assert wider.restricted((2, 3, 4), (2, 3, 4)) == tied
    with pytest.raises(ValueError, match="tiny: expected a space with bit widths to choose"):
        TINY.with_float()


def test_pruned_space_has_the_bits_of_its_network(tied, rng):
    arch = tied.sample(rng)
    pruned = tied.pruned(arch)
    assert pruned.mixed and pruned.fixed_bits == arch.bits and pruned.size == pruned.size_of_other_bits == 1
    assert pruned.largest().bits == arch.bits and pruned.end_bits(pruned.largest()) == tied.end_bits(arch)
    assert [block.bits for block in pruned.blocks(pruned.largest())] == [block.bits for block in tied.blocks(arch)]
    np.testing.assert_array_equal(pruned.bits_of_codes(np.zeros((5, 1), int)), [arch.bits] * 5)
    for other in (None, arch.bits[1:], ((8, 8), *arch.bits[1:])):
        with pytest.raises(ValueError, match="bit"):
            pruned.validate(dataclasses.replace(pruned.largest(), bits=other))
    with pytest.raises(ValueError, match="expected a space with bit widths to choose"):
        pruned.restricted((2,))


# -- JSON and fields -----------------------------------------------------------------------------------------


def test_json_of_spaces_without_bits_is_as_before():
    fields = json.loads(TINY.to_json())
    assert list(fields)[-1] == "head_activation" and not {"weight_bits", "bits_by", "fixed_bits"} & set(fields)
    bits = {"weight_bits": [2, 3, 4], "input_bits": [2, 3, 4]}
    assert json.loads(QFA.to_json()) == {**fields, "name": "tiny_qfa", **bits}


def test_json_keeps_ties_and_fixed_bits(tied):
    for space in (tied, tied.with_float(), tied.pruned(tied.largest())):
        loaded = SearchSpace.from_json(space.to_json())
        assert loaded == space and hash(loaded) == hash(space)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_bits": (4, 2)}, r"weight_bits: expected ascending, different choices, received \(4, 2\)"),
        ({"weight_bits": (1, 2)}, r"weight_bits: expected a list of bit widths from 2 to 8 or 32, received \(1, 2\)"),
        ({"input_bits": (4, 16)}, "input_bits: expected a list of bit widths from 2 to 8 or 32"),
        ({"input_bits": 4}, "input_bits: expected a list of bit widths from 2 to 8 or 32, received 4"),
        ({"input_bits": ()}, r"input_bits: expected choices as there are weight_bits \(2, 3, 4\), received \(\)"),
        ({"bits_by": "net"}, r"bits_by: expected one of \('tensor', .*\), received 'net'"),
        (
            {"bits_by": "block", "input_bits": (2, 4)},
            r"input_bits: expected weight_bits \(2, 3, 4\), since bits_by is 'block', received \(2, 4\)",
        ),
        ({"fixed_bits": [[4, 4]]}, "fixed_bits: expected None where depths or bit widths are to be chosen"),
        (
            {"fixed_bits": [[4, 4]], "weight_bits": (), "input_bits": (), "stages": STAGES[:1]},
            "fixed_bits: expected 6 pairs of bit widths from 2 to 8 or 32",
        ),
    ],
)
def test_wrong_fields_of_bits_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(QFA, **fields)

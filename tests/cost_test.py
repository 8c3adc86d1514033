import dataclasses

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.cost import Cost, count, count_codes


def three_deep(space):
    """`space` with up to three blocks a stage, whatever its own depths are tuned to."""
    first, *others = space.stages
    return dataclasses.replace(space, stages=(first, *(dataclasses.replace(s, depths=(1, 2, 3)) for s in others)))


MBV3, MBV2, TINY = spaces.get("mbv3"), spaces.get("mbv2"), three_deep(spaces.get("tiny"))

# Released OQA architectures: resolution, kernel sizes, expand ratios, depths, million MACs and parameters.
PUBLISHED = [
    (128, "33533557355355353575", "33443433333443666433", "22323", 55.385, 4.230),
    (188, "73755355755555777733", "43343336433644644433", "22223", 120.970, 4.084),
    (216, "53535573377577335537", "44343364344466436466", "24244", 286.910, 6.338),
    (152, "33533355735337753373", "34344436336663364343", "22222", 73.368, 3.650),
    (208, "55555355537355373753", "33336444644463346663", "22434", 219.644, 5.762),
    (160, "35375333535535353377", "43446633444664643344", "22222", 87.848, 3.694),
]


@pytest.mark.parametrize(("resolution", "kernels", "expands", "depths", "mmacs", "mparams"), PUBLISHED)
def test_published_rows(resolution, kernels, expands, depths, mmacs, mparams):
    """Lists are published at the length of the largest network: four blocks a stage, whatever the depth."""
    depths = tuple(map(int, depths))
    places = [4 * stage + block for stage, depth in enumerate(depths) for block in range(depth)]
    chosen = (tuple(int(digits[place]) for place in places) for digits in (kernels, expands))
    cost = count(MBV3, Arch("mbv3", resolution, depths, *chosen))
    assert (round(cost.macs / 1e6, 3), round(cost.params / 1e6, 3)) == (mmacs, mparams)


@pytest.mark.parametrize(
    ("space", "arch", "mmacs", "mparams"),
    [
        (MBV3, MBV3.largest(), 566.171, 7.665),
        (MBV3, MBV3.smallest(), 41.476, 3.411),
        (MBV2, MBV2.largest(), 606.591, 5.103),
        (MBV2, MBV2.smallest(), 51.200, 2.501),
    ],
)
def test_extremes(space, arch, mmacs, mparams):
    cost = count(space, arch)
    assert (round(cost.macs / 1e6, 3), round(cost.params / 1e6, 3)) == (mmacs, mparams)


def test_smallest_tiny_by_hand():
    # 24 pixels: 12 after the stem, 6 after stage 2, 3 after stage 3. Every stage one block, kernel size 3,
    # expand ratio 3; hidden widths 48, 72, 120; squeeze-excite in stage 3 with 24 channels (72 // 4 = 18).
    quantized_macs = (
        12 * 12 * (9 * 16 + 16 * 16)
        + 12 * 12 * 16 * 48
        + 6 * 6 * (9 * 48 + 48 * 24)
        + 6 * 6 * 24 * 72
        + 3 * 3 * (9 * 72 + 72 * 40)
        + 3 * 3 * (40 * 120 + 9 * 120 + 120 * 64)
        + 3 * 3 * 64 * 192
        + 192 * 256
    )
    other_macs = 12 * 12 * 9 * 1 * 16 + 2 * 72 * 24 + 256 * 10
    quantized_weights = (
        9 * 16
        + 16 * 16
        + 16 * 48
        + 9 * 48
        + 48 * 24
        + 24 * 72
        + 9 * 72
        + 72 * 40
        + 40 * 120
        + 9 * 120
        + 120 * 64
        + 64 * 192
        + 192 * 256
    )
    other_weights = 9 * 16 + 2 * 72 * 24 + 256 * 10
    norms = 16 + (16 + 16) + (48 + 48 + 24) + (72 + 72 + 40) + (120 + 120 + 64) + 192
    biases = 24 + 72 + 10
    params = quantized_weights + other_weights + 2 * norms + biases
    macs = quantized_macs + other_macs
    outputs = norms + 256 + biases  # the feature layer has no BatchNorm, but a bias once deployed

    arch = TINY.smallest()
    sizes = {"num_classes": 10, "in_channels": 1}
    assert count(TINY, arch, **sizes) == Cost(macs, macs, 1024 * macs, params, 4 * params)
    assert count(TINY, arch, 4, **sizes) == Cost(
        macs,
        quantized_macs * 16 / 64 + other_macs,
        16 * quantized_macs + 64 * other_macs,
        params,
        quantized_weights // 2 + other_weights + 4 * outputs,
    )
    weights_2_inputs_8 = count(TINY, arch, (2, 8), **sizes)
    assert weights_2_inputs_8.effective_flops == quantized_macs * 16 / 64 + other_macs
    assert weights_2_inputs_8.weight_bytes == quantized_weights // 4 + other_weights + 4 * outputs


def test_eight_bits_count_in_full():
    cost = count(MBV3, MBV3.largest(), 8)
    assert cost.effective_flops == cost.macs == count(MBV3, MBV3.largest()).macs
    assert cost.bitops == 64 * cost.macs


def test_three_bits_need_whole_bytes():
    cost = count(TINY, TINY.smallest(), 3)
    assert isinstance(cost.weight_bytes, int)
    four, two = (count(TINY, TINY.smallest(), bits).weight_bytes for bits in (4, 2))
    assert cost.weight_bytes == -(-(four + two) // 2)


@pytest.mark.parametrize("name", spaces.names())
def test_pruning_keeps_the_costs(name):
    space = spaces.get(name)
    arch = space.sample(np.random.default_rng(0))
    pruned, bits = space.pruned(arch), None if space.mixed else 4
    assert count(pruned, pruned.largest(), bits) == count(space, arch, bits)
    assert count_codes(pruned, np.zeros((1, 1), int), bits).macs.tolist() == [count(space, arch).macs]


@pytest.mark.parametrize("name", [name for name in spaces.names() if not spaces.get(name).mixed])
@pytest.mark.parametrize("bits", [None, 3, (2, 4)])
def test_counting_codes_is_counting_architectures(name, bits):
    equal_one_by_one(spaces.get(name), bits)


def equal_one_by_one(space, bits=None):
    codes = np.random.default_rng(0).integers(0, space.choice_counts, (100, len(space.genes)))
    together = count_codes(space, codes, bits, num_classes=10, in_channels=1)
    single = [count(space, space.decode(code), bits, num_classes=10, in_channels=1) for code in codes]
    for field, values in together._asdict().items():
        assert values.tolist() == [getattr(cost, field) for cost in single], field


def test_fixed_stages_of_several_blocks_are_counted():
    stage = spaces.Stage(8, 2, (2,), (3,), (2,))
    elastic = spaces.Stage(8, 1, (1, 2), (3,), (2, 4))
    space = spaces.SearchSpace("mixed", (8,), 8, (stage, elastic), 16)
    # 4 pixels after the stem, 2 after stage 1; 8 channels to 16 and back in both blocks of it.
    fixed = 4 * 4 * 8 * 16 + 2 * 2 * (9 * 16 + 16 * 8) + 2 * 2 * (8 * 16 + 9 * 16 + 16 * 8)
    last = 2 * 2 * (8 * 16 + 9 * 16 + 16 * 8)
    ends = 4 * 4 * 9 * 3 * 8 + 2 * 2 * 8 * 16 + 16 * 1000
    assert count(space, space.smallest()).macs == fixed + last + ends
    assert count_codes(space, space.encode(space.smallest())[None]).macs == fixed + last + ends


@pytest.mark.parametrize("bits", [0, 33, 4.5, True, "4", (4,), (4, 4, 4)])
def test_bits_that_make_no_sense_are_refused(bits):
    with pytest.raises(ValueError, match="bits: expected None, an integer from 1 to 32 or a pair"):
        count(TINY, TINY.smallest(), bits)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="num_classes: expected a positive integer, received 0"):
        count(TINY, TINY.smallest(), num_classes=0)
    with pytest.raises(ValueError, match=r"tiny: code: expected \(m, 22\) integers"):
        count_codes(TINY, TINY.encode(TINY.smallest()))
    with pytest.raises(ValueError, match="tiny: this architecture is of the space 'mbv3'"):
        count(TINY, MBV3.smallest())


# -- Bit widths of the architecture --------------------------------------------------------------------------


def mixed_spaces():
    tiny, mbv3 = spaces.get("tiny_qfa"), spaces.get("mbv3_qfa")
    tied = [tiny.restricted((2, 4), (2, 4), by) for by in ("layer", "block", "stage")]
    fixed = spaces.Stage(8, 2, (2,), (3,), (2,)), spaces.Stage(8, 1, (1, 3), (3,), (1,))
    own = spaces.SearchSpace("own", (8, 12), 8, fixed, 16, weight_bits=(2, 8), input_bits=(3,))
    return [tiny, mbv3, *tied, tiny.with_float(), own]


@pytest.mark.parametrize("space", mixed_spaces(), ids=lambda space: f"{space.name}-{space.bits_by}-{space.weight_bits}")
def test_counting_codes_is_counting_mixed_architectures(space):
    equal_one_by_one(space)


# Convolutions of the smallest tiny network in the order in which they are computed: MACs and weights.
SMALLEST_TINY = [
    (12 * 12 * 9 * 16, 9 * 16),
    (12 * 12 * 16 * 16, 16 * 16),
    (12 * 12 * 16 * 48, 16 * 48),
    (6 * 6 * 9 * 48, 9 * 48),
    (6 * 6 * 48 * 24, 48 * 24),
    (6 * 6 * 24 * 72, 24 * 72),
    (3 * 3 * 9 * 72, 9 * 72),
    (3 * 3 * 72 * 40, 72 * 40),
    (3 * 3 * 40 * 120, 40 * 120),
    (3 * 3 * 9 * 120, 9 * 120),
    (3 * 3 * 120 * 64, 120 * 64),
    (3 * 3 * 64 * 192, 64 * 192),
    (192 * 256, 192 * 256),
]


@pytest.mark.parametrize("seed", range(5))
def test_mixed_bits_by_hand(seed):
    space = spaces.get("tiny_qfa").with_float()
    bits = np.random.default_rng(seed).choice(space.weight_bits, (len(SMALLEST_TINY), 2))
    arch = dataclasses.replace(space.smallest(), bits=bits)
    other_macs, other_weights = 12 * 12 * 9 * 1 * 16 + 2 * 72 * 24 + 256 * 10, 9 * 16 + 2 * 72 * 24 + 256 * 10
    plain = count(spaces.get("tiny"), spaces.get("tiny").smallest(), (2, 2), num_classes=10, in_channels=1)
    biases = plain.weight_bytes - sum(weights for _, weights in SMALLEST_TINY) // 4 - other_weights

    effective, bitops, stored = other_macs, 64 * other_macs, 8 * other_weights
    for (macs, weights), (m, n) in zip(SMALLEST_TINY, bits.tolist(), strict=True):
        m, n = (8 if width == 32 else width for width in (m, n))  # not quantized: deployed with 8 bits, MACs in full
        effective, bitops, stored = effective + m * n / 64 * macs, bitops + m * n * macs, stored + m * weights
    assert count(space, arch, num_classes=10, in_channels=1) == Cost(
        plain.macs, effective, bitops, plain.params, -(-stored // 8) + biases
    )


@pytest.mark.parametrize("bits", [(4, 4), (2, 3), (4, 2)])
def test_equal_bits_everywhere_cost_what_a_uniform_network_costs(bits):
    mixed, plain = spaces.get("tiny_qfa"), spaces.get("tiny")
    arch = mixed.sample(np.random.default_rng(0))
    same = dataclasses.replace(arch, bits=[bits] * len(arch.bits))
    assert count(mixed, same) == count(plain, dataclasses.replace(arch, space="tiny", bits=None), bits)


def test_what_is_not_quantized_counts_in_full_and_as_eight_bits():
    space = spaces.get("tiny_qfa").with_float()
    arch, plain = space.largest(), spaces.get("tiny").largest()
    assert set(arch.bits) == {(32, 32)}
    assert count(space, arch) == count(spaces.get("tiny"), plain, 8)
    assert count(space, arch).effective_flops == count(space, arch).macs
    half = dataclasses.replace(arch, bits=[(2, 32)] * len(arch.bits))
    assert count(space, half) == count(spaces.get("tiny"), plain, (2, 8))


def test_bits_are_said_once():
    space = spaces.get("tiny_qfa")
    message = "bits: expected None, for architectures of space tiny_qfa have bit widths of their own, received 4"
    with pytest.raises(ValueError, match=message):
        count(space, space.smallest(), 4)
    with pytest.raises(ValueError, match=message):
        count_codes(space, space.encode(space.smallest())[None], 4)
    with pytest.raises(ValueError, match="tiny: bits: expected None, the space has no bit widths"):
        count(TINY, dataclasses.replace(TINY.smallest(), bits=space.smallest().bits))

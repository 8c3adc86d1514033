"""`SearchSpace` describes a search space as data, a list of stages with choices, and derives everything from it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from tfqnas.arch import FLOAT_BITS, Arch
from tfqnas.records import RecordError, restored
from tfqnas.spaces import bits as bit_choices
from tfqnas.spaces.blocks import Block, Gene, Stage, make_divisible
from tfqnas.spaces.checking import check_space
from tfqnas.spaces.fields import SpaceFields
from tfqnas.spaces.messages import difference, where_in

_STAGE = re.compile(r"\bstages\[(\d+)\](?:\.|: )")
_BIT_FIELDS = ("weight_bits", "input_bits", "bits_by", "fixed_bits")


@dataclasses.dataclass(frozen=True)
class SearchSpace(SpaceFields):
    """A search space of networks like MobileNetV2 and V3 (OQA, "Once Quantized for All", appendices A.4 and A.5).

    A network has a stem convolution, stages, a 1x1 convolution to `head_channels`, an average over the image, a 1x1
    convolution to `feature_channels` (MobileNetV3's feature layer, without BatchNorm and bias) and a classifier with
    bias. Convolutions of squeeze-excite have a bias and no BatchNorm; all others have BatchNorm and no bias.

    Stages and blocks count from 0 in the library, and from 1 in error messages, as in the papers' tables.

    The arguments are those of `SpaceFields`.

    Raises:
        ValueError: a field is wrong. The message names it and its stage.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_space(self)

    # -- Structure: from an architecture to its blocks -------------------------------------------------------

    @functools.cached_property
    def searched(self) -> tuple[int, ...]:
        """Indices of the stages that have a choice."""
        return tuple(i for i, stage in enumerate(self.stages) if not stage.fixed)

    def blocks(self, arch: Arch) -> tuple[Block, ...]:
        """The blocks of `arch` in order, including those of fixed stages.

        Costs are counted, supernets built and subnets extracted from this description alone.

        Raises:
            ValueError: `arch` is not of this space.
        """
        self.validate(arch)
        depths, choices = iter(arch.depths), zip(arch.kernels, arch.expands, strict=True)
        widths = iter(arch.bits or ())
        size = -(-arch.resolution // self.stem_stride)
        blocks = []
        for s, stage in enumerate(self.stages):
            for b in range(stage.depths[0] if stage.fixed else next(depths)):
                kernel, expand = (stage.kernels[0], stage.expands[0]) if stage.fixed else next(choices)
                in_channels, hidden = self._in_channels(s, b), self._hidden(s, b, expand)
                stride = stage.stride if b == 0 else 1
                layers = bit_choices.convolutions_of_block(stage)
                bits = tuple(itertools.islice(widths, len(layers))) if self.mixed else None
                blocks.append(
                    Block(
                        s,
                        b,
                        size,
                        in_channels,
                        hidden,
                        stage.channels,
                        kernel,
                        stride,
                        expand != 1,
                        make_divisible(hidden // 4) if stage.se else 0,
                        stage.activation,
                        stride == 1 and in_channels == stage.channels,
                        bits,
                    )
                )
                size = -(-size // stride)
        return tuple(blocks)

    def end_bits(self, arch: Arch) -> tuple[tuple[int, int] | None, ...]:
        """Bit widths (weights, inputs) of the head and of a feature layer; None for each if `arch` has no bits.

        Raises:
            ValueError: `arch` is not of this space.
        """
        self.validate(arch)
        ends = 2 if self.feature_channels else 1
        return (None,) * ends if arch.bits is None else arch.bits[-ends:]

    def convolutions(self) -> tuple[bit_choices.Convolution, ...]:
        """The quantized convolutions of the largest architecture in the order of computation.

        `stage` and `block` count from 0 and are None for head and feature layer; `layer` is as in `Gene`.
        """
        return self._convolutions

    @functools.cached_property
    def _convolutions(self) -> tuple[bit_choices.Convolution, ...]:
        return bit_choices.convolutions(self)

    def _present(self, depths: Sequence[int]) -> list[bool]:
        """For each of `convolutions()` whether a network with these depths of the searched stages has it."""
        chosen = dict(zip(self.searched, depths, strict=True))
        depths = [chosen.get(s, stage.depths[0]) for s, stage in enumerate(self.stages)]
        return [c.stage is None or c.block is None or c.block < depths[c.stage] for c in self._convolutions]

    def hidden_choices(self, stage: int, block: int) -> tuple[int, ...]:
        """The hidden width for each choice of the expand ratio; `stage` and `block` count from 0."""
        return tuple(self._hidden(stage, block, expand) for expand in self.stages[stage].expands)

    def se_choices(self, stage: int, block: int) -> tuple[int, ...]:
        """The squeezed channels for each choice of the expand ratio, 0 if the stage has no squeeze-excite."""
        se = self.stages[stage].se
        return tuple(make_divisible(h // 4) if se else 0 for h in self.hidden_choices(stage, block))

    def _in_channels(self, stage: int, block: int) -> int:
        if block > 0:
            return self.stages[stage].channels
        return self.stages[stage - 1].channels if stage > 0 else self.stem_channels

    def _hidden(self, stage: int, block: int, expand: float) -> int:
        in_channels = self._in_channels(stage, block)
        return in_channels if expand == 1 else make_divisible(round(in_channels * expand))

    # -- Codes: architectures as vectors of choice indices ---------------------------------------------------

    @functools.cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The meaning of each position of a code.

        The resolution comes first. Each searched stage then has its depth, and kernel size and expand ratio of each
        block that it can have. The bit widths come last, in the order of computation.
        """
        genes = [Gene("resolution", None, None, self.resolutions)]
        for s in self.searched:
            stage = self.stages[s]
            genes.append(Gene("depth", s, None, stage.depths))
            for b in range(stage.depths[-1]):
                genes += [Gene("kernel", s, b, stage.kernels), Gene("expand", s, b, stage.expands)]
        return (*genes, *self._bit_genes)

    @functools.cached_property
    def _bit_genes(self) -> tuple[Gene, ...]:
        genes: dict[Gene, None] = {}  # an ordered set: several convolutions may share a gene
        for convolution in self._convolutions if self.weight_bits else ():
            stage, block, layer = bit_choices.sharers(convolution, self.bits_by)
            for kind, choices in zip(bit_choices.kinds(self.bits_by), (self.weight_bits, self.input_bits), strict=True):
                genes[Gene(kind, stage, block, choices, layer)] = None
        return tuple(genes)

    @functools.cached_property
    def bit_genes(self) -> np.ndarray:
        """int64 (c, 2): for each of `convolutions()` the positions of the genes of its weight and input bit widths.

        The two may be the same gene. The shape is (0, 2) if no bit widths are chosen.
        """
        positions = [
            [self.gene_index(kind, *bit_choices.sharers(c, self.bits_by)) for kind in bit_choices.kinds(self.bits_by)]
            for c in (self._convolutions if self.weight_bits else ())
        ]
        return np.array(positions, np.int64).reshape(-1, 2)

    def bits_of_codes(self, codes: np.ndarray) -> np.ndarray:
        """int64 (..., c, 2): bit widths of weights and inputs of all `convolutions()`, also beyond the depth.

        Args:
            codes: int (..., n).

        Raises:
            ValueError: the space is not mixed.
        """
        self._check_mixed()
        codes = np.asarray(codes)
        if self.fixed_bits is not None:
            return np.broadcast_to(np.array(self.fixed_bits), (*codes.shape[:-1], len(self.fixed_bits), 2))
        weights, inputs = (codes[..., self.bit_genes[:, i]] for i in range(2))
        return np.stack((np.array(self.weight_bits)[weights], np.array(self.input_bits)[inputs]), axis=-1)

    def _check_mixed(self) -> None:
        if not self.mixed:
            raise ValueError(f"{self.name}: expected a space with bit widths, it has no weight_bits")

    @functools.cached_property
    def choice_counts(self) -> np.ndarray:
        """int64 (n,): the number of choices of each gene."""
        return np.array([len(gene.choices) for gene in self.genes])

    def gene_index(
        self, kind: str, stage: int | None = None, block: int | None = None, layer: str | None = None
    ) -> int:
        """The position of a gene in a code; `stage` and `block` count from 0, `layer` is as in `Gene`.

        Raises:
            ValueError: there is no such gene.
        """
        try:
            return self._gene_positions[kind, stage, block, layer]
        except KeyError:
            which = f"stage={stage}, block={block}" + (f", layer={layer!r}" if layer is not None else "")
            raise ValueError(f"{self.name}: no gene {kind!r} with {which}") from None

    @functools.cached_property
    def _gene_positions(self) -> dict[tuple[str, int | None, int | None, str | None], int]:
        return {(*gene[:3], gene.layer): position for position, gene in enumerate(self.genes)}

    def encode(self, arch: Arch) -> np.ndarray:
        """int32 (n,): the index of the choice of each gene, 0 for blocks beyond the depth.

        Raises:
            ValueError: `arch` is not of this space.
        """
        self.validate(arch)
        choices = zip(arch.kernels, arch.expands, strict=True)
        code = [self.resolutions.index(arch.resolution)]
        for s, depth in zip(self.searched, arch.depths, strict=True):
            stage = self.stages[s]
            code.append(stage.depths.index(depth))
            for _ in range(depth):
                kernel, expand = next(choices)
                code += [stage.kernels.index(kernel), stage.expands.index(expand)]
            code += [0] * (2 * (stage.depths[-1] - depth))
        whole = np.array(code + [0] * len(self._bit_genes), np.int32)
        if self.weight_bits and arch.bits is not None:
            places = self.bit_genes[self._present(arch.depths)]
            for column, widths in enumerate((self.weight_bits, self.input_bits)):
                whole[places[:, column]] = [widths.index(pair[column]) for pair in arch.bits]
        return whole

    def decode(self, code: np.ndarray) -> Arch:
        """The architecture of a code. Genes of blocks beyond the depth are ignored.

        Args:
            code: int (n,), for each gene the index of its choice.

        Raises:
            ValueError: the length is wrong, the values are not integers, or an index is out of range.
        """
        code = self.check_codes(code, ndim=1)
        values = [gene.choices[i] for gene, i in zip(self.genes, code.tolist(), strict=True)]
        depths, kernels, expands = [], [], []
        position = 1
        for s in self.searched:
            depth, first = values[position], position + 1
            depths.append(depth)
            kernels += values[first : first + 2 * depth : 2]
            expands += values[first + 1 : first + 2 * depth : 2]
            position = first + 2 * self.stages[s].depths[-1]
        bits = self.bits_of_codes(code)[self._present(depths)].tolist() if self.mixed else None
        return Arch(self.name, values[0], tuple(depths), tuple(kernels), tuple(expands), bits)

    def check_codes(self, codes: np.ndarray, ndim: int) -> np.ndarray:
        """`codes` as an array.

        Raises:
            ValueError: `codes` is not int (n,) (`ndim` 1) or int (m, n) (`ndim` 2), or an index is out of range.
        """
        codes = np.asarray(codes)
        n = len(self.genes)
        if codes.ndim != ndim or codes.shape[-1] != n or not np.issubdtype(codes.dtype, np.integer):
            shape = f"({n},)" if ndim == 1 else f"(m, {n})"
            raise ValueError(f"{self.name}: code: expected {shape} integers, received {codes.shape} {codes.dtype}")
        wrong = ((codes < 0) | (codes >= self.choice_counts)).reshape(-1, n)
        if wrong.any():
            row, position = np.argwhere(wrong)[0]
            gene = self.genes[position]
            raise ValueError(
                f"{self.name}: {where_in(gene.stage, gene.block, gene.layer)}{gene.kind}: expected an index below "
                f"{len(gene.choices)}, received {codes.reshape(-1, n)[row, position]}"
            )
        return codes

    def active(self, codes: np.ndarray) -> np.ndarray:
        """bool (..., n): False for genes of blocks beyond the depth; `codes` is int (..., n)."""
        depth_genes, first_choices = self._activity
        return np.asarray(codes)[..., depth_genes] >= first_choices

    @functools.cached_property
    def _activity(self) -> tuple[np.ndarray, np.ndarray]:
        # For each gene the depth gene that decides on it, and the first choice of depth that includes its block. Genes
        # without a block or of a fixed stage are always active: they depend on the resolution, whose index is >= 0.
        depth_genes, first_choices = np.zeros((2, len(self.genes)), int)
        for position, gene in enumerate(self.genes):
            if gene.block is not None and gene.stage in self.searched:
                depth_genes[position] = self.gene_index("depth", gene.stage)
                first_choices[position] = np.searchsorted(self.stages[gene.stage].depths, gene.block + 1)
        return depth_genes, first_choices

    # -- Choosing architectures ------------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Arch:
        """A random architecture with every choice uniform, as in OFA and OQA; `rng` is a numpy Generator.

        This is not uniform over architectures, most of which are deep since deep stages have more choices.
        """
        return self.decode(rng.integers(0, self.choice_counts))

    def largest(self) -> Arch:
        """The architecture with the last choice everywhere."""
        return self.decode(self.choice_counts - 1)

    def smallest(self) -> Arch:
        """The architecture with the first choice everywhere."""
        return self.decode(np.zeros_like(self.choice_counts))

    def mutate(self, arch: Arch, rng: np.random.Generator, probability: float) -> Arch:
        """`arch` with each gene redrawn with `probability`; blocks that become active are drawn too.

        A redrawn gene may keep its value.

        Raises:
            ValueError: `probability` is not in [0, 1] or `arch` not of this space.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability: expected a number from 0 to 1, received {probability!r}")
        code = self.encode(arch)
        drawn = rng.integers(0, self.choice_counts)
        anew = (rng.random(len(code)) < probability) | ~self.active(code)
        return self.decode(np.where(anew, drawn, code))

    def crossover(self, a: Arch, b: Arch, rng: np.random.Generator) -> Arch:
        """A child with each gene from parent `a` or `b` with equal probability.

        The genes of a block that only one parent has come from that parent.

        Raises:
            ValueError: a parent is not of this space.
        """
        code_a, code_b = self.encode(a), self.encode(b)
        active_a, active_b = self.active(code_a), self.active(code_b)
        from_a = np.where(active_a == active_b, rng.random(len(code_a)) < 0.5, active_a)
        return self.decode(np.where(from_a, code_a, code_b))

    def validate(self, arch: Arch) -> None:
        """Raises a ValueError that names stage and block (from 1) unless `arch` is of this space.

        An example is "mbv3: stage 3, block 2: kernel size 4 is not one of (3, 5, 7)".
        """

        def check(
            value: float, choices: tuple[float, ...], what: str, stage: int | None = None, block: int | None = None
        ) -> None:
            if value not in choices:
                where = where_in(stage, block)
                raise ValueError(f"{self.name}: {where}{what} {value} is not one of {choices}")

        if arch.space != self.name:
            raise ValueError(f"{self.name}: this architecture is of the space {arch.space!r}")
        check(arch.resolution, self.resolutions, "resolution")
        if len(arch.depths) != len(self.searched):
            raise ValueError(
                f"{self.name}: depths: expected {len(self.searched)} values, one for each searched stage, "
                f"received {len(arch.depths)}"
            )
        position = 0
        for s, depth in zip(self.searched, arch.depths, strict=True):
            stage = self.stages[s]
            check(depth, stage.depths, "depth", s)
            for b in range(depth):
                check(arch.kernels[position], stage.kernels, "kernel size", s, b)
                check(arch.expands[position], stage.expands, "expand ratio", s, b)
                position += 1
        bit_choices.validate(self, arch, tuple(itertools.compress(self._convolutions, self._present(arch.depths))))

    # -- The space as a whole --------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The exact number of architectures, including resolutions and the bit widths of all convolutions."""
        return len(self.resolutions) * self.size_without_resolutions * self.size_of_other_bits

    @property
    def size_without_resolutions(self) -> int:
        """The exact number of combinations in the searched stages, including their bit widths."""
        return math.prod(self._size_of_stage(self.stages[s]) for s in self.searched)

    @property
    def size_of_other_bits(self) -> int:
        """The exact number of combinations of bit widths in fixed stages, head and feature layer; 1 without choice."""
        fixed = math.prod(self._size_of_stage(stage) for stage in self.stages if stage.fixed)
        return fixed * self._bit_pairs ** (2 if self.feature_channels else 1)

    @property
    def _bit_pairs(self) -> int:
        """The number of ways in which one convolution can have its bit widths."""
        if not self.weight_bits:
            return 1
        return len(self.weight_bits) * (len(self.input_bits) if self.bits_by == bit_choices.TENSOR else 1)

    def _size_of_stage(self, stage: Stage) -> int:
        of_block, of_stage = bit_choices.choices_of_stage(stage, self.bits_by, self._bit_pairs)
        of_block *= len(stage.kernels) * len(stage.expands)
        return of_stage * sum(of_block**depth for depth in stage.depths)

    def restricted(
        self,
        weight_bits: Iterable[int] | None = None,
        input_bits: Iterable[int] | None = None,
        bits_by: str | None = None,
    ) -> Self:
        """The space with fewer choices of bit widths, such as those that a target supports.

        It keeps its name, and its architectures also belong to this space. Its codes differ from those of this space.

        Args:
            weight_bits, input_bits: some of this space's choices; None for all of them.
            bits_by: "tensor", "layer", "block" or "stage"; None for that of this space.

        Raises:
            ValueError: the space has no bit widths to choose, a choice is not one of them, `bits_by` is finer than in
                this space, or it needs equal choices for weights and inputs.
        """
        self._check_choice_of_bits()
        changes: dict[str, Any] = {}
        for field, wanted in (("weight_bits", weight_bits), ("input_bits", input_bits)):
            known = getattr(self, field)
            if wanted is not None and not (isinstance(wanted, (list, tuple)) and wanted and set(wanted) <= set(known)):
                raise ValueError(f"{self.name}: {field}: expected some of {known}, received {wanted!r}")
            changes[field] = known if wanted is None else tuple(sorted(set(wanted)))
        ties = bit_choices.TIES[bit_choices.TIES.index(self.bits_by) :]
        if bits_by is not None and bits_by not in ties:
            raise ValueError(f"{self.name}: bits_by: expected one of {ties}, received {bits_by!r}")
        return dataclasses.replace(self, bits_by=bits_by or self.bits_by, **changes)

    def without_bits(self) -> Self:
        """The space without bit widths. Its genes are the first genes of this space."""
        return dataclasses.replace(self, weight_bits=(), input_bits=(), bits_by="tensor", fixed_bits=None)

    def with_float(self) -> Self:
        """The space with 32 (not quantized) as the last choice of all bit widths. Other choices keep their indices.

        Raises:
            ValueError: the space has no bit widths to choose.
        """
        self._check_choice_of_bits()
        choices: dict[str, Any] = {
            field: tuple(sorted({*getattr(self, field), FLOAT_BITS})) for field in ("weight_bits", "input_bits")
        }
        return dataclasses.replace(self, **choices)

    def _check_choice_of_bits(self) -> None:
        if not self.weight_bits:
            raise ValueError(f"{self.name}: expected a space with bit widths to choose, it has no weight_bits")

    def pruned(self, arch: Arch) -> Self:
        """The space whose only architecture is `arch`, named `arch.key`, which makes it a fixed network.

        Each block becomes a separate stage, since the blocks of a stage may differ. Bit widths become `fixed_bits`.

        Raises:
            ValueError: `arch` is not of this space.
        """
        expands = iter(arch.expands)
        stages = []
        for block in self.blocks(arch):
            stage = self.stages[block.stage]
            expand = stage.expands[0] if stage.fixed else next(expands)
            stages.append(
                dataclasses.replace(stage, stride=block.stride, depths=(1,), kernels=(block.kernel,), expands=(expand,))
            )
        return dataclasses.replace(
            self,
            name=arch.key,
            resolutions=(arch.resolution,),
            stages=tuple(stages),
            weight_bits=(),
            input_bits=(),
            bits_by=bit_choices.TENSOR,
            fixed_bits=arch.bits,
        )

    def difference(self, other: Self) -> str:
        """The first difference from another space, "" if there is none: "stage 2: kernels 3,5 there, 3,5,7 here"."""
        return difference(dataclasses.asdict(other), dataclasses.asdict(self))

    def to_json(self) -> str:
        """The space as JSON text for `from_json`, or in a file for `spaces.get`.

        Fields of bit widths with default values are left out, so that spaces without bit widths have the same text as
        before these fields existed.
        """
        fields = dataclasses.asdict(self)
        for field in dataclasses.fields(self):
            if field.name in _BIT_FIELDS and fields[field.name] == field.default:
                del fields[field.name]
        return json.dumps(fields, indent=2)

    @classmethod
    def from_json(cls, source: str | bytes | dict[str, Any], where: str = "search space") -> Self:
        """The space from JSON text or a dictionary; missing fields take their defaults.

        Args:
            source: text or dictionary with the fields of `SearchSpace`; "stages" is a list of the fields of `Stage`.
            where: name of the source for messages, such as the file's name.

        Raises:
            RecordError: the text is not JSON, a field is unknown or missing, or a value is wrong.
        """
        try:
            return restored(source, cls, where)
        except RecordError as error:  # people count stages from 1
            raise RecordError(_STAGE.sub(lambda found: f"stage {int(found[1]) + 1}: ", str(error))) from None

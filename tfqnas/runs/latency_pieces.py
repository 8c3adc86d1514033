"""The measurements of `tfqnas latency-table`: their files and order, and the table that they give."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypedDict

import numpy as np

from tflite_export import pieces
from tflite_export.int_graph import IntGraph
from tflite_export.writer import write
from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_jsonl
from tfqnas.records import Count, NotNegative, conform
from tfqnas.search.latency import FURTHER, LatencyTable, Piece, Validation, correction, pieces_of
from tfqnas.spaces import SearchSpace

# The name of the file that computes nothing. Its time is part of the time of every piece, and of a network once.
NOTHING = "nothing"
_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Targets:
    """The pieces and networks that are measured for the table of a space.

    Args:
        space: `SearchSpace`.
        fit, validation: whole networks for the correction and for its validation, tuples of `Arch`.
    """

    space: SearchSpace
    fit: tuple[Arch, ...]
    validation: tuple[Arch, ...]

    @classmethod
    def chosen(cls, space: SearchSpace, fit: int, validation: int, seed: int) -> Self:
        """Targets with the smallest, the largest and random subnets, all different.

        Args:
            space: `SearchSpace`.
            fit, validation: numbers of networks.
            seed: seed of the random subnets.

        Raises:
            UserError: the space has fewer subnets.
        """
        if space.size < fit + validation:
            raise UserError(
                f"`fit_models` and `validation_models`: expected at most the {space.size} subnets of space "
                f"{space.name}, received {fit} and {validation}"
            )
        archs, rng = dict.fromkeys((space.smallest(), space.largest())), np.random.default_rng(seed)
        while len(archs) < fit + validation:
            archs[space.sample(rng)] = None
        return cls(space, tuple(archs)[:fit], tuple(archs)[fit : fit + validation])

    @property
    def by_name(self) -> dict[str, Piece | Arch | None]:
        """`{name: target}` with a `Piece`, an `Arch`, or None for the file that computes nothing."""
        found = {piece.key: piece for piece in pieces_of(self.space)}
        return {NOTHING: None} | found | {arch.key: arch for arch in (*self.fit, *self.validation)}

    def schedule(self, rounds: int, seed: int) -> list[tuple[str, int]]:
        """`(name, round)` of all measurements. Rounds have different orders, so that drift affects targets alike."""
        names = list(self.by_name)
        orders = [np.random.default_rng((seed, number)).permutation(len(names)) for number in range(rounds)]
        return [(names[i], number) for number, order in enumerate(orders) for i in order]

    def table(self, medians: Mapping[str, float], **about: Any) -> LatencyTable:
        """The `LatencyTable` from `{name: number}`; `about` holds its fields about networks and device."""
        values = {piece.key: max(medians[piece.key] - medians[NOTHING], 0.0) for piece in pieces_of(self.space)}
        table = LatencyTable(self.space, values=values, **about)

        def measured(archs: Sequence[Arch]) -> tuple[np.ndarray, list[float]]:
            return np.stack([self.space.encode(arch) for arch in archs]), [medians[arch.key] for arch in archs]

        codes, numbers = measured(self.fit)
        factor, offset = correction(table.sums(codes), numbers)
        table = dataclasses.replace(table, factor=factor, offset=offset)
        codes, numbers = measured(self.validation)
        keys = [arch.key for arch in self.validation]
        validation = Validation(tuple(keys), tuple(table.of_codes(codes).tolist()), tuple(numbers))
        return dataclasses.replace(table, validation=validation)


class Files:
    """The files of `Targets`, from networks with initial weights, since weights do not affect latency.

    Args:
        targets: `Targets`.
        bits: bit width of weights and inputs.
        classes, channels: classes and image channels of the networks.
    """

    def __init__(self, targets: Targets, bits: int, classes: int, channels: int) -> None:
        self._targets, self._settings = targets.by_name, (bits, classes, channels)
        self._space = targets.space
        self._graphs: dict[Arch, IntGraph] = {}
        self._pieces: dict[Arch, dict[tuple[str, int | None], IntGraph]] = {}

    def networks(self, names: Iterable[str]) -> list[Arch]:
        """The distinct architectures that must be made for the targets with these names."""
        wanted = (self._targets[name] for name in names)
        return list(dict.fromkeys(self._network(target) for target in wanted if target is not None))

    def make(self, arch: Arch) -> None:
        """Makes the network of one of `networks`, which takes seconds."""
        self._graphs[arch] = lowered(self._space, arch, *self._settings)

    def blob(self, name: str) -> bytes:
        """The content of the `.tflite` file of a target, whose network must have been made."""
        target = self._targets[name]
        if target is None:
            return write(pieces.nothing())
        arch = self._network(target)
        return write(self._graphs[arch] if isinstance(target, Arch) else self._piece(arch, target))

    def _network(self, target: Piece | Arch) -> Arch:
        return target if isinstance(target, Arch) else with_choices_of(self._space, target)

    def _piece(self, arch: Arch, piece: Piece) -> IntGraph:
        if arch not in self._pieces:
            self._pieces[arch] = cut(self._space, arch, self._graphs[arch])
        size = input_size(self._space, arch, piece)
        return pieces.resized(self._pieces[arch][piece.part, piece.stage], (size, size))


def with_choices_of(space: SearchSpace, piece: Piece) -> Arch:
    """The architecture from which a `Piece` is cut.

    All its stages make the choices with the piece's indices and have a further block where possible. The resolution is
    the smallest.
    """
    places = (0, 0)
    if piece.stage is not None and piece.kernel is not None and piece.expand is not None:
        own = space.stages[piece.stage]
        places = (own.kernels.index(piece.kernel), own.expands.index(piece.expand))
    depths: list[int] = []
    kernels: list[int] = []
    expands: list[float] = []
    for stage in (space.stages[s] for s in space.searched):
        depths.append(next((depth for depth in stage.depths if depth > 1), stage.depths[-1]))
        kernels += [stage.kernels[min(places[0], len(stage.kernels) - 1)]] * depths[-1]
        expands += [stage.expands[min(places[1], len(stage.expands) - 1)]] * depths[-1]
    return Arch(space.name, space.resolutions[0], tuple(depths), tuple(kernels), tuple(expands))


def cut(space: SearchSpace, arch: Arch, graph: IntGraph) -> dict[tuple[str, int | None], IntGraph]:
    """`{(part, stage): IntGraph}` of the pieces of a network, with the first two blocks of each stage."""
    blocks = space.blocks(arch)
    # The network belongs to `space.pruned`, in which each block is a stage.
    ends = [f"stage{i}_block1_{'add' if block.residual else 'project'}" for i, block in enumerate(blocks, 1)]
    begin, *middle, end = pieces.cut(graph, ["stem", *ends])
    found: dict[tuple[str, int | None], IntGraph] = {("begin", None): begin, ("end", None): end}
    for block, piece in zip(blocks, middle, strict=True):
        found.setdefault((FURTHER if block.index else "first", block.stage), piece)
    return found


def input_size(space: SearchSpace, arch: Arch, piece: Piece) -> int:
    """Height and width of the input of a `Piece` cut from `arch`, in pixels."""
    blocks = space.blocks(dataclasses.replace(arch, resolution=piece.resolution))
    if piece.stage is None:
        return piece.resolution if piece.part == "begin" else -(-blocks[-1].size // blocks[-1].stride)
    return next(block.size for block in blocks if (block.stage, block.index) == (piece.stage, piece.part == FURTHER))


def lowered(space: SearchSpace, arch: Arch, bits: int, classes: int, channels: int) -> IntGraph:
    """The `IntGraph` of a subnet with initial weights and LSQ of `bits`."""
    import keras

    from tflite_export.lower import lower
    from tfqnas.quantizers import LSQ
    from tfqnas.subnet import extract
    from tfqnas.supernet import Supernet, initialize

    keras.utils.set_random_seed(0)
    space = space.pruned(arch)  # a space of one architecture, so that nothing else is made
    quantizers = {"weights": LSQ(bits=bits), "inputs": LSQ(bits=bits, signed=False)}
    supernet = Supernet(space, num_classes=classes, channels=channels, **quantizers)
    images = random_images(arch.resolution, channels)
    initialize(supernet, images)
    _, statistics = supernet(images, collect=True)
    return lower(extract(supernet, space.largest(), statistics), images)


def random_images(resolution: int, channels: int) -> np.ndarray:
    """Normalised random images, float32 (8, resolution, resolution, channels), with different means as photos have."""
    rng = np.random.default_rng(0)
    shades = rng.normal(size=(_IMAGES, 1, 1, channels))
    pixels = shades + 0.5 * rng.normal(size=(_IMAGES, resolution, resolution, channels))
    return np.clip(np.rint(64 * pixels), -128, 127).astype(np.float32) / 128


class _Value(TypedDict):
    name: str
    round: Count
    value: NotNegative


def _check(record: dict[str, Any]) -> None:
    if "space" not in record:  # the first line says what is measured
        conform(record, _Value, "")


class Log:
    """Measured numbers in a file of JSON lines, from which a killed run resumes.

    Args:
        path: path of the file.
        about: JSON-able facts about the measurements, the first line of the file.

    Raises:
        UserError: the file holds measurements with other facts.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        records, about = read_jsonl(path, dict[str, Any], check=_check), json.loads(json.dumps(about))
        if not records:
            append_jsonl(path, about)
            records = [about]
        if records[0] != about:
            raise UserError(
                f"{path} holds measurements of something else: {_difference(records[0], about)}; give the "
                "same, choose another `output`, or remove the file"
            )
        self._values = {(record["name"], record["round"]): record["value"] for record in records[1:]}

    def __contains__(self, measurement: tuple[str, int]) -> bool:
        return measurement in self._values

    def add(self, name: str, number: int, value: float) -> None:
        """Adds the value of a target in round `number`. It is in the file when this returns."""
        append_jsonl(self._path, {"name": name, "round": number, "value": value})
        self._values[name, number] = value

    def medians(self, measurements: Iterable[tuple[str, int]]) -> dict[str, float]:
        """`{name: median}` over the rounds of the given `(name, round)`s, all of which must be measured."""
        values: dict[str, list[float]] = {}
        for name, number in measurements:
            values.setdefault(name, []).append(self._values[name, number])
        return {name: float(np.median(numbers)) for name, numbers in values.items()}


def _difference(there: Any, here: Mapping[str, Any]) -> str:
    if not isinstance(there, dict) or there.keys() != here.keys():
        return "its first line was not written by this tool"
    name = next(name for name in here if there[name] != here[name])
    if name == "space":
        return f"another space than the {here['space']['name']} of this command"
    return f"{name} {there[name]}, this command has {here[name]}"

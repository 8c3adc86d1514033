"""Latency and size of exported files compared with the official converter's, and the cost of an export.

    python benchmarks/export.py                    # MobileNetV3 with ReLU and h-swish, tiny; 10 to 20 min on 2 cores
    python benchmarks/export.py --short            # a tiny space, to see that everything runs
    python benchmarks/export.py --only=latency,sizes --rounds=31

The files are those of the largest subnet of each space, freshly initialised: latencies do not depend on the values of
weights, and sizes are those before training. MobileNetV3 is also measured with kernels of at most 5x5, since XNNPACK's
integer kernels for 7x7 depthwise convolutions take up to 60 times as long in both files and hide differences. The
official file is the same architecture without quantizers, converted by `tf.lite.TFLiteConverter` with a representative
data set to 8-bit integers, including input and output. Times are those of LiteRT (`ai_edge_litert`, XNNPACK) with one
thread and one image. The files run in turn (A B A B ...) in one process, so that other load on the machine affects all
of them. A ratio is the median of the rounds' ratios, with the quartiles beside it. The comparisons are:

latency     our file of the subnet with 4-bit LSQ against the official file; targets 1.05 with ReLU, 1.10 with h-swish.
            Only ours has products, which bring 8-bit sums to the 4-bit inputs. The next row is our file at 8 bits.
products    our file of the 4-bit subnet against the same file without its products with one. Its readers take the
            8-bit tensor as it is, so that integers differ but all other work is the same. This bounds the gain of any
            way without products. Other ways from an 8-bit sum to a 4-bit input have problems. QUANTIZE from int8 to
            int8 rounds twice and flips 2 to 4% of the values. A separate RELU, as in the official converter, is not
            delegated to XNNPACK and splits the graph. An ADD that writes the 4-bit tensor itself leaves no 8-bit sum
            for the next addition, so it would be computed twice. One scale for the sum and the input makes the sum as
            coarse as 4 bits (docs/facts.md, exact integer arithmetic).
sizes       our file at 8 bits against the official one, and the files in a zip archive (deflate) against the one at 8
            bits. Weights of few bits are stored as int8, but with few values.
packed      `export(..., storage="packed")`, INT4 weights, against int8 storage of the same 4-bit subnet: the bytes of
            the layers that have quantizers, the whole file beside the floor that all layers' weights set, latency.
cost        an export of the largest MobileNetV3 subnet at 224 px with 64 images, in a separate process that loads a
            `.keras` file, as seconds of `tflite_export.export` and peak memory of the process in GB.
"""

import argparse
import dataclasses
import functools
import pathlib
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from table import Row, in_turn, seconds, show, versions
from training import peak_memory

PARTS = ("latency", "products", "sizes", "packed", "cost")


@dataclasses.dataclass(frozen=True)
class Case:
    """The largest subnet of a space at a resolution. `target`: the highest latency ratio that is good."""

    space: object
    resolution: int
    classes: int
    target: float
    kernel: int | None = None  # no depthwise kernel is larger

    @property
    def name(self):
        return self.space.name + (f" {self.kernel}x{self.kernel}" if self.kernel else "")

    @property
    def arch(self):
        arch = dataclasses.replace(self.space.largest(), resolution=self.resolution)
        if self.kernel is None:
            return arch
        return dataclasses.replace(arch, kernels=tuple(min(kernel, self.kernel) for kernel in arch.kernels))


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of the measurement. `block`: seconds of inferences that make one measured time."""

    cases: tuple
    images: int
    rounds: int
    block: float
    cost: Case
    cost_images: int


def setting(short, rounds):
    from tfqnas import spaces

    if short:
        stage = spaces.Stage(8, 2, (1, 2), (3, 5), (3, 4), se=True)
        space = spaces.SearchSpace("short", (16, 24), stem_channels=8, stages=(stage,), head_channels=16)
        case = Case(space, 16, 10, 1.05)
        return Setting((case,), 8, rounds or 3, 0.002, case, 8)
    cases = (
        Case(spaces.get("mbv3_relu"), 128, 1000, 1.05, kernel=5),
        Case(spaces.get("mbv3_relu"), 128, 1000, 1.05),
        Case(spaces.get("mbv3"), 128, 1000, 1.10, kernel=5),
        Case(spaces.get("mbv3"), 128, 1000, 1.10),
        Case(spaces.get("tiny"), 32, 10, 1.10),
    )
    return Setting(cases, 32, rounds or 21, 0.1, Case(spaces.get("mbv3"), 224, 1000, 1.10), 64)


# The files -------------------------------------------------------------------------------------------------------


def random_images(count, resolution):
    """Normalised images whose neighbours are alike, as photos' are: white noise averages to a constant."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(count, 1, 1, 3)) + 0.5 * rng.normal(size=(count, resolution, resolution, 3))
    return np.clip(np.rint(64 * coarse), -128, 127).astype(np.float32) / 128


class Files:
    """The files of a `Case`, each made when it is first asked for."""

    def __init__(self, case, images):
        self.images = random_images(images, case.resolution)
        self._case = case

    @functools.cache  # noqa: B019  lives as long as its case is measured
    def model(self, bits):
        """The subnet as a Keras model, with LSQ of `bits`; None: without quantizers."""
        from tfqnas import LSQ, Supernet, extract, initialize, recalibrate

        space = self._case.space.pruned(self._case.arch)  # one architecture: nothing else is traced
        quantizers = {"weights": LSQ(bits=bits), "inputs": LSQ(bits=bits, signed=False)} if bits else {}
        supernet = Supernet(space, num_classes=self._case.classes, **quantizers)
        if bits:
            initialize(supernet, self.images)
        arch = space.largest()
        return extract(supernet, arch, recalibrate(supernet, space.encode(arch), self.images))

    @functools.cache  # noqa: B019
    def ours(self, bits, **settings):
        from tflite_export import export

        return export(self.model(bits), self.images, **settings)

    @functools.cache  # noqa: B019
    def without_products(self, bits):
        """`(file, products, operations)`: as `ours` without products with one, and how many of how many these are."""
        from tflite_export.lower import lower
        from tflite_export.writer import write

        graph = lower(self.model(bits), self.images)
        spared = without_products(graph)
        return write(spared), len(graph.ops) - len(spared.ops), len(graph.ops)

    @functools.cache  # noqa: B019
    def official(self):
        import tensorflow as tf

        model = self.model(None)
        with tempfile.TemporaryDirectory() as directory:
            spec = tf.TensorSpec((1, *model.input_shape[1:]))
            model.export(directory, verbose=False, input_signature=[spec])
            converter = tf.lite.TFLiteConverter.from_saved_model(directory)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[np.newaxis]] for image in self.images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
            return converter.convert()


def without_products(graph):
    """The `IntGraph` whose products with the constant one are left out; it computes something else in less time."""
    from tflite_export.int_graph import CONVOLUTIONS

    instead, ops, tensors = {}, [], dict(graph.tensors)
    for op in graph.ops:
        inputs = tuple(instead.get(name, name) for name in op.inputs)
        before, after = (tensors[names[0]].scale for names in (op.inputs, inputs))
        if op.kind == "mul" and op.inputs[1].endswith("/one"):
            instead[op.outputs[0]] = inputs[0]
            continue
        ops.append(dataclasses.replace(op, inputs=inputs))
        if op.kind in CONVOLUTIONS and inputs != op.inputs:  # the scale of the accumulator stays: that of the bias
            weights = tensors[inputs[1]]
            tensors[weights.name] = dataclasses.replace(weights, scale=weights.scale * (before / after))
    used = {name for op in ops for name in (*op.inputs, *op.outputs)}
    tensors = {name: tensor for name, tensor in tensors.items() if name in used}
    return dataclasses.replace(
        graph, tensors=tensors, ops=tuple(ops), outputs=tuple(instead.get(n, n) for n in graph.outputs)
    )


def latencies(blobs, s):
    """Seconds of one inference, float (files, rounds), of the files in turn."""
    from ai_edge_litert.interpreter import Interpreter

    interpreters = [Interpreter(model_content=blob, num_threads=1) for blob in blobs]
    rng = np.random.default_rng(0)
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        (place,) = interpreter.get_input_details()
        interpreter.set_tensor(place["index"], rng.integers(-128, 128, place["shape"], np.int8))
        interpreter.invoke()
    times = int(np.ceil(s.block / min(seconds(interpreters[-1].invoke) for _ in range(3))))

    def repeated(interpreter):
        return lambda: [interpreter.invoke() for _ in range(times)]

    return in_turn([repeated(i) for i in interpreters], s.rounds) / times


def weights_of(blob):
    """`{name: (bytes in the file, number of entries)}` of the weights of convolutions and dense layers."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    kinds = schema.BuiltinOperator
    codes = {kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED}
    found = {}
    for op in model.subgraphs[0].operators:
        if model.operatorCodes[op.opcodeIndex].builtinCode in codes:
            tensor = model.subgraphs[0].tensors[op.inputs[1]]
            found[tensor.name.decode()] = (len(model.buffers[tensor.buffer].data), int(np.prod(tensor.shape)))
    return found


# What is measured ------------------------------------------------------------------------------------------------


def latency_row(name, ours, theirs, target=None):
    """As `table.ratio_row`, in microseconds."""
    low, middle, high = np.percentile(ours / theirs, (25, 50, 75))
    took = f"{np.median(ours) * 1e6:,.0f} / {np.median(theirs) * 1e6:,.0f} us"
    return Row(name, middle, f"{low:.3f} to {high:.3f}   {took}", target)


def measure_latency(case, files, s):
    four, eight, official = latencies([files.ours(4), files.ours(8), files.official()], s)
    yield latency_row(f"{case.name}: 4 bits / official latency", four, official, case.target)
    yield latency_row("  8 bits / official latency", eight, official)


def measure_products(case, files, s):
    spared, products, operations = files.without_products(4)
    row = latency_row(f"{case.name}: with / without products", *latencies([files.ours(4), spared], s))
    yield dataclasses.replace(row, spread=f"{row.spread}, {products} of {operations} operations")


def size_row(name, blob, other, target=None):
    return Row(name, len(blob) / len(other), f"{len(blob) / 1e3:,.0f} / {len(other) / 1e3:,.0f} kB", target)


def measure_sizes(case, files, s):
    yield size_row(f"{case.name}: 8 bits / official file", files.ours(8), files.official())
    zips = {bits: zlib.compress(files.ours(bits)) for bits in (8, 4, 3, 2)}
    yield size_row("  zip / file at 8 bits", zips[8], files.ours(8))
    for bits in (4, 3, 2):
        yield size_row(f"  zip at {bits} bits / at 8 bits", zips[bits], zips[8])


def measure_packed(case, files, s):
    plain, packed = files.ours(4), files.ours(4, storage="packed")
    layers = [layer for layer in files.model(4).layers if getattr(layer, "weight_quantizer", None)]
    packable = {f"{layer.name}/weights" for layer in layers}
    weights = weights_of(packed)
    few, entries = np.sum([weights[name] for name in packable], axis=0)
    spread = f"{few / 1e3:,.0f} / {entries / 1e3:,.0f} kB"
    yield Row(f"{case.name}: packed / int8 weights", few / entries, spread, 0.52)
    total = sum(n for _, n in weights.values())
    row = size_row("  packed / int8 file", packed, plain)
    yield dataclasses.replace(row, spread=f"{row.spread}, floor {1 - entries / 2 / total:.3f}")
    yield latency_row("  packed / int8 latency", *latencies([packed, plain], s))


def measure_cost(s, command):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.keras"
        Files(s.cost, 8).model(4).save(path)
        result = subprocess.run([*command, f"--cost_of={path}"], capture_output=True, text=True, check=True)
    took, memory, size = map(float, result.stdout.split()[-3:])
    name = f"{s.cost.name}, {s.cost.resolution} px"
    yield Row(f"{name}: seconds of an export", took, f"{s.cost_images} images, {size / 1e6:.1f} MB file", 20, ".1f")
    yield Row(f"{name}: its peak memory, GB", memory / 1024, "", 2, ".2f")


def print_cost(path, s):
    """Seconds, MB and bytes of the file of exporting the `.keras` file at `path`."""
    from tflite_export import export
    from tfqnas.runs.model_files import load_model

    model, images = load_model(path), random_images(s.cost_images, s.cost.resolution)
    blobs = []
    took = seconds(lambda: blobs.append(export(model, images)))
    print(took, peak_memory(), len(blobs[0]))


# The table ---------------------------------------------------------------------------------------------------------


def heading(s):
    spaces = "; ".join(f"{case.name} at {case.resolution} px" for case in s.cases)
    return f"{versions('ai-edge-litert', 'tensorflow', 'keras')}\nlargest subnets: {spaces}; {s.rounds} rounds"


def rows(s, parts, command):
    by_part = {
        "latency": measure_latency,
        "products": measure_products,
        "sizes": measure_sizes,
        "packed": measure_packed,
    }
    for case in s.cases:
        files = Files(case, s.images)
        for part in parts:
            if part in by_part:
                yield from by_part[part](case, files, s)
    if "cost" in parts:
        yield from measure_cost(s, command)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tiny space and few rounds: the ratios mean nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of measurement; 0: 21, or 3 with --short")
    parser.add_argument("--only", default="", help=f"parts to measure, of {','.join(PARTS)}")
    parser.add_argument("--cost_of", help=argparse.SUPPRESS)  # a .keras file; prints its cost and nothing else
    arguments = parser.parse_args()
    parts = arguments.only.split(",") if arguments.only else list(PARTS)
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"--only: expected some of {','.join(PARTS)}, received {','.join(unknown)}")
    s = setting(arguments.short, arguments.rounds)
    if arguments.cost_of:
        print_cost(arguments.cost_of, s)
        return
    print(heading(s), flush=True)
    show(rows(s, parts, [sys.executable, __file__, *(["--short"] if arguments.short else [])]))


if __name__ == "__main__":
    main()

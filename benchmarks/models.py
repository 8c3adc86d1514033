"""Networks that people deploy, through our exporter and the official converter: 19 large ones and 93 small ones.

    python benchmarks/models.py                              # all; half an hour on 2 cores
    python benchmarks/models.py --only='unet|siamese'        # those whose names match
    python benchmarks/models.py --group=small                # or applications
    python benchmarks/models.py --run_dir=runs/models        # goes on where it was stopped

The networks are those of benchmarks/networks.py, with random weights. Each becomes an 8-bit file without any training:

ours        `tflite_export.export` of the float model, with ranges from 64 inputs.
quantized   `tfqnas.quantize` with LSQ of 8 bits, integer-aware, `initialize`, and the export of that.
official    `tf.lite.TFLiteConverter` to full integers, with the same inputs as representative data set.

All are compared with the float model on 64 other inputs: SQNR is the variance of its outputs over the inputs, divided
by the mean square of the difference, in dB, of the worst output. Ours also run in the numpy reference, and every
integer must be the same. Latency is the median ratio of ours to the official file, with one input and one thread,
measured in turn. All networks are measured in one process, and in another one after a crash.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import traceback

import numpy as np

RESULTS = "models.jsonl"
_COUNT, _CHECKED, _ROUNDS = 64, 8, 15
_HERE = pathlib.Path(__file__).resolve()


def chosen(group, only):
    """The networks of a group, "small", "applications" or "all", whose names match a regular expression."""
    import networks

    groups = {"small": networks.SMALL, "applications": networks.APPLICATIONS}
    found = {**networks.SMALL, **networks.APPLICATIONS} if group == "all" else groups[group]
    return {name: network for name, network in found.items() if re.search(only, name)}


def sqnr(expected, found):
    """dB of the worst output, or None if an output does not depend on the inputs."""
    worst = []
    for theirs, ours in zip(expected, found, strict=True):
        theirs, ours = np.asarray(theirs, np.float64), np.asarray(ours, np.float64).reshape(np.shape(theirs))
        signal = ((theirs - theirs.mean(axis=0)) ** 2).mean()
        worst.append(10 * np.log10(signal / max(((ours - theirs) ** 2).mean(), 1e-30)) if signal else None)
    return None if None in worst else float(min(worst))


def as_list(values):
    """The arrays of an output, which may be one, a list or a dictionary."""
    import keras

    return [np.asarray(value) for value in keras.tree.flatten(values)]


def ours(model, network, calibration, inputs):
    """`(bytes, values of the outputs, whether all integers are those of the reference)`."""
    from tflite_export import reference
    from tflite_export.int_graph import pixels_of, with_interface
    from tflite_export.lower import lower
    from tflite_export.runtime import Runtime
    from tflite_export.writer import write
    from tfqnas.graph.keras_internals import input_names

    known = [normalization for _, normalization in network.inputs.values()]
    normalization = dict(zip(input_names(model), known, strict=True))
    graph = lower(model, calibration if len(calibration) > 1 else calibration[0], normalization=normalization)
    several = len(inputs) > 1
    pixels = pixels_of(graph, inputs if several else inputs[0])
    few = [p[:_CHECKED] for p in pixels] if several else pixels[:_CHECKED]
    runtime = Runtime(write(graph))
    found, expected = runtime.run(few), reference.run(graph, few)
    exact = all(np.array_equal(a, b) for a, b in zip(as_list(found), as_list(expected), strict=True))
    values = reference.logits(graph, runtime.run(pixels))
    return write(with_interface(graph, "int8", "int8")), as_list(values), exact


def official(model, calibration, inputs):
    """`(bytes, values of the outputs)`."""
    import keras
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec((1, *t.shape[1:]), name=f"x{i}") for i, t in enumerate(model.inputs)]

    @tf.function(input_signature=specs)
    def run(*xs):
        given = xs[0] if len(xs) == 1 else list(xs)
        return [tf.identity(value) for value in keras.tree.flatten(model(given, training=False))]

    frozen = convert_variables_to_constants_v2(run.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[i : i + 1] for x in calibration] for i in range(len(calibration[0])))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    blob = converter.convert()
    interpreter = Interpreter(model_content=blob, num_threads=1)
    interpreter.allocate_tensors()
    takes = sorted(interpreter.get_input_details(), key=lambda detail: detail["name"])
    gives = sorted(interpreter.get_output_details(), key=lambda detail: (len(detail["name"]), detail["name"]))
    rows = []
    for row in range(len(inputs[0])):
        for detail, x in zip(takes, inputs, strict=True):
            scale, zero = detail["quantization"]
            integers = np.clip(np.rint(x[row : row + 1] / scale) + zero, -128, 127)
            interpreter.set_tensor(detail["index"], integers.astype(np.int8))
        interpreter.invoke()
        rows.append([interpreter.get_tensor(detail["index"]).astype(np.float32) for detail in gives])
    values = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    scales = [detail["quantization"] for detail in gives]
    return blob, [(v - zero) * scale for v, (scale, zero) in zip(values, scales, strict=True)]


def quantized(model, calibration):
    """The model with LSQ of 8 bits, set from the calibration inputs."""
    import tfqnas

    result = tfqnas.quantize(model, tfqnas.LSQ(bits=8), tfqnas.LSQ(bits=8, signed=None), integer_aware=True)
    tfqnas.initialize(result, calibration if len(calibration) > 1 else calibration[0])
    return result


def latency_ratio(one, other):
    """The median of the ratios of two files' times, one input and one thread, in turn."""
    from ai_edge_litert.interpreter import Interpreter
    from table import in_turn

    def runner(blob):
        interpreter = Interpreter(model_content=blob, num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
        return interpreter.invoke

    run, theirs = runner(one), runner(other)
    times = in_turn([lambda: [run() for _ in range(4)], lambda: [theirs() for _ in range(4)]], _ROUNDS)
    return float(np.median(times[0] / times[1]))


def measured(network):
    """The record of one network."""
    import keras
    import networks

    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model = network.build()
    calibration, inputs = (networks.inputs_of(network, _COUNT, seed) for seed in (0, 1))
    networks.lifelike(model, calibration, 0)
    expected = as_list(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    record = {"name": network.name, "kind": network.kind}
    blobs = {}

    def tried(what, function):
        try:
            blobs[what], values, *exact = function()
            record[what] = {"bytes": len(blobs[what]), "sqnr": sqnr(expected, values)}
            if exact:
                record[what]["exact"] = exact[0]
        except Exception as error:
            record[what] = {"refused": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"}
            if os.environ.get("TRACE"):
                traceback.print_exc()

    tried("ours", lambda: ours(model, network, calibration, inputs))
    tried("quantized", lambda: ours(quantized(model, calibration), network, calibration, inputs))
    tried("official", lambda: official(model, calibration, inputs))
    if {"ours", "official"} <= blobs.keys():
        record["latency"] = latency_ratio(blobs["ours"], blobs["official"])
    return record


def worked(path, names):
    """Measures networks one after another, in this process, and adds their records to a file."""
    from networks import APPLICATIONS, SMALL

    for name in names:
        print(f"begin {name}", flush=True)
        record = measured({**SMALL, **APPLICATIONS}[name])
        with open(path, "a") as file:
            file.write(json.dumps(record) + "\n")


def records_of(path):
    """`{name: record}` of a file of results."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["name"]: record for record in map(json.loads, lines)}


def line(record):
    """One row of the table."""

    def part(what):
        found = record.get(what, {"refused": "crashed"})
        if "refused" in found:
            return f"{'refused':>8}"
        return f"{found['sqnr']:8.1f}" if found["sqnr"] is not None else f"{'-':>8}"

    sizes = [record.get(what, {}).get("bytes") for what in ("ours", "official")]
    size = f"{sizes[0] / sizes[1]:6.2f}" if all(sizes) else f"{'':6}"
    exact = {True: "exact", False: "INEXACT", None: ""}[record.get("ours", {}).get("exact")]
    latency = f"{record['latency']:6.2f}" if "latency" in record else f"{'':6}"
    why = record.get("ours", {"refused": "crashed"}).get("refused", "")
    parts = "".join(map(part, ("ours", "quantized", "official")))
    return f"{record['name']:32} {parts}  {size} {latency}  {exact:7} {why[:90]}".rstrip()


def summary(records):
    """The figures that the aims are about, as lines."""
    taken = [r for r in records if "bytes" in r.get("ours", {})]
    theirs = [r for r in records if "bytes" in r.get("official", {})]
    lacking = [r["name"] for r in theirs if r not in taken]
    both = [r for r in taken if r in theirs and r["ours"]["sqnr"] is not None and r["official"]["sqnr"] is not None]
    gains = np.array([r["ours"]["sqnr"] - r["official"]["sqnr"] for r in both])
    through = [r for r in records if "bytes" in r.get("quantized", {})]
    ratios = [r["latency"] for r in records if "latency" in r]
    yield f"taken: {len(taken)} of {len(records)}, by the official converter {len(theirs)}"
    yield f"taken by the official converter alone: {', '.join(lacking) or 'none'}"
    yield f"quantized with LSQ of 8 bits, and taken: {len(through)}"
    yield f"all integers those of the reference: {sum(r['ours']['exact'] for r in taken)} of {len(taken)}"
    if len(gains):
        yield f"SQNR within 1 dB of the official one or better: {np.mean(gains > -1):.1%} of {len(gains)}"
        yield f"mean difference of SQNR: {gains.mean():+.2f} dB, median {np.median(gains):+.2f} dB"
    if ratios:
        low, middle, high = np.percentile(ratios, (10, 50, 90))
        yield f"latency, ours / official: median {middle:.3f}, 10% to 90% {low:.3f} to {high:.3f}"


def draw(records, path):
    """A point for each network: SQNR of our file against that of the official one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    both = [r for r in records if all((r.get(w) or {}).get("sqnr") is not None for w in ("ours", "official"))]
    figure, axes = pyplot.subplots(figsize=(6, 5.5), layout="constrained")
    for kind, colour in ((True, "tab:orange"), (False, "tab:blue")):
        part = [r for r in both if (r["kind"] == "application") == kind]
        axes.scatter(
            [r["official"]["sqnr"] for r in part],
            [r["ours"]["sqnr"] for r in part],
            s=18,
            color=colour,
            label="keras.applications" if kind else "small networks",
        )
    if not both:
        return
    ends = [min(r[w]["sqnr"] for r in both for w in ("ours", "official")), 60]
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.set(xlabel="SQNR of the official converter's file, dB", ylabel="SQNR of our file, dB")
    axes.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=("all", "small", "applications"), default="all")
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--run_dir", type=pathlib.Path, default=pathlib.Path("runs/models"))
    parser.add_argument("--again", action="store_true", help="measure what has results already")
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.run_dir.mkdir(parents=True, exist_ok=True)
    path = options.run_dir / RESULTS
    if options.worker is not None:
        worked(path, options.worker)
        return
    names = list(chosen(options.group, options.only))
    if not names:
        raise SystemExit(f"--only={options.only}: no network has such a name")
    waiting = names if options.again else [name for name in names if name not in records_of(path)]
    print(f"{len(names)} networks, {len(waiting)} to measure; results in {path}")
    print(f"{'':32} {'ours':>8}{'LSQ':>8}{'official':>8}  {'size':>6} {'time':>6}")
    while waiting:
        command = [sys.executable, str(_HERE), f"--run_dir={options.run_dir}", "--worker", *waiting]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun = None
        for text in process.stdout:
            if text.startswith("begin "):
                if begun is not None:
                    print(line(records_of(path)[begun]), flush=True)
                begun = text.split()[1]
        process.wait()
        if begun is None:
            raise SystemExit("the worker did not begin")
        if begun not in records_of(path) or (process.returncode and begun != waiting[-1]):
            with open(path, "a") as file:
                file.write(json.dumps({"name": begun, "kind": "crashed"}) + "\n")
        print(line(records_of(path)[begun]), flush=True)
        waiting = waiting[waiting.index(begun) + 1 :]
    records = [records_of(path)[name] for name in names]
    print()
    for text in summary(records):
        print(text)
    draw(records, options.run_dir / "models.png")
    print(f"picture: {options.run_dir / 'models.png'}")


if __name__ == "__main__":
    main()

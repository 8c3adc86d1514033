"""Exports a model to an integer .tflite file, and verifies that it computes the same as the model.

    tfqnas export --model=runs/digits/models/b2_largest.keras --dataset=digits --output=m.tflite
    tfqnas export --run_dir=runs/digits --bits=2 --arch=runs/digits/search/b2/pareto.json#3 \\
        --output=m.tflite

    tfqnas export --model=runs/edsr_x2.keras --dataset=photos --input_size=64,64 --output=m.tflite

The command runs the file in LiteRT on the test images, compares every integer with the reference, and prints the
comparison. It writes the file only if the integers are the same and the score of the task does not fall by more than
--max_accuracy_drop or --max_miou_drop points, or --max_psnr_drop dB. It also writes a model card (.md), whose facts are
in the metadata of the file too.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tfqnas.cli import command
from tfqnas.data.data_config import PHOTOS
from tfqnas.errors import SettingError, UserError
from tfqnas.files import write_atomically
from tfqnas.progress import Progress
from tfqnas.runs import exporting, exporting_photos
from tfqnas.tasks import TASKS, Classification, Examples, SuperResolution, TaskConfig, examples_of, kind_of

if TYPE_CHECKING:
    import keras

    from tflite_export.int_graph import IntGraph
    from tflite_export.verify import Verification

FLAGS = command.Flags()
MODEL = FLAGS.string("model", None, "a .keras file; the flags of data name its data set")
command.define_flags(TaskConfig, FLAGS)  # of `model`; a run has its own
RUN_DIR = FLAGS.string("run_dir", None, "run directory, to export a subnet of one of its trained supernets")
BITS = FLAGS.string("bits", None, "bit width of the supernet in `run_dir`, or mixed")
ARCH = FLAGS.string("arch", "largest", "subnet: largest, smallest, FILE.json, FILE.json#ROW or JSON")
OUTPUT = FLAGS.string("output", None, "the .tflite file to write", required=True)
CALIBRATION = FLAGS.enum(
    "calibration", "mse", ["min_max", "percentile", "mse", "kl"], "method that sets the ranges of 8-bit tensors"
)
STORAGE = FLAGS.enum(
    "storage", "int8", ["int8", "packed"], "int8: a byte for each weight; packed: INT4 and INT2, smaller and slower"
)
CALIBRATION_IMAGES = FLAGS.integer("calibration_images", 512, "training images for the calibration", lower_bound=1)
INPUT_TYPE = FLAGS.enum("input_type", "int8", ["int8", "uint8"], "input of the file, int8: pixel - 128, uint8: pixel")
OUTPUT_TYPE = FLAGS.enum("output_type", "int8", ["int8", "float32"], "type of the file's logits")
VERIFY = FLAGS.bool("verify", True, "run the file on the test images and compare")
VERIFY_IMAGES = FLAGS.integer("verify_images", None, "number of test images to compare; by default all", lower_bound=1)
# Of each task that has one, the largest accepted loss of its score.
DROPS = {name: FLAGS.float(*kind.drop) for name, kind in TASKS.items() if kind.drop}
INPUT_SIZE = FLAGS.list("input_size", "64,64", "super-resolution: height and width of the file's input")
EXPLAIN = FLAGS.bool("explain", False, "print for each layer how the integers differ from the Keras model")
THREADS = FLAGS.integer("threads", 1, "threads of LiteRT", lower_bound=1)
# Number of random test images. LiteRT's plain kernels take a hundred times as long as XNNPACK.
KERNEL_IMAGES = 64  # of networks that make maps an eighth of them
# Pixels of a batch in the comparison.
PIXELS = 4_000_000
EXPLAINED_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Source:
    """The Keras model to export, with its data and metadata."""

    model: keras.Model
    examples: Examples
    metadata: dict[str, Any]
    data_name: str

    def images(self, split: str, limit: int) -> tuple[np.ndarray, Any]:
        """`(x, y)` of a split, always the same random choice of so many images; y is None without targets."""
        batches = list(self.examples.pairs(split, limit, 256))
        targets = [y for _, y in batches if y is not None]
        return np.concatenate([x for x, _ in batches]), np.concatenate(targets) if targets else None


def main() -> None:
    if (MODEL.value is None) == (RUN_DIR.value is None):
        raise UserError("expected one of `model` and `run_dir`")
    if not OUTPUT.value.endswith(".tflite"):
        raise SettingError("output", "a file whose name ends with .tflite", OUTPUT.value)
    data = None
    if MODEL.value:
        command.refuse([BITS.name, ARCH.name], "with `model`", "`run_dir`")
        data = command.from_flags(TaskConfig, FLAGS)
    else:
        command.refuse(command.fields_of(TaskConfig), "with a run, which has its own data", "`model`")
        if BITS.value is None:
            raise SettingError("bits", "the bit width of the supernet in `run_dir`, or mixed", "")
    refuse_without_effect()
    page = pathlib.Path(OUTPUT.value).with_suffix(".md")
    command.writes(OUTPUT.value, "output", files=[OUTPUT.value, page])
    command.import_tensorflow()
    from tflite_export import ties
    from tflite_export.folding import NonUniformError
    from tflite_export.int_graph import with_interface, with_metadata
    from tflite_export.lower import lower
    from tflite_export.model_card import model_card
    from tflite_export.writer import write

    source = source_of_model(data) if data else source_of_run()
    task = source.examples.task
    refuse_of_other_tasks(source.examples)
    calibration, _ = source.images("train", CALIBRATION_IMAGES.value)

    def lowered(storage: str) -> IntGraph:
        graph = lower(source.model, calibration, CALIBRATION.value, metadata=source.metadata, storage=storage)
        return with_interface(graph, INPUT_TYPE.value, OUTPUT_TYPE.value)

    try:
        graph = lowered(STORAGE.value)
    except NonUniformError as error:
        raise UserError(f"{error}{exporting.uniform_choices(MODEL.value)}") from None
    blob = write(graph)
    print(f"{source.model.name}: {len(graph.ops)} integer operations, {len(blob) / 1000:.1f} kB")
    if STORAGE.value == "packed":
        say_what_packing_costs(graph, blob, write(lowered("int8")))
    elif tied := ties.remaining(graph):
        print(
            f"{sum(tied.values())} channels of {', '.join(tied)} have rare accumulators that land on a half, which "
            "other processors may round differently"
        )
    result = compare(source, graph, blob) if VERIFY.value or EXPLAIN.value else None
    counts = [source.examples.count(split) for split in ("train", "test")]
    about = exporting.about_export(source.data_name, *counts)
    compared = {} if result is None else {task.metric: result.record(), "identical": result.identical}
    write_atomically(OUTPUT.value, write(with_metadata(graph, **compared, **about)))
    card = model_card(source.metadata, result, **about)
    write_atomically(page, card)
    print(f"written: {OUTPUT.value}, and its model card {page}")


def refuse_without_effect() -> None:
    """Raises UserError for a given flag that has no effect with the others, whatever the model is."""
    if RUN_DIR.value:
        others = [flag.name for name, flag in DROPS.items() if name != Classification.name]
        command.refuse([*others, INPUT_SIZE.name], "on a classifier", "`model`")
    if len(INPUT_SIZE.value) != 2 or not all(re.fullmatch(r"[1-9]\d{0,3}", text) for text in INPUT_SIZE.value):
        raise SettingError("input_size", "height,width in pixels, each from 1 to 9999", INPUT_SIZE.value)
    if not VERIFY.value:
        command.refuse([flag.name for flag in DROPS.values()], "with `verify=false`", "`verify`")
        if not EXPLAIN.value:
            command.refuse([VERIFY_IMAGES.name], "with `verify=false`", "`verify` and `explain`")
            if STORAGE.value != "packed":
                command.refuse([THREADS.name], "with `verify=false`", "`verify`")


def refuse_of_other_tasks(examples: Examples) -> None:
    """Raises UserError for a given flag that the task does not read."""
    name = examples.task.name
    for other, flag in DROPS.items():
        if other != name:
            command.refuse([flag.name], f"on {name}", other)
    if name != SuperResolution.name:
        command.refuse([INPUT_SIZE.name], f"on {name}", SuperResolution.name)
    for names, why, others in examples.unread:
        if known := [one for one in names if one in FLAGS]:
            command.refuse(known, why, others)


def say_what_packing_costs(graph: IntGraph, blob: bytes, of_bytes: bytes) -> None:
    from tflite_export.int_graph import not_packed
    from tflite_export.runtime import Runtime

    for layer, why in not_packed(graph).items():
        print(f"not packed: {layer}, {why}")
    slow, fast = (exporting.latency_ms(Runtime(file, THREADS.value)) for file in (blob, of_bytes))
    print(
        f"packed: {len(blob) / len(of_bytes):.2f} times the {len(of_bytes) / 1000:.1f} kB and {slow / fast:.1f} times "
        f"the {fast:.2f} ms of the file with a byte for each weight, here"
    )


def compare(source: Source, graph: IntGraph, blob: bytes) -> Verification | None:
    """Prints the results of `explain` and `verify`, and returns the `Verification` or None."""
    from tflite_export import explain
    from tflite_export.int_graph import pixels_of
    from tflite_export.verify import agreements, verify
    from tfqnas import report

    examples, task = source.examples, source.examples.task
    count = min(VERIFY_IMAGES.value or examples.count("test"), examples.count("test"))
    # Relative amounts: each explained layer runs the Keras model again, and each verified image the reference.
    work = {"explain": len(graph.ops) * EXPLAINED_IMAGES / 20} if EXPLAIN.value else {}
    work |= {"compare": count, "other kernels": KERNEL_IMAGES} if VERIFY.value else {}
    progress = Progress(list(work.items()), stream=sys.stderr)
    if EXPLAIN.value:
        pixels, targets = source.images("test", min(EXPLAINED_IMAGES, count))
        with progress.part("explain") as part:
            records, whole = explain.explain(source.model, graph, pixels, targets, part.update, task)
        print(f"\n{report.table(records, explain.columns(task))}\n\n{explain.NOTE}")
        print(f"{len(pixels)} test images; {explain.costliest(records, whole, task)}\n")
    if not VERIFY.value:
        return None
    with progress.part("compare") as part:
        result = verify(
            source.model,
            graph,
            blob,
            examples.pairs("test", count, 256),
            threads=THREADS.value,
            batch_size=max(1, min(64, PIXELS // pixels_in(source.model))),
            update=lambda done: part.update(done / count),
            task=task,
        )
    print(result)
    of_maps = len(source.model.outputs[0].shape) == 4
    some, _ = source.images("test", min(KERNEL_IMAGES // 8 if of_maps else KERNEL_IMAGES, count))
    with progress.part("other kernels") as part:
        found = agreements(graph, blob, pixels_of(graph, some), THREADS.value, part.update, task)
    print("\n".join(map(str, found)))
    if problem := result.problem(DROPS[task.name].value if task.drop else None):
        raise UserError(f"{OUTPUT.value} is not written: {problem}")
    return result


def pixels_in(model: keras.Model) -> int:
    """The pixels of an image or of the largest output that is a map."""
    return max(int(np.prod(t.shape[1:3])) if len(t.shape) == 4 else 1 for t in (*model.inputs, *model.outputs))


def source_of_model(config: TaskConfig) -> Source:
    from tfqnas.runs import model_files

    model = model_files.load_model(MODEL.value)
    record = model_files.model_record(MODEL.value, model)
    if not FLAGS["evaluation_crop"].present:
        config = dataclasses.replace(config, evaluation_crop=record["evaluation_crop"])
    if kind_of(model, config.task, config.dataset == PHOTOS) is SuperResolution:
        if config.dataset != PHOTOS:
            raise SettingError("dataset", f"photos for {model.name}, which makes images", config.dataset)
        height, width = map(int, INPUT_SIZE.value)
        model, given = exporting_photos.prepared(model, config.data_dir, (height, width), CALIBRATION_IMAGES.value)
        return Source(model, given, record, config.dataset)
    examples = examples_of(model, config, class_names=record.get("class_names"))
    dataset = getattr(examples, "dataset", None)  # of images with labels
    if dataset is not None:
        if VERIFY.value or EXPLAIN.value:
            model_files.refuse_trained_on(MODEL.value, dataset)
        if examples.task.name == Classification.name:
            record = {"class_names": [str(number) for number in range(dataset.num_classes)], **record}
    return Source(model, examples, record, config.dataset)


def source_of_run() -> Source:
    from tfqnas.runs import model_files
    from tfqnas.runs.run import Run
    from tfqnas.subnet import extract
    from tfqnas.tasks.classification import Labelled

    run = Run.existing(RUN_DIR.value)
    arch = model_files.read_arch(run.space, ARCH.value)
    bits = command.bit_width(run, "bits", BITS.value)
    supernet = run.networks.supernet(bits)
    model = extract(supernet, arch, run.evaluator.recalibrate(supernet, arch))
    record = {
        "arch_key": arch.key,
        "arch": json.loads(arch.to_json()),
        "bits": bits,
        **run.costs.of(arch, bits),
        "class_names": list(run.dataset.class_names),
        "normalization": "(x - 128) / 128",
        "evaluation_crop": run.config.evaluation_crop,
    }
    examples = Labelled(run.dataset, model.input_shape[1], run.config.evaluation_crop)
    return Source(model, examples, record, run.config.dataset)

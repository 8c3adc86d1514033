"""Exports a super-resolution model, whose data are photos."""

import sys
from collections.abc import Sequence

import numpy as np

from tfqnas.errors import SettingError, UserError
from tfqnas.files import write_atomically
from tfqnas.progress import Progress
from tfqnas.runs import exporting

# Number of random crops of the test photos on which the file is compared.
COMPARED = 56
# Crops that are computed at a time.
_BATCH = 8
# Bytes that the crops for calibration may take.
_MEMORY = 8e9


def export(
    path: str,
    data_dir: str,
    size: tuple[int, int],
    output: str,
    calibration: str = "percentile",
    storage: str = "int8",
    count: int = 128,
    max_drop: float = 0.05,
) -> None:
    """Writes a `.tflite` file from pixels to pixels for images of one size, if it agrees with the model.

    Args:
        path: the `.keras` file.
        data_dir: directory of the prepared photos.
        size: (height, width) of the file's input.
        output: the file to write.
        calibration, storage: as in `lower`.
        count: number of crops for calibration.
        max_drop: largest accepted loss of PSNR on Y against the Keras model, in dB.

    Raises:
        UserError: the model is not a super-resolution model, some of its quantizers are not uniform, or the file
            differs from the model.
    """
    from tflite_export.folding import NonUniformError
    from tflite_export.int_graph import with_metadata
    from tflite_export.lower import lower
    from tflite_export.verify import verify
    from tflite_export.writer import write
    from tfqnas import zoo
    from tfqnas.data import photos
    from tfqnas.graph.reading import sites_of
    from tfqnas.runs import model_files
    from tfqnas.tasks import SuperResolution
    from tfqnas.zoo.super_resolution import scale_of

    model = model_files.load_model(path)
    if (scale := scale_of(model)) == 1:
        raise UserError(
            f"`model={path}`: expected a super-resolution network for `dataset=photos`, which enlarges by DepthToSpace"
        )
    if (memory := 12 * count * size[0] * size[1] * (1 + scale**2)) > _MEMORY:  # float32 RGB, small and large
        raise UserError(
            f"`calibration_images={count}`: so many images of {size[0]} x {size[1]} take {memory / 1e9:,.0f} GB, "
            f"expected at most {_MEMORY / 1e9:.0f} GB: give fewer, or a smaller `input_size`"
        )
    if sites_of(model)[-1].quantizer is None:
        model = zoo.with_pixel_output(model)
    model = zoo.with_input_size(model, size)
    found = photos.load(data_dir)
    lows, _ = pairs(found.train, scale, size, count, seed=0)
    try:
        graph = lower(model, lows, calibration, storage=storage)
    except NonUniformError as error:
        raise UserError(f"{error}{exporting.uniform_choices(path)}") from None
    blob = write(graph)
    print(
        f"{model.name}: {len(graph.ops)} integer operations, {len(blob) / 1000:.1f} kB, {size[0]} x {size[1]} pixels "
        f"to {size[0] * scale} x {size[1] * scale}"
    )
    lows, highs = pairs(found.test, scale, size, COMPARED, seed=1)
    with Progress([("compare", 1.0)], stream=sys.stderr).part("compare") as part:
        result = verify(
            model,
            graph,
            blob,
            lows,
            highs,
            batch_size=_BATCH,
            update=lambda done: part.update(done / len(lows)),
            task=SuperResolution(scale=scale),
        )
    print(result)
    if problem := result.problem(max_drop):
        raise UserError(f"{output} is not written: {problem}")
    write_atomically(output, write(with_metadata(graph, psnr=result.record())))
    print(f"written: {output}")


def pairs(
    photos: Sequence[np.ndarray], scale: int, size: tuple[int, int], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Crops of downscaled photos, float32 `(x - 128) / 128`, and the same crops of the photos, uint8.

    Args:
        photos: list of uint8 (h, w, 3), which are taken in turn.
        scale: the factor by which photos are downscaled.
        size: (height, width) of the crops of the downscaled photos.
        count: number of crops.
        seed: int.

    Raises:
        UserError: a photo is too small.
    """
    from tfqnas.data import restoration

    smaller = [restoration.downscaled(photo, scale) for photo in photos]
    if any(low.shape[0] < size[0] or low.shape[1] < size[1] for low in smaller):
        height, width = (min(low.shape[axis] for low in smaller) for axis in (0, 1))
        expected = f"at most {height},{width}, the smallest of the photos at 1/{scale} of their size"
        raise SettingError("input_size", expected, size)
    rng = np.random.default_rng((seed, 4))
    lows, highs = [], []
    for number in range(count):
        low = smaller[number % len(smaller)]
        top, left = (rng.integers(low.shape[axis] - size[axis] + 1) for axis in (0, 1))
        bottom, right = top + size[0], left + size[1]
        lows.append(low[top:bottom, left:right])
        highs.append(photos[number % len(smaller)][top * scale : bottom * scale, left * scale : right * scale])
    return (np.stack(lows).astype(np.float32) - 128.0) / 128.0, np.stack(highs)

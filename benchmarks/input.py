"""Images a second of each way to read photos for training, as ratios to decoding whole images before cropping.

    python benchmarks/input.py              # 256 JPEGs of 500 x 375 px (crops of two photos), 224 px, batch 64
    python benchmarks/input.py --short      # a few small ones, to see that everything runs

All ways make the same batches with random resized crop (area 8 to 100%), flip, brightness and saturation. They are
read in turn (A B A B ...) in one process, so that other load on the machine affects all of them. A ratio is the
median of the rounds' ratios, and is above 1 if a way is faster than the first one.

decode, then crop    files of a folder, fully decoded (`tf.io.decode_image`), cropped and resized
crop while decoding  the same files, of which only the blocks of the crop are decoded (`tf.image.decode_and_crop_jpeg`)
  TFRecord           the same from TFRecord files by number, as TFDS prepares them (SkipDecoding)
  ArrayRecord        the same from ArrayRecord files
in memory            uint8 arrays of 224 x 224 px, cropped by an affine map without decoding
"""

import argparse
import io
import pathlib
import tempfile
import time

import numpy as np
import PIL.Image
from table import Row, show, versions


def photos(count, width, height):
    """Files of `count` JPEGs, crops of two photos at random scales."""
    import sklearn.datasets

    rng = np.random.default_rng(0)
    sources = [PIL.Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images]
    for i in range(count):
        source = sources[i % len(sources)]
        scale = rng.uniform(0.5, 1.0)
        w, h = int(source.width * scale), int(source.height * scale)
        left, top = rng.integers(0, source.width - w + 1), rng.integers(0, source.height - h + 1)
        file = io.BytesIO()
        source.crop((left, top, left + w, top + h)).resize((width, height)).save(file, "JPEG", quality=90)
        yield file.getvalue()


def folder(directory, files):
    for i, file in enumerate(files):
        path = directory / f"{'ab'[i % 2]}" / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)


def tfds_class(directory, files):
    """The TFDS builder class of the photos."""
    import tensorflow_datasets as tfds

    class Photos(tfds.core.GeneratorBasedBuilder):
        """The photos."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = directory  # where TFDS looks for a description; by default it takes this file for a package

        def _info(self):
            kinds = tfds.features
            features = {"image": kinds.Image(encoding_format="jpeg"), "label": kinds.ClassLabel(num_classes=2)}
            return self.dataset_info_from_configs(features=kinds.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for i, file in enumerate(files):
                yield i, {"image": io.BytesIO(file), "label": i % 2}

    tfds.disable_progress_bar()
    return Photos


def splits(directory, files):
    """The training split of each way to store the files."""
    from tfqnas.data.data_config import DataConfig
    from tfqnas.data.dataset import load

    folder(directory / "folder", files)
    found = {"folder": load(DataConfig(dataset=str(directory / "folder")), held_out=1).train}
    made = tfds_class(directory, files)
    for file_format in ("tfrecord", "array_record"):
        made(data_dir=directory / file_format, file_format=file_format).download_and_prepare()
        config = DataConfig(dataset="photos", data_dir=str(directory / file_format))
        found[file_format] = load(config, held_out=1).train
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few small images: the ratios mean nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of measurement; 0: 7, or 2 with --short")
    arguments = parser.parse_args()
    full, short = (256, (500, 375), 224, 64, 6), (16, (50, 37), 32, 4, 2)
    count, size, resolution, batch, steps = short if arguments.short else full
    rounds = arguments.rounds or (2 if arguments.short else 7)

    from tfqnas.data.augment import Augmentation
    from tfqnas.data.images import EvaluationImages, decode_cropped, decode_then_crop
    from tfqnas.data.pipeline import training_batches
    from tfqnas.data.splits import Arrays

    augmentation = Augmentation(crop_area=0.08, flip=True, brightness=32 / 255, saturation=0.5)
    with tempfile.TemporaryDirectory() as directory:
        files = list(photos(count, *size))
        stored = splits(pathlib.Path(directory), files)
        pixels = np.concatenate(list(EvaluationImages(stored["folder"], resolution).batches(count)))
        arrays = Arrays(np.uint8(pixels * 128 + 128), stored["folder"].labels)
        ways = {
            "decode, then crop": (stored["folder"], decode_then_crop),
            "crop while decoding": (stored["folder"], decode_cropped),
            "  TFRecord": (stored["tfrecord"], decode_cropped),
            "  ArrayRecord": (stored["array_record"], decode_cropped),
            "in memory": (arrays, None),
        }
        rates = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, (split, decode) in ways.items():
                rate = images_a_second(
                    training_batches(split, resolution, batch, number, 0, steps + 1, augmentation, decode=decode), batch
                )
                if number:  # the first round warms up
                    rates[name].append(rate)
    print(
        f"{versions('tensorflow', 'tensorflow-datasets', 'numpy')}\n"
        f"{count} JPEGs of {size[0]} x {size[1]} px, {resolution} px, batch {batch}, {rounds} rounds"
    )
    show(rows(rates))


def images_a_second(batches, batch):
    """Of an endless training: from the first batch, which starts the pipeline, to the last."""
    made = iter(batches)
    next(made)
    began, count = time.perf_counter(), 0
    for _ in made:
        count += batch
    return count / (time.perf_counter() - began)


def rows(rates):
    base = np.array(rates["decode, then crop"])
    for name, values in rates.items():
        ratio = np.array(values) / base
        low, middle, high = np.percentile(ratio, (25, 50, 75))
        yield Row(name, middle, f"{low:.3f} to {high:.3f}   {np.median(values):,.0f} images a second")


if __name__ == "__main__":
    main()

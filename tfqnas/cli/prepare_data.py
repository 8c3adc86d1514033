"""Downloads and prepares a data set through TensorFlow Datasets (TFDS), or says what to do.

python tools/prepare_data.py fashion_mnist
python tools/prepare_data.py cifar10 --data_dir=/data/tfds
python tools/prepare_data.py photos     # whether the photographs for super-resolution are there
"""

from absl import flags

from tfqnas.cli import command
from tfqnas.errors import UserError

DATA_DIR = flags.DEFINE_string("data_dir", "", "directory of prepared TFDS data sets; by default that of TFDS")
# The words that this command takes besides flags.
WORDS = "NAME"


def main(words: list[str]) -> None:
    if len(words) != 1:
        raise UserError("expected one name: tools/prepare_data.py NAME [--data_dir=DIRECTORY]")
    if words[0] == "photos":
        from tfqnas.data import photos

        found, where = photos.load(DATA_DIR.value), photos.directory(DATA_DIR.value)
        print(
            f"photos: train {len(found.train)}, test {len(found.test)} in {where}; next: tools/train_float.py "
            "--net=edsr --dataset=photos ..."
        )
        return
    from tfqnas.data.prepare import check, prepare

    made = check(words[0], DATA_DIR.value, print)
    if not made.is_prepared():
        command.import_tensorflow()
        prepare(made)
    splits = ", ".join(f"{name} {split.num_examples}" for name, split in made.info.splits.items())
    print(f"{words[0]}: {splits} images in {made.data_dir}; next: tools/run.py --dataset={words[0]} ...")

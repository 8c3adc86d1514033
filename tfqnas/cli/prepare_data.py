"""Downloads and prepares a data set through TensorFlow Datasets (TFDS), or tells how to do it by hand.

tfqnas prepare-data fashion_mnist
tfqnas prepare-data cifar10 --data_dir=/data/tfds
tfqnas prepare-data photos     # checks that the photographs for super-resolution are present
"""

from tfqnas.cli import command
from tfqnas.errors import UserError

FLAGS = command.Flags()
DATA_DIR = FLAGS.string("data_dir", "", "directory of prepared TFDS data sets; by default that of TFDS")
# The words that this command takes besides flags.
WORDS = "NAME"


def main(words: list[str]) -> None:
    if len(words) != 1:
        raise UserError("expected one name: tfqnas prepare-data NAME [--data_dir=DIRECTORY]")
    if words[0] == "photos":
        from tfqnas.data import photos

        found, where = photos.load(DATA_DIR.value), photos.directory(DATA_DIR.value)
        print(
            f"photos: train {len(found.train)}, test {len(found.test)} in {where}; next: tfqnas train-float "
            "--net=edsr --dataset=photos ..."
        )
        return
    from tfqnas.data.prepare import check, prepare

    made = check(words[0], DATA_DIR.value, print)
    if not made.is_prepared():
        command.import_tensorflow()
        prepare(made)
    splits = ", ".join(f"{name} {split.num_examples}" for name, split in made.info.splits.items())
    print(f"{words[0]}: {splits} images in {made.data_dir}; next: tfqnas run --dataset={words[0]} ...")

"""Downloads and prepares a data set through TensorFlow Datasets (TFDS), or says what to do.

python tools/prepare_data.py fashion_mnist
python tools/prepare_data.py cifar10 --data_dir=/data/tfds
python tools/prepare_data.py photos     # 21 and 7 photographs, for super-resolution and for calibration
"""

from absl import flags

from tfqnas.errors import UserError
from tfqnas_tools import common

DATA_DIR = flags.DEFINE_string("data_dir", "", "directory of prepared TFDS data sets; by default that of TFDS")


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise UserError("expected one name: tools/prepare_data.py NAME [--data_dir=DIRECTORY]")
    if argv[1] == "photos":
        from tfqnas.data import photos
        from tfqnas.data.prepare_photos import prepare_photos

        made, where = prepare_photos(DATA_DIR.value), photos.directory(DATA_DIR.value)
        print(
            f"photos: train {len(made['train'])}, test {len(made['test'])} in {where}; next: tools/train_float.py "
            "--net=edsr --dataset=photos ..."
        )
        return
    from tfqnas.data.prepare import check, prepare

    made = check(argv[1], DATA_DIR.value, print)
    if not made.is_prepared():
        common.import_tensorflow()
        prepare(made)
    splits = ", ".join(f"{name} {split.num_examples}" for name, split in made.info.splits.items())
    print(f"{argv[1]}: {splits} images in {made.data_dir}; next: tools/run.py --dataset={argv[1]} ...")


def cli() -> None:
    common.run(main)


if __name__ == "__main__":
    cli()

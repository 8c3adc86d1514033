"""Trains a float network to quantize: a small classifier, or super-resolution on photos.

    python tools/train_float.py --net=mobilenet_small --dataset=fashion_mnist --flip --output=runs/mobilenet.keras
    python tools/prepare_data.py photos
    python tools/train_float.py --net=edsr --dataset=photos --scale=2 --output=runs/edsr_x2.keras

It shows progress and time left, continues from its last checkpoint when the same command is given after a kill, and
ends with the figures of the test images: accuracy, or PSNR and SSIM on Y beside those of bicubic interpolation.
"""

from tfqnas.zoo.config import FloatConfig
from tfqnas_tools import common

common.define_flags(FloatConfig)


def main(argv: list[str]) -> None:
    del argv
    config = common.from_flags(FloatConfig)
    common.import_tensorflow()
    from tfqnas.zoo.training import train_float

    common.keeps(f"{config.output}.checkpoints")
    train_float(config)


def cli() -> None:
    common.run(main)


if __name__ == "__main__":
    cli()

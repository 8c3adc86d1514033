"""Trains a float network to quantize: a small classifier, super-resolution on photos, or segmentation.

    tfqnas train-float --net=mobilenet_small --dataset=fashion_mnist --flip --output=runs/mobilenet.keras
    python scripts/data_from_packages.py photos    # in a checkout, on Debian or Ubuntu
    tfqnas train-float --net=edsr --dataset=photos --scale=2 --output=runs/edsr_x2.keras
    tfqnas train-float --net=segmenter_small --dataset=scenes/ --flip --output=runs/scenes.keras

The command shows progress and the time left. If it is killed, the same command continues from the last checkpoint. In
the end it prints the results on the test images: accuracy, mean IoU, or PSNR and SSIM on Y beside those of bicubic
interpolation.
"""

from tfqnas.cli import command
from tfqnas.zoo.float_config import FloatConfig

FLAGS = command.Flags()
command.define_flags(FloatConfig, FLAGS)


def main() -> None:
    config = command.from_flags(FloatConfig, FLAGS)
    command.import_tensorflow()
    from tfqnas.zoo.training import train_float

    command.keeps(f"{config.output}.checkpoints")
    train_float(config)

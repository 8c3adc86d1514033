"""python tools/train_float.py: the same as `tfqnas train-float`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("train-float")

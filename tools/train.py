"""python tools/train.py: the same as `tfqnas train`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("train")

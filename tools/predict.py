"""python tools/predict.py: the same as `tfqnas predict`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("predict")

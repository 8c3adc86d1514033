"""python tools/evaluate.py: the same as `tfqnas evaluate`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("evaluate")

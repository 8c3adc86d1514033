"""python tools/analyze.py: the same as `tfqnas analyze`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("analyze")

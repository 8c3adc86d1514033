"""python tools/compare_fronts.py: the same as `tfqnas compare`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("compare")

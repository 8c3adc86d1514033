"""python tools/prepare_data.py: the same as `tfqnas prepare-data`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("prepare-data")

"""python tools/search.py: the same as `tfqnas search`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("search")

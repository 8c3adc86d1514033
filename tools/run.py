"""python tools/run.py: the same as `tfqnas run`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("run")

"""python tools/android_benchmark.py: the same as `tfqnas benchmark`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("benchmark")

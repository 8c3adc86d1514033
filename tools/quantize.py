"""python tools/quantize.py: the same as `tfqnas quantize`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("quantize")

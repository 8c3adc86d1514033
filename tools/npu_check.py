"""python tools/npu_check.py: the same as `tfqnas npu-check`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("npu-check")

"""python tools/export_tflite.py: the same as `tfqnas export`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("export")

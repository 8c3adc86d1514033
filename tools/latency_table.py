"""python tools/latency_table.py: the same as `tfqnas latency-table`."""

from tfqnas.cli.main import run

if __name__ == "__main__":
    run("latency-table")

"""Shows the fronts of several runs on the same data, such as mixed and single precision, in a picture and a table.

tfqnas compare --run_dirs=runs/fashion,runs/fashion_qfa --output=fronts.png
"""

from tfqnas.cli import command
from tfqnas.errors import SettingError

FLAGS = command.Flags()
RUN_DIRS = FLAGS.list("run_dirs", None, "run directories with searches on the same data", required=True)
COST = FLAGS.string("cost", "effective_mflops", "cost on the horizontal axis, one that the searches know")
OUTPUT = FLAGS.string("output", "fronts.png", "PNG file to write")


def main() -> None:
    if not OUTPUT.value.endswith(".png"):
        raise SettingError("output", "a file whose name ends with .png", OUTPUT.value)
    command.writes(OUTPUT.value, "output", files=[OUTPUT.value])
    command.import_tensorflow()
    from tfqnas.runs.comparison import Comparison

    comparison = Comparison(RUN_DIRS.value, COST.value)
    print(comparison.table())
    print(f"\n{comparison.figure(OUTPUT.value)}")

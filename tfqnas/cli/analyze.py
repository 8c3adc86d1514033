"""Makes the paper's analyses of search, shapes and rankings at each bit width for your own supernets.

    tfqnas analyze --run_dir=runs/fashion [--only=ranking,alone] [--subnets=60] [--alone=12]

The analyses show fronts at lower bit widths (OQA, figures 2b and 5), the accuracy that quantization costs shallow-fat
and deep-slim subnets (figure 4), depth along the fronts (figure 6), and the rank agreement between bit widths and, with
--alone, with subnets that are trained alone. They compare with the run's float supernet, which
--float_supernet_epochs=5 trains first in the same run directory, or else with the highest bit width. The command writes
analysis/*.json, analysis/*.png and report.html in the run directory. The same command continues if it was stopped.
"""

from tfqnas.cli import command
from tfqnas.runs.analyses.analysis_config import AnalysisConfig

FLAGS = command.Flags()
RUN_DIR = FLAGS.string("run_dir", None, "directory of a run that tfqnas train made", required=True)
command.define_flags(AnalysisConfig, FLAGS)


def main() -> None:
    config = command.from_flags(AnalysisConfig, FLAGS)
    command.import_tensorflow()
    from tfqnas.runs.analyses import analysing
    from tfqnas.runs.family import Family
    from tfqnas.runs.run import Run
    from tfqnas.search.search_config import SearchConfig
    from tfqnas.train.stages import label

    command.changes(RUN_DIR.value)
    command.keeps(RUN_DIR.value)
    found = analysing.analyse(Run.existing(RUN_DIR.value), config)
    print(analysing.in_text(found))
    run = Run.existing(RUN_DIR.value)  # it may have a float supernet now
    print(f"\npictures and numbers: {run.directory}/analysis")
    if any((run.directory / "search" / label(bits) / "pareto.json").exists() for bits in run.bit_widths):
        Family(run, SearchConfig()).report()
        print(f"{run.directory}/report.html")

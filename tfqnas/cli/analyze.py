"""The paper's analyses on your own supernets: what search, shapes and rankings do at each bit width.

    tfqnas analyze --run_dir=runs/fashion [--only=ranking,alone] [--subnets=60] [--alone=12]

Fronts at lower bit widths (OQA, figures 2b and 5), what quantization costs shallow-fat and deep-slim subnets (figure
4), depth along the fronts (figure 6), agreement of rankings between bit widths and, with --alone, with subnets that are
trained alone. Compared is with floating point where the run has a float supernet, which --float_supernet_epochs=5
trains first, in the same run directory; else with the highest bit width. Writes analysis/*.json and analysis/*.png in
the run directory, and report.html with them. The same command continues what was stopped.
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

    command.keeps(RUN_DIR.value)
    found = analysing.analyse(Run.existing(RUN_DIR.value), config)
    print(analysing.in_text(found))
    run = Run.existing(RUN_DIR.value)  # it may have a float supernet now
    print(f"\npictures and numbers: {run.directory}/analysis")
    if any((run.directory / "search" / label(bits) / "pareto.json").exists() for bits in run.bit_widths):
        Family(run, SearchConfig()).report()
        print(f"{run.directory}/report.html")

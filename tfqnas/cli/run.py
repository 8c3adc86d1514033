"""From images to a family of models: trains, inherits, searches and extracts in one run directory.

    python tools/run.py --flagfile=configs/digits_oqa.cfg

The same command continues a run that was stopped.
"""

from tfqnas.cli import command
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig

command.define_flags(RunConfig)
command.define_flags(SearchConfig)


def main() -> None:
    config, search_config = command.from_flags(RunConfig), command.from_flags(SearchConfig)
    command.import_tensorflow()
    from tfqnas.runs.family import Family
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import make_strategy, train

    strategy = make_strategy(config.distribution)
    run = Run.create(config)
    command.keeps(run.directory)
    family = Family(run, search_config)
    progress = family.progress(run.stages)
    train(run, progress, strategy)
    family.make(run.bit_widths, progress)
    print(family.summary())

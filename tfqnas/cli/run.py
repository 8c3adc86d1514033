"""Trains supernets with bit inheritance, searches them and extracts a family of models, in one run directory.

    tfqnas run --flagfile=digits_oqa

The same command continues a run that was stopped.
"""

from tfqnas.cli import command
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig

FLAGS = command.Flags()
command.define_flags(RunConfig, FLAGS)
command.define_flags(SearchConfig, FLAGS)


def main() -> None:
    config, search_config = command.from_flags(RunConfig, FLAGS), command.from_flags(SearchConfig, FLAGS)
    cluster = command.trains(config)
    command.import_tensorflow()
    from tfqnas.runs.family import Family
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import make_strategy, train

    strategy, writes = make_strategy(config.distribution, cluster), cluster is None or cluster.writes
    run = Run.create(config, writes)
    command.keeps(run.directory)
    family = Family(run, search_config)
    progress = family.progress(run.stages)
    train(run, progress, strategy)
    if not writes:  # the first worker does the rest
        return
    family.make(run.bit_widths, progress)
    print(family.summary())

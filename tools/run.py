"""From images to a family of models: trains, inherits, searches and extracts in one run directory.

    python tools/run.py --flagfile=configs/digits_oqa.cfg

The same command continues a run that was stopped.
"""

from tfqnas.search.config import SearchConfig
from tfqnas.train.config import RunConfig
from tfqnas_tools import common, exports

common.define_flags(RunConfig)
common.define_flags(SearchConfig)


def main(argv: list[str]) -> None:
    del argv
    config, search_config = common.from_flags(RunConfig), common.from_flags(SearchConfig)
    common.import_tensorflow()
    from tfqnas.family import Family
    from tfqnas.train.run import Run
    from tfqnas.train.training import make_strategy, train

    strategy = make_strategy(config.distribution)
    run = Run.create(config)
    common.keeps(run.directory)
    family = Family(run, search_config, exports.export_model)
    progress = family.progress(run.stages)
    train(run, progress, strategy)
    family.make(run.bit_widths, progress)
    print(family.summary())


def cli() -> None:
    common.run(main)


if __name__ == "__main__":
    cli()

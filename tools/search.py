"""Searches trained supernets for their Pareto fronts and extracts subnets of them.

    python tools/search.py --run_dir=runs/digits [--bits=2]

Writes search/b2/scored.jsonl and pareto.json, models/*.keras, pareto.png and report.html in the run directory.
"""

from absl import flags

from tfqnas.search.config import SearchConfig
from tfqnas_tools import common, exports

RUN_DIR = flags.DEFINE_string("run_dir", None, "directory of a run that tools/train.py made", required=True)
BITS = flags.DEFINE_list("bits", [], "bit widths to search; by default all of the run")
common.define_flags(SearchConfig)


def main(argv):
    del argv
    search_config = common.from_flags(SearchConfig)
    common.import_tensorflow()
    from tfqnas.errors import UserError
    from tfqnas.family import Family
    from tfqnas.train.run import Run

    run = Run.existing(RUN_DIR.value)
    if not all(b.isdecimal() and int(b) in run.config.bits for b in BITS.value):
        raise UserError(f"--bits: expected some of this run's {list(run.config.bits)}, received {BITS.value}")
    family = Family(run, search_config, exports.export_model)
    family.make([int(b) for b in BITS.value] or run.config.bits, family.progress())
    print(family.summary())


def cli():
    common.run(main)


if __name__ == "__main__":
    cli()

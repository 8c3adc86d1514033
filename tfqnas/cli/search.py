"""Searches trained supernets for their Pareto fronts and extracts subnets of them.

    tfqnas search --run_dir=runs/digits [--bits=2]

Writes search/b2/scored.jsonl and pareto.json, models/*.keras, pareto.png and report.html in the run directory. The same
command goes on where it was stopped.

A command with other settings, such as another limit, is another search. The one before it is set aside with its
models, as search/b2.1, b2.2 and so on; its own command brings it back. Full scores depend on the supernet alone: those
of all earlier searches of it that are within the limits are in the new one from the start (reused.jsonl), told to its
searcher, and cost nothing. So a second budget takes fewer new scores than the first, --search_budget=50, say.

On several machines, as keras-tuner's chief and workers, for one bit width at a time. The chief gives subnets out, keeps
the scores and does the rest; it may have a worker beside it. Workers need this package, the data set and the run
directory or a copy: config.json, space.json, checkpoints/supernet_b2. All subnets are shown all images: early stopping
is for one machine.

    export KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=5000
    KERASTUNER_TUNER_ID=chief tfqnas search --run_dir=runs/digits --bits=2
    KERASTUNER_TUNER_ID=worker1 tfqnas search --run_dir=runs/digits --bits=2
"""

from tfqnas.cli import command
from tfqnas.errors import SettingError
from tfqnas.integrations.keras_tuner.remote import role
from tfqnas.search.search_config import SearchConfig

FLAGS = command.Flags()
RUN_DIR = FLAGS.string("run_dir", None, "directory of a run that tfqnas train made", required=True)
BITS = FLAGS.list("bits", [], "bit widths to search, or mixed; by default all of the run")
command.define_flags(SearchConfig, FLAGS)


def main() -> None:
    search_config, part = command.from_flags(SearchConfig, FLAGS), role()
    if part and len(BITS.value) != 1:
        raise SettingError("bits", "one bit width for a search across machines", BITS.value)
    if part and search_config.workers > 1:
        raise SettingError("workers", "1 across machines", search_config.workers, ": start more workers")
    if part:
        command.refuse(["early_stopping"], "across machines", "a search on one machine")
    command.import_tensorflow()
    from tfqnas.runs.family import Family
    from tfqnas.runs.run import Run

    run = Run.existing(RUN_DIR.value)
    command.keeps(run.directory)
    all_bits = [command.bit_width(run, "bits", text) for text in BITS.value] or run.bit_widths
    find = None
    if part:
        from tfqnas.integrations.keras_tuner import served_search

        if part == "worker":
            served_search.work(run, all_bits[0])
            return
        find = served_search.find_with_workers
    family = Family(run, search_config, find)
    family.make(all_bits, family.progress(all_bits=all_bits))
    print(family.summary())

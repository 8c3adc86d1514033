"""Searches trained supernets for their Pareto fronts and extracts subnets of them.

    tfqnas search --run_dir=runs/digits [--bits=2]

The command writes search/b2/scored.jsonl and pareto.json, models/*.keras, pareto.png and report.html in the run
directory. The same command continues where it was stopped.

A command with other settings, such as another limit, starts another search. The earlier search is set aside with its
models as search/b2.1, b2.2 and so on, and its own command brings it back. Full scores depend only on the supernet, so
the new search begins with those of all earlier searches within its limits (reused.jsonl) at no cost. A second search
therefore needs fewer new scores than the first, for example --search_budget=50.

A search of one bit width can run on several machines as keras-tuner's chief and workers. The chief distributes subnets,
keeps the scores and does the rest; a worker may run on the same machine. Workers need this package, the data set and
the run directory or a copy of its json and csv files and checkpoints/supernet_b2. All subnets are scored on all
images, since early stopping works only on one machine.

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

    if part != "worker":
        command.changes(RUN_DIR.value)
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

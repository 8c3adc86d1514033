"""Common parts of the studies, which are a file of results that a study continues, and errors as a single line."""

import collections
import sys

from tfqnas.dqss.quantize_settings import TrainingSettings
from tfqnas.errors import UserError


def numbers(text):
    """A list of integers from a flag."""
    return [int(word) for word in text.split(",")]


def searched(model, task, config, images):
    """The `DqssResult` of a search in training, or after it with so many calibration images, as the settings are."""
    from tfqnas.dqss.post_training import search_post_training
    from tfqnas.dqss.training import search_training

    if isinstance(config, TrainingSettings):
        return search_training(model, task, config)
    return search_post_training(model, task.calibration(images, config.seed), config, task=task.task)


def chosen(result):
    """What is kept of a `DqssResult`, JSON data: its losses, and how many tensors have which strategy."""
    names = collections.Counter(choice.strategy for choice in result.choices)
    return {"losses": result.losses, "kept": result.kept, "strategies": dict(sorted(names.items()))}


def study(arguments, run, show):
    """Computes what a study lacks, unless `arguments.report`, and shows what is there; mistakes end it with a line."""
    try:
        if not arguments.report:
            run(arguments)
        show(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


def refuse_other_settings(rows, settings, path):
    """Raises UserError where a study would go on with results that other settings gave.

    Args:
        rows: of its file, those that this call would take as they are. settings: `{flag: value}` of this call.
    """
    for row in rows:
        theirs = row.get("settings", {})
        for name, value in settings.items():
            if name in theirs and theirs[name] != value:
                raise UserError(
                    f"--{name}={value}: {path} has results with --{name}={theirs[name]}: give the same, or "
                    "another --results"
                )

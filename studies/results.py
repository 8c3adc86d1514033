"""What the studies share: a file of results that is gone on with, and mistakes as a line."""

import sys

from tfqnas.errors import UserError


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

"""The campaign: what users get wrong, and what must come. It has no traceback, no hang and no silence.

The trials are data, in the modules `trials_*.py`. `pytest tests/campaign -k "predict and exif"` runs some of them; `-s`
shows the table. Commands that are killed in the midst of their work are in `tests/cli/kill_points_test.py`.
"""

import importlib
import pathlib
import shutil
from collections import Counter, defaultdict

import pytest

from tests.campaign import running
from tests.campaign.states import States
from tests.campaign.trials import right

pytestmark = pytest.mark.slow

AREAS = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("trials_*.py"))
TRIALS = [(area, trial) for area in AREAS for trial in importlib.import_module(f"tests.campaign.{area}").TRIALS]
outcomes: dict[str, Counter] = defaultdict(Counter)


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    def command(home, line):
        outcome = running.run(right(line), home)
        assert outcome.kind == "right result", outcome.output

    return States(tmp_path_factory.mktemp("states"), command)


@pytest.mark.parametrize(
    ("area", "trial"), TRIALS, ids=[f"{area.removeprefix('trials_')}-{trial.what[:100]}" for area, trial in TRIALS]
)
def test_trial(area, trial, states, tmp_path):
    states.give(trial.given, tmp_path)
    outcome = running.run(trial, tmp_path)
    outcomes[area.removeprefix("trials_")][outcome.kind] += 1
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert outcome.kind == ("right result" if trial.succeeds else "clear line"), (
        f"{outcome.kind}\ntfqnas {trial.what}\nexpected: {' ... '.join(trial.says)}\n{outcome.output}"
    )


def test_the_table(capsys):
    """After all trials."""
    with capsys.disabled():
        print(f"\n{running.table(outcomes)}")
    assert all(counter[kind] == 0 for counter in outcomes.values() for kind in running.OUTCOMES[2:])

"""Search through keras-tuner: the oracle with tuners that the tests play, then chief and workers as processes."""

import collections
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys

import grpc
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import tuner_process
from tuner_process import BUDGET, OBJECTIVES, SPACE, accuracy

from tests.processes import Process
from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.integrations.keras_tuner import remote
from tfqnas.integrations.keras_tuner.dispatch import Dispatch
from tfqnas.integrations.keras_tuner.remote import VARIABLES, Patient, address, role
from tfqnas.integrations.keras_tuner.tuner import SearcherOracle, SubnetTuner
from tfqnas.runs.searching import results_in
from tfqnas.search import Result, Searcher, run
from tfqnas.search.screened import Screened

# keras-tuner asks for the current thread's name in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:(currentThread|getName):DeprecationWarning")
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Chief:
    """An oracle in a directory, and what tuners do with it."""

    def __init__(
        self, directory, kind="nsga2", results=(), on_result=None, searcher=None, budget=BUDGET, batch="default"
    ):
        default, usual = tuner_process.parts(kind)
        batch = usual if batch == "default" else batch
        self.clock, self.said, self.new = Clock(), [], []
        self.oracle = SearcherOracle(
            searcher or default,
            OBJECTIVES,
            budget,
            batch,
            results,
            on_result or self.new.append,
            {"bits": 4},
            60,
            self.said.append,
            self.clock,
        )
        # The files' names are those of a chief that is started again.
        self.tuner = SubnetTuner(self.oracle, tuner_process.Fake(), directory, say=self.said.append)

    def asks(self, tuner_id):
        """`(status, architecture)` of a request."""
        trial = self.oracle.create_trial(tuner_id)
        return trial.status, arch_of(trial) if trial.status == "RUNNING" else None

    def ends(self, tuner_id, status="COMPLETED"):
        """The tuner reports what it has."""
        self.reports(self.oracle.ongoing_trials[tuner_id], status)

    def reports(self, trial, status="COMPLETED"):
        if status == "COMPLETED":
            self.oracle.update_trial(trial.trial_id, {"accuracy": accuracy(arch_of(trial)), "images": 300})
        trial.status = status
        self.oracle.end_trial(trial)

    def saved(self):
        self.tuner.save()  # as `search` does
        return self


def arch_of(trial):
    return Arch.from_json(trial.hyperparameters.values["architecture"])


def play(chief, seed, steps=10**6):
    """Three tuners that are fast and slow by turns, until all are stopped; yields what is given out."""
    rng, busy, stopped = random.Random(seed), set(chief.oracle.ongoing_trials), set()
    for _ in range(steps):
        tuner_id = rng.choice("abc")
        if tuner_id in busy:
            busy.remove(tuner_id)
            chief.ends(tuner_id)
        else:
            status, arch = chief.asks(tuner_id)
            if status == "STOPPED":
                stopped.add(tuner_id)
            elif status == "RUNNING":
                busy.add(tuner_id)
                yield arch
        if len(stopped) == 3:
            return


def straight(kind):
    """What the loop in one process scores, in order."""
    searcher, batch = tuner_process.parts(kind)
    results = []
    run(searcher, accuracy, OBJECTIVES.record, BUDGET, results.append, batch=batch or 1, by="params")
    return results


# -- The oracle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nsga2", "coarse_to_fine"])
def test_one_tuner_scores_what_the_loop_scores(kind, tmp_path):
    chief, expected = Chief(tmp_path, kind), straight(kind)
    chief.tuner.search()
    assert [(r.arch, r.accuracy, r.costs) for r in chief.new] == [(r.arch, r.accuracy, r.costs) for r in expected]
    assert all(result.extra == {"images": 300} for result in chief.new)
    assert chief.oracle.get_best_trials()[0].score == max(result.accuracy for result in expected)


@pytest.mark.parametrize("kind", ["nsga2", "coarse_to_fine"])
def test_with_a_predictor_as_well(kind, tmp_path):
    class Predictor:
        def fit(self, codes, accuracies, counted):
            pass

        def __call__(self, codes):
            return codes.sum(axis=1)

    def screened():
        return Screened(tuner_process.parts(kind)[0], OBJECTIVES, Predictor(), factor=3, first=15)

    expected, batch = [], 1 if kind == "nsga2" else screened().generation
    run(screened(), accuracy, OBJECTIVES.record, BUDGET, expected.append, batch=batch, by="params")
    chief = Chief(tmp_path, searcher=screened(), batch=None if kind == "nsga2" else batch)
    assert len(list(play(chief, 0))) == len({r.arch for r in chief.new}) >= (40 if kind == "nsga2" else 25)
    again = Chief(tmp_path / "one", searcher=screened(), batch=None if kind == "nsga2" else batch)
    again.tuner.search()
    assert [r.arch for r in again.new] == [r.arch for r in expected]
    assert kind == "nsga2" or {r.arch for r in chief.new} == {r.arch for r in expected}


@pytest.mark.parametrize("seed", range(3))
def test_in_phases_the_number_of_tuners_and_their_pace_decide_nothing(seed, tmp_path):
    assert list(play(Chief(tmp_path, "coarse_to_fine"), seed)) == [r.arch for r in straight("coarse_to_fine")]


@pytest.mark.parametrize("seed", range(3))
def test_many_tuners_score_everything_once_within_the_budget(seed, tmp_path):
    chief = Chief(tmp_path)
    given = list(play(chief, seed))
    assert len(given) == len(set(given)) == BUDGET
    assert {r.arch: r.accuracy for r in chief.new} == {arch: accuracy(arch) for arch in given}
    assert chief.oracle.over() and not chief.oracle.ongoing_trials


def test_a_phase_is_all_told_before_the_next_begins(tmp_path):
    chief, phase = Chief(tmp_path, "coarse_to_fine"), 3 * 8
    tuners = [str(i) for i in range(phase)]
    assert [chief.asks(tuner)[0] for tuner in tuners] == ["RUNNING"] * phase
    for tuner in tuners:
        assert chief.asks("idle") == ("IDLE", None)
        chief.ends(tuner)
    assert chief.asks("idle")[0] == "RUNNING"


def test_nobody_is_stopped_while_somebody_may_have_to_take_over(tmp_path):
    chief = Chief(tmp_path, budget=2)
    chief.asks("a"), chief.asks("b")
    chief.ends("a")
    assert chief.asks("a") == ("IDLE", None) and not chief.oracle.over()
    chief.ends("b")
    assert [chief.asks(tuner)[0] for tuner in "ab"] == ["STOPPED"] * 2 and chief.oracle.over()


def test_what_is_known_is_told_and_not_given_out(tmp_path):
    known = straight("nsga2")[:25]
    chief = Chief(tmp_path, results=known)
    chief.tuner.search()
    assert [r.arch for r in known + chief.new] == [r.arch for r in straight("nsga2")]


@pytest.mark.parametrize("kind", ["nsga2", "coarse_to_fine"])
@pytest.mark.parametrize("steps", [5, 40, 71])
def test_a_chief_that_is_started_again_goes_on_as_if_it_had_never_stopped(kind, steps, tmp_path):
    chief = Chief(tmp_path / "a", kind).saved()
    given = list(play(chief, 7, steps))
    again = Chief(tmp_path / "a", kind, results=chief.new)
    assert again.oracle.ongoing_trials.keys() == chief.oracle.ongoing_trials.keys()
    rest = list(play(again, 8))
    assert rest == list(play(chief, 8))
    assert len(given + rest) == len(set(given + rest)) == BUDGET if kind == "nsga2" else len(straight(kind))
    assert len(chief.oracle.trials) == len(again.oracle.trials)


def test_a_kill_between_score_and_state_loses_and_repeats_nothing(tmp_path):
    chief = Chief(tmp_path).saved()
    given = list(play(chief, 0, 30))
    (tuner_id, *_) = chief.oracle.ongoing_trials
    state = (tmp_path / "keras_tuner" / "oracle.json").read_text()
    chief.ends(tuner_id)
    (tmp_path / "keras_tuner" / "oracle.json").write_text(state)
    for file in (tmp_path / "keras_tuner").glob("trial_*/trial.json"):
        file.write_text(file.read_text()[:50])  # keras-tuner writes in place
    again = Chief(tmp_path, results=chief.new)
    assert tuner_id not in again.oracle.ongoing_trials
    rest = list(play(again, 1))
    assert len(set(given + rest)) == len(given + rest) == BUDGET
    assert len(chief.new + again.new) == BUDGET


def test_without_its_state_a_chief_still_scores_nothing_again(tmp_path):
    chief = Chief(tmp_path).saved()
    given = set(play(chief, 0, 60)) - {arch_of(trial) for trial in chief.oracle.ongoing_trials.values()}
    (tmp_path / "keras_tuner" / "oracle.json").unlink()
    assert not given & set(play(Chief(tmp_path, results=chief.new), 1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:60],
        lambda text: "[]",
        lambda text: text.replace('"running"', '"walking"'),
        lambda text: re.sub(r'"start_order": \[', '"start_order": 3, "x": [', text),
        lambda text: re.sub(r'"history": \[', '"history": null, "x": [', text),
    ],
)
def test_a_damaged_state_is_refused_with_what_to_remove(damage, tmp_path):
    chief = Chief(tmp_path).saved()
    list(play(chief, 0, 10))
    path = tmp_path / "keras_tuner" / "oracle.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"oracle\.json: not the state .* remove .*keras_tuner, and the search goes on"):
        Chief(tmp_path, results=chief.new)


def test_a_lost_line_of_the_log_is_scored_again(tmp_path):
    chief = Chief(tmp_path).saved()
    given = list(play(chief, 0, 60))
    lost = chief.new[4].arch
    again = Chief(tmp_path, results=[result for result in chief.new if result.arch != lost])
    rest = list(play(again, 1))
    assert lost in rest and not (set(rest) - {lost}) & set(given)


def test_what_a_silent_tuner_has_goes_to_another(tmp_path):
    chief = Chief(tmp_path)
    _, arch = chief.asks("dead")
    first = chief.oracle.ongoing_trials["dead"]
    chief.clock.now = 59
    assert chief.asks("b")[1] != arch
    chief.ends("b")
    chief.clock.now = 61
    assert chief.asks("b") == ("RUNNING", arch)
    chief.ends("b")
    chief.reports(first)  # it was alive after all
    assert [r.arch for r in chief.new].count(arch) == 1
    assert any("dead" in line and "b takes over" in line for line in chief.said)
    assert not chief.oracle.over() and chief.oracle.tuner_ids == {"b"}


def test_signs_of_life_keep_a_tuners_trial(tmp_path):
    chief = Chief(tmp_path)
    _, arch = chief.asks("slow")
    trial_id = chief.oracle.ongoing_trials["slow"].trial_id
    for now in range(0, 300, 50):
        chief.clock.now = now
        chief.oracle.get_trial(trial_id)
        assert chief.asks("b")[1] != arch
        chief.ends("b")


def test_a_searcher_that_thinks_long_makes_nobody_silent(tmp_path):
    class Slow(Searcher):
        def ask(self, n):
            chief.clock.now += 100
            return [SPACE.sample(rng)]

    from numpy.random import default_rng

    rng = default_rng(0)
    chief = Chief(tmp_path, searcher=Slow())
    archs = [chief.asks(tuner)[1] for tuner in "abc"]
    assert len(set(archs)) == 3


def test_dead_tuners_do_not_keep_a_chief_from_ending(tmp_path):
    chief = Chief(tmp_path, budget=1)
    chief.asks("a"), chief.asks("b")
    chief.ends("a")
    assert not chief.oracle.over()
    chief.clock.now = 61
    assert chief.oracle.over()


def test_a_chief_that_is_started_again_waits_until_all_its_tuners_know_of_the_end(tmp_path):
    chief = Chief(tmp_path, budget=4).saved()
    chief.asks("a"), chief.asks("b")
    again = Chief(tmp_path, budget=4, results=chief.new)
    again.ends("b")  # what it had; it asks for more when others have scored the rest
    while again.asks("a")[0] == "RUNNING":
        again.ends("a")
    assert len(again.new) == 4 and not again.oracle.over() and again.oracle.tuner_ids == {"b"}
    last = Chief(tmp_path, budget=4, results=again.new)  # and once more
    assert not last.oracle.over()
    assert last.asks("b")[0] == "STOPPED" and last.oracle.over()
    assert Chief(tmp_path, budget=4, results=again.new).oracle.over()  # at once: nobody is there


def test_a_chief_that_is_started_again_does_not_wait_for_the_dead(tmp_path):
    chief = Chief(tmp_path, budget=2).saved()
    chief.asks("a"), chief.asks("b")
    chief.ends("a"), chief.asks("idle")
    again = Chief(tmp_path, budget=2, results=chief.new)
    assert again.oracle.tuner_ids == {"a", "b", "idle"}
    again.ends("b")
    assert [again.asks(tuner)[0] for tuner in ("a", "b")] == ["STOPPED"] * 2 and not again.oracle.over()
    again.clock.now = 61
    assert again.oracle.over() and any("idle has not been heard of" in line for line in again.said)


def test_a_subnet_that_fails_is_tried_by_others_and_then_ends_the_search(tmp_path):
    chief = Chief(tmp_path)
    _, arch = chief.asks("a")
    for tuner in "abc":
        assert chief.asks(tuner) == ("RUNNING", arch)
        chief.ends(tuner, "INVALID")
    assert [chief.asks(tuner)[0] for tuner in "abc"] == ["STOPPED"] * 3 and chief.oracle.over()
    with pytest.raises(UserError, match=f"{arch.key}: scoring it has failed 3 times"):
        chief.tuner.search()


def test_an_exception_in_the_chief_ends_the_search_and_is_raised(tmp_path):
    """keras-tuner would keep its lock, and the chief would stand for ever."""

    def full(result):
        raise OSError(28, "No space left on device")

    chief = Chief(tmp_path, on_result=full)
    chief.asks("a"), chief.asks("b")
    chief.ends("a")
    assert chief.asks("a")[0] == "STOPPED" and not chief.oracle.over()
    chief.ends("b")
    assert chief.asks("b")[0] == "STOPPED" and chief.oracle.over()
    with pytest.raises(OSError, match="No space left"):
        chief.tuner.search()


def test_a_searchers_complaint_is_raised(tmp_path):
    class Unable(Searcher):
        def ask(self, n):
            raise ValueError("bin 1 cannot be filled")

    with pytest.raises(ValueError, match="bin 1 cannot be filled"):
        Chief(tmp_path, searcher=Unable()).tuner.search()


def test_a_worker_whose_scoring_fails_says_why(tmp_path):
    class Broken:
        def score(self, archs, rivals=None):
            raise ArithmeticError("as the test wants it")

    chief = Chief(tmp_path)
    tuner = SubnetTuner(chief.oracle, Broken(), tmp_path)
    with pytest.raises(UserError, match=r"scoring it has failed\n(.|\n)*ArithmeticError: as the test wants it"):
        tuner.search()


def test_scores_of_a_search_that_is_over_are_not_taken_for_those_of_another(tmp_path):
    old, new = Chief(tmp_path / "old"), Chief(tmp_path / "new", searcher=tuner_process.parts("coarse_to_fine")[0])
    old.asks("first"), new.asks("first")  # both begin with the smallest
    old.asks("a"), new.asks("b")
    trial = old.oracle.ongoing_trials["a"]
    assert trial.trial_id == new.oracle.ongoing_trials["b"].trial_id
    new.oracle.end_trial(trial)
    assert not new.new and "b" in new.oracle.ongoing_trials
    assert new.oracle.get_trial("9999").status == "FAILED"


def test_reports_of_keras_tuner_show_the_architecture(tmp_path, capsys):
    chief = Chief(tmp_path, budget=3)
    chief.tuner.search()
    chief.tuner.results_summary(1)
    best = max(chief.new, key=lambda result: result.accuracy)
    out = capsys.readouterr().out
    assert f"architecture: {best.arch.to_json()}" in out and "bits: 4" in out and f"Score: {best.accuracy}" in out
    assert arch_of(chief.oracle.get_best_trials()[0]) == best.arch


# -- Dispatch ------------------------------------------------------------------------------------------------


class Listed(Searcher):
    """Gives lists, one at a request."""

    def __init__(self, *lists):
        self.lists, self.told = list(lists), []

    def ask(self, n):
        return self.lists.pop(0) if self.lists else []

    def tell(self, archs, scores):
        self.told.append(archs)


@pytest.fixture
def archs(rng):
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(9)))


def test_a_searcher_with_nothing_new_is_asked_again_when_it_has_learnt(archs):
    dispatch = Dispatch(Listed(archs[:1], [], archs[1:2]), 10)
    assert [dispatch.next(), dispatch.next(), dispatch.next()] == [archs[0], None, None]
    dispatch.tell(archs[0], 0.5)
    assert dispatch.next() == archs[1] and not dispatch.done
    dispatch.tell(archs[1], 0.5)
    assert dispatch.next() is None and dispatch.done


def test_what_is_proposed_again_is_not_given_out_again_and_ends_the_search(archs):
    dispatch = Dispatch(Listed(*[archs[:1]] * 1000), 10)
    assert dispatch.next() == archs[0] and dispatch.next() is None and dispatch.waiting
    dispatch.tell(archs[0], 0.5)
    assert dispatch.done


def test_a_batch_is_told_together_and_in_order(archs):
    searcher = Listed(archs[:4], archs[4:6])
    dispatch = Dispatch(searcher, 10, batch=4, known={archs[2]: 0.1})
    assert [dispatch.next() for _ in range(4)] == [archs[0], archs[1], archs[3], None]
    for arch in (archs[3], archs[0], archs[1]):
        assert not searcher.told and dispatch.next() is None
        dispatch.tell(arch, 0.5)
    assert dispatch.next() == archs[4] and searcher.told == [archs[:4]]


# -- The environment -----------------------------------------------------------------------------------------


def test_the_role_is_what_keras_tuner_takes_it_for():
    given = dict(zip(VARIABLES, ("chief", "10.0.0.1", "5000"), strict=True))
    assert role({}) is None
    assert role(given) == "chief" and role({**given, VARIABLES[0]: "w1"}) == "worker"
    for name in VARIABLES:
        with pytest.raises(UserError, match=f"^{name}: expected in the environment beside KERASTUNER"):
            role({other: value for other, value in given.items() if other != name})
    with pytest.raises(UserError, match="KERASTUNER_ORACLE_PORT: expected a number from 1 to 65535, received 65536"):
        role({**given, VARIABLES[2]: "65536"})


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        (["--bits=2"], {VARIABLES[0]: "w"}, "KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT: expected in the env"),
        (["--bits=3,2"], dict.fromkeys(VARIABLES, "1"), "--bits: expected one bit width"),
        ([], dict.fromkeys(VARIABLES, "1"), "--bits: expected one bit width"),
        (["--bits=2", "--workers=2"], dict.fromkeys(VARIABLES, "1"), "--workers: expected 1 across machines"),
    ],
)
def test_mistakes_are_answered_with_what_was_expected(flags, environment, expected):
    command = [sys.executable, str(ROOT / "tools" / "search.py"), "--run_dir=missing", *flags]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.fixture
def listening(monkeypatch):
    """A socket at the chief's address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name, value in zip(VARIABLES, ("w", "127.0.0.1", str(server.getsockname()[1])), strict=True):
            monkeypatch.setenv(name, value)
        yield server


def test_a_call_is_repeated_when_the_chief_dies_and_not_when_it_refuses(listening):
    class Failed(grpc.RpcError):
        def __init__(self, name):
            self.name = name

        def code(self):
            return grpc.StatusCode[self.name]

        def details(self):
            return "why"

    class Client:
        objective = "plain"

        def __init__(self, *failures):
            self.failures = list(failures)

        def create_trial(self, tuner_id):
            if self.failures:
                raise Failed(self.failures.pop(0))
            return tuner_id

    patient = Patient(Client("UNAVAILABLE", "CANCELLED"), pytest.fail)
    assert patient.objective == "plain" and patient.create_trial("a") == "a"
    with pytest.raises(UserError, match=r"the chief at 127.0.0.1:\d+: why"):
        Patient(Client("UNKNOWN"), pytest.fail).create_trial("a")


def test_calls_wait_for_the_chief_and_say_so(listening, monkeypatch):
    calls, said, seconds = [], [], []
    patient = Patient(type("Client", (), {"get_space": lambda self: calls.append(len(seconds))})(), said.append)
    ours = listening.getsockname()
    listening.close()

    def sleep(_):
        seconds.append(len(calls))
        if len(seconds) == 3:
            monkeypatch.setattr(remote, "_server", socket.create_server(ours), raising=False)

    monkeypatch.setattr(remote.time, "sleep", sleep)
    patient.get_space()
    remote._server.close()
    assert calls == [3] and len(said) == 1 and said[0].startswith(f"waiting for the chief at {address()} (")
    with pytest.raises(UserError, match="nobody has listened there for an hour"):
        monkeypatch.setattr(remote, "_ATTEMPTS", 2)
        patient.get_space()


def test_a_port_that_somebody_listens_at_is_refused(listening, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLES[0], "chief")
    with pytest.raises(UserError, match=r"KERASTUNER_ORACLE_PORT=\d+: expected .* a port that is free, received: "):
        Chief(tmp_path).tuner.search()


# -- Processes -----------------------------------------------------------------------------------------------


class Processes:
    """A chief and workers on loopback; all are killed at the end of the test."""

    def __init__(self, directory):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.directory, self._started = directory, []

    def start(self, tuner_id, kind, **settings):
        """A process with settings of `tuner_process.main`; its output goes to a file."""
        variables = dict(zip(VARIABLES, (tuner_id, "127.0.0.1", str(self._port)), strict=True))
        environment = {
            **os.environ,
            **variables,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "no_grpc_proxy": "127.0.0.1",
        }
        command = [tuner_process.__file__, json.dumps({"kind": kind, **settings})]
        with open(self.directory / f"{tuner_id}-{len(self._started)}.txt", "w") as output:
            process = Process(command, output, cwd=self.directory, env=environment)
        self._started.append(process)
        return process

    def output(self, tuner_id="*"):
        return "".join(file.read_text() for file in sorted(self.directory.glob(f"{tuner_id}-*.txt")))

    def code(self, process):
        try:
            return process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            pytest.fail(f"hangs:\n{self.output()}")

    def close(self):
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path):
    started = Processes(tmp_path)
    yield started
    started.close()


def scored_by(output):
    """How often each architecture's key is in the output of workers."""
    lines = [line.split(": ") for line in output.splitlines() if line.endswith("%")]
    return collections.Counter(key for _, key, _ in lines)


def check(processes, expected):
    """Every score is there once and exact."""
    results = results_in(processes.directory, SPACE, pytest.fail)
    assert len(results) == len({r.arch for r in results}) == expected, processes.output()
    assert all(r.accuracy == accuracy(r.arch) and r.extra == {"images": 300} for r in results)
    assert all(r == Result(r.arch, r.accuracy, OBJECTIVES.record(r.arch), r.extra) for r in results)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nsga2", "coarse_to_fine"])
def test_a_worker_that_is_killed_costs_nothing_but_its_time(kind, processes):
    chief = processes.start("chief", kind, timeout=15)
    victim = processes.start("victim", kind, deadly=5)
    survivor = processes.start("survivor", kind, awaited=["died-victim"])
    assert [processes.code(process) for process in (victim, survivor, chief)] == [-9, 0, 0], processes.output()
    results = check(processes, BUDGET if kind == "nsga2" else len(straight(kind)))
    assert scored_by(processes.output()) == {result.arch.key: 1 for result in results}
    assert "survivor takes over what victim has not scored" in processes.output("chief")
    assert processes.output("survivor").endswith("ended\n") and processes.output("chief").endswith("ended\n")
    if kind == "coarse_to_fine":
        assert {r.arch for r in results} == {r.arch for r in straight(kind)}


@pytest.mark.slow
def test_a_chief_that_is_killed_and_started_again_goes_on_with_its_workers(processes):
    chief = processes.start("chief", "nsga2", deadly=20)
    names = ["one", "two"]
    workers = [processes.start(name, "nsga2", awaited=[f"here-{other}" for other in names]) for name in names]
    assert processes.code(chief) == -9, processes.output()
    again = processes.start("chief", "nsga2")
    assert [processes.code(process) for process in (*workers, again)] == [0, 0, 0], processes.output()
    results = check(processes, BUDGET)
    assert scored_by(processes.output()) == {result.arch.key: 1 for result in results}, processes.output()
    state = json.loads((processes.directory / "keras_tuner" / "oracle.json").read_text())
    assert len(state["start_order"]) == BUDGET


@pytest.mark.slow
def test_a_worker_of_another_supernet_is_refused(processes):
    processes.start("chief", "nsga2")
    assert processes.code(processes.start("stranger", "nsga2", bits=3)) == 1
    assert "stranger: bits is 3 here, and 4 at the chief 127.0.0.1:" in processes.output("stranger")

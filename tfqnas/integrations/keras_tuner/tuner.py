"""Search across machines by keras-tuner: its chief asks our searchers, its workers score.

    oracle = SearcherOracle(NSGA2(objectives), objectives, budget=1000, on_result=keep)
    SubnetTuner(oracle, scorer, directory).search()

searches in one process, like any tuner. With KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT set,
as keras-tuner's guide on distributed tuning has it, the process is the chief (an ID with "chief" in it; it scores
nothing) or one of its workers, each with an ID of its own.

A worker that dies costs what it was scoring: a subnet whose worker is silent goes to another. A chief that dies and is
started again goes on, with the workers that were at work, which wait for it.
"""

import contextlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import read_json, write_atomically
from tfqnas.integrations.keras_tuner.dispatch import Dispatch
from tfqnas.integrations.keras_tuner.remote import IP, PORT, TUNER_ID, Patient, address, check_port
from tfqnas.search.objectives import Objectives
from tfqnas.search.pareto import Result
from tfqnas.search.searcher import Searcher

# Name of the hyperparameter that is the architecture.
_ARCH = "architecture"
# How often a subnet may fail, each time on another worker.
_RETRIES = 2
# Seconds between two requests of a worker for which there is nothing, and two looks of the chief at its workers.
_PAUSE = 0.5


class SearcherOracle(keras_tuner.Oracle):
    """Has a searcher's architectures scored by keras-tuner's workers.

    An architecture is one hyperparameter, its JSON text. A `Choice` for each gene would need conditions, or reports
    name kernels of blocks that are not there; keras-tuner prints a line for every condition that it sends; and a
    report of ten trials would have hundreds of lines. The text can be given to the tools as it stands.

    keras-tuner writes `oracle.json` and a file a trial. What counts is what `on_result` keeps: of the state only the
    order in which architectures were asked for and told is needed, and without it a search merely takes another course.

    Args:
        searcher, budget, batch: those of `Dispatch`. objectives: `Objectives`; it knows the space and the costs.
        results: `Result`s of an earlier process: these architectures are not scored again.
        on_result: called with every new `Result`, before anything else is done with it.
        about: mapping of names to numbers or strings, which a worker must have as well, such as the bit width.
        timeout: seconds of silence after which a worker is taken for dead.
        say: called with lines for the user. clock: seconds, for tests.

    Attributes:
        results: dict, `Arch` to `Result`. failure: the exception that has ended the search, or None.
    """

    def __init__(
        self,
        searcher: Searcher,
        objectives: Objectives,
        budget: int,
        batch: int | None = None,
        results: Iterable[Result] = (),
        on_result: Callable[[Result], None] | None = None,
        about: Mapping[str, int | str] | None = None,
        timeout: float = 60.0,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        space = keras_tuner.HyperParameters()
        for name, value in {_ARCH: objectives.space.largest().to_json(), **(about or {})}.items():
            space.Fixed(name, value)
        # No limit on failures in a row: keras-tuner raises at it, and never releases the lock of a call that raised.
        super().__init__(
            keras_tuner.Objective("accuracy", "max"),
            hyperparameters=space,
            allow_new_entries=False,
            max_retries_per_trial=_RETRIES,
            max_consecutive_failed_trials=None,
        )
        self.verbose = 0
        self.results = {result.arch: result for result in results}
        self.failure: Exception | None = None
        known = {arch: result.accuracy for arch, result in self.results.items()}
        self._dispatch = Dispatch(searcher, budget, batch, known)
        self._objectives, self._on_result, self._timeout = objectives, on_result, timeout
        self._say, self._clock = say, clock
        self._heard: dict[str, float] = {}  # when, of each tuner

    # What keras-tuner calls for its workers, on a thread of its own

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """One more architecture; "IDLE" where that has to wait for scores, "STOPPED" at the end."""
        began = self._clock()
        arch = self._dispatch.next()
        thought = self._clock() - began  # nobody is heard of meanwhile
        self._heard = {tuner_id: heard + thought for tuner_id, heard in self._heard.items()}
        if arch is not None:
            return {"status": TrialStatus.RUNNING, "values": {_ARCH: arch.to_json()}}
        # Who is stopped cannot take over from one that dies: all wait for the last score.
        return {"status": TrialStatus.IDLE if self._dispatch.waiting else TrialStatus.STOPPED}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial for a tuner: what it has, what a silent one had, or a new one."""
        known = tuner_id in self.tuner_ids
        if not known and not self.failure:
            self._say(f"{tuner_id} is there")
        self._heard[tuner_id] = self._clock()
        with self._noting():
            if not self.failure:
                self._take_over(tuner_id)
                trial = super().create_trial(tuner_id)
                if known != (tuner_id in self.tuner_ids):  # whom a chief that is started again has to wait for
                    self.save()
                return trial
        self.ongoing_trials.pop(tuner_id, None)
        self.tuner_ids.discard(tuner_id)
        return _trial("", TrialStatus.STOPPED)

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Receives metrics: the accuracy, and how many images it is of."""
        with self._noting():
            if self._tuner_of(trial_id) is not None:
                return super().update_trial(trial_id, metrics, step)
        return self.get_trial(trial_id)

    def score_trial(self, trial: Trial) -> None:
        """Sets the trial's score; NaN, which keras-tuner tries again, if there is none."""
        trial.score = float(trial.metrics.get_last_value("accuracy") if trial.metrics.exists("accuracy") else "nan")

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Keeps and tells the score of a trial, unless another tuner was faster."""
        tuner_id = self._tuner_of(trial.trial_id)
        if tuner_id is None or _text(trial) != _text(self.trials[trial.trial_id]):
            return
        self._heard[tuner_id] = self._clock()
        with self._noting():
            super().end_trial(trial)
            self._conclude(self.trials[trial.trial_id])
        self.ongoing_trials.pop(tuner_id, None)

    def get_trial(self, trial_id: str) -> Trial:
        """A trial, an empty one where an earlier search has had it; from workers also a sign of life."""
        tuner_id = self._tuner_of(trial_id)
        if tuner_id is not None:
            self._heard[tuner_id] = self._clock()
        return self.trials.get(trial_id) or _trial(trial_id, TrialStatus.FAILED)

    # What the chief asks

    @keras_tuner.synchronized
    def over(self) -> bool:
        """Whether the search is at its end and all tuners know, but for those that have fallen silent."""
        done = False
        with self._noting():
            done = self._dispatch.done
        silent = [tuner_id for tuner_id in self.tuner_ids if self._silent(tuner_id)]
        for tuner_id in silent:
            self.tuner_ids.discard(tuner_id)
            rest = "" if done or self.tuner_ids else "; there is no other: start one"
            self._say(f"{tuner_id} has not been heard of for {self._timeout:g} s{rest}")
        if silent:
            self.save()
        return bool(done or self.failure) and not self.tuner_ids

    # State

    def get_state(self) -> dict[str, Any]:
        """That of keras-tuner, with the order of events, the trials that are out and the tuners that are there."""
        state = super().get_state()
        out = [*state["ongoing_trials"].values(), *state["retry_queue"]]
        running = [self.trials[trial_id].get_state() for trial_id in out]
        more = {"history": self._dispatch.history, "running": running, "tuner_ids": sorted(self.tuner_ids)}
        return {**state, **more}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state's process stopped; who had a trial then has it still.

        All tuners that were there are waited for, as they wait for the chief: each has to be told of the end, or to be
        silent for too long.
        """
        for kept in state["running"]:
            trial = Trial.from_state(kept)
            self.trials.setdefault(trial.trial_id, trial)
        # Numbers of trials are counted: those that the state knows, no more and no fewer.
        self.trials: dict[str, Trial] = {
            i: self.trials.get(i) or _trial(i, TrialStatus.FAILED) for i in state["start_order"]
        }
        super().set_state({**state, "hyperparameters": self.hyperparameters.get_config()})
        self._dispatch.replay(state["history"])
        self.tuner_ids = {*state.get("tuner_ids", ()), *self.ongoing_trials}
        self._heard.update(dict.fromkeys(self.tuner_ids, self._clock()))
        for tuner_id, trial in list(self.ongoing_trials.items()):
            self._restore(tuner_id, trial)
        out = [*self.ongoing_trials.values(), *(self.trials[i] for i in state["retry_queue"])]
        self._dispatch.take([_arch(trial) for trial in out])

    def save(self) -> None:
        """Writes `oracle.json`; other than keras-tuner's way, a kill leaves the old file or the new one."""
        write_atomically(self._get_oracle_fname(), json.dumps(self.get_state()))

    def reload(self) -> None:
        """Reads what `save` wrote, and the trials' files but for those that a kill has cut off."""
        file = pathlib.Path(self._get_oracle_fname())
        if not file.exists():
            return
        for path in file.parent.glob("trial_*/trial.json"):
            with contextlib.suppress(ValueError):
                trial = Trial.load(str(path))
                self.trials[trial.trial_id] = trial
        self.set_state(read_json(file))

    def _restore(self, tuner_id: str, trial: Trial) -> None:
        result = self.results.get(_arch(trial))
        if result is None:
            trial.status = TrialStatus.RUNNING
        else:  # killed when its score was kept and its state not yet saved
            trial.status, trial.score = TrialStatus.COMPLETED, result.accuracy
            del self.ongoing_trials[tuner_id]

    def _conclude(self, trial: Trial) -> None:
        arch = _arch(trial)
        if trial.status == TrialStatus.FAILED:
            times = self.max_retries_per_trial + 1
            raise UserError(f"{arch.key}: scoring it has failed {times} times; the workers say why")
        if trial.status != TrialStatus.COMPLETED:  # it will be tried again
            return
        if arch not in self.results:
            extra = {}
            if trial.metrics.exists("images"):
                extra["images"] = int(trial.metrics.get_last_value("images"))
            result = Result(arch, trial.score, self._objectives.record(arch), extra)
            if self._on_result is not None:
                self._on_result(result)
            self.results[arch] = result
        self._dispatch.tell(arch, self.results[arch].accuracy)

    def _take_over(self, tuner_id: str) -> None:
        if tuner_id in self.ongoing_trials:
            return
        for silent in [other for other in self.ongoing_trials if self._silent(other)]:
            # keras-tuner then takes the trial for one that this tuner has had all along.
            self.ongoing_trials[tuner_id] = self.ongoing_trials.pop(silent)
            self.tuner_ids.add(tuner_id)
            self._say(f"{tuner_id} takes over what {silent} has not scored")
            self.save()
            return

    def _silent(self, tuner_id: str) -> bool:
        return self._clock() - self._heard[tuner_id] > self._timeout

    def _tuner_of(self, trial_id: str) -> str | None:
        owners = (tuner_id for tuner_id, trial in list(self.ongoing_trials.items()) if trial.trial_id == trial_id)
        return next(owners, None)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """An exception ends the search: it is raised by `SubnetTuner.search`, as `keras_tuner.synchronized` would
        hold its lock for ever."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


class ScoresSubnets(Protocol):
    """What scores the subnets of a `SubnetTuner`: `tfqnas.scoring.scorer.Scorer` is such."""

    def score(self, archs: Sequence[Arch]) -> Iterator[tuple[int, Any]]: ...


class SubnetTuner(keras_tuner.Tuner):
    """Scores the subnets of a `SearcherOracle`, here or as one of its workers; or is the chief of workers.

    Args:
        oracle: `SearcherOracle`; that of a worker is never asked, and compared with the chief's.
        scorer: `score([arch])` yields `(0, Score)`, such as `tfqnas.scoring.scorer.Scorer`; of a chief, None.
        directory: where keras-tuner's files go, in `keras_tuner/`; a worker's are of no use after it.
        heartbeat: seconds between a worker's signs of life while it scores; a fraction of the oracle's `timeout`.
        say: called with lines for the user.
    """

    def __init__(
        self,
        oracle: SearcherOracle,
        scorer: ScoresSubnets | None,
        directory: str | pathlib.Path,
        heartbeat: float = 10.0,
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__(oracle, directory=str(directory), project_name="keras_tuner")
        self._own, self._scorer, self._heartbeat, self._say = oracle, scorer, heartbeat, say
        self._distributed = IP in os.environ
        self._works = self.oracle is not oracle
        self._idle = False
        if self._works:
            self.oracle: Any = Patient(self.oracle, say)

    def search(self) -> None:
        """Searches; of a chief, returns when all is scored and its workers know.

        Raises:
            UserError: scoring fails, the chief cannot be reached, or searches something else than this worker.
        """
        if self._distributed and not self._works:
            self._serve()
        else:
            super().search()
        if not self._works and self._own.failure:
            raise self._own.failure

    def reload(self) -> None:
        """Reloads the oracle; a tuner has no state of its own, and keras-tuner's file of it may be cut off."""
        self.oracle.reload()

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Scores the trial's architecture.

        Returns:
            dict: "accuracy" and "images".
        """
        arch, scorer = _arch(trial), cast(ScoresSubnets, self._scorer)
        with self._signs_of_life(trial):
            ((_, score),) = scorer.score([arch])
        if _text(self.oracle.get_trial(trial.trial_id)) != _text(trial):
            raise UserError("the chief has begun another search: start this worker again")
        if self._works:
            self._say(f"{self.tuner_id}: {arch.key}: {score.accuracy:.2%}")
        return {"accuracy": float(score.accuracy), "images": score.images}

    # keras-tuner's hooks

    def on_search_begin(self) -> None:
        """Compares what the chief searches with what this worker can score."""
        if not self._works:
            return
        self._say(f"{self.tuner_id}: works for the chief at {address()}")
        theirs, ours = ({hp.name: hp.default for hp in o.get_space().space} for o in (self.oracle, self._own))
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise UserError(
                    f"{self.tuner_id}: {name} is {value} here, and {theirs.get(name)} at the chief {address()}: "
                    "start it with the chief's flags, on the chief's run directory or a copy of it as it is now"
                )

    def pre_create_trial(self) -> None:
        """Pauses where the last request brought nothing: keras-tuner asks again at once."""
        if self._idle:
            time.sleep(_PAUSE)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        """It brought something."""
        self._idle = False

    def on_trial_end(self, trial: Trial) -> None:
        """Reports the end of a trial. Where scoring has failed it will fail again, so that another tuner has to try."""
        super().on_trial_end(trial)
        if trial.status != TrialStatus.COMPLETED:
            raise UserError(f"{_arch(trial).key}: scoring it has failed\n{trial.message}")

    def _serve(self) -> None:
        """As chief: keras-tuner's server runs on a thread, which still tells those that come late.

        Its own end would have to be waited for: it comes within 20 s if all workers live, else never.
        """
        if self._own.over():
            return
        self._say(
            f"chief at {address()}; on each worker: this command, {IP} and {PORT} as here, and a {TUNER_ID} of its own"
        )
        check_port()
        server = threading.Thread(target=super().search, daemon=True)
        server.start()
        while True:
            alive, over = server.is_alive(), self._own.over()
            if over:
                time.sleep(_PAUSE)  # the last answer is on its way
                return
            if not alive:
                raise UserError(f"the chief's server at {address()} has ended, see above")
            time.sleep(_PAUSE)

    @contextlib.contextmanager
    def _signs_of_life(self, trial: Trial) -> Iterator[None]:
        """A thread that asks the chief for the trial now and then: there is no call for just this."""
        done = threading.Event()

        def show() -> None:
            with contextlib.suppress(UserError):
                while not done.wait(self._heartbeat):
                    self.oracle.get_trial(trial.trial_id)

        if self._works:
            threading.Thread(target=show, daemon=True).start()
        try:
            yield
        finally:
            done.set()


def _trial(trial_id: str, status: str) -> Trial:
    """A trial of nothing."""
    return Trial(keras_tuner.HyperParameters(), trial_id, status)


def _text(trial: Trial) -> str | None:
    """The JSON text of a trial's architecture; None: it has none."""
    return trial.hyperparameters.values.get(_ARCH)


def _arch(trial: Trial) -> Arch:
    return Arch.from_json(str(_text(trial)))

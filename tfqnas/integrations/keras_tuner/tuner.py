"""Search on several machines with keras-tuner, whose chief asks our searchers and whose workers score.

    oracle = SearcherOracle(NSGA2(objectives), objectives, budget=1000, on_result=keep)
    SubnetTuner(oracle, scorer, directory).search()

searches in one process, like any tuner. If KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT are set
as in keras-tuner's guide on distributed tuning, the process is the chief, which scores nothing, or one of its workers.
The ID of the chief contains "chief", and each worker has its own ID.

If a worker dies, only the score that it was computing is lost: a subnet whose worker is silent goes to another worker.
A chief that dies can be started again and continues with its workers, which wait for it.
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

# Name of the hyperparameter that holds the architecture.
_ARCH = "architecture"
# Number of times that a failed subnet is tried again, on another worker.
_RETRIES = 2
# Seconds between two requests of an idle worker, and between two checks of the chief.
_PAUSE = 0.5


class SearcherOracle(keras_tuner.Oracle):
    """Lets keras-tuner's workers score the architectures of a searcher.

    An architecture is a single hyperparameter, its JSON text, which tools accept as it is. A `Choice` for each gene
    would need conditions, without which reports would name kernels of missing blocks. keras-tuner prints a line for
    every condition that it sends, and a report of ten trials would have hundreds of lines.

    keras-tuner writes `oracle.json` and a file per trial, but the results are those that `on_result` keeps. A restarted
    chief needs only the order of requests and scores from the state. Without it the search takes another course.

    Args:
        searcher, budget, batch: as in `Dispatch`.
        objectives: `Objectives`, with the space and the costs.
        results: `Result`s of an earlier process, whose architectures are not scored again.
        on_result: called with every new `Result` before anything else is done with it.
        about: `{name: number or string}` of facts in which workers must agree, such as the bit width.
        timeout: seconds of silence after which a worker is considered dead.
        say: called with lines for the user.
        clock: a function that returns seconds; replaced in tests.

    Attributes:
        results: `{Arch: Result}`.
        failure: the exception that ended the search, or None.
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
        # Without a limit on failures in a row, at which keras-tuner would raise and never release the lock of the call.
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
        self._heard: dict[str, float] = {}  # the last time of a call by each tuner

    # Calls of keras-tuner for its workers, on a separate thread

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next architecture; the status is "IDLE" if it must wait for scores, and "STOPPED" at the end."""
        began = self._clock()
        arch = self._dispatch.next()
        thought = self._clock() - began  # calls of workers wait meanwhile
        self._heard = {tuner_id: heard + thought for tuner_id, heard in self._heard.items()}
        if arch is not None:
            return {"status": TrialStatus.RUNNING, "values": {_ARCH: arch.to_json()}}
        # All workers wait for the last score, since a stopped worker could not take over from one that dies.
        return {"status": TrialStatus.IDLE if self._dispatch.waiting else TrialStatus.STOPPED}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """A trial for a tuner: the one that it has, the one of a silent tuner, or a new one."""
        known = tuner_id in self.tuner_ids
        if not known and not self.failure:
            self._say(f"{tuner_id} is there")
        self._heard[tuner_id] = self._clock()
        with self._noting():
            if not self.failure:
                self._take_over(tuner_id)
                trial = super().create_trial(tuner_id)
                if known != (tuner_id in self.tuner_ids):  # a restarted chief must wait for this tuner
                    self.save()
                return trial
        self.ongoing_trials.pop(tuner_id, None)
        self.tuner_ids.discard(tuner_id)
        return _trial("", TrialStatus.STOPPED)

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Receives the metrics of a trial: the accuracy and the number of images."""
        with self._noting():
            if self._tuner_of(trial_id) is not None:
                return super().update_trial(trial_id, metrics, step)
        return self.get_trial(trial_id)

    def score_trial(self, trial: Trial) -> None:
        """Sets the trial's score. Without an accuracy it is NaN, and keras-tuner tries again."""
        trial.score = float(trial.metrics.get_last_value("accuracy") if trial.metrics.exists("accuracy") else "nan")

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Keeps and tells the score of a trial, unless another tuner has ended it before."""
        tuner_id = self._tuner_of(trial.trial_id)
        if tuner_id is None or _text(trial) != _text(self.trials[trial.trial_id]):
            return
        self._heard[tuner_id] = self._clock()
        with self._noting():
            super().end_trial(trial)
            self._conclude(self.trials[trial.trial_id])
        self.ongoing_trials.pop(tuner_id, None)

    def get_trial(self, trial_id: str) -> Trial:
        """The trial with an ID, or an empty one if it belongs to an earlier search. The call is also a sign of life."""
        tuner_id = self._tuner_of(trial_id)
        if tuner_id is not None:
            self._heard[tuner_id] = self._clock()
        return self.trials.get(trial_id) or _trial(trial_id, TrialStatus.FAILED)

    # Calls of the chief

    @keras_tuner.synchronized
    def over(self) -> bool:
        """Whether the search has ended and all tuners know, except silent ones."""
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
        """keras-tuner's state, with the order of events, the running trials and the present tuners."""
        state = super().get_state()
        out = [*state["ongoing_trials"].values(), *state["retry_queue"]]
        running = [self.trials[trial_id].get_state() for trial_id in out]
        more = {"history": self._dispatch.history, "running": running, "tuner_ids": sorted(self.tuner_ids)}
        return {**state, **more}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues where the process of the state stopped. Tuners keep their trials.

        The search ends only after each tuner that was present has been told of the end or has been silent too long.
        """
        for kept in state["running"]:
            trial = Trial.from_state(kept)
            self.trials.setdefault(trial.trial_id, trial)
        # keras-tuner counts the trials, so there must be exactly those of the state.
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
        """Writes `oracle.json` atomically, unlike keras-tuner."""
        write_atomically(self._get_oracle_fname(), json.dumps(self.get_state()))

    def reload(self) -> None:
        """Reads the file of `save`, and the files of trials except truncated ones; `UserError` for a damaged state."""
        file = pathlib.Path(self._get_oracle_fname())
        if not file.exists():
            return
        for path in file.parent.glob("trial_*/trial.json"):
            with contextlib.suppress(ValueError):
                trial = Trial.load(str(path))
                self.trials[trial.trial_id] = trial
        try:
            self.set_state(read_json(file, dict[str, Any]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{file}: not the state of a search across machines ({error}): remove {file.parent}, and the search "
                "goes on from the scores that are known"
            ) from None

    def _restore(self, tuner_id: str, trial: Trial) -> None:
        result = self.results.get(_arch(trial))
        if result is None:
            trial.status = TrialStatus.RUNNING
        else:  # the chief was killed between keeping the score and saving the state
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
            # To keras-tuner the trial then looks as if this tuner had always had it.
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
        """Keeps an exception, which ends the search, for `SubnetTuner.search` to raise. If it were raised here,
        `keras_tuner.synchronized` would hold its lock for ever."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


class ScoresSubnets(Protocol):
    """An object that scores subnets for a `SubnetTuner`, such as `tfqnas.scoring.scorer.Scorer`."""

    def score(self, archs: Sequence[Arch]) -> Iterator[tuple[int, Any]]: ...


class SubnetTuner(keras_tuner.Tuner):
    """Scores the subnets of a `SearcherOracle` alone or as a worker, or serves workers as their chief.

    Args:
        oracle: `SearcherOracle`. A worker's oracle is only compared with the chief's.
        scorer: `ScoresSubnets`; None for a chief.
        directory: directory in which keras-tuner keeps its files (`keras_tuner/`); a worker's are temporary.
        heartbeat: seconds between a worker's signs of life while it scores; less than the oracle's `timeout`.
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
        """Searches. For a chief it returns when all subnets are scored and its workers know.

        Raises:
            UserError: scoring fails, or the chief cannot be reached or searches another supernet than this worker.
        """
        if self._distributed and not self._works:
            self._serve()
        else:
            super().search()
        if not self._works and self._own.failure:
            raise self._own.failure

    def reload(self) -> None:
        """Reloads the oracle. A tuner has no other state, and keras-tuner's file of it may be truncated."""
        self.oracle.reload()

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Scores the trial's architecture, and returns a dictionary with "accuracy" and "images"."""
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
        """Compares the chief's search with that of this worker."""
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
        """Pauses if the last request brought nothing, since keras-tuner asks again at once."""
        if self._idle:
            time.sleep(_PAUSE)
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        """Notes that the last request brought a trial."""
        self._idle = False

    def on_trial_end(self, trial: Trial) -> None:
        """Reports the end of a trial. If scoring has failed this worker ends, so that another tuner tries."""
        super().on_trial_end(trial)
        if trial.status != TrialStatus.COMPLETED:
            raise UserError(f"{_arch(trial).key}: scoring it has failed\n{trial.message}")

    def _serve(self) -> None:
        """Runs keras-tuner's server on a thread, and returns when the search is over.

        The thread is not joined: the server ends within 20 s if all workers live, and otherwise never.
        """
        if self._own.over():
            return
        self._say(
            f"chief at {address()}; on each worker: this command, {IP} and {PORT} as here, and its own {TUNER_ID}"
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
        """Runs a thread that asks the chief for the trial from time to time, as there is no call for a heartbeat."""
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
    """A trial without an architecture."""
    return Trial(keras_tuner.HyperParameters(), trial_id, status)


def _text(trial: Trial) -> str | None:
    """The JSON text of a trial's architecture, or None."""
    return trial.hyperparameters.values.get(_ARCH)


def _arch(trial: Trial) -> Arch:
    return Arch.from_json(str(_text(trial)))

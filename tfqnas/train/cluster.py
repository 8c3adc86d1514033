"""The processes of a training on several hosts, as the environment variable TF_CONFIG names them, and who is missing.

TF_CONFIG is read and checked here without TensorFlow, so mistakes are reported at once. TensorFlow would answer them
with tracebacks, wait for an hour, or train alone.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tfqnas.errors import PartnerLostError, UserError

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, "task": {"type": "worker", "index": 0}}'
# The jobs that take part in a training of this kind, in TensorFlow's order. The first task is the only one that writes.
_JOBS = ("chief", "worker")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")
# Seconds that the other tasks have to appear: with the import of TensorFlow less than a minute.
PATIENCE = 45.0
# Seconds for one attempt to reach a task, and between two of them.
_ATTEMPT, _PAUSE = 2.0, 0.5
# Seconds until the first word on missing tasks, and the length of a line between processes.
_QUIET, _LONGEST = 2.0, 1_000_000
# How much longer a process waits that has reached the first one, which knows all the others.
_GRACE = 1.2


@dataclasses.dataclass(frozen=True)
class Task:
    """One process: its job ("chief" or "worker"), its index and its address."""

    job: str
    index: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name} at {self.host}:{self.port}"

    @property
    def name(self) -> str:
        return f"{self.job} {self.index}"

    def unreachable(self) -> str:
        """The reason why nothing answers at its address, or ""."""
        try:
            socket.create_connection((self.host.strip("[]"), self.port), _ATTEMPT).close()
        except OSError as error:
            return error.strerror or str(error)
        return ""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a training: `tasks` in TensorFlow's order, and the `own` one, which is this process."""

    tasks: tuple[Task, ...]
    own: Task

    @property
    def writes(self) -> bool:
        """Whether this process is the first one, the only one that writes."""
        return self.own == self.tasks[0]

    @property
    def others(self) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task != self.own)

    def listening(self) -> socket.socket:
        """A socket with the own port, on which nobody listens yet.

        Raises:
            UserError: the port is taken. gRPC would share it with the process that has it.
        """
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", self.own.port))
        except OSError as error:
            server.close()
            raise UserError(
                f"{VARIABLE}: this process is {self.own}, but that port of {socket.gethostname()} cannot be used "
                f"({error.strerror}): end the process that has it, or give all workers another port for it"
            ) from None
        return server

    def lost(self, error: str) -> PartnerLostError:
        """The error of a training in which other tasks have ended.

        Args:
            error: TensorFlow's message, which may name them.
        """
        with concurrent.futures.ThreadPoolExecutor(len(self.others)) as pool:
            reasons = pool.map(Task.unreachable, self.others)
            silent = [task for task, why in zip(self.others, reasons, strict=True) if why]
        named = {(job, int(index)) for job, index in re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", error)}
        found = silent or [task for task in self.others if (task.job, task.index) in named] or self.others
        has = "have" if len(found) > 1 else "has"
        return PartnerLostError(
            f"{_listed(found)} {has} ended or cannot be reached any more: see what it says there, then give all "
            "workers the same command again; training goes on from the last checkpoint"
        )


def of_environment(distribution: str, environ: Mapping[str, str] = os.environ) -> Cluster | None:
    """The `Cluster` that TF_CONFIG names, or None if this process trains alone.

    Args:
        distribution: the setting `distribution`.
        environ: the environment.

    Raises:
        UserError: TF_CONFIG is missing or wrong, or names a cluster with which this `distribution` does not train.
    """
    text = environ.get(VARIABLE)
    if distribution == "multiworker":
        if text is None:
            raise UserError(f"`distribution=multiworker`: expected the environment variable {VARIABLE}={EXAMPLE}")
        return parsed(text)
    if not text or not text.strip() or _object(text).get("cluster", {}) == {}:
        return None
    cluster = parsed(text)
    if cluster.others:
        raise UserError(
            f"`distribution={distribution}` trains on this machine alone, but {VARIABLE} in the environment names "
            f"{len(cluster.tasks)} workers: give `distribution=multiworker`, or unset {VARIABLE}"
        )
    return None


def parsed(text: str) -> Cluster:
    """The `Cluster` in the text of TF_CONFIG; raises `UserError` with what is wrong there."""
    config = _object(text)
    jobs = config.get("cluster")
    if not isinstance(jobs, dict) or not jobs:
        raise _wrong('"cluster" with the addresses of all workers', jobs)
    tasks = []
    for job in sorted(jobs):
        if job not in _JOBS:
            raise _wrong(f'only {" and ".join(_JOBS)} in "cluster"', job)
        if not isinstance(jobs[job], list) or not jobs[job]:
            raise _wrong(f'a list of addresses for "{job}"', jobs[job])
        tasks += [_task(job, index, address) for index, address in enumerate(jobs[job])]
    if sum(task.job == "chief" for task in tasks) > 1:
        raise _wrong('one address for "chief"', jobs["chief"])
    for i, task in enumerate(tasks):
        for other in tasks[:i]:
            if (task.host.lower(), task.port) == (other.host.lower(), other.port):
                raise UserError(
                    f"{VARIABLE}: {other.name} and {task.name} have the same address {task.host}:{task.port}"
                )
    own = config.get("task")
    if not isinstance(own, dict) or not {"type", "index"} <= own.keys():
        raise _wrong('"task" with the "type" and "index" of this process', own)
    index = own["index"]
    index = int(index) if isinstance(index, str) and index.isdecimal() else index
    for task in tasks:
        if (task.job, task.index) == (own["type"], index) and not isinstance(index, bool):
            return Cluster(tuple(tasks), task)
    names = ", ".join(task.name for task in tasks)
    raise UserError(f'{VARIABLE}: "task" says that this process is {own["type"]} {index}, "cluster" has {names}')


def _object(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{VARIABLE}: expected JSON such as {EXAMPLE}, received {_short(text)} ({error})") from None
    if not isinstance(config, dict):
        raise _wrong(f"a JSON object such as {EXAMPLE}", config)
    return config


def _task(job: str, index: int, address: object) -> Task:
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if found is None or not 0 < int(found["port"]) < 65536:
        raise _wrong(f"HOST:PORT with a port from 1 to 65535 for {job} {index}", address)
    return Task(job, index, found["host"], int(found["port"]))


def _wrong(expected: str, received: object) -> UserError:
    return UserError(f"{VARIABLE}: expected {expected}, received {_short(json.dumps(received))}")


def _short(text: str) -> str:
    return (text if len(text) <= 80 else f"{text[:80]}...") or "nothing"


def _listed(tasks: Iterable[Task]) -> str:
    return ", ".join(map(str, tasks))


# Meeting


def meet(cluster: Cluster, patience: float = PATIENCE, say: Callable[[str], None] = print) -> None:
    """Returns when all processes of the cluster are there: the others tell the first one, which tells all to go on.

    TensorFlow itself would wait for an hour, and keep Python from doing anything meanwhile.

    Args:
        cluster: `Cluster`.
        patience: seconds to wait for the others.
        say: called with lines for the user: for whom this waits, and how long at most.

    Raises:
        UserError: the port is taken, or another process has another TF_CONFIG.
        PartnerLostError: some were not there in time. The message names them.
    """
    waiting = _Waiting(cluster, patience, say)
    with cluster.listening() as server:
        if cluster.writes:
            _lead(cluster, server, waiting)
            return
    _follow(cluster, waiting)


class _Waiting:
    """Says for whom this process waits, and ends the waiting."""

    def __init__(self, cluster: Cluster, patience: float, say: Callable[[str], None]) -> None:
        self._own, self._patience, self._say = cluster.own.name, patience, say
        self._began, self._said = time.monotonic(), ""

    def on(self, missing: str, grace: float = 1.0) -> None:
        """To be called often with those who are missing; raises PartnerLostError when the time is over.

        Args:
            missing: the missing processes, in words. grace: factor of the patience.
        """
        waited = time.monotonic() - self._began
        if missing != self._said and waited > min(_QUIET, self._patience / 4):
            self._say(f"{self._own} waits up to {self._patience:g} s for {missing}")
            self._said = missing
        if waited > grace * self._patience:
            raise PartnerLostError(
                f"{missing} did not answer within {self._patience:g} s: start the same command there, and here again; "
                "training goes on from the last checkpoint"
            )


def _lead(cluster: Cluster, server: socket.socket, waiting: _Waiting) -> None:
    server.listen()
    server.settimeout(_PAUSE)
    joined: dict[Task, socket.socket] = {}
    try:
        while missing := [task for task in cluster.others if task not in joined]:
            waiting.on(_listed(missing))
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                _welcome(cluster, connection, joined)
            for task, connection in list(joined.items()):
                if not _tell(connection, missing=_listed(missing)):  # it has ended again
                    joined.pop(task).close()
        for connection in joined.values():
            _tell(connection, go=True)
    except UserError as error:
        for connection in joined.values():
            _tell(connection, error=str(error), lost=isinstance(error, PartnerLostError))
        raise
    finally:
        for connection in joined.values():
            connection.close()


def _welcome(cluster: Cluster, connection: socket.socket, joined: dict[Task, socket.socket]) -> None:
    """Takes another process in, or refuses it."""
    connection.settimeout(_ATTEMPT)
    try:
        with connection.makefile() as lines:
            hello = json.loads(lines.readline(_LONGEST))
        task = next(task for task in cluster.others if task.name == hello["task"])
    except (OSError, ValueError, TypeError, KeyError, StopIteration):  # not one of ours
        connection.close()
        return
    problem = ""
    if hello["tasks"] != _listed(cluster.tasks):
        problem = f"{VARIABLE} of {task.name} has other addresses than that of {cluster.own}: give all the same"
    elif task in joined and _tell(joined[task], missing="another"):
        problem = f"{VARIABLE} says of two processes that they are {task}: give each another index"
    if problem:
        _tell(connection, error=problem)
        connection.close()
        raise UserError(problem)
    if task in joined:  # it has ended, and begins again
        joined[task].close()
    joined[task] = connection


def _tell(connection: socket.socket, **what: Any) -> bool:
    """Sends a line of JSON; returns whether somebody is there."""
    try:
        connection.sendall(json.dumps(what).encode() + b"\n")
        silent = not select.select([connection], [], [], 0)[0]
        return silent or connection.recv(1, socket.MSG_PEEK) != b""
    except OSError:
        return False


def _follow(cluster: Cluster, waiting: _Waiting) -> None:
    first = cluster.tasks[0]
    reason = "no answer"
    while True:
        waiting.on(f"{first} ({reason})")
        try:
            with (
                socket.create_connection((first.host.strip("[]"), first.port), _ATTEMPT) as connection,
                connection.makefile() as lines,
            ):
                _tell(connection, task=cluster.own.name, tasks=_listed(cluster.tasks))
                while answer := json.loads(lines.readline(_LONGEST) or "null"):
                    if "go" in answer:
                        return
                    if "error" in answer:
                        raise (PartnerLostError if answer.get("lost") else UserError)(answer["error"])
                    waiting.on(answer["missing"], _GRACE)  # the first one ends the waiting of all
            reason = "it has ended"
        except OSError as error:
            reason = error.strerror or str(error)
        except (ValueError, TypeError, KeyError):
            reason = "something else answers there"
        time.sleep(_PAUSE)


@contextlib.contextmanager
def guarded(patience: float) -> Iterator[None]:
    """Ends this process with a line if what is entered takes longer than `patience` seconds.

    Another worker may end between `meet` and TensorFlow's own beginning. TensorFlow then waits for an hour and keeps
    Python from running, so only another process can end this one.
    """
    watch = subprocess.Popen([sys.executable, "-c", _WATCH, str(os.getpid()), str(patience)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        assert watch.stdin is not None
        watch.stdin.close()
        watch.wait()


_WATCH = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
    print(
        f"error: a worker that was there has not joined within {float(sys.argv[2]):g} s: see what it says, then give "
        "all workers the same command again; training goes on from the last checkpoint", file=sys.stderr, flush=True
    )
    os.kill(int(sys.argv[1]), signal.SIGTERM)
"""

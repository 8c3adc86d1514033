"""Chief and workers of keras-tuner: who one is, where the chief is, and what to do while it is gone."""

import functools
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import grpc

from tfqnas.errors import UserError

TUNER_ID, IP, PORT = VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
# What a call ends with whose chief dies meanwhile.
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# To reach the chief, one a second; keras-tuner waits as long.
_ATTEMPTS = 3600


def role(environ: Mapping[str, str] = os.environ) -> Literal["chief", "worker"] | None:
    """None: this process searches alone; "chief" or "worker": what keras-tuner takes it for.

    Raises:
        UserError: some of the variables are missing, or the port is none.
    """
    missing = [name for name in VARIABLES if not environ.get(name)]
    if len(missing) == len(VARIABLES):
        return None
    if missing:
        given = ", ".join(f"{name}={environ[name]}" for name in VARIABLES if name not in missing)
        raise UserError(
            f"{' and '.join(missing)}: expected in the environment beside {given}. {TUNER_ID} is chief, or a worker's "
            f"own name; {IP} and {PORT} are where the chief listens, the same everywhere"
        )
    if not (environ[PORT].isdecimal() and 0 < int(environ[PORT]) < 65536):
        raise UserError(f"{PORT}: expected a number from 1 to 65535, received {environ[PORT]}")
    return "chief" if "chief" in environ[TUNER_ID] else "worker"


def address() -> str:
    """The chief's, such as "10.0.0.1:5000"."""
    return f"{os.environ[IP]}:{os.environ[PORT]}"


def check_port() -> None:
    """Refuses an address that somebody listens at: with gRPC two chiefs can share one, and get each other's workers."""
    ip, port = os.environ[IP], os.environ[PORT]
    try:
        socket.create_server((ip, int(port))).close()
    except OSError as error:
        raise UserError(
            f"{IP}={ip}, {PORT}={port}: expected an address of this machine and a port that is free, received: {error}"
        ) from error


class Patient:
    """keras-tuner's stand-in for the chief's oracle, whose calls wait for the chief, and are repeated if it dies.

    So calls may come twice: `create_trial` gives a tuner what it has already, `end_trial` ignores what is done.

    gRPC could wait as well. But it says nothing, and tries less and less often, at last every two minutes: by then the
    chief would take the worker for dead.

    Args:
        client: the stand-in. say: called with lines for the user.
    """

    def __init__(self, client: Any, say: Callable[[str], None]) -> None:
        self._client, self._say = client, say

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return functools.partial(self._call, value) if callable(value) else value

    def _call(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        while True:
            self._wait()
            try:
                return method(*arguments, **named)
            except grpc.RpcError as error:
                if error.code() not in _GONE:
                    raise UserError(f"the chief at {address()}: {error.details()}") from error

    def _wait(self) -> None:
        """Returns when somebody listens at the chief's address."""
        for attempt in range(_ATTEMPTS):
            try:
                socket.create_connection((os.environ[IP], int(os.environ[PORT])), timeout=5).close()
                return
            except OSError as error:
                if attempt == 0:
                    self._say(f"waiting for the chief at {address()} ({error.strerror or error})")
                time.sleep(1)
        raise UserError(f"the chief at {address()}: nobody has listened there for an hour")

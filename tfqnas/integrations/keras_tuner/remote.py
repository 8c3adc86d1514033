"""Chief and workers of keras-tuner: the role of this process, the chief's address, and waiting for the chief."""

import functools
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import grpc

from tfqnas.errors import UserError

TUNER_ID, IP, PORT = VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
# The status of a call during which the chief dies.
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# Attempts to reach the chief, one per second. keras-tuner waits for the same time.
_ATTEMPTS = 3600


def role(environ: Mapping[str, str] = os.environ) -> Literal["chief", "worker"] | None:
    """The role of this process for keras-tuner, "chief" or "worker"; None if it searches alone.

    Raises:
        UserError: some of the environment variables are missing, or the port is invalid.
    """
    missing = [name for name in VARIABLES if not environ.get(name)]
    if len(missing) == len(VARIABLES):
        return None
    if missing:
        given = ", ".join(f"{name}={environ[name]}" for name in VARIABLES if name not in missing)
        raise UserError(
            f"{' and '.join(missing)}: expected in the environment beside {given}. {TUNER_ID} is chief, or the name of "
            f"a worker; {IP} and {PORT} are the chief's address, the same for all"
        )
    if not (environ[PORT].isdecimal() and 0 < int(environ[PORT]) < 65536):
        raise UserError(f"{PORT}: expected a number from 1 to 65535, received {environ[PORT]}")
    return "chief" if "chief" in environ[TUNER_ID] else "worker"


def address() -> str:
    """The chief's address, such as "10.0.0.1:5000"."""
    return f"{os.environ[IP]}:{os.environ[PORT]}"


def check_port() -> None:
    """Raises UserError if the chief's address is in use. With gRPC two chiefs could share it and mix their workers."""
    ip, port = os.environ[IP], os.environ[PORT]
    try:
        socket.create_server((ip, int(port))).close()
    except OSError as error:
        raise UserError(
            f"{IP}={ip}, {PORT}={port}: expected an address of this machine and a port that is free, received: {error}"
        ) from error


class Patient:
    """Wraps keras-tuner's client of the chief's oracle. Calls wait for the chief and are repeated if it dies.

    Calls may therefore arrive twice. `create_trial` then returns the trial that the tuner already has, and `end_trial`
    ignores a trial that has ended.

    gRPC could wait as well, but silently and with longer and longer pauses of up to two minutes, after which the chief
    would consider the worker dead.

    Args:
        client: keras-tuner's client.
        say: called with lines for the user.
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
        """Waits until a connection to the chief's address is possible."""
        for attempt in range(_ATTEMPTS):
            try:
                socket.create_connection((os.environ[IP], int(os.environ[PORT])), timeout=5).close()
                return
            except OSError as error:
                if attempt == 0:
                    self._say(f"waiting for the chief at {address()} ({error.strerror or error})")
                time.sleep(1)
        raise UserError(f"the chief at {address()}: nobody has listened there for an hour")

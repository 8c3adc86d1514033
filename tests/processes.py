"""Processes of Python that begin with TensorFlow imported: forks of a template that has imported it once.

Importing TensorFlow and its like takes four CPU seconds, and the tests start more than a hundred processes that need
it. Each worker of pytest therefore has a template, a process that imports such packages and then forks on demand. A
fork is a process like any other: it has its own arguments, environment, directory and output, it can be killed, and it
imports the project's code anew. The template has one thread, so nothing is lost in a fork. What a process imports, or
how it starts, is for `subprocess` to test.

Run as a script this file is the template.
"""

import atexit
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types

PACKAGES = (
    "absl.app",
    "ai_edge_litert.interpreter",
    "keras",
    "matplotlib.pyplot",
    "numpy",
    "PIL.Image",
    "scipy.stats",
    "sklearn.datasets",
    "tensorflow",
    "tensorflow_datasets",
)


# -- What tests call --------------------------------------------------------------------------------------------------


class Process:
    """A process that runs `[script, *arguments]` or `["-c", code, *arguments]`, with the methods of `Popen`.

    Args:
        command: what would follow `python` on a command line.
        output: an open file for standard output and errors. cwd, env: as in `Popen`.
        errors: an open file for errors alone.
    """

    def __init__(self, command, output, errors=None, cwd=None, env=None):
        self.args, self.returncode = command, None
        self._status, theirs = socket.socketpair()
        errors = output if errors is None else errors
        with theirs:
            socket.send_fds(_template(), [b"!"], [theirs.fileno(), output.fileno(), errors.fileno()])
        request = {
            "argv": [str(argument) for argument in command],
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
        }
        self._lines = self._status.makefile("rw")
        print(json.dumps(request), file=self._lines, flush=True)
        if not (pid := self._lines.readline()):
            raise RuntimeError(f"the template has ended: {sys.executable} {__file__}")
        self.pid = int(pid)

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._status.close()
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def run(command, cwd=None, env=None, timeout=600):
    """As `subprocess.run` with captured text; a process that does not end in time is killed."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = Process(command, output, errors, cwd, env)
        try:
            process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(command, process.returncode, *texts)


@functools.cache
def _template():
    """The connection to the template of this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        # One thread: NumPy's and SciPy's OpenBLAS would start others.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("TF_USE_LEGACY_KERAS", None)  # which importing tfmot leaves behind
        command = [sys.executable, "-P", __file__, str(theirs.fileno())]
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end():
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# -- The template -----------------------------------------------------------------------------------------------------


def serve(connection):
    """Forks for each request, and returns in the fork: `(argv, environment)`."""
    while True:
        started, descriptors, *_ = socket.recv_fds(connection, 1, 3)
        if not started:
            while _reaped(0):
                pass
            sys.exit()
        # A keeper between the two waits for the process, while the template forks others.
        if not os.fork():
            connection.close()
            status, *outputs = descriptors
            with socket.socket(fileno=status) as status, status.makefile("rw") as lines:
                request = json.loads(lines.readline())
                pid = os.fork()
                if pid:
                    print(pid, file=lines, flush=True)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    print(code, file=lines, flush=True)
                    os._exit(0)
            for number, descriptor in enumerate(outputs, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.chdir(request["cwd"])
            return request["argv"], request["env"]
        for descriptor in descriptors:
            os.close(descriptor)
        while _reaped(os.WNOHANG):  # so that their CPU time counts
            pass


def _reaped(options):
    try:
        return os.waitpid(-1, options)[0]
    except ChildProcessError:
        return 0


def _become(argv, environment, path):
    """What `python` does with these arguments; `path` is that of the packages."""
    os.environ.clear()
    os.environ.update(environment)
    program, *arguments = argv
    first = "" if program == "-c" else os.path.dirname(os.path.realpath(program))
    sys.path[:] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *path]
    if program == "-c":
        sys.argv = ["-c", *arguments[1:]]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(arguments[0], "<string>", "exec", dont_inherit=True), vars(main))
    else:
        sys.argv = argv
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    blocked = getattr(sys.modules.get("sitecustomize"), "PACKAGES", ())  # by ./test.sh --quick
    for name in PACKAGES:
        if name.partition(".")[0] not in blocked:
            importlib.import_module(name)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        request = serve(connection)
    _become(*request, [entry for entry in sys.path if entry not in given])

"""TF_CONFIG is checked before TensorFlow is imported, and who is missing is named in time."""

import concurrent.futures
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tfqnas.errors import PartnerLostError, UserError
from tfqnas.train import cluster
from tfqnas.train.cluster import EXAMPLE, guarded, meet, of_environment, parsed


def config(addresses=("a:1", "b:2"), job="worker", index=0, **more):
    return json.dumps({"cluster": {job: list(addresses), **more}, "task": {"type": "worker", "index": index}})


def test_the_example_is_read():
    found = parsed(EXAMPLE)
    assert [str(task) for task in found.tasks] == ["worker 0 at host-a:12345", "worker 1 at host-b:12345"]
    assert found.writes and [task.name for task in found.others] == ["worker 1"]


def test_a_chief_is_the_first_and_writes():
    found = parsed(config(chief=["c:3"]))
    assert [task.name for task in found.tasks] == ["chief 0", "worker 0", "worker 1"]
    assert not found.writes and found.own.name == "worker 0"


def test_addresses_of_ipv6_and_indices_as_text_are_read():
    found = parsed(config(("[::1]:1", "b:2"), index="1"))
    assert found.tasks[0].host == "[::1]" and found.own.index == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON such as .*, received nothing"),
        ("{", "expected JSON such as .*, received {"),
        ("[" * 100_000, r"expected JSON such as .*, received \[\[.*\.\.\."),
        ("[]", r"expected a JSON object such as .*, received \[\]"),
        ("{}", 'expected "cluster" with the addresses of all workers, received null'),
        ('{"cluster": {}}', r'expected "cluster" with the addresses of all workers, received \{\}'),
        ('{"cluster": {"worker": []}}', r'expected a list of addresses for "worker", received \[\]'),
        ('{"cluster": {"worker": "a:1"}}', 'expected a list of addresses for "worker", received "a:1"'),
        (config(ps=["c:3"]), 'expected only chief and worker in "cluster", received "ps"'),
        ('{"cluster": {"worker": ["a:1"]}}', 'expected "task" with the "type" and "index" of this process'),
        (config(index=2), '"task" says that this process is worker 2, "cluster" has worker 0, worker 1'),
        (config(index=-1), '"task" says that this process is worker -1'),
        (config(index=True), '"task" says that this process is worker True'),
        (config(job="chief", addresses=["a:1"]), '"task" says that this process is worker 0, "cluster" has chief 0'),
        (config(chief=["c:1", "c:2"]), 'expected one address for "chief"'),
        (config(("a:1", "A:1")), "worker 0 and worker 1 have the same address A:1"),
        (config(("a:1", "b")), 'expected HOST:PORT with a port from 1 to 65535 for worker 1, received "b"'),
        (config(("a:0", "b:2")), "expected HOST:PORT with a port from 1 to 65535 for worker 0"),
        (config(("a:65536", "b:2")), "expected HOST:PORT with a port from 1 to 65535 for worker 0"),
        (config(("http://a:1", "b:2")), "expected HOST:PORT with a port from 1 to 65535 for worker 0"),
        (config((7, "b:2")), "expected HOST:PORT with a port from 1 to 65535 for worker 0, received 7"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(UserError, match=f"^TF_CONFIG: {message}"):
        of_environment("multiworker", {"TF_CONFIG": text})


def test_without_the_variable_it_is_asked_for():
    with pytest.raises(UserError, match="`distribution=multiworker`: expected the environment variable TF_CONFIG="):
        of_environment("multiworker", {})


@pytest.mark.parametrize("text", [None, "", "{}", '{"environment": "cloud"}', config(["a:1"])])
def test_a_training_on_one_machine_needs_no_cluster(text):
    assert of_environment("none", {} if text is None else {"TF_CONFIG": text}) is None


@pytest.mark.parametrize("distribution", ["none", "mirrored"])
def test_a_cluster_that_would_be_ignored_is_refused(distribution):
    with pytest.raises(UserError, match=f"`distribution={distribution}` trains on this machine alone, but TF_CONFIG"):
        of_environment(distribution, {"TF_CONFIG": config()})
    with pytest.raises(UserError, match="TF_CONFIG: expected JSON"):
        of_environment(distribution, {"TF_CONFIG": "{"})


def free_ports(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def addresses(count):
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def met(texts, patience=10.0):
    """What each of some workers with these TF_CONFIG said in the end: an error or None."""

    def one(text):
        try:
            meet(parsed(text), patience, lambda line: None)
        except UserError as error:
            return error
        return None

    with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
        return list(pool.map(one, texts))


def test_all_go_on_when_all_are_there():
    known = addresses(3)
    assert met([config(known, index=i) for i in (2, 0, 1)]) == [None] * 3


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        (error,) = met([config((f"127.0.0.1:{port}", "b:2"))])
        assert re.match(rf"TF_CONFIG: this process is worker 0 at 127.0.0.1:{port}, but that port .*in use", str(error))


@pytest.mark.parametrize("there", [(0, 1), (1, 2)])
def test_those_who_never_come_are_named_by_all_others(there):
    known = addresses(3)
    (missing,) = {0, 1, 2} - set(there)
    for error in met([config(known, index=i) for i in there], patience=2.0):
        assert isinstance(error, PartnerLostError)
        assert re.match(rf"worker {missing} at {known[missing]}( \(.*\))? did not answer within 2 s: start", str(error))


def test_it_says_for_whom_it_waits_and_how_long(monkeypatch):
    (port,), said = free_ports(1), []
    monkeypatch.setattr(cluster, "_QUIET", 0.0)
    for index, other in ((0, "worker 1 at no-such-host.invalid:1"), (1, "worker 0 at no-such-host.invalid:1 (")):
        names = [f"127.0.0.1:{port}", "no-such-host.invalid:1"]
        with pytest.raises(PartnerLostError, match=r"worker . at no-such-host.invalid:1( \(.*\))? did not answer"):
            meet(parsed(config(names if index == 0 else names[::-1], index=index)), 1.0, said.append)
        assert said[-1].startswith(f"worker {index} waits up to 1 s for {other}")


def test_other_addresses_are_refused_by_both():
    first, second = addresses(2)
    errors = met([config((first, second)), config((first, second.replace("127.0.0.1", "localhost")), index=1)])
    for error in errors:
        assert str(error).startswith("TF_CONFIG of worker 1 has other addresses than that of worker 0 at")


def test_another_program_at_the_address_of_the_first_is_not_taken_for_it():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"220 mail ready\n")

        threading.Thread(target=answer, daemon=True).start()
        known = [f"127.0.0.1:{server.getsockname()[1]}", *addresses(1)]
        (error,) = met([config(known, index=1)], patience=0.5)
    assert "(something else answers there) did not answer within 0.5 s" in str(error)


def test_a_worker_that_goes_again_is_waited_for_and_a_stranger_is_not_counted():
    known = addresses(3)
    host, port = known[0].split(":")

    def send(line):
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))) as connection:
                connection.sendall(line)
                return

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(met, [config(known)])
        send(b"GET / HTTP/1.0\n")
        hello = {"task": "worker 1", "tasks": ", ".join(map(str, parsed(config(known)).tasks))}
        send(json.dumps(hello).encode() + b"\n")
        assert met([config(known, index=i) for i in (1, 2)]) == [None, None] and first.result() == [None]


def test_a_process_that_tensorflow_keeps_from_running_is_ended_with_a_line():
    code = (
        "import signal, ctypes\nfrom tfqnas.train.cluster import guarded\n"
        "with guarded(0.3):\n    ctypes.PyDLL(None).sleep(60)\n"  # PyDLL keeps the lock of the interpreter
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == -signal.SIGTERM
    assert done.stderr.startswith("error: a worker that was there has not joined within 0.3 s: see what it says")


def test_what_is_quick_is_not_ended():
    with guarded(60):
        pass


def test_the_worker_that_ended_is_named():
    known = addresses(2)
    error = parsed(config(known)).lost("anything")
    assert str(error).startswith(f"worker 1 at {known[1]} has ended or cannot be reached any more: see what it says")


def test_one_that_hangs_is_found_in_the_words_of_tensorflow():
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        known = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
        found = parsed(config(known))
        error = "The following tasks are unhealthy:\n/job:worker/replica:0/task:2"
        assert str(found.lost(error)).startswith(f"worker 2 at {known[2]} has ended or cannot be reached")
        assert str(found.lost("")).startswith(f"worker 1 at {known[1]}, worker 2 at {known[2]} have ended")
